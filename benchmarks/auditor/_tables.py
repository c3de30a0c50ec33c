"""Tables with a learnable target, and models that are only functions of a table: what the cheap areas plant their faults in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from modelwright import find
from modelwright.data.schema import Schema, infer, profile
from modelwright.forms import Prediction
from modelwright.subject import Subject

NAMES = ["age", "height", "income", "dose", "score", "visits", "weight", "length", "speed", "density", "rate", "volume", "depth", "charge"]


class Says:
    """A predictor: probabilities (N, K) from a table."""

    def __init__(self, target: str, f: Callable[[pa.Table], np.ndarray]):
        self.target, self.f = target, f

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        p = torch.from_numpy(np.asarray(self.f(table), np.float32))
        return {self.target: Prediction(value=p.argmax(1), probabilities=p, score=p.max(1).values)}


def made(rng: np.random.Generator, n: int, sharp: float = 2.0) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of several scales, some with gaps, a site; and y (n,) of two classes that overlap as `sharp` allows."""
    k = int(rng.integers(5, 10))
    z = rng.normal(size=(n, k))
    z[:, 1] += 0.5 * z[:, 0]
    y = (z[:, :3] @ [1.0, 0.7, -0.6] * sharp + rng.logistic(size=n) > 0).astype(int)
    columns: dict[str, Any] = {}
    for i, name in enumerate(rng.permutation(NAMES)[:k]):
        x = z[:, i]
        columns[str(name)] = np.exp(0.4 * x + 3) if i % 3 == 2 else np.round(50 + 9 * x, 2) if i % 3 else 170 + 12 * x
    columns["site"] = rng.choice(["north", "south", "west"], n)
    return columns, y


def split(table: dict[str, Any], rng: np.random.Generator, test: float = 0.3, order: np.ndarray | None = None) -> dict[str, pa.Table]:
    n = len(next(iter(table.values())))
    order = rng.permutation(n) if order is None else order
    whole = pa.table(table).take(order)
    cut = int(n * (1 - test))
    return {"train": whole.slice(0, cut), "test": whole.slice(cut)}


def subject(splits: dict[str, pa.Table], target: str = "y", kinds: dict[str, Any] | None = None, group: list[str] | None = None, **more: Any) -> Subject:
    kinds, first = kinds or {}, next(iter(splits.values()))
    profiles = profile(first)
    inputs = {n: find.make("kinds", kinds.get(n) or infer(profiles[n])) for n in first.column_names if n != target and kinds.get(n) != "ignore"}
    inputs = {n: k for n, k in inputs.items() if k.place != "none"}
    schema = Schema(inputs, {target: find.make("kinds", kinds.get(target) or "category")}, group or [])
    schema.fit(splits.get("train", first))
    return Subject(more.pop("predictor", None), schema, splits, seed=int(more.pop("seed", 0)), **more)
