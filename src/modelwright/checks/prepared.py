"""Columns that were prepared on all rows before they were split: standardised, centred, scaled, ranked, filled in, counted, or encoded by the target.

What was fitted on the training rows alone is exact there, and is not over all splits; what was fitted on all of them is exact over all, and not on the
training rows. Exact means to four digits of a spread where two moments are, to six where one is: by chance they are that near once in some ten thousand
columns. Left out: selections of columns, which leave no such trace; smoothed encodings; splits of which not all rows are at hand.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

NEAR = 1e-4  # of a spread
FAR = 20 * NEAR  # what training rows alone must be off by
MOST = 200  # values of a category that was written as the mean of the target


def prepared(parts: list[np.ndarray]) -> str | None:
    """How a column was prepared on all rows. parts: its numbers (NaN where missing) by split, training rows first; None where nothing says so."""
    train, whole = parts[0][np.isfinite(parts[0])], np.concatenate(parts)
    whole = whole[np.isfinite(whole)]
    if len(parts) < 2 or len(train) < 20 or len(np.unique(whole)) < 20 or len(train) == len(whole):
        return None
    for what, off, near in MARKS:
        if off(whole) <= near and off(train) > 20 * near:
            return f"{what} over all splits, not over the training rows"
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


def each_alone(parts: list[np.ndarray], groups: list[np.ndarray]) -> str | None:
    """How every split was prepared by its own rows: what answers one row must then have waited for the others. groups: of the last split, (N,) int each; a
    column that is even within the values of one of them (of each person, say, whose rows are all in one split) is let be."""
    known = [x[np.isfinite(x)] for x in parts]
    if len(parts) < 2 or any(len(x) < 20 or len(np.unique(x)) < 20 for x in known):
        return None
    how = next((what for what, off, near in MARKS[:3] if all(off(x) <= near for x in known)), None)
    how = how or ("scaled to [0, 1]" if all(map(_scaled, known)) else None)
    x, told = parts[-1], np.isfinite(parts[-1])
    for g in groups if how else ():
        times = np.maximum(np.bincount(g[told]), 1)
        if (np.abs(np.bincount(g[told], x[told]) / times) <= NEAR * x[told].std()).all():
            return None
    return f"{how} in each split by itself, not by the training rows" if how else None


def counted(parts: list[np.ndarray]) -> str | None:
    """Whether a column says how many rows have each row's category (count or frequency encoding): so many, or a multiple of it, have each number v."""
    train, whole = parts[0], np.concatenate(parts)
    if len(parts) < 2 or not np.isfinite(whole).all() or len(train) == len(whole):
        return None

    def fits(x: np.ndarray) -> bool:
        values, counts = np.unique(x if x.max(initial=0) > 1 else x * len(x), return_counts=True)
        v = np.round(values)
        return bool(len(v) and v.min() >= 1 and (np.abs(v - values) < 1e-6 * v).all() and (counts % v == 0).all() and np.log(v).sum() > 20)

    exact = fits(whole) and not fits(train)  # by chance a number of rows is a multiple of v once in v times
    return "each value is the number, or the share, of all splits' rows that have it (count encoding), not of the training rows" if exact else None


