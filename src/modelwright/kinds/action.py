"""What to do: one of several actions, or a vector within bounds. The target of a policy.

A table of logged actions can be imitated (`supervised`: behaviour cloning) and is judged by accuracy or rmse; what acting brings is measured by
playing (episode_return). A row is one step, or an episode where the column holds lists of actions. Bounded vectors are scaled to [-1, 1]; what a
policy says beyond the bounds is clipped. Never guessed: an action is what somebody did, and a table does not say so.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .. import metrics as m
from ..forms import Prediction
from ..kind import Kind, Metric, Stored


class Action(Kind):
    head = "action"

    def __init__(self, classes: int | None = None, low: list[float] | None = None, high: list[float] | None = None, labels: list[str] | None = None):
        """classes: how many actions, numbered from 0; or low and high: the bounds (A,) of a vector, which may be infinite."""
        if (classes is None) == (low is None) or (low is None) != (high is None):
            raise ValueError("give either classes, or both low and high")
        if low is not None and (len(low) != len(high) or any(a >= b for a, b in zip(low, high))):
            raise ValueError(f"low ({low}) must be as long as high ({high}), and below it")
        if labels is not None and len(labels) != classes:
            raise ValueError(f"labels ({len(labels)}) must be as many as classes ({classes})")
        self.classes, self.low, self.high, self.labels = classes, low, high, labels
        self.labels_ = None if classes is None else labels or [str(i) for i in range(classes)]
        self.primary = "accuracy" if classes else "rmse"

    @property
    def size(self) -> int:
        """Outputs of a policy: classes, or components of the vector."""
        return self.classes or len(self.low)

    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        """(centre, half width) of the bounds; 0 and 1 where there are none."""
        low, high = np.array(self.low, np.float64), np.array(self.high, np.float64)
        bounded = np.isfinite(low) & np.isfinite(high)
        return np.where(bounded, (low + high) / 2, 0.0), np.where(bounded, (high - low) / 2, 1.0)

    def real(self, action: np.ndarray) -> np.ndarray:
        """What a policy says in the environment's terms: indices as they are, vectors unscaled and clipped."""
        if self.classes:
            return action
        centre, half = self._scale()
        return np.clip(action * half + centre, self.low, self.high).astype(np.float32)

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """(N,) indices or (N, A) scaled; of episodes flat, with offsets. A missing action is unknown."""
        rows = values.to_pylist()
        known = np.array([r is not None for r in rows])
        inner = values.type.value_type if _is_list(values.type) else None
        per_episode = inner is not None and (self.classes is not None or _is_list(inner))
        if not per_episode:
            return {"values": self._array([r for r in rows], known), "known": known}
        flat = [a for r in rows for a in r or []]
        offsets = np.cumsum([0] + [len(r or []) for r in rows])
        return {"values": self._array(flat, np.ones(len(flat), bool)), "offsets": offsets, "known": known}

    def _array(self, actions: list, known: np.ndarray) -> np.ndarray:
        if self.classes:
            number = {label: i for i, label in enumerate(self.labels_)}
            index = np.array([0 if a is None else number.get(a, -1) if isinstance(a, str) else int(a) for a in actions], np.int64)
            outside = known & ((index < 0) | (index >= self.classes))
            if outside.any():
                bad = actions[int(np.flatnonzero(outside)[0])]
                raise _refuse_action(bad, self.labels_)
            return index
        centre, half = self._scale()
        x = np.array([[0.0] * self.size if a is None else a for a in actions], np.float64).reshape(len(actions), self.size)
        return ((x - centre) / half).astype(np.float32)

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """Of logged actions. An episode counts as one row: the share of its steps, or its mean squared error."""
        guess, y, known = prediction.value.numpy(), truth["values"], truth["known"]
        if "offsets" in truth:
            o = truth["offsets"]
            pairs = [(guess[i, : o[i + 1] - o[i]], y[o[i] : o[i + 1]]) for i in range(len(known))]
        else:
            pairs = list(zip(guess, y))
        if self.classes:
            right = np.array([np.mean(a == b) if k and np.size(b) else np.nan for (a, b), k in zip(pairs, known)])
            return {"accuracy": Metric.mean(right)}
        half = self._scale()[1]
        error = np.array([np.mean(((a - b) * half) ** 2) if k and np.size(b) else np.nan for (a, b), k in zip(pairs, known)])
        rmse = lambda index: m.rmse(np.zeros(int((~np.isnan(error[index])).sum())), np.sqrt(error[index][~np.isnan(error[index])]))  # noqa: E731
        return {"rmse": Metric(rmse, better="lower")}

    def answer(self, name: str, prediction: Prediction) -> dict:
        value = prediction.value.numpy()
        if not self.classes:
            return {name: list(self.real(value))}
        if value.ndim == 1:
            return {name: [self.labels_[i] for i in value]}
        return {name: [[self.labels_[i] for i in row] for row in value]}

    def describe(self) -> str:
        return f"{self.classes} actions" if self.classes else f"a vector of {self.size}"


def _is_list(type: pa.DataType) -> bool:
    return pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)


def _refuse_action(bad, labels):
    from ..errors import refuse

    return refuse("data.unseen_label", f"{bad!r} is not an action", why=f"they are {', '.join(labels[:12])}", fix="correct those rows, or `classes`")
