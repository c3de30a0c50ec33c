"""Which row is for what: train, validation, calibration, test. Exact duplicates and members of a group never straddle two splits.

Early stopping uses validation, temperatures and thresholds use calibration, and the test split is opened once, to judge.
"""

from __future__ import annotations

import numpy as np

NAMES = ("train", "validation", "calibration", "test")


def assign(
    n: int, shares: dict[str, float], seed: int, *, units: np.ndarray | None = None, strata: np.ndarray | None = None, time: np.ndarray | None = None
) -> np.ndarray:
    """(n,) index into NAMES.

    shares: of each split but train, in (0, 1). units (n,) int: rows with the same number stay together. strata (n,) int: shares hold within each
    (by a unit's first row). time (n,): later rows go to later splits, whole units by their latest row, and all of one moment to one split unless there are
    too few moments for that; strata are then ignored.
    """
    units = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    count = units.max(initial=-1) + 1
    size = np.bincount(units, minlength=count)
    first = np.full(count, n)
    np.minimum.at(first, units, np.arange(n))
    if time is not None:
        latest = np.full(count, -np.inf)
        np.maximum.at(latest, units, time.astype(np.float64))
        of = np.unique(latest, return_inverse=True)[1]
        whole = _cut(np.bincount(of, size), shares, later_last=True)
        if len(np.unique(whole)) == 1 + len(shares):
            return whole[of][units]
        order = np.argsort(latest, kind="stable")
        of_unit = _cut(size[order], shares, later_last=True)
        out = np.empty(count, np.int64)
        out[order] = of_unit
        return out[units]
    rng = np.random.default_rng(seed)
    out = np.zeros(count, np.int64)
    label = np.zeros(count, np.int64) if strata is None else strata[first]
    for value in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == value))
        out[members] = _cut(size[members], shares)
    return out[units]


def _cut(sizes: np.ndarray, shares: dict[str, float], later_last: bool = False) -> np.ndarray:
    """Splits of consecutive units so that each gets its share of the rows; train takes the rest (the first rows where time decides)."""
    total = sizes.sum()
    middle = np.cumsum(sizes) - sizes / 2  # a unit belongs where its middle falls
    order = ["train", *[s for s in NAMES[1:] if s in shares]] if later_last else [*[s for s in NAMES[1:] if s in shares], "train"]
    left = 1 - sum(shares.values())
    edges = np.cumsum([shares.get(s, left) for s in order])[:-1] * total
    which = np.searchsorted(edges, middle, side="right")
    return np.array([NAMES.index(s) for s in order])[which]
