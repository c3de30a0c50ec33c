"""Who learns from which rows: four tables. Rows that are equal in every input, or belong to one unit, never straddle two splits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..checks import copies, moments
from ..data import cache, sources, splits
from ..data.schema import Schema
from ..digests import row_digests
from ..errors import Refusal, refuse
from ..task import Task, column_kind

FEWEST = 20  # rows


def too_few(n: int, rows: str, where: str) -> Refusal:
    what, fix = f"{n} {rows} are too few to train, calibrate and test on", f"bring at least {FEWEST}, better some hundreds"
    return refuse("data.too_few_rows", what, where=where, fix=fix)


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
        raise too_few(n, "rows with a target", f"{task.file}: data.source")
    made = [n for n, kind in schema.targets.items() if kind.place == "own" and kind.form != "none"]  # pictures or texts, of a generator: copies of these
    read = [n for n, kind in schema.inputs.items() if not kind.drawn] or made
    twins = row_digests(schema.contents(table.select(read))) if read else np.arange(n)
    units = np.unique(twins, return_inverse=True)[1]
    if (copies := n - len(np.unique(twins))) > 0:
        warnings.append(f"{copies} rows repeat another row's inputs: copies stay in one split")
    if s.by is not None:
        units = _join(units, np.unique(row_digests(table.select([s.by])), return_inverse=True)[1])
        if (nobody := table.column(s.by).null_count) > 1:
            warnings.append(f"{nobody} rows have no value in {s.by!r}: they are kept together, since they may be of one")
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
        straddle = (which == 3) & (np.bincount(units, which != 3)[units] > 0)
        if straddle.any():
            of = f"a copy, or a row of the same {s.by!r}," if s.by is not None else "a copy"
            warnings.append(f"{int(straddle.sum())} test rows have {of} in another split, by the given column {column!r}")
    else:
        if sum(shares.values()) + s.test > 0.8:
            raise refuse(
                "data.split_shares",
                f"test, validation and calibration take {sum(shares.values()) + s.test:.2f} of the rows",
                fix="leave at least 0.2 for training",
                where=f"{task.file}: data.split",
            )
        time = _times(table.column(s.time), s.time, f"{task.file}: data.split.time") if s.time is not None else None
        which = splits.assign(n, {**shares, "test": s.test}, s.seed, units=units, strata=_strata(table, schema), time=time)
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


def _times(column: pa.ChunkedArray, name: str, where: str) -> np.ndarray:
    """When each row was: milliseconds of a date or time, a number as it is."""
    try:
        temporal = pa.types.is_temporal(column.type)
        times = (pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64()) if temporal else pc.cast(column, pa.float64())).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise refuse("data.split_time", f"column {name!r} is no time: {e}", where=where) from e
    if gaps := int(np.isnan(times.astype(np.float64)).sum()):
        raise refuse("data.split_time", f"{gaps} rows have no value in {name!r}", why="they have no place in time", where=where, fix="fill them in")
    return times


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
