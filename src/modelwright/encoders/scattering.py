"""A picture through a scattering transform: fixed wavelets, nothing to learn; of all picture encoders the one that loses least to private training.

Bruna & Mallat 2013, "Invariant Scattering Convolution Networks", two scales (J = 2), two orders: with Morlet wavelets psi of `angles` directions and a
Gaussian phi of four pixels,

    S0 = x * phi      S1 = |x * psi1| * phi      S2 = ||x * psi1| * psi2| * phi      psi2 coarser than psi1

each sampled at every fourth pixel: 1 + 2 L + L^2 numbers a place (81 for 8 angles) and channel. Each row's are normalised in groups of three paths, and
the whole has norm 4, so that rows' gradients are alike and clipping takes little. Filters are as in Kymatio (Andreux et al. 2020), cut where they
end; |x * psi| is kept at every second pixel, which the second order's filters and the Gaussian forgive.

Why for privacy: noise falls on every parameter, and here they are the head's alone (Tramer & Boneh 2021, "Differentially Private Learning Needs Better
Features": 89.7 % on Fashion-MNIST at epsilon 3, where networks of learnt filters reach 86.0). Left out: more scales, rotation invariance, tokens by place.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ..forms import Encoded
from ..kind import Kind
from ..model import Encoder

NORM = 4.0  # of a row: gradients of rows that are well learnt stay below the usual clip of 1


class Scattering(Encoder):
    takes = frozenset({"picture"})

    def __init__(self, angles: Annotated[int, Field(ge=1, le=16)] = 8):
        super().__init__()
        self.angles = angles

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        h, w = kind.size_
        fixed = {"fine": wavelets(self.angles, 0), "coarse": wavelets(self.angles, 1)}
        fixed |= {"rows1": smoothing(h), "columns1": smoothing(w), "rows2": smoothing((h + 1) // 2), "columns2": smoothing((w + 1) // 2)}
        for name, filters in fixed.items():
            self.register_buffer(name, filters, persistent=False)
        self.paths = kind.channels_ * (1 + 2 * self.angles + self.angles**2)
        self.width = self.paths * len(self.rows2) * len(self.columns2)

    def learning(self, rows: int) -> dict[str, Any]:
        """The loss is convex in all that is learnt. Private: SGD over large batches, as rows' gradients have like norms (chosen on Fashion-MNIST's training
        rows: batches of 4,096 take too few steps, of 1,024 cost a point at epsilon 1)."""
        private = {"optimizer": "sgd", "lr": 4.0, "weight_decay": 0.0, "batch_size": max(16, min(2048, rows // 20)), "epochs": 10.0}
        return {"lr": 0.03, "weight_decay": 0.0, "epochs": 10.0, "private": private}

    def forward(self, x: Tensor, mask=None, state=None) -> Encoded:
        """x (B, C, H, W) in [0, 1]; z (B, 1, width): every path at every place."""
        b, c, n = x.shape[0], x.shape[1], self.angles
        single = x.flatten(0, 1).unsqueeze(1)  # every channel by itself
        first = modulus(single, self.fine, 2)  # (BC, L, H/2, W/2)
        second = modulus(first.flatten(0, 1).unsqueeze(1), self.fine, 1).unflatten(0, (b * c, n)).flatten(1, 2)
        half = smoothed(single, self.rows1, self.columns1)
        maps = torch.cat([half, first, modulus(single, self.coarse, 2), second], 1)
        maps = smoothed(maps, self.rows2, self.columns2).reshape(b, self.paths, -1)
        groups = max(g for g in range(1, self.paths // 3 + 1) if self.paths % g == 0) if self.paths > 3 else 1
        maps = F.group_norm(maps, groups, eps=1e-7)  # second orders are small
        return Encoded(maps.flatten(1).unsqueeze(1) * NORM / self.width**0.5)


def modulus(x: Tensor, filters: Tensor, stride: int) -> Tensor:
    """|x * psi|: x (B, 1, H, W), filters (2 L, 1, K, K), real parts then imaginary ones -> (B, L, H / stride, W / stride)"""
    x = F.pad(x, [filters.shape[-1] // 2] * 4, mode="replicate")
    real, imaginary = F.conv2d(x, filters, stride=stride).chunk(2, 1)
    return (real**2 + imaginary**2 + 1e-12).sqrt()


def smoothed(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x * phi at every second place: x (..., H, W), as two matrix products."""
    return ((x @ columns.T).transpose(-1, -2) @ rows.T).transpose(-1, -2)


def wavelets(angles: int, scale: int) -> Tensor:
    """(2 L, 1, K, K): Morlet wavelets of sum 0; sigma 0.8 2^j, frequency 3 pi / 4 / 2^j, longer across the direction than along it by L / 4."""
    sigma, frequency, slant = 0.8 * 2**scale, 0.75 * math.pi / 2**scale, 4 / max(4, angles)
    radius = math.ceil(2.5 * sigma / slant)
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, dtype=torch.float64)] * 2, indexing="ij")
    found = []
    for i in range(angles):
        angle = math.pi * i / angles
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        bell = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2)) * slant / (2 * math.pi * sigma**2)
        wave = torch.polar(bell, frequency * along)
        found.append(wave - bell * (wave.sum() / bell.sum()))
    both = torch.stack(found)
    return torch.cat([both.real, both.imag]).unsqueeze(1).float()


def smoothing(n: int, sigma: float = 0.8) -> Tensor:
    """(N / 2, N): a Gaussian about every second of n places; beyond the edge the edge goes on."""
    found, reach = torch.zeros((n + 1) // 2, n, dtype=torch.float64), math.ceil(3 * sigma)
    for i in range(len(found)):
        for d in range(-reach, reach + 1):
            found[i, min(max(2 * i + d, 0), n - 1)] += math.exp(-(d**2) / (2 * sigma**2))
    return (found / found.sum(1, keepdim=True)).float()
