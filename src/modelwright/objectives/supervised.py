"""Each head's negative log-likelihood, summed over targets with weights. Missing targets count nothing."""

from __future__ import annotations

from ..errors import Problem, Refusal, did_you_mean
from ..forms import Batch, Loss, Term
from ..model import Model
from ..objective import Objective


class Supervised(Objective):
    def __init__(self, weights: dict[str, float] | None = None):
        """weights: per target, 1 where not given."""
        super().__init__()
        self.weights = weights or {}

    def build(self, model: Model, schema) -> None:
        unknown = [t for t in self.weights if t not in model.heads]
        if unknown:
            raise Refusal([Problem("task.unknown_key", f"weights: there is no target {t!r}", fix=did_you_mean(t, model.heads)) for t in unknown])

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        outs = model(batch, [t for t in model.heads if t in batch.targets])
        terms = {}
        for name, out in outs.items():
            total, count = model.heads[name].nll(out, batch.targets[name], batch.knows(name))
            terms[name] = Term(total, count, self.weights.get(name, 1.0))
        return Loss(terms).times(batch.weight)
