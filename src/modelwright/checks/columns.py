"""Columns as checks read them: numbers, names, moments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..kind import values_as_text
from .moments import moments


def is_number(column: pa.ChunkedArray) -> bool:
    return pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)


def is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(column, pa.float64(), safe=False).to_numpy()


def cells(column: pa.ChunkedArray) -> tuple[np.ndarray, bool] | None:
    """(N,) numbers with NaN where missing, and whether they are codes of names; None for a column that is neither."""
    if is_number(column):
        return floats(column), False
    kind, when = column.type, moments(column)
    if when is not None:
        return when, False
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_boolean(kind):
        codes = values_as_text(column).combine_chunks().dictionary_encode().indices
        return pc.fill_null(codes.cast(pa.float64()), -1.0).to_numpy(), True
    return None


def groups(table: pa.Table, leave: set[str], most: int = 20, whole: bool = False) -> dict[str, tuple[np.ndarray, list[str]]]:
    """{column: (N,) number of each row's name, -1 where missing; the names}, of columns of 2 to `most` names. whole: or whole numbers."""
    found = {}
    for n in table.column_names:
        column = table.column(n)
        if n not in leave and (is_text(column) or pa.types.is_boolean(column.type) or whole and pa.types.is_integer(column.type)):
            read = values_as_text(column).combine_chunks().dictionary_encode()
            if 2 <= len(read.dictionary) <= most:
                found[n] = (pc.fill_null(read.indices, -1).to_numpy(zero_copy_only=False), read.dictionary.to_pylist())
    return found


def tenths(table: pa.Table) -> dict[str, tuple[np.ndarray, list[str]]]:
    """As `groups`, of columns of time: a tenth of the rows each, one after another."""
    found = {}
    for n in table.column_names:
        if (t := moments(table.column(n))) is not None and len(np.unique(t[np.isfinite(t)])) > 10:
            cuts = np.nanquantile(t, np.arange(1, 10) / 10)
            found[n] = (np.where(np.isfinite(t), np.searchsorted(cuts, t, "right"), -1), [f"tenth {i} of time" for i in range(1, 11)])
    return found


def fifths(table: pa.Table, names: list[str]) -> dict[str, tuple[np.ndarray, list[str]]]:
    """As `groups`, of numbers of more than 20 values: a fifth of the rows each, from the least to the greatest."""
    found = {}
    for n in names:
        if is_number(table.column(n)) and len(np.unique(x := floats(table.column(n)))) > 20 and np.isfinite(x).mean() > 0.5:
            cuts = np.nanquantile(x, [0.2, 0.4, 0.6, 0.8])
            found[n] = (np.where(np.isfinite(x), np.searchsorted(cuts, x), -1), [f"fifth {i} of its values" for i in range(1, 6)])
    return found


def tells(codes: np.ndarray, y: np.ndarray) -> bool:
    """Whether names (N,) int, -1 none, leave little open of classes (N,): they spare more than half of the errors of guessing (lambda of Goodman & Kruskal
    1954). Such a column is a copy of the target or a prediction."""
    counts = np.zeros((codes.max(initial=-1) + 2, y.max(initial=0) + 1))
    np.add.at(counts, (codes + 1, y), 1)
    base = counts.sum(0).max()
    return bool(counts.max(1).sum() - base > 0.5 * (len(y) - base))


def crossings(of: dict[str, tuple[np.ndarray, list[str]]], most: int = 20, columns: int = 6) -> dict[str, np.ndarray]:
    """{"a and b": (N,) numbers, -1 where either is missing} of every two groupings, at most so many cells, among the columns of the fewest names."""
    few = sorted(of, key=lambda n: len(of[n][1]))[:columns]
    found = {}
    for i, a in enumerate(few):
        for b in few[i + 1 :]:
            (x, first), (y, then) = of[a], of[b]
            if len(first) * len(then) <= most:
                found[f"{a} and {b}"] = np.where((x >= 0) & (y >= 0), x * len(then) + y, -1)
    return found
