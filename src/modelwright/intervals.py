"""Intervals for metrics: where the value lies on other rows of the same kind. Two-sided at `level`, half of the error on each side.

Chosen by measured coverage (figures in tests/test_intervals.py and docs/verdicts.md):
- A share of rows (every row is 0 or 1): Clopper-Pearson. Wilson is narrower, but its worst error on one side is several times what it states, and a
  gate reads one side. With clusters the same at the effective number of rows (Korn and Graubard, 1998), never more than the rows.
- Everything else: the jackknife's standard error over rows or clusters (over at most 200 random groups of them) and Student's t with Satterthwaite's
  degrees of freedom, which count how unevenly the rows bear on the metric, on a scale that fits: log where less is better, Fisher's z in (0, 1). The
  bootstrap was tried first: percentile and BCa intervals at level 0.998 missed up to 8 and 7 % instead of 0.2 % (balanced accuracy with 15 rows in
  the rarest class; this one: 0.2 %), need 50 / (1 - level) resamples instead of 200, and their ends wander with the seed.
- A share that rests on its rarest class (auroc, f1, average precision): never wider than Clopper-Pearson's over so many rows, since the variance of
  an AUROC is at most A (1 - A) / min(m, n) (van Dantzig 1951; Birnbaum & Klose 1957). Near 1 one row in a hundred counts, and leaves the jackknife a
  degree of freedom and an interval of anything. Over auroc, average precision, f1 and balanced accuracy, 36 cells of 100 to 200 rows: 0 to 6 % missed
  at 0.95 as before, and where it matters a third of the width (f1 near 0.98, 40 rows in the rarest class: 0.10 for 0.41 at the 90th percentile).
- A metric that no row moves (accuracy 1, auroc 1, a return of 500 in every episode): unseen rows of another kind may be 1 - (error / 2)^(1 / units)
  of all.
- NaN ends where leaving out one row or cluster leaves the metric undefined: one positive is no basis for an interval.

What no method mends: a tail heavier than the sample shows (rmse with log-normal error scales, 300 rows: 85 % at 0.95); clusters that nobody declared;
a metric biased on few rows (ece: a calibrated model's is never 0, so the low end is too high; the high end, which a limit reads, is safe).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv, stdtrit

from .kind import Metric

GROUPS = 200  # most jackknife groups: more no longer narrows the t quantile


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float
    method: str


def interval(metric: Metric, n: int, *, level: float, clusters: np.ndarray | None = None, seed: int = 0) -> Interval:
    """The metric over rows 0 to n-1. clusters (N,) int: rows that stand or fall together. Ends are NaN where there is no basis for them."""
    rows, n, labels, count = _units(metric, n, clusters)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, "no rows")
    if rows is not None and ((rows == 0) | (rows == 1)).all():
        return _share(rows, labels, count, level)
    value = metric.value(np.arange(n)) if rows is None else float(rows.mean())
    bounded = metric.better == "higher" and value <= 1 and (rows is None or bool((np.abs(rows) <= 1).all()))  # by 1
    scale = "log" if metric.better == "lower" and value > 0 else "z" if bounded and 0 < value < 1 else "plain"
    left_out = _left_out(metric, rows, n, labels, count, seed)
    units = count if metric.of is None else _rarest(metric.of, labels)
    found = _student(value, left_out, scale, level, min(count, units or count), abs(value), labels is not None)
    if metric.of is not None and units and 0 < value < 1 and math.isfinite(found.low):
        low, high = _clopper_pearson(value * units, units, level)
        if high - low < found.high - found.low:
            of = "clusters with the rarest class" if labels is not None else "rows of the rarest class"
            return Interval(value, low, high, f"Clopper-Pearson over {units} {of}")
    return replace(found, high=min(found.high, 1.0)) if bounded and found.high > 1 else found


def within(rows: np.ndarray, low: float, high: float, *, level: float, clusters: np.ndarray | None = None, seed: int = 0) -> Interval:
    """The mean of rows (N,) that lie in [low, high]: no wider than Clopper-Pearson's of the share of that range, since of all rows with one mean those at
    its ends scatter most (Hoeffding 1963). One row in 128 that differs leaves the jackknife 2 degrees of freedom, and an interval of anything."""
    mean = Metric.mean(rows)
    found, (rows, _, labels, count) = interval(mean, len(rows), level=level, clusters=clusters, seed=seed), _units(mean, len(rows), clusters)
    if not count:
        return found
    share = _share((rows - low) / (high - low), labels, count, level)
    ends = low + (high - low) * share.low, low + (high - low) * share.high
    return found if found.high - found.low <= ends[1] - ends[0] else Interval(found.value, *ends, f"{share.method}, of the range from {low:g} to {high:g}")


def paired(a: Metric, b: Metric, n: int, *, level: float, clusters: np.ndarray | None = None, seed: int = 0) -> Interval:
    """a - b on the same rows. Where both are means over rows, rows that only one of them knows are left out."""
    if a.rows is not None and b.rows is not None:
        difference, spread = Metric.mean(a.rows - b.rows), float(np.nanmax(np.abs([a.rows, b.rows]), initial=0))
    else:
        difference = Metric(lambda i: a.value(i) - b.value(i))
        spread = max(abs(m.value(np.arange(n))) for m in (a, b))
    rows, n, labels, count = _units(difference, n, clusters)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, "no rows")
    value = difference.value(np.arange(n)) if rows is None else float(rows.mean())
    return _student(value, _left_out(difference, rows, n, labels, count, seed), "plain", level, count, spread, labels is not None)


def _rarest(of: np.ndarray, labels: np.ndarray | None) -> int:
    """How many rows, or clusters, the rarest class has."""
    there = of >= 0
    pairs = of[there] if labels is None else np.unique(np.stack([of[there], labels[there]]), axis=1)[0]
    counts = np.bincount(pairs)
    return int(counts[counts > 0].min(initial=len(of)))


def _units(metric: Metric, n: int, clusters: np.ndarray | None) -> tuple[np.ndarray | None, int, np.ndarray | None, int]:
    """The metric's rows that are known, how many, their clusters as 0 to G-1, and how many rows or clusters there are."""
    rows = None if metric.rows is None else np.asarray(metric.rows, np.float64)
    if rows is not None:
        known = ~np.isnan(rows)
        rows, clusters = rows[known], None if clusters is None else clusters[known]
        n = len(rows)
    labels = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    return rows, n, labels, n if labels is None else int(labels.max(initial=-1)) + 1


