"""A run: plan -> fit the stages -> calibrate -> save -> audit what was saved -> decide -> report. Everything it knows ends in one folder.

The folder is locked while it runs, every file is written whole, and `resume` goes on from the last checkpoint with the choices that plan.json holds.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__, baselines, find, home, planning, seen, strict
from .artifact import Loaded, open_model, save
from .auditing import VALIDATION, code_digest, conclude, player, retraining
from .curves import Curves, Log
from .digests import model_digest
from .errors import refuse
from .forms import Measurement, Prediction
from .home import write
from .intervals import over_seeds
from .learn import checkpoint, loop
from .learn.calibrate import calibrate
from .learn.validation import loss_on
from .lock import Lock, unwritten
from .objective import Learner
from .registry import gate
from .registry import policy as policies
from .registry.store import Registry
from .subject import Subject, due
from .task import Task, load_task

WRITES = ("task.yaml", "metrics.jsonl", "tensorboard", "checkpoints", "model", "rows.safetensors", "lineage.json", "evidence.json", "card.md", "report.html")


@dataclass
class Run:
    """What `run` returns: the folder and what is in it."""

    folder: Path
    evidence: dict[str, Any]
    baselines: dict[str, dict[str, dict[str, float | None]]]
    ahead: str | None
    seconds: float
    headline: dict[str, Any] | None
    stages: list[dict[str, Any]]  # of the seed that ships: name, steps, seconds, history, best, statement

    @property
    def decision(self) -> dict[str, Any] | None:
        return self.evidence["decision"]

    def as_json(self) -> dict[str, Any]:
        shown = {"folder": str(self.folder), "report": str(self.folder / "report.html"), "decision": self.decision, "headline": self.headline}
        return shown | {"baselines": self.baselines, "ahead": self.ahead, "seconds": round(self.seconds, 2)}


def run(task: Task | str | Path, out: str | Path, *, resume: bool = False, log: Log = lambda event, facts: None) -> Run:
    """Do all of it. Raises `Refusal` before work, `Stopped` where the world ends it."""
    folder, began, task = Path(out), time.perf_counter(), load_task(task)
    if folder.is_file():
        raise refuse("run.folder", f"{folder} is a file", fix="name a folder with --out")
    Lock.free(folder)
    used = (folder / "plan.json").exists()
    if used and not resume:
        raise refuse(
            "run.used",
            f"{folder} already holds a run",
            why="an earlier result is never overwritten",
            fix="add --resume to go on with it, or name another --out",
        )
    if not used:
        unwritten(folder, WRITES)
    Registry().ready()  # where the opening of the test rows will be counted: a registry that cannot be written is found now, not after training
    decided = home.kept(folder / "plan.json", "digests", "stages") if used else None
    rests = rests_on(resolved(task, folder))
    if decided and (other := [k for k, v in decided.get("task", rests).items() if v != rests[k]]):
        why, fix = "the result would be neither task's", "resume with the task that it began with, or start a new run with another --out"
        raise refuse("run.changed", f"the task changed since this run began: {', '.join(other)}", why=why, where=str(folder), fix=fix)
    log("note", {"text": "reading the data and rehearsing the plan"})
    plan = planning.make(task, decided)
    if decided and decided["digests"] != plan.digests:
        raise refuse("run.changed", "the data or the split changed since this run began", where=str(folder), fix="start a new run with another --out")
    folder.mkdir(parents=True, exist_ok=True)  # not before: what is refused leaves nothing behind
    with Lock(folder):
        if not used:  # first of all files: a folder without it holds no run, and what else lies there is somebody's
            unwritten(folder, ("plan.json", *WRITES))  # meanwhile
            write(folder / "plan.json", home.sealed(plan.as_json() | {"task": rests}))
        write(folder / "task.yaml", strict.dump(resolved(task, folder)))
        return _run(plan, folder, log, began)


def _run(plan: planning.Plan, folder: Path, log: Log, began: float) -> Run:
    task = plan.task
    curves = Curves(folder)
    fits: list[tuple[float, Any, list[dict[str, Any]]]] = []
    cost: list[dict[str, Any]] = []
    candidates = baselines.fit(plan.schema, plan.data["train"], task.seed)
    for k in range(task.seeds if plan.stages else 0):
        seed = task.seed + k
        model, told = plan.model(seed), []
        for i, p in enumerate(plan.stages):
            stage = plan.stage(i, model, seed)
            name = p.name if task.seeds == 1 else f"{p.name}-seed{seed}"
            stage.folder = folder / "checkpoints" / name
            stage.validate = validator(plan, stage) if stage.objective.validates else None
            stage.log = curves.writer(name, log)
            if broken := checkpoint.damaged(stage.folder):
                plan.warnings.append(f"{name}: checkpoints that were cut short or damaged are left out: {', '.join(broken)}")
                log("note", {"text": plan.warnings[-1]})
            log("stage", {"name": name, "objective": find.split(p.objective)[0], "steps": p.steps, "seconds": p.seconds})
            fitted = loop.fit(stage)
            model = fitted.model.cpu()
            statement: dict[str, Any] = {}
            for strategy in stage.strategies:
                statement |= strategy.statement()
                broken = strategy.holds(model)
                if broken:
                    raise refuse("strategy.broken", f"{type(strategy).__name__}: {broken}", where=f"stages.{i}.{p.name}")
            told.append({
                "name": name, "objective": p.objective, "strategies": p.strategies, "seed": seed,
                "data": p.digest, "steps": fitted.progress.step, "seconds": fitted.seconds,
                "history": fitted.history, "best": fitted.best, "statement": statement,
            })  # fmt: skip
            cost.append({"stage": name, "seconds": fitted.seconds, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
        watched = next(iter(fitted.best.values()), 0.0)
        fits.append((watched, model, told))
    curves.close()
    if task.model.instead:
        model, told = candidates.pop(task.model.instead), []
    else:
        _, model, told = (min if stage.better == "lower" else max)(fits, key=lambda f: f[0])

    log("note", {"text": "calibrating, auditing and writing the report"})
    calibrations = {id(m): calibrate(m, plan.data["calibration"]) for _, m, _ in fits}
    calibration = calibrations.get(id(model), {})
    fitted_badly = [w for told in calibration.values() for w in told.get("decoder", {}).get("warnings", ())]
    plan.warnings += fitted_badly
    for warning in fitted_badly:  # a repair that was asked for and did not happen
        log("note", {"text": f"warning: {warning}"})
    save(folder / "model", model, plan.schema)
    if plan.environment is None and (compared := seen.comparable(plan.schema, plan.tables["train"])):
        seen.keep(folder, [plan.tables[s] for s in ("train", "validation", "calibration")], compared, home.key())
    lineage = {
        "modelwright": __version__, "torch": torch.__version__, "python": platform.python_version(), "code": code_digest(), "data": plan.digests,
        "parents": [], "stages": told, "seeds": task.seeds, "calibration": calibration, **({"moved": moved(plan, model, told[0]["seed"])} if told else {}),
    }  # fmt: skip
    write(folder / "lineage.json", home.sealed(lineage))
    same_answers(model, folder, plan)
    slices = list(dict.fromkeys([*task.audit.slices, *gate.slices_of(plan.policy)]))
    subject = Subject(
        open_model(folder / "model", plan.schema.root),
        plan.schema,
        plan.tables,
        slices,
        clusters=task.together(plan.tables["test"].column_names),
        lineage=lineage,
        baselines=candidates,
        seed=task.seed,
        play=None if plan.environment is None else player(plan, model),
    )
    subject.declare(task.audit)
    if retraining.asked(plan.policy):
        subject.retrain_seconds = sum(s["seconds"] for s in told)
        subject.retrain = retraining.of_plan(plan, subject.retrain_seconds)
    subject.open = subject.predictor.open if plan.stages else None
    facts = {"model": plan.parts, "parameters": plan.parameters}
    seeds = seeds_apart(plan, fits) if len(fits) > 1 else []
    digest = model_digest(folder / "model")
    asked = due({limit.area for limit in plan.policy.limits})
    done = conclude(folder, plan, subject, plan.policy, digest, plan.digests, facts, seeds, told, curves.lines, cost, only=asked, log=log)
    found, story = done.evidence, done.story
    return Run(folder, found, dict(story.baselines), story.ahead, time.perf_counter() - began, story.headline(), told)


def moved(plan: planning.Plan, model: Any, seed: int) -> float:
    """The share of the network's weights that are others than those which the seed draws."""
    with torch.random.fork_rng(devices=[]):
        first = dict(plan.model(seed).named_parameters())
    now = [(first.get(n), p) for n, p in model.named_parameters()]
    changed = sum(p.numel() if a is None or a.shape != p.shape else int((~torch.isclose(a, p, 1e-6, 1e-12)).sum()) for a, p in now)
    return changed / max(1, sum(p.numel() for _, p in now))


