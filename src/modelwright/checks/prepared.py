"""Columns that were prepared on all rows before they were split: standardised, scaled to [0, 1], or filled in with the mean of all.

What was fitted on the training rows alone is exact there, and is not over all splits; what was fitted on all of them is exact over all, and not on the
training rows. Exact means to four digits of a spread: by chance two moments are both that near once in some ten thousand columns. Left out: encodings
by the target and selections of columns, which leave no such trace; splits of which not all rows are at hand.
"""

from __future__ import annotations

import numpy as np

NEAR = 1e-4  # of a spread
FAR = 20 * NEAR  # what training rows alone must be off by


def prepared(parts: list[np.ndarray]) -> str | None:
    """How a column was prepared on all rows. parts: its numbers (NaN where missing) by split, training rows first; None where nothing says so."""
    train, whole = parts[0][np.isfinite(parts[0])], np.concatenate(parts)
    whole = whole[np.isfinite(whole)]
    if len(parts) < 2 or len(train) < 20 or len(np.unique(whole)) < 20 or len(train) == len(whole):
        return None
    if _standard(whole) <= NEAR and _standard(train) > FAR:
        return "standardised: mean 0 and spread 1 over all splits, not over the training rows"
    if _scaled(whole) and not _scaled(train):
        return "scaled to [0, 1]: its least and its greatest value, each once, lie in different splits"
    values, counts = np.unique(whole, return_counts=True)
    v, times = values[counts.argmax()], counts.max()
    if times >= max(5, 0.01 * len(whole)) and times > 3 * np.sort(counts)[-2]:
        rest, own = whole[whole != v], train[train != v]
        spread = max(rest.std(), 1e-12)
        for of, name in ((np.mean, "mean"), (np.median, "median")):
            if abs(of(rest) - v) <= 0.01 * NEAR * spread < FAR * spread < abs(of(own) - v):
                return f"filled in with the {name} of all splits ({v:.6g}), which is not that of the training rows"
    return None


def _standard(x: np.ndarray) -> float:
    """How far x is from mean 0 and spread 1, by n or by n - 1."""
    return max(abs(x.mean()), min(abs(x.std() - 1), abs(x.std(ddof=1) - 1)))


def _scaled(x: np.ndarray) -> bool:
    low, high = x.min(), x.max()
    rounded = (np.abs(x - np.round(x, 4)) < 1e-9).mean() > 0.5  # shares, grades: 0 and 1 are values like any other
    return not rounded and abs(low) < 1e-9 and abs(high - 1) < 1e-9 and (x == low).sum() == 1 == (x == high).sum()
