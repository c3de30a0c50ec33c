"""What each column of a table is: declared in the task, else inferred; names that the table does not have are refused, all at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import find
from ..data import sources
from ..data.mistaken import mistaken
from ..data.schema import Schema, infer, profile
from ..errors import Problem, Refusal, did_you_mean, refuse
from ..kind import Kind
from ..task import Task, column_kind


def columns_of(task: Task, table: pa.Table, loaded: sources.Loaded, warnings: list[str]) -> tuple[Schema, list[dict[str, str]]]:
    """Kinds: declared, else inferred. Problems: names that the table does not have."""
    names, where = table.column_names, f"{task.file}: "
    if not task.targets:
        raise refuse("task.missing_key", "no target is named", where=f"{where}target", fix=f"one of: {', '.join(names[:12])}")
    declared = {n: column_kind(s) for n, s in task.data.columns.items()}
    kinds = {n: find.split(spec)[0] for n, (spec, _) in declared.items() if spec not in (None, "ignore")}
    drawn = [n for n, kind in kinds.items() if find.find("kinds", kind, f"{where}data.columns.{n}", task.root).drawn]
    played = loaded.environment is not None
    _check_names(task, names, declared, {n: kinds[n] for n in drawn}, played)
    profiles = profile(table)
    targets = _targets(task, profiles, declared, played)
    beside = {n: (t, find.split(kind.spec)[0]) for t, kind in targets.items() for n in kind.beside}
    absent = [
        Problem("data.unknown_column", f"there is no column {n!r}", where=f"{where}target.{t}", fix=did_you_mean(n, names))
        for n, (t, _) in beside.items()
        if n not in names
    ]
    if absent:
        raise Refusal(absent)
    group = [n for n, (_, roles) in declared.items() if roles.get("group")]
    immutable = [n for n, (_, roles) in declared.items() if roles.get("immutable", roles.get("group"))]
    if known := [n for n, (_, roles) in declared.items() if roles.get("known")]:
        warnings.append(f"declared as known when the answer is asked for, however much they tell of it, and so no leak: {', '.join(known)}")
    inputs, columns = {}, []
    for n in names:
        spec, _ = declared.get(n, (None, {}))
        if n in targets or n in beside:
            columns.append({"name": n, "kind": find.split(targets[n].spec)[0] if n in targets else beside[n][1], "role": "target"})
            continue
        if n in (task.data.split.column or loaded.split, task.data.split.by) or spec == "ignore":
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
    schema = Schema(inputs, targets, group, acted=list(targets) if played else [], immutable=immutable, known=known)
    return schema.at(root_of(task, loaded)), columns


def _check_names(task: Task, names: list[str], declared: dict[str, tuple], drawn: dict[str, str], played: bool) -> None:
    """Every name in the task that the table does not have, at once; drawn (name: kind) columns that it does have; folders of their own."""
    where = f"{task.file}: "
    said = [(f"{where}target", n) for n in task.targets if not played]
    said += [(f"{where}data.columns", n) for n in declared if not played and n not in drawn]
    s = task.data.split
    said += [(where + place, n) for place, n in (("data.split.by", s.by), ("data.split.time", s.time), ("data.split.column", s.column)) if n is not None]
    said += [(f"{where}audit.clusters", n) for n in [task.audit.clusters] if n is not None]
    problems = [Problem("data.unknown_column", f"there is no column {n!r}", where=w, fix=did_you_mean(n, names)) for w, n in said if n not in names]
    for n, kind in drawn.items():
        if n in names or n in task.targets:
            why = f"{kind} is drawn, never read"
            problems.append(Problem("data.drawn_column", f"the table has a column {n!r}", why, f"{where}data.columns.{n}", "give it another name"))
    for n, (spec, _) in declared.items():
        given = find.split(spec)[1] if spec is not None else None
        if isinstance(given, dict) and "root" in given:
            why = "a saved model knows of no folder: paths lie below the data that is read"
            what = f"column {n!r} has a root of its own"
            problems.append(Problem("data.root", what, why, f"{where}data.columns.{n}", "data: {root: FOLDER}"))
    if problems:
        raise Refusal(problems)


def _targets(task: Task, profiles: dict[str, Any], declared: dict[str, tuple], played: bool) -> dict[str, Kind]:
    targets = {}
    for n, said in task.targets.items():
        where = f"{task.file}: target"
        spec = column_kind(said)[0] if said is not None else declared.get(n, (None, {}))[0]
        targets[n] = find.make("kinds", spec or target_kind(profiles[n], where), f"{where}.{n}", task.root)
        if targets[n].head is None or (not played and type(targets[n]).encode_target is Kind.encode_target):
            what = f"a column of kind {next(iter(targets[n].spec))} cannot be a target" + (" of a table" if targets[n].head else "")
            raise refuse("kind.target", what, where=f"{where}.{n}", fix="declare another kind")
    return targets


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
            kind = "boxes" if all(str(v).lstrip()[:1] in ("[", "{") for v in p.sample) else "text"
            to = "to find them" if kind == "boxes" else "to write it"
            raise refuse(
                "data.target_kind",
                f"target {p.name!r} has {p.distinct} different texts in {seen} rows",
                why="that is no set of classes",
                where=where,
                fix=f"choose another target, or say what it is: target: {{{p.name}: {kind}}} {to} (modelwright new: --target {p.name}={kind})",
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
