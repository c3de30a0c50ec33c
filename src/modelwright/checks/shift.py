"""Do two splits come from one source: a classifier two-sample test (Lopez-Paz & Oquab 2017), exact by permutation.

A learner is fitted to tell training from test rows on one half of both; on the other half its scores must rank them like chance (AUROC 0.5) if the
splits are exchangeable. Their labels are then shuffled 2,000 times under the same scores, whole clusters together: the p-value is exact, whatever
the learner. Columns are named by their own two-sample tests (Kolmogorov-Smirnov, chi-square), Holm-corrected, once the whole test has spoken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from .learner import fit_predict, folds_of


def two_sample(x: Any, test: np.ndarray, seed: int, units: np.ndarray | None = None, draws: int = 2000) -> tuple[float, float]:
    """AUROC on the held-out half and its one-sided p-value. x (N, F), test (N,) bool: which split a row is of."""
    half = np.zeros(len(test), np.int64)
    for side in (True, False):  # each split halved by itself
        rows = np.flatnonzero(test == side)
        half[rows] = folds_of(len(rows), None if units is None else units[rows], seed, 2)
    here, there = half == 0, half == 1
    score = fit_predict(x[here], test[here].astype(np.int64), x[there], 2, seed)[:, 1]
    ranks, side = stats.rankdata(score), test[there]
    labels = np.arange(len(side)) if units is None else np.unique(np.stack([units[there], side]), axis=1, return_inverse=True)[1]
    count = labels.max() + 1
    sums, sizes = np.bincount(labels, ranks, count), np.bincount(labels, minlength=count)
    own = np.zeros(count, bool)
    own[labels[side]] = True
    rng = np.random.default_rng(seed)

    def auroc(chosen: np.ndarray) -> float:
        n = sizes[chosen].sum()
        return (sums[chosen].sum() - n * (n + 1) / 2) / max(n * (len(side) - n), 1)

    seen = auroc(own)
    drawn = np.array([auroc(rng.permutation(own)) for _ in range(draws)])
    return float(seen), float((1 + (drawn >= seen - 1e-12).sum()) / (draws + 1))


def column_p(a: np.ndarray, b: np.ndarray, names: bool) -> float:
    """p-value that two samples of a column are of one source."""
    if not names:
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        return float(stats.ks_2samp(a, b).pvalue) if min(len(a), len(b)) > 5 else 1.0
    values = np.unique(np.concatenate([a, b]))
    counts = np.stack([(x[:, None] == values).sum(0) for x in (a, b)])
    counts = counts[:, counts.sum(0) >= 10]
    return float(stats.chi2_contingency(counts)[1]) if counts.shape[1] > 1 and (counts.sum(1) > 0).all() else 1.0


def holm(p: dict[str, float], error: float) -> list[str]:
    """The names whose p-values stand after Holm's correction, smallest first."""
    kept = []
    for i, name in enumerate(sorted(p, key=p.get)):
        if p[name] > error / (len(p) - i):
            break
        kept.append(name)
    return kept
