"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..settings import Settings


def optimizer(parameters: list[Tensor], multipliers: dict[nn.Parameter, float], s: Settings) -> torch.optim.Optimizer:
    """Weight decay on matrices only (biases, norms and single vectors are left alone); one group per (decay, rate multiplier)."""
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for p in parameters:
        groups.setdefault((p.dim() >= 2, multipliers.get(p, 1.0)), []).append(p)
    made = [
        {"params": ps, "lr": s.lr * rate, "base": s.lr * rate, "weight_decay": s.weight_decay if decays else 0.0}
        for (decays, rate), ps in groups.items()
    ]
    if s.optimizer == "sgd":
        return torch.optim.SGD(made, lr=s.lr, momentum=s.momentum, nesterov=s.momentum > 0, fused=True)
    return torch.optim.AdamW(made, lr=s.lr, betas=(s.momentum, 0.99), fused=True)


def factor(schedule: str, warmup: float, fraction: float) -> float:
    """What the learning rate is multiplied by at a fraction of the stage: linear warm-up, then cosine or linear to zero, or constant."""
    if fraction < warmup:
        return max(fraction / warmup, 1e-3)
    x = (fraction - warmup) / (1 - warmup)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * x)), "linear": 1 - x, "constant": 1.0}[schedule]


def set_rate(optimizers: list[torch.optim.Optimizer], by: float) -> None:
    for o in optimizers:
        for group in o.param_groups:
            group["lr"] = group["base"] * by


def clip_(gradients: list[Tensor | None], limit: float) -> Tensor:
    """Scale to at most `limit` in joint L2 norm, in place; the norm before."""
    present = [g for g in gradients if g is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))
    torch._foreach_mul_(present, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
