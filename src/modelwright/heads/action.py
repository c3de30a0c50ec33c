"""A policy: softmax over actions, or a normal distribution with one learned spread a component. For every step of an episode, else one a row.

The last layer starts orthogonal and small (gain 0.01), so that a new policy is near uniform, or near the middle of the bounds (Andrychowicz et al.
2021, "What matters in on-policy reinforcement learning", 3.2). The spread does not depend on the observation; it starts at `spread` of half the
bounds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import refuse
from ..forms import Encoded, Prediction, Ragged
from ..model import Head


class Action(Head):
    says = "action"
    decoder = "policy"
    acts = True

    def __init__(self, gain: float = 0.01, spread: float = 0.6):
        super().__init__()
        self.gain, self.spread = gain, spread

    def build(self, kind, width, encoder=None) -> None:
        self.discrete, self.steps = kind.classes is not None, kind.episodes_ and (encoder is None or encoder.steps)
        self.linear = nn.Linear(width, kind.size)
        nn.init.orthogonal_(self.linear.weight, self.gain)
        nn.init.zeros_(self.linear.bias)
        if not self.discrete:
            self.log_sd = nn.Parameter(torch.full((kind.size,), math.log(self.spread)))

    def forward(self, h: Encoded, target=None) -> Tensor | dict[str, Tensor]:
        """log-probabilities (B, T, A); or mean and log_sd (B, T, A) each, of a vector"""
        out = self.linear(h.z if self.steps else h.pooled().unsqueeze(1))
        return out.log_softmax(-1) if self.discrete else {"mean": out, "log_sd": self.log_sd.expand_as(out)}

    def act(self, out, rng: torch.Generator | None = None) -> Tensor:
        """(B, T) indices or (B, T, A): drawn, or the likeliest without rng."""
        if self.discrete:  # argmax p / e with e ~ Exp(1) draws from p
            return (out if rng is None else out - torch.empty_like(out).exponential_(generator=rng).log_()).argmax(-1)
        noise = 0 if rng is None else torch.empty_like(out["mean"]).normal_(generator=rng)
        return out["mean"] + out["log_sd"].exp() * noise

    def log_probability(self, out, action: Tensor) -> Tensor:
        """(B, T) of actions (B, T) or (B, T, A). A Refusal where a row's actions are not as many as the steps that were read."""
        read = (out if self.discrete else out["mean"]).shape[1]
        if read != action.shape[1]:
            what = f"the target has {action.shape[1]} actions a row, what the head reads has {read} steps"
            fix = "as many actions a row as its series has steps (fusion: concat), or one a row"
            raise refuse("head.steps", what, where="model.heads", fix=fix)
        if self.discrete:
            return out.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        z = (action - out["mean"]) * torch.exp(-out["log_sd"])
        return -(0.5 * z**2 + out["log_sd"] + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, out) -> Tensor:
        """(B, T) in nats"""
        if self.discrete:
            return -(out.exp() * out).sum(-1)
        return (out["log_sd"] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def nll(self, out, target, known):
        """Of steps: one a row, or an episode's (Ragged)."""
        if isinstance(target, Ragged):
            count = target.lengths * known
            total = -(self.log_probability(out, target.values) * target.mask).sum(1)
        else:
            target = target if target.dim() > (1 if self.discrete else 2) else target.unsqueeze(1)  # (B, T, ...)
            each = -self.log_probability(out, target)
            count, total = each.shape[1] * known, each.sum(1)
        return total * known, count.to(total.dtype)

    def predict(self, out) -> Prediction:
        """The likeliest; of episodes (B, T, ...)."""
        value = self.act(out)
        one = value.shape[1] == 1
        value = value.squeeze(1) if one else value
        p = out.exp().squeeze(1) if self.discrete and one else None
        return Prediction(value=value, action=value, probabilities=p, score=None if p is None else p.amax(-1))

    def divergence(self, student, teacher, temperature) -> Tensor:
        """Mean over tokens."""
        if self.discrete:
            s, t = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
            return temperature**2 * (t.exp() * (t - s)).sum(-1).mean(1)
        s, t = student, teacher
        ratio = torch.exp(2 * (t["log_sd"] - s["log_sd"]))
        distance = ((t["mean"] - s["mean"]) * torch.exp(-s["log_sd"])) ** 2
        return (0.5 * (ratio + distance - 1) + s["log_sd"] - t["log_sd"]).sum(-1).mean(1)
