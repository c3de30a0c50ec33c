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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from . import baselines, find, home, seen
from .artifact import assemble_model
from .data import cache, sources
from .data.dataset import Dataset
from .data.schema import TABLE, Schema
from .data.streams import Rows, Stream
from .digests import row_digests, table_digest
from .errors import Problem, Refusal, did_you_mean, refuse
from .gradient import Plain
from .learn import loop
from .learn.probe import accumulates, check, dry_run, probe
from .model import Model
from .objective import Experience, Objective
from .preparing import prepare
from .registry import gate
from .registry import policy as policies
from .registry.store import Registry
from .room import TRAINED, Room
from .settings import Settings
from .strategy import Context
from .subject import due, rows_of
from .task import Task, load_task

CORES = torch.get_num_threads()


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
    judged: int  # models that were measured on these test rows before
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
        step = 8 * (8 + math.prod(self.environment.observation.shape or (1,)))  # what was seen, done, said and earned, in bytes
        Room("objective", fix="fewer copies or steps").count(experience.copies * (10_000 + experience.steps * step))
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
            "audits": due({limit.area for limit in self.policy.limits}),
            "limits": {limit.name: limit.text for limit in self.policy.limits},
            "interval_level": gate.level_for(self.policy, self.judged + 1),
            "digests": self.digests,
            "notes": self.notes,
            "warnings": self.warnings,
        }  # fmt: skip


def make(task: Task | str | Path, decided: dict[str, Any] | None = None) -> Plan:
    """decided: an earlier plan.json whose measured choices are reused, so that a resumed run is the same run."""
    task = load_task(task)
    policy = policies.of_task(task)
    found = prepare(task)
    task, schema, tables = found.task, found.schema, found.tables
    if found.environment is None:
        _check_limits(task, policy, schema, tables["test"])
    digests = {s: table_digest(schema.contents(t)) for s, t in tables.items()}
    data = {s: cache.encode(schema, t, digests[s]) for s, t in tables.items()}
    parts = _parts(task, schema)
    if len(data["train"]) < 1000 and [*schema.encoders()] == [TABLE] and found.environment is None and task.model.instead is None:
        how = "the report compares them, and model: {instead: linear} saves the other"
        found.notes.append(f"on {len(data['train'])} training rows a linear model is often as good as a net, or better: {how}")
    torch.manual_seed(task.seed)
    model = assemble_model(schema, parts, TRAINED)
    judged = Registry().judged(*seen.test_rows(schema, tables["test"], home.known_key()))
    plan = Plan(
        task, schema, tables, data, parts, sum(p.numel() for p in model.parameters()), [], policy,
        digests, len(judged), found.columns, found.notes, found.warnings, found.environment,
    )  # fmt: skip
    for area, there in (("fairness", schema.group), ("ood", {"ood", "ood_near", "ood_far"} & tables.keys())):
        if not there and (limits := [limit.name for limit in policy.limits if limit.area == area]):
            plan.warnings.append(f"nothing here gives {', '.join(limits)} a figure, so that the decision will be fail: it takes {gate.NEEDS[area]}")
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
    if any("unread" in s.needs for i in range(len(plan.stages)) for s in plan.stage(i, model, task.seed).strategies):
        plan.warnings.append("columns' means, spreads, bins and vocabularies are read from training rows without noise; no epsilon charges for them")
    plan.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)
    return plan


def _check_limits(task: Task, policy: gate.Policy, schema: Schema, test: pa.Table) -> None:
    """Before training, not in its audit: every metric with a limit is one of its target's, and every slice can be told from the others by the table."""
    problems = []
    for limit in (x for x in policy.limits if "." not in x.metric):
        kinds = {n: k for n, k in schema.targets.items() if limit.target in (None, n)}
        if kinds and not any(limit.metric in k.measures for k in kinds.values()):
            what = f"{limit.metric} is not measured of {', '.join(f'{n} ({type(k).__name__.lower()})' for n, k in kinds.items())}"
            known = ", ".join(sorted(set().union(*(k.measures for k in kinds.values()))))
            problems.append(Problem("policy.unmeasured", what, "the limit could never be met", f"{task.file}: audit", f"one of: {known}"))
    for slice in dict.fromkeys([*task.audit.slices, *gate.slices_of(policy)]):
        try:
            rows_of(test, slice)
        except Refusal as e:
            problems += [dataclasses.replace(p, where=f"{task.file}: audit") for p in e.problems]
    if problems:
        raise Refusal(problems)


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
    """What the encoders suggest, the one with the most parameters last, with a table's passes times what its heads take; then the objective, which has the
    last word."""
    by_size = sorted((sum(p.numel() for p in e.parameters()), n) for n, e in model.encoders.items())
    found = {k: v for _, n in by_size for k, v in model.encoders[n].learning(rows).items()}
    if "epochs" in found and [*model.encoders] == [TABLE]:
        found["epochs"] = max(found["epochs"], min(60.0, found["epochs"] * min(model.heads[t].passes for t in model.heads)))
    return found | objective.learning(rows)


