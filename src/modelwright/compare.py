"""Two runs on the same test rows: the difference of every metric, paired, with its interval. Different test rows are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import preparing
from .artifact import open_model
from .data import sources
from .errors import refuse
from .evidence import read, rows_digest, table_digest
from .intervals import paired
from .task import Task, load_task

LEVEL = 0.95


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """A minus B. Test rows come from each run's own task.yaml and must be the ones that its evidence was measured on."""
    tables = {run: _test_rows(Path(run)) for run in (a, b)}
    if rows_digest(tables[a].select(sorted(tables[a].column_names))) != rows_digest(tables[b].select(sorted(tables[b].column_names))):
        raise refuse(
            "compare.rows",
            "the runs were tested on different rows",
            why="a paired difference needs the same rows",
            fix="give both tasks the same data and split",
        )
    table = tables[a]
    models = {run: open_model(run) for run in (a, b)}
    shared = [t for t in models[a].schema.targets if t in models[b].schema.targets]
    if not shared:
        raise refuse("compare.targets", "the runs have no target in common")
    found = []
    clusters = _task(Path(a)).audit.clusters
    labels = None if clusters is None else np.unique(np.array(table.column(clusters).to_pylist(), dtype=str), return_inverse=True)[1]
    predictions = {run: models[run].predict(table) for run in (a, b)}
    for target in shared:
        metrics = {}
        for run in (a, b):
            kind = models[run].schema.targets[target]
            metrics[run] = kind.metrics(predictions[run][target], kind.encode_target(kind.column(table, target)))
        every = np.arange(table.num_rows)
        for name in metrics[a].keys() & metrics[b].keys():
            x, y = metrics[a][name], metrics[b][name]
            i = paired(x, y, table.num_rows, level=LEVEL, clusters=labels)
            sign = 1 if x.better == "higher" else -1
            surely = "higher" if sign * (i.low if sign > 0 else i.high) > 0 else "lower" if sign * (i.high if sign > 0 else i.low) < 0 else None
            found.append(
                {
                    "target": target,
                    "metric": name,
                    "a": x.value(every),
                    "b": y.value(every),
                    "value": i.value,
                    "low": i.low,
                    "high": i.high,
                    "surely": surely,
                    "method": i.method,
                }
            )
    return {"a": str(a), "b": str(b), "rows": table.num_rows, "level": LEVEL, "differences": sorted(found, key=lambda f: (f["target"], f["metric"]))}


def _task(run: Path) -> Task:
    if not (run / "task.yaml").is_file():
        raise refuse("compare.run", f"{run} is not a run folder", why="it has no task.yaml", fix="name folders that `modelwright run` made")
    return load_task(run / "task.yaml")


def _test_rows(run: Path) -> Any:
    task = _task(run)
    evidence = read(run / "evidence.json")
    task.root = str(run)
    loaded = sources.load(task.data.source, query=task.data.query, root=run)
    schema, _ = preparing.columns_of(task, loaded.table, loaded, [])
    table = preparing.split(task, loaded.table, schema, loaded.split, [])["test"]
    if table_digest(table) != evidence["data"]["test"]:
        raise refuse("compare.changed", "the data changed since this run", where=str(run), fix="run the task again")
    return table