def over_seeds(values: np.ndarray, level: float = 0.95) -> Interval:
    """The mean over training seeds with Student's t interval; NaN ends for fewer than two. It speaks of other seeds, on the same data."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return Interval(math.nan, math.nan, math.nan, "no seeds")
    mean, k = float(values.mean()), len(values)
    half = _t(level, k - 1) * values.std(ddof=1) / k**0.5 if k > 1 else math.nan
    return Interval(mean, mean - half, mean + half, f"t over {k} seeds")


def needed_n(value: float, low: float, high: float, limit: float, n: int) -> int | None:
    """The rows at which the interval, shrinking as 1 / sqrt(n) around the same value, would clear the limit; None where it never would."""
    gap, half = abs(value - limit), (value - low if value > limit else high - value)
    if gap == 0 or not math.isfinite(gap) or not half < 1e6 * gap:  # far off: on a logarithmic scale an end may be at 1e200
        return None
    return max(n, math.ceil(n * (half / gap) ** 2) + 1)


def _share(rows: np.ndarray, labels: np.ndarray | None, count: int, level: float) -> Interval:
    """Clopper-Pearson at the effective number of rows: n without clusters, p (1 - p) / variance with them, charged for
    an uncertain variance by the ratio of t quantiles (down to one row a cluster)."""
    n, p = len(rows), float(rows.mean())
    if labels is None:
        return Interval(p, *_clopper_pearson(p * n, n, level), "Clopper-Pearson")
    if count < 2:
        return Interval(p, math.nan, math.nan, "one cluster: no interval")
    variance, df = _variance(_left_out_means(rows, labels))
    effective = count if p in (0, 1) else min(n, p * (1 - p) / variance if variance > 0 else n)
    effective = max(effective * (_t(level, n - 1) / _t(level, df)) ** 2, min(effective, count))
    low, high = _clopper_pearson(p * effective, effective, level)
    return Interval(p, low, high, f"Korn-Graubard, {count} clusters")


def _clopper_pearson(hits: float, n: float, level: float) -> tuple[float, float]:
    error = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, error)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - error)) if hits < n else 1.0
    return low, high


def _left_out(metric: Metric, rows: np.ndarray | None, n: int, labels: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """(G,) the metric with each row, cluster or group of them left out."""
    if rows is not None:
        return _left_out_means(rows, np.arange(n) if labels is None else labels)
    groups = min(count, GROUPS)
    group = np.arange(count) if count <= GROUPS else np.random.default_rng(seed).permutation(count) % groups
    group = group if labels is None else group[labels]
    return np.array([metric.value(np.flatnonzero(group != g)) for g in range(groups)])


def _left_out_means(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    size = np.bincount(labels)
    with np.errstate(invalid="ignore"):  # a single row leaves nothing
        return (rows.sum() - np.bincount(labels, rows)) / (len(rows) - size)


def _variance(left_out: np.ndarray) -> tuple[float, float]:
    """Jackknife variance, and Satterthwaite's degrees of freedom: G - 1 where all groups bear alike on the metric, about 2 r where only r do."""
    g, square = len(left_out), (left_out - left_out.mean()) ** 2
    total = square.sum()
    spare = (square**2).sum() - total**2 / g
    return (g - 1) / g * total, min(max(2 * total**2 / spare, 1.0), g - 1) if spare > 0 else g - 1


def _student(value: float, left_out: np.ndarray, scale: str, level: float, units: int, spread: float, clustered: bool) -> Interval:
    g, of = len(left_out), "clusters" if clustered else "rows"
    if g < 2 or not np.isfinite(left_out).all() or not math.isfinite(value):
        return Interval(value, math.nan, math.nan, f"none: the metric is undefined when some {of} are left out")
    variance, df = _variance(left_out)
    if variance <= (1e-12 * abs(value)) ** 2:
        return _constant(value, spread, units, level, of)
    half = _t(level, df) * variance**0.5
    method = f"jackknife over {of if clustered or g == units else f'{g} groups of {of}'}, t with {df:.0f} degrees of freedom"
    if scale == "log":
        factor = math.exp(min(half / value, 700.0))
        return Interval(value, value / factor, value * factor, f"{method}, log scale")
    if scale == "z":
        step = half / (1 - value**2)
        return Interval(value, math.tanh(math.atanh(value) - step), math.tanh(math.atanh(value) + step), f"{method}, z scale")
    return Interval(value, value - half, value + half, method)


def _constant(value: float, spread: float, units: int, level: float, of: str) -> Interval:
    """No row moves the metric: a share of unseen rows, 1 - (error / 2)^(1 / units), may be off by the spread each; unbounded without a spread."""
    share = 1 - ((1 - level) / 2) ** (1 / units)
    off = share * spread if spread > 0 else math.inf
    return Interval(value, value - off, value + off, f"exact share of unseen {of} among {units}, each off by at most {spread:.4g}")


def _t(level: float, df: float) -> float:
    return float(stdtrit(df, 0.5 + level / 2))
