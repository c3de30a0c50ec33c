"""From a task to a plan: everything decided, measured and checked before anything trains. All problems come at once.

load -> kinds -> splits -> fit the schema on training rows -> model -> settings -> dry run and probe of every stage -> time of a step
"""

from __future__ import annotations

import copy
import dataclasses
import math
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from . import baselines, find
from .artifact import assemble_model
from .data import cache, sources, splits
from .data.dataset import Dataset
from .data.schema import TABLE, Schema, infer, profile
from .data.streams import Rows, Stream
from .errors import Problem, Refusal, did_you_mean, refuse
from .evidence import row_digests, rows_digest, table_digest
from .learn import loop
from .learn.probe import check, dry_run, probe
from .model import Model
from .objective import Experience, Objective
from .registry import gate
from .settings import Settings
from .strategy import Context
from .task import Task, column_kind

CORES = torch.get_num_threads()
POLICY = {"mlp": {"width": 64, "depth": 1, "dropout": 0.0, "bins": 0}}  # of a task that names no encoder for what it observes
RECURRENT_POLICY = {"lstm": {"width": 64, "bidirectional": False, "dropout": 0.0, "word_dropout": 0.0}}


@dataclass
class StagePlan:
    name: str
    objective: Any
    strategies: list[Any]
    settings: Settings  # resolved
    steps: int
    seconds: float = 0.0  # estimated
    trainable: int = 0
    data: Dataset | None = None  # its own, instead of the training split
    digest: str | None = None  # of that
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Plan:
    task: Task
    schema: Schema
    tables: dict[str, pa.Table]  # per split
    data: dict[str, Dataset]  # per split, encoded
    parts: dict[str, Any]
    parameters: int
    stages: list[StagePlan]
    policy: gate.Policy
    digests: dict[str, str]  # per split
    test_rows: str  # order-independent digest of the test rows: what openings are counted by
    columns: list[dict[str, str]]
    notes: list[str]
    warnings: list[str]
    environment: Any = None  # where the task is learnt by acting
    memory_mb: float = 0.0  # the most that this process held while it rehearsed a step of every stage

    @property
    def disk_mb(self) -> float:
        """Of the run's folder, about: the model, and a checkpoint with gradients' moments, the best model and the new one beside the old."""
        return self.parameters * 4 * (1 + 2 * 4) / 1e6

    def model(self, seed: int) -> Model:
        """A fresh model with its first weights drawn from seed."""
        torch.manual_seed(seed)
        return assemble_model(self.schema, self.parts)

    def stage(self, index: int, model: Model, seed: int) -> loop.Stage:
        """One stage, ready for `loop.fit`. Components are made anew: they hold state."""
        p, train = self.stages[index], self.train(index)
        objective = find.make("objectives", p.objective, root=self.task.root)
        strategies = [find.make("strategies", s, root=self.task.root) for s in p.strategies]
        acts = objective.experience is not None
        context = Context(self.schema, len(train), p.settings.batch_size, p.steps, seed, None if acts else train, self.task.root)
        for strategy in strategies:
            strategy.prepare(context)
        samplers = [s for s in (strategy.sampler(context) for strategy in strategies) if s is not None]
        if acts:
            stream = self.rollouts(objective.experience, seed)
        else:
            stream = Rows(train, p.settings.batch_size, seed, samplers[0] if samplers else None)
        return loop.Stage(p.name, model, objective, strategies, stream, context, p.settings, p.steps)

    def train(self, index: int) -> Dataset:
        """What a stage learns from."""
        return self.stages[index].data or self.data["train"]

    def rollouts(self, experience: Experience, seed: int) -> Stream:
        from .data.rollouts import Rollouts

        if self.environment is None:
            why = "it learns from what its own actions bring about"
            what = "this objective needs an environment to act in"
            raise refuse("objective.environment", what, why=why, where=f"{self.task.file}: data.source", fix="data: gym://CartPole-v1")
        return Rollouts(self.environment, self.schema, experience, seed, *self.schema.acted)

    def as_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "rows": {s: t.num_rows for s, t in self.tables.items()},
            "columns": self.columns,
            "model": self.parts,
            "parameters": self.parameters,
            "stages": [
                {
                    "name": s.name, "objective": s.objective, "strategies": s.strategies, "steps": s.steps, "trainable": s.trainable, "data": s.digest,
                    "settings": s.settings.model_dump(), "estimated_seconds": round(s.seconds, 1), "facts": s.facts,
                }
                for s in self.stages
            ],
            "memory_mb": round(self.memory_mb),
            "disk_mb": round(self.disk_mb, 1),
            "audits": find.names("audits"),
            "limits": {limit.name: limit.text for limit in self.policy.limits},
            "interval_level": gate.level_for(self.policy),
            "digests": self.digests,
            "notes": self.notes,
            "warnings": self.warnings,
        }  # fmt: skip


