"""A table as a sum of curves, one a column: a model that can be read, and the one that loses least to private training.

A generalised additive model (Hastie & Tibshirani 1986): a number becomes its place between knots (linear hat functions, so that the head's weights are
the curve's values at the knots), a category a one of its own, a missing value likewise. There is nothing to learn here: the head's linear layer
holds every curve. No interactions.

Why for privacy: noise falls on every parameter, and here are some hundreds instead of tens of thousands; each column turns on at most two of its
features, so that rows' gradients have like norms and clipping takes little. Adult at epsilon 1: docs/benchmarks.md (cf. DP-EBM, Nori et al. 2021).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..forms import Encoded, Tabular
from ..kind import Kind
from ..layers.number_embedding import thinned
from ..model import Encoder

FAR = 1e6  # encoded numbers lie within 20


class Additive(Encoder):
    def __init__(self, bins: Annotated[int, Field(ge=1)] = 32):
        """bins: the most of a number; it has one knot more."""
        super().__init__()
        self.bins = bins

    def build(self, kinds: dict[str, Kind]) -> None:
        numbers = [k for k in kinds.values() if k.place == "number"]
        edges = [e for k in numbers for e in (k.bins_ or [[]] * k.numbers)]
        self.register_buffer("knots", padded([thinned(e or torch.linspace(-2, 2, 17).tolist(), self.bins) for e in edges]), persistent=False)
        self.sizes = [k.cardinality for k in kinds.values() if k.place == "code"]
        self.width = self.knots.numel() + len(edges) + sum(self.sizes)

    def learning(self, rows: int) -> dict[str, Any]:
        """Private: some 300 steps of a tenth of the rows; plain SGD, as the loss is convex and clipping keeps rows' gradients alike."""
        private = {"optimizer": "sgd", "lr": 3.0, "weight_decay": 0.0, "batch_size": max(16, min(4096, rows // 10)), "epochs": 30.0}
        return {"lr": 0.02, "weight_decay": 0.0, "epochs": 10.0, "private": private}

    def forward(self, x: Tabular, mask=None, state=None) -> Encoded:
        there = x.present.to(x.numbers.dtype)
        parts = [(hats(x.numbers, self.knots) * there.unsqueeze(-1)).flatten(1), 1 - there]
        parts += [(x.codes[:, i : i + 1] == torch.arange(size, device=x.codes.device)).to(x.numbers.dtype) for i, size in enumerate(self.sizes)]
        return Encoded(torch.cat(parts, 1).unsqueeze(1))


def padded(edges: list[list[float]]) -> Tensor:
    """(N, T) rising knots; a column with fewer has some far out, where nothing comes."""
    most = max((len(e) for e in edges), default=0)
    full = [e + [FAR * (i + 1) for i in range(most - len(e))] for e in edges]
    return torch.tensor(full, dtype=torch.float64).reshape(len(edges), most).float()


def hats(x: Tensor, knots: Tensor) -> Tensor:
    """x (B, N), knots (N, T) -> (B, N, T): 1 at a value's own knot, falling linearly to 0 at its neighbours; flat beyond the outer knots."""
    x = torch.maximum(x, knots[:, 0]).unsqueeze(-1)
    rise = ((x - knots[:, :-1]) / knots.diff(dim=1)).clamp(0, 1)  # (B, N, T - 1): how far through each gap
    one = torch.ones_like(rise[..., :1])
    return torch.cat([one, rise], -1) - torch.cat([rise, 0 * one], -1)
