"""Encoded rows: arrays, in memory or memory-mapped, and from them batches. Decoded once; every epoch after that only gathers rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..forms import Batch, Tabular
from ..kind import Kind, Stored

TABLE = "table"  # the input that holds all numbers and codes; no other input has this name (see `Schema.key`)


@dataclass
class Dataset:
    n: int
    inputs: dict[str, Stored]
    targets: dict[str, Stored]
    kinds: dict[str, Kind]  # of the inputs that are not the table
    target_kinds: dict[str, Kind]
    groups: np.ndarray | None = None  # (N,) int64, -1 = none

    def __len__(self) -> int:
        return self.n

    def batch(self, rows: np.ndarray, rng: torch.Generator | None = None, augment: bool = False) -> Batch:
        """The rows as tensors; rng draws augmentations and drawn columns."""
        inputs, known, moves = {}, {}, {}
        for name, stored in self.inputs.items():
            if name == TABLE:
                numbers = torch.from_numpy(stored["numbers"][rows])
                present = ~torch.isnan(numbers)
                inputs[name] = Tabular(torch.where(present, numbers, 0.0), present, torch.from_numpy(stored["codes"][rows]))
                continue
            kind = self.kinds[name]
            inputs[name] = kind.draw(len(rows), rng) if kind.drawn else kind.batch(stored, rows)
            if augment:
                inputs[name], moved = kind.augment(inputs[name], rng)
                moves |= {} if moved is None else {name: moved}
            if "known" in stored:
                known[name] = torch.from_numpy(stored["known"][rows])
        targets = {}
        for name, stored in self.targets.items():
            kind = self.target_kinds[name]
            value = kind.batch(stored, rows)
            targets[name] = kind.follow(value, moves) if moves else value
            if "known" in stored:
                known[name] = torch.from_numpy(stored["known"][rows])
        groups = None if self.groups is None else torch.from_numpy(self.groups[rows])
        return Batch(inputs, targets, known, groups=groups, rows=torch.from_numpy(np.asarray(rows, np.int64)))

    def lengths(self) -> np.ndarray | None:
        """(N,) tokens of the longest ragged input or target, for batches of like lengths; None where no input is ragged."""
        if not any("offsets" in s for s in self.inputs.values()):
            return None
        found = [np.diff(s["offsets"]) for s in (*self.inputs.values(), *self.targets.values()) if "offsets" in s]
        return np.max(found, axis=0) if found else None