def beside(plan: Plan, source: Any, where: str) -> tuple[Dataset, str]:
    """A stage's own data, encoded as the training split is. Rows with the inputs of a held-out row are left out: what was seen cannot judge."""
    loaded, own = sources.load(source, root=plan.task.root, where=where), plan.schema.root
    table = loaded.table
    inputs = [n for n, kind in plan.schema.inputs.items() if not kind.drawn]
    missing = [Problem("data.missing_column", f"column {n!r} is missing", "the model reads it", where) for n in inputs if n not in table.column_names]
    if missing:
        raise Refusal(missing)
    held = np.concatenate([row_digests(plan.schema.contents(plan.tables[s].select(inputs))) for s in ("validation", "calibration", "test")])
    plan.schema.at(loaded.root)
    try:
        seen = np.isin(row_digests(plan.schema.contents(table.select(inputs))), held)
        if seen.any():
            plan.warnings.append(f"{where.rpartition(': ')[2]}: {int(seen.sum())} rows stand in a held-out split too: they are left out")
            table = table.filter(pa.array(~seen))
        if table.num_rows < 2:
            raise refuse("data.too_few_rows", f"{table.num_rows} rows are left to learn from", where=where, fix="bring more rows")
        digest = table_digest(plan.schema.contents(table))
        return cache.encode(plan.schema, table, digest), digest
    finally:
        plan.schema.at(own)


def resolve(plan: Plan, stage: Any, model: Model, before: dict[str, Any] | None, train: Dataset) -> tuple[Settings, int]:
    """Every None decided: by the task, else as encoders and objective suggest (never half of a choice: an lr goes with its optimizer), else batches
    grow with the data and a stage takes about 2,000 updates, at least 5 passes and at most 60."""
    if before is not None:
        return Settings(**before["settings"]), before["steps"]
    rows, own, objective = len(train), bool(plan.schema.own), find.make("objectives", stage.objective, root=plan.task.root)
    suggested = learning(model, objective, rows)
    for spec in stage.strategies:
        suggested = find.make("strategies", spec, root=plan.task.root).learning(suggested)
    suggested.pop("private", None)
    given = stage.model_dump(include=set(Settings.model_fields), exclude_unset=True)
    given = {k: v for k, v in given.items() if v is not None or Settings.model_fields[k].default is not None}  # `clip: null` is a choice
    chosen = given.get("optimizer", "adamw" if "lr" in given else suggested.get("optimizer", "adamw"))
    if chosen != suggested.get("optimizer", "adamw"):
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
    if s.steps is not None or s.epochs is not None:
        s.minutes = None  # passes that were named are kept, however long they take
    else:
        s.epochs = float(np.clip(round(2000 / per_epoch), 5, 60))
    steps = s.steps or max(1, round(s.epochs * per_epoch))
    if s.lr is None:
        s.lr = 1e-3 if s.optimizer == "adamw" else 0.1
    if s.weight_decay is None:
        s.weight_decay = 0.05 if s.optimizer == "adamw" else 5e-4
    if s.device == "auto":
        s.device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif s.device != "cpu" and not {"cuda": torch.cuda, "mps": torch.backends.mps}[s.device].is_available():
        raise refuse("task.device", f"this machine has no {s.device} device", where="device", fix="auto takes what there is; cpu is everywhere")
    if s.channels_last is None:
        s.channels_last = own
    return s, steps


def _rehearse(plan: Plan, index: int, model: Model, wanted: Settings, before: dict[str, Any] | None) -> list[Problem]:
    """On copies: the dry run of the strategies' promises, the probe, and the time of a step in each precision."""
    p = plan.stages[index]
    stage = plan.stage(index, copy.deepcopy(model), plan.task.seed)
    with Room(f"stages.{index}.{p.name}", TRAINED):
        problems = dry_run(plan.stage(index, copy.deepcopy(model), plan.task.seed))
    if problems:
        return problems
    if before is not None:
        p.trainable, p.facts, p.seconds = before["trainable"], before["facts"], before["estimated_seconds"]
        return []
    p.settings.precision = "fp32" if wanted.precision == "auto" else wanted.precision
    with Room(f"stages.{index}.{p.name}", TRAINED):
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
    if (p.settings.micro_batch or math.inf) < p.settings.batch_size and isinstance(parts.rule, Plain):
        problems += accumulates(probe(parts, tiny.to(p.settings.device)))
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
    if p.settings.minutes is not None:
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
