"""Two runs, or folders that `audit` wrote, on the same test rows: the difference of every metric, paired, with its interval. Different rows are refused.

Rows are the same where all columns that both tables hold are equal, in whatever order; a table that only one of the models could read is not enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import home
from .auditing import absolute
from .auditing.case import Case, case_of
from .data.rollouts import Actor
from .digests import rows_digest, table_digest
from .errors import refuse
from .evidence import read
from .intervals import paired
from .kind import Metric
from .task import load_task

LEVEL = 0.95
EPISODES = 100
TEST = 3_000_003  # where episodes begin, away from those that were learnt from or judged on


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """A minus B, each a run's folder or an audit's. Model and rows must be those that its evidence speaks of. Two policies are compared on episodes that
    begin alike."""
    worlds = [_environment(Path(folder)) for folder in (a, b)]
    if worlds[0] != worlds[1]:
        what = f"the two acted in different environments: {worlds[0] or 'none'} and {worlds[1] or 'none'}"
        raise refuse("compare.rows", what, why="a paired difference needs the same episodes", fix="name two of one environment")
    cases = [_case(Path(folder)) for folder in (a, b)]
    if worlds[0] is not None:
        return _played(a, b, cases)
    models = [case.predictor for case in cases]
    shared = [t for t in models[0].schema.targets if t in models[1].schema.targets]
    if not shared:
        raise refuse("compare.targets", "the two have no target in common", fix="name two that answer the same target")
    table = _shared_rows(cases, shared)
    clusters = next((u for c in cases if c.task and (u := c.task.together(table.column_names)) in table.column_names), None)
    labels = None if clusters is None else np.unique(np.array(table.column(clusters).to_pylist(), dtype=str), return_inverse=True)[1]
    predictions, found = [model.predict(table) for model in models], []
    for target in shared:
        kinds = [model.schema.targets[target] for model in models]
        metrics = [k.metrics(p[target], k.encode_target(k.column(table, target))) for k, p in zip(kinds, predictions, strict=True)]
        found += [_line(target, name, *(m[name] for m in metrics), table.num_rows, labels) for name in metrics[0].keys() & metrics[1].keys()]
    found = sorted(found, key=lambda f: (f["target"], f["metric"]))
    return {"a": str(a), "b": str(b), "rows": table.num_rows, "unit": "test rows", "level": LEVEL, "differences": found}


def _shared_rows(cases: list[Case], targets: list[str]) -> pa.Table:
    """The rows that both were tested on, in a table that holds these targets and all that both models read."""
    tables = [case.of.tables["test"] for case in cases]
    names = [set(t.column_names) for t in tables]
    schemas = [case.predictor.schema for case in cases]
    needed = {n for s in schemas for n, kind in s.inputs.items() if not kind.drawn and kind.place != "none"}
    needed |= {n for s in schemas for t in targets for n in (t, *s.targets[t].beside)}
    shared = sorted(names[0] & names[1])
    fix = "audit both on one file that neither has seen (modelwright audit A --data test=FILE --out FOLDER), and compare the two folders"
    if len({rows_digest(t.select(shared)) for t in tables}) > 1 or not shared:
        raise refuse("compare.rows", "the two were tested on different rows", why="a paired difference needs the same rows", fix=fix)
    for case, table in zip(cases, tables, strict=True):
        if needed <= set(table.column_names):
            for schema in schemas:
                schema.at(case.of.schema.root)
            return table
    lacks = ", ".join(sorted(needed - (names[0] & names[1]))[:8])
    raise refuse("compare.rows", f"neither table of test rows holds all that both read: {lacks}", why="both answer for the same rows", fix=fix)


def _line(target: str, name: str, x: Metric, y: Metric, n: int, clusters: np.ndarray | None = None) -> dict[str, Any]:
    i, every = paired(x, y, n, level=LEVEL, clusters=clusters), np.arange(n)
    surely = None
    if i.low is not None and i.high is not None and (i.low > 0 or i.high < 0):
        surely = "higher" if (i.low > 0) == (x.better == "higher") else "lower"
    said = {"a": x.value(every), "b": y.value(every), "value": i.value, "low": i.low, "high": i.high}
    return {"target": target, "metric": name, **{k: None if v is None or np.isnan(v) else v for k, v in said.items()}, "surely": surely, "method": i.method}


def _played(a: str | Path, b: str | Path, cases: list[Case]) -> dict[str, Any]:
    """Episode by episode from the same starts."""
    returns = []
    for case in cases:
        world, schema = case.of.environment, case.predictor.schema
        returns.append(world.play(Actor(case.predictor.model, schema, world, schema.acted[0]), EPISODES, TEST, copies=EPISODES))
    line = _line(schema.acted[0], "episode_return", *(Metric.mean(r) for r in returns), EPISODES)
    return {"a": str(a), "b": str(b), "rows": EPISODES, "unit": "episodes that begin alike", "level": LEVEL, "differences": [line]}


def _environment(folder: Path) -> str | None:
    """Name and settings of what a run acted in; what a policy sees of it is its own affair."""
    task = load_task(folder / "task.yaml") if (folder / "task.yaml").is_file() else None
    if task is None or not str(task.data.source).startswith("gym://"):
        return None
    return str(task.data.source) + "".join(f", {k}: {v}" for k, v in sorted(task.data.environment.settings.items()))


def _case(folder: Path) -> Case:
    """Model and test rows of a run or an audit, as they were measured."""
    told = folder / "audit.json"
    run = (folder / "task.yaml").is_file()
    if not run and not told.is_file():
        what, fix = f"{folder} is neither a run's folder nor an audit's", "name folders that `modelwright run` or `modelwright audit` made"
        raise refuse("compare.run", what, why="it has no task.yaml and no audit.json", where=str(folder), fix=fix)
    if not (folder / "evidence.json").is_file():
        fix = "go on with it: modelwright run TASK --out RUN --resume" if run else "audit again, with another --out"
        raise refuse("compare.run", f"{folder} has not come to its end", why="it has no evidence.json", where=str(folder), fix=fix)
    evidence = read(folder / "evidence.json")
    if run:
        case = case_of(folder)
    else:
        how = home.kept(told, "task")
        if not how.get("model") or not isinstance(how.get("data"), dict):
            what = f"{folder} is the audit of " + ("a private training" if "trainer" in how else "data alone")
            raise refuse("compare.run", what, why="there is no model that could answer", where=str(folder), fix="name the audit of a model")
        task = None if how["task"] is None else load_task(absolute(how["task"], folder))
        case = case_of(absolute(how["model"], folder), {role: absolute(place, folder) for role, place in how["data"].items()}, task)
    test = case.of.tables.get("test")
    said, now = (evidence["model"], evidence["data"].get("test")), (case.digest, None if test is None else table_digest(case.of.schema.contents(test)))
    if case.of.environment is None and said != now:
        what = "the data" if said[0] == now[0] else "the model"
        fix = "run the task again" if run else "audit again, with another --out"
        raise refuse("compare.changed", f"{what} changed since this was measured", where=str(folder), fix=fix)
    return case
