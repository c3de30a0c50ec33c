"""A cleaning plan: what the audit of data found, as steps that a person accepts or not. `modelwright clean` takes those that say `accept: true` and writes
another file; nothing is changed silently, and never in place.

An audit or a run that found something writes cleaning.yaml beside its evidence. A step says what it does:
- empty: the values of a column that stand for none become empty cells (data.coded_missing)
- rename: a name that is also written otherwise is written in one way (data.spelling)
- leave_out: a column goes (data.leakage, data.personal)
- drop_copies: a row that equals an earlier one goes, and one that stands in the file of --beside (data.duplicate_rate)
- relabel: labels that out-of-fold predictions contradict become the likelier class, row by row (data.label_error_rate; where the training rows came as a
  file: rows that we split ourselves have other numbers in theirs)
- look: what no rule mends (a unit, a shortcut, a shift); it is to be mended where the data come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import strict
from .errors import Problem, Refusal, did_you_mean, refuse
from .home import write

FILE = "cleaning.yaml"
HEAD = """# What the audit of the data found, as steps. Nothing happens before a step says accept: true; then
#   modelwright clean FILE --plan {file} --out CLEANED.csv
# writes another file. Look at each column and row first: a rule does not know what the data mean.
"""
NEEDS = {"empty": ("column", "values"), "rename": ("column", "names"), "leave_out": ("column",), "drop_copies": (), "relabel": ("column", "rows"), "look": ()}
FORMS = {  # what a step needs, and whether it is that
    "column": lambda v: isinstance(v, str), "values": lambda v: isinstance(v, list), "names": lambda v: isinstance(v, dict),
    "rows": lambda v: isinstance(v, dict) and all(str(r).isdigit() and isinstance(s, dict) and s.keys() >= {"from", "to"} for r, s in v.items()),
}  # fmt: skip
SUSPECT = re.compile(r"row (\d+): (.*), rather (.*)", re.DOTALL)
Step = dict[str, Any]


def steps_of(evidence: Iterable[Mapping[str, Any]], own_rows: bool = False) -> list[Step]:
    """evidence: lines of evidence.json. own_rows: whether training rows are numbered as in the user's file."""
    found: list[Step] = []
    for e in evidence:
        name = str(e["metric"]).removeprefix("data.")
        if e["metric"] not in e["reason_codes"] or not str(e["metric"]).startswith("data.") or not e["value"]:
            continue
        if e["low"] != e["high"] and not e["low"]:  # not excluded, and not found either
            continue
        columns, why = e["details"].get("columns") or {}, {"why": e["metric"]}
        if name == "coded_missing":
            found += [{"do": "empty", "column": c, "values": [str(v) for v in codes], **why, "found": _shares(codes)} for c, codes in columns.items()]
        elif name == "spelling":
            found += [{"do": "rename", "column": c, "names": dict(names), **why} for c, names in columns.items()]
        elif name == "leakage":
            found += [{"do": "leave_out", "column": str(c["column"]), **why, "found": str(c.get("evidence", ""))} for c in columns]
        elif name == "personal":
            found += [{"do": "leave_out", "column": c, **why, "found": ", ".join(f"{n} x {what}" for what, n in of.items())} for c, of in columns.items()]
        elif name == "duplicate_rate":
            found.append({"do": "drop_copies", **why, "found": f"{e['value']:.4f} of the test rows stand elsewhere, too"})
        elif name == "label_error_rate" and own_rows and e["target"] and (rows := _suspects(e["details"].get("suspects") or ())):
            found.append({"do": "relabel", "column": e["target"], "rows": rows, **why})
        elif name not in ("label_error_rate", "test_label_error_rate"):
            told = [f"{c}: {v}" for c, v in columns.items()] if isinstance(columns, Mapping) else list(columns)
            told = told or [e["details"].get(k) for k in ("statistics", "found", "group", "how") if e["details"].get(k)]
            found.append({"do": "look", **why, "found": " · ".join(map(str, told))[:500]})
    return [{"accept": False} | step for step in found]


def _shares(codes: Mapping[str, Any]) -> str:
    return ", ".join(f"{v} in {s:.2%} of the cells" for v, s in codes.items() if isinstance(s, float))


def _suspects(told: Iterable[str]) -> dict[int, dict[str, str]]:
    return {int(m[1]): {"from": m[2], "to": m[3]} for t in told if (m := SUSPECT.fullmatch(t))}


def keep(folder: Path, evidence: Iterable[Mapping[str, Any]], own_rows: bool = False) -> list[Step]:
    """Write the plan into a folder, where there is something to clean; a plan that somebody has worked on stays."""
    found = steps_of(evidence, own_rows)
    if found and not (folder / FILE).exists():
        write(folder / FILE, HEAD.format(file=FILE) + strict.dump({"steps": found}))
    return found


