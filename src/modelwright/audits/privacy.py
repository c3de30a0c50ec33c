"""The privacy that the run accounted for: its statements read closely, composed, and epsilon computed again from what they say was done.

A statement must say how rows were drawn, how much noise fell, on what, how often and by what it was divided; without that, or where two things that
it says exclude each other, there is no finite epsilon (value null, and any limit fails). Epsilon is computed again by dp-accounting (privacy loss
distributions of Poisson-subsampled Gaussians, connect-the-dots, Doroshenko et al. 2022) on a finer grid than the run's; the Renyi accountant's
looser bound stands beside it. The larger of stated and computed counts; a statement more than 1 % below is understated.

Segments of a resumed stage, and runs that were tried for tuning, are composed by the accountant; stages, and seeds of which one was chosen, add up
(all saw the same rows). Exact, not estimated; what a model gives away in fact is audit `membership`. A model whose training stated nothing has no figure.
"""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Any

from ..forms import Measurement
from ..subject import Audit, Subject

NEEDS = ("epsilon", "delta", "noise_multiplier", "sample_rate", "steps", "clip", "divisor", "rows", "neighbours", "accountant")


class Privacy(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        began = time.perf_counter()
        stages = subject.lineage.get("stages", [])
        private = [s["statement"]["privacy"] for s in stages if "privacy" in (s.get("statement") or {})]
        if not private:
            return []
        reasons = ["privacy.stage_without_noise"] if len(private) < len(stages) else []  # it saw the same rows, and undoes the others' promise
        tries = max(1, int(subject.lineage.get("seeds", 1)))
        epsilon, delta, told = 0.0, 0.0, []
        for stage in (s for s in stages if "privacy" in (s.get("statement") or {})):
            said = {**stage["statement"]["privacy"], **stage["statement"]["privacy"].get("claim", {})}
            found, why = wrong(said, stage.get("steps"))
            reasons += [r for r in found if r not in reasons]
            if not found:
                done = parts(said) * max(1, int(said.get("tuning_runs", 1)))
                computed, renyi = (epsilon_of(tuple(done), float(said["delta"]), a) for a in ("pld", "rdp"))
                if said["epsilon"] < 0.99 * computed:
                    reasons, why = [*reasons, "privacy.understated"], {"epsilon": f"stated {said['epsilon']:.4g}, computed {computed:.4g}"}
                epsilon, delta = epsilon + tries * max(computed, float(said["epsilon"])), delta + tries * said["delta"]
                told.append({**stage["statement"]["privacy"], "computed": computed, "renyi": renyi, **({"wrong": why} if why else {})})
            else:
                told.append({**stage["statement"]["privacy"], "wrong": why})
        if delta * private[0].get("rows", 1) >= 1 and not reasons:
            reasons = ["privacy.delta"]
        value = None if reasons else epsilon
        rows = subject.splits["train"].num_rows if "train" in subject.splits else int(private[0].get("rows") or 0)
        method = "PLD accountant on the statement, basic composition over stages and seeds"
        return [
            Measurement(
                "privacy", "privacy.epsilon", None, "train", None, value, value, value, 1.0, rows, method, 0, time.perf_counter() - began,
                {"stages": told, "delta": delta, "seeds": tries}, reasons,
            )
        ]  # fmt: skip


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
