"""Any MODEL as a Predictor for a table: a run folder, a version of the registry, a Hugging Face folder, an ONNX file, `file.py:factory`.

A model of our own brings its schema. One from elsewhere takes it from a task, fitted on the task's own data, so that categories have the numbers that they
had in training. A Hugging Face folder can do without: its classes are in config.json, and its input is the table's one column of text or pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import find
from .artifact import Chosen, Loaded, located, open_model
from .data.schema import Schema, encode, infer, profile
from .errors import refuse
from .foreign.predictor import Foreign, within
from .preparing import prepare
from .registry.references import is_reference
from .registry.store import Registry
from .task import Task, load_task

ANSWER = "label"  # the name of what a Hugging Face folder answers, where no task names it


def predictor(model: str | Path, table: pa.Table, task: Task | None = None, root: str | Path = ".") -> Loaded | Chosen | Foreign:
    """root: the folder below which paths in the table lie. Raises a Refusal where the model cannot be read, or what it reads and answers is unknown."""
    place = located(model)
    elsewhere = within(place)
    if elsewhere is None and not (place.suffix == ".onnx" or ".py:" in str(model)):
        return open_model(place, root)
    if task is None and (place / "task.yaml").is_file():
        task = load_task(place / "task.yaml")
    if task is not None:
        schema = prepare(task).schema
    elif elsewhere is not None and elsewhere.is_dir():
        schema = _of_table(table, str(model))
    else:
        what = "a model from elsewhere says nothing of its columns and labels"
        raise refuse("predict.task", what, where="--task", fix="the task file that it was audited with: --task TASK")
    return Foreign(str(elsewhere or model), schema.at(root))


def remarks(model: str | Path, schema: Schema, table: pa.Table) -> list[str]:
    """What whoever reads the answers should know of them: an alias that rests on an override, values that training never saw, rows that say nothing."""
    found, n = [], table.num_rows
    if is_reference(str(model)) and (note := Registry().find(str(model)).note):
        found.append(f"{model} is served {note}")
    names = set(table.column_names)
    inputs = {c: kind for c, kind in schema.inputs.items() if c in names and not kind.drawn}
    empty = np.full(n, bool(inputs))
    for column, kind in inputs.items():
        there = _said(table.column(column))
        empty &= ~there
        if kind.place in ("code", "number"):
            read = encode(kind, table, column)["values"]
            strange = there & (read == 0 if kind.place == "code" else np.isnan(read).any(1))
            if strange.any():
                values = dict.fromkeys(str(v) for v in table.column(column).filter(pa.array(strange)).slice(0, 10_000).to_pylist())
                shown = ", ".join(repr(v[:40]) for v in list(values)[:3]) + (", ..." if len(values) > 3 else "")
                found.append(f"column {column!r}: {int(strange.sum()):,} of {n:,} rows have a value that training did not keep ({shown}): read as missing")
    if empty.any():
        found.append(f"{int(empty.sum()):,} of {n:,} rows have nothing in any column that the model reads: their answers rest on nothing")
    return found


def _said(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) bool: there is a value, and no blank text."""
    there = column.is_valid()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        there = pc.and_(there, pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0), False))
    return there.to_numpy().astype(bool)


def _of_table(table: pa.Table, where: str) -> Schema:
    """The one column that a Hugging Face folder can read. A category without labels takes those of config.json."""
    seen = {n: p for n, p in profile(table).items() if p.distinct and n != ANSWER}
    kinds = {n: kind for n, p in seen.items() if (kind := infer(p)) in ("text", "picture")}
    if len(kinds) != 1 and len(seen) == 1:
        kinds = dict.fromkeys(seen, "text")
    if len(kinds) != 1:
        what = f"{len(kinds)} columns are text or pictures: {', '.join(kinds) or 'none'}"
        raise refuse("model.input", what, where=where, fix="leave one of them in the table, or name the columns in a task: --task TASK")
    ((name, kind),) = kinds.items()
    target = find.make("kinds", "category", "label")
    target.labels_ = []
    return Schema({name: find.make("kinds", kind, name)}, {ANSWER: target})
