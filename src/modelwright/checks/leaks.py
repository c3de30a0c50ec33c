"""Target leakage: a column that is the answer in another form.

Each column alone is asked by two small trees, out of fold (a category by its training rows' mean label): AUROC of classes, R2 of a number. A column
leaks where it alone tells nearly all (AUROC 0.995, R2 0.995) or where it surely leaves at most half of the error (the balanced error rate, squares of
a number; row by row on the same rows) that all other columns together, and the best of them alone, leave, and says much: AUROC 0.9, R2 0.9. AUROC
itself is no measure of what is left: a copy with a few wrong cells has less of it than a blurred score with four times the errors. It leaks, too,
where its being filled in alone tells AUROC 0.85. Iris's petals and the tumour's size in `breast_cancer` tell much too, but so do the other columns.
Other strong columns are set aside first if they are few (a quarter of all), so that two leaks do not hide behind each other. All tests are corrected
for the number of columns.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import stdtrit
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from .. import metrics as m
from .columns import cells
from .learner import folds_of

SURE, STRONG, LEFT = 0.995, 0.9, 0.5
AFTER = re.compile(
    r"(after|post|outcome|result|discharge|closed|closing|resolv|settle|final|refund|chargeback|death|deceased|icd|verdict|approved|label|target|future|next|"
    r"follow.?up|结果|出院|结局|事后|最终)", re.IGNORECASE,
)  # fmt: skip


def told(x: np.ndarray, names: bool, y: np.ndarray, classes: int | None, seed: int, units: np.ndarray | None = None) -> np.ndarray:
    """What a column alone says of y, out of fold: (N, K) scores, or (N,)."""
    fold = folds_of(len(x), units, seed)
    out = np.zeros((len(x), classes or 1))
    onehot = np.eye(classes)[y] if classes else y[:, None].astype(np.float64)
    fine = {"max_leaf_nodes": 24, "min_samples_leaf": max(3, len(x) // 400), "random_state": seed}
    coarse = {"max_leaf_nodes": 4, "min_samples_leaf": max(3, len(x) // 50), "random_state": seed}  # else a wrong cell turns all those around it
    for f in range(fold.max(initial=0) + 1):
        here, there = fold != f, fold == f
        if not there.any() or not here.any():
            continue
        prior = onehot[here].mean(0)
        if names:
            codes = x.astype(np.int64) + 1
            count = np.bincount(codes[here], minlength=codes.max() + 1)
            sums = np.stack([np.bincount(codes[here], o, minlength=len(count)) for o in onehot[here].T], 1)
            out[there] = ((sums + 2 * prior) / (count[:, None] + 2))[codes[there]]
        elif classes:
            for settings in (fine, coarse):
                made = DecisionTreeClassifier(**settings).fit(x[here, None], y[here])
                out[np.ix_(there, made.classes_)] += made.predict_proba(x[there, None]) / 2
        else:
            out[there, 0] = DecisionTreeRegressor(**fine).fit(x[here, None], y[here]).predict(x[there, None])
    return out if classes else out[:, 0]


def skill(said: np.ndarray, y: np.ndarray, classes: int | None, level: float) -> tuple[float, float]:
    """How well y is told, and the lower end at this (one-sided) level. Classes: the best one-versus-rest AUROC (Hanley & McNeil 1982); else R2."""
    if classes is None:
        error, total = (y - said) ** 2, (y - y.mean()) ** 2
        ratio = error.mean() / max(total.mean(), 1e-300)
        spread = np.std(error - ratio * total) / max(total.mean(), 1e-300) / len(y) ** 0.5
        return 1 - ratio, 1 - ratio - spread * float(stdtrit(max(len(y) - 1, 1), level))
    found = []
    for k in range(1 if classes == 2 else 0, classes):
        p = int((y == k).sum())
        n = len(y) - p
        if min(p, n) < 5:
            continue
        a = m.auroc(y == k, said[:, k])
        q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
        variance = max((a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n), 0) + 0.25 / min(p, n) ** 2
        found.append((a, a - variance**0.5 * float(stdtrit(max(min(p, n) - 1, 1), level))))
    return max(found, key=lambda f: f[1], default=(0.5, 0.0))


def losses(said: np.ndarray, y: np.ndarray, classes: int | None) -> np.ndarray:
    """(N,) what each row bears of the error that is left: wrong classes weighted so that their mean is the balanced error rate; squares over variance."""
    if classes is None:
        return (y - said) ** 2 / max(((y - y.mean()) ** 2).mean(), 1e-300)
    share = np.bincount(y, minlength=classes) / len(y)
    return ((said / np.maximum(share, 1e-12)).argmax(1) != y) / (share[y] * (share > 0).sum())


def halved(mine: np.ndarray, theirs: np.ndarray, level: float) -> bool:
    """Whether one's losses are surely, row by row, at most LEFT of the other's."""
    more = mine - LEFT * theirs
    return bool(more.mean() + float(stdtrit(len(more) - 1, level)) * more.std(ddof=1) / len(more) ** 0.5 <= 0)


def macro(said: np.ndarray, y: np.ndarray, classes: int | None) -> float:
    """AUROC (macro) over classes that occur, or R2."""
    if classes is None:
        return 1 - float(((y - said) ** 2).mean() / max(((y - y.mean()) ** 2).mean(), 1e-300))
    each = [m.auroc(y == k, said[:, k]) for k in range(1 if classes == 2 else 0, classes) if 0 < (y == k).sum() < len(y)]
    return float(np.mean(each)) if each else 0.5


def leaking(
    columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int | None, rest: Any, seed: int, level: float, units: np.ndarray | None
) -> list[dict]:
    """Findings. rest(names left out) -> what a learner of all other columns says, out of fold."""
    alone = {}
    for name, column in columns.items():
        x = cells(column)
        if x is not None and (not x[1] or len(np.unique(x[0])) < 0.5 * len(x[0])):
            alone[name] = told(*x, y, classes, seed, units)
    if not alone:
        return []
    level = 1 - (1 - level) / len(alone)
    scores = {n: (macro(s, y, classes), skill(s, y, classes, level)[1]) for n, s in alone.items()}
    lost = {n: losses(s, y, classes) for n, s in alone.items()}
    strong = [n for n, (value, _) in scores.items() if value >= STRONG]
    few = len(strong) <= max(1, len(columns) // 4)
    found, others = [], None
    for name in sorted(strong, key=lambda n: lost[n].mean()):
        value, low = scores[name]
        nearly_all, left = value >= SURE and low > 0.97, {}
        if few or (not nearly_all and len(found) < 5):
            others = rest(tuple(strong) if few else (name,)) if others is None or not few else others
            left = {n: (lost[n], scores[n][0]) for n in scores if n != name and not (few and n in strong)}
            left[""] = (losses(others, y, classes), macro(others, y, classes))
        gap = np.isnan(cells(columns[name])[0])
        filled = classes is not None and gap.any() and skill(told(gap * 1.0, False, y, classes, seed, units), y, classes, level)[1] > 0.85
        if (
            filled
            or nearly_all
            or (left and low > 0.85 and halved(lost[name], min((e for e, _ in left.values()), key=np.mean), level))
        ):
            kind = "R2" if classes is None else "AUROC"
            hint = "; it is filled in where the answer is known" * bool(filled)
            hint += "; its name speaks of what comes after" if AFTER.search(name) else ""
            best = max((v for _, v in left.values()), default=None)
            found.append({"column": name, "alone": value, "others": best, "evidence": f"{kind} {value:.3f} from this column alone{hint}"})
    return found
