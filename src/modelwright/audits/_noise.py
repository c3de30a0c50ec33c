"""Is the noise what was claimed: there, Gaussian, of that spread, everywhere, at every step, new each time?

z (M, D): what came out for gradients that cancel each other, M calls in some restarts. All intervals and tests are exact for independent Gaussians (chi
square; squared correlations of two Gaussian vectors are Beta(1/2, (n - 1) / 2)), but for lags and shape (normal approximation, Kolmogorov-Smirnov).
Each test errs with probability `alpha` at most, and what differs by less than a hundredth is no finding.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import beta, chi2, kstest, norm

Finding = tuple[str, str]  # reason code, words
BLOCKS, MOST = 8, 400  # of steps; rows or columns that are compared with each other


def spread(squares: float, n: int, alpha: float) -> tuple[float, float]:
    """Interval of a standard deviation from a sum of n squares, each end wrong with probability alpha."""
    return float(np.sqrt(squares / chi2.ppf(1 - alpha, n))), float(np.sqrt(squares / chi2.ppf(alpha, n)))


def equal(z: np.ndarray) -> tuple[int, int] | None:
    """Two rows of z (K, n) that are the same, or opposite; None where none are."""
    gram = z @ z.T
    size = np.diag(gram)
    apart = size[:, None] + size - 2 * np.abs(gram) + np.tri(len(z)) * 1e300
    i, j = np.unravel_index(int(apart.argmin()), apart.shape)
    return (int(i), int(j)) if len(z) > 1 and apart[i, j] <= 1e-9 * (size[i] + size[j]) else None


def alike(z: np.ndarray, alpha: float) -> tuple[int, int] | None:
    """The two rows of z (K, n) that are surely more alike (or opposite) than independent noise; None where none are."""
    k, n = z.shape
    if k < 2 or n < 3:
        return None
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-300)
    square = np.triu((unit @ unit.T) ** 2, 1)
    i, j = np.unravel_index(int(square.argmax()), square.shape)
    return (int(i), int(j)) if square[i, j] > beta.isf(2 * alpha / (k * (k - 1)), 0.5, (n - 1) / 2) else None


def related(z: np.ndarray, alpha: float) -> tuple[bool, bool]:
    """Whether rows of z (K, n) are together surely more alike than independent noise, and whether about all pairs are. Given the sizes of all entries, the
    squared cosine of two rows, of which signs are coins, has the mean sum_j u_j^2 v_j^2 =: m and the variance 2 (m^2 - sum_j u_j^4 v_j^4), and pairs are
    uncorrelated. The sum's skew is at most that of a chi square with as many degrees as a covariance of n, or as pairs."""
    k, n = z.shape
    if k < 8 or n < 3:
        return False, False
    unit, pair = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-300), np.triu_indices(k, 1)
    square, mean, fourth = (unit @ unit.T)[pair] ** 2, (unit**2 @ (unit**2).T)[pair], (unit**4 @ (unit**4).T)[pair]
    df, scale = min(n * (n + 1) / 2 - 1, len(square)), float(np.sqrt(2 * (mean**2 - fourth).sum()))
    if scale <= 0:
        return False, False
    surely = (square - mean).sum() / scale > (chi2.isf(alpha, df) - df) / np.sqrt(2 * df)
    return bool(surely), bool(np.median(square / np.maximum(mean, 1e-300)) > 1.2 * chi2.median(1))


def check(
    z: np.ndarray, at: np.ndarray, run: np.ndarray, claimed: float, spans: list[list[int]], alpha: float, rounded: bool = False
) -> tuple[list[Finding], dict]:  # fmt: skip
    """at, run (M,): step and restart of each call; claimed: the standard deviation; rounded: the release is, noise and all, which harms nobody. Findings,
    and the measured spread."""
    m, d = z.shape
    if not np.isfinite(z).all():
        return [("privacy.not_a_number", "what is released is not a number for gradients near zero")], {}
    low, high = spread(float((z**2).sum()), m * d, alpha)
    facts = {"std": float(z.std()), "low": low, "high": high, "claimed": claimed, "draws": m * d}
    if high < 1e-3 * claimed:
        return [("privacy.no_noise", f"no noise is drawn: a standard deviation of {facts['std']:.3g} where {claimed:.3g} was claimed")], facts
    if silent := int(((z**2).mean(1) < 1e-12 * claimed**2).sum()):
        return [("privacy.noise_varies", f"{silent} of {m} steps get no noise, as step {at[(z**2).mean(1).argmin()]}")], facts
    found = _reused(z, at, run) or ([ROUNDED] if few_values(z) and not rounded else []) or _related(z, alpha)
    found = found or _shared(z, alpha, rounded) or _reused(z, at, run, alpha) or _cancels(z, run, alpha)
    return found or _spread(z, at, claimed, spans, alpha, high) or _shape(z, alpha), facts


