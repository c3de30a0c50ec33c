"""Noise: standard normal numbers drawn anew for every batch; what a generator starts from. Declared, never a column of the table.

`data: {columns: {z: noise}}`. Without a generator of random numbers the draw is that of seed 0, so that a prediction is the same every time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kind import Kind


class Noise(Kind):
    place = "own"
    form = "vector"
    drawn = True
    encoder = "identity"

    def __init__(self, width: int = 64):
        if width < 1:
            raise ValueError(f"width ({width}) must be at least 1")
        self.width = width

    def draw(self, n: int, rng: torch.Generator | None) -> Tensor:
        """(n, width)"""
        return torch.randn(n, self.width, generator=rng or torch.Generator().manual_seed(0))

    def describe(self) -> str:
        return f"{self.width} standard normal numbers a row, drawn"
