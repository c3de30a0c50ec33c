"""Tables that are already in Python: a pandas frame, an Arrow table, a dict of lists, or anything that speaks Arrow's C interface (polars)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import refuse
from .loaded import Context, Loaded
from .tidy import tidy, unique


def read_frame(source: Any, context: Context) -> Loaded:
    """The same values as a table; a column that mixes types becomes text, and is named."""
    origin = f"{type(source).__module__.split('.')[0]}.{type(source).__name__}"
    notes: list[str] = []
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, dict):
        origin, table = "a dict of lists", _from_lists(source, context, notes)
    elif isinstance(source, pa.Table):
        table = source
    elif origin == "pandas.DataFrame":
        table = _from_pandas(source, context, notes)
    else:
        try:
            table = pa.table(source)
        except (TypeError, ValueError, AttributeError) as e:
            fix = "give a path, hub:// or sklearn://, a pandas frame, a pyarrow table or a dict of lists"
            raise refuse("data.source", f"{origin} is no source of data", where=context.where, fix=fix) from e
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as e:
        raise refuse("data.corrupt", f"the {origin} is damaged", where=context.where, why=str(e)[:200], fix="make it again") from e
    table, more = tidy(table)
    return Loaded(table, notes + more, origin, root=context.root)


def _from_pandas(frame: Any, context: Context, notes: list[str]) -> pa.Table:
    names = [" ".join(str(p) for p in n) if isinstance(n, tuple) else str(n) for n in frame.columns]
    names, renamed = unique(names)
    notes += renamed
    index = frame.index
    if type(index).__name__ != "RangeIndex" or index.start != 0 or index.step != 1:
        notes.append("the pandas index was left out: reset_index() makes it a column")
    columns = [_array(frame.iloc[:, i], name, context, notes) for i, name in enumerate(names)]
    return pa.table(columns, names=names)


def _from_lists(source: dict, context: Context, notes: list[str]) -> pa.Table:
    lengths = {str(k): len(v) for k, v in source.items() if isinstance(v, (list, tuple)) or _is_array(v)}
    wrong = [str(k) for k in source if str(k) not in lengths]
    if wrong:
        why = "several named files need a query that joins them" if all(isinstance(v, str) for v in source.values()) else f"{wrong[0]!r} is no list"
        raise refuse(
            "data.source",
            "a dict is read as columns, and these are not lists",
            where=context.where,
            why=why,
            fix="add query: SELECT ..., or give lists",
        )
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{k} {n:,}" for k, n in list(lengths.items())[:8])
        raise refuse("data.ragged", "the columns differ in length", where=context.where, why=shown, fix="give every column one value a row")
    names, renamed = unique([str(k) for k in source])
    notes += renamed
    return pa.table([_array(v, name, context, notes) for v, name in zip(source.values(), names, strict=True)], names=names)


def _is_array(value: Any) -> bool:
    return isinstance(value, (pa.Array, pa.ChunkedArray)) or type(value).__module__.split(".")[0] in ("numpy", "pandas", "torch")


def _array(values: Any, name: str, context: Context, notes: list[str]) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if type(values).__module__.split(".")[0] == "torch":
        values = values.detach().cpu().numpy()
    if type(values).__module__.split(".")[0] == "numpy" and values.ndim > 1:
        return _nested(values)
    try:
        made = pa.array(values, from_pandas=True)
        if not (pa.types.is_dictionary(made.type) and isinstance(made.type.value_type, pa.BaseExtensionType)):
            return made
        notes.append(f"column {name!r} holds {values.dtype.categories.dtype} and was read as text")  # pandas.cut's intervals
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        notes.append(f"column {name!r} mixes types and was read as text")
    except (pa.ArrowException, UnicodeEncodeError) as e:
        raise refuse(
            "data.source",
            f"column {name!r} cannot be read",
            where=context.where,
            why=str(e).split("\n")[0][:200],
            fix="give numbers, text, bytes, dates or lists",
        ) from e
    if type(values).__module__.split(".")[0] == "pandas":
        values = values.astype(object).where(values.notna(), None)
    return pa.array([None if v is None else v if isinstance(v, str) else _text(v) for v in values], pa.string())


def _nested(values: np.ndarray) -> pa.Array:
    """(N, A, ...) as lists of A lists ..., without going through Python's numbers."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for width in values.shape[:0:-1]:
        offsets = np.arange(0, len(array) + 1, width) if width else np.zeros(values.shape[0] + 1, np.int64)
        kind = pa.ListArray if len(array) < 2**31 else pa.LargeListArray
        array = kind.from_arrays(pa.array(offsets, pa.int32() if kind is pa.ListArray else pa.int64()), array)
    return array


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, tuple)) else str(value)
