"""A picture through a small residual network made for speed: the sound default for pictures.

After the CIFAR-10 speed runs (Page 2018, "How to train your ResNet"; Keller Jordan 2024, arXiv 2404.00498): few and wide layers, pooling before each
norm, one residual block a stage, and Muon, which gained six points on AdamW after a pass and a quarter of CIFAR-10 (docs/benchmarks.md). A stem, then three
stages of 1, 4 and 4 times the width, each halving the grid; larger pictures are cut into patches by the stem, so that the stages start at about
32 x 32 whatever the size. The summary is the mean of global max and global average pooling. Pixels are
centred by (x - 0.5) / 0.25, which needs no fitting. `norm: group` is the choice for private training, where rows must not be coupled. `views: 2` answers
for a picture and its mirror image together, `views: 6` for both also moved by a pixel to either corner, at as many times the cost of an answer. Left out: a
whitening stem (no sure gain beside Muon).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ..forms import Encoded
from ..kind import Kind
from ..layers.residual import ConvNorm, Residual
from ..model import Encoder


class ResNet(Encoder):
    takes = frozenset({"picture"})

    def __init__(
        self,
        width: int = 32,
        depth: int = 1,
        norm: Literal["batch", "group"] = "batch",
        activation: Literal["relu", "gelu", "silu"] = "relu",
        patch: int | None = None,
        views: Literal[1, 2, 6] = 1,
    ):
        """width: of the first stage; 4 times as much is handed on. depth: convolutions in each residual block, 0: none. patch: pixels a side that the stem
        makes one of; None: such that about 32 x 32 remain (fewer pixels find smaller things, for boxes and masks). views: once trained, the vector is
        the mean over so many views of the picture, under a linear head the mean of their logits: 2, with its mirror image (Krizhevsky et al. 2012,
        section 4.1); 6, both moved by a pixel up and left and down and right as well, these at half the weight (after Jordan 2024)."""
        super().__init__()
        if width < 1 or depth < 0 or (patch is not None and patch < 1):
            raise ValueError(f"width ({width}) and patch ({patch}) must be at least 1 and depth ({depth}) at least 0")
        self.patch, self.views = patch, views
        self.first_width, self.depth, self.norm, self.activation = width, depth, norm, activation
        self.width = 4 * width

    def learning(self, rows: int) -> dict:
        return {"optimizer": "muon", "lr": 0.015, "weight_decay": 0.5} | ({"batch_size": 256} if rows >= 5000 else {})

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        height, width = kind.size_
        patch = self.patch or max(1, 2 ** round(math.log2(min(height, width) / 32)))
        w = min(24, self.first_width)
        first = nn.Conv2d(kind.channels_, w, 3, padding=1) if patch == 1 else nn.Conv2d(kind.channels_, w, patch, patch)
        self.stem = nn.Sequential(first, ConvNorm(w, w, False, self.norm, self.activation) if patch > 1 else nn.ReLU())
        self.stages = nn.ModuleList()
        height, width = height // patch, width // patch
        self.levels = []  # (channels, height, width) of the pyramid
        for wider in (self.first_width, self.width, self.width):
            pool = min(height, width) >= 4
            height, width = (height // 2, width // 2) if pool else (height, width)
            stage = [ConvNorm(w, wider, pool, self.norm, self.activation)]
            stage += [Residual(wider, self.depth, self.norm, self.activation)] if self.depth else []
            self.stages.append(nn.Sequential(*stage))
            w = wider
            self.levels.append((w, height, width))
        self.grid = (height, width)

    def forward(self, x: Tensor, mask=None, state=None) -> Encoded:
        """x (B, C, H, W) in [0, 1]; z (B, grid's H * W, width), row by row."""
        found = self.once(x)
        if self.views > 1 and not self.training:
            found.vector = (found.vector + self.once(x.flip(3)).vector) / 2
        if self.views > 2 and not self.training:
            edged = nn.functional.pad(x, (1, 1, 1, 1), "replicate")
            moved = [edged[:, :, :-2, :-2], edged[:, :, 2:, 2:]]
            moved = [self.once(m).vector for v in moved for m in (v.contiguous(memory_format=torch.channels_last), v.flip(3))]
            found.vector = (found.vector + sum(moved) / 4) / 2
        return found

    def once(self, x: Tensor) -> Encoded:
        h = self.stem((x - 0.5) / 0.25)
        pyramid = []
        for stage in self.stages:
            h = stage(h)
            pyramid.append(h)
        z = h.flatten(2).transpose(1, 2)  # pooled over tokens: in channels-last the backward pass of a mean over (2, 3) takes several times as long
        return Encoded(z, grid=self.grid, vector=(z.amax(1) + z.mean(1)) / 2, pyramid=pyramid)
