"""Occlusion (Zeiler and Fergus 2014): how much the answer falls when one input alone is replaced by the baseline's. Needs answers alone.

"Visualizing and Understanding Convolutional Networks", section 4.2; pictures in patches. Two inputs that say the same hide each other: with either gone
nothing falls. SHAP shares it between them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..explainer import Explainer, Function
from ._masks import asked, groups, spread


class Occlusion(Explainer):
    def __init__(self, patches: int = 7):
        if patches < 1:
            raise ValueError(f"patches ({patches}) must be at least 1")
        self.patches = patches

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        group = groups(x, self.patches)
        inputs = int(group.max()) + 1
        masks = torch.cat([torch.ones(1, inputs), 1 - torch.eye(inputs)]).bool()
        said = asked(f, x, classes, baseline, masks, group)
        return spread((said[0] - said[1:]).T, group)
