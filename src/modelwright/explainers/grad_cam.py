"""Grad-CAM (Selvaraju et al. 2017): where in the picture the last layer that still has a grid speaks for the class.

"Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", equations 1 and 2: the weight of a channel is its gradient's mean
over the grid, the map is the ReLU of the weighted sum of channels, brought to the picture's size. The layer is the last activation (B, D, h, w) of
the picture's proportions that the class depends on, whatever module made it, so that any differentiable function of pictures can be asked.
The map is the same in every colour channel, and shared out among them. Left out: Guided Grad-CAM (it fails the randomisation test, Adebayo et al. 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import refuse
from ..explainer import Explainer, Function


class GradCAM(Explainer):
    gradients = True
    takes = frozenset({"picture"})

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        with torch.enable_grad(), Grids(x) as seen:
            score = f(x.detach().requires_grad_(True)).gather(1, classes[:, None]).sum()
        layer, slopes = last_that_counts(score, seen.layers)
        weights = slopes.mean((2, 3), keepdim=True)
        heat = F.relu((weights * layer).sum(1, keepdim=True)).detach()
        heat = F.interpolate(heat, x.shape[2:], mode="bilinear", align_corners=False)
        return heat.expand_as(x) / x.shape[1]


class Grids(TorchFunctionMode):
    """Keeps what operations return (B, D, h, w) of the picture's proportions, but for pictures themselves."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.picture, self.rows, (self.height, self.width), self.layers = x.shape[1:], len(x), x.shape[2:], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dim() == 4 and out.requires_grad and len(out) == self.rows and out.shape[1:] != self.picture:
            h, w = out.shape[2:]
            if 1 < h <= self.height and 1 < w <= self.width and abs(h * self.width - w * self.height) <= max(self.height, self.width):
                self.layers.append(out)
        return out


def last_that_counts(score: Tensor, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The last layer with a gradient that is not zero everywhere, and that gradient."""
    for layer in reversed(layers):
        (slopes,) = torch.autograd.grad(score, layer, retain_graph=True, allow_unused=True)
        if slopes is not None and slopes.abs().sum() > 0:
            return layer, slopes
    raise refuse("explanation.no_layer", "no layer of the model has a grid of the picture's proportions", fix="another explainer: shap, integrated_gradients")
