"""A number, for explainers: the log-odds that they explain are the number itself, standardised, as if the question were whether it lies above the mean."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..forms import Prediction
from ..kind import Kind, Stored
from ..subject import Predictor, Subject


class Above:
    """The number's kind, of two classes."""

    labels_ = ["below the mean", "above the mean"]

    def __init__(self, number: Kind):
        self.number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.number, name)

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        stored = self.number.encode_target(values)
        return stored | {"values": (stored["values"] > 0).astype(np.int64)}


class Says:
    """See `predictor.Predictor`. The number z of one target as probabilities sigmoid(-z) and sigmoid(z)."""

    def __init__(self, predictor: Predictor, target: str):
        self.predictor, self.target = predictor, target

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        said = self.predictor.predict(table)
        z = said[self.target].value.double()
        p = torch.stack([-z, z], 1).sigmoid()
        return said | {self.target: Prediction(value=(z > 0).long(), probabilities=p, score=p.amax(1))}


def above(subject: Subject, target: str) -> Subject:
    """The same subject, which answers whether the target lies above its mean. It is asked, never opened."""
    schema = copy.copy(subject.schema)
    schema.targets = subject.schema.targets | {target: Above(subject.schema.targets[target])}
    return replace(subject, predictor=Says(subject.predictor, target), schema=schema, open=None, _seen={})
