"""Train on mixtures of two rows and of their losses.

Zhang et al. 2018 ("mixup"): x = l x_i + (1 - l) x_j, loss = l loss(x, y_i) + (1 - l) loss(x, y_j), l ~ Beta(alpha, alpha), drawn per row. Pictures,
series and a table's numbers are mixed; each of a table's codes comes from row i with probability l. Where the partner's value is missing a row keeps
its own. A row keeps its own weight. The loss is that of two passes, so a step costs about twice as much. Rows depend on each other by construction,
which is why the probe refuses this with private training.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import refuse
from ..forms import Batch, Loss, Ragged, Tabular, Term, Value
from ..model import Model
from ..objective import Learner, Objective, Wrapped
from ..strategy import Strategy

SHARE, TARGET, KNOWN = "mixup share", "mixup target ", "mixup known "  # in Batch.extra


class Mixup(Strategy):
    def __init__(self, alpha: float = 0.2):
        """alpha: of the Beta distribution; larger mixes more, 1 is uniform."""
        if alpha <= 0:
            raise ValueError(f"alpha ({alpha}) must be positive")
        self.alpha = alpha

    def batch(self, batch: Batch, learner: Learner, player: str, rng: torch.Generator) -> Batch:
        drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=rng)))
        n = len(batch)
        share = torch.from_numpy(drawn.beta(self.alpha, self.alpha, n).astype(np.float32)).to(batch.device)
        other = torch.randperm(n, generator=rng).to(batch.device)
        inputs = {}
        for name, value in batch.inputs.items():
            kept = torch.where(batch.knows(name) & batch.knows(name)[other], share, 1.0)
            inputs[name] = mix(name, value, other, kept, rng)
        extra = {SHARE: share}
        for name, value in batch.targets.items():
            extra[TARGET + name] = pytree.tree_map(lambda t: t[other], value)
            extra[KNOWN + name] = batch.knows(name)[other]
        return batch.but(inputs=inputs, extra=batch.extra | extra)

    def objective(self, objective: Objective) -> Objective:
        return Mixed(objective)


def mix(name: str, value: Value, other: Tensor, share: Tensor, rng: torch.Generator) -> Value:
    """share (B,) of each row and the rest of its partner, other (B,)."""
    if isinstance(value, Tabular):
        both = value.present & value.present[other]
        numbers = torch.where(both, blend(value.numbers, other, share), value.numbers)
        own = torch.rand(value.codes.shape, generator=rng).to(share.device) < share.unsqueeze(-1)
        return Tabular(numbers, value.present, torch.where(own, value.codes, value.codes[other]))
    dense = value.values if isinstance(value, Ragged) else value
    if not dense.is_floating_point():
        raise refuse("mixup.input", f"input {name!r} cannot be mixed", why="half an id means nothing", fix="leave mixup out of this stage")
    if isinstance(value, Ragged):
        longer = torch.where(share < 1, torch.maximum(value.lengths, value.lengths[other]), value.lengths)
        return Ragged(blend(dense, other, share), longer)
    return blend(dense, other, share)


def blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    s = share.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)
    return s * x + (1 - s) * x[other]


class Mixed(Wrapped):
    """The mixture of two losses; an ordinary batch (validation) has the ordinary loss."""

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        first = self.inner.loss(model, batch, player)
        if SHARE not in batch.extra:
            return first
        share = batch.extra[SHARE]
        targets = {name: batch.extra[TARGET + name] for name in batch.targets}
        known = batch.known | {name: batch.extra[KNOWN + name] for name in batch.targets}
        second = self.inner.loss(model, batch.but(targets=targets, known=known), player)
        if first.coupled is not None:
            raise refuse("mixup.coupled", "this objective has no loss per row to mix", why="it compares rows", fix="leave mixup out of this stage")
        terms = {}
        for name, a in first.terms.items():
            b = second.terms[name]
            terms[name] = Term(share * a.total + (1 - share) * b.total, share * a.count + (1 - share) * b.count, a.weight)
        return Loss(terms, None, first.metrics)
