"""LIME (Ribeiro et al. 2016): a ridge regression that imitates the model near the row. Needs answers alone.

"Why Should I Trust You?", equation 1 and section 3.4: inputs are kept or replaced by the baseline's, half of them on average; a sample's weight falls
with its distance from the row, exp(-d^2 / width^2), d the cosine distance 1 - sqrt(kept / F). Decisions: tables are treated as texts and pictures are, by
what is there and what is not, instead of quartiles of their values, so that one explanation is a linear function of the same thing everywhere; the
same samples serve all rows; no selection of features (K-Lasso). Left out: super-pixels (patches instead).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..explainer import Explainer, Function
from ._masks import asked, groups, spread


class LIME(Explainer):
    def __init__(self, samples: int = 256, width: float = 0.25, ridge: float = 1e-3, patches: int = 7):
        """samples: at least so many, and four times the inputs. width: of the kernel, in cosine distance. ridge: times the samples' total weight."""
        if samples < 2 or width <= 0 or ridge < 0 or patches < 1:
            raise ValueError(f"samples ({samples}) must be at least 2, width ({width}) positive, ridge ({ridge}) not negative, patches ({patches}) at least 1")
        self.samples, self.width, self.ridge, self.patches = samples, width, ridge, patches

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        group = groups(x, self.patches)
        inputs = int(group.max()) + 1
        masks = torch.rand(max(self.samples, 4 * inputs), inputs, generator=rng) < 0.5
        masks[0] = True
        said = asked(f, x, classes, baseline, masks, group).double()
        away = 1 - (masks.double().mean(1)).sqrt()
        return spread(imitation(masks.double(), said, torch.exp(-((away / self.width) ** 2)), self.ridge), group).to(x.dtype)


def imitation(z: Tensor, said: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """z (M, F), said (M, B), weights (M,) -> (B, F): slopes of the weighted ridge regression with an intercept that is not shrunk."""
    share = weights / weights.sum()
    z, said = z - share @ z, said - share @ said
    squares = (z * share[:, None]).T @ z + ridge * torch.eye(z.shape[1], dtype=z.dtype)
    return torch.linalg.solve(squares, (z * share[:, None]).T @ said).T
