"""A text, one token after another: a small transformer decoder that attends to its input's tokens.

Vaswani et al. 2017, normalised before each block; positions are their sinusoids, the embedding is also the output layer (Press & Wolf 2017).
Teacher forcing and stepping are the same lines: `hear` takes any number of tokens after those in the state (keys and values of the past, and of what
is read), so that a step costs one token. A text's likelihood is that of its tokens and of the end. Smoothing (Szegedy et al. 2016) counts in training
alone. Where the text is not given, the head writes it greedily; other ways of writing are the decoders'. Left out: copying from the input, coverage,
a log-softmax in chunks (`micro_batch` bounds its (B, T, V) too).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import refuse
from ..forms import Encoded, Prediction, Ragged
from ..model import Head

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Tokens(Head):
    says = "text"
    decoder = "beam"

    def __init__(self, reads: str = "all", width: Count = 256, depth: Count = 2, num_heads: Count = 4, dropout: Share = 0.2, smoothing: Share = 0.1):
        """reads: the input whose tokens are attended to; "all" is the fusion's result: of one input its tokens, of several one summary."""
        super().__init__()
        if width % num_heads or width % 2:
            raise ValueError(f"width ({width}) must be even and a multiple of num_heads ({num_heads})")
        self.reads, self.width, self.depth, self.num_heads, self.dropout, self.smoothing = reads, width, depth, num_heads, dropout, smoothing

    def build(self, kind, width, encoder=None) -> None:
        if kind.form != "ids":
            what = f"the head tokens writes text, the target is {type(kind).__name__.lower()}"
            raise refuse("head.target", what, fix="declare the target's kind: text, or choose another head")
        self.begin_id, self.end_id, self.max_tokens = kind.begin_id, kind.end_id, kind.max_tokens
        self.embedding = nn.Embedding(kind.vocabulary_size, self.width)
        nn.init.normal_(self.embedding.weight, std=self.width**-0.5)
        self.drop = nn.Dropout(self.dropout)
        self.blocks = nn.ModuleList([Block(self.width, width, self.num_heads, self.dropout) for _ in range(self.depth)])
        self.norm = nn.LayerNorm(self.width)
        self.output = nn.Linear(self.width, kind.vocabulary_size)
        self.output.weight = self.embedding.weight
        nn.init.zeros_(self.output.bias)

    def forward(self, h: Encoded, target: Ragged | None = None) -> dict[str, Tensor]:
        """logits (B, T + 1, V) of every token and of the end, mask (B, T + 1); without a target those of what it writes greedily."""
        if target is None:
            return self.write(h)
        begin = target.values.new_full((len(target), 1), self.begin_id)
        logits, _ = self.hear(torch.cat([begin, target.values], 1), self.start(h))
        return {"logits": logits, "mask": torch.arange(logits.shape[1], device=logits.device) <= target.lengths[:, None]}

    def nll(self, out, target, known):
        """count: the text's tokens and its end."""
        logits, mask = out["logits"], out["mask"]
        labels = F.pad(target.values, (0, 1)).scatter(1, target.lengths[:, None], self.end_id)
        smoothing = self.smoothing if self.training else 0.0
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing)
        counted = (mask & known[:, None]).to(loss.dtype)
        return (loss.unflatten(0, mask.shape) * counted).sum(1), counted.sum(1)

    def predict(self, out) -> Prediction:
        """The likeliest token at every place, up to the first end; score: the mean log-probability of a token, the end's included."""
        logp, ids = out["logits"].log_softmax(-1).max(-1)
        mask = out["mask"] & ((ids == self.end_id).cumsum(1) - (ids == self.end_id).long() == 0)
        said = mask & (ids != self.end_id)
        return Prediction(tokens=Ragged(ids * said, said.sum(1)), score=(logp * mask).sum(1) / mask.sum(1).clamp(min=1))

    def divergence(self, student, teacher, temperature) -> Tensor:
        """The mean over a row's tokens, each after the true ones before it."""
        s, t = (student["logits"] / temperature).log_softmax(-1), (teacher["logits"] / temperature).log_softmax(-1)
        mask = student["mask"].to(s.dtype)
        return temperature**2 * ((t.exp() * (t - s)).sum(-1) * mask).sum(1) / mask.sum(1)

    def start(self, h: Encoded) -> dict[str, Any]:
        seen = torch.ones(h.z.shape[:2], dtype=torch.bool, device=h.z.device) if h.mask is None else h.mask
        seen = seen | ((torch.arange(h.z.shape[1], device=h.z.device) == 0) & ~seen.any(1, keepdim=True))  # an empty text: attention needs one token
        past = h.z.new_zeros(len(h.z), self.num_heads, 0, self.width // self.num_heads)
        return {"seen": seen, "memory": [block.remember(h.z) for block in self.blocks], "past": [(past, past) for _ in self.blocks]}

    def step(self, tokens: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        logits, state = self.hear(tokens[:, None], state)
        return logits[:, 0].float().log_softmax(-1), state

    def hear(self, tokens: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """tokens (B, S) after those in the state -> logits (B, S, V) of what follows each, new state."""
        before, s = state["past"][0][0].shape[2], tokens.shape[1]
        places = torch.arange(before, before + s, device=tokens.device)
        x = self.drop(self.embedding(tokens) * math.sqrt(self.width) + sinusoids(places, self.width))
        causal = torch.arange(before + s, device=tokens.device) <= places[:, None]
        past = []
        for block, memory, kept in zip(self.blocks, state["memory"], state["past"], strict=True):
            x, kept = block(x, kept, causal, memory, state["seen"][:, None, None, :])
            past.append(kept)
        return self.output(self.norm(x)), {**state, "past": past}

    def write(self, h: Encoded) -> dict[str, Tensor]:
        """Greedily: logits (B, T, V) and mask (B, T) up to each row's end."""
        state, tokens = self.start(h), torch.full((len(h.z),), self.begin_id, device=h.z.device)
        logits, mask, going = [], [], torch.ones_like(tokens, dtype=torch.bool)
        while len(logits) < self.max_tokens and bool(going.any()):
            said, state = self.hear(tokens[:, None], state)
            tokens = said[:, 0].argmax(-1)
            logits.append(said[:, 0])
            mask.append(going)
            going = going & (tokens != self.end_id)
        return {"logits": torch.stack(logits, 1), "mask": torch.stack(mask, 1)}


class Block(nn.Module):
    """x + attention to the past, x + attention to what is read, x + feed-forward, each of norm(x)"""

    def __init__(self, width: int, read: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.kv, self.answer = nn.Linear(width, width), nn.Linear(read, 2 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def remember(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, T, D / heads) of what is read."""
        return self.split(self.kv(z), 2)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor], causal: Tensor, memory: tuple[Tensor, Tensor], seen: Tensor):
        q, k, v = self.split(self.qkv(self.norm1(x)), 3)
        k, v = torch.cat([past[0].to(k.dtype), k], 2), torch.cat([past[1].to(v.dtype), v], 2)
        x = x + self.drop(self.out(self.attend(q, k, v, causal)))
        (q,) = self.split(self.ask(self.norm2(x)), 1)
        x = x + self.drop(self.answer(self.attend(q, *memory, seen)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm3(x))))), (k, v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return a.transpose(1, 2).flatten(2)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return tuple(t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in x.chunk(parts, -1))


def sinusoids(places: Tensor, width: int) -> Tensor:
    """(S, D): sines, then cosines, of place * 10000^(-2 i / D)."""
    angle = places[:, None] * 10_000 ** (-torch.arange(0, width, 2, device=places.device) / width)
    return torch.cat([angle.sin(), angle.cos()], 1)
