"""Learn to act by proximal policy optimisation: many environments side by side, a few careful looks at what they brought.

Schulman et al. 2017 (PPO), eq. 7 and 9; advantages by Schulman et al. 2016, eq. 16 (see `data/rollouts.py`). Of the "37 implementation details"
(Huang et al. 2022), in: vectorised environments, orthogonal start with a small last layer of the policy, linear fall of the rate, generalised
advantages, shuffled minibatches, normalised advantages (over the whole collection: a row's loss then depends on that row alone), clipped ratio,
entropy bonus, gradient clipping, rewards scaled by the running spread of returns, time limits bootstrapped with the value of their last observation;
recurrent policies start from the state that they had. Left out: value clipping (no gain in Andrychowicz et al. 2021), Adam's epsilon of 1e-5, early
stop by KL.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from ..errors import Problem, Refusal
from ..forms import Batch, Loss, Term
from ..model import Model
from ..objective import Experience, Objective

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class ClippedPolicy(Objective):
    def __init__(
        self,
        clip: Annotated[float, Field(gt=0)] = 0.2,
        entropy: Weight = 0.0,
        value_weight: Weight = 0.2,
        copies: Count = 64,
        steps: Count = 32,
        passes: Count = 8,
        batch_size: Count = 1024,
        discount: Share = 0.99,
        trace: Annotated[float, Field(ge=0, le=1)] = 0.95,
    ):
        """copies, steps: so many environments, so many steps of each between updates; passes: over these; batch_size: steps in one update."""
        super().__init__()
        self.clip, self.entropy, self.value_weight = clip, entropy, value_weight
        self.experience = Experience(copies, steps, passes, batch_size, discount, trace)

    def learning(self, rows: int) -> dict[str, Any]:
        """A straight fall of the rate; fp32 as in acting (else old and new policy differ by rounding); epochs are collections."""
        return {"lr": 5e-3, "schedule": "linear", "warmup": 0.0, "clip": 0.5, "weight_decay": 0.0, "precision": "fp32", "validations": 8, "epochs": 80}

    def build(self, model: Model, schema) -> None:
        policies = [t for t, head in model.heads.items() if head.acts]
        values = [t for t, kind in schema.targets.items() if kind.head == "value"]
        if len(policies) != 1 or len(values) != 1:
            what = f"it needs one action and one value; the targets are {', '.join(model.heads) or 'none'}"
            raise Refusal(Problem("objective.targets", what, fix="target: {action: action, value: value}"))
        self.action, self.value = policies[0], values[0]
        problems = []
        for name, m in model.named_modules():
            drops = m.p if isinstance(m, nn.modules.dropout._DropoutNd) else m.dropout if isinstance(m, nn.RNNBase) else 0.0
            if drops > 0:
                why = "the policy that acts and the policy that learns would differ: their ratio would be noise"
                problems.append(Problem("objective.dropout", f"{name} drops {drops:g} of its outputs", why, fix="dropout: 0, in its encoder"))
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                why = "its statistics differ between acting and learning"
                problems.append(Problem("objective.batch_norm", f"{name} is a batch norm", why, fix="choose group or layer norm"))
            if isinstance(m, nn.RNNBase) and m.bidirectional:
                why = "a policy cannot read what is yet to come"
                problems.append(Problem("objective.direction", f"{name} reads in both directions", why, fix="bidirectional: false"))
        if problems:
            raise Refusal(problems)

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        """Per row (steps of one environment), summed over its steps; count: how many.

        metrics: approximate_kl, the mean of r - 1 - log r (Schulman 2020, "k3"); clip_fraction, how often the ratio r was beyond the clip."""
        mask, advantage = batch.extra["mask"], batch.extra["advantage"]
        state = {k.removeprefix("state."): v for k, v in batch.extra.items() if k.startswith("state.")}
        outs = model(batch, [self.action, self.value], state or None)
        policy, count = model.heads[self.action], mask.sum(1)
        change = policy.log_probability(outs[self.action], batch.targets[self.action]) - batch.extra["log_probability"]
        ratio = change.exp()
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        error = 0.5 * (outs[self.value] - batch.targets[self.value]) ** 2
        terms = {"policy": Term(-(surrogate * mask).sum(1), count), "value": Term((error * mask).sum(1), count, self.value_weight)}
        if self.entropy:
            terms["entropy"] = Term(-(policy.entropy(outs[self.action]) * mask).sum(1), count, self.entropy)
        with torch.no_grad():
            n, beyond = count.sum(), (ratio - 1).abs() > self.clip
            watched = {"approximate_kl": ((ratio - 1 - change) * mask).sum() / n, "clip_fraction": (beyond * mask).sum() / n}
        return Loss(terms, metrics=watched).times(batch.weight)
