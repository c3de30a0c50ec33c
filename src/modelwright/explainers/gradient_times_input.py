"""Gradient times input (Shrikumar et al. 2016): the slope at the row itself, as far as it is from the baseline.

"Not Just a Black Box", arXiv 1605.01713. Complete for linear functions alone; where the model saturates, the slope at the row says nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..explainer import Explainer, Function, slope


class GradientTimesInput(Explainer):
    gradients = True
    takes = frozenset({"table", "picture"})

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        return (x - baseline) * slope(f, x, classes)
