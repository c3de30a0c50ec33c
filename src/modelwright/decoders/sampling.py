"""A text drawn token by token from the model's probabilities, or from the likeliest part of them.

Temperature first, then the `top_k` likeliest tokens (Fan et al. 2018), then the fewest likeliest tokens whose probabilities add up to at least
`top_p` (Holtzman et al. 2019, "nucleus"). A draw is the smallest of exponential times divided by the probabilities, which is a categorical draw. The
same generator and the same batch give the same texts; without a generator a fresh one is seeded with 0.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..forms import Encoded, Prediction, Ragged
from ..model import Decoder, Head

Count = Annotated[int, Field(ge=1)]


class Sampling(Decoder):
    steps = True

    def __init__(
        self,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        top_k: Count | None = None,
        top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
        ratio: Annotated[float, Field(ge=0)] = 2.0,
        margin: Count = 50,
    ):
        """A text has at most ratio * (tokens read) + margin tokens, and never more than its kind allows."""
        self.temperature, self.top_k, self.top_p, self.ratio, self.margin = temperature, top_k, top_p, ratio, margin

    def run(self, model, targets, batch, rng=None, state=None):
        rng = rng or torch.Generator().manual_seed(0)
        return {t: self.write(model.heads[t], h, rng) for t, h in model.read(batch, targets, state).items()}

    def write(self, head: Head, h: Encoded, rng: torch.Generator) -> Prediction:
        """Texts without their end; score: the mean log-probability of a token (the end's included) under the model itself."""
        limit = torch.full((len(h.z),), head.max_tokens, device=h.z.device)
        if h.mask is not None:
            limit = limit.clamp(max=(self.ratio * h.mask.sum(1)).long() + self.margin)
        token, state = torch.full_like(limit, head.begin_id), head.start(h)
        going, said = torch.ones_like(limit, dtype=torch.bool), [torch.zeros_like(limit)]
        total, drawn, lengths = torch.zeros(len(limit), device=h.z.device), torch.zeros_like(limit), torch.zeros_like(limit)
        while bool(going.any()):
            logp, state = head.step(token, state)
            token = self.draw(logp, rng)
            total += logp.gather(1, token[:, None])[:, 0] * going
            drawn += going
            going = going & (token != head.end_id)
            said.append(torch.where(going, token, 0))
            lengths += going
            going = going & (lengths < limit)
        values = torch.stack(said[1:] or said, 1)[:, : max([1, *lengths.tolist()])]
        return Prediction(tokens=Ragged(values, lengths), score=total / drawn.clamp(min=1))

    def draw(self, logp: Tensor, rng: torch.Generator) -> Tensor:
        """One token (B,) a row of log-probabilities (B, V)."""
        p = self.narrowed(logp)
        times = torch.empty(p.shape).exponential_(generator=rng).to(p.device)
        return (p / times).argmax(1)

    def narrowed(self, logp: Tensor) -> Tensor:
        """(B, V): the probabilities that a token is drawn with."""
        p = (logp / self.temperature).softmax(1)
        if self.top_k is not None and self.top_k < p.shape[1]:
            p = torch.zeros_like(p).scatter(1, *reversed(p.topk(self.top_k)))
            p = p / p.sum(1, keepdim=True)
        if self.top_p < 1:
            likely, index = p.sort(dim=1, descending=True, stable=True)
            p = p.scatter(1, index, likely.masked_fill(likely.cumsum(1) - likely >= self.top_p, 0.0))
            p = p / p.sum(1, keepdim=True)
        return p
