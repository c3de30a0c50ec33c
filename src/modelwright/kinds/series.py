"""Numbers in order, as many as there are: a list of numbers a row, or a list of steps with several channels each.

Each channel is standardised by all its values in the training split. A gap inside (null, NaN) becomes 0; channels that had gaps in training get a
flag beside them. Left out: resampling of irregular times (put the time between steps in as a channel), as a target.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..errors import refuse
from ..kind import Kind, Profile, Stored


class Series(Kind):
    place = "own"
    form = "series"
    encoder = "lstm"

    def __init__(self, most: int = 4096):
        self.most = most  # steps kept of a row: its last

    @classmethod
    def guess(cls, column: Profile) -> float:
        inner = _inner(column.type)
        inner = _inner(inner) or inner
        return 0.7 if inner is not None and (pa.types.is_floating(inner) or pa.types.is_integer(inner)) else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        x, _, _ = flat(values)
        known = np.isfinite(x)
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, x, 0).sum(0) / n
        sd = np.sqrt((np.where(known, x - mean, 0) ** 2).sum(0) / n)
        self.mean_ = mean.tolist()
        self.sd_ = np.where(sd > 1e-12 * np.maximum(1.0, np.abs(mean)), sd, 1.0).tolist()
        self.gaps_ = np.flatnonzero(~known.all(0)).tolist()

    @property
    def channels(self) -> int:
        """What an encoder reads a step: the channels, then the flags."""
        return len(self.mean_) + len(self.gaps_)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """(..., C) in the column's units, NaN for gaps -> (..., channels) float32"""
        known = np.isfinite(x)
        z = np.where(known, (np.where(known, x, 0.0) - self.mean_) / self.sd_, 0.0).clip(-20, 20)
        return np.concatenate([z, ~known[..., self.gaps_]], -1).astype(np.float32)

    def encode(self, values: pa.ChunkedArray) -> Stored:
        x, lengths, known = flat(values)
        if len(x) and x.shape[1] != len(self.mean_):
            fix = "give every step as many numbers as in training"
            raise refuse("data.channels", f"a step has {x.shape[1]} numbers, in training {len(self.mean_)}", fix=fix)
        ends = np.cumsum(lengths)
        kept = np.minimum(lengths, self.most)
        if (kept < lengths).any():
            inside = np.concatenate([np.arange(e - k, e) for e, k in zip(ends, kept)])
            x = x[inside]
        stored = {"values": self.scaled(x.reshape(len(x), len(self.mean_))), "offsets": np.concatenate([[0], np.cumsum(kept)])}
        return stored | {"known": known}

    def describe(self) -> str:
        return f"{len(self.mean_)} channels" + (f", gaps in {len(self.gaps_)}" if self.gaps_ else "")


def _inner(type: pa.DataType | None) -> pa.DataType | None:
    if type is None:
        return None
    listed = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    return type.value_type if listed else None


def flat(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(all steps (sum of lengths, C) float64 with NaN for gaps, lengths (N,), known (N,) bool). Raises a Refusal where steps differ in width."""
    if pa.types.is_null(values.type):  # nothing in any row
        return np.zeros((0, 1)), np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    if _inner(values.type) is None:
        raise refuse("data.series", f"a series is a list of numbers a row, not {values.type}", fix="declare another kind")
    column = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.asarray(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    steps = column.flatten()  # leaves out missing rows
    if _inner(steps.type) is None:
        return _floats(steps)[:, None], lengths, known
    widths = steps.value_lengths().drop_null().unique().to_pylist()
    if len(widths) > 1:
        what = f"steps have between {min(widths)} and {max(widths)} numbers"
        raise refuse("data.channels", what, fix="give every step as many; null where unknown")
    width = widths[0] if widths else 1
    x = np.full((len(steps), width), np.nan)
    x[steps.is_valid().to_numpy(zero_copy_only=False)] = _floats(steps.flatten()).reshape(-1, width)
    return x, lengths, known


def _floats(values: pa.Array) -> np.ndarray:
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
