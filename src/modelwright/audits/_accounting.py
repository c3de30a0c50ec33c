"""A statement of private training, read closely, and the epsilon of what it says was done.

Epsilon: dp-accounting's privacy loss distributions of Poisson-subsampled Gaussians (connect-the-dots, Doroshenko et al. 2022), an upper bound at a grid
of 5e-4; its Renyi accountant beside it. Replacing one row is removing one and adding another: by group privacy (epsilon, delta) for adding or removing
is (2 epsilon, (1 + e^epsilon) delta) for replacing.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

NEEDS = ("epsilon", "delta", "noise_multiplier", "sample_rate", "steps", "clip", "divisor", "rows", "neighbours", "accountant")


def wrong(said: dict[str, Any], taken: int | None = None) -> tuple[list[str], dict[str, str]]:
    """Reason codes of a statement that cannot carry its claim, and what is wrong by field. taken: steps that the stage really made."""
    why = {f: "is missing" for f in NEEDS if said.get(f) is None}
    if why:
        return ["privacy.incomplete"], why
    numbers = {f: said[f] for f in NEEDS if f not in ("neighbours", "accountant")}
    why = {f: f"{v!r} is not a positive number" for f, v in numbers.items() if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < math.inf}
    if why:
        return ["privacy.invalid"], why
    codes = []
    if said["sample_rate"] > 1 or said["delta"] * said["rows"] >= 1:
        codes.append("privacy.invalid")
        why["sample_rate, delta"] = "a rate is at most 1, and delta below 1 / rows"
    if "replace" in str(said["neighbours"]).lower() or str(said.get("sampler", "poisson")).lower() != "poisson":
        codes.append("privacy.sampler")
        why["neighbours"] = "only Poisson sampling under adding or removing one row can be computed again"
    expected = said["sample_rate"] * said["rows"]
    if abs(said["divisor"] - expected) > max(1.0, 0.02 * expected):
        codes.append("privacy.divisor")
        why["divisor"] = f"{said['divisor']:g}, and the expected number of rows is {expected:g}: the real one is itself private"
    steps = sum(part[2] for part in parts(said))
    if taken is not None and taken > steps:
        codes.append("privacy.steps")
        why["steps"] = f"{steps} accounted for, {taken} taken"
    return codes, why


def parts(said: dict[str, Any]) -> list[tuple[float, float, int]]:
    """(noise multiplier, rate, steps) of each segment; a statement without segments is one."""
    whole = {k: said[k] for k in ("noise_multiplier", "sample_rate", "steps")}
    segments = [{**whole, **s} for s in said.get("segments", [])] or [whole]
    return [(float(s["noise_multiplier"]), float(s["sample_rate"]), int(s["steps"])) for s in segments]


@cache
def epsilon_of(done: tuple[tuple[float, float, int], ...], delta: float, accountant: str = "pld") -> float:
    """An upper bound of the epsilon of Poisson-subsampled Gaussians, (noise, rate, steps) each, composed."""
    import dp_accounting

    if accountant == "rdp":
        made = dp_accounting.rdp.RdpAccountant()
    else:
        made = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=5e-4)
    for noise, rate, steps in done:
        step = dp_accounting.GaussianDpEvent(noise)
        made.compose(dp_accounting.SelfComposedDpEvent(step if rate >= 1 else dp_accounting.PoissonSampledDpEvent(rate, step), steps))
    return float(made.get_epsilon(delta))


WORDS = {"sigma": "noise_multiplier", "q": "sample_rate", "rate": "sample_rate"}  # as segments from elsewhere may be written


def composed(said: dict[str, Any]) -> list[tuple[float, float, int]]:
    """Everything that a statement from elsewhere says was done, as `parts`. `segments` are the training itself where their steps add up to it or one of
    them is it; else, like `tuning_runs`, `tuning`, `trials`, `seeds` or `best_of` (how many runs there were with the last, or what each
    was), they come on top."""

    def those(listed: Any) -> list[tuple[float, float, int]]:
        entries = [{WORDS.get(k, k): v for k, v in (x if isinstance(x, dict) else {}).items()} for x in (listed if isinstance(listed, list) else [listed])]
        return [part for x in entries for part in parts({**said, "segments": [x]}) * max(1, int(x.get("runs", 1)))]

    (whole,) = parts({k: v for k, v in said.items() if k != "segments"})
    segments = those(said["segments"]) if said.get("segments") else []
    done = segments if sum(s[2] for s in segments) == whole[2] or whole in segments else [whole, *segments]
    for key in ("tuning_runs", "tuning", "seeds", "trials", "best_of"):
        runs = said.get(key) or 0
        runs = len(runs) if isinstance(runs, list) and all(isinstance(x, (int, float)) for x in runs) else runs
        done = done * max(1, int(runs)) if isinstance(runs, (int, float)) else [*done, *those(runs)]
    return done


def replacing(done: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """An upper bound of epsilon for replacing one row: the least 2 e with (1 + e^e) delta(e) at most delta, by bisection on the share of delta."""
    low, high = 1e-9, 1.0
    for _ in range(12):
        share = (low * high) ** 0.5
        low, high = (share, high) if (1 + math.exp(min(epsilon_of(done, delta * share), 700.0))) * share <= 1 else (low, share)
    return 2 * epsilon_of(done, delta * low)
