"""Yes or no by thresholds of each group's own, so that groups are decided alike: repair after training.

Hardt, Price and Srebro 2016, "Equality of Opportunity in Supervised Learning", section 4: of all decisions made from the score and the group alone
that satisfy the constraint, the one of least error. Every such decision is a mixture of thresholds, and the best mix lies on the upper hull of each
group's ROC curve, so a linear program over the hulls' corners finds it exactly. Demographic parity equalises the selection rate, equal opportunity
the true positive rate, equalized odds that and the false positive rate; yes is the target's second class, as for the fairness audit.

Fitted after training, on the calibration split, whose rows neither trained nor judge. Where thresholds are mixed, a row whose score lies between two of
them is decided by the score's own digits (a golden-ratio sequence over its log odds to four decimals, which tell small scores apart too), not by a die:
the same person always gets the same answer, alone as in a batch, today as after a restart, and rows of one score share one answer. Probabilities stay as
the model has them; only the decided value changes. A row whose group is missing or new, and a group with fewer than `least` rows of either class, is
decided at the common threshold of 0.5; the second is a warning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..errors import refuse
from ..forms import Prediction
from ..model import Decoder

COMMON = 0.5
NEVER, ALWAYS = 2.0, -1.0  # thresholds beyond every probability
GOLDEN = 0.6180339887498949

Mix = list[list[float]]
"""[[threshold, weight], ...]: yes to a share of the rows above each; rising, the weights add up to 1."""


class GroupThresholds(Decoder):
    takes = frozenset({"class"})
    fits = True

    def __init__(
        self,
        constraint: Literal["equalized_odds", "equal_opportunity", "demographic_parity"] = "equalized_odds",
        within: Annotated[float, Field(ge=0, le=1)] = 0.0,
        least: Annotated[int, Field(ge=1)] = 20,
    ):
        """within: the largest difference between two groups that the fit allows. least: rows of each class that a group needs for thresholds of its own."""
        self.constraint, self.within, self.least = constraint, within, least
        self.groups: list[str] = []
        self.mixes_: dict[str, dict[str, Mix]] = {}  # target -> group -> its thresholds

    def build(self, target, kind, groups) -> None:
        if kind.classes != 2:
            what = f"the decoder group_thresholds says yes or no; {target!r} has {kind.classes} classes"
            raise refuse("decoder.head", what, where=f"model.decoders.{target}", fix="argmax, or a target of two classes")
        if len(groups) < 2:
            what = f"the decoder group_thresholds needs two groups; the training rows have {len(groups)}"
            raise refuse("decoder.groups", what, where=f"model.decoders.{target}", fix="data.columns: {sex: {kind: category, group: true}}")
        self.groups = groups

    def run(self, model, targets, batch, rng=None, state=None):
        outs = model(batch, targets, state)
        return {t: self.decide(t, model.heads[t].predict(outs[t]), batch.groups) for t in targets}

    def decide(self, target: str, said: Prediction, groups: Tensor | None) -> Prediction:
        """The prediction with its value decided. extra["common"] (B,) bool: rows decided at the common threshold."""
        p = said.probabilities[:, 1].double()
        chance, common = (p > COMMON).double(), torch.ones(len(p), dtype=torch.bool, device=p.device)
        for g, name in enumerate(self.groups if groups is not None else []):
            if mix := self.mixes_.get(target, {}).get(name):
                mine = groups == g
                chance = torch.where(mine, sum(w * (p > t) for t, w in mix), chance)
                common = common & ~mine
        value = (draw(p) < chance).long()
        score = said.probabilities.gather(1, value[:, None]).squeeze(1)
        return Prediction(value=value, probabilities=said.probabilities, score=score, extra={"common": common})

    def fit(self, target, said, truth, groups) -> dict[str, Any]:
        p, y = said.probabilities[:, 1].double().cpu().numpy(), truth.cpu().numpy().astype(bool)
        group = np.full(len(p), -1) if groups is None else groups.cpu().numpy()
        rows = {name: (int((y & (group == g)).sum()), int((~y & (group == g)).sum())) for g, name in enumerate(self.groups)}
        own = [name for name in self.groups if min(rows[name]) >= self.least]
        warnings = [
            f"group_thresholds: {name} has {rows[name][0]} rows of yes and {rows[name][1]} of no on the calibration split, fewer than {self.least} of one: "
            f"it is decided at the common threshold {COMMON}"
            for name in self.groups
            if name not in own
        ]
        mixes = {}
        if len(own) > 1:
            curves = [hull(p[(group == g)], y[group == g]) for g, name in enumerate(self.groups) if name in own]
            mixes = dict(zip(own, best(curves, self.constraint, self.within), strict=True))
        else:
            warnings.append("group_thresholds: fewer than two groups are large enough, so that all rows are decided at the common threshold")
        self.mixes_[target] = mixes
        return {"constraint": self.constraint, "rows": len(p), "yes and no by group": rows, "thresholds": mixes, "warnings": warnings}


def draw(p: Tensor) -> Tensor:
    """(B,) in [0, 1), spread evenly over the scores p (B,) and a function of them alone."""
    return (torch.logit(p, eps=1e-12) * 1e4).round() * GOLDEN % 1


def hull(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(K, 3) of (threshold, false positives, true positives): the corners of the upper hull of the ROC curve of scores p (N,), y (N,) bool."""
    scores = np.unique(p)[::-1]
    thresholds = np.concatenate([[NEVER], (scores[:-1] + scores[1:]) / 2, [ALWAYS]])
    negative, positive = np.sort(p[~y]), np.sort(p[y])
    fp, tp = (len(s) - np.searchsorted(s, thresholds, side="right") for s in (negative, positive))
    corners: list[int] = []
    for i in range(len(thresholds)):
        while len(corners) > 1:
            a, b = corners[-2:]
            if (fp[b] - fp[a]) * (tp[i] - tp[a]) < (fp[i] - fp[a]) * (tp[b] - tp[a]):
                break
            corners.pop()  # b lies on or below the line from a to i
        corners.append(i)
    return np.stack([thresholds, fp, tp], 1)[corners]