def filled_by(parts: list[np.ndarray], group: list[np.ndarray]) -> str | None:
    """Whether gaps were filled in with the mean of each row's group over all splits. group: its number, 0 to G - 1, by split as parts."""
    groups = 1 + max(int(g.max(initial=0)) for g in group)
    whole, of = np.concatenate(parts), np.concatenate(group)
    if not np.isfinite(whole).all() or not 2 <= groups <= MOST:
        return None
    if not ((in_order := np.sort(whole))[4:] == in_order[:-4]).any():  # no value stands five times
        return None
    value, code, times = np.unique(whole, return_inverse=True, return_counts=True)
    common = np.full(groups, np.nan)  # the value that fills each group: in its rows alone, five times at least
    cell, many = np.unique(code * groups + of, return_counts=True)
    for c, m in zip(cell[many >= 5], many[many >= 5]):
        if m == times[c // groups] and not m < (whole[of == c % groups] == common[c % groups]).sum():
            common[c % groups] = value[c // groups]
    told = np.isfinite(common)
    if told.sum() < 2:
        return None

    def off(x: np.ndarray, g: np.ndarray) -> float:
        own = x != common[g]
        n = np.bincount(g[own], minlength=groups)
        return float(np.abs(np.bincount(g[own], x[own], groups)[told] / np.maximum(n[told], 1) - common[told]).max())

    exact = off(whole, of) <= 0.01 * NEAR * whole.std() < FAR * whole.std() < off(parts[0], group[0])
    return "filled in with each group's mean over all splits, which is not that of its training rows" if exact else None


def encoded(parts: list[np.ndarray], y: list[np.ndarray]) -> str | None:
    """Whether a column is the share of a class among all rows of a category (target encoding). y: 0 or 1, by split as parts."""
    x, said = np.concatenate(parts), np.concatenate(y)
    if len(np.unique(x[: 10 * MOST])) > MOST:  # before millions of rows are sorted
        return None
    values, of = np.unique(x, return_inverse=True)
    if not 5 <= len(values) <= MOST or np.isnan(values).any() or (values == np.round(values)).all():
        return None
    off = []
    for rows in (slice(None), slice(len(parts[0]))):
        count = np.bincount(of[rows], minlength=len(values))
        mean = np.bincount(of[rows], said[rows], len(values))[count > 0] / count[count > 0]
        off.append(np.abs(mean - values[count > 0]).max())
    exact = off[0] <= NEAR * said.std() < FAR * said.std() < off[1]
    return "each value is the share of a class among all splits' rows that have it (target encoding), not among the training rows" if exact else None


def _standard(x: np.ndarray) -> float:
    """How far x is from mean 0 and spread 1, by n or by n - 1."""
    return max(abs(x.mean()), min(abs(x.std() - 1), abs(x.std(ddof=1) - 1)))


def _centred(x: np.ndarray) -> float:
    return np.inf if _rounded(x) else abs(x.mean()) / max(x.std(), 1e-12)


def _robust(x: np.ndarray) -> float:
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    return np.inf if _rounded(x) else max(abs(middle), abs(high - low - 1))


def _largest(x: np.ndarray) -> float:
    size = np.abs(x)
    return abs(size.max() - 1) if (size == size.max()).sum() == 1 and not _rounded(x) else np.inf


def _ranked(x: np.ndarray) -> float:
    """How far the steps between x, or between their shares of a Gaussian, are from being one and the same."""
    steps = [d for f in (np.asarray, ndtr) if (d := np.diff(np.sort(f(x)))).min() > 0]
    return np.inf if _rounded(x) else min((float(np.ptp(d) / d.mean()) for d in steps), default=np.inf)


MARKS = (("standardised: mean 0 and spread 1", _standard, NEAR), ("centred (or components of a decomposition): mean 0", _centred, 0.01 * NEAR),
         ("scaled by quantiles: median 0 and quartiles 1 apart", _robust, 0.01 * NEAR), ("scaled by the largest value: 1", _largest, 1e-9),
         ("ranks (or a Gaussian's quantiles at them): all steps alike", _ranked, 0.02))  # fmt: skip


def _rounded(x: np.ndarray) -> bool:
    """Counts, shares, grades, row numbers: 0 and 1 are values like any other."""
    return bool((np.abs(x - np.round(x, 4)) < 1e-9).mean() > 0.5)


def _scaled(x: np.ndarray) -> bool:
    low, high = x.min(), x.max()
    return not _rounded(x) and abs(low) < 1e-9 and abs(high - 1) < 1e-9 and (x == low).sum() == 1 == (x == high).sum()
