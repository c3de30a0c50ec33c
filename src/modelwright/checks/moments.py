"""Moments in time: which columns hold them, whether the splits overlap in them, and how long after another each is.

A time that is written after the outcome seldom gives it away by itself, but by how long after another it is: `spans` are those differences, as columns
that are asked like any other whether they tell the label (`leaks`). Its `parts` may, too, where a nightly job writes what is known (`hidden`).
"""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST = 8  # columns of time whose differences are asked


def moments(column: pa.ChunkedArray, name: str = "") -> np.ndarray | None:
    """(N,) seconds, NaN where missing; None where the column is no time. Text counts where it reads as ISO 8601, a number where its name says so."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        head = column.drop_null()
        if not len(head) or not re.match(r"\d{4}-\d\d", str(head[0].as_py())):
            return None
        try:
            column = pc.cast(column, pa.timestamp("ms"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return pc.cast(pc.cast(pc.cast(column, pa.timestamp("ms")), pa.int64()), pa.float64(), safe=False).to_numpy() / 1000
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if number and re.fullmatch(r"(.*[_ ])?(timestamp|unixtime|epoch|datetime|year|time|时间|年份)", name.strip(), re.IGNORECASE):
        return pc.cast(column, pa.float64(), safe=False).to_numpy()
    return None


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


def overlap(train: pa.Table, test: pa.Table, leave: set[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Of each column of time: (N,) bool, the test rows that are no later than the last training row; and when that was."""
    hits, ends = {}, {}
    both = {*train.column_names} - leave
    for n in test.column_names:
        then, now = (moments(t.column(n), n) if n in both else None for t in (train, test))
        if then is None or now is None or not np.isfinite(then).any():
            continue
        hits[n], ends[n] = now <= np.nanmax(then), str(max(v for v in train.column(n).to_pylist() if v is not None))
    return hits, ends
