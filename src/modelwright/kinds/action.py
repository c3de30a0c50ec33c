"""What to do: one of several actions, or a vector within bounds. The target of a policy.

A table of logged actions can be imitated (`supervised`: behaviour cloning) and is judged by accuracy or rmse; what acting brings is measured by
playing (episode_return). A row is one step, or an episode where the column holds lists of actions. Bounded vectors are scaled to [-1, 1]; what a
policy says beyond the bounds is clipped. Never guessed: an action is what somebody did, and a table does not say so.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..errors import refuse
from ..forms import Prediction
from ..kind import Kind, Metric, Stored

Bound = Annotated[float, Field(allow_inf_nan=True)]  # of a vector that is free, infinite


class Action(Kind):
    head = "action"
    episodes_: bool = True  # a row is one, with an action for each of its steps

    def __init__(self, classes: int | None = None, low: list[Bound] | None = None, high: list[Bound] | None = None, labels: list[str] | None = None):
        """classes: how many actions, numbered from 0; or low and high: the bounds (A,) of a vector, which may be infinite."""
        if (classes is None) == (low is None) or (low is None) != (high is None):
            raise ValueError("give either classes, or both low and high")
        if low is not None and (len(low) != len(high) or any(a >= b for a, b in zip(low, high))):
            raise ValueError(f"low ({low}) must be as long as high ({high}), and below it")
        if labels is not None and len(labels) != classes:
            raise ValueError(f"labels ({len(labels)}) must be as many as classes ({classes})")
        self.classes, self.low, self.high, self.labels = classes, low, high, labels
        self.labels_ = None if classes is None else labels or [str(i) for i in range(classes)]
        self.primary, self.credit = ("accuracy", "accuracy") if classes else ("rmse", None)
        self.measures = frozenset({self.primary})

    def fit(self, values: pa.ChunkedArray) -> None:
        self.episodes_ = self._listed(values.type)

    def _listed(self, type: pa.DataType) -> bool:
        return _depth(type) > (0 if self.classes else 1)

    @property
    def size(self) -> int:
        """Outputs of a policy: classes, or components of the vector."""
        return self.classes or len(self.low)

    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        """(centre, half width) of the bounds; 0 and 1 where there are none."""
        low, high = np.array(self.low, np.float64), np.array(self.high, np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        return (low + high) / 2, (high - low) / 2

    def real(self, action: np.ndarray) -> np.ndarray:
        """What a policy says in the environment's terms: indices as they are, vectors unscaled and clipped."""
        if self.classes:
            return action
        centre, half = self._scale()
        return np.clip(action * half + centre, self.low, self.high).astype(np.float32)

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """(N,) indices or (N, A) scaled; of episodes flat, with offsets. A missing action is unknown."""
        rows = values.to_pylist()
        known = np.array([r is not None for r in rows], bool)
        if not self._listed(values.type):
            return {"values": self._array(rows), "known": known}
        offsets = np.cumsum([0] + [len(r or []) for r in rows])
        return {"values": self._array([a for r in rows for a in r or []]), "offsets": offsets, "known": known}

    def _array(self, actions: list) -> np.ndarray:
        if self.classes:
            number = {label: i for i, label in enumerate(self.labels_)}
            index = [0 if a is None else number.get(str(a), -1) for a in actions]
            strange = [a for a, i in zip(actions, index) if i < 0]
            if strange:
                why = f"they are {', '.join(self.labels_[:12])}"
                what = f"{len(strange)} actions are none, such as {strange[0]!r}"
                raise refuse("data.unseen_label", what, why=why, fix="correct them, or `classes`")
            return np.array(index, np.int64)
        centre, half = self._scale()
        x = np.array([[0.0] * self.size if a is None else a for a in actions], np.float64).reshape(-1, self.size)
        return ((x - centre) / half).astype(np.float32)

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """accuracy: mean over rows of the share of right steps; rmse: root of the mean over rows of the mean squared error, in the column's units."""
        said, y = prediction.value.numpy(), truth["values"]
        unit = 1.0 if self.classes else self._scale()[1]
        if "offsets" in truth:
            ends = truth["offsets"]
            pairs = [(said[i, : b - a], y[a:b]) for i, (a, b) in enumerate(zip(ends, ends[1:]))]
        else:
            pairs = list(zip(said, y))
        each = np.array([np.mean(a == b if self.classes else ((a - b) * unit) ** 2) if np.size(b) else np.nan for a, b in pairs])
        each = np.where(truth["known"], each, np.nan)
        if self.classes:
            return {"accuracy": Metric.mean(each)}
        return {"rmse": Metric(lambda index: float(np.sqrt(np.nanmean(each[index]))), better="lower")}

    def answer(self, name: str, prediction: Prediction) -> dict:
        value = prediction.value.numpy()
        if not self.classes:
            return {name: list(self.real(value))}
        if value.ndim == 1:
            return {name: [self.labels_[i] for i in value]}
        return {name: [[self.labels_[i] for i in row] for row in value]}

    def describe(self) -> str:
        return f"{self.classes} actions" if self.classes else f"a vector of {self.size}"


def _depth(type: pa.DataType) -> int:
    """Lists within lists."""
    listed = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    return 1 + _depth(type.value_type) if listed else 0
