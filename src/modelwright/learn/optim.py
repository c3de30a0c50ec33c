"""Optimizers and learning-rate schedules.

AdamW and SGD are torch's own fused kernels, called directly: bit for bit `torch.optim` with fused=True, without its first constructor (which imports
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


class Muon(AdamW):
    """Filters and hidden matrices move by their orthogonalised momentum (Jordan et al. 2024), 0.2 sqrt(longer side) times the lr (Liu et al. 2025, arXiv
    2502.16982, equation 4). Vectors, embeddings and heads (`edge`) are AdamW's, at a fifth of the lr. Momentum is 0.6, Nesterov: short runs forget fast."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float, edge: set[Tensor]):
        self.edge = edge
        super().__init__(groups, momentum)

    def begin(self, p):
        return [torch.zeros_like(p)] if self.inner(p) else super().begin(p)

    def inner(self, p: Tensor) -> bool:
        return p.dim() >= 2 and p not in self.edge

    def update(self, parameters, gradients, *kept, lr, weight_decay):
        if not self.inner(parameters[0]):
            return super().update(parameters, gradients, *kept, lr=lr / 5, weight_decay=weight_decay)
        for p, g, m in zip(parameters, gradients, *kept, strict=True):
            m.mul_(0.6).add_(g)
            turn = orthogonal((g + 0.6 * m).flatten(1))
            p.mul_(1 - lr * weight_decay).add_(turn.view_as(p), alpha=-0.2 * lr * max(turn.shape) ** 0.5)


def orthogonal(g: Tensor, steps: int = 3) -> Tensor:
    """(M, N) -> about U V' of its singular value decomposition, by a quintic Newton-Schulz iteration in bf16. After so few steps small singular values are
    raised and not yet 1."""
    x = (g.T if g.shape[0] > g.shape[1] else g).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).to(g.dtype)


def optimizer(parameters: list[Tensor], multipliers: dict[nn.Parameter, float], s: Settings, edge: set[Tensor] = frozenset()) -> Optimizer:
    """Weight decay on matrices only (biases, norms and single vectors are left alone); one group per (decay, rate multiplier, dtype, edge)."""
    groups: dict[tuple[bool, float, torch.dtype, bool], list[Tensor]] = {}
    for p in parameters:
        groups.setdefault((p.dim() >= 2, multipliers.get(p, 1.0), p.dtype, p in edge), []).append(p)
    made = [
        {"params": ps, "lr": s.lr * rate, "base": s.lr * rate, "weight_decay": s.weight_decay if decays else 0.0}
        for (decays, rate, *_), ps in groups.items()
    ]
    if s.optimizer == "muon":
        return Muon(made, s.momentum, edge)
    return {"adamw": AdamW, "sgd": SGD}[s.optimizer](made, s.momentum)


def edge(model: nn.Module, heads: nn.Module) -> set[Tensor]:
    """Parameters that read one-hot inputs or speak: embeddings and heads."""
    ends = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    return {p for m in (*ends, heads) for p in m.parameters()}


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
    if not present:  # all of them are held back
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(present)))
    torch._foreach_mul_(present, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
