"""The return from here on, for every step of a series, else one a row: a line.

Learned by squared error (Schulman et al. 2017, the second term of eq. 9).
"""

from __future__ import annotations

from torch import Tensor, nn

from ..forms import Encoded, Prediction, Ragged
from ..model import Head


class Value(Head):
    says = "value"
    decoder = "policy"

    def build(self, kind, width, encoder=None) -> None:
        self.steps = encoder is None or encoder.steps
        self.linear = nn.Linear(width, 1)
        nn.init.orthogonal_(self.linear.weight, 1.0)
        nn.init.zeros_(self.linear.bias)

    def forward(self, h: Encoded, target=None) -> Tensor:
        """(B, T), in units of the kind's `scale_`"""
        return self.linear(h.z if self.steps else h.pooled().unsqueeze(1)).squeeze(-1)

    def nll(self, out, target, known):
        """Half the squared error, summed over a row's steps: a normal distribution of spread 1 but for a constant. target (B, T) or Ragged."""
        values, mask = (target.values, target.mask) if isinstance(target, Ragged) else (target, None)
        each = 0.5 * (out - values) ** 2
        count = known * (target.lengths if mask is not None else each.shape[1])
        return (each if mask is None else each * mask).sum(1) * known, count.to(each.dtype)

    def predict(self, out) -> Prediction:
        return Prediction(value=out.squeeze(1) if out.shape[1] == 1 else out)

    def divergence(self, student, teacher, temperature) -> Tensor:
        return 0.5 * ((student - teacher) ** 2).mean(1)
