"""Every audit there is on one subject, within the time allowed. One that fails says so, as a measurement without a value."""

from __future__ import annotations

import contextlib
import time

import torch

from .. import find
from ..curves import Log
from ..errors import Refusal
from ..foreign.onnx import Onnx
from ..foreign.predictor import Foreign
from ..foreign.process import Worker
from ..forms import Measurement
from ..registry.gate import ALSO
from ..subject import Subject
from . import again, unlabelled


def measure(
    subject: Subject, budget: float | None = None, only: list[str] | None = None, log: Log = lambda event, facts: None, asked: set[str] = frozenset()
) -> list[Measurement]:
    """Every audit there is, or those named. One that fails, or that the time did not allow, says so as a measurement without a value.
    asked: areas of limits; where time is short, costly audits come after the others, and of those the ones that no limit asks for last. Models of tables are
    asked on one thread: two that wait for each other beside other work took six times as long."""
    threads = torch.get_num_threads()
    if all(kind.form == "table" for kind in subject.schema.inputs.values()):
        torch.set_num_threads(1)
    try:
        return _measure(subject, budget, only, log, asked)
    finally:
        torch.set_num_threads(threads)


def _measure(subject: Subject, budget: float | None, only: list[str] | None, log: Log, asked: set[str]) -> list[Measurement]:
    began, measured = time.perf_counter(), []
    subject.clusters = subject.clusters or undeclared_clusters(subject, log)
    if subject.predictor is not None and (copies := subject.copies_of("test")) is not None:
        log("note", {"text": f"audit: {len(copies) - copies.max() - 1:,} test rows are copies of others: equal rows count together"})
    names = only or (find.names("audits") if subject.predictor is not None else ["data"])
    costly = [n for n in names if find.find("audits", find.split(n)[0]).costly is not None]  # a name, or {name: settings}
    late = [n for n in costly if find.find("audits", find.split(n)[0]).costly not in asked] if budget is not None else []
    turn = lambda n: 0 if budget is None or n not in costly else 1 + (n in late)  # noqa: E731 - what takes a moment does not wait for what may take all
    names = sorted(names, key=turn)
    if budget is not None and subject.repeat is None:  # whoever's code is at work then is ended
        theirs = [subject.predictor.runner] if isinstance(subject.predictor, Foreign) else []
        for worker in (w for w in (*theirs, *subject.explainers.values()) if isinstance(w, Worker | Onnx)):
            worker.until = began + budget
    before = False
    for i, name in enumerate(names):
        if turn(name) and not before and subject.predictor is not None:  # those may use up the time: what was measured before should not be lost for it
            again.mark(subject, measured)
            before = True
        start = time.perf_counter()
        if budget is not None and start - began > budget and subject.repeat is None:
            measured.append(_without(subject, name, "the time allowed was spent before it", "audit.budget"))
            continue
        if budget is not None:  # shared evenly among the costly ones to come; those that no limit asks for have what is left
            sharing = sum(n in costly and (name in late or n not in late) for n in names[i:])
            subject.seconds = max(0.1, budget - (start - began)) / max(1, sharing)
        anew = " (training anew, as far as the time allows)" * (name in ("membership", "exposure") and subject.retrain is not None)
        log("note", {"text": f"audit: {name}{anew}"})
        try:
            measured += find.make("audits", name).measure(subject)
        except Refusal as e:
            measured.append(_without(subject, name, str(e), e.problems[0].code))
        except Exception as e:  # noqa: BLE001 - whatever an audit meets must end in the evidence, not in a lost run
            measured.append(_without(subject, name, f"{type(e).__name__}: {e}", "audit.error"))
    left_out = {area: (area, *ALSO.get(area, ())) for area in sorted(asked)}
    for audits in (a for a in left_out.values() if not {find.split(n)[0] for n in names} & {*a}):
        why = ("no model was given", "audit.no_model") if subject.predictor is None else ("it was left out by --only", "audit.left_out")
        measured.append(_without(subject, next(a for a in audits if a in find.names("audits")), *why))
    if subject.predictor is not None:
        again.mark(subject, measured, before=before)
        with contextlib.suppress(Refusal):  # it does not answer, as its figures say
            unlabelled.mark(subject, measured)
    return measured


def undeclared_clusters(subject: Subject, log: Log) -> str | None:
    """A column of persons or things with several test rows, by its name, that the model does not read: rows of one person are no independent witnesses."""
    from ..checks.copies import entities  # it brings scikit-learn

    tables = [subject.splits[s] for s in ("test", "trusted") if s in subject.splits]
    found = entities(tables, None, {*subject.schema.inputs, *subject.schema.targets, *subject.schema.group}) if tables else []
    if found:
        log("note", {"text": f"audit: rows of one {found[0]!r} count together, though no audit.clusters were declared"})
    return found[0] if found else None


def _without(subject: Subject, name: str, why: str, code: str) -> Measurement:
    nothing = (None, "test", None, None, None, None, subject.level, 0, "not measured", subject.seed, 0.0)
    return Measurement(name, f"{name}.error", *nothing, {"error": why}, [code])
