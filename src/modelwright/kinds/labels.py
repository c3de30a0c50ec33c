"""A set of labels a row (tags, diagnoses, topics): a list column, or text split by ; | or a comma, ASCII or Chinese.

As an input: one number a label, 1 where the row has it. As a target: multi-hot, each label decided for itself. An empty list or text is a row without
labels; a null is a row whose labels are unknown. The separator is the first of `;` `|` `、` `,` that training uses (with its full-width form).
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import torch

from .. import metrics as m
from ..errors import refuse
from ..forms import Prediction
from ..kind import Kind, Metric, Profile, Stored, natural_order

SEPARATORS = (";；", "|｜", "、", ",，")


class Labels(Kind):
    place = "number"
    form = "table"
    head = "label_set"
    primary, credit = "micro_f1", "subset_accuracy"
    measures = frozenset({"micro_f1", "macro_f1", "subset_accuracy"})

    def __init__(self, labels: list[str] | None = None, separators: str | None = None, most: int = 1000, drop_unseen: bool = False):
        self.labels = labels  # declared: all of them, in this order
        self.separators = separators  # of text: characters, each of which parts labels
        self.most = most  # labels kept; rarer ones count as unseen
        self.drop_unseen = drop_unseen  # in a target, False: a label that training has not is refused; True: it is left out of the truth

    @classmethod
    def guess(cls, column: Profile) -> float:
        if not _is_list(column.type):
            return 0.0
        inside = column.type.value_type
        return 0.9 if pa.types.is_string(inside) or pa.types.is_large_string(inside) else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        self.separators_ = self.separators
        if self.separators is None and not _is_list(values.type):
            text = "".join(str(v) for v in values.drop_null().to_pylist())
            self.separators_ = next((s for s in SEPARATORS if set(s) & set(text)), SEPARATORS[0])
        counts = Counter(label for row in self._sets(values) for label in row or ())
        kept = sorted(counts, key=lambda label: (-counts[label], label))[: self.most]
        self.names_ = sorted(kept, key=natural_order) if self.labels is None else [str(v) for v in self.labels]

    @property
    def numbers(self) -> int:
        return len(self.names_)

    def _sets(self, values: pa.ChunkedArray) -> list[set[str] | None]:
        """Per row its labels; None where they are unknown."""
        if _is_list(values.type):
            return [None if row is None else {str(v).strip() for v in row if v is not None} - {""} for row in values.to_pylist()]
        cut = re.compile(f"[{re.escape(self.separators_ or SEPARATORS[0])}]")
        return [None if row is None else {part.strip() for part in cut.split(str(row))} - {""} for row in values.to_pylist()]

    def _hot(self, sets: list[set[str] | None]) -> tuple[np.ndarray, Counter]:
        """((N, K) bool, how often each label that has no column occurs)."""
        column = {name: i for i, name in enumerate(self.names_)}
        hot, unseen = np.zeros((len(sets), len(column)), bool), Counter()
        for i, row in enumerate(sets):
            for label in row or ():
                if label in column:
                    hot[i, column[label]] = True
                else:
                    unseen[label] += 1
        return hot, unseen

    def encode(self, values: pa.ChunkedArray) -> Stored:
        sets = self._sets(values)
        known = np.array([row is not None for row in sets], bool)
        return {"values": np.where(known[:, None], self._hot(sets)[0], np.nan).astype(np.float32)}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        sets = self._sets(values)
        hot, unseen = self._hot(sets)
        if unseen and not self.drop_unseen:
            raise refuse(
                "data.unseen_label",
                f"{len(unseen)} labels do not occur in training: {', '.join(map(repr, sorted(unseen)[:5]))}",
                why="the model has no output for them",
                fix="declare all labels (labels: {labels: [...]}), or leave such labels out of the truth (labels: {drop_unseen: true})",
            )
        return {"values": hot, "known": np.array([row is not None for row in sets], bool)}

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        known, y, chosen = truth["known"], truth["values"], prediction.value.numpy()

        def over(f) -> Metric:
            return Metric(lambda index: f(y[index[known[index]]], chosen[index[known[index]]]))

        whole = np.where(known, (y == chosen).all(1), np.nan)
        return {"micro_f1": over(m.micro_f1), "macro_f1": over(m.macro_f1), "subset_accuracy": Metric.mean(whole)}

    def read(self, out: np.ndarray) -> Prediction:
        """(B, K): each label's probability; those above 1/2 are the set."""
        if out.dtype.kind != "f" or out.shape[1:] != (len(self.names_),) or out.min(initial=0) < 0 or out.max(initial=0) > 1:
            what = f"shape {out.shape}" if out.shape[1:] != (len(self.names_),) or out.dtype.kind != "f" else f"{out.min():.4g} to {out.max():.4g}"
            raise refuse("model.output", f"{what} for the probabilities of {len(self.names_)} labels", fix="one column a label, each a probability (a sigmoid)")
        p = torch.from_numpy(out)
        return Prediction(value=p > 0.5, score=torch.maximum(p, 1 - p).prod(1), extra={"probabilities": p})

    def answer(self, name: str, prediction: Prediction) -> dict:
        """Labels as one text a row, which every table format can hold, and the probability of each of the first 20."""
        joint = "; " if self.separators_ is None else self.separators_[0]
        columns = {name: [joint.join(np.array(self.names_, object)[row]) for row in prediction.value.numpy()]}
        p = prediction.extra.get("probabilities")
        return columns if p is None else columns | {f"{name}={label}": p[:, i].numpy() for i, label in enumerate(self.names_[:20])}

    def describe(self) -> str:
        return f"{len(self.names_)} labels: {', '.join(self.names_[:4])}" + (", ..." if len(self.names_) > 4 else "")


def _is_list(type: pa.DataType) -> bool:
    return pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