def make(task: Task, decided: dict[str, Any] | None = None) -> Plan:
    """decided: an earlier plan.json whose measured choices are reused, so that a resumed run is the same run."""
    loaded = sources.load(task.data.source, query=task.data.query, root=task.root, environment=task.data.environment.model_dump())
    table, notes, warnings = loaded.table, list(loaded.notes), []
    if loaded.environment is not None:
        task = played(task, loaded.environment)
    policy = gate.parse(task.audit.require, where=f"{task.file}: audit.require")
    schema, columns = _schema(task, table, loaded, warnings)
    tables = _split(task, table, schema, loaded.split, warnings)
    schema.fit(tables["train"])
    _look(schema, tables, columns, warnings)
    digests = {s: table_digest(t) for s, t in tables.items()}
    data = {s: cache.encode(schema, t, digests[s]) for s, t in tables.items()}
    parts = _parts(task, schema)
    torch.manual_seed(task.seed)
    model = assemble_model(schema, parts)
    plan = Plan(
        task, schema, tables, data, parts, sum(p.numel() for p in model.parameters()), [], policy,
        digests, rows_digest(tables["test"]), columns, notes, warnings, loaded.environment,
    )  # fmt: skip
    if task.model.instead is not None:
        if task.model.instead not in (fits := baselines.names_for(schema)):
            what = f"{task.model.instead} cannot learn this task"
            raise refuse("model.instead", what, where=f"{task.file}: model.instead", fix=f"one of: {', '.join(fits) or '(none)'}")
        plan.parts, plan.parameters = {"instead": task.model.instead}, 0
        return plan
    problems: list[Problem] = []
    for i, entry in enumerate(task.stages):
        ((name, stage),) = entry.items()
        before = decided["stages"][i] if decided else None
        own, digest = beside(plan, stage.data, f"{task.file}: stages.{i}.{name}.data") if stage.data is not None else (None, None)
        settings, steps = resolve(plan, stage, model, before, own or data["train"])
        plan.stages.append(StagePlan(name, stage.objective, stage.strategies, settings, steps, data=own, digest=digest))
        problems += _rehearse(plan, i, model, stage, before)
    if problems:
        raise Refusal(problems)
    plan.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)
    return plan


def played(task: Task, environment: Any) -> Task:
    """The task with the environment's own columns and targets where it leaves them open."""
    if list(task.targets) not in (["action"], ["action", "value"]):
        why = "the value of a state is learnt beside it, and an environment holds nothing else to learn"
        what = f"the target of an environment is action, not {', '.join(task.targets)}"
        raise refuse("task.target", what, why=why, where=f"{task.file}: target", fix="target: action")
    inputs, targets = environment.kinds()
    given = {n: s for n, s in task.targets.items() if s is not None}
    data = task.data.model_copy(update={"columns": inputs | task.data.columns})
    name, small = ("observation", RECURRENT_POLICY) if environment.history else (TABLE, POLICY)
    model = task.model.model_copy(update={"encoders": {name: small} | task.model.encoders})
    return task.model_copy(update={"data": data, "target": targets | given, "model": model})


