"""Text or a series, read in order by a long short-term memory, in both directions by default.

Hochreiter & Schmidhuber 1997; rows are packed, so that padding never reaches the recurrence. Embeddings of whole words are dropped (Gal &
Ghahramani 2016), outputs between layers and at the end as usual. The row's summary is the mean and the maximum over its tokens, projected (Howard &
Ruder 2018, 3.3, "concat pooling", without the last state). A series' steps are projected instead of embedded, and never dropped whole. A policy
reads z step by step with the state handed on, in one direction. Left out: weight drop, layer norm within the cell.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..forms import Encoded, Ragged
from ..kind import Kind
from ..model import Encoder

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class LSTM(Encoder):
    takes = frozenset({"ids", "series"})

    def __init__(self, width: Count = 128, depth: Count = 1, bidirectional: bool = True, dropout: Share = 0.5, word_dropout: Share = 0.2):
        """width: of a token's embedding and of z, both directions together."""
        super().__init__()
        if bidirectional and width % 2:
            raise ValueError(f"width ({width}) must be even when bidirectional: half of it reads in each direction")
        self.width, self.depth, self.bidirectional, self.dropout, self.word_dropout = width, depth, bidirectional, dropout, word_dropout

    def learning(self, rows: int) -> dict:
        """Small batches and few passes, as text wants them (chosen on sst2's validation split)."""
        few = {"batch_size": 32} if rows < 20_000 else {}
        return {} if self.series else {"lr": 1e-3, "weight_decay": 0.01, "epochs": float(min(20, max(3, round(35_000 / rows))))} | few

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        self.series = self.steps = kind.form == "series"
        self.embedding = nn.Linear(kind.channels, self.width) if self.series else nn.Embedding(kind.vocabulary_size, self.width)
        if not self.series:
            nn.init.normal_(self.embedding.weight, std=0.1)
        half = self.width // (2 if self.bidirectional else 1)
        between = self.dropout if self.depth > 1 else 0.0
        self.lstm = nn.LSTM(self.width, half, self.depth, batch_first=True, bidirectional=self.bidirectional, dropout=between)
        self.drop = nn.Dropout(self.dropout)
        self.summary = nn.Linear(2 * self.width, self.width)

    def forward(self, x: Ragged, mask: Tensor | None = None, state: Tensor | None = None) -> Encoded:
        """x: ids (B, T) or series (B, T, C). mask (B, T) False blanks a token. state: that of an earlier call, where it reads in one direction:
        (B, layers, 2 * hidden), h beside c."""
        there = x.mask if mask is None else x.mask & mask
        keep = there.unsqueeze(-1).to(self.embedding.weight.dtype)
        if self.training and self.word_dropout and not self.series:
            keep = keep * F.dropout(torch.ones_like(keep), self.word_dropout)
        words = self.drop(self.embedding(x.values) * keep)
        before = None if state is None else tuple(s.transpose(0, 1).contiguous() for s in state.chunk(2, -1))
        if self.series and bool((x.lengths == words.shape[1]).all()):  # nothing is padded: the hot path of a policy
            out, after = self.lstm(words, before)
        else:
            packed = pack_padded_sequence(words, x.lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
            out, after = self.lstm(packed, before)
            out = pad_packed_sequence(out, batch_first=True, total_length=x.values.shape[1])[0]
        z, after = self.drop(out), torch.cat(after, -1).transpose(0, 1)
        some = there.any(1, keepdim=True)
        m = there.unsqueeze(-1).to(z.dtype)
        mean = (z * m).sum(1) / m.sum(1).clamp(min=1)
        most = z.masked_fill(~there.unsqueeze(-1), -torch.inf).amax(1).masked_fill(~some, 0.0)
        return Encoded(z, there, vector=self.summary(torch.cat([mean, most], 1)), state=after)
