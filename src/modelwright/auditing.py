"""The audit of any model: figures from what it says of rows it has not seen, one decision, and the report. `run` ends with it; `audit` is it.

A model comes as a Predictor: our own, a baseline, or one from elsewhere (`foreign`). What an audit needs and the model or the data cannot give makes
that audit inconclusive, by name; an exception, a missing extra or a time limit is never a pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import evidence, find, report
from .audit import Subject
from .curves import Log
from .errors import Refusal
from .forms import Measurement
from .home import write
from .registry import gate
from .registry.store import Registry
from .report.story import Story
from .telling import tell

if TYPE_CHECKING:
    from .planning import Plan
    from .preparing import Prepared


@dataclass
class Audited:
    """What was measured and decided, in a folder."""

    folder: Path
    evidence: dict[str, Any]
    story: Story

    @property
    def decision(self) -> dict[str, Any] | None:
        return self.evidence["decision"]


def conclude(
    folder: Path, of: Prepared | Plan, subject: Subject, policy: gate.Policy, model: str, digests: dict[str, str], facts: dict[str, Any],
    beside: list[Measurement] = (), told: list[Any] = (), lines: list[Any] = (), cost: list[Any] = (), budget: float | None = None,
) -> Audited:  # fmt: skip
    """Open the test rows (which is counted), measure, decide, and write evidence.json, card.md and report.html.

    model: digest of the bytes; digests: of each split's rows; facts: of the model, for the report; beside: measurements made elsewhere; told, lines, cost:
    of training. budget: seconds after which no further audit begins."""
    began = time.perf_counter()
    openings = Registry().open_test(evidence.rows_digest(subject.splits["test"]), folder.name)
    code = subject.lineage["code"]
    measured = measure(subject, budget)
    for line in measured:
        line.digests = {"model": model, "data": digests[line.split], "code": code}
        line.details = {**line.details, "test_openings": openings} if line.split == "test" else line.details
    measured += beside
    decision = gate.decide(policy, measured, digests={"model": model, "data": digests, "code": code})
    found = evidence.build(measured, decision, model=model, data=digests, code=code, policy=policy, test_openings=openings)
    write(folder / "evidence.json", evidence.dumps(found))
    cost = [*cost, {"stage": "audit", "seconds": time.perf_counter() - began, "memory_mb": None}]
    story = tell(of, subject, found, facts, told, lines, cost)
    report.write(folder, story)
    return Audited(folder, found, story)


def measure(subject: Subject, budget: float | None = None, only: list[str] | None = None, log: Log = lambda event, facts: None) -> list[Measurement]:
    """Every audit there is, or those named. One that fails, or that the time did not allow, says so as a measurement without a value."""
    began, measured = time.perf_counter(), []
    for name in only or find.names("audits"):
        start = time.perf_counter()
        if budget is not None and start - began > budget:
            measured.append(_without(subject, name, "the time allowed was spent before it", "audit.budget"))
            continue
        log("note", {"text": f"audit: {name}"})
        try:
            measured += find.make("audits", name).measure(subject)
        except Refusal as e:
            measured.append(_without(subject, name, str(e), e.problems[0].code))
        except Exception as e:  # noqa: BLE001 - whatever an audit meets must end in the evidence, not in a lost run
            measured.append(_without(subject, name, f"{type(e).__name__}: {e}", "audit.error"))
    return measured


def _without(subject: Subject, name: str, why: str, code: str) -> Measurement:
    nothing = (None, "test", None, None, None, None, subject.level, 0, "not measured", subject.seed, 0.0)
    return Measurement(name, f"{name}.error", *nothing, {"error": why}, [code])
