"""From a task to tables: load the source, tell what each column is, share out the rows, and warn of what a person would want to know first.

Kinds are declared or inferred; rows that are equal in every input, or belong to one unit, never straddle two splits; every fitted value comes from the
training split. All problems of the columns come at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import find
from .checks import copies, moments
from .data import cache, sources, splits
from .data.dataset import TABLE
from .data.mistaken import mistaken
from .data.schema import Schema, infer, profile
from .digests import row_digests
from .errors import Problem, Refusal, did_you_mean, refuse
from .kind import Kind
from .task import Task, column_kind

FEWEST = 20  # rows
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
        raise _too_few(loaded.table.num_rows, "rows", f"{task.file}: data.source")
    schema, columns = columns_of(task, loaded.table, loaded, warnings)
    tables = split(task, loaded.table, schema, loaded.split, warnings)
    if loaded.environment is None and loaded.split is None and task.data.split.column is None:
        warnings += unsplit(task, tables)
    schema.fit(tables["train"])
    look(schema, tables, columns, warnings, f"{task.file}: target")
    return Prepared(task, schema, tables, columns, list(loaded.notes), warnings, loaded.environment)


def _too_few(n: int, rows: str, where: str) -> Refusal:
    what, fix = f"{n} {rows} are too few to train, calibrate and test on", f"bring at least {FEWEST}, better some hundreds"
    return refuse("data.too_few_rows", what, where=where, fix=fix)


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


def columns_of(task: Task, table: pa.Table, loaded: sources.Loaded, warnings: list[str]) -> tuple[Schema, list[dict[str, str]]]:
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

    rooted = [n for n, (spec, _) in declared.items() if spec is not None and "root" in (given if isinstance(given := find.split(spec)[1], dict) else {})]
    if rooted:
        why = "a saved model knows of no folder: paths lie below the data that is read"
        raise Refusal([Problem("data.root", f"column {n!r} has a root of its own", why, f"{where}data.columns.{n}", "data: {root: FOLDER}") for n in rooted])
    split = task.data.split.column or loaded.split
    inputs, targets, columns = {}, {}, []
    group = [n for n, (_, roles) in declared.items() if roles.get("group")]
    immutable = [n for n, (_, roles) in declared.items() if roles.get("immutable", roles.get("group"))]
    for n in task.targets:
        spec = column_kind(task.targets[n])[0] if task.targets[n] is not None else declared.get(n, (None, {}))[0]
        targets[n] = find.make("kinds", spec or target_kind(profiles[n], f"{where}target"), f"{where}target.{n}", task.root)
        if targets[n].head is None or (loaded.environment is None and type(targets[n]).encode_target is Kind.encode_target):
            what = f"a column of kind {next(iter(targets[n].spec))} cannot be a target" + (" of a table" if targets[n].head else "")
            raise refuse("kind.target", what, where=f"{where}target.{n}", fix="declare another kind")
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
            role = "split" if spec != "ignore" else "group" if n in group else "ignored"
            columns.append({"name": n, "kind": "ignore" if spec == "ignore" else "identifier", "role": role})
            continue
        if spec is None and profiles[n].distinct <= 1 and profiles[n].missing in (0, profiles[n].rows):
            what = "empty" if profiles[n].distinct == 0 else "the same in every row"
            warnings.append(f"column {n!r} is {what}: left out")
            columns.append({"name": n, "kind": "constant", "role": "ignored"})
            continue
        if spec is None:
            spec = infer(profiles[n])
            warnings += mistaken(profiles[n], spec)
        kind = find.make("kinds", _suited(task, n, spec), f"{where}data.columns.{n}", task.root)
        if kind.place == "own" and kind.form == "none":
            what, place = f"a column of kind {find.split(spec)[0]} cannot be an input", f"{where}data.columns.{n}"
            raise refuse("kind.input", what, where=place, fix=f"declare another kind, or leave it out: {n}: ignore")
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
    schema = Schema(inputs, {n: targets[n] for n in task.targets}, group, acted=acted, immutable=immutable)
    return schema.at(root_of(task, loaded)), columns


def root_of(task: Task, loaded: sources.Loaded) -> Path:
    """The folder that paths in the table are relative to and stay in: said in the task (relative to its file), else the source's own."""
    return Path(task.root, task.data.root).expanduser() if task.data.root else loaded.root


def gathered(schema: Schema, tables: dict[str, pa.Table], roots: dict[str, Path]) -> str:
    """One folder below which the paths of all tables lie. Where theirs differ, cells are written anew, each checked against its own table's folder."""
    if len({os.path.realpath(r) for r in roots.values()}) == 1:
        return str(next(iter(roots.values())))
    common = os.path.commonpath([os.path.realpath(r) for r in roots.values()])
    columns = [n for n, kind in (schema.inputs | schema.targets).items() if kind.form == "picture"]
    for role, table in tables.items():
        for n in columns:
            if n in table.column_names and pa.types.is_string(table.column(n).type):
                cells = [None if v is None else os.path.relpath(sources.resolve(v, roots[role]), common) for v in table.column(n).to_pylist()]
                tables[role] = table = table.set_column(table.schema.get_field_index(n), n, pa.array(cells, pa.string()))
    return common


