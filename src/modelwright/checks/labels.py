"""How many labels are wrong: confident learning (Northcutt et al. 2021), made to say 0 where classes merely overlap.

Counting rows whose out-of-fold prediction confidently contradicts the label takes overlap for error. What tells them apart is how contradictions thin
out as the learner grows surer: those of overlap vanish, wrong labels stay. So the share of contradictions over the rank of confidence (within each
predicted class) is fitted as a psychometric function is (Wichmann & Hill 2001), whose lapse rate is the rate of wrong labels e:

    P(contradicts) = e + (1 - 2 e) sigmoid(-(a x + m)),      x the half-normal quantile of the rank

by maximum likelihood over a grid; the low end is its profile likelihood's. The high end needs no shape: among the surest 10, 30 or 80 % no fewer labels
contradict than are wrong (exact binomial, corrected for choosing). Errors that come alike in every region of a class are estimated without bias; errors
only near the border between classes are not seen. Overlap counts as error where it does not thin out: a learner that is blind to a cause (whether a client
will fall ill), or log odds that end abruptly. No curve can tell that from wrong labels, so where much is overlap anyway little is claimed: the low end is
less the share of contradictions that the curve lays to overlap. Which rows: `suspects`, as many as the confident joint of the paper counts, by the ratio of
the likeliest class to the label's own. Of the paper's scores the margin ranks worse than that where labels were flipped to any class, self confidence where
to a like one (`benchmarks/label_errors.py`). A group that the learner knows and whose codes were exchanged contradicts nobody: see `opposite`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.special import chdtri, expit, ndtri

from ..intervals import Interval, interval
from ..kind import Metric

SHARES = (0.1, 0.3, 0.8)
LEAST = 20  # surest rows that are needed to say anything
BINS = 25
HIGH = 0.15
OTHERWISE = 2 / 3  # of a group's labels
RATES = np.concatenate([np.arange(0, 0.06, 0.0025), np.arange(0.06, 0.5, 0.01)])  # of wrong labels, looked at


def confident_joint(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(K, K) counts: given label, confidently predicted label (equations 1 and 2). p (N, K) out of fold, y (N,)."""
    k = p.shape[1]
    means = np.array([p[y == j, j].mean() if (y == j).any() else np.inf for j in range(k)])
    sure = np.where(p >= means, p, -1.0)
    chosen, some = sure.argmax(1), sure.max(1) >= 0
    return np.bincount(y[some] * k + chosen[some], minlength=k * k).reshape(k, k)


