"""The privacy that the run accounted for: its statements read closely, composed, and epsilon computed again from what they say was done.

A statement must say how rows were drawn, how much noise fell, on what, how often and by what it was divided; without that, or where two things that
it says exclude each other, there is no finite epsilon (value null, and any limit fails). Epsilon is computed again by dp-accounting (privacy loss
distributions of Poisson-subsampled Gaussians, connect-the-dots, Doroshenko et al. 2022) on a finer grid than the run's; the Renyi accountant's
looser bound stands beside it. The larger of stated and computed counts; a statement more than 1 % below is understated.

Segments of a resumed stage, and runs that were tried for tuning, are composed by the accountant; stages, and seeds of which one was chosen, add up
(all saw the same rows). Exact, not estimated; what a model gives away in fact is audit `membership`. A model whose training stated nothing has no figure.
"""

from __future__ import annotations

import time

from ..forms import Measurement
from ..subject import Audit, Subject
from ._accounting import epsilon_of, parts, wrong


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
