"""Shapley values by kernel SHAP (Lundberg and Lee 2017): what an input adds, averaged over all orders of adding them. Needs answers alone.

"A Unified Approach to Interpreting Model Predictions", theorem 2: the weighted least squares of the answers v(S) on coalitions S with the weight
(F - 1) / (C(F, s) s (F - s)), where an input outside S has the baseline's value. That the values add up to f(x) - f(baseline) is a constraint of the fit,
not a hope. Up to 10 inputs all coalitions are asked, and the values are exact; above that coalitions are drawn in pairs with their complements (Covert
and Lee 2021, "Improving KernelSHAP", section 4.2), the same ones for every row. A baseline of several rows (R, ...) stands for their mean answer
(interventional expectations). Pictures are explained in patches.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..explainer import Explainer, Function
from ._masks import asked, groups, spread

EXACT = 10  # inputs


class SHAP(Explainer):
    complete = True

    def __init__(self, coalitions: int = 256, patches: int = 7):
        """coalitions: at least so many are drawn, and four times the inputs, where there are more than 10. patches: of a picture, a side."""
        if coalitions < 2 or patches < 1:
            raise ValueError(f"coalitions ({coalitions}) must be at least 2 and patches ({patches}) at least 1")
        self.coalitions, self.patches = coalitions, patches

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        group = groups(x, self.patches)
        inputs = int(group.max()) + 1
        rows = baseline if baseline.dim() == x.dim() else baseline[None]
        masks, weights = every(inputs) if inputs <= EXACT else drawn(inputs, max(self.coalitions, 4 * inputs), rng)
        ends = torch.stack([torch.zeros(inputs), torch.ones(inputs)]).bool()
        said = torch.stack([asked(f, x, classes, b, torch.cat([ends, masks]), group) for b in rows]).mean(0).double()
        return spread(fitted(masks, weights, said), group).to(x.dtype)


def every(inputs: int) -> tuple[Tensor, Tensor]:
    """Every coalition but none and all (M, F) bool, and its weight (M,)."""
    masks = torch.tensor(list(itertools.product([False, True], repeat=inputs))[1:-1], dtype=torch.bool).reshape(-1, inputs)
    sizes = masks.sum(1).tolist()
    return masks, torch.tensor([(inputs - 1) / (math.comb(inputs, s) * s * (inputs - s)) for s in sizes], dtype=torch.float64)


def drawn(inputs: int, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coalitions drawn by their weight, each with its complement, all of weight 1."""
    sizes = torch.arange(1, inputs, dtype=torch.float64)
    s = torch.multinomial((inputs - 1) / (sizes * (inputs - sizes)), count // 2, replacement=True, generator=rng) + 1
    ranks = torch.rand(len(s), inputs, generator=rng).argsort(1).argsort(1)
    masks = ranks < s[:, None]
    return torch.cat([masks, ~masks]), torch.ones(2 * len(s), dtype=torch.float64)


def fitted(masks: Tensor, weights: Tensor, said: Tensor) -> Tensor:
    """(B, F): the weighted least squares whose values add up to said[1] - said[0]; said (2 + M, B): of nothing, of all, of the masks.

    The constraint is put in by eliminating the last input: v(S) - v(0) - z_F total = sum over the others of (z_i - z_F) phi_i."""
    none, total = said[0], said[1] - said[0]
    z = masks.double()
    if z.shape[1] == 1:
        return total[:, None]
    design = z[:, :-1] - z[:, -1:]
    answer = said[2:] - none - z[:, -1:] * total
    root = weights.sqrt()[:, None]
    others = torch.linalg.lstsq(root * design, root * answer, driver="gelsd").solution  # (F - 1, B)
    return torch.cat([others, (total - others.sum(0))[None]]).T
