"""Several inputs weighed row by row: each one's summary projected to one width, mixed by a softmax gate over the inputs that are there.

The gate is that of a mixture of experts (Jacobs et al. 1991): weights (B, inputs) = softmax of one logit an input, which reads that input's own
projection. A missing input has weight 0 and its content is never read; a row without any input is a learned vector. Against concat: the width does
not grow with the inputs, and what is missing hands its share to the others. Tokens are not kept: a head that needs them reads its input directly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..forms import Encoded
from ..model import Fusion, Named


class Gated(Fusion):
    def __init__(self, width: int | None = None):
        """width: None is the widest input's."""
        super().__init__()
        if width is not None and width < 1:
            raise ValueError(f"width {width} must be at least 1")
        self.asked = width

    def build(self, widths: dict[str, int]) -> None:
        self.width = self.asked or max(widths.values())
        self.project = Named({name: nn.Sequential(nn.Linear(w, self.width), nn.LayerNorm(self.width), nn.ReLU()) for name, w in widths.items()})
        self.gate = Named({name: nn.Linear(self.width, 1) for name in widths})
        self.empty = nn.Parameter(torch.zeros(self.width))

    def forward(self, parts: dict[str, Encoded], known: dict[str, Tensor]) -> Encoded:
        pooled = {name: parts[name].pooled() for name in self.project}
        there = torch.stack([known[n] if n in known else h.new_ones(len(h), dtype=torch.bool) for n, h in pooled.items()], 1)  # (B, inputs)
        values, logits = [], []
        for i, (name, h) in enumerate(pooled.items()):
            v = self.project[name](torch.where(there[:, i : i + 1], h, 0.0))  # where, not times: 0 * nan is nan
            values.append(v)
            logits.append(self.gate[name](v).squeeze(1))
        none = ~there.any(1, keepdim=True)
        values.append(self.empty.to(values[0].dtype).expand_as(values[0]))
        logits = torch.cat([torch.stack(logits, 1).masked_fill(~there, -torch.inf), torch.where(none, 0.0, -torch.inf)], 1)
        return Encoded(torch.einsum("bi,ibd->bd", logits.softmax(1).to(values[0].dtype), torch.stack(values)).unsqueeze(1))
