"""Pictures from noise by two players: a critic learns to tell real from generated, the model to leave it nothing to tell.

The non-saturating loss of Goodfellow et al. 2014 with a zero-centred gradient penalty on real pictures ("R1", Mescheder et al. 2018, equation 9);
x real, G(z) generated, D the critic, row by row:

    critic   softplus(-D(x)) + softplus(D(G(z))) + penalty / 2 |grad D(x)|^2
    model    softplus(-D(G(z)))

No row's loss looks at another. `loss: relativistic` judges each generated picture against its own row's real one,
softplus(D(G(z)) - D(x)), and the other way round for the model, with the penalty on both (R3GAN, Huang et al. 2024, equations 2 and 5). The critic
lives here and never ships. A loss on validation says nothing of the pictures, so none is taken and the last model is kept; the strategy `average`
makes it steadier. Left out: conditions, augmentation of what the critic sees, privacy of the critic alone (dp_sgd accounts for one player).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import refuse
from ..forms import Batch, Loss, Term
from ..model import Model
from ..objective import Objective


class GAN(Objective):
    players = {"critic": 1, "model": 1}
    validates = False

    def __init__(
        self,
        loss: Literal["non_saturating", "relativistic"] = "non_saturating",
        penalty: Annotated[float, Field(ge=0)] = 0.1,
        width: Annotated[int, Field(ge=1)] = 32,
        target: str | None = None,
    ):
        """penalty: gamma, of pixels in [-1, 1]. width: of the critic's first layer. target: which picture; None: the only one."""
        super().__init__()
        self.form, self.penalty, self.width, self.target = loss, penalty, width, target

    def learning(self, rows: int):
        """No momentum: it makes the two circle around each other (Gidel et al. 2019). A fixed number of updates, whatever the rows."""
        return {"lr": 2e-3, "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.02, "clip": None, "batch_size": 32, "steps": 2500}

    def build(self, model: Model, schema) -> None:
        pictures = [t for t, kind in schema.targets.items() if kind.head == "picture" and self.target in (None, t)]
        if len(pictures) != 1:
            what = f"{len(pictures) or 'none'} of the targets are pictures" if self.target is None else f"there is no picture target {self.target!r}"
            fix = "target: {NAME: picture}, gan: {target: NAME}"
            raise refuse("gan.target", what, where="objective.gan", why="it makes one picture a row", fix=fix)
        stray = [n for n, kind in schema.inputs.items() if not kind.drawn]
        if stray or not schema.inputs:
            what = f"{', '.join(stray[:5])} would be inputs" if stray else "there is no noise"
            why = "the critic would not see them, so nothing would make a picture fit them" if stray else "there would be one picture"
            fix = f"columns: {{{', '.join(f'{n}: ignore' for n in stray[:5])}}}" if stray else "columns: {z: noise}"
            raise refuse("gan.inputs", what, where="objective.gan", why=why, fix=fix)
        (self.made,) = pictures
        self.heads = [self.made]
        kind = schema.targets[self.made]
        self.critic = Critic(kind.channels_, kind.size_, self.width)

    def parameters_of(self, model: Model, player: str) -> list[Tensor]:
        return [p for p in (self.critic if player == "critic" else model).parameters() if p.requires_grad]

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        real, known = batch.targets[self.made], batch.knows(self.made).float()
        with torch.set_grad_enabled(player == "model" and torch.is_grad_enabled()):
            fake = model.heads[self.made].predict(model(batch, [self.made])[self.made]).value
        with torch.autocast(real.device.type, enabled=False):  # a penalty on gradients in half precision is noise
            total, metrics = self.of_critic(real, fake) if player == "critic" else self.of_model(real, fake)
        return Loss({player: Term(total * known, known)}, metrics=metrics).times(batch.weight)

    def of_critic(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B,) and figures to log"""
        if self.form == "relativistic":
            (d_real, slope), (d_fake, slope_fake) = sloped(self.critic, real), sloped(self.critic, fake)
            return F.softplus(d_fake - d_real) + 0.5 * self.penalty * (slope + slope_fake), {}
        d_real, slope = sloped(self.critic, real)
        return F.softplus(-d_real) + F.softplus(self.critic(fake)) + 0.5 * self.penalty * slope, {}

    def of_model(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        d_real, d_fake = self.critic(real), self.critic(fake)
        total = F.softplus(d_real - d_fake) if self.form == "relativistic" else F.softplus(-d_fake)
        return total, {"critic.real": d_real.mean().detach(), "critic.generated": d_fake.mean().detach()}


def sloped(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """D(x) (B,) and |grad D|^2 at x (B,), which can be differentiated again. Rows are apart, so the gradient of the sum is each row's own."""
    d, back = torch.func.vjp(critic, x)
    (slope,) = back(torch.ones_like(d))
    return d, (slope / 2).square().flatten(1).sum(1)  # pixels in [-1, 1] are twice as far apart as those in [0, 1]


class Critic(nn.Module):
    """(B, C, H, W) in [0, 1] -> (B,): 3x3 convolutions and average pooling while the shorter side is at least 16, then dense layers.

    No norm, so rows stay apart."""

    def __init__(self, channels: int, size: list[int], width: int):
        super().__init__()
        height, across = size
        self.convolutions, dense = nn.ModuleList(), 8 * width
        while min(height, across) >= 16:
            self.convolutions.append(nn.Conv2d(channels, width, 3, padding=1))
            height, across, channels, width = math.ceil(height / 2), math.ceil(across / 2), width, min(2 * width, 512)
        self.dense = nn.ModuleList([nn.Linear(channels * height * across, dense), nn.Linear(dense, dense)])
        self.last = nn.Linear(dense, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = 2 * x - 1
        for layer in self.convolutions:
            x = F.avg_pool2d(F.leaky_relu(layer(x), 0.2), 2, ceil_mode=True)
        x = x.flatten(1)
        for layer in self.dense:
            x = F.leaky_relu(layer(x), 0.2)
        return self.last(x).squeeze(1)
