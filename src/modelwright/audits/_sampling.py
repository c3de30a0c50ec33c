"""Are rows drawn as the accountant assumes: each by its own coin of probability q, at every step anew (Poisson sampling)?

Every statistic is a sum over independent steps with known mean and variance under Poisson sampling, so its distance from the mean is counted in
standard deviations, against gamma quantiles where it is skewed (sizes, counts of rows). Pairs of steps some lags apart share n q^2 rows on average; so
do pairs of neighbouring rows: epochs, repeated batches and blocks show there.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, chi2, norm

from ._noise import Finding


def check(drawn: list[list[np.ndarray]], n: int, q: float, alpha: float) -> tuple[list[Finding], dict]:
    """drawn: per restart (with its own seed), the row indices of consecutive steps. Findings, and the measured rate with its interval."""
    flat = [d for run in drawn for d in run]
    if any(len(d) and (d.min() < 0 or d.max() >= n) for d in flat):
        return [("privacy.sampler", f"row numbers outside 0 to {n - 1} are drawn")], {}
    if any(len(np.unique(d)) < len(d) for d in flat):
        return [("privacy.sampler", "a row is drawn several times in one batch: with replacement it counts several times its share")], {}
    t, sizes = len(flat), np.array([len(d) for d in flat], float)
    total = sizes.sum()
    sd = np.sqrt(max(1.0, total * (1 - total / (n * t)))) / (n * t)
    facts = {"rate": total / (n * t), "low": total / (n * t) - norm.isf(alpha) * sd, "high": total / (n * t) + norm.isf(alpha) * sd, "batches": t}
    mean, variance = n * facts["rate"], n * facts["rate"] * (1 - facts["rate"])
    facts |= {"size_mean": float(sizes.mean()), "size_sd": float(sizes.std()), "poisson_sd": float(np.sqrt(variance))}
    twice = list(zip(drawn[0], drawn[1])) if len(drawn) > 1 else []
    if sum(len(a) for a, _ in twice) > 20 and mean < 0.9 * n and all(np.array_equal(np.sort(a), np.sort(b)) for a, b in twice):
        return [("privacy.sampler", "the same rows are drawn after a restart with another seed: who has the code knows who was in which batch")], facts
    found = _fixed(sizes, n, facts["rate"], alpha) or _steps(drawn, n, q, alpha) or _rows(flat, n, total / (n * t), alpha)
    if facts["low"] > 1.005 * q:
        found.append(("privacy.sample_rate", f"a row is drawn with probability {facts['rate']:.5g} (at least {facts['low']:.5g}); {q:.5g} was stated"))
    return found, facts


def _fixed(sizes: np.ndarray, n: int, q: float, alpha: float) -> list[Finding]:
    """Sizes: n q (1 - q) is their variance; a gamma with the right mean and variance stands for the sum of squares."""
    t, variance = len(sizes), n * q * (1 - q)
    if variance < 1e-9 or t < 4:
        return []
    if sizes.std() == 0 and t * variance > 4:
        return [("privacy.sampler", f"every batch has {sizes[0]:g} rows: fixed sizes (shuffled, or drawn without replacement), not Poisson sampling")]
    least, most = int(sizes.min()), int(sizes.max())
    if t * np.log(max(1e-300, binom.cdf(most, n, q))) < np.log(alpha) or t * np.log(max(1e-300, binom.sf(least - 1, n, q))) < np.log(alpha):
        words = f"of {t} batches all have {least} to {most} rows, and some would have more or fewer by chance: they are cut, or filled up"
        return [("privacy.sampler", words)]
    df = 2 * (t - 1) / (2 + 1 / variance)  # the fourth moment of a binomial, about
    ratio = sizes.var(ddof=1) / variance
    if not chi2.ppf(alpha / 2, df) < df * ratio < chi2.isf(alpha / 2, df):
        return [("privacy.sampler", f"batch sizes vary by {sizes.std():.4g}; Poisson sampling gives {variance**0.5:.4g}")]
    return []


def _steps(drawn: list[list[np.ndarray]], n: int, q: float, alpha: float) -> list[Finding]:
    """Rows that steps some lags apart share."""
    epoch, inside = max(1, round(1 / q)), np.zeros(n, bool)

    def common(a: np.ndarray, b: np.ndarray) -> int:
        inside[a] = True
        both = int(inside[b].sum())
        inside[a] = False
        return both

    lags = sorted({1, 2, 3, max(1, epoch - 1), epoch, epoch + 1})
    for lag in lags:
        pairs = [(run[i], run[i + lag]) for run in drawn for i in range(len(run) - lag)]
        shared = sum(common(a, b) for a, b in pairs)
        expected = sum(len(a) * len(b) for a, b in pairs) / n  # given the sizes
        sd = np.sqrt(max(expected * (1 - q) ** 2, 1e-12))
        if len(pairs) > 1 and abs(shared - expected) > norm.isf(alpha / 2 / len(lags)) * sd + 2:
            words = "fewer" if shared < expected else "more"
            what = "rows are shuffled through epochs" if shared < expected else "batches repeat"
            return [("privacy.sampler", f"batches {lag} steps apart share {words} rows than independent ones ({shared} against {expected:.1f}): {what}")]
    return []


def _rows(flat: list[np.ndarray], n: int, q: float, alpha: float) -> list[Finding]:
    """How often each row is drawn, and with its neighbour."""
    t = len(flat)
    counts = np.bincount(np.concatenate(flat).astype(int), minlength=n)
    variance = t * q * (1 - q)
    if variance <= 0:
        return []
    df = 2 * (n - 1) / (2 + 1 / max(variance, 1e-9))
    ratio = counts.var(ddof=1) / variance
    if binom.sf(counts.max() - 1, t, q) * n < alpha:
        return [("privacy.sampler", f"row {int(counts.argmax())} is drawn {int(counts.max())} times in {t} batches, where {t * q:.1f} are expected")]
    if not chi2.ppf(alpha / 2, df) < df * ratio < chi2.isf(alpha / 2, df):
        return [("privacy.sampler", "rows are not drawn equally often" if ratio > 1 else "rows are drawn too equally often: they take turns")]
    beside = sum(int((np.diff(np.sort(d)) == 1).sum()) for d in flat)
    expected = t * (n - 1) * q * q
    if abs(beside - expected) > norm.isf(alpha / 2) * np.sqrt(max(expected, 1e-12) * (1 + 2 * q)) + 2 and n > 2:
        return [("privacy.sampler", "neighbouring rows are drawn together more or less often than by chance: blocks")]
    return []


def follows(odd: np.ndarray, drawn: np.ndarray, n: int, q: float, alpha: float) -> list[Finding]:
    """odd, drawn (T,): rows of odd number among those drawn, where odd rows had large gradients before. By coins that is a binomial share of them."""
    total, share = int(drawn.sum()), (n // 2) / n
    if total < 50 or n * q >= n:
        return []
    score = (odd.sum() - share * total) / np.sqrt(total * share * (1 - share))
    if abs(score) <= norm.isf(alpha / 2):
        return []
    words = "more" if score > 0 else "less"
    return [("privacy.sampler", f"rows that had large gradients are drawn {words} often afterwards ({odd.sum() / total:.1%} of draws, for {share:.1%})")]
