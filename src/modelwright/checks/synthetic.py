"""Rows that were made between others before the split (SMOTE; Chawla et al. 2002, ADASYN, mixup): a test row on one line with two training rows.

A made row is a + u (b - a), so the three lie on one straight line, which rows of real columns never do: in three independent columns of real numbers
two coincidences to six digits would be needed. For a row x the directions to all training rows are reduced to one number, the quotient of two random
projections, in which opposite directions are equal; equal ones are then compared in full. It does not matter which of the three was made: a test row
that training rows were made of has been learnt from, too. Only columns of numbers most of which differ are looked at, and rows of one label where labels
are classes. Left out: rows rounded after they were made (to fewer than some six digits), those that are made by a model.
"""

from __future__ import annotations

import numpy as np

NEAR = 1e-6  # of a column's spread: what single precision and printing leave


def real(x: np.ndarray) -> bool:
    """A column of numbers that are nearly all there, and most of which differ."""
    there = x[np.isfinite(x)]
    return len(there) > max(40, 0.9 * len(x)) and len(np.unique(there)) > 0.5 * len(there)


def between(train: np.ndarray, test: np.ndarray, labels: tuple[np.ndarray, np.ndarray] | None, seed: int) -> np.ndarray | None:
    """(M,) bool: the test rows on one line with two training rows. train (N, D), test (M, D): real columns; labels: (N,), (M,). None: too few columns."""
    bent = _bent(np.concatenate([train, test]))
    whole, asked = np.isfinite(train).all(1) & ~bent[: len(train)], np.isfinite(test).all(1) & ~bent[len(train) :]
    if not whole.any():
        return None
    middle, spread = train[whole].mean(0), train[whole].std(0)
    if whole.sum() < 20 or (spread == 0).any():
        return None
    train, test = (train - middle) / spread, (test - middle) / spread
    strength = np.linalg.svd(train[whole], compute_uv=False)
    if (strength > 0.02 * strength[0]).sum() < 3:
        return None
    first, then = (np.zeros(len(train)), np.zeros(len(test))) if labels is None else labels
    found, onto = np.zeros(len(test), bool), np.random.default_rng(seed).normal(size=(train.shape[1], 2))
    for k in np.unique(then):
        theirs, mine = np.unique(train[whole & (first == k)], axis=0), np.flatnonzero((then == k) & asked)
        for start in range(0, len(mine) if len(theirs) > 2 else 0, 64):
            rows = mine[start : start + 64]
            found[rows] = _on_a_line(theirs, test[rows], theirs @ onto, test[rows] @ onto)
    return found


def _bent(x: np.ndarray) -> np.ndarray:
    """(N,) bool: rows with two equal cells, or with a cell that many rows have (bills of 0, the same each month): such rows lie on common lines by nature."""
    found = (np.diff(np.sort(x, 1), axis=1) == 0).any(1)
    for column in x.T:
        _, of, times = np.unique(column, return_inverse=True, return_counts=True)
        found |= times[of] > 5
    return found


def _on_a_line(train: np.ndarray, test: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (N, 2), b (M, 2): train and test projected."""
    across, along = (a[None, :, i] - b[:, None, i] for i in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.arctan(along / across)  # (M, N)
    order = np.argsort(slope, 1)
    ordered, far = np.take_along_axis(slope, order, 1), np.take_along_axis(np.hypot(across, along), order, 1)
    close = np.diff(ordered, axis=1) <= 20 * NEAR / np.minimum(far[:, 1:], far[:, :-1]).clip(1e-9)
    row, at = np.nonzero(close)
    to, other = (train[order[row, at + i]] - test[row] for i in (0, 1))
    length, width = np.linalg.norm(to, axis=1), np.linalg.norm(other, axis=1)
    same = np.minimum(length, width) < 100 * NEAR  # a copy, which lies on every line
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.linalg.norm(to / length[:, None] - (np.sign((to * other).sum(1)) / width)[:, None] * other, axis=1)
    hit = ~same & (off <= 20 * NEAR / np.minimum(length, width).clip(0.01))
    return np.bincount(row[hit], minlength=len(test)) > 0