def read(path: str | Path) -> list[Step]:
    """The steps of a plan that are accepted."""
    tree = strict.read(Path(path), "cleaning")
    steps = tree.get("steps") if isinstance(tree, dict) else None
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        fix = "take the one that an audit wrote, and accept steps of it"
        raise refuse("cleaning.form", "a plan is a mapping with a list of steps", where=str(path), fix=fix)
    problems = []
    for i, step in enumerate(steps):
        where = f"{path}: steps.{i}"
        if step.get("do") not in NEEDS:
            problems.append(Problem("cleaning.form", f"a step cannot {step.get('do')!r}", where=where, fix=did_you_mean(str(step.get("do")), NEEDS)))
        elif lacks := [k for k in NEEDS[step["do"]] if k not in step]:
            problems.append(Problem("cleaning.form", f"{step['do']} lacks {', '.join(lacks)}", where=where, fix="write it as an audit does"))
        elif strange := [k for k in NEEDS[step["do"]] if not FORMS[k](step[k])]:
            problems.append(Problem("cleaning.form", f"{step['do']}: {', '.join(strange)} cannot be read", where=where, fix="write it as an audit does"))
        elif not isinstance(step.get("accept", False), bool):
            problems.append(Problem("cleaning.form", f"accept is {step['accept']!r}", where=where, fix="accept: true or accept: false"))
    if problems:
        raise Refusal(problems)
    accepted = [s for s in steps if s.get("accept")]
    if not [s for s in accepted if s["do"] != "look"]:
        why = f"{len(steps)} steps are proposed" if steps else "it has no steps"
        raise refuse("cleaning.accepted", "no step that changes something is accepted", why=why, where=str(path), fix="write accept: true where you agree")
    return accepted


def cleaned(table: pa.Table, steps: Iterable[Step], beside: pa.Table | None = None) -> tuple[pa.Table, list[str]]:
    """The table after these steps, and what each did, in words. beside: rows that stand there, too, are copies. Whatever the plan's order: labels
    first, by the rows' numbers in the file; then copies, while cells stand as they do in beside; then cells and columns."""
    steps = sorted(steps, key=lambda s: ("relabel", "drop_copies", "empty", "rename", "leave_out", "look").index(s["do"]))
    absent = {s["column"] for s in steps if "column" in s and s["column"] not in table.column_names}
    if absent:
        known = table.column_names
        raise Refusal(Problem("data.missing_column", f"there is no column {c!r}", where="FILE", fix=did_you_mean(str(c), known)) for c in sorted(absent))
    told = []
    for step in steps:
        if step["do"] == "leave_out":
            table = table.drop_columns([step["column"]])
            told.append(f"left out {step['column']}")
        elif step["do"] == "drop_copies":
            table, gone = _without_copies(table, beside)
            told.append(f"dropped {gone:,} copies")
        elif step["do"] in ("empty", "rename", "relabel"):
            column = table.column(step["column"])
            made, many = {"empty": _emptied, "rename": _renamed, "relabel": _relabelled}[step["do"]](column, step)
            table = table.set_column(table.column_names.index(step["column"]), step["column"], made)
            told.append(f"{step['do']}: {many:,} cells of {step['column']}")
        else:
            told.append(f"to be mended where the data come from: {step.get('why', '')} {step.get('found', '')}".rstrip())
    return table, told


def _emptied(column: pa.ChunkedArray, step: Step) -> tuple[pa.ChunkedArray, int]:
    text, values = column.cast(pa.string()), [str(v) for v in step["values"]]
    hit = pc.is_in(pc.utf8_trim_whitespace(text), pa.array([v.strip() for v in values]))
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        hit = pc.is_in(pc.cast(column, pa.float64(), safe=False), pa.array([float(v) for v in values if _is_number(v)], pa.float64()))
    elif pa.types.is_temporal(column.type):
        hit = pc.is_in(pc.utf8_slice_codeunits(text, 0, 10), pa.array(values))
    hit = pc.and_(pc.fill_null(hit, False), column.is_valid())
    return pc.if_else(hit, pa.scalar(None, column.type), column), pc.sum(hit).as_py() or 0


def _renamed(column: pa.ChunkedArray, step: Step) -> tuple[pa.Array, int]:
    names = {str(k): str(v) for k, v in step["names"].items()}
    cells = column.to_pylist()
    return pa.array([names.get(c, c) for c in cells], column.type), sum(c in names for c in cells)


def _relabelled(column: pa.ChunkedArray, step: Step) -> tuple[pa.Array, int]:
    cells = column.to_pylist()
    wrong = [r for r, said in step["rows"].items() if not (0 <= int(r) < len(cells) and str(cells[int(r)]) == str(said["from"]))]
    if wrong:
        what, why = f"{len(wrong)} rows hold other labels than the plan says, such as row {wrong[0]}", "it speaks of another file, or of this one as it was"
        raise refuse("cleaning.rows", what, why=why, where="FILE", fix="audit this file, or take the step out")
    for r, said in step["rows"].items():
        cells[int(r)] = pa.scalar(str(said["to"])).cast(column.type).as_py()
    return pa.array(cells, column.type), len(step["rows"])


def _without_copies(table: pa.Table, beside: pa.Table | None) -> tuple[pa.Table, int]:
    from .digests import row_digests

    names = [n for n in table.column_names if beside is None or n in beside.column_names]
    own = row_digests(table.select(names))
    _, first = np.unique(own, return_index=True)
    stays = np.isin(np.arange(len(own)), first)
    if beside is not None:
        like = beside.select(names)
        stays &= ~np.isin(own, row_digests(like.cast(table.select(names).schema) if like.schema != table.select(names).schema else like))
    return table.filter(pa.array(stays)), int((~stays).sum())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
