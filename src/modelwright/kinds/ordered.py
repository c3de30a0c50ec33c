"""One of several names in an order (mild < moderate < severe; grades 1 to 5). The order is declared, or numeric, or alphabetical (the plan shows it).

As an input: its rank in [0, 1], a number. As a target: the class index, judged by how far off it is.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import metrics as m
from ..errors import refuse
from ..forms import Prediction
from ..kind import CLASS_METRICS, Kind, Metric, Stored, class_metrics, natural_order, unseen_labels, values_as_text


class Ordered(Kind):
    place = "number"
    form = "table"
    head = "ordered"
    primary, credit = "mae", "accuracy"
    measures = CLASS_METRICS | {"mae", "quadratic_kappa"}

    def __init__(self, order: list[str | int | float] | None = None):
        self.order = order

    def fit(self, values: pa.ChunkedArray) -> None:
        names = values_as_text(values)
        seen = pc.unique(names.drop_null()).to_pylist()
        if self.order is None:
            self.labels_ = sorted(seen, key=natural_order)
            return
        self.labels_ = [str(v) for v in self.order]
        stray = sorted(set(seen) - set(self.labels_))
        if stray:
            raise refuse("data.unordered_value", f"values that the declared order does not have: {stray[:5]}", fix="add them to `order`")

    @property
    def classes(self) -> int:
        return len(self.labels_)

    def _index(self, values: pa.ChunkedArray) -> np.ndarray:
        index = pc.index_in(values_as_text(values), value_set=pa.array(self.labels_, pa.string()))
        return pc.fill_null(index, -1).to_numpy().astype(np.int64)

    def encode(self, values: pa.ChunkedArray) -> Stored:
        index = self._index(values)
        rank = 2.0 * index / max(1, len(self.labels_) - 1) - 1.0
        return {"values": np.where(index < 0, np.nan, rank).astype(np.float32)[:, None]}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        index = self._index(values)
        unseen_labels(values, index, "ordered", "order", self.labels_)
        return {"values": np.maximum(index, 0), "known": index >= 0}

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        known, y, chosen = truth["known"], truth["values"], prediction.value.numpy()

        def kappa(index: np.ndarray) -> float:
            index = index[known[index]]
            return m.quadratic_kappa(y[index], chosen[index])

        off = Metric.mean(np.where(known, np.abs(chosen - y), np.nan), "lower")
        return {"mae": off, "quadratic_kappa": Metric(kappa)} | class_metrics(prediction, truth)

    def answer(self, name: str, prediction: Prediction) -> dict:
        return {name: [self.labels_[i] for i in prediction.value.tolist()], f"{name}.score": prediction.probabilities.numpy().max(1)}

    def describe(self) -> str:
        return " < ".join(self.labels_[:8]) + (" < ..." if len(self.labels_) > 8 else "")
