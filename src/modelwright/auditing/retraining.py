"""A model's recipe once more, on other rows: what shadow models and canaries are trained by. `Recipe(plan)(table, seed)` gives a Predictor.

The stages are repeated as they were planned (settings, strategies, as many passes over the rows) with the fitted schema, and calibrated as the run
was. It is quiet: no folder, checkpoint, registry or test row; nothing is measured again. The same table and seed give the same model, also with
strategies that else draw a secret: a shadow model keeps no promise of privacy. What takes three times as long as the run did, row for row, is
stopped. Left out: the choice among several seeds; tasks that are learnt by acting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from .. import find, home, planning
from ..artifact import Chosen, Loaded
from ..baselines import Baseline
from ..data.schema import Schema
from ..errors import Problem, Stopped
from ..learn import loop
from ..learn.calibrate import calibrate
from ..learn.validation import loss_on
from ..predictor import Predictor
from ..registry import gate
from ..settings import Settings
from ..task import load_task


class Recipe:
    def __init__(self, plan: planning.Plan, rows: int, seconds: float):
        """rows, seconds: of the training that is repeated."""
        self.plan, self.rows, self.seconds = plan, rows, seconds

    def __call__(self, table: pa.Table, seed: int) -> Predictor:
        """Trained on the table's rows. Raises `Stopped` where it diverges or takes too long."""
        plan, train = self.plan, self.plan.schema.encode(table)
        until = time.perf_counter() + 10 + 3 * self.seconds * max(1.0, len(train) / self.rows)
        plan = replace(plan, data=plan.data | {"train": train}, stages=[self._on(p, len(train), seed) for p in plan.stages])
        threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng(devices=[]):
                model = plan.model(seed)
                for i in range(len(plan.stages)):
                    stage = plan.stage(i, model, seed)
                    stage.log = _watch(until)
                    if stage.objective.validates and "validation" in plan.data:
                        stage.validate = loss_on(plan.data["validation"], stage.settings.device)
                    model = loop.fit(stage).model.cpu()
        finally:
            torch.set_num_threads(threads)
        if "calibration" in plan.data:
            calibrate(model, plan.data["calibration"])
        return Loaded(model, plan.schema)

    def _on(self, p: planning.StagePlan, rows: int, seed: int) -> planning.StagePlan:
        """The stage on so many rows: as many passes; a strategy's own seed, where it has one, is given."""
        settings, steps = p.settings.model_copy(update={"minutes": None}), p.steps  # as many passes, not as long by the clock
        if not torch.cuda.is_available() and settings.device == "cuda":
            settings.device = "cpu"
        if p.data is None:
            settings.batch_size = min(settings.batch_size, rows)
            steps = max(1, round(p.steps * -(-rows // settings.batch_size) / -(-self.rows // min(p.settings.batch_size, self.rows))))
        return replace(p, settings=settings, steps=steps, strategies=[_seeded(s, seed, self.plan.task.root) for s in p.strategies])


def _seeded(spec: Any, seed: int, root: str) -> Any:
    cls, settings = find.check("strategies", spec, root=root)
    return {find.split(spec)[0]: settings | ({"seed": seed} if "seed" in settings else {})}


def _watch(until: float) -> Callable[[dict[str, Any]], None]:
    def log(line: dict[str, Any]) -> None:
        if time.perf_counter() > until:
            what = "a retraining took over three times as long as the run did"
            raise Stopped(Problem("retrain.slow", what, fix="audit with less beside it on the machine"))

    return log


PRIVACY = ("membership_tpr_at_fpr_0.01", "canary_tpr_at_fpr_0.05", "epsilon_lower_bound", "exposure", "exposure_repeated")
ASKING = (*(f"privacy.{m}" for m in PRIVACY), "accuracy.gain_of_shuffled_labels")
Again = Callable[[pa.Table, int], Predictor]


def asked(policy: gate.Policy) -> bool:
    """Training anew takes its time: a limit on what cannot be shown without it asks for it."""
    return any(limit.metric in ASKING for limit in policy.limits)


def of_plan(plan: planning.Plan, seconds: float) -> Again | None:
    """Of a run that is under way; None where it learns by acting. seconds: that its training took."""
    if plan.environment is not None:
        return None
    return Recipe(plan, plan.tables["train"].num_rows, seconds) if plan.stages else _baseline(plan.task.model.instead, plan.schema)


def of_folder(folder: Path, model: Loaded | Chosen, tables: Mapping[str, pa.Table]) -> tuple[Again | None, float]:
    """(retrain, the seconds that training took) of a run's folder, as planned in its plan.json, or of a baseline. tables: per split; validation and
    calibration are used as the run used them. (None, 0) for anything else, and where a stage has data of its own but the held-out rows, which are left
    out of it, are not at hand."""
    schema = model.schema
    if isinstance(model, Chosen):
        return _baseline(model.baseline.name, schema), 0.0
    if schema.acted or not ((folder / "task.yaml").is_file() and (folder / "plan.json").is_file()):
        return None, 0.0
    task, decided = load_task(folder / "task.yaml"), home.kept(folder / "plan.json", "stages")
    told = home.kept(folder / "lineage.json", "stages")["stages"] if (folder / "lineage.json").is_file() else []
    data = {s: schema.encode(tables[s]) for s in ("validation", "calibration") if s in tables}
    plan = planning.Plan(task, schema, dict(tables), data, decided["model"], decided["parameters"], [], gate.policy_of(()), {}, 0, [], [], [])
    for entry, stage in zip(task.stages, decided["stages"], strict=True):
        ((name, wanted),) = entry.items()
        own = None
        if wanted.data is not None:
            if not {"validation", "calibration", "test"} <= tables.keys():
                return None, 0.0
            own, _ = planning.beside(plan, wanted.data, f"{task.file}: stages.{name}.data")
        settings = Settings(**stage["settings"])
        plan.stages.append(planning.StagePlan(name, stage["objective"], stage["strategies"], settings, stage["steps"], stage["estimated_seconds"], data=own))
    seconds = sum(s["seconds"] for s in told) or sum(p.seconds for p in plan.stages)
    return Recipe(plan, decided["rows"]["train"], seconds), seconds


def _baseline(name: str, schema: Schema) -> Again:
    return lambda table, seed: Chosen(Baseline.fit(name, schema, schema.encode(table), seed))
