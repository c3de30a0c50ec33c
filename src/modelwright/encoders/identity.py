"""A vector as it is: noise on its way to a generator's head, without a layer of its own."""

from __future__ import annotations

from torch import Tensor

from ..forms import Encoded
from ..kind import Kind
from ..model import Encoder


class Identity(Encoder):
    takes = frozenset({"vector"})

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        self.width = kind.width

    def forward(self, x: Tensor, mask=None, state=None) -> Encoded:
        """x (B, D); z (B, 1, D)"""
        return Encoded(x.unsqueeze(1))
