"""A set of labels: one independent logit a label and logistic loss, summed over the labels (binary relevance); a label is predicted above 1/2.

The likelihood of a row's whole set is the product over its labels. Probabilities (B, K) do not sum to 1, so they travel in `extra`, not as a
distribution over classes. Left out: dependence between labels (classifier chains) and thresholds tuned for F1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Prediction
from ..model import Head


class LabelSet(Head):
    says = "labels"

    def build(self, kind, width, encoder=None) -> None:
        self.linear = nn.Linear(width, kind.numbers)

    def forward(self, h: Encoded, target=None) -> Tensor:
        """logits (B, K)"""
        return self.linear(h.pooled())

    def nll(self, out, target, known):
        total = F.binary_cross_entropy_with_logits(out, target.to(out.dtype), reduction="none").sum(-1)
        return total * known, known.to(total.dtype)

    def predict(self, out) -> Prediction:
        p = out.sigmoid()
        sure = torch.maximum(F.logsigmoid(out), F.logsigmoid(-out)).sum(-1).exp()  # the probability of the predicted set
        return Prediction(value=out > 0, score=sure, extra={"probabilities": p})

    def divergence(self, student, teacher, temperature) -> Tensor:
        s, t = student / temperature, teacher / temperature
        p = t.sigmoid()
        each = p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
        return temperature**2 * each.sum(-1)
