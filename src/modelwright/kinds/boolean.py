"""Yes or no, however it is written: true/false, yes/no, y/n, t/f, 1/0.

As an input: a code (0 missing, 1 no, 2 yes). As a target: a category of two classes, so that every metric of categories applies.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..errors import refuse
from ..forms import Prediction
from ..kind import CLASS_METRICS, Kind, Metric, Profile, Stored, class_metrics

YES = {"true", "yes", "y", "t", "1", "1.0", "是", "真"}
NO = {"false", "no", "n", "f", "0", "0.0", "否", "假"}


class Boolean(Kind):
    place = "code"
    form = "table"
    head = "binary"
    primary = credit = "accuracy"
    measures = CLASS_METRICS
    cardinality = 3
    classes = 2
    labels_ = ["false", "true"]

    @classmethod
    def guess(cls, column: Profile) -> float:
        if pa.types.is_boolean(column.type):
            return 1.0
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return 0.0
        words = {str(v).strip().lower() for v in column.sample}
        return 0.8 if 0 < len(words) <= 4 and words <= YES | NO and words & YES and words & NO else 0.0

    def encode(self, values: pa.ChunkedArray) -> Stored:
        return {"values": np.array([_read(v) for v in values.to_pylist()], np.int64) + 1}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        codes = self.encode(values)["values"] - 1
        return {"values": np.maximum(codes, 0), "known": codes >= 0}

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        return class_metrics(prediction, truth)

    def answer(self, name: str, prediction: Prediction) -> dict:
        p = prediction.probabilities.numpy()
        return {name: prediction.value.numpy() == 1, f"{name}.score": p.max(1), f"{name}=true": p[:, 1]}

    def describe(self) -> str:
        return "true or false"


def _read(value) -> int:
    if value is None:
        return -1
    word = str(value).strip().lower()
    if word in YES:
        return 1
    if word in NO:
        return 0
    raise refuse("data.not_boolean", f"{value!r} is neither true nor false", fix="correct the value, or declare the column as a category")
