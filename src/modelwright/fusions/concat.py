"""Several inputs side by side: each one's summary, or a learned vector where it is missing. A single input passes through with its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..forms import Encoded
from ..model import Fusion


class Concat(Fusion):
    tokens = True

    def build(self, widths: dict[str, int]) -> None:
        self.names = list(widths)
        self.width = sum(widths.values())
        self.absent = nn.ParameterList([nn.Parameter(torch.zeros(w)) for w in widths.values()] if len(widths) > 1 else [])

    def forward(self, parts: dict[str, Encoded], known: dict[str, Tensor]) -> Encoded:
        if len(self.names) == 1:
            return parts[self.names[0]]
        pooled = []
        for name, absent in zip(self.names, self.absent, strict=True):
            h = parts[name].pooled()
            pooled.append(torch.where(known[name].unsqueeze(1), h, absent.to(h.dtype)) if name in known else h)
        return Encoded(torch.cat(pooled, 1).unsqueeze(1))
