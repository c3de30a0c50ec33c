"""Moments in time: which columns hold them, whether the splits overlap in them, and how long after another each is.

A time that is written after the outcome seldom gives it away by itself, but by how long after another it is: `spans` are those differences, as columns
that are asked like any other whether they tell the label (`leaks`). Its `parts` may, too, where a nightly job writes what is known (`hidden`).
"""

from __future__ import annotations

import contextlib
import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FORMS = {r"\d{1,2}\.\d{1,2}\.\d{4}": ("%d.%m.%Y",), r"\d{4}/\d{1,2}/\d{1,2}": ("%Y/%m/%d",), r"\d{4}\.\d{1,2}\.\d{1,2}": ("%Y.%m.%d",),
         r"\d{4}年\d{1,2}月\d{1,2}日": ("%Y年%m月%d日",), r"\d{1,2}/\d{1,2}/\d{4}": ("%d/%m/%Y", "%m/%d/%Y")}  # fmt: skip
MOST = 8  # columns of time whose differences are asked


def moments(column: pa.ChunkedArray, name: str = "") -> np.ndarray | None:
    """(N,) seconds, NaN where missing; None where the column is no time. Text counts where it reads as ISO 8601, or as days in a form of one reading; a number
    where its name says so, or where all are days as 20240131."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        head = column.drop_null()
        form = next((f for f in FORMS if len(head) and re.fullmatch(f, str(head[0].as_py()))), None)
        if form is not None:
            return _days(column, FORMS[form])
        if not len(head) or not re.match(r"\d{4}-\d\d", str(head[0].as_py())):
            return None
        try:
            column = pc.cast(column, pa.timestamp("ms"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return pc.cast(pc.cast(pc.cast(column, pa.timestamp("ms"), safe=False), pa.int64()), pa.float64(), safe=False).to_numpy() / 1000
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if number and re.fullmatch(r"(.*[_ ])?(timestamp|unixtime|epoch|datetime|year|time|时间|年份)", name.strip(), re.IGNORECASE):
        return pc.cast(column, pa.float64(), safe=False).to_numpy()
    return _numbered(column) if pa.types.is_integer(column.type) else None


def _days(column: pa.ChunkedArray, forms: tuple[str, ...]) -> np.ndarray | None:
    """(N,) seconds of days that exactly one of these forms reads."""
    read = []
    for form in forms:
        with contextlib.suppress(pa.ArrowInvalid):
            when = pc.strptime(column, format=form, unit="s")
            same = [pc.replace_substring_regex(c, r"(^|\D)0", r"\1") for c in (column, pc.strftime(when, format=form))]
            read += [when] if pc.all(pc.equal(*same)).as_py() else []  # no 31st of February
    return moments(read[0]) if len(read) == 1 else None


def _numbered(column: pa.ChunkedArray) -> np.ndarray | None:
    """(N,) seconds of days that are written as numbers, as 20240131, where all 20 or more different ones are days."""
    ends = pc.min_max(column)
    if not column.null_count < len(column) or not 1900_01_01 <= ends["min"].as_py() <= ends["max"].as_py() <= 2100_12_31:
        return None
    x = pc.fill_null(column, 0).to_numpy().astype(np.int64)
    day, month, year = x % 100, x // 100 % 100, x // 10_000
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    when = first.astype("datetime64[D]") + day - 1
    right = (x == 0) | (month >= 1) & (month <= 12) & (day >= 1) & (when.astype("datetime64[M]") == first)
    return np.where(x == 0, np.nan, when.astype("datetime64[s]").astype(np.float64)) if right.all() and len(np.unique(x)) >= 20 else None


def spans(table: pa.Table, names: list[str]) -> dict[str, pa.ChunkedArray]:
    """{"b - a": days from a to b}, of every two columns of time."""
    times = {n: t for n in names if (t := moments(table.column(n))) is not None}
    pairs = itertools.combinations(list(times)[:MOST], 2)
    return {f"{b} - {a}": pa.chunked_array([pa.array((times[b] - times[a]) / 86400, from_pandas=True)]) for a, b in pairs}


def parts(column: pa.ChunkedArray) -> dict[str, list[str]]:
    """(N,) weekday, hour, minute and second of a column of time, where they differ; nothing of any other."""
    t = moments(column)
    units = {} if t is None else {"weekday": (86400, 7), "hour": (3600, 24), "minute": (60, 60), "second": (1, 60)}
    found = {part: (np.floor(t / unit) % of).astype(str).tolist() for part, (unit, of) in units.items()}
    return {part: cells for part, cells in found.items() if len(set(cells)) > 1}


def calendar(t: np.ndarray) -> dict[str, np.ndarray]:
    """{"year", "month": (N,) int from 0, -1 where missing} of seconds (N,), as `columns.groups` has groupings; none of more than 20 names."""
    there = np.isfinite(t)
    months = np.where(there, t, 0).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    years = months // 12 - (months[there] // 12).min(initial=10_000)
    return {part: np.where(there, c, -1) for part, c in (("year", years), ("month", months % 12)) if c.max(initial=-1, where=there) < 20}


def overlap(train: pa.Table, test: pa.Table, leave: set[str], together: np.ndarray | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Of each column of time: (N,) bool, the test rows that are no later than the last training row; and when that was. together (N,) int: test rows of
    one number go where the latest of them goes (`data.splits`), and count by its moment."""
    hits, ends = {}, {}
    both = {*train.column_names} - leave
    for n in test.column_names:
        then, now = (moments(t.column(n), n) if n in both else None for t in (train, test))
        if then is None or now is None or not np.isfinite(then).any():
            continue
        if together is not None:
            latest = np.full(together.max(initial=-1) + 1, -np.inf)
            np.maximum.at(latest, together, np.where(np.isnan(now), -np.inf, now))
            now = np.where(np.isnan(now), np.nan, latest[together])
        hits[n], ends[n] = now <= np.nanmax(then), str(train.column(n)[int(np.nanargmax(then))].as_py())
    return hits, ends
