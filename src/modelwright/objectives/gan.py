"""Pictures from noise by two players: a critic learns to tell real from generated, the model to leave it nothing to tell.

Goodfellow et al. 2014, with the relativistic pairing of Jolicoeur-Martineau 2019 and zero-centred gradient penalties (Mescheder et al. 2018) on real and
generated pictures, as in Huang et al. 2024 ("The GAN is dead; long live the GAN!", R3GAN, equations 2 and 5); x real, G(z) generated, row by row:

    critic   softplus(-(D(x) - D(G(z)))) + penalty / 2 (|grad D(x)|^2 + |grad D(G(z))|^2)
    model    softplus(  D(x) - D(G(z)))

Each generated picture is judged against its own row's real one: modes cannot be dropped for free, and no row's loss looks at another, so private
training composes. `loss: non_saturating` is the classic pair -log D(G(z)) with the penalty on real pictures alone. The critic lives here and never
ships. Its loss on validation says nothing of the pictures, so the last model is kept. Left out: conditions, augmentation of what the critic sees.
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
        loss: Literal["relativistic", "non_saturating"] = "relativistic",
        penalty: Annotated[float, Field(ge=0)] = 1.0,
        width: Annotated[int, Field(ge=1)] = 32,
        target: str | None = None,
    ):
        """penalty: gamma, of pixels in [-1, 1]. width: of the critic's first layer. target: which picture; None: the only one."""
        super().__init__()
        self.form, self.penalty, self.width, self.target = loss, penalty, width, target

    def build(self, model: Model, schema) -> None:
        pictures = [t for t, kind in schema.targets.items() if kind.head == "picture" and self.target in (None, t)]
        if len(pictures) != 1:
            what = f"{len(pictures)} targets are pictures" if self.target is None else f"there is no picture target {self.target!r}"
            raise refuse("gan.target", what, where="objective.gan", why="it makes one picture a row", fix="target: {NAME: picture}, gan: {target: NAME}")
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
    """(B, C, H, W) in [0, 1] -> (B,): 3x3 convolutions, average pooling while the shorter side is at least 8; no norm, so rows stay apart."""

    def __init__(self, channels: int, size: list[int], width: int):
        super().__init__()
        height, width_ = size
        self.layers = nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1)])
        while min(height, width_) >= 8:
            height, width_ = math.ceil(height / 2), math.ceil(width_ / 2)
            self.layers.append(nn.Conv2d(width, min(2 * width, 512), 3, padding=1))
            width = min(2 * width, 512)
        self.last = nn.Linear(width * height * width_, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.layers[0](2 * x - 1), 0.2)
        for layer in self.layers[1:]:
            x = F.leaky_relu(layer(F.avg_pool2d(x, 2, ceil_mode=True)), 0.2)
        return self.last(x.flatten(1)).squeeze(1)
