"""From a task to tables: load the source, tell what each column is (`columns.py`), share out the rows (`sharing.py`), and warn of what a person would want
to know first.

Kinds are declared or inferred; rows that are equal in every input, or belong to one unit, never straddle two splits; every fitted value comes from the
training split. All problems of the columns come at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..data import sources
from ..data.dataset import TABLE
from ..data.schema import Schema
from ..errors import refuse
from ..task import Task
from .columns import columns_of
from .sharing import FEWEST, split, too_few, unsplit

POLICY = {"mlp": {"width": 64, "depth": 1, "dropout": 0.0, "bins": 0}}  # of a task that names no encoder for what it observes
RECURRENT_POLICY = {"lstm": {"width": 64, "bidirectional": False, "dropout": 0.0, "word_dropout": 0.0}}


@dataclass
class Prepared:
    """What is known before any model is: the schema is fitted on the training split."""

    task: Task  # with what an environment adds to it
    schema: Schema
    tables: dict[str, pa.Table]  # per split
    columns: list[dict[str, str]]  # name, kind, role, describe
    notes: list[str]
    warnings: list[str]
    environment: Any = None


def prepare(task: Task) -> Prepared:
    loaded = sources.load(task.data.source, query=task.data.query, root=task.root, environment=task.data.environment.model_dump())
    warnings: list[str] = []
    if loaded.environment is not None:
        task = played(task, loaded.environment)
    elif loaded.table.num_rows < FEWEST:  # before each of its columns is called constant
        raise too_few(loaded.table.num_rows, "rows", f"{task.file}: data.source")
    schema, columns = columns_of(task, loaded.table, loaded, warnings)
    tables = split(task, loaded.table, schema, loaded.split, warnings)
    if loaded.environment is None and loaded.split is None and task.data.split.column is None:
        warnings += unsplit(task, tables)
    schema.fit(tables["train"])
    look(schema, tables, columns, warnings, f"{task.file}: target")
    return Prepared(task, schema, tables, columns, list(loaded.notes), warnings, loaded.environment)


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


def look(schema: Schema, tables: dict[str, pa.Table], columns: list[dict[str, str]], warnings: list[str], where: str = "") -> None:
    """Describe the columns; warn of what a person would want to know before training; refuse a target with nothing to tell apart."""
    train, kinds = tables["train"], schema.inputs | schema.targets
    names = set(train.column_names)
    for entry in columns:
        kind = kinds.get(entry["name"])
        entry["describe"] = kind.describe() if kind else ""
        missing = train.column(entry["name"]).null_count if entry["name"] in names else 0
        if missing and entry["role"] == "input":
            entry["describe"] += f"; {missing / train.num_rows:.1%} missing"
    for n, kind in schema.truths.items():
        labels = kind.labels_
        if labels is not None and len(labels) < 2:
            raise refuse(
                "data.one_class",
                f"target {n!r} has one value in training: {labels}",
                why="there is nothing to tell apart",
                where=where,
                fix="bring rows of another class",
            )
        if labels is not None:
            counts = dict(zip(*np.unique(np.array(train.column(n).drop_null().cast(pa.string()).to_pylist()), return_counts=True), strict=True))
            if len(counts) > 1 and min(counts.values()) < 20:
                rare = min(counts, key=counts.get)
                warnings.append(f"target {n!r}: class {str(rare)!r} has {counts[rare]} training rows: intervals on it will be wide")
