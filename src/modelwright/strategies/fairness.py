"""Weigh each (group, label) so that groups are treated alike, with Lagrange multipliers that follow the violations.

Agarwal et al. 2018 reduce fairness constraints to weights of examples; here in the form of Jiang and Nachum 2020 ("Identifying and Correcting Label
Bias"): w(g, y) = exp(m(g, y)) / mean over the training rows, m(g, y) += rate * (overall(y) - of group g(y)). The two figures are shares of rows decided
as class y, as the audit counts them: of all rows (demographic_parity), or of those whose label is y (equalized_odds; equal_opportunity: of the
positive class only, the last label unless said). With two classes that is equalized odds exactly; with more it equalises each class's recall, not
every kind of error. (Mean probabilities are smoother, but where they are even decisions are not: adult, equalized odds 0.080 for 0.040.) The figures
come from the batch as the model saw it before the step (one more forward pass), over a fading memory, and act from the next step on, so a step's
weights never depend on its own rows. They do depend on earlier rows and are not private: see `statement`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import Problem, Refusal, refuse
from ..forms import Batch
from ..model import Model
from ..objective import Learner
from ..strategy import Context, Progress, Strategy


class Fairness(Strategy):
    reads_rows = True  # multipliers are made of training rows

    def __init__(
        self,
        constraint: Literal["demographic_parity", "equalized_odds", "equal_opportunity"] = "equalized_odds",
        target: str | None = None,
        positive: str | None = None,
        rate: float = 0.3,
        bound: float = 2.0,
        memory: float = 0.95,
    ):
        """target: default the only one; positive: label of equal_opportunity; rate: of the multipliers per step; bound: their largest
        size; memory: what a step keeps of the earlier counts."""
        if rate <= 0 or bound <= 0 or not 0 <= memory < 1:
            raise ValueError(f"rate ({rate}) and bound ({bound}) must be positive, memory ({memory}) at least 0 and below 1")
        self.constraint, self.target, self.positive = constraint, target, positive
        self.rate, self.bound, self.memory = rate, bound, memory
        self.seen: tuple[Tensor, Tensor] | None = None  # of the batch in progress

    def learning(self, suggested: dict[str, Any]) -> dict[str, Any]:
        """The last weights: the loss on validation rows, which are not weighed, is least before the multipliers act (adult: 0.24 for 0.01)."""
        return {**suggested, "keep": "last"}

    def prepare(self, context: Context) -> None:
        schema, train = context.schema, context.train
        self.name = self.target or next(iter(schema.targets))
        if self.name not in schema.targets or (self.target is None and len(schema.targets) > 1):
            raise refuse("fairness.target", "fairness needs one target", why=f"the task has: {', '.join(schema.targets)}", fix="set target")
        if not schema.group or train is None or train.groups is None:
            fix = "write e.g. sex: {kind: category, group: true}"
            raise refuse("fairness.groups", "fairness needs groups", why="no column is marked as a group", fix=fix)
        labels = getattr(schema.targets[self.name], "labels_", None)
        if not labels:
            raise refuse("fairness.target", f"target {self.name!r} has no classes", why="the constraints speak of classes", fix="leave fairness out")
        if self.positive is not None and self.positive not in labels:
            raise refuse("fairness.positive", f"{self.positive!r} is no label of {self.name!r}", fix=f"one of: {', '.join(map(str, labels))}")
        self.last = labels.index(self.positive) if self.positive else len(labels) - 1
        truth = train.targets[self.name]
        y = torch.from_numpy(truth["values"].copy()).long()
        known = torch.from_numpy(truth["known"].copy()) if "known" in truth else torch.ones_like(y, dtype=torch.bool)
        g = torch.from_numpy(train.groups.copy())
        names = schema.group_values_
        inside = known & (g >= 0)
        self.counts = torch.zeros(len(names), len(labels)).index_put_((g[inside], y[inside]), torch.ones(int(inside.sum())), accumulate=True)
        self._present(names, labels)
        self.multipliers = torch.zeros_like(self.counts)
        self.sums, self.mass = torch.zeros_like(self.counts), torch.zeros_like(self.counts)

    def _present(self, names: list[str], labels: list[Any]) -> None:
        """Every group, and with a constraint on a label every group's rows of it, must be there to be compared."""
        fix = "add rows, merge groups, or leave the group column out"
        if len(names) < 2:
            raise refuse("fairness.group_missing", f"fairness needs two groups, there are {len(names)}: {names}", fix=fix)
        found = []
        for i, group in enumerate(names):
            if (n := int(self.counts[i].sum())) == 0:
                found.append(Problem("fairness.group_missing", f"group {group} has {n} rows in the training split", fix=fix))
            elif self.constraint != "demographic_parity":
                due = range(len(labels)) if self.constraint == "equalized_odds" else [self.last]
                for k in due:
                    if (n := int(self.counts[i, k])) == 0:
                        what = f"group {group} has {n} training rows labelled {labels[k]!r} (of {int(self.counts[i].sum())})"
                        found.append(Problem("fairness.group_missing", what, fix=fix))
        if found:
            raise Refusal(found)

    def weights(self) -> Tensor:
        """(G, K), of mean 1 over the training rows."""
        w = self.multipliers.exp()
        return w * self.counts.sum() / (w * self.counts).sum()

    @torch.no_grad()
    def batch(self, batch: Batch, learner: Learner, player: str, rng: torch.Generator) -> Batch:
        if self.name not in batch.targets or batch.groups is None:
            return batch
        y, g = batch.targets[self.name], batch.groups
        inside = batch.knows(self.name) & (g >= 0)
        modes = [(m, m.training) for m in learner.model.modules()]
        out = learner.model.eval()(batch.but(targets={}), [self.name])[self.name]
        for m, training in modes:
            m.training = training
        self.seen = self.figures(learner.model.heads[self.name].predict(out).probabilities[inside].cpu(), g[inside].cpu(), y[inside].cpu())
        weight = torch.where(inside, self.weights().to(batch.device)[g.clamp(min=0), y], 1.0)
        return batch.but(weight=weight if batch.weight is None else weight * batch.weight)

    def figures(self, p: Tensor, g: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """((G, K) rows decided as each class, (G, K) rows behind each) of probabilities p (B, K), groups g (B,) and labels y (B,)."""
        p = torch.nn.functional.one_hot(p.argmax(1), p.shape[1]).to(p)
        counted = torch.ones_like(p) if self.constraint == "demographic_parity" else torch.nn.functional.one_hot(y, p.shape[1]).to(p)
        zeros = torch.zeros_like(self.counts)
        return zeros.index_add(0, g, (p * counted).float()), zeros.index_add(0, g, counted.float())

    def after_step(self, model: Model, progress: Progress) -> None:
        if self.seen is None:
            return
        self.sums = self.memory * self.sums + self.seen[0]
        self.mass = self.memory * self.mass + self.seen[1]
        self.seen = None
        overall = self.sums.sum(0) / self.mass.sum(0).clamp(min=1e-6)
        violation = torch.where(self.mass > 0.5, overall - self.sums / self.mass.clamp(min=1e-6), 0.0)  # (G, K), nothing where no row was seen
        if self.constraint == "equal_opportunity":
            violation = violation * (torch.arange(violation.shape[1]) == self.last)
        self.multipliers = (self.multipliers + self.rate * violation).clamp(-self.bound, self.bound)

    def statement(self) -> dict[str, Any]:
        return {"fairness": {"constraint": self.constraint, "target": self.name, "weights": self.weights().tolist(), "multipliers_read_rows": True}}

    def state(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers, "sums": self.sums, "mass": self.mass}

    def load(self, state: dict[str, Any]) -> None:
        self.multipliers, self.sums, self.mass = state["multipliers"], state["sums"], state["mass"]
