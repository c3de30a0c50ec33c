"""Integrated gradients (Sundararajan et al. 2017): the mean slope on the straight way from the baseline to the row.

"Axiomatic Attribution for Deep Networks", equation 1: (x - b) * integral over a in [0, 1] of df(b + a (x - b)) / dx, by the midpoint rule. Complete up
to the rule's error. As in section 5, the sum is held against f(x) - f(b): while it is off by more than 5 %, over all rows, steps are tripled, at most
twice (networks that embed numbers in bins bend at every edge on the way). Midpoints of a third of the width hold the earlier ones, which are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..explainer import Explainer, Function, slope

GAP, TRIPLED = 0.05, 2


class IntegratedGradients(Explainer):
    gradients = True
    takes = frozenset({"table", "picture"})
    complete = True

    def __init__(self, steps: int = 32):
        """steps: to begin with."""
        if steps < 1:
            raise ValueError(f"steps ({steps}) must be at least 1")
        self.steps = steps

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            change = (f(x) - f(baseline.expand_as(x))).gather(1, classes[:, None]).squeeze(1)
        total, steps = torch.zeros_like(x), self.steps
        for i in range(steps):
            total += slope(f, baseline + (i + 0.5) / steps * (x - baseline), classes)
        for _ in range(TRIPLED):
            short = ((x - baseline) * total / steps).flatten(1).sum(1) - change
            if short.abs().sum() <= GAP * change.abs().sum():
                break
            steps *= 3
            for i in range(steps):
                if i % 3 != 1:  # else it is the midpoint of the interval that was cut in three
                    total += slope(f, baseline + (i + 0.5) / steps * (x - baseline), classes)
        return (x - baseline) * total / steps
