"""A table's columns as the tokens of a transformer (FT-Transformer); about ten times slower than mlp.

Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", section 3.3: each column becomes one token, a CLS token is put before them,
pre-norm blocks with ReGLU follow (the first without its norm before attention), and the CLS token, normalised and through a ReLU, is the row's
summary. A category's token is b_j + E_j[code]. A number's is b_j + W_j ple(x), piecewise-linear as in mlp (Gorishniy et al. 2022) instead of
b_j + x w_j; a missing number has a learned token, a missing category is code 0.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Tabular
from ..kind import Kind
from ..layers.number_embedding import NumberEmbedding
from ..model import Encoder

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class FeatureTokens(Encoder):
    def __init__(self, width: Count = 64, depth: Count = 2, num_heads: Count = 4, dropout: Share = 0.1, bins: Count = 128):
        """width: of a token (D). dropout: of attention and in the feed-forward; not on the residual. bins: the most of a number."""
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must divide width ({width})")
        self.width, self.depth, self.num_heads, self.dropout, self.bins = width, depth, num_heads, dropout, bins

    def build(self, kinds: dict[str, Kind]) -> None:
        numbers = [k for k in kinds.values() if k.place == "number"]
        edges = [e for k in numbers for e in (k.bins_ or [[]] * k.numbers)]
        sizes = [k.cardinality for k in kinds.values() if k.place == "code"]
        self.cls = nn.Parameter(torch.randn(self.width) / math.sqrt(self.width))
        self.numbers = NumberEmbedding(edges, self.width, self.bins) if edges else None
        if edges:
            nn.init.uniform_(self.numbers.bias, -1 / math.sqrt(self.width), 1 / math.sqrt(self.width))  # what tells the columns apart
            self.missing = nn.Parameter(self.numbers.bias.detach().clone())
        self.codes = nn.ModuleList([nn.Embedding(s, self.width) for s in sizes])
        for table in self.codes:
            nn.init.uniform_(table.weight, -1 / math.sqrt(self.width), 1 / math.sqrt(self.width))
        self.code_bias = nn.ParameterList([nn.Parameter(torch.zeros(self.width).uniform_(-1, 1) / math.sqrt(self.width)) for _ in sizes])
        self.blocks = nn.ModuleList([Block(self.width, self.num_heads, self.dropout, first=i == 0) for i in range(self.depth)])
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x: Tabular, mask=None, state=None) -> Encoded:
        """z (B, N + M, D): the columns' tokens, numbers first; vector: CLS."""
        tokens = [self.cls.expand(len(x), 1, -1)]
        if self.numbers is not None:
            there = x.present.unsqueeze(-1)
            z = self.numbers(x.numbers)
            tokens.append(torch.where(there, z, self.missing.to(z.dtype)))
        tokens += [(table(x.codes[:, i]) + bias).unsqueeze(1) for i, (table, bias) in enumerate(zip(self.codes, self.code_bias, strict=True))]
        h = torch.cat(tokens, 1)
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        return Encoded(h[:, 1:], vector=F.relu(h[:, 0]))


class Block(nn.Module):
    """h + attention(norm(h)), then h + W2 dropout(a relu(b)) with (a, b) = W1 norm(h): ReGLU (Shazeer 2020)."""

    def __init__(self, width: int, num_heads: int, dropout: float, first: bool):
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.Identity() if first else nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        hidden = 4 * width // 3
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.dropout = dropout

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(h)).chunk(3, -1))  # (B, heads, T, D / heads)
        a = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        h = h + self.out(a.transpose(1, 2).flatten(2))
        a, b = self.up(self.norm2(h)).chunk(2, -1)
        return h + self.down(F.dropout(a * F.relu(b), self.dropout, self.training))
