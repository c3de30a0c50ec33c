"""Permutation importance (Breiman 2001): how much worse the true class is predicted when one column is shuffled among the rows. Needs answers alone.

"Random Forests", section 10, with the log loss in place of the error count: a row's attribution is the mean increase of -log p(true class) over `repeats`
shuffles, and the mean over rows is the column's importance, which is what to read. Shuffling makes rows that do not exist (Hooker et al. 2021): of columns
that go together it can say too much.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..explainer import Explainer, Function
from ._masks import CALL


class PermutationImportance(Explainer):
    takes = frozenset({"table"})
    of = "true"

    def __init__(self, repeats: int = 5):
        if repeats < 1:
            raise ValueError(f"repeats ({repeats}) must be at least 1")
        self.repeats = repeats

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        copies = [x]
        for j in range(x.shape[1]):
            for _ in range(self.repeats):
                copies.append(x.clone())
                copies[-1][:, j] = x[torch.randperm(len(x), generator=rng), j]
        at_once = max(1, CALL // len(x))
        with torch.no_grad():
            said = [f(torch.cat(copies[i : i + at_once])) for i in range(0, len(copies), at_once)]
        loss = F.softplus(-torch.cat(said)).gather(1, classes.repeat(len(copies))[:, None]).reshape(len(copies), len(x))
        return (loss[1:].reshape(x.shape[1], self.repeats, len(x)).mean(1) - loss[0]).T.to(x.dtype)
