"""A table's numbers as vectors: piecewise-linear encoding, then a linear layer of each column's own. B rows, N numbers, T bins, E width.

Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning", section 3.2. Their outer bins have no end; here they have, so
that no value, however far out, is encoded outside [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PiecewiseLinear(nn.Module):
    """How far x has come through each bin of its column: 0 below the bin, 1 above it, linear within (equation 1)."""

    def __init__(self, edges: list[list[float]]):
        """edges: per number, rising, at least two. A column with fewer bins than the most has some that are always 0."""
        super().__init__()
        self.bins = max(len(e) for e in edges) - 1
        low = torch.full((len(edges), self.bins), torch.inf)
        size = torch.ones(len(edges), self.bins)
        for i, e in enumerate(edges):
            e = torch.tensor(e, dtype=torch.float64)
            low[i, : len(e) - 1], size[i, : len(e) - 1] = e[:-1].float(), e.diff().float()
        self.register_buffer("low", low, persistent=False)  # built again from the schema, which has the edges
        self.register_buffer("size", size, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, N, T)"""
        return ((x.unsqueeze(-1) - self.low) / self.size).clamp(0, 1)


class NumberEmbedding(nn.Module):
    """W_n ple(x_n) + b_n for each column n. What stands for a missing number is the caller's affair."""

    def __init__(self, edges: list[list[float]], width: int, bins: int):
        """edges: per number, as its kind knows them; where it knows none, even ones from -2 to 2. bins: the most of a column."""
        super().__init__()
        self.encoding = PiecewiseLinear([thinned(e or torch.linspace(-2, 2, 17).tolist(), bins) for e in edges])
        self.weight = nn.Parameter(torch.randn(len(edges), self.encoding.bins, width) / math.sqrt(self.encoding.bins))
        self.bias = nn.Parameter(torch.zeros(len(edges), width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, N, E)"""
        return torch.einsum("bnt,nte->bne", self.encoding(x), self.weight) + self.bias


def thinned(edges: list[float], bins: int) -> list[float]:
    """At most `bins` bins: evenly many of the edges, the outer two among them."""
    if len(edges) <= bins + 1:
        return edges
    return [edges[round(i * (len(edges) - 1) / bins)] for i in range(bins + 1)]