def validator(plan: planning.Plan, stage: loop.Stage) -> Callable[[Learner], dict[str, float]]:
    """The objective's own loss on the validation split; of what acts, its return."""
    if stage.objective.experience is not None:
        stage.better = "higher"
        return lambda learner: {"episode_return": float(player(plan, learner.model, VALIDATION)("model", 20).mean())}
    return loss_on(plan.data["validation"], stage.settings.device)


def same_answers(model: Any, folder: Path, plan: planning.Plan, rows: int = 256) -> None:
    """What was saved must answer as what was trained: evidence is about the saved bytes, and a slip between the two would be silent."""
    table = plan.tables["validation"].slice(0, rows)
    kept = open_model(folder / "model", plan.schema.root).predict(table)
    trained = (Loaded(model, plan.schema) if plan.stages else model).predict(table)
    for target, a in kept.items():
        x, y = (q.probabilities if q.probabilities is not None else _said(q) for q in (a, trained[target]))
        assert x.shape == y.shape and torch.allclose(x.float(), y.float(), atol=1e-5), f"the saved model answers {target} otherwise than the trained one"


def _said(p: Prediction) -> torch.Tensor:
    """What is compared of an answer that is no distribution."""
    ragged = p.boxes if p.boxes is not None else p.tokens
    return p.value if ragged is None else ragged.values


