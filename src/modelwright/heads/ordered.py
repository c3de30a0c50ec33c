"""One of K classes in an order: one score and K-1 increasing cut points (proportional odds, McCullagh 1980), with a temperature.

P(y <= k) = sigmoid(cut_k - score), so out (B, K-1) holds cumulative logits. Divided by a temperature they are still increasing: scaling keeps its
meaning. The predicted class is the median, which has the least expected distance to the truth (argmax would have the least expected error).
Left out: cut points that depend on the inputs (partial proportional odds).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Prediction
from ..model import Head


class Ordered(Head):
    says = "class"
    calibrates = True

    def build(self, kind, width, encoder=None) -> None:
        assert kind.classes >= 2, "an order of one class"
        self.linear = nn.Linear(width, 1, bias=False)  # the cut points are its bias
        nn.init.zeros_(self.linear.weight)
        start = torch.logit(torch.arange(1, kind.classes) / kind.classes)  # all classes equally likely
        self.first = nn.Parameter(start[:1])
        self.gaps = nn.Parameter(torch.log(torch.expm1(start.diff())))  # softplus of them is the distance between neighbours
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, h: Encoded, target=None) -> Tensor:
        """cumulative logits (B, K-1), increasing"""
        cuts = torch.cat([self.first, self.first + F.softplus(self.gaps).cumsum(0)])
        return cuts - self.linear(h.pooled())

    def nll(self, out, target, known):
        total = -log_probabilities(out).gather(1, target.unsqueeze(1)).squeeze(1)
        return total * known, known.to(total.dtype)

    def predict(self, out) -> Prediction:
        out = out / self.temperature
        p = log_probabilities(out).exp()
        value = (out < 0).sum(1)  # the first class with P(y <= k) >= 1/2
        return Prediction(value=value, probabilities=p / p.sum(1, keepdim=True), score=p.gather(1, value.unsqueeze(1)).squeeze(1))

    def divergence(self, student, teacher, temperature) -> Tensor:
        s, t = log_probabilities(student / temperature), log_probabilities(teacher / temperature)
        return temperature**2 * (t.exp() * (t - s)).sum(-1)


def log_probabilities(out: Tensor) -> Tensor:
    """(B, K) of cumulative logits (B, K-1). sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)): no difference of near-equal numbers."""
    gap = out.diff(dim=1).clamp(min=1e-6)
    inside = F.pad(torch.log(-torch.expm1(-gap)), (1, 1))
    return F.pad(F.logsigmoid(out), (0, 1)) + F.pad(F.logsigmoid(-out), (1, 0)) + inside