def _reused(z, at, run, alpha=None) -> list[Finding]:
    """alpha: None looks for the very same noise alone."""
    if alpha is not None:  # a loud layer must not speak for all, and a silent one says nothing
        spoken = (z**2).mean(0) > 0
        z = z[:, spoken] / np.sqrt((z[:, spoken] ** 2).mean(0))
    m, d = z.shape
    columns = slice(None) if d <= 20_000 else np.linspace(0, d - 1, 20_000).astype(int)
    rows = np.unique(np.concatenate([np.arange(min(m, MOST // 2)), np.linspace(0, m - 1, MOST // 2).astype(int)]))
    first = np.array([np.flatnonzero(run == r)[:3] for r in np.unique(run)[:20]]).reshape(-1)
    rows = np.unique(np.concatenate([rows, first]))
    pair = equal(z[rows][:, columns]) if alpha is None else alike(z[rows][:, columns], alpha)
    if pair is not None:
        a, b = rows[pair[0]], rows[pair[1]]
        if run[a] != run[b]:
            return [("privacy.noise_predictable", "the noise is the same after a restart with another seed: whoever has the code can take it away")]
        return [("privacy.noise_reused", f"the noise of step {at[b]} is that of step {at[a]}: differences of two releases have none")]
    for lag in range(1, 6) if alpha else ():
        here = np.flatnonzero(run[lag:] == run[:-lag]) if m > lag else []
        if len(here) > 3:
            score = float((z[here] * z[here + lag]).sum() / (z.var() * np.sqrt(len(here) * d)))
            if abs(score) > norm.isf(alpha / 10):
                return [("privacy.noise_reused", f"noise of steps {lag} apart is correlated ({score / np.sqrt(len(here) * d):+.3f})")]
    return []


def _related(z, alpha) -> list[Finding]:
    more, everywhere = related(z[np.unique(np.linspace(0, len(z) - 1, MOST).astype(int))], alpha)
    if more and everywhere:
        return [("privacy.noise_shared", "the noise is drawn in fewer directions than there are coordinates: some of it tells the rest")]
    return [("privacy.noise_reused", "a part of the noise of some steps comes again at others")] if more else []


def _cancels(z, run, alpha) -> list[Finding]:
    """Over 2, 4, 8, ... calls in a row: what is surely less than the sum of so many draws cancels itself."""
    spoken = (z**2).mean(0) > 0
    z = z[:, spoken] / np.sqrt((z[:, spoken] ** 2).mean(0))
    d, size = z.shape[1], 2
    while d and size <= len(z):
        blocks = [z[i : i + size].sum(0) for r in np.unique(run) for i in _starts(np.flatnonzero(run == r), size)]
        if blocks and (np.square(blocks).sum() / size) < chi2.ppf(alpha / 10, len(blocks) * d):
            return [("privacy.noise_reused", f"the noise of {size} steps in a row cancels itself: their sum has less than it should")]
        size *= 2
    return []


def _starts(calls: np.ndarray, size: int) -> list[int]:
    return calls[: len(calls) // size * size : size].tolist()


def _spread(z, at, claimed, spans, alpha, high) -> list[Finding]:
    m, d = z.shape
    # by coordinate, by layer, by step: one is surely short, and surely less than another
    per = (z**2).sum(0)
    low, above = np.sqrt(per / chi2.ppf(1 - alpha / d, m)), np.sqrt(per / chi2.ppf(alpha / d, m))
    short = above < 0.9 * claimed
    if short.any() and low.max() > above.min():
        return [("privacy.noise_partial", f"{int(short.sum())} of {d} coordinates get less noise than claimed, or none")]
    layers = [spread(float(per[a:b].sum()), m * (b - a), alpha / len(spans)) for a, b in spans]
    least = min(range(len(spans)), key=lambda i: layers[i][1])
    if layers[least][1] < 0.98 * claimed and max(e[0] for e in layers) > layers[least][1]:
        a, b = spans[least]
        return [("privacy.noise_partial", f"layer {least} (coordinates {a} to {b}) gets less noise than others, and than claimed")]
    order = np.argsort(at, kind="stable")
    parts = [p for p in np.array_split(order, min(BLOCKS, m)) if len(p)]
    ends = [spread(float((z[p] ** 2).sum()), len(p) * d, alpha / len(parts)) for p in parts]
    lows = [i for i, e in enumerate(ends) if e[1] < 0.98 * claimed]
    if lows and max(e[0] for e in ends) > min(e[1] for e in ends):
        p, best = parts[min(range(len(ends)), key=lambda i: ends[i][1])], max(e[0] for e in ends)
        words = f"the noise is not the same at every step: {np.sqrt((z[p] ** 2).mean()):.3g} about step {int(np.median(at[p]))}, over {best:.3g} at others"
        return [("privacy.noise_varies", words)]
    single = np.sqrt((z**2).sum(1) / chi2.ppf(alpha / m, d))
    if d >= 8 and high >= 0.99 * claimed and (single < 0.9 * claimed).any():
        return [("privacy.noise_varies", f"step {int(at[single.argmin()])} gets less noise than claimed, or none")]
    if high < 0.99 * claimed:
        return [("privacy.noise_below", f"the noise has a standard deviation of {np.sqrt((z**2).mean()):.4g} (at most {high:.4g}); {claimed:.4g} was claimed")]
    return []


def _shared(z, alpha, rounded) -> list[Finding]:
    """Between coordinates: one draw for several of them can be cancelled."""
    m, d = z.shape
    if d < 2:
        return []
    words = "coordinates share their noise: their differences have none"
    spoken = (z**2).mean(0) > 0  # coordinates without any are another matter
    z = z[:, spoken] / np.sqrt((z[:, spoken] ** 2).mean(0))
    z = z / np.sqrt((z**2).mean(1, keepdims=True)) if z.shape[1] >= 8 and (z**2).sum(1).min() > 0 else z
    d = z.shape[1]
    energy = (z.sum(1) ** 2).sum() / d
    if d < 2 or not chi2.ppf(alpha / 2, m) < energy < chi2.isf(alpha / 2, m):
        return [("privacy.noise_shared", words)] if d > 1 else []
    columns = np.unique(np.concatenate([np.arange(min(d, MOST // 2)), np.linspace(0, d - 1, MOST // 2).astype(int)]))
    few = z if m >= 1.7 * d else z[: int(d / 1.7)].T  # so that independent noise would have all directions by far
    if len(few) - few.shape[1] >= 10 and np.linalg.eigvalsh(few.T @ few)[0] < 1e-3 * len(few):
        return [("privacy.noise_shared", "the noise is drawn in fewer directions than there are coordinates: some have none")]
    if alike(z[:, columns].T, alpha) is not None:
        return [("privacy.noise_shared", words)]
    same = max(len(x) - len(np.unique(x)) for x in (np.abs(r[r != 0]) for r in (z[0], z[-1])))  # cells without noise are another matter
    return [("privacy.noise_shared", words)] if same > 2 + d / 50 and not rounded else []


ROUNDED = ("privacy.noise_shape", "the noise takes few values, as if rounded, and the accountant is for Gaussian noise")


def few_values(z: np.ndarray) -> bool:
    """Numbers that come at one step come at another: they were rounded. A place without any noise says nothing of it."""
    one, two = (np.round(x[x != 0] / (1e-6 * z.std())) for x in (z[0], z[len(z) // 2]))
    return bool(len(one) and np.isin(one, two).mean() >= 0.2)


def _shape(z, alpha) -> list[Finding]:
    flat = z.reshape(-1)
    few = (flat if len(flat) <= 40_000 else np.random.default_rng(0).choice(flat, 40_000, replace=False)) / flat.std()
    heavy = float((few**4).mean() / (few**2).mean() ** 2 - 3)
    if kstest(few, "norm", method="asymp").pvalue < alpha or abs(heavy) > norm.isf(alpha / 2) * np.sqrt(24 / len(few)) + 30 / len(few):
        return [("privacy.noise_shape", f"the noise is not Gaussian (excess kurtosis {heavy:+.2f}), and the accountant is for Gaussian noise")]
    m, d = z.shape
    lengths, df = (z**2).sum(1) / (z**2).mean(), 2 * m / (2 + 12 / d)  # chi square of d: their variance is 2 d, its own (2 + 12 / d) (2 d)^2 / m
    if m >= 24 and df * lengths.var(ddof=1) / (2 * d) < chi2.ppf(alpha, df):
        return [("privacy.noise_shape", "the noise of every step has nearly the same length: what is released lies on a sphere about the sum")]
    return []
