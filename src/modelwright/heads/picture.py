"""A picture: from one vector through convolutions on a grid that doubles, each pixel's mean in [0, 1].

Two dense layers paint the smallest grid (up to 15 pixels on the shorter side: so small, they cost a tenth of convolutions), then nearest-neighbour
doubling and a 3x3 convolution for every step up to the picture's size, halving the channels: the generator of Radford et al. 2016 ("DCGAN") without
transposed convolutions, which leave a chequerboard (Odena et al. 2016), and with one group norm a row instead of batch norm, so that rows stay apart.
The likelihood of a pixel is normal with one learned spread for all; the unit of count is a value (a pixel's channel). Left out: attention, skips from
an encoder (U-Net).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..forms import Encoded, Prediction
from ..model import Head


class Picture(Head):
    says = "picture"

    def __init__(self, width: int = 16):
        """width: channels of the last grid; twice as many on each smaller one, at most 8 times."""
        super().__init__()
        if width < 1:
            raise ValueError(f"width ({width}) must be at least 1")
        self.width = width

    def build(self, kind, width, encoder=None) -> None:
        sizes = [tuple(kind.size_)]
        while min(sizes[0]) >= 16:
            sizes.insert(0, tuple(math.ceil(n / 2) for n in sizes[0]))
        widths = [self.width * min(8, 2 ** (len(sizes) - 1 - i)) for i in range(len(sizes))]
        self.sizes = sizes
        self.hidden = nn.Linear(width, 8 * self.width)
        self.first = nn.Linear(8 * self.width, widths[0] * sizes[0][0] * sizes[0][1])
        self.norms = nn.ModuleList([nn.GroupNorm(1, w) for w in widths])
        self.steps = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False)])
        self.last = nn.Conv2d(widths[-1], kind.channels_, 3, padding=1)
        self.log_sd = nn.Parameter(torch.tensor(-1.0))

    def forward(self, h: Encoded, target=None) -> Tensor:
        """(B, C, H, W): the logit of each mean"""
        x = self.first(F.leaky_relu(self.hidden(h.pooled()), 0.2)).unflatten(1, (-1, *self.sizes[0]))
        x = F.leaky_relu(self.norms[0](x), 0.2)
        for step, norm, size in zip(self.steps, self.norms[1:], self.sizes[1:], strict=True):
            x = F.leaky_relu(norm(step(F.interpolate(x, size))), 0.2)
        return self.last(x)

    def nll(self, out, target, known):
        log_sd = self.log_sd.clamp(-5, 3)
        each = 0.5 * ((out.sigmoid() - target) * torch.exp(-log_sd)) ** 2 + log_sd + 0.5 * math.log(2 * math.pi)
        return each.flatten(1).sum(1) * known, known * float(out[0].numel())

    def predict(self, out) -> Prediction:
        return Prediction(value=out.sigmoid())

    def divergence(self, student, teacher, temperature) -> Tensor:
        """KL of normals with the same spread, a value's mean; a temperature would only rescale it."""
        return (0.5 * ((student.sigmoid() - teacher.sigmoid()) * torch.exp(-self.log_sd)) ** 2).flatten(1).mean(1)