def best(curves: list[np.ndarray], constraint: str, within: float) -> list[Mix]:
    """The mix of each group's thresholds that together err least while the groups' rates differ by at most `within`.

    Variables: a weight for every corner of every hull, and the lowest of each constrained rate."""
    from scipy.optimize import linprog

    sizes, n = [len(c) for c in curves], sum(len(c) for c in curves)
    rates = []  # per group: (constrained rates, K)
    for c in curves:
        fp, tp = c[:, 1], c[:, 2]
        by = {"demographic_parity": [(fp + tp) / (fp[-1] + tp[-1])], "equal_opportunity": [tp / tp[-1]], "equalized_odds": [tp / tp[-1], fp / fp[-1]]}
        rates.append(np.stack(by[constraint]))
    levels, starts = len(rates[0]), np.cumsum([0, *sizes])
    errors = np.concatenate([c[:, 1] - c[:, 2] for c in curves])  # false positives less true ones: false negatives but for a constant
    one, over = np.zeros((len(curves), n + levels)), np.zeros((len(curves) * levels, n + levels))
    for g, rate in enumerate(rates):
        mine = slice(starts[g], starts[g + 1])
        one[g, mine] = 1
        for k in range(levels):
            over[g * levels + k, mine], over[g * levels + k, n + k] = rate[k], -1  # by how much the rate is over the lowest
    found = linprog(
        np.concatenate([errors, np.zeros(levels)]), A_ub=np.concatenate([over, -over]), b_ub=np.repeat([within, 0.0], len(over)), A_eq=one,
        b_eq=np.ones(len(curves)), bounds=(0, 1), method="highs-ds",
    )  # fmt: skip
    assert found.success, found.message  # to say yes to nobody satisfies every constraint
    mixes = []
    for g, c in enumerate(curves):
        weights = np.where(found.x[starts[g] : starts[g + 1]] > 1e-9, found.x[starts[g] : starts[g + 1]], 0.0)
        weights /= weights.sum()
        mixes.append(sorted([float(t), float(w)] for t, w in zip(c[:, 0], weights, strict=True) if w > 0))
    return mixes
