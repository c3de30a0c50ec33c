"""Rows a little beside a table's own, to see what a model says near what it saw: who remembers a row remembers its neighbours, or hides the row alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..checks.columns import is_text
from . import _corruptions as c

SPREAD, LETTERS = 0.05, 0.02  # of a number; the share of a text's letters that is mistyped


def beside(schema, table: pa.Table, rng: np.random.Generator) -> pa.Table | None:
    """Numbers are moved by a twentieth of their spread (whole ones stay whole, and none falls below the least), pictures get the faintest noise of
    `_corruptions`, texts some typos. Of names alone one in each row is another row's. None where there is nothing to move."""
    moved = table
    for name, kind in schema.inputs.items():
        column, type = table.column(name), table.schema.field(name).type
        if kind.place == "number" and (pa.types.is_floating(type) or pa.types.is_integer(type)):
            made = _number(column, type, rng)
        elif kind.form == "picture" and not kind.drawn:
            made = c._picture(kind, column, c.noise, 1, rng)
        elif kind.form == "ids" and is_text(column):
            made = c._text(column, c.typos, LETTERS, rng)
        else:
            continue
        moved = moved.set_column(moved.column_names.index(name), name, made)
    names = [n for n, k in schema.inputs.items() if k.place == "code"]
    if moved is not table or not names:
        return None if moved is table else moved
    chosen, others = rng.integers(0, len(names), table.num_rows), pa.array(rng.permutation(table.num_rows))
    for i, name in enumerate(names):
        made = pc.if_else(pa.array(chosen == i), table.column(name).take(others), table.column(name))
        moved = moved.set_column(moved.column_names.index(name), name, made)
    return moved


def _number(column: pa.ChunkedArray, type: pa.DataType, rng: np.random.Generator) -> pa.Array:
    x = column.cast(pa.float64(), safe=False).to_numpy()
    least, x = np.nanmin(x), x + SPREAD * np.nanstd(x) * rng.standard_normal(len(x))
    return pa.array(np.maximum(np.round(x), least) if pa.types.is_integer(type) else x, from_pandas=True).cast(type, safe=False)