def surety(p: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """(N,) in (0, 1): the rank of each row's highest probability among the rows of its predicted class (and of its group)."""
    guess, top, rank = p.argmax(1), p.max(1), np.zeros(len(p))
    cell = guess if within is None else guess + p.shape[1] * within
    for j in np.unique(cell):
        rows = np.flatnonzero(cell == j)
        rank[rows[np.argsort(top[rows], kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(rows)
    return rank


def error_rate(
    p: np.ndarray, y: np.ndarray, level: float, clusters: np.ndarray | None = None, within: np.ndarray | None = None, blind: bool = True
) -> tuple[Interval, int] | None:
    """The rate of wrong labels with its interval, and the rows its high end rests on; None where too few are sure. p (N, K) out of fold, y (N,). within
    (N,) int: groups in which errors come alike, but not alike in all of them. blind: the learner may be so to a cause."""
    best, rank = None, surety(p, within)
    for share in SHARES:
        rows = np.flatnonzero(rank > 1 - share)
        if len(rows) < LEAST:
            continue
        wrong = Metric.mean(p[rows].argmax(1) != y[rows], "lower")
        i = interval(wrong, len(rows), level=1 - (1 - level) / len(SHARES), clusters=None if clusters is None else clusters[rows])
        if best is None or i.high < best[0].high:
            best = (i, len(rows))
    if best is None:
        return None
    value, low = _lapses(p.argmax(1) != y, rank, level, clusters)
    value = min(value, best[0].value)
    low = max(0.0, min(low, value) - max(0.0, float((p.argmax(1) != y).mean()) - value) * blind)
    return replace(best[0], value=value, low=low, method=f"lapse rate over confidence; high end: {best[0].method}"), best[1]


def _lapses(against: np.ndarray, rank: np.ndarray, level: float, clusters: np.ndarray | None) -> tuple[float, float]:
    """The likeliest rate of contradictions (N,) bool that stay however sure the learner is, and the low end of its profile likelihood."""
    bins = (rank * BINS).astype(int)
    k, n = np.bincount(bins, against, BINS), np.bincount(bins, minlength=BINS)
    if clusters is not None:  # rows of a cluster say less than as many others: the likelihood is tempered by the design effect
        off = against - against.mean()
        effect = (np.bincount(np.unique(clusters, return_inverse=True)[1], off) ** 2).sum() / max((off**2).sum(), 1e-12)
        k, n = k / max(1.0, effect), n / max(1.0, effect)
    yes, no = _curves()
    likely = (yes @ k + no @ (n - k)).max(1)
    inside = np.flatnonzero(2 * (likely.max() - likely) <= chdtri(1, 1 - level))
    return float(RATES[likely.argmax()]), float(RATES[max(inside[0] - 1, 0)])


@cache
def _curves() -> tuple[np.ndarray, np.ndarray]:
    """(rates, shapes, BINS) log of the chance to contradict, and not to, of every curve that is looked at."""
    rank = (np.arange(4 * BINS) + 0.5) / (4 * BINS)
    a, m = (v.ravel()[:, None] for v in np.meshgrid(np.geomspace(0.1, 12, 25), [-3, -2, -1.4, -1, -0.7, -0.4, -0.2, 0, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5.5]))
    spread = (a >= m)[:, 0]  # between the surest row and the least sure lies at least what the latter has: a learner's blind eye is no overlap
    a, m = a[spread], m[spread]
    overlap = expit(-(a * ndtri((1 + rank) / 2) + m)).reshape(len(a), BINS, 4).mean(2)
    chance = RATES[:, None, None] + (1 - 2 * RATES[:, None, None]) * overlap
    chance = chance.clip(1e-9, 1 - 1e-9)
    return np.log(chance), np.log1p(-chance)


def worst_group(
    groups: dict[str, tuple[np.ndarray, list[str]]], p: np.ndarray, y: np.ndarray, level: float, clusters: np.ndarray | None, least: int = 60,
    ranges: Collection[str] = (),
) -> tuple[tuple[str, str], Interval, int, int] | None:
    """The column and name of the group of `least` rows or more whose rate is surely highest; its rate at a level corrected for the groups, the rows that it
    rests on, and how many groups were asked. groups: {column: (numbers of names (N,), names)}. ranges: those that are ranges of a number, which count
    beside others where their rate is above HIGH: some range of an input holds the border between classes."""
    inside = {(n, v): codes == j for n, (codes, names) in groups.items() for j, v in enumerate(names) if (codes == j).sum() >= least}
    named = [g for g in inside if g[0] not in ranges] or list(inside)

    def rate(g: tuple[str, str], among: int, blind: bool = False) -> tuple[Interval, int] | None:
        of = inside[g]
        return error_rate(p[of], y[of], 1 - (1 - level) / among, None if clusters is None else clusters[of], blind=blind)

    rates = {g: r for g in named if (r := rate(g, len(named))) is not None}
    rates |= {g: r for g in inside if g not in rates and (r := rate(g, len(inside))) is not None and r[0].value > HIGH}
    worst = max(rates, key=lambda g: (rates[g][0].low, rates[g][0].value), default=None)
    among = len(named) if worst in named else len(inside)
    return None if worst is None else (worst, *rate(worst, among, True), among)


def opposite(
    groups: dict[str, tuple[np.ndarray, list[str]]], x: np.ndarray, y: np.ndarray, level: float, clusters: np.ndarray | None, least: int = 60
) -> tuple[tuple[str, str], Interval, int, int] | None:
    """As `worst_group`, of a group whose labels surely mean something else: two in three contradict what all other rows say, where that says most (half do
    where another cause rules; more where codes were exchanged). A learner that is told the group learns to turn round what it says, and contradicts nobody.
    What others say is a plane (least squares of the classes' indicators on x (N, F)), so that leaving out one group at a time costs nothing; None where it
    says little."""
    x = np.nan_to_num((x - np.nanmean(x, 0)) / (np.nanstd(x, 0) + 1e-9))
    x, want = np.column_stack([x, np.ones(len(x))]).astype(np.float64), np.eye(int(y.max()) + 1)[y]
    gram, cross, ridge = x.T @ x, x.T @ want, 1e-3 * len(x) * np.eye(x.shape[1])
    inside = {(n, v): codes == j for n, (codes, names) in groups.items() for j, v in enumerate(names) if least <= (codes == j).sum() <= len(y) / 2}
    found = {}
    for g, of in inside.items():
        said = x @ np.linalg.solve(gram - x[of].T @ x[of] + ridge, cross - x[of].T @ want[of])
        top, against = np.sort(said, 1), said.argmax(1) != y
        sure = top[:, -1] - top[:, -2]
        told = of & (want[~of].sum(0) >= LEAST)[y]  # of a class that is nowhere else (the group is that class) others say nothing
        if told.sum() < least:
            continue
        rows, others = (np.flatnonzero(part & (sure >= np.median(sure[part]))) for part in (told, ~of))
        if against[others].mean() < 0.3 and against[rows].mean() > OTHERWISE:
            wrong, units = Metric.mean(against[rows], "lower"), None if clusters is None else clusters[rows]
            i = interval(wrong, len(rows), level=1 - (1 - level) / len(inside), clusters=units)
            found |= {g: (replace(i, method=f"{i.method}, of what all others say of the surer half"), len(rows))} if i.low > OTHERWISE else {}
    worst = max(found, key=lambda g: found[g][0].low, default=None)
    return None if worst is None else (worst, *found[worst], len(inside))


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
