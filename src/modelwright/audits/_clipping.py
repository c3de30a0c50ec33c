"""How far one row can move what is released: measured on rows made to slip through, with the noise taken off.

The noise is the same after `restart` with the same seed, so that the difference of two releases is that of their sums (common random numbers). Where a
trainer draws afresh each time, means of many releases are compared instead, along the row's own direction; that finds what moves a release by a fifth
too much. The unit is the sum of clipped gradients: releases are multiplied by the divisor, which is measured first, on small rows that no clipping
touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ._noise import Finding, spread

HUGE, CALLS, Z = 1e4, 600, 5.0  # times clip; calls of a mean; standard errors that a mean must exceed
SLACK = 1e-3  # float32 beside large numbers
FIRST = "a huge row before six others"


class Probe:
    """Noiseless differences. unit: what releases are multiplied by."""

    def __init__(self, trainer: Any, clip: float, sigma: float, steps: list[int], exact: bool, seed: int):
        self.trainer, self.clip, self.sigma, self.steps, self.exact, self.seed, self.unit = trainer, clip, sigma, steps, exact, seed, 1.0

    def difference(self, a: np.ndarray, b: np.ndarray, steps: list[int] | None = None) -> np.ndarray:
        """(T, D) of releases of a minus those of b, in units; (1, D), the mean, where the noise cannot be taken off. (0, D): the time is over."""
        self.trainer.restart(self.seed)
        steps = steps or self.steps
        steps = steps if self.exact else [steps[i % len(steps)] for i in range(CALLS)]
        x = self.trainer.privatize(a, steps)
        self.trainer.restart(self.seed)
        y = self.trainer.privatize(b, steps)
        n = min(len(x), len(y))
        if self.exact or n < CALLS:
            return (x[:n] - y[:n]) * self.unit * (self.exact or n == 0)
        return (x.mean(0) - y.mean(0))[None] * self.unit

    def fresh(self, batch: np.ndarray, calls: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Releases (M, D) in units, their steps and restarts (M,): no step twice in one restart, so that all noise should be new."""
        found, at, run = [], [], []
        for k in range(max(2, -(-calls // len(self.steps)))):
            if self.trainer.late:
                break
            self.trainer.restart(self.seed + k)
            steps = self.steps if calls > len(self.steps) else self.steps[: max(4, calls)] if k == 0 else self.steps[:4]
            x = self.trainer.privatize(batch, steps)
            found, at, run = [*found, x * self.unit], [*at, *steps[: len(x)]], [*run, *[k] * len(x)]
        return np.concatenate(found) if found else np.zeros((0, self.trainer.dimensions)), np.array(at, int), np.array(run, int)

    def moved(self, a: np.ndarray, b: np.ndarray, direction: np.ndarray, steps: list[int] | None = None) -> float:
        """The largest difference over the steps, as a norm; of means along the direction, what is surely there."""
        d = self.difference(a, b, steps)
        if self.exact or not len(d):
            return float(np.linalg.norm(d, axis=1).max(initial=0.0))
        return float(d[0] @ direction / np.linalg.norm(direction)) - Z * self.sigma * self.clip * np.sqrt(2 / CALLS) / (1 + SLACK)


def divisor(probe: Probe, stated: float, most: int, rng: np.random.Generator) -> tuple[list[Finding], bool, dict]:
    """Sets the unit; findings, and whether it is the number of rows drawn. most: rows that a call may have."""
    d, trainer, clip, seen = probe.trainer.dimensions, probe.trainer, probe.clip, {}
    u, layers = _unit(rng, d), max(1, len(trainer.spans))
    probe.unit = stated
    for rows in sorted({min(most, k) for k in ((2, 8, 32, 128) if probe.exact else (16, 64, 256))}):
        size = 0.1 * clip / layers / rows if probe.exact else 0.5 * clip / layers**0.5  # alone no clipping touches them, nor, without noise, together
        diff = probe.difference(np.tile(size * u, (rows, 1)), np.zeros((rows, d)) + 1e-12 * u) / stated
        along = float((diff @ u).mean()) if len(diff) else 0.0
        if along > (0 if probe.exact else 4 * Z * probe.sigma * clip * np.sqrt(2 / CALLS) / stated):
            seen[rows] = rows * size / along
    facts = {"stated": stated, "measured": {str(k): v for k, v in seen.items()}}
    if not seen:
        return [], False, facts
    tolerance, low, high = 0.02 if probe.exact else 0.3, min(seen.values()), max(seen.values())
    shares = [x / rows for rows, x in seen.items()]
    if probe.exact and low * (1 + 2 * tolerance) < high and max(shares) > min(shares) * (1 + 2 * tolerance) and (full := brimful(probe, seen, u)):
        seen, facts["of"] = full, "huge rows: small ones are scaled up, as automatic clipping does (Bu et al. 2023)"
        facts["measured"] = {str(k): v for k, v in seen.items()}
        low, high, shares = min(full.values()), max(full.values()), [x / rows for rows, x in full.items()]
    if probe.exact and low * (1 + 2 * tolerance) < high and max(shares) > min(shares) * (1 + 2 * tolerance):  # neither a constant nor a count
        words = "what small rows add to a release is not their sum: the noise moves with them, or another row's share does"
        return [("privacy.noise_data", words)], False, facts
    if high > low * (1 + 2 * tolerance):
        words = f"{max(seen)} rows are divided by {seen[max(seen)]:.4g}, {min(seen)} rows by {seen[min(seen)]:.4g}: the number drawn is itself private"
        return [("privacy.divisor", words)], True, facts
    middle = float(np.median(list(seen.values())))
    probe.unit = middle if probe.exact else stated
    if abs(middle - stated) > tolerance * stated:
        return [("privacy.divisor", f"sums are divided by {middle:.4g}; the statement says {stated:.4g}")], False, facts
    return [], False, facts


def brimful(probe: Probe, rows: Iterable[int], u: np.ndarray) -> dict[int, float]:
    """{rows: what their sum is divided by, were each clipped to the clip}; empty where rows do not add up."""
    seen = {}
    for k in rows:
        diff = probe.difference(np.tile(HUGE * probe.clip * u, (k, 1)), np.full((k, len(u)), 1e-12) * u)
        size = float(np.linalg.norm(diff.mean(0))) / probe.unit if len(diff) else 0.0
        if size:
            seen[k] = k * probe.clip / size
    return seen if seen and max(seen.values()) < 1.04 * min(seen.values()) else {}


def sensitivity(probe: Probe, every: list[int], many: int, rng: np.random.Generator) -> tuple[list[Finding], dict]:
    """One row replaced by none (one of 1e-12), in batches that make it matter most; the plainest at every step. many: more rows than are expected."""
    trainer, clip, d = probe.trainer, probe.clip, probe.trainer.dimensions
    u, v, equal = _unit(rng, d), _unit(rng, d), np.ones(d) / np.sqrt(d)
    signs = np.sign(rng.standard_normal(d)) / np.sqrt(d)
    quiet, ones = 0.3 * clip * np.array([_unit(rng, d) for _ in range(6)]), np.tile(v, (6, 1))
    layered = np.concatenate([_unit(rng, b - a) for a, b in trainer.spans]) * clip
    worst: dict[str, float] = {}
    for name, others, row in (
        ("a huge row", quiet, HUGE * clip * u),
        ("a huge row of equal entries", quiet, HUGE * clip * signs),
        ("a row of one and a half times the clip", quiet, 1.5 * clip * u),
        ("a row of three times the clip, all entries alike", quiet, 3 * clip * equal),
        ("a row that fills every layer to the clip", quiet, layered),
        ("a huge row of one entry", quiet, HUGE * clip * np.eye(1, d, d // 2)[0]),
        ("a huge row against six others", -clip * ones, HUGE * clip * v),
        ("a huge row beside six others at the clip", clip * ones, HUGE * clip * u),
        ("a tiny row", quiet, 1e-7 * clip * u),
        ("an enormous row", quiet, 1e12 * clip * u),
        ("a row of twenty times the clip", quiet, 20 * clip * u),
        (f"a huge row after {many:,} others", np.tile(1e-3 * clip * u, (many, 1)), HUGE * clip * u),
        (f"a row of twenty times the clip after {many:,} others", np.tile(1e-3 * clip * u, (many, 1)), 20 * clip * u),  # their mean is small
        (f"each of {many:,} huge rows", np.zeros((0, d)), np.tile(HUGE * clip * u, (many, 1))),  # wherever one stands
        (FIRST, quiet, HUGE * clip * u),
        *((f"a {word} row beside others, {share:.0%} of them small", _mixed(clip, share) * u, size * clip * u)
          for share in (np.arange(1, 40) / 40 if probe.exact else (0.5, 0.9)) for word, size in (("small", 1e-3), ("large", 1.0))),
    ):  # fmt: skip
        if trainer.late:
            break
        steps = every if name == "a huge row" and len(every) * d <= 1_000_000 else probe.steps[:1] if "small" in name else None
        rows, none = np.atleast_2d(row), np.tile(1e-12 * u, (len(row) if row.ndim > 1 else 1, 1))
        with_, without = (np.vstack([part, others] if name == FIRST else [others, part]) for part in (rows, none))
        worst[name] = probe.moved(with_, without, rows[0], steps) / len(rows)
    mixed = {n: x for n, x in worst.items() if "small" in n}
    shown = {n: x for n, x in worst.items() if n not in mixed or x == max(mixed.values())}
    facts: dict[str, Any] = {"clip": clip, "moved": shown, "exact": probe.exact}
    bad = [n for n, x in worst.items() if not x <= clip * (1 + SLACK if probe.exact else 1.05)]
    if not bad:
        return [], facts
    name = max(bad, key=lambda n: np.nan_to_num(worst[n], nan=np.inf))
    first, layers, even = bad[0], len(trainer.spans), worst.get("a huge row of equal entries", 0.0)
    how = ""
    if worst["a huge row"] > 0.5 * HUGE * clip:
        how = ": it is not clipped at all" if probe.exact else ""
    elif layers > 1 and abs(even - clip * layers**0.5) < 0.02 * clip * layers**0.5:
        how = ": each layer is clipped by itself"
    elif even > 1.5 * clip and abs(even - clip * d**0.5) < 0.05 * clip * d**0.5:
        how = ": entries are clipped, not the row"
    elif "small" in first:
        how = ": the bound depends on the other rows"
    elif "after" in first or "each of" in first:
        how = ": rows in some places are not clipped"
    elif first == FIRST:
        how = ": the first row is not clipped as others are"
    elif first.endswith("others") or "others" in first:
        how = ": rows are clipped together, not each by itself"
    return [("privacy.clipping", f"{name} moves the sum by {worst[name]:.4g}, and the clip is {clip:.4g}{how}")], facts


def _mixed(clip: float, share: float, rows: int = 40) -> np.ndarray:
    """(rows, 1): sizes, small ones and those at the clip. A bound that is read off the batch lies between them, and one more row moves it."""
    return clip * np.where(np.arange(rows) < round(share * rows), 0.05, 1.0)[:, None]


def memory(probe: Probe, rng: np.random.Generator, most: int) -> tuple[list[Finding], bool | None]:
    """Whether rows of the first batches move any release after them (most in all), the noise being the same, or of one batch the next over many; None: there
    was no time. What is kept and given back every so often may have been given back just then: first batches are a quarter of all, and one more."""
    trainer, clip, steps = probe.trainer, probe.clip, list(range(most)) if probe.exact else probe.steps[:2] if len(probe.steps) > 1 else probe.steps * 2
    u, times = _unit(rng, trainer.dimensions), 1 if probe.exact else CALLS // 2
    quarter, after = max(1, len(steps) // 4), np.tile(0.5 * clip * u, (6, 1))  # more than the small batch before it, and less than the large one
    for first in (quarter, quarter + 1) if quarter + 1 < len(steps) else (quarter,):
        means = []
        for size in (1e-3, 10.0):
            trainer.restart(probe.seed)
            seen = []
            while len(seen) < times and not trainer.late:
                trainer.privatize(np.tile(size * clip * u, (6, 1)), steps[:first])
                seen.append(trainer.privatize(after, steps[first:]) * probe.unit)
            if len(seen) < times or not len(seen[-1]):
                return [], None
            means.append(np.mean([x[: len(seen[-1])] for x in seen], 0))
        apart = means[0][: len(means[1])] - means[1][: len(means[0])]
        sizes = np.linalg.norm(apart, axis=1) if probe.exact else np.abs(apart @ u) - Z * probe.sigma * clip * np.sqrt(2 / times)
        moved, when = float(sizes.max()), steps[first + int(sizes.argmax())]
        if moved > 1e-4 * clip:
            words = f"what is released at step {when} depends on rows of earlier batches: it moves by {moved:.3g} beside a clip of {clip:.4g}"
            return [("privacy.memory", words)], True
    return [], False


def momentum(probe: Probe, stated: float) -> tuple[float, float, float] | None:
    """(gain, b, c) of y_t = b y_{t-1} + gain u_t + c u_{t-1} where releases answer a row as these do: momentum, Nesterov's or a running mean, of what the
    step itself releases. None where they answer otherwise, or only once. The gain is that of the one of the three that comes nearest to the stated divisor."""
    trainer, d = probe.trainer, probe.trainer.dimensions
    u, seen = 0.1 * probe.clip * _unit(np.random.default_rng(probe.seed), d), []
    for size in (1.0, 1e-9):
        trainer.restart(probe.seed)
        first = trainer.privatize(size * u[None], [0])
        seen.append(np.concatenate([first, trainer.privatize(1e-9 * u[None], list(range(1, 6)))]))
    if min(map(len, seen)) < 6:
        return None
    h = (seen[0] - seen[1]) @ u / (u @ u) * stated
    if min(abs(h[:2])) < 1e-3 or not 1e-3 < (b := float(h[2] / h[1])) < 1 or np.abs(h[2:] - b * h[1:-1]).max() > 1e-4 * abs(h[0]):
        return None
    gains = (1.0, 1 - b, 1 + b)
    gain = min(gains, key=lambda g: abs(np.log(abs(h[0]) / g)))
    return gain, b, float((h[1] - b * h[0]) * gain / h[0])


def noise_beside(probe: Probe, claimed: float, most: int, beyond: int, calls: int, alpha: float, rng: np.random.Generator) -> tuple[list[Finding], dict]:
    """The noise's spread beside no rows, one, many, more than are expected, and huge ones: it may depend on none of that. claimed: in units."""
    trainer, d = probe.trainer, probe.trainer.dimensions
    u, found, seen = _unit(rng, d), [], {}
    many = max(1, min(most, 96))
    half = u * (np.arange(d) % 2 == 0)  # as an embedding's: noise where a row has no entry hides that it has none
    batches = {
        "no rows": np.zeros((0, d)), "one row of some entries": 0.5 * probe.clip * half[None], f"{many} rows": np.tile(0.01 * probe.clip * u, (many, 1)),
        f"{beyond:,} rows": np.tile(0.001 * probe.clip * u, (beyond, 1)),
        f"{many} huge rows": np.tile(HUGE * probe.clip * u, (many, 1)) * np.where(np.arange(many) % 2, -1, 1)[:, None],
    }  # fmt: skip
    for name, batch in batches.items():
        if trainer.late:
            break
        try:
            x, _, _ = probe.fresh(batch, calls)
        except Exception as e:  # noqa: BLE001 - the trainer's own code
            code = "privacy.empty_batch" if not len(batch) else "privacy.code"
            found.append((code, f"{name}: privatize fails ({str(e).splitlines()[0][:120]})"))
            continue
        if len(x) < 2:
            break
        if not np.isfinite(x).all():
            found.append(("privacy.empty_batch" if not len(batch) else "privacy.not_a_number", f"{name}: what is released is not a number"))
            continue
        x = x - x.mean(0)  # the sum itself
        along = batch[0] / np.linalg.norm(batch[0]) if len(batch) else u
        if len(batch) and spread(float(((x @ along) ** 2).sum()), len(x) - 1, alpha / 4)[1] < 0.9 * claimed:
            found.append(("privacy.noise_data", f"beside {name} there is less noise along what the rows say, or none"))
        seen[name] = (float(np.sqrt((x**2).sum() / (len(x) - 1) / d)), *spread(float((x**2).sum()), (len(x) - 1) * d, alpha / 4))
    whole = seen.get(f"{many} rows")
    for name, (std, low, high) in seen.items():
        differs = bool(whole) and (low > 1.03 * whole[2] or high < 0.97 * whole[1])
        if name == "no rows" and (differs or (not whole and high < 0.97 * claimed)):
            found.append(("privacy.empty_batch", f"an empty batch is released with noise of {std:.4g}, where {claimed:.4g} was claimed"))
        elif differs:
            words = f"the noise depends on the rows: {std:.4g} beside {name}, {whole[0]:.4g} beside {many} rows; {claimed:.4g} was claimed"
            found.append(("privacy.noise_data", words))
        elif high < 0.97 * claimed:
            found.append(("privacy.noise_below", f"beside {name} the noise has a standard deviation of {std:.4g}; {claimed:.4g} was claimed"))
    return found, {n: s[0] for n, s in seen.items()}


def not_numbers(probe: Probe) -> str:
    """What a row of NaN does; no finding: gradients of a working model are numbers."""
    d = probe.trainer.dimensions
    row = np.full(d, 1e-9)
    row[0] = np.nan
    try:
        probe.trainer.restart(probe.seed)
        out = probe.trainer.privatize(np.vstack([np.full((2, d), 1e-9), row]), probe.steps[:1])
    except Exception:  # noqa: BLE001
        return "refused"
    return "dropped" if np.isfinite(out).all() else "released as they are: mend or drop such rows before the sum"


def _unit(rng: np.random.Generator, d: int) -> np.ndarray:
    x = rng.standard_normal(d)
    return x / np.linalg.norm(x)
