"""Yes or no: one logit and logistic loss, with a temperature that calibration sets. Probabilities come as (no, yes)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import refuse
from ..forms import Encoded, Prediction
from ..model import Head


class Binary(Head):
    says = "class"
    calibrates = True

    def build(self, kind, width, encoder=None) -> None:
        if kind.classes != 2:
            raise refuse("head.target", f"the head binary tells two classes apart, the target has {kind.classes}", fix="choose the head classes")
        self.linear = nn.Linear(width, 1)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, h: Encoded, target=None) -> Tensor:
        """logit (B,)"""
        return self.linear(h.pooled()).squeeze(-1)

    def nll(self, out, target, known):
        total = F.binary_cross_entropy_with_logits(out, target.to(out.dtype), reduction="none")
        return total * known, known.to(total.dtype)

    def predict(self, out) -> Prediction:
        yes = (out / self.temperature).sigmoid()
        p = torch.stack([1 - yes, yes], -1)
        score, value = p.max(-1)
        return Prediction(value=value, probabilities=p, score=score)

    def divergence(self, student, teacher, temperature) -> Tensor:
        s, t = student / temperature, teacher / temperature
        p = t.sigmoid()
        return temperature**2 * (p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s)))
