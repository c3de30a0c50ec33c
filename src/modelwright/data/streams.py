"""Streams yield batches and may look at the model: a table ignores it, a rollout acts with it.

`Rows` is shuffled epochs over a dataset. It knows where it stands, so a resumed run sees the very batches that the first would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..forms import Batch
from ..model import Model
from ..strategy import Sampler
from .dataset import Dataset


class Stream:
    epoch: int = 0  # passes done

    def steps(self) -> int:
        """Batches in one pass."""
        raise NotImplementedError

    def batches(self, model: Model) -> Iterator[Batch]:
        """One pass, or what is left of it after `load`."""
        raise NotImplementedError

    def observe(self, batch: Batch, loss: torch.Tensor) -> None:
        """The step's mean loss (), fed back."""

    def metrics(self) -> dict[str, float]:
        """What the stream itself measures (episode return), to log."""
        return {}

    def state(self) -> dict[str, Any]:
        raise NotImplementedError

    def load(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class Shuffled(Sampler):
    """Every row once, in random order; the last batch may be short unless it would be a single row (batch statistics need two)."""

    def __init__(self, rows: int, batch_size: int, lengths: np.ndarray | None = None):
        """lengths: rows of like length share a batch, within shuffled windows of 50 batches."""
        self.rows, self.batch_size, self.lengths = rows, min(batch_size, rows), lengths

    def steps(self) -> int:
        full, rest = divmod(self.rows, self.batch_size)
        return max(1, full + (rest > 1))

    def epoch(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(self.rows)
        starts = np.arange(self.steps()) * self.batch_size
        if self.lengths is not None:
            window = self.batch_size * 50
            order = np.concatenate([w[np.argsort(self.lengths[w], kind="stable")] for w in np.split(order, range(window, self.rows, window))])
            starts = rng.permutation(starts)
        for start in starts:
            yield order[start : start + self.batch_size]


class Rows(Stream):
    """Epochs over a dataset. The order of epoch e and its augmentations depend on (seed, e, step) alone."""

    def __init__(self, data: Dataset, batch_size: int, seed: int, sampler: Sampler | None = None, augment: bool = True):
        self.data, self.seed, self.augment = data, seed, augment
        self.sampler = sampler or Shuffled(len(data), batch_size, data.lengths())
        self.epoch, self.done = 0, 0  # passes done, batches done in this pass

    def steps(self) -> int:
        return self.sampler.steps()

    def batches(self, model: Model) -> Iterator[Batch]:
        rng = torch.Generator()
        for i, rows in enumerate(self.sampler.epoch(np.random.default_rng((self.seed, self.epoch)))):
            if i < self.done:
                continue
            self.done = i + 1
            rng.manual_seed(hash((self.seed, self.epoch, i)) & 0x7FFF_FFFF_FFFF)
            yield self.data.batch(rows, rng, self.augment)
        self.epoch, self.done = self.epoch + 1, 0

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "done": self.done}

    def load(self, state: dict[str, Any]) -> None:
        self.epoch, self.done = int(state["epoch"]), int(state["done"])


def in_order(data: Dataset, batch_size: int, rng: torch.Generator | None = None) -> Iterator[Batch]:
    """Every row once for evaluation; rows of like length together, so that padding costs little (see `Batch.rows` for which).

    rng: for drawn columns; None: seed 0, the same every time."""
    rng = rng or torch.Generator().manual_seed(0)
    lengths = data.lengths()
    order = np.arange(len(data)) if lengths is None else np.argsort(lengths, kind="stable")
    for start in range(0, len(data), batch_size):
        yield data.batch(order[start : start + batch_size], rng)
