"""Two runs on the same test rows: the difference of every metric, paired, with its interval. Different test rows are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import preparing
from .artifact import open_model
from .data import sources
from .data.rollouts import Actor
from .digests import rows_digest, table_digest
from .errors import refuse
from .evidence import read
from .intervals import paired
from .kind import Metric
from .task import Task, load_task

LEVEL = 0.95
EPISODES = 100
TEST = 3_000_003  # where episodes begin, away from those that were learnt from or judged on


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """A minus B. Test rows come from each run's own task.yaml and must be the ones that its evidence was measured on. Two policies are compared on
    episodes that begin alike."""
    tasks = {run: _task(Path(run)) for run in (a, b)}
    acting = [run for run, task in tasks.items() if str(task.data.source).startswith("gym://")]
    if acting:
        return _played(a, b, tasks)
    tables, roots = zip(*(_test_rows(Path(run), tasks[run]) for run in (a, b)), strict=True)
    first, second = (rows_digest(t.select(sorted(t.column_names))) for t in tables)
    if first != second:
        raise refuse(
            "compare.rows",
            "the runs were tested on different rows",
            why="a paired difference needs the same rows",
            fix="give both tasks the same data and split",
        )
    table = tables[0]
    models = {run: open_model(run, root) for run, root in zip((a, b), roots, strict=True)}
    shared = [t for t in models[a].schema.targets if t in models[b].schema.targets]
    if not shared:
        raise refuse("compare.targets", "the runs have no target in common", fix="name two runs that learnt the same target")
    found = []
    clusters = tasks[a].audit.clusters
    labels = None if clusters is None else np.unique(np.array(table.column(clusters).to_pylist(), dtype=str), return_inverse=True)[1]
    predictions = {run: models[run].predict(table) for run in (a, b)}
    for target in shared:
        metrics = {}
        for run in (a, b):
            kind = models[run].schema.targets[target]
            metrics[run] = kind.metrics(predictions[run][target], kind.encode_target(kind.column(table, target)))
        found += [_line(target, name, metrics[a][name], metrics[b][name], table.num_rows, labels) for name in metrics[a].keys() & metrics[b].keys()]
    found = sorted(found, key=lambda f: (f["target"], f["metric"]))
    return {"a": str(a), "b": str(b), "rows": table.num_rows, "unit": "test rows", "level": LEVEL, "differences": found}


def _line(target: str, name: str, x: Metric, y: Metric, n: int, clusters: np.ndarray | None = None) -> dict[str, Any]:
    i, every = paired(x, y, n, level=LEVEL, clusters=clusters), np.arange(n)
    surely = None
    if i.low is not None and i.high is not None and (i.low > 0 or i.high < 0):
        surely = "higher" if (i.low > 0) == (x.better == "higher") else "lower"
    said = {"a": x.value(every), "b": y.value(every), "value": i.value, "low": i.low, "high": i.high}
    return {"target": target, "metric": name, **{k: None if v is None or np.isnan(v) else v for k, v in said.items()}, "surely": surely, "method": i.method}


def _played(a: str | Path, b: str | Path, tasks: dict[Any, Task]) -> dict[str, Any]:
    """Episode by episode from the same starts. What a policy sees of its environment is its own affair; the environment must be one."""
    names = [(tasks[run].data.source, tasks[run].data.environment.settings) for run in (a, b)]
    if names[0] != names[1]:
        what = f"the runs acted in different environments: {names[0][0]} and {names[1][0]}" + ", with other settings" * (names[0][0] == names[1][0])
        raise refuse("compare.rows", what, why="a paired difference needs the same episodes", fix="name two runs of one environment")
    returns = []
    for run in (a, b):
        data = tasks[run].data
        world = sources.load(data.source, root=tasks[run].root, environment=data.environment.model_dump()).environment
        model = open_model(run)
        target = model.schema.acted[0]
        returns.append(world.play(Actor(model.model, model.schema, world, target), EPISODES, TEST, copies=EPISODES))
    line = _line(target, "episode_return", *(Metric.mean(r) for r in returns), EPISODES)
    return {"a": str(a), "b": str(b), "rows": EPISODES, "unit": "episodes that begin alike", "level": LEVEL, "differences": [line]}


def _task(run: Path) -> Task:
    if not (run / "task.yaml").is_file():
        raise refuse("compare.run", f"{run} is not a run folder", why="it has no task.yaml", fix="name folders that `modelwright run` made")
    return load_task(run / "task.yaml")


def _test_rows(run: Path, task: Task) -> tuple[pa.Table, Path]:
    """(the run's test rows, the folder that paths in them lie below)"""
    if not (run / "evidence.json").is_file():
        fix = "go on with it: modelwright run TASK --out RUN --resume"
        raise refuse("compare.run", f"{run} has not come to its end", why="it has no evidence.json", fix=fix)
    evidence = read(run / "evidence.json")
    loaded = sources.load(task.data.source, query=task.data.query, root=run)
    schema, _ = preparing.columns_of(task, loaded.table, loaded, [])
    table = preparing.split(task, loaded.table, schema, loaded.split, [])["test"]
    if table_digest(table) != evidence["data"]["test"]:
        raise refuse("compare.changed", "the data changed since this run", where=str(run), fix="run the task again")
    return table, preparing.root_of(task, loaded)
