"""JSON lines, or one JSON array of objects: a row for every object, a column for every key.

Read twice, a record at a time: once for the columns and their types, once for the values; so that neither a late word nor size matters. JSON
says what is text and what is a number, and that is kept: "12" stays text. A key that a row lacks is missing. Lists of plain values stay lists;
objects inside (and keys whose values are now this, now that) are kept as JSON text and named in the notes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from ...errors import refuse
from .encoding import Text
from .jsonrecords import HALF, is_array, records
from .loaded import Context, few
from .store import keep
from .tidy import unique

MIXED = "mixed"  # the type of a column that is kept as JSON text
BATCH = 10_000
MOST_KEYS = 20_000


def looks_like_json(text: Text) -> bool:
    head = text.data[text.start : text.start + 4096].lstrip()
    return re.match(rb"\{\s*[\"}]|\[\s*[{\]]", head) is not None


def read_json(text: Text, context: Context, key: str | None = None) -> tuple[pa.Table, list[str]]:
    """(the table, notes); refused at the first record that is broken or no object."""
    types, counts, rows = _survey(text)
    if not rows:
        raise refuse("data.no_rows", "no objects", where=text.name, fix="check that it was written to its end")
    if rows == 1 and types and all(t is MIXED or pa.types.is_list(t) for t in types.values()):
        why = "a table is read as one object a row"
        what, fix = "one object whose every value is a list or an object: columns, not rows", "write rows (pandas: to_json(orient='records', lines=True))"
        raise refuse("data.layout", what, where=text.name, why=why, fix=fix)
    names, renamed = unique(list(types))
    mixed = [k for k, t in types.items() if t is MIXED]
    schema = pa.schema([(n, pa.string() if t is MIXED else t) for n, t in zip(names, types.values(), strict=True)])
    table = keep(_batches(text, types, schema), schema, context, key)
    notes = [f"{text.encoding}, JSON {'array' if is_array(text) else 'lines'}", *renamed]
    partial = [k for k, n in counts.items() if n < rows]
    if partial:
        notes.append(f"keys that not every object has (missing there): {few(partial)}")
    if mixed:
        notes.append(f"objects or values of several types, kept as JSON text: {few(mixed)}")
    return table, notes


def _survey(text: Text) -> tuple[dict[str, Any], Counter[str], int]:
    """(type of each key, objects that have it, objects)."""
    types: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    rows = 0
    found = records(text)
    while part := list(islice(found, BATCH)):
        rows += len(part)
        columns: dict[str, list] = {}
        for _, record in part:
            for key, value in record.items():
                columns.setdefault(key, []).append(value)
        for key, values in columns.items():
            types[key] = _both(types.get(key, pa.null()), _type(key, values, part, text))
            counts[key] += len(values)
        if len(types) > MOST_KEYS or (len(types) > 1000 and counts.total() * 100 < rows * len(types)):
            what = f"{len(types):,} different keys in {rows:,} objects"
            raise refuse(
                "data.columns",
                what,
                where=text.name,
                why="each key is a column, and nearly all would be empty",
                fix="write names as values, not as keys",
            )
    return types, counts, rows


def _type(key: str, values: list, part: list[tuple[int, dict]], text: Text) -> Any:
    """The type that holds all values as they are, or MIXED."""
    try:
        key.encode()
        kind = _inferred(values)
        if kind is MIXED:
            json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        line = next(n for n, record in part if key in record and HALF.search(key + json.dumps(record[key], ensure_ascii=False)))
        what = f"{key!r} holds half a character (a lone surrogate)"
        raise refuse("data.json", what, where=f"{text.name}: line {line}", fix="write the character itself, or both halves") from e
    return kind


def _inferred(values: list) -> Any:
    try:
        kind = inner = pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return MIXED
    depth = 0
    while pa.types.is_list(inner):
        inner, depth = inner.value_type, depth + 1
    return MIXED if pa.types.is_struct(inner) or depth > 8 else kind


def _both(a: Any, b: Any) -> Any:
    """The type that holds values of both."""
    if a is MIXED or b is MIXED:
        return MIXED
    if a == b or b == pa.null():
        return a
    if a == pa.null():
        return b
    if {a, b} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(a) and pa.types.is_list(b):
        inner = _both(a.value_type, b.value_type)
        return MIXED if inner is MIXED else pa.list_(inner)
    return MIXED


def _batches(text: Text, types: dict[str, Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    found = records(text)
    while part := list(islice(found, BATCH)):
        columns = []
        for (key, kind), field in zip(types.items(), schema, strict=True):
            values = [record.get(key) for _, record in part]
            if kind is MIXED:
                values = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
            elif kind == pa.float64():
                values = [v if v is None else float(v) for v in values]
            columns.append(pa.array(values, field.type))
        yield pa.record_batch(columns, schema=schema)
