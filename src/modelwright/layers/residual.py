"""Convolution, normalisation and activation, and a residual pair of them: what the picture encoders share. B batch, C channels, H height, W width."""

from __future__ import annotations

from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def norm(name: str, width: int) -> nn.Module:
    """batch: statistics over the batch (fast; couples rows in training). group: over each row's groups of about 16 channels (Wu & He 2018).
    none: nothing; the convolution before it then has a bias."""
    if name == "batch":
        return nn.BatchNorm2d(width)
    if name == "none":
        return nn.Identity()
    groups = max(g for g in range(1, max(1, width // 16) + 1) if width % g == 0)
    return nn.GroupNorm(groups, width)


class ConvNorm(nn.Module):
    """3x3 convolution -> 2x2 max pooling, where asked -> norm -> activation. Pooling before the norm quarters the norm's work (Page 2018)."""

    def __init__(self, read: int, width: int, pool: bool, norm_: str, activation: str):
        super().__init__()
        self.conv = nn.Conv2d(read, width, 3, padding=1, bias=norm_ == "none")
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = norm(norm_, width)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, read, H, W) -> (B, width, H, W), or half of H and W (rounded down)"""
        return self.activation(self.norm(self.pool(self.conv(x))))


class Residual(nn.Module):
    """x + f(x), f being `depth` of ConvNorm (He et al. 2016, without an activation after the sum)."""

    def __init__(self, width: int, depth: int, norm_: str, activation: str):
        super().__init__()
        self.branch = nn.Sequential(*(ConvNorm(width, width, False, norm_, activation) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)
