"""Beam search: the likeliest text found with a few kept open at once.

Scores are log P(Y) / lp(Y) with lp(Y) = ((5 + |Y|) / 6)^length_penalty (Wu et al. 2016, equation 14, without coverage), |Y| with the end. At every
step the best 2 * width continuations of a row are looked at; an end among the first `width` of them finishes a text, the others go on. A row
stops when `width` texts are finished, when none that is open can still win (log P only falls, lp is at most that of the longest), or at its limit:
there the best open text is taken if none is finished. Nothing is drawn: equal inputs give equal texts. Width 1 is greedy search. Rows that are done
leave the batch. Left out: the coverage penalty, diverse beams, constraints.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils import _pytree as pytree

from ..forms import Encoded, Prediction, Ragged
from ..model import Decoder, Head

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]


class Beam(Decoder):
    steps = True

    def __init__(self, width: Annotated[int, Field(ge=1, le=1000)] = 4, length_penalty: Amount = 0.6, ratio: Amount = 2.0, margin: Count = 50):
        """A text has at most ratio * (tokens read) + margin tokens, and never more than its kind allows."""
        self.width, self.length_penalty, self.ratio, self.margin = width, length_penalty, ratio, margin

    def run(self, model, targets, batch, rng=None, state=None):
        return {t: self.search(model.heads[t], h) for t, h in model.read(batch, targets, state).items()}

    def search(self, head: Head, h: Encoded) -> Prediction:
        """Texts without their end; score: log P / lp."""
        n, w, device = len(h.z), self.width, h.z.device
        limit = torch.full((n,), head.max_tokens, device=device)
        if h.mask is not None:
            limit = limit.clamp(max=(self.ratio * h.mask.sum(1)).long() + self.margin)
        found = torch.zeros(n, max([1, *limit.tolist()]), dtype=torch.long, device=device)  # the best finished text of every row
        lengths, scores = torch.zeros_like(limit), torch.full((n,), -torch.inf, device=device)
        ends = torch.zeros_like(limit)  # texts finished
        rows = torch.arange(n, device=device)  # not done yet: A of them
        state = pytree.tree_map(lambda t: t.repeat_interleave(w, 0), head.start(h))
        text = torch.full((n, w, 1), head.begin_id, device=device)  # (A, w, t), after the beginning
        logp = torch.full((n, w), -torch.inf, device=device)  # of the open texts; at first they are one
        logp[:, 0] = 0.0
        t = 0
        while len(rows):
            t += 1
            said, state = head.step(text[:, :, -1].flatten(), state)
            said, size = said.float(), said.shape[-1]
            best, index = (logp[:, :, None] + said.view(-1, w, size)).flatten(1).topk(2 * w)  # (A, 2 w)
            parent, token = index // size, index % size
            end = token == head.end_id

            over = limit[rows] < t  # only an end may follow
            finished = best[:, :w].masked_fill(~end[:, :w], -torch.inf)
            ends[rows] += finished.isfinite().sum(1)
            score, which = (finished / self.penalty(t)).max(1)
            better = score > scores[rows]
            self.keep(found, lengths, scores, rows, better, text, parent.gather(1, which[:, None])[:, 0], score)
            self.keep(found, lengths, scores, rows, over & (ends[rows] == 0), text, torch.zeros_like(rows), logp[:, 0] / self.penalty(t - 1))

            logp, order = best.masked_fill(end, -torch.inf).topk(w)
            parent, token = parent.gather(1, order), token.gather(1, order)
            text = torch.cat([text.gather(1, parent[:, :, None].expand(-1, -1, t)), token[:, :, None]], 2)
            done = over | (ends[rows] >= w) | (scores[rows] >= logp[:, 0] / self.penalty(limit[rows] + 1))
            kept = (~done).nonzero()[:, 0]
            state = select(state, (kept[:, None] * w + parent[kept]).flatten())
            rows, text, logp = rows[kept], text[kept], logp[kept]
        return Prediction(tokens=Ragged(found[:, : max([1, *lengths.tolist()])], lengths), score=scores)

    def penalty(self, length: int | Tensor) -> float | Tensor:
        return ((5 + length) / 6) ** self.length_penalty

    def keep(self, found, lengths, scores, rows, where, text, beam, score) -> None:
        """Of the rows chosen by where (A,), the text (A, w, 1 + length) of one beam (A,), and its score."""
        chosen, length = rows[where], text.shape[2] - 1
        found[chosen, :length] = text[where, beam[where], 1:]
        lengths[chosen], scores[chosen] = length, score[where]


def select(state: Any, index: Tensor) -> Any:
    """The rows at index of every tensor."""
    return pytree.tree_map(lambda x: x.index_select(0, index), state)