def _suited(task: Task, name: str, spec: Any) -> Any:
    """An input's kind as its encoder wants it (a checkpoint's tokenizer, a picture's size), under what the task says itself."""
    if name not in task.model.encoders:
        return spec
    encoder = find.make("encoders", task.model.encoders[name], f"{task.file}: model.encoders.{name}", task.root)
    kind, given = find.split(spec)
    known = find.settings_model(find.find("kinds", kind, root=task.root)).model_fields
    wanted = {k: v for k, v in encoder.kind_settings().items() if k in known}
    return {kind: {**wanted, **(given if isinstance(given, dict) else {next(iter(known)): given})}} if wanted else spec


def target_kind(p: Any, where: str = "") -> str:
    """A target's kind: two or few values make a category, other numbers a number, text a category (or text where most differ)."""
    seen = p.rows - p.missing
    if not seen:
        raise refuse("data.empty_target", f"target {p.name!r} has no value in any row", where=where, fix="choose another column")
    if pa.types.is_boolean(p.type):
        return "boolean"
    whole = pa.types.is_floating(p.type) and all(float(v).is_integer() for v in p.sample)  # what pandas makes of whole numbers with gaps
    if pa.types.is_integer(p.type) or whole:
        return "category" if p.distinct <= max(2, min(20, seen // 10)) else "number"
    if pa.types.is_floating(p.type) or pa.types.is_decimal(p.type):
        return "category" if p.distinct == 2 else "number"
    if pa.types.is_string(p.type) or pa.types.is_large_string(p.type):
        if p.distinct > 0.5 * seen and p.distinct > 50:
            raise refuse(
                "data.target_kind",
                f"target {p.name!r} has {p.distinct} different texts in {seen} rows",
                why="that is no set of classes",
                where=where,
                fix=f"choose another target, or say what it is: target: {{{p.name}: text}} to write it (modelwright new: --target {p.name}=text)",
            )
        return "category"
    best = find.find("kinds", infer(p))
    if best.head is not None and best.guess(p) >= 0.9:
        return infer(p)
    raise refuse(
        "data.target_kind",
        f"target {p.name!r} has type {p.type}, which no kind of target reads by itself",
        where=where,
        fix=f"say what it is: target: {{{p.name}: boxes}}, labels, series (modelwright new: --target {p.name}=boxes)",
    )


def split(task: Task, table: pa.Table, schema: Schema, given: str | None, warnings: list[str]) -> dict[str, pa.Table]:
    """Four tables. Rows that are equal in every input share a unit, so that duplicates never straddle two splits."""
    s = task.data.split
    kept = np.full(table.num_rows, not schema.truths)
    for n in schema.truths:
        kept |= table.column(n).is_valid().to_numpy()
    if not kept.all():
        warnings.append(f"{int((~kept).sum())} of {table.num_rows} rows have no target: they are left out")
        table = table.filter(pa.array(kept))
    n = table.num_rows
    if n < FEWEST:
        raise _too_few(n, "rows with a target", f"{task.file}: data.source")
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
                fix="give every row one of these names, or leave the column out of the split",
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
            why=f"{n} rows in {len(np.unique(units))} units cannot be shared out: rows that are equal in every input" + ", or of one unit," * (s.by is not None)
            + " stay together, or the test would hold what was learnt",
            fix="bring more rows, or columns that tell rows apart, or change data.split",
        )
    return out


def unsplit(task: Task, tables: dict[str, pa.Table]) -> list[str]:
    """Times and names of persons or things that a random split ignores: the test would then ask about days and people that training has seen."""
    s, told, leave = task.data.split, [], {*task.targets, *(n for n, c in task.data.columns.items() if column_kind(c)[0] == "ignore")}
    if s.by is None:
        for n in copies.entities(list(tables.values()), None, leave)[:3]:
            what = f"column {n!r} names the same person or thing in several rows, which are split at random"
            told.append(f"{what}: keep them together, data: {{split: {{by: {n}}}}}")
    if s.time is None:
        hits, _ = moments.overlap(tables["train"], tables["test"], leave)
        least = min(hits, key=lambda n: hits[n].mean(), default=None)
        if least is not None:
            what = f"column {least!r} is a time, and rows are split at random, so that training sees the days that the test asks about"
            both = " (together with by, a person's rows all go where the latest goes, so that times still overlap)" * bool(told)
            told.append(f"{what}: if the model will be used on later rows, test it on later rows, data: {{split: {{time: {least}}}}}{both}")
    return told


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
        try:
            x = np.nan_to_num(pc.cast(column, pa.float64(), safe=False).to_numpy())
        except pa.ArrowInvalid:  # words: the kind refuses them when it is fitted
            return np.zeros(len(column), np.int64)
        return np.searchsorted(np.quantile(x, [0.25, 0.5, 0.75]), x)
    if pa.types.is_nested(column.type) or kind.form not in ("none", "table") or kind.place == "none":  # a text, a picture: no two are of one class
        return np.zeros(len(column), np.int64)
    return np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)[1]


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
