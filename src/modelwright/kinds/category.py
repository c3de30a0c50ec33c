"""One of several names, numbered by the training split.

As an input: code 1 + index among the most frequent names, 0 for missing or unseen. As a target: class index, in the order of the names.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..forms import Prediction
from ..kind import CLASS_METRICS, Kind, Metric, Profile, Stored, class_metrics, natural_order, unseen_labels, values_as_text


class Category(Kind):
    place = "code"
    form = "table"
    head = "classes"
    primary = credit = "accuracy"
    measures = CLASS_METRICS

    def __init__(self, labels: list[str] | None = None, most: int = 1000):
        self.labels = labels  # declared: all of them, in this order
        self.most = most  # names kept as an input; rarer ones count as unseen

    @classmethod
    def guess(cls, column: Profile) -> float:
        if pa.types.is_dictionary(column.type):
            return 0.9
        seen = column.rows - column.missing
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            long = sum(len(str(v)) for v in column.sample) / max(1, len(column.sample))
            return 0.75 if column.distinct <= max(20, 0.05 * seen) and column.distinct < 0.8 * seen and long < 60 else 0.35
        if pa.types.is_integer(column.type) and column.distinct == 2:
            return 0.5
        return 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        if self.labels is not None:
            self.labels_ = [str(v) for v in self.labels]
            return
        counts = pc.value_counts(values_as_text(values).drop_null()).to_pylist() if len(values) else []
        kept = sorted(counts, key=lambda c: (-c["counts"], c["values"]))[: self.most]
        self.labels_ = sorted((c["values"] for c in kept), key=natural_order)

    @property
    def cardinality(self) -> int:
        """Codes as an input: the names, and 0 for missing or unseen."""
        return len(self.labels_) + 1

    @property
    def classes(self) -> int:
        return len(self.labels_)

    def encode(self, values: pa.ChunkedArray) -> Stored:
        index = pc.index_in(values_as_text(values), value_set=pa.array(self.labels_, pa.string()))
        return {"values": pc.fill_null(index, -1).to_numpy().astype(np.int64) + 1}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        codes = self.encode(values)["values"] - 1
        unseen_labels(values, codes, "category", "labels", self.labels_)
        return {"values": np.maximum(codes, 0), "known": codes >= 0}

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        return class_metrics(prediction, truth)

    def answer(self, name: str, prediction: Prediction) -> dict:
        p = prediction.probabilities.numpy()
        columns = {name: [self.labels_[i] for i in prediction.value.tolist()], f"{name}.score": p.max(1)}
        return columns | {f"{name}={label}": p[:, i] for i, label in enumerate(self.labels_[:20])}

    def describe(self) -> str:
        shown = ", ".join(self.labels_[:4]) + (", ..." if len(self.labels_) > 4 else "")
        return f"{len(self.labels_)} values: {shown}"