def seeds_apart(plan: planning.Plan, fits: list[Any]) -> list[Measurement]:
    """The primary metric of every seed on validation, as mean and t-interval over seeds: how much of a difference is luck."""
    found = []

    def line(metric: str, target: str, values: list[float]) -> None:
        i = over_seeds(np.array(values))
        places = (target, "validation", None, i.value, i.low, i.high, 0.95, len(values), i.method, plan.task.seed, 0.0)
        found.append(Measurement("seeds", metric, *places, {"values": values}))

    if plan.environment is not None:
        returns = [float(player(plan, model, VALIDATION)("model", 100).mean()) for _, model, _ in fits]
        line("episode_return", plan.schema.acted[0], returns)
    table = plan.tables["validation"]
    for target, kind in plan.schema.truths.items():
        truth = kind.encode_target(kind.column(table, target))
        said = [Loaded(model, plan.schema).predict(table)[target] for _, model, _ in fits]
        line(kind.primary, target, [kind.metrics(p, truth)[kind.primary].value(np.arange(table.num_rows)) for p in said])
    return found


def rests_on(tree: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved task a run cannot go on without: less places, whose rows have digests, and limits, whose changes the registry tells."""
    kept = {k: tree[k] for k in ("target", "model", "seeds", "seed")} | {k: tree["data"][k] for k in ("query", "columns", "split", "environment")}
    kept["stages"] = [{name: {k: v for k, v in stage.items() if k != "data"} for name, stage in entry.items()} for entry in tree["stages"]]
    return json.loads(json.dumps(kept, default=str))


def resolved(task: Task, folder: Path) -> dict[str, Any]:
    """The task as written into its run: every default filled in, paths relative to the run's folder."""

    def moved(source: Any) -> Any:
        if isinstance(source, str):
            if source.startswith("gym://") and ".py:" in source:
                return "gym://" + os.path.relpath(Path(task.root, source.removeprefix("gym://")), folder)
            return source if "://" in source else os.path.relpath(Path(task.root, source), folder)
        if isinstance(source, (list, tuple)) and all(isinstance(s, str) for s in source):
            return [moved(s) for s in source]
        if isinstance(source, dict) and all(isinstance(s, str) for s in source.values()):
            return {k: moved(s) for k, s in source.items()}
        return f"(a {type(source).__name__} given from Python)"

    tree = task.model_dump()
    tree["data"]["source"] = moved(task.data.source)
    tree["data"]["root"] = None if task.data.root is None else os.path.relpath(Path(task.root, task.data.root).expanduser(), folder)
    tree["audit"] |= {"policy": None, "require": policies.as_require(policies.of_task(task))}  # a shared file may change or go
    for entry in tree["stages"]:
        for stage in entry.values():
            stage["data"] = None if stage["data"] is None else moved(stage["data"])
    return tree