def _schema(task: Task, table: pa.Table, loaded: sources.Loaded, warnings: list[str]) -> tuple[Schema, list[dict[str, str]]]:
    """Kinds: declared, else inferred. Problems: names that the table does not have."""
    names, where = table.column_names, f"{task.file}: "
    if not task.targets:
        raise refuse("task.missing_key", "no target is named", where=f"{where}target", fix=f"one of: {', '.join(names[:12])}")
    declared = {n: column_kind(s) for n, s in task.data.columns.items()}
    kinds = {n: find.split(spec)[0] for n, (spec, _) in declared.items() if spec not in (None, "ignore")}
    drawn = [n for n, kind in kinds.items() if find.find("kinds", kind, f"{where}data.columns.{n}", task.root).drawn]
    problems = [
        Problem("data.unknown_column", f"there is no column {n!r}", where=f"{where}{place}", fix=did_you_mean(n, names))
        for place, wanted in (("target", task.targets), ("data.columns", declared))
        for n in wanted
        if n not in names and loaded.environment is None and not (wanted is declared and n in drawn)
    ]
    for n in drawn:
        if n in names or n in task.targets:
            why = f"{kinds[n]} is drawn, never read"
            problems.append(Problem("data.drawn_column", f"the table has a column {n!r}", why, f"{where}data.columns.{n}", "give it another name"))
    for place, n in (
        ("data.split.by", task.data.split.by),
        ("data.split.time", task.data.split.time),
        ("data.split.column", task.data.split.column),
        ("audit.clusters", task.audit.clusters),
    ):
        if n is not None and n not in names:
            problems.append(Problem("data.unknown_column", f"there is no column {n!r}", where=where + place, fix=did_you_mean(n, names)))
    if problems:
        raise Refusal(problems)
    profiles = profile(table)

    def rooted(spec: Any) -> Any:
        """A picture's paths lie below the data's root."""
        name, settings = find.split(spec)
        return {name: {"root": str(task.data.root or loaded.root), **settings}} if name == "picture" else spec

    split = task.data.split.column or loaded.split
    inputs, targets, columns = {}, {}, []
    group = [n for n, (_, roles) in declared.items() if roles.get("group")]
    for n in task.targets:
        spec = column_kind(task.targets[n])[0] if task.targets[n] is not None else declared.get(n, (None, {}))[0]
        targets[n] = find.make("kinds", rooted(spec or target_kind(profiles[n])), f"{where}target.{n}", task.root)
    beside = {n: (t, find.split(kind.spec)[0]) for t, kind in targets.items() for n in kind.beside}
    absent = [
        Problem("data.unknown_column", f"there is no column {n!r}", where=f"{where}target.{t}", fix=did_you_mean(n, names))
        for n, (t, _) in beside.items()
        if n not in names
    ]
    if absent:
        raise Refusal(absent)
    for n in names:
        spec, _ = declared.get(n, (None, {}))
        if n in targets:
            columns.append({"name": n, "kind": find.split(targets[n].spec)[0], "role": "target"})
            continue
        if n in beside:
            columns.append({"name": n, "kind": beside[n][1], "role": "target"})
            continue
        if n in (split, task.data.split.by) or spec == "ignore":
            columns.append({"name": n, "kind": "ignore" if spec == "ignore" else "identifier", "role": "ignored" if spec == "ignore" else "split"})
            continue
        if spec is None and profiles[n].distinct <= 1 and profiles[n].missing in (0, profiles[n].rows):
            what = "empty" if profiles[n].distinct == 0 else "the same in every row"
            warnings.append(f"column {n!r} is {what}: left out")
            columns.append({"name": n, "kind": "constant", "role": "ignored"})
            continue
        spec = rooted(spec or infer(profiles[n]))
        kind = find.make("kinds", _suited(task, n, spec), f"{where}data.columns.{n}", task.root)
        columns.append({"name": n, "kind": find.split(spec)[0], "role": "group" if n in group else "input" if kind.place != "none" else "ignored"})
        if kind.place != "none":
            inputs[n] = kind
    for n in drawn:
        inputs[n] = find.make("kinds", declared[n][0], f"{where}data.columns.{n}", task.root)
        columns.append({"name": n, "kind": kinds[n], "role": "input"})
    if not inputs:
        raise refuse(
            "data.no_inputs",
            "no column is left to learn from",
            where=f"{where}data",
            why="every column is a target, an identifier, constant or ignored",
            fix="declare a column's kind in data.columns",
        )
    acted = list(targets) if loaded.environment is not None else []
    return Schema(inputs, {n: targets[n] for n in task.targets}, group, acted=acted), columns


