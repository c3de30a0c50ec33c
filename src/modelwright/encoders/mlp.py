"""A table's columns through a residual multilayer perceptron: the sound default for tables.

Numbers enter three ways: as they are, as periodic features with learned frequencies and a ReLU layer per column (Gorishniy et al. 2022,
"On Embeddings for Numerical Features in Tabular Deep Learning", section 3.3, "PLR"), and as a flag where they are missing. Categories are
embedded. Blocks are pre-norm residual as in the ResNet of Gorishniy et al. 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Tabular
from ..kind import Kind
from ..model import Encoder


class MLP(Encoder):
    def __init__(self, width: int = 192, depth: int = 2, dropout: float = 0.1, frequencies: int = 16, embedding: int = 12):
        super().__init__()
        self.width, self.depth, self.dropout = width, depth, dropout
        self.frequencies = frequencies  # per number, 0: plain numbers
        self.embedding = embedding  # per number and per category

    def build(self, kinds: dict[str, Kind]) -> None:
        self.n = sum(k.numbers for k in kinds.values() if k.place == "number")
        self.sizes = [k.cardinality for k in kinds.values() if k.place == "code"]
        read = 2 * self.n
        if self.frequencies and self.n:
            self.frequency = nn.Parameter(torch.randn(self.n, self.frequencies) * 0.3)
            self.plr = nn.Parameter(torch.randn(self.n, 2 * self.frequencies + 1, self.embedding) / math.sqrt(2 * self.frequencies))
            self.plr_bias = nn.Parameter(torch.zeros(self.n, self.embedding))
            read += self.n * self.embedding
        if self.sizes:
            widths = [min(self.embedding, math.ceil(s**0.5) + 1) for s in self.sizes]
            self.codes = nn.ModuleList([nn.Embedding(s, w) for s, w in zip(self.sizes, widths, strict=True)])
            read += sum(widths)
        self.first = nn.Linear(read, self.width)
        self.blocks = nn.ModuleList([Block(self.width, self.dropout) for _ in range(self.depth)])
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x: Tabular, mask=None, state=None) -> Encoded:
        missing = 1.0 - x.present.to(x.numbers.dtype)
        parts = [x.numbers, missing]
        if self.frequencies and self.n:
            angle = 2 * math.pi * x.numbers.unsqueeze(-1) * self.frequency  # (B, N, F)
            waves = torch.cat([angle.cos(), angle.sin(), x.numbers.unsqueeze(-1)], -1)
            embedded = F.relu(torch.einsum("bnf,nfe->bne", waves, self.plr) + self.plr_bias)
            parts.append((embedded * x.present.unsqueeze(-1)).flatten(1))
        if self.sizes:
            parts += [table(x.codes[:, i]) for i, table in enumerate(self.codes)]
        h = self.first(torch.cat(parts, 1))
        for block in self.blocks:
            h = block(h)
        return Encoded(F.relu(self.norm(h)).unsqueeze(1))


class Block(nn.Module):
    """x + dropout(W2 dropout(relu(W1 norm(x))))"""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.down(self.dropout(F.relu(self.up(self.norm(x))))))
