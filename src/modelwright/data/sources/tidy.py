"""A table in plain dress: unique names, missing is null, and no type that only wraps another one.

Done at the door for every source alike. Names keep their spaces inside, dots and emoji: they are the user's. Left as they are: lists, structs
(pictures come as {bytes, path}), binary, dates and times.
"""

from __future__ import annotations

import json
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from .loaded import few

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # in a second
YEARS = -719_162, 2_932_897  # the years 1 to 9999 in days from 1970: beyond them lie marks (PostgreSQL's infinity, say) and accidents


def unique(names: list[str]) -> tuple[list[str], list[str]]:
    """(names that are trimmed, not empty and all different; what was changed)."""
    made: list[str] = []
    taken: set[str] = set()
    wanted = [" ".join(unicodedata.normalize("NFC", n).replace("\ufeff", "").split()) for n in names]
    for i, name in enumerate(wanted):
        name = free = name or f"column_{i + 1}"
        number = 2
        while free in taken or (free != name and free in wanted):
            free, number = f"{name}_{number}", number + 1
        made.append(free)
        taken.add(free)
    changed = [f"{old[:60]!r} -> {new[:60]!r}" for old, new in zip(names, made, strict=True) if old != new]
    more = f" and {len(changed) - 8:,} more" if len(changed) > 8 else ""
    return made, [f"columns renamed: {', '.join(changed[:8])}{more}"] if changed else []


def tidy(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The table with plain types and nulls, and what was done."""
    names, notes = unique(table.column_names)
    labels = class_labels(table.schema)
    columns, nan, infinite, decoded, spans, far = [], [], [], [], [], []
    for name, old, column in zip(names, table.column_names, table.columns, strict=True):
        spans += [name] if pa.types.is_duration(column.type) else []
        column = plain(column)
        if (beyond := _beyond(column)) is not None and (count := pc.sum(beyond).as_py()):
            column = pc.if_else(beyond, pa.scalar(None, column.type), column)
            far.append(f"{name} ({count:,})")
        if old in labels and pa.types.is_integer(column.type):
            column = _named(column, labels[old])
            decoded.append(name)
        if pa.types.is_floating(column.type):
            count = pc.sum(pc.is_nan(column)).as_py() or 0
            if count:
                column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
                nan.append(f"{name} ({count:,})")
            if pc.any(pc.is_inf(column)).as_py():
                infinite.append(name)
        columns.append(column)
    if nan:
        notes.append(f"NaN read as missing: {', '.join(nan[:8])}" + (f" and {len(nan) - 8:,} more columns" if len(nan) > 8 else ""))
    if infinite:
        notes.append(f"infinite numbers in {few(infinite)}: as numbers they count as missing")
    if far:
        notes.append(f"times outside of the years 1 to 9999 read as missing: {', '.join(far[:8])}")
    if spans:
        notes.append(f"durations read as seconds: {few(spans)}")
    if decoded:
        notes.append(f"class numbers read as their names: {few(decoded)}")
    return pa.table(columns, names=names), notes


def _beyond(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Which dates or times lie where no calendar reaches; None where the type holds none such."""
    kind = column.type
    if pa.types.is_date(kind):
        day = 1 if pa.types.is_date32(kind) else 86_400_000
        column = column.cast(pa.int32()) if day == 1 else column
    elif pa.types.is_timestamp(kind) and kind.unit != "ns":
        day = int(86_400 * UNITS[kind.unit])
    else:
        return None
    number, zone = column.cast(pa.int64()), 2 * day // 3 if pa.types.is_timestamp(kind) and kind.tz else 0  # a zone moves it by up to 14 hours
    return pc.or_(pc.less(number, YEARS[0] * day + zone), pc.greater_equal(number, YEARS[1] * day - zone))


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without the wrapping: dictionaries, extensions, views, run lengths and decimals become the values that they stand for; text has 32-bit offsets, as in a
    text table (pandas writes 64), where it is not too long for them."""
    kind = column.type
    if pa.types.is_large_string(kind) and column.nbytes < 1 << 31:
        return column.cast(pa.string())
    if isinstance(kind, pa.BaseExtensionType):
        return plain(pa.chunked_array([c.storage for c in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        to = _plain_type(kind.value_type)  # polars has dictionaries of views, which nothing else casts
        return plain(pa.chunked_array([c.dictionary.cast(to).take(c.indices) for c in column.chunks], to))
    if pa.types.is_run_end_encoded(kind):
        return plain(pa.chunked_array([pc.run_end_decode(c) for c in column.chunks], kind.value_type))
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), UNITS[kind.unit])
    if (to := _plain_type(kind)) != kind:
        return column.cast(to)
    if pa.types.is_decimal(kind):
        try:
            return column.cast(pa.int64() if kind.scale <= 0 else pa.float64())
        except pa.ArrowInvalid:  # beyond 64 bits
            return column.cast(pa.float64())
    return column


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """What a cast alone makes plain, inside lists too: views, half floats, lists of one length; times of day are text, as in a text table."""
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain_type(kind.value_type)))
    if kind == pa.string_view() or pa.types.is_time(kind):
        return pa.string()
    if kind == pa.binary_view():
        return pa.binary()
    return pa.float32() if pa.types.is_float16(kind) else kind


def class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the classes behind a column's numbers, where Hugging Face wrote them into the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: f["names"] for name, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {n: v for n, v in found.items() if isinstance(v, list) and v and all(isinstance(x, str) for x in v) and len(set(v)) == len(v)}


def _named(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    """-1, which Hugging Face writes for an unknown label, becomes null; a number without a name leaves the column as it is."""
    known = pc.if_else(pc.equal(column, -1), pa.scalar(None, column.type), column)
    top, least = pc.max(known).as_py(), pc.min(known).as_py()
    if top is not None and (top >= len(names) or least < 0):
        return column
    taken = pc.take(pa.array(names), known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known)
    return taken if isinstance(taken, pa.ChunkedArray) else pa.chunked_array([taken])
