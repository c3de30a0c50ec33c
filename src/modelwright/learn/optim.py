"""Optimizers and learning-rate schedules.

The optimizers are torch's own fused kernels, called directly: bit for bit `torch.optim` with fused=True, without its first constructor (which imports
the compiler, two seconds in every process) and without the bookkeeping of its `step` (longer than the update itself where a model is small).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..settings import Settings


class Optimizer:
    """Updates parameters by their `.grad`, in place; those without one stay. param_groups: {params, lr, base, weight_decay}, one dtype each."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float):
        self.param_groups, self.momentum = groups, momentum
        self.state = [[self.begin(p) for p in group["params"]] for group in groups]

    @torch.no_grad()
    def step(self) -> None:
        for group, state in zip(self.param_groups, self.state, strict=True):
            there = [(p, p.grad, *kept) for p, kept in zip(group["params"], state, strict=True) if p.grad is not None]
            if there:
                self.update(*map(list, zip(*there, strict=True)), lr=group["lr"], weight_decay=group["weight_decay"])

    def begin(self, p: Tensor) -> list[Tensor]:
        """What is kept for a parameter."""
        raise NotImplementedError

    def update(self, parameters: list[Tensor], gradients: list[Tensor], *kept: list[Tensor], lr: float, weight_decay: float) -> None:
        """One step of a group; kept: aligned with the parameters, as `begin` made them."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mine, theirs in zip(self.state, state["state"], strict=True):
            for a, b in zip(mine, theirs, strict=True):
                for kept, t in zip(a, b, strict=True):
                    kept.copy_(t)


class AdamW(Optimizer):
    """Loshchilov & Hutter 2019; momentum is the first beta, the second is 0.99."""

    def begin(self, p):
        return [torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device)]

    def update(self, parameters, gradients, means, squares, steps, lr, weight_decay):
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters, gradients, means, squares, [], steps,
            lr=lr, beta1=self.momentum, beta2=0.99, weight_decay=weight_decay, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


class SGD(Optimizer):
    """With Nesterov momentum (Sutskever et al. 2013), or plain where momentum is 0."""

    def begin(self, p):
        return [torch.zeros_like(p)]

    def update(self, parameters, gradients, buffers, lr, weight_decay):
        torch._fused_sgd_(
            parameters, gradients, buffers if self.momentum else [],
            lr=lr, momentum=self.momentum, nesterov=self.momentum > 0, weight_decay=weight_decay, dampening=0.0, maximize=False, is_first_step=False,
        )  # fmt: skip


def optimizer(parameters: list[Tensor], multipliers: dict[nn.Parameter, float], s: Settings) -> Optimizer:
    """Weight decay on matrices only (biases, norms and single vectors are left alone); one group per (decay, rate multiplier, dtype)."""
    groups: dict[tuple[bool, float, torch.dtype], list[Tensor]] = {}
    for p in parameters:
        groups.setdefault((p.dim() >= 2, multipliers.get(p, 1.0), p.dtype), []).append(p)
    made = [
        {"params": ps, "lr": s.lr * rate, "base": s.lr * rate, "weight_decay": s.weight_decay if decays else 0.0}
        for (decays, rate, _), ps in groups.items()
    ]
    return (SGD if s.optimizer == "sgd" else AdamW)(made, s.momentum)


def factor(schedule: str, warmup: float, fraction: float) -> float:
    """What the learning rate is multiplied by at a fraction of the stage: linear warm-up, then cosine or linear to zero, or constant."""
    if fraction < warmup:
        return max(fraction / warmup, 1e-3)
    x = (fraction - warmup) / (1 - warmup)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * x)), "linear": 1 - x, "constant": 1.0}[schedule]


def set_rate(optimizers: list[Optimizer], by: float) -> None:
    for o in optimizers:
        for group in o.param_groups:
            group["lr"] = group["base"] * by


def clip_(gradients: list[Tensor | None], limit: float) -> Tensor:
    """Scale to at most `limit` in joint L2 norm, in place; the norm before."""
    present = [g for g in gradients if g is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))
    torch._foreach_mul_(present, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
