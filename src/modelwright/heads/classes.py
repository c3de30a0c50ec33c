"""One of K classes: softmax and cross-entropy, with a temperature that calibration sets (Guo et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Prediction
from ..model import Head


class Classes(Head):
    says = "class"
    calibrates = True

    def __init__(self, smoothing: float = 0.0):
        super().__init__()
        self.smoothing = smoothing

    def build(self, kind, width, encoder=None) -> None:
        self.linear = nn.Linear(width, kind.classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, h: Encoded, target=None) -> Tensor:
        """logits (B, K)"""
        return self.linear(h.pooled())

    def nll(self, out, target, known):
        smoothing = self.smoothing if self.training else 0.0
        total = F.cross_entropy(out, target, reduction="none", label_smoothing=smoothing)
        return total * known, known.to(total.dtype)

    def predict(self, out) -> Prediction:
        p = (out / self.temperature).softmax(-1)
        score, value = p.max(-1)
        return Prediction(value=value, probabilities=p, score=score)

    def divergence(self, student, teacher, temperature) -> Tensor:
        s, t = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
        return temperature**2 * (t.exp() * (t - s)).sum(-1)
