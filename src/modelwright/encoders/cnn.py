"""A picture through a plain convolutional network, two to four layers: small, quick, without residuals.

Each layer is a 3x3 convolution, 2x2 max pooling while the grid is at least 4 pixels wide, norm and activation; widths double (LeCun et al. 1998 in
today's words). Group norm by default, so that rows stay apart: private training works as it is; without a norm, interval bounds pass
through (`strategies: [certified]`). Pixels are centred by (x - 0.5) / 0.25.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..forms import Encoded
from ..kind import Kind
from ..layers.residual import ConvNorm
from ..model import Encoder


class CNN(Encoder):
    takes = frozenset({"picture"})

    def __init__(
        self,
        width: int = 32,
        depth: Literal[2, 3, 4] = 3,
        norm: Literal["batch", "group", "none"] = "group",
        activation: Literal["relu", "gelu", "silu"] = "relu",
    ):
        """width: of the first layer, doubled by each one after it. depth: layers."""
        super().__init__()
        if width < 1:
            raise ValueError(f"width ({width}) must be at least 1")
        self.first_width, self.depth, self.norm, self.activation = width, depth, norm, activation
        self.width = width * 2 ** (depth - 1)

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        height, width = kind.size_
        read, w = kind.channels_, self.first_width
        self.layers = nn.ModuleList()
        self.levels = []  # (channels, height, width) of the pyramid
        for _ in range(self.depth):
            pool = min(height, width) >= 4
            height, width = (height // 2, width // 2) if pool else (height, width)
            self.layers.append(ConvNorm(read, w, pool, self.norm, self.activation))
            self.levels.append((w, height, width))
            read, w = w, 2 * w
        self.grid = (height, width)

    def forward(self, x: Tensor, mask=None, state=None) -> Encoded:
        """x (B, C, H, W) in [0, 1]; z (B, grid's H * W, width), row by row."""
        h = (x - 0.5) / 0.25
        pyramid = []
        for layer in self.layers:
            h = layer(h)
            pyramid.append(h)
        z = h.flatten(2).transpose(1, 2)  # pooled over tokens: in channels-last the backward pass of a mean over (2, 3) takes several times as long
        return Encoded(z, grid=self.grid, vector=(z.amax(1) + z.mean(1)) / 2, pyramid=pyramid)
