"""How many labels are wrong: confident learning (Northcutt et al. 2021), made to say 0 where classes merely overlap.

Counting rows whose out-of-fold prediction confidently contradicts the label takes overlap for error. Here the rate is read where the learner is
surest: the top shares of each predicted class, ranked by confidence; there a right label contradicts rarely, and a wrong one always. Of the shares
10, 30 and 80 % the one with the least upper bound speaks (exact binomial, corrected for choosing). Errors that come alike in every region of a
class, whatever the class pair, are estimated without bias; where even the surest rows overlap the figure is too high, never too low; errors only
near the border between classes are not seen. Which rows: `suspects`, as many as the confident joint of the paper counts, by the ratio of the
likeliest class to the label's own. Of the paper's scores the margin ranks worse than that where labels were flipped to any class, self confidence
where to a like one (`benchmarks/label_errors.py`).
"""

from __future__ import annotations

import numpy as np

from ..intervals import Interval, interval
from ..kind import Metric

SHARES = (0.1, 0.3, 0.8)
LEAST = 20  # surest rows that are needed to say anything


def confident_joint(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(K, K) counts: given label, confidently predicted label (equations 1 and 2). p (N, K) out of fold, y (N,)."""
    k = p.shape[1]
    means = np.array([p[y == j, j].mean() if (y == j).any() else np.inf for j in range(k)])
    sure = np.where(p >= means, p, -1.0)
    chosen, some = sure.argmax(1), sure.max(1) >= 0
    return np.bincount(y[some] * k + chosen[some], minlength=k * k).reshape(k, k)


def surest(p: np.ndarray, share: float) -> np.ndarray:
    """(N,) bool: the top share of each predicted class by its probability."""
    guess, top = p.argmax(1), p.max(1)
    chosen = np.zeros(len(p), bool)
    for j in np.unique(guess):
        rows = np.flatnonzero(guess == j)
        chosen[rows[np.argsort(-top[rows], kind="stable")[: int(np.ceil(share * len(rows)))]]] = True
    return chosen


def error_rate(p: np.ndarray, y: np.ndarray, level: float, clusters: np.ndarray | None = None) -> tuple[Interval, int] | None:
    """The rate of wrong labels with its interval, and the rows it rests on; None where too few are sure."""
    best = None
    for share in SHARES:
        rows = np.flatnonzero(surest(p, share))
        if len(rows) < LEAST:
            continue
        wrong = Metric.mean(p[rows].argmax(1) != y[rows], "lower")
        i = interval(wrong, len(rows), level=1 - (1 - level) / len(SHARES), clusters=None if clusters is None else clusters[rows])
        if best is None or i.high < best[0].high:
            best = (i, len(rows))
    return best


def doubt(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) how much likelier another class is than the label's own, as a log ratio; 0 where none is. Probabilities are taken to be known to 0.05."""
    return np.log(p.max(1) + 0.05) - np.log(p[np.arange(len(y)), y] + 0.05)


def suspects(p: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """Rows whose label is likeliest wrong, worst first: confidently another class, by how much likelier that is than the label's own."""
    wrong = confident_joint(p, y)
    count = min(most, int(wrong.sum() - np.trace(wrong)))
    score = doubt(p, y)
    order = np.argsort(-score, kind="stable")
    return order[: min(count, int((score > 0).sum()))]
