"""How a gradient is estimated. A rule returns summed gradients with what to divide them by; it never divides, so processes can add up first.

`Plain` is an ordinary backward pass, exact under accumulation: each term of the loss is divided by its count over the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .forms import Batch
from .objective import Learner


@dataclass
class Estimate:
    """parts: (gradients summed over rows, aligned with the parameters, None where untouched; count to divide by). loss: mean, detached."""

    parts: list[tuple[list[Tensor | None], Tensor | float]]
    loss: Tensor
    metrics: dict[str, Tensor]


class GradientRule:
    def estimate(self, learner: Learner, parameters: list[Tensor], batch: Batch, player: str, micro: int | None) -> Estimate:
        """micro: the most rows that one pass may hold, None = all."""
        raise NotImplementedError


class Plain(GradientRule):
    """One backward pass; with micro-batches one pass each, and one backward per term where there are several (their counts differ)."""

    def estimate(self, learner, parameters, batch, player, micro=None):
        if micro is None or len(batch) <= micro:
            loss = learner(batch, player)
            mean = loss.mean()
            gradients = torch.autograd.grad(mean, parameters, allow_unused=True)
            return Estimate([(list(gradients), 1.0)], mean.detach(), loss.metrics)
        sums: dict[str, tuple[list[Tensor | None], Tensor]] = {}
        values: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}  # means over the rows
        for start in range(0, len(batch), micro):
            part = batch.select(slice(start, start + micro))
            loss = learner(part, player)
            metrics |= {k: metrics.get(k, 0) + v * (len(part) / len(batch)) for k, v in loss.metrics.items()}
            terms = {k: (t.weight * t.total.sum(), t.count.sum().detach()) for k, t in loss.terms.items()}
            if loss.coupled is not None:
                terms["coupled"] = (loss.coupled * len(part), torch.tensor(float(len(part)), device=batch.device))
            for i, (name, (value, count)) in enumerate(terms.items()):
                gradients = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=i < len(terms) - 1)
                old, n = sums.get(name, ([None] * len(parameters), torch.zeros_like(count)))
                sums[name] = ([b if a is None else a if b is None else a + b for a, b in zip(old, gradients, strict=True)], n + count)
                values[name] = values.get(name, 0) + value.detach()
        total = sum(values[k] / sums[k][1].clamp(min=1) for k in sums)
        return Estimate([(g, n.clamp(min=1)) for g, n in sums.values()], total, metrics)
