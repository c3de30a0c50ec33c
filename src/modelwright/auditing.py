"""The audit of any model: figures from what it says of rows it has not seen, one decision, and the report. `run` ends with it; `audit` is it.

A model comes as a Predictor: our own, a baseline, or one from elsewhere (`foreign`). What an audit needs and the model or the data cannot give makes
that audit inconclusive, by name; an exception, a missing extra or a time limit is never a pass.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from . import again, baselines, evidence, explaining, find, home, opening, report, retraining, seen
from .artifact import Chosen, Loaded, located, open_model
from .curves import Log
from .data import sources
from .digests import NO_MODEL, rows_digest, table_digest
from .digests import model_digest as files_digest
from .errors import Problem, Refusal, did_you_mean, refuse
from .foreign.onnx import Onnx
from .foreign.predictor import Foreign, within
from .foreign.process import MODELS, SECONDS, Worker
from .forms import Measurement
from .home import write
from .lock import Lock, unwritten
from .preparing import Prepared, look, prepare
from .preparing.columns import columns_of, gathered, root_of
from .registry import gate
from .registry import policy as policies
from .registry.export import BESIDE
from .registry.references import is_reference
from .registry.store import Registry
from .report.story import Story
from .seen import Seen
from .subject import Subject, due
from .task import Task, load_task
from .telling import tell

if TYPE_CHECKING:
    from .planning import Plan


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
    only: list[str] | None = None, models: int | None = None, log: Log = lambda event, facts: None,
) -> Audited:  # fmt: skip
    """Open the test rows (which is counted), measure, decide, and write evidence.json, card.md and report.html.

    model: digest of the bytes; digests: of each split's rows; facts: of the model, for the report; beside: measurements made elsewhere; told, lines, cost:
    of training. budget: seconds after which no further audit begins. only: these audits; None: all. models: this one's place
    among those that the test rows judged, from 1, where it was measured before; None: as the registry counts."""
    began = time.perf_counter()
    rows, registry = rows_digest(subject.schema.contents(subject.splits["test"])), Registry()
    of.warnings += registry.edited_limits(rows, of.task.targets, policy)
    openings = registry.open_test(rows, folder.name, policy, of.task.targets, None if model == NO_MODEL else model)
    models = models or (1 if model == NO_MODEL else registry.judged(rows).index(model) + 1)
    subject.level, subject.reader = gate.level_for(policy, models), opening.predictor
    code = subject.lineage["code"]
    subject.lineage = {"size_bytes": size_of(folder / "model"), "parameters": facts.get("parameters"), **subject.lineage}
    measured = measure(subject, budget, only, log, {limit.area for limit in policy.limits})
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
    story = tell(of, subject, found, facts, told, lines, cost)
    report.write(folder, story)
    return Audited(folder, found, story)


BEGIN = 10.0  # seconds that a model's own code may take to make it, whatever the budget
VALIDATION, TEST = 1_000_003, 2_000_003  # where environments begin, away from training's seeds
WRITES = ("evidence.json", "card.md", "report.html")
ROLES = ("train", "validation", "calibration", "test", "reference", "ood", "ood_near", "ood_far", "trusted", "planted")


def audit(
    model: str | Path | None, data: Mapping[str, Any] | None = None, task: Task | str | Path | None = None, out: str | Path = "audit", *,
    budget: float | None = None, only: list[str] | None = None, explainer: str | None = None, repeat: dict[str, dict[str, Any]] | None = None,
    models: int | None = None, log: Log = lambda event, facts: None,
) -> Audited:  # fmt: skip
    """Audit any model: a run folder, a version of the registry, a Hugging Face folder, an ONNX file, `file.py:factory`; or data alone (model None).

    data: {role: source}; without it a run's own splits. task: columns, target and limits; a run brings its own. budget: seconds after which no further
    audit begins. only: the names of some audits. explainer: `file.py:explain`, which is audited in place of ours; of the other costly audits then only
    those that a limit asks for. repeat: see `Subject`; models: see `conclude`. Raises a Refusal where model, data and task do not fit each other."""
    folder, task = Path(out), load_task(task) if isinstance(task, str | Path) else task
    for name in only or ():
        find.find("audits", name, "--only")
    unwritten(folder, WRITES)
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
    subject = Subject(
        predictor, of.schema, of.tables, slices, clusters=task.audit.clusters if task else None, lineage={**lineage, "code": code}, baselines=rivals, seed=seed
    )
    if task:
        subject.declare(task.audit)
    subject.repeat = repeat
    subject.seen = met
    subject.lineage["size_bytes"] = None if model is None else size_of(elsewhere or (_model_folder(model) if ours else Path(str(given).split(".py:")[0])))
    if isinstance(predictor, Loaded | Foreign):
        subject.open = predictor.open
    if isinstance(predictor, Loaded):
        subject.play = None if of.environment is None else player(of, predictor.model)
    if ours and "train" in of.tables and (retraining.asked(policy) or budget is not None or {"membership", "exposure"} & set(only or ())):
        subject.retrain, subject.retrain_seconds = retraining.of_folder(Path(model), predictor, of.tables)
    if explainer is not None:
        if predictor is None:
            raise refuse("audit.explainer", "there is no model to explain", where="--explainer", fix="name the model that the explainer explains")
        subject.explainers = {explainer: explaining.Theirs(explainer, str(model), predictor)}
        only = only or due({limit.area for limit in policy.limits} | {"explanation"})
    digests = {role: table_digest(of.schema.contents(t)) for role, t in of.tables.items()}
    facts = {"model": str(given or "none: the data alone"), "explainer": explainer}
    again = {"model": relative(given, folder), "data": {r: relative(f, folder) for r, f in (data or {}).items()}}
    again["task"] = None if task is None else relative(Path(task.root, task.file), folder)
    again |= {"explainer": relative(explainer, folder), "only": only, "budget": budget}
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder):
        unwritten(folder, WRITES)  # meanwhile
        write(folder / "audit.json", home.sealed(again))
        return conclude(folder, of, subject, policy, digest, digests, facts, budget=budget, only=only, models=models, log=log)


@dataclass
class Case:
    """A model and what it is judged on."""

    model: Path | None  # where it lies; None: the data alone
    elsewhere: Path | None  # of a model from elsewhere, the file or folder that is read
    ours: bool
    task: Task | None
    of: Prepared
    predictor: Any
    met: Seen | None  # of the test rows, those that it was trained on
    digest: str


def case_of(model: str | Path | None, data: Mapping[str, Any] | None = None, task: Task | None = None, budget: float | None = None) -> Case:
    """The model of an audit, its task and its tables by role, as `audit` has them. Raises a Refusal where they do not fit each other."""
    given, model = model, None if model is None else located(model)
    elsewhere = None if model is None else within(model)
    ours = model is not None and model.is_dir() and elsewhere is None
    if model is not None and not ours and not Path(str(model).rpartition(":")[0] or model).exists() and not Path(model).exists():
        raise refuse("model.missing", f"{given} does not exist", where=str(given), fix=MODELS)
    task = task or (load_task(model / "task.yaml") if model is not None and (model / "task.yaml").is_file() else None)
    if task is None and not ours:
        what = "a model from elsewhere says nothing of its columns and labels" if model else "data alone says nothing of its target"
        raise refuse("audit.task", what, where="--task", fix="write a task file: modelwright new FILE --target COLUMN")
    predictor = open_model(model) if ours else None
    try:
        of = _prepared(task, dict(data or {}), predictor)
    except Refusal as e:
        if data or not is_reference(str(given)):
            raise
        why, fix = "a version's task names its data as seen from the run's folder", "name the rows: --data test=FILE"
        raise Refusal(Problem(p.code, p.what, why, p.where, fix) for p in e.problems) from e
    met = unseen(of, model) if ours and data and (model / "model").is_dir() else None
    if predictor is None and model is not None:
        predictor = Foreign(str(elsewhere or model), of.schema, SECONDS if budget is None else min(SECONDS, max(BEGIN, budget)))
        of.notes += predictor.notes
        rehearse(predictor, of, budget)
    digest = model_digest(model, predictor.digest if isinstance(predictor, Foreign) else None) if model is not None else NO_MODEL
    return Case(model, elsewhere, ours, task, of, predictor, met, digest)


def rehearse(predictor: Foreign, of: Prepared, budget: float | None) -> None:
    """See `Foreign.rehearse`; within the time allowed. Where that is spent, every audit will say so."""
    if isinstance(predictor.runner, Worker | Onnx) and budget is not None:  # `measure` sets it anew
        predictor.runner.until = time.perf_counter() + max(BEGIN, budget)
    try:
        predictor.rehearse(of.tables["test"])
    except Refusal as refusal:
        if any(p.code != "audit.budget" for p in refusal.problems):
            raise


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


def _prepared(task: Task | None, data: dict[str, Any], predictor: Any) -> Prepared:
    """Tables by role and the schema: the model's own, else the task's, fitted on the training rows where there are some."""
    if not data:
        if task is None:
            raise refuse("audit.data", "no data to audit on", where="--data", fix="--data test=FILE")
        found = prepare(task)
        if predictor is not None:
            found.schema = predictor.schema.at(found.schema.root)
        return found
    problems = [Problem("audit.role", f"there is no role {r!r}", where="--data", fix=did_you_mean(r, ROLES)) for r in data if r not in ROLES]
    if "test" not in data:
        problems.append(Problem("audit.data", "no test rows", "a model is judged on rows that it has not seen", "--data", "--data test=FILE"))
    if problems:
        raise Refusal(problems)
    loaded = {role: sources.load(source, root=".", where=f"--data {role}") for role, source in data.items()}
    tables, notes, warnings = {r: x.table for r, x in loaded.items()}, [n for x in loaded.values() for n in x.notes], []
    first = loaded.get("train", loaded["test"])
    if predictor is None:
        schema, columns = columns_of(task, first.table, first, warnings)
        schema.fit(first.table)
        if first is loaded["test"]:
            warnings.append("no training rows were given: what is read off the data (labels, ranges) is read off the test rows")
        look(schema, {"train": first.table}, columns, warnings)
    else:
        schema = predictor.schema
        columns = [{"name": n, "kind": find.split(k.spec)[0], "role": "input", "describe": k.describe()} for n, k in schema.inputs.items()]
        columns += [{"name": n, "kind": find.split(k.spec)[0], "role": "target", "describe": k.describe()} for n, k in schema.targets.items()]
    roots = {r: root_of(task, x) if task else x.root for r, x in loaded.items()}
    schema.at(gathered(schema, tables, roots))
    for role, table in tables.items():
        names = set(table.column_names)
        missing = [n for n in schema.truths if n not in names and role in ("train", "validation", "calibration", "test", "planted")]
        problems += [Problem("data.missing_column", f"column {n!r} is missing", "the truth is in it", f"--data {role}") for n in missing]
        problems += [
            Problem("data.missing_column", f"column {n!r} is missing", "the model reads it", f"--data {role}")
            for n, kind in schema.inputs.items()
            if n not in names and not kind.drawn
        ]
    if problems:
        raise Refusal(problems)
    return Prepared(task or Task(data={"source": None}, target=list(schema.truths)), schema, tables, columns, notes, warnings)


def unseen(of: Prepared, folder: Path) -> Seen:
    """Leave out the test and trusted rows that a run was trained or calibrated on, as its record has them. Refused where those are most of them."""
    for role in ("trusted", "test"):  # fairness is judged on trusted rows where there are some
        if role not in of.tables:
            continue
        table = of.tables[role]
        found = seen.seen(folder, table, home.key())
        told = f"{int(found.rows.sum()):,} of {table.num_rows:,} {role} rows are rows that the model was trained or calibrated on"
        if 2 * found.rows.sum() > table.num_rows:
            why, fix = "a model is judged on rows that it has not seen", "give rows that no split of the run held"
            raise refuse("audit.seen_rows", told, why=why, where=f"--data {role}", fix=fix)
        if found.rows.any():
            of.tables[role] = table.filter(pa.array(~found.rows))
            of.warnings.append(f"{told}: they are left out of every figure")
    return found


def player(of: Prepared | Plan, model: Any, seed: int = TEST) -> Callable[[str, int], np.ndarray]:
    """play(who, episodes) -> returns (E,): the model, choosing the likeliest action, or "random", in environments begun from seed."""
    from .data.rollouts import Actor

    def play(who: str, episodes: int) -> np.ndarray:
        act = Actor(model, of.schema, of.environment, of.schema.acted[0]) if who == "model" else of.environment.random(seed)
        return of.environment.play(act, episodes, seed)

    return play


def _model_folder(folder: Path) -> Path:
    return folder / "model" if (folder / "model" / "model.json").is_file() else folder


def model_digest(model: Path, elsewhere: str | None) -> str:
    """Of a folder with a model/ (a run, a version) that; of an exported folder what was that; of a model from elsewhere by itself what is given."""
    if (model / "model").is_dir():
        return files_digest(model / "model")
    if elsewhere is not None:
        return elsewhere
    paths = (p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    return files_digest(model, [p for p in paths if p not in BESIDE and not p.startswith(".")])


def measure(
    subject: Subject, budget: float | None = None, only: list[str] | None = None, log: Log = lambda event, facts: None, asked: set[str] = frozenset()
) -> list[Measurement]:
    """Every audit there is, or those named. One that fails, or that the time did not allow, says so as a measurement without a value.
    asked: areas of limits; where time is short, costly audits that no limit asks for come last."""
    began, measured = time.perf_counter(), []
    subject.clusters = subject.clusters or undeclared_clusters(subject, log)
    if subject.predictor is not None and (copies := subject.copies_of("test")) is not None:
        log("note", {"text": f"audit: {len(copies) - copies.max() - 1:,} test rows are copies of others: equal rows count together"})
    names = only or (find.names("audits") if subject.predictor is not None else ["data"])
    costly = [n for n in names if find.find("audits", find.split(n)[0]).costly is not None]  # a name, or {name: settings}
    late = [n for n in costly if find.find("audits", find.split(n)[0]).costly not in asked] if budget is not None else []
    names = sorted(names, key=late.__contains__)
    if budget is not None and subject.repeat is None:  # whoever's code is at work then is ended
        theirs = [subject.predictor.runner] if isinstance(subject.predictor, Foreign) else []
        for worker in (w for w in (*theirs, *subject.explainers.values()) if isinstance(w, Worker | Onnx)):
            worker.until = began + budget
    for i, name in enumerate(names):
        if name in late[:1]:  # those may use up the time, and what was measured before them should not be lost for it
            again.mark(subject, measured)
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
    if subject.predictor is not None:
        again.mark(subject, measured, before=bool(late))
    return measured


def undeclared_clusters(subject: Subject, log: Log) -> str | None:
    """A column of persons or things with several test rows, by its name, that the model does not read: rows of one person are no independent witnesses."""
    from .checks.copies import entities  # it brings scikit-learn

    tables = [subject.splits[s] for s in ("test", "trusted") if s in subject.splits]
    found = entities(tables, None, {*subject.schema.inputs, *subject.schema.targets, *subject.schema.group}) if tables else []
    if found:
        log("note", {"text": f"audit: rows of one {found[0]!r} count together, though no audit.clusters were declared"})
    return found[0] if found else None


def _without(subject: Subject, name: str, why: str, code: str) -> Measurement:
    nothing = (None, "test", None, None, None, None, subject.level, 0, "not measured", subject.seed, 0.0)
    return Measurement(name, f"{name}.error", *nothing, {"error": why}, [code])


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files below a folder; None where there is neither."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) or None


def code_digest() -> str:
    """Of the package's own source files: what else than data and task decides a result."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(str(path.relative_to(Path(__file__).parent)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"sha256:{total.hexdigest()}"