def _suited(task: Task, name: str, spec: Any) -> Any:
    """An input's kind as its encoder wants it (a checkpoint's tokenizer, a picture's size), under what the task says itself."""
    if name not in task.model.encoders:
        return spec
    encoder = find.make("encoders", task.model.encoders[name], f"{task.file}: model.encoders.{name}", task.root)
    kind, given = find.split(spec)
    known = find.settings_model(find.find("kinds", kind, root=task.root)).model_fields
    wanted = {k: v for k, v in encoder.kind_settings().items() if k in known}
    return {kind: {**wanted, **(given if isinstance(given, dict) else {next(iter(known)): given})}} if wanted else spec


def target_kind(p: Any) -> str:
    """A target's kind: two or few values make a category, other numbers a number, text a category (or text where most differ)."""
    seen = p.rows - p.missing
    if not seen:
        raise refuse("data.empty_target", f"target {p.name!r} has no value in any row", fix="choose another column")
    if pa.types.is_boolean(p.type):
        return "boolean"
    if pa.types.is_integer(p.type):
        return "category" if p.distinct <= max(2, min(20, seen // 10)) else "number"
    if pa.types.is_floating(p.type) or pa.types.is_decimal(p.type):
        return "category" if p.distinct == 2 else "number"
    if pa.types.is_string(p.type) or pa.types.is_large_string(p.type):
        if p.distinct > 0.5 * seen and p.distinct > 50:
            raise refuse(
                "data.target_kind",
                f"target {p.name!r} has {p.distinct} different texts in {seen} rows",
                why="that is no set of classes",
                fix="choose another target, or declare its kind",
            )
        return "category"
    best = find.find("kinds", infer(p))
    if best.head is not None and best.guess(p) >= 0.9:
        return infer(p)
    raise refuse(
        "data.target_kind", f"target {p.name!r} has type {p.type}, which no kind of target reads by itself", fix="declare its kind under target"
    )


def _split(task: Task, table: pa.Table, schema: Schema, given: str | None, warnings: list[str]) -> dict[str, pa.Table]:
    """Four tables. Rows that are equal in every input share a unit, so that duplicates never straddle two splits."""
    s = task.data.split
    kept = np.full(table.num_rows, not schema.truths)
    for n in schema.truths:
        kept |= table.column(n).is_valid().to_numpy()
    if not kept.all():
        warnings.append(f"{int((~kept).sum())} of {table.num_rows} rows have no target: they are left out")
        table = table.filter(pa.array(kept))
    n = table.num_rows
    if n < 20:
        raise refuse(
            "data.too_few_rows", f"{n} rows with a target are too few to train, calibrate and test on", fix="bring at least 20, better some hundreds"
        )
    read = [n for n, kind in schema.inputs.items() if not kind.drawn] or [n for n, kind in schema.targets.items() if kind.place == "own"]
    twins = row_digests(table.select(read)) if read else np.arange(n)
    units = np.unique(twins, return_inverse=True)[1]
    if (copies := n - len(np.unique(twins))) > 0:
        warnings.append(f"{copies} rows repeat another row's inputs: copies stay in one split")
    if s.by is not None:
        units = _join(units, np.unique(np.array(table.column(s.by).to_pylist(), dtype=str), return_inverse=True)[1])
    column = s.column or given
    shares = {"validation": s.validation, "calibration": s.calibration}
    if column is not None:
        words = [sources.loaded.SPLITS.get(str(v).lower(), str(v).lower()) for v in table.column(column).to_pylist()]
        strange = sorted(set(words) - set(splits.NAMES))
        if strange or "train" not in words:
            raise refuse(
                "data.split_names",
                f"column {column!r} has {strange or sorted(set(words))}",
                why="splits are train, validation, calibration and test",
                where=f"{task.file}: data.split.column",
            )
        which = np.array([splits.NAMES.index(w) for w in words])
        have = {splits.NAMES[i] for i in np.unique(which)}
        shares = {k: v for k, v in {**shares, "test": s.test}.items() if k not in have}
        rest = np.flatnonzero(which == 0)
        which[rest] = splits.assign(len(rest), shares, s.seed, units=units[rest], strata=_strata(table, schema)[rest])
        straddle = {u for u in np.unique(units[which == 3]) if (which[units == u] != 3).any()} if len(np.unique(units)) < n else set()
        if straddle:
            warnings.append(f"{len(straddle)} test rows have a copy in another split, by the given column {column!r}")
    else:
        if sum(shares.values()) + s.test > 0.8:
            raise refuse(
                "data.split_shares",
                f"test, validation and calibration take {sum(shares.values()) + s.test:.2f} of the rows",
                fix="leave at least 0.2 for training",
                where=f"{task.file}: data.split",
            )
        time_ = None
        if s.time is not None:
            try:
                time_ = pc.cast(
                    pc.cast(table.column(s.time), pa.timestamp("ms")) if pa.types.is_temporal(table.column(s.time).type) else table.column(s.time),
                    pa.float64() if not pa.types.is_temporal(table.column(s.time).type) else pa.int64(),
                ).to_numpy()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
                raise refuse("data.split_time", f"column {s.time!r} is no time: {e}", where=f"{task.file}: data.split.time") from e
            if gaps := int(np.isnan(time_.astype(np.float64)).sum()):
                what = f"{gaps} rows have no value in {s.time!r}"
                raise refuse("data.split_time", what, why="they have no place in time", where=f"{task.file}: data.split.time", fix="fill them in")
        which = splits.assign(n, {**shares, "test": s.test}, s.seed, units=units, strata=_strata(table, schema), time=time_)
    out = cache.split(table, which, splits.NAMES)
    empty = [name for name, t in out.items() if t.num_rows == 0]
    if empty:
        raise refuse(
            "data.empty_split",
            f"no rows for: {', '.join(empty)}",
            why=f"{n} rows in {len(np.unique(units))} units cannot be shared out",
            fix="bring more rows, or change data.split",
        )
    return out


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Units that share a row or a member in either numbering are one (connected components)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(a)
    left = coo_matrix((np.ones(n), (np.arange(n), n + a)), shape=(2 * n + b.max() + 1,) * 2)
    right = coo_matrix((np.ones(n), (np.arange(n), 2 * n + b)), shape=left.shape)
    return connected_components(left + right, directed=False)[1][:n]


def _strata(table: pa.Table, schema: Schema) -> np.ndarray:
    """By the first target where it is a class; by its quartile where it is a number; else all alike."""
    if not schema.truths:
        return np.zeros(table.num_rows, np.int64)
    name, kind = next(iter(schema.truths.items()))
    column = table.column(name)
    if kind.head == "regression":
        x = np.nan_to_num(pc.cast(column, pa.float64(), safe=False).to_numpy())
        return np.searchsorted(np.quantile(x, [0.25, 0.5, 0.75]), x)
    if pa.types.is_nested(column.type) or kind.form != "none" or kind.place == "none":  # a text, a picture: no two are of one class
        return np.zeros(len(column), np.int64)
    return np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)[1]


def _look(schema: Schema, tables: dict[str, pa.Table], columns: list[dict[str, str]], warnings: list[str]) -> None:
    """Describe the columns; warn of what a person would want to know before training; refuse a target with nothing to tell apart."""
    train = tables["train"]
    for entry in columns:
        kind = (schema.inputs | schema.targets).get(entry["name"])
        entry["describe"] = kind.describe() if kind else ""
        missing = train.column(entry["name"]).null_count if entry["name"] in train.column_names else 0
        if missing and entry["role"] == "input":
            entry["describe"] += f"; {missing / train.num_rows:.1%} missing"
    for n, kind in schema.truths.items():
        labels = kind.labels_
        if labels is not None and len(labels) < 2:
            raise refuse(
                "data.one_class",
                f"target {n!r} has one value in training: {labels}",
                why="there is nothing to tell apart",
                fix="bring rows of another class",
            )
        if labels is not None:
            counts = dict(zip(*np.unique(np.array(train.column(n).drop_null().cast(pa.string()).to_pylist()), return_counts=True), strict=True))
            if len(counts) > 1 and min(counts.values()) < 20:
                rare = min(counts, key=counts.get)
                warnings.append(f"target {n!r}: class {rare!r} has {counts[rare]} training rows: intervals on it will be wide")


def _parts(task: Task, schema: Schema) -> dict[str, Any]:
    """The components' specs: named in the task, else what the kinds prefer."""
    wanted = task.model
    inputs = schema.encoders()
    stray = [
        Problem("task.unknown_key", f"there is no input {n!r}", where=f"{task.file}: model.encoders.{n}", fix=did_you_mean(n, inputs))
        for n in wanted.encoders
        if n not in inputs
    ]
    for part, specs in (("heads", wanted.heads), ("decoders", wanted.decoders)):
        for n in specs.keys() - schema.targets.keys():
            where, fix = f"{task.file}: model.{part}.{n}", did_you_mean(n, schema.targets)
            stray.append(Problem("task.unknown_key", f"there is no target {n!r}", where=where, fix=fix))
    if stray:
        raise Refusal(stray)

    def full(folder: str, spec: Any) -> Any:
        return {find.split(spec)[0]: find.check(folder, spec, root=task.root)[1]}

    encoders = {
        n: full("encoders", wanted.encoders.get(n) or ("mlp" if n == TABLE else next(iter(kinds.values())).encoder)) for n, kinds in inputs.items()
    }
    heads = {n: full("heads", wanted.heads.get(n) or kind.head) for n, kind in schema.targets.items()}
    return {"encoders": encoders, "fusion": full("fusions", wanted.fusion), "heads": heads, "decoders": dict(wanted.decoders)}


def learning(model: Model, objective: Objective, rows: int) -> dict[str, Any]:
    """What the encoders suggest, the one with the most parameters last; then the objective, which has the last word."""
    by_size = sorted((sum(p.numel() for p in e.parameters()), n) for n, e in model.encoders.items())
    return {k: v for _, n in by_size for k, v in model.encoders[n].learning(rows).items()} | objective.learning(rows)


def beside(plan: Plan, source: Any, where: str) -> tuple[Dataset, str]:
    """A stage's own data, encoded as the training split is. Rows with the inputs of a held-out row are left out: what was seen cannot judge."""
    table = sources.load(source, root=plan.task.root, where=where).table
    inputs = [n for n, kind in plan.schema.inputs.items() if not kind.drawn]
    missing = [Problem("data.missing_column", f"column {n!r} is missing", "the model reads it", where) for n in inputs if n not in table.column_names]
    if missing:
        raise Refusal(missing)
    held = np.concatenate([row_digests(plan.tables[s].select(inputs)) for s in ("validation", "calibration", "test")])
    seen = np.isin(row_digests(table.select(inputs)), held)
    if seen.any():
        plan.warnings.append(f"{where.rpartition(': ')[2]}: {int(seen.sum())} rows stand in a held-out split too: they are left out")
        table = table.filter(pa.array(~seen))
    if table.num_rows < 2:
        raise refuse("data.too_few_rows", f"{table.num_rows} rows are left to learn from", where=where, fix="bring more rows")
    digest = table_digest(table)
    return cache.encode(plan.schema, table, digest), digest


def resolve(plan: Plan, stage: Any, model: Model, before: dict[str, Any] | None, train: Dataset) -> tuple[Settings, int]:
    """Every None decided: by the task, else as encoders and objective suggest (never half of a choice: an lr goes with its optimizer), else batches
    grow with the data and a stage takes about 2,000 updates, at least 5 passes and at most 60."""
    if before is not None:
        return Settings(**before["settings"]), before["steps"]
    rows, own, objective = len(train), bool(plan.schema.own), find.make("objectives", stage.objective, root=plan.task.root)
    suggested = learning(model, objective, rows)
    for spec in stage.strategies:
        suggested = find.make("strategies", spec, root=plan.task.root).learning(suggested)
    given = stage.model_dump(include=set(Settings.model_fields), exclude_unset=True)
    given = {k: v for k, v in given.items() if v is not None or Settings.model_fields[k].default is not None}  # `clip: null` is a choice
    if given.get("optimizer", "adamw") != suggested.get("optimizer", "adamw"):
        suggested = {k: v for k, v in suggested.items() if k not in ("lr", "weight_decay", "optimizer")}
    if given.keys() & {"epochs", "steps", "minutes"}:
        suggested = {k: v for k, v in suggested.items() if k not in ("epochs", "steps")}
    s = Settings(**{**suggested, **given})
    if objective.experience is not None:
        s.batch_size, per_epoch = objective.experience.batch_size, plan.rollouts(objective.experience, 0).steps()
    else:
        s.batch_size = min(s.batch_size or int(np.clip(2 ** round(math.log2(max(rows, 2) / 24)), 16, 256)), rows)
        per_epoch = max(1, math.ceil(rows / s.batch_size))
    if not objective.validates:
        s.keep = "last"
    if s.steps is None and s.epochs is None:
        s.epochs = float(np.clip(round(2000 / per_epoch), 5, 60))
    steps = s.steps or max(1, round(s.epochs * per_epoch))
    if s.lr is None:
        s.lr = 1e-3 if s.optimizer == "adamw" else 0.1
    if s.weight_decay is None:
        s.weight_decay = 0.05 if s.optimizer == "adamw" else 5e-4
    if s.device == "auto":
        s.device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if s.channels_last is None:
        s.channels_last = own
    return s, steps


def _rehearse(plan: Plan, index: int, model: Model, wanted: Settings, before: dict[str, Any] | None) -> list[Problem]:
    """On copies: the dry run of the strategies' promises, the probe, and the time of a step in each precision."""
    p = plan.stages[index]
    stage = plan.stage(index, copy.deepcopy(model), plan.task.seed)
    problems = dry_run(plan.stage(index, copy.deepcopy(model), plan.task.seed))
    if problems:
        return problems
    if before is not None:
        p.trainable, p.facts, p.seconds = before["trainable"], before["facts"], before["estimated_seconds"]
        return []
    p.settings.precision = "fp32" if wanted.precision == "auto" else wanted.precision
    parts = loop.assemble(stage)
    p.trainable = sum(q.numel() for q in {id(q): q for ps in parts.parameters.values() for q in ps}.values())
    if parts.objective.experience is not None:
        batch = next(iter(stage.stream.batches(parts.model)))
        tiny = batch.select(slice(0, 8))
    else:
        train = plan.train(index)
        rows, lengths = np.random.default_rng(plan.task.seed).permutation(len(train)), train.lengths()
        alike = rows if lengths is None else rows[np.argsort(np.abs(lengths[rows] - lengths.mean()), kind="stable")]  # as in the stream's batches
        tiny = train.batch(rows[:8], torch.Generator().manual_seed(0))
        batch = train.batch(alike[: p.settings.batch_size], torch.Generator().manual_seed(0))
    facts = probe(parts, tiny.to(p.settings.device), stage.strategies)
    problems = check(facts, stage.strategies)
    if problems:
        return problems
    timed = {}
    for threads in [wanted.threads] if wanted.threads else sorted({1, CORES}):
        for precision in ("fp32", "bf16") if wanted.precision == "auto" and plan.schema.own else (p.settings.precision,):
            torch.set_num_threads(threads)
            parts.learner.bf16 = precision == "bf16"
            timed[threads, precision] = _time(stage, parts, batch)
    # the plain choice (one thread, fp32) stays unless another is clearly faster
    (p.settings.threads, p.settings.precision), a_step = min(
        timed.items(), key=lambda t: t[1] * (1.0 if t[0] == min(timed) else 1.15) * (1.1 if t[0][1] == "bf16" else 1.0)
    )
    torch.set_num_threads(p.settings.threads)
    if wanted.minutes is not None and wanted.steps is None and wanted.epochs is None:
        p.steps = max(1, int(60 * wanted.minutes / a_step))
        p.settings.epochs = p.steps / max(1, stage.stream.steps())
    p.seconds = p.steps * a_step
    p.facts = {
        "step_ms": {f"{precision}, {threads} threads": round(1e3 * v, 2) for (threads, precision), v in timed.items()},
        "probe": dataclasses.asdict(facts),
    }
    return []


def _time(stage: loop.Stage, parts: loop.Assembled, batch: Any, budget: float = 1.0) -> float:
    """Seconds of a step: the median after two to warm up, within a budget."""
    taken = []
    began = time.perf_counter()
    while len(taken) < 3 or (len(taken) < 12 and time.perf_counter() - began < budget):
        start = time.perf_counter()
        for player in parts.objective.players:
            float(loop.step(stage, parts, batch, player).loss)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[2:] or taken))
