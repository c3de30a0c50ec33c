"""A number's quantiles, by the pinball loss (Koenker and Bassett 1978): a median and an interval that widens where the data are uncertain.

The loss is, up to a constant, the negative log-likelihood of an asymmetric Laplace distribution of scale 1 per level, averaged over the levels. The
median is free; the others stand off it by cumulative softplus gaps, so that quantiles never cross. Levels hold in the target's own units too, since
what undoes the standardisation is increasing. The divergence for distillation is half the squared Wasserstein-2 distance of the two quantile
functions at these levels: quantiles alone have no density to compare.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Prediction
from ..model import Head


class Quantiles(Head):
    def __init__(self, levels: tuple[float, ...] = (0.1, 0.5, 0.9)):
        """levels: increasing, in (0, 1), with 0.5 among them."""
        super().__init__()
        if list(levels) != sorted(set(levels)) or 0.5 not in levels or not 0 < levels[0] <= levels[-1] < 1:
            raise ValueError(f"levels {list(levels)} must increase from above 0 to below 1 and hold 0.5, the median")
        self.levels = tuple(levels)
        self.middle = self.levels.index(0.5)

    def build(self, kind, width, encoder=None) -> None:
        self.linear = nn.Linear(width, len(self.levels))
        nn.init.zeros_(self.linear.weight)  # starts at a standard normal's quantiles
        z = [NormalDist().inv_cdf(level) for level in self.levels]
        gaps = [math.log(math.expm1(b - a)) for a, b in zip(z[:-1], z[1:], strict=True)]
        with torch.no_grad():
            self.linear.bias.copy_(torch.tensor([*gaps[: self.middle], 0.0, *gaps[self.middle :]]))
        self.register_buffer("level", torch.tensor(self.levels), persistent=False)

    def forward(self, h: Encoded, target=None) -> Tensor:
        """quantiles (B, Q), increasing, in standard deviations of the target"""
        x, m = self.linear(h.pooled()), self.middle
        median, gaps = x[:, m : m + 1], F.softplus(x)
        below = median - gaps[:, :m].flip(1).cumsum(1).flip(1)
        return torch.cat([below, median, median + gaps[:, m + 1 :].cumsum(1)], 1)

    def nll(self, out, target, known):
        over = target.unsqueeze(1) - out
        total = torch.maximum(self.level * over, (self.level - 1) * over).mean(1)
        return total * known, known.to(total.dtype)

    def predict(self, out) -> Prediction:
        return Prediction(value=out[:, self.middle], quantiles=out, score=out[:, 0] - out[:, -1])

    def divergence(self, student, teacher, temperature) -> Tensor:
        return 0.5 * (student - teacher).square().mean(1)
