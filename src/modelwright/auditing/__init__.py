"""The audit of any model: figures from what it says of rows it has not seen, one decision, and the report. `run` ends with it; `audit` is it.

A model comes as a Predictor: our own, a baseline, or one from elsewhere (`foreign`). What an audit needs and the model or the data cannot give makes
that audit inconclusive, by name; an exception, a missing extra or a time limit is never a pass.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import baselines, cleaning, evidence, find, home, opening, report, seen
from ..artifact import Chosen, Loaded
from ..curves import Log
from ..digests import NO_MODEL, table_digest
from ..errors import refuse
from ..foreign.explainer import Theirs
from ..foreign.predictor import Foreign
from ..forms import Measurement
from ..home import write
from ..lock import Lock, unwritten
from ..preparing import Prepared
from ..registry import gate
from ..registry import policy as policies
from ..registry.store import Registry
from ..report.story import Story
from ..subject import Subject, due
from ..task import Task, load_task
from . import retraining
from .case import case_of, model_folder, size_of
from .measuring import measure
from .telling import tell

if TYPE_CHECKING:
    from ..planning import Plan


@dataclass
class Audited:
    """What was measured and decided, in a folder."""

    folder: Path
    evidence: dict[str, Any]
    story: Story

    @property
    def decision(self) -> dict[str, Any] | None:
        return self.evidence["decision"]

    def as_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "report": str(self.folder / "report.html"), "decision": self.decision, "evidence": self.evidence["evidence"]}


def conclude(
    folder: Path, of: Prepared | Plan, subject: Subject, policy: gate.Policy, model: str, digests: dict[str, str], facts: dict[str, Any],
    beside: list[Measurement] = (), told: list[Any] = (), lines: list[Any] = (), cost: list[Any] = (), budget: float | None = None,
    only: list[str] | None = None, models: int | None = None, log: Log = lambda event, facts: None, unchanged: Callable[[], None] = lambda: None,
    own_rows: bool = False,
) -> Audited:  # fmt: skip
    """Open the test rows (which is counted), measure, decide, and write evidence.json, card.md and report.html.

    model: digest of the bytes; digests: of each split's rows; facts: of the model, for the report; beside: measurements made elsewhere; told, lines, cost:
    of training. budget: seconds after which no further audit begins. only: these audits; None: all. models: this one's place
    among those that the test rows judged, from 1, where it was measured before; None: as the registry counts. unchanged: raises a Refusal where the
    model's files are no longer those that were loaded; asked before anything is recorded. own_rows: whether training rows came as a file of their own."""
    began = time.perf_counter()
    rows, looked, registry = *seen.test_rows(subject.schema, subject.splits["test"], home.key()), Registry()
    loosened = registry.edited_limits(rows, of.task.targets, policy, looked)
    of.warnings += loosened
    openings = registry.open_test(rows, folder.name, policy, of.task.targets, None if model == NO_MODEL else model, looked)
    models = models or (1 if model == NO_MODEL else registry.judged(rows).index(model) + 1)
    subject.level, subject.reader = gate.level_for(policy, models), opening.predictor
    code = subject.lineage["code"]
    subject.lineage = {"size_bytes": size_of(folder / "model"), **subject.lineage}
    measured = measure(subject, budget, only, log, {limit.area for limit in policy.limits})
    unchanged()
    task = evidence.meaning(of.task.model_dump(mode="json", exclude={"data": {"source"}, "stages": True}), ours=not isinstance(subject.predictor, Foreign))
    for line in measured:
        line.digests = {"model": model, "data": digests[line.split], "code": code, "task": task}
        line.details = {**line.details, "test_openings": openings, "test_models": models} if line.split == "test" else line.details
    measured += beside
    decision = gate.decide(policy, measured, digests={"model": model, "data": digests, "code": code})
    found = evidence.build(measured, decision, model=model, data=digests, code=code, policy=policy, test_openings=openings, test_rows=rows)
    if not facts.get("explainer"):  # which would speak of that, and not of the model
        registry.record(found, folder.name)
    write(folder / "evidence.json", evidence.dumps(found))
    cost = [*cost, {"stage": "audit", "seconds": time.perf_counter() - began, "memory_mb": None}]
    plan = cleaning.keep(folder, found["evidence"], own_rows)
    story = replace(tell(of, subject, found, facts, told, lines, cost, decision, loosened), cleaning=len(plan))
    report.write(folder, story)
    return Audited(folder, found, story)


VALIDATION, TEST = 1_000_003, 2_000_003  # where environments begin, away from training's seeds
WRITES = ("evidence.json", "card.md", "report.html")


