"""Does the order of the rows tell the label: a file sorted by it, labels in runs, or dealt out in turn.

A model reads no row's number, but what cuts such a file in order, takes its first rows or keeps their number as a column gives the answer away. Labels
are compared with those 1 to 8 rows earlier, and with the 4, 16 and 64 earlier ones together: Cohen's kappa (1960) of classes, the correlation of a number's
ranks. In random order both are 0 with a spread of at most 1 / sqrt(pairs). Found where it is surely beyond 0.1, up or down. Rows of one unit (a person's
visits) lie together by nature and are not compared. A table in order of time whose outcome drifts is found, too: then the order is that of time.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

LAGS, TOGETHER = 8, (4, 16, 64)
STRONG = 0.1


def told_by_order(y: np.ndarray, classes: int | None, level: float, units: np.ndarray | None = None) -> str | None:
    """How y (N,), in the order of the file, repeats itself; None where it does not. classes: None of a number."""
    if len(y) < 40 or len(np.unique(y)) < 2:
        return None
    if classes is None:
        z = rankdata(y)
        z = (z - z.mean()) / z.std()
    else:
        chance = float(((np.bincount(y) / len(y)) ** 2).sum())
    sums, pairs = [], []
    for lag in range(1, min(max(TOGETHER), len(y) // 3) + 1):
        apart = np.ones(len(y) - lag, bool) if units is None else units[lag:] != units[:-lag]
        alike = z[lag:] * z[:-lag] if classes is None else ((y[lag:] == y[:-lag]) - chance) / (1 - chance)
        sums.append(float(alike[apart].sum()))
        pairs.append(int(apart.sum()))
    asked = [(f"{lag} rows earlier" if lag > 1 else "one row earlier", sums[lag - 1], pairs[lag - 1]) for lag in range(1, LAGS + 1)]
    asked += [(f"up to {k} rows earlier", sum(sums[:k]), sum(pairs[:k])) for k in TOGETHER]
    sure = float(ndtri(1 - (1 - level) / 2 / len(asked)))
    found = [(abs(s / n) - sure / n**0.5, s / n, where) for where, s, n in asked if n >= 40]
    low, value, where = max(found, default=(0.0, 0.0, ""))
    return f"{'rank correlation' if classes is None else 'kappa'} {value:.3f} with the label {where}" if low > STRONG else None
