"""Text through a pre-norm transformer: every token attends to every other.

Vaswani et al. 2017, normalised before each block (Xiong et al. 2020); positions are rotations of queries and keys (Su et al. 2021, "RoFormer",
equation 34) or learned. Attention is `scaled_dot_product_attention`, masked by the lengths; a row without tokens attends to its first pad and has a
summary of zeros. The row's summary is the mean over its tokens. Left out: causal attention and caches (generation is the head's), sparse attention,
numeric series.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import refuse
from ..forms import Encoded, Ragged
from ..kind import Kind
from ..model import Encoder

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Transformer(Encoder):
    takes = frozenset({"ids"})

    def __init__(
        self,
        width: Count = 128,
        depth: Count = 2,
        num_heads: Count = 4,
        dropout: Share = 0.2,
        word_dropout: Share = 0.2,
        positions: Literal["rotary", "learned"] = "rotary",
    ):
        """width: of a token (D). word_dropout: the share of whole words' embeddings that training drops."""
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must divide width ({width})")
        if positions == "rotary" and (width // num_heads) % 2:
            raise ValueError(f"width / num_heads ({width // num_heads}) must be even for rotary positions")
        self.width, self.depth, self.num_heads = width, depth, num_heads
        self.dropout, self.word_dropout, self.positions = dropout, word_dropout, positions

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        self.embedding = nn.Embedding(kind.vocabulary_size, self.width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        if self.positions == "learned":
            self.position = nn.Parameter(torch.randn(kind.max_tokens, self.width) * 0.02)
        self.drop = nn.Dropout(self.dropout)
        self.blocks = nn.ModuleList([Block(self.width, self.num_heads, self.dropout) for _ in range(self.depth)])
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x: Ragged, mask: Tensor | None = None, state=None) -> Encoded:
        """x: ids (B, T). mask (B, T) False hides a token from the others."""
        there = x.mask if mask is None else x.mask & mask
        length = x.values.shape[1]
        h = self.embedding(x.values)
        if self.training and self.word_dropout:
            h = h * F.dropout(torch.ones_like(h[:, :, :1]), self.word_dropout)
        rotation = None
        if self.positions == "rotary":
            rotation = rotations(length, self.width // self.num_heads, h.device)
        elif length > len(self.position):
            what = f"a text of {length} tokens, positions for {len(self.position)}"
            raise refuse("model.too_long", what, fix="positions: rotary, or cut the texts")
        else:
            h = h + self.position[:length]
        seen = there | ((torch.arange(length, device=h.device) == 0) & ~there.any(1, keepdim=True))
        h = self.drop(h)
        for block in self.blocks:
            h = block(h, seen[:, None, None, :], rotation)
        return Encoded(self.norm(h), there)


class Block(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))"""

    def __init__(self, width: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor, seen: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(h)).chunk(3, -1))  # (B, heads, T, D / heads)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.dropout if self.training else 0.0)
        h = h + self.drop(self.out(a.transpose(1, 2).flatten(2)))
        return h + self.drop(self.down(F.gelu(self.up(self.norm2(h)))))


def rotations(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos, sin (T, D / 2) of position * 10000^(-2 i / D)."""
    rates = 10_000 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(length, device=device)[:, None] * rates
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair (x_i, x_{i + D/2}) of (..., T, D) turned by its position's angle."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)