def audit(
    model: str | Path | None, data: Mapping[str, Any] | None = None, task: Task | str | Path | None = None, out: str | Path = "audit", *,
    budget: float | None = None, only: list[str] | None = None, explainer: str | None = None, repeat: dict[str, dict[str, Any]] | None = None,
    models: int | None = None, log: Log = lambda event, facts: None,
) -> Audited:  # fmt: skip
    """Audit any model: a run folder, a version of the registry, a Hugging Face folder, an ONNX file, `file.py:factory`; or data alone (model None).

    data: {role: source}; without it a run's own splits. task: columns, target and limits; a run brings its own. budget: seconds after which no further
    audit begins. only: the names of some audits. explainer: `file.py:explain`, which is audited in place of ours; of the other costly audits then only
    those that a limit asks for. repeat: see `Subject`; models: see `conclude`. Raises a Refusal where model, data and task do not fit each other."""
    folder, task = Path(out), None if task is None else load_task(task)
    for name in only or ():
        find.find("audits", name, "--only")
    unwritten(folder, WRITES)
    Registry().ready()  # where the opening of the test rows will be counted
    given, case = model, case_of(model, data, task, budget)
    model, elsewhere, ours, task = case.model, case.elsewhere, case.ours, case.task
    of, predictor, met, digest, code = case.of, case.predictor, case.met, case.digest, code_digest()
    kept = Path(model, "lineage.json") if ours else None
    lineage = home.kept(kept, "stages") if kept and kept.is_file() else {"stages": []}
    said = lineage.get("calibration")  # of a file that somebody rewrote, anything
    lineage["calibration"] = {t: told for t, told in said.items() if isinstance(told, dict)} if isinstance(said, dict) else {}
    policy = policies.of_task(task) if task else gate.parse({})
    slices = list(dict.fromkeys([*(task.audit.slices if task else []), *gate.slices_of(policy)]))
    rivals, seed = {}, task.seed if task else 0
    if predictor is not None and "train" in of.tables:
        rivals = baselines.fit(of.schema, of.schema.encode(of.tables["train"]), seed)
    if isinstance(predictor, Chosen):
        rivals.pop(predictor.baseline.name, None)
    clusters = task.together(of.tables["test"].column_names) if task else None
    subject = Subject(predictor, of.schema, of.tables, slices, clusters=clusters, lineage={**lineage, "code": code}, baselines=rivals, seed=seed)
    if task:
        subject.declare(task.audit)
    subject.repeat = repeat
    subject.seen = met
    subject.lineage["size_bytes"] = None if model is None else size_of(elsewhere or (model_folder(model) if ours else Path(str(given).split(".py:")[0])))
    if isinstance(predictor, Loaded | Foreign):
        subject.open = predictor.open
    if isinstance(predictor, Loaded):
        subject.play = None if of.environment is None else player(of, predictor.model)
    if ours and "train" in of.tables and (retraining.asked(policy) or budget is not None or {"membership", "exposure"} & set(only or ())):
        subject.retrain, subject.retrain_seconds = retraining.of_folder(Path(model), predictor, of.tables)
    if explainer is not None:
        if predictor is None:
            raise refuse("audit.explainer", "there is no model to explain", where="--explainer", fix="name the model that the explainer explains")
        subject.explainers = {explainer: Theirs(explainer, str(model), predictor)}
        only = only or due({limit.area for limit in policy.limits} | {"explanation"})
    digests = {role: table_digest(of.schema.contents(t)) for role, t in of.tables.items()}
    facts = {"model": str(given or "none: the data alone"), "explainer": explainer}
    asked = {"model": relative(given, folder), "data": {r: relative(f, folder) for r, f in (data or {}).items()}}
    asked["task"] = None if task is None else relative(Path(task.root, task.file), folder)
    asked |= {"explainer": relative(explainer, folder), "only": only, "budget": budget}
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder):
        unwritten(folder, WRITES)  # meanwhile
        write(folder / "audit.json", home.sealed(asked))
        asked = {"budget": budget, "only": only, "models": models, "unchanged": case.unchanged, "own_rows": "train" in (data or {})}
        return conclude(folder, of, subject, policy, digest, digests, facts, log=log, **asked)


def relative(place: Any, folder: Path) -> Any:
    """A path as seen from folder; what is no path (hub://, name@alias) as it is. `file.py:factory` keeps its factory."""
    if place is not None and not isinstance(place, str | os.PathLike):
        return f"(a {type(place).__name__} given from Python)"
    if place is None or "://" in str(place) or "@" in str(place):
        return None if place is None else str(place)
    return os.path.relpath(Path(place), folder)


def absolute(place: str | None, folder: Path) -> str | None:
    """What `relative` wrote, back again."""
    return place if place is None or "://" in place or "@" in place else os.path.normpath(folder / place)


def player(of: Prepared | Plan, model: Any, seed: int = TEST) -> Callable[[str, int], np.ndarray]:
    """play(who, episodes) -> returns (E,): the model, choosing the likeliest action, or "random", in environments begun from seed."""
    from ..data.rollouts import Actor

    def play(who: str, episodes: int) -> np.ndarray:
        act = Actor(model, of.schema, of.environment, of.schema.acted[0]) if who == "model" else of.environment.random(seed)
        return of.environment.play(act, episodes, seed)

    return play


def code_digest() -> str:
    """Of the package's own source files: what else than data and task decides a result."""
    total, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        total.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"sha256:{total.hexdigest()}"
