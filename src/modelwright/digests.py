"""Digests: of a model's files, of a table, and of its rows.

`model_digest` is over the files of a model folder, `table_digest` over a table's values: the same for int32 and int64, text and dictionary, one chunk
or many, CSV or Parquet, and any order of the columns; another for another order of the rows. Integral floats count as integers (a missing value turns
integers into floats elsewhere), -0.0 as 0.0, all NaN as one. Null, NaN, 0, "" and [] are five different things; text and bytes differ, and so do
times with and without a zone. `row_digests` follows the same rules row by row, in 64 bits: two different rows among 10 million collide with
probability 3e-6, and a claim about rows should compare them. It is no guard against a forger; `table_digest` (SHA-256) is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import refuse

NO_MODEL = "sha256:" + "0" * 64  # of an audit of data alone


def model_digest(folder: str | Path, only: Iterable[str] | None = None) -> str:
    """sha256 over the sorted (path, sha256) of the files below a model folder. No times, no names outside it. only: these paths of it."""
    folder = Path(folder)
    paths = sorted(only if only is not None else (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))
    if not paths:
        raise refuse("model.missing", "no model files", where=str(folder), fix="name a run's model folder")
    whole = hashlib.sha256()
    for path in paths:
        with open(folder / path, "rb") as f:
            whole.update(f"{path}\0{hashlib.file_digest(f, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def table_digest(table: pa.Table) -> str:
    """sha256 over the table's values in row order, column by column; see the top of this file for what counts as equal."""
    columns = sorted((name, _column_digest(column)) for name, column in zip(table.column_names, table.columns, strict=True))
    return "sha256:" + hashlib.sha256(json.dumps([table.num_rows, columns]).encode()).hexdigest()


def _column_digest(column: pa.ChunkedArray) -> str:
    """Over three streams of bytes, which do not know of chunks: which rows are there, lengths, values."""
    tag, chunks = _normal(column)
    there, lengths, values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    inside: list[pa.Array] = []
    for chunk in chunks:
        there.update(_valid(chunk).view(np.uint8) if len(chunk) else b"")
        if tag == "nested":
            lengths.update(np.asarray(pc.fill_null(pc.list_value_length(chunk), 0).cast(pa.int64())))
            inside.append(chunk.flatten())
        elif tag in ("text", "bytes"):
            offsets, data = _offsets(chunk)
            lengths.update(np.diff(offsets))
            values.update(data[offsets[0] : offsets[-1]])
        elif tag not in ("struct", "null"):
            values.update(_numbers(chunk, tag))
    if tag == "nested":
        values.update(_column_digest(pa.chunked_array(inside, inside[0].type)).encode())
    if tag == "struct":
        for name in sorted(f.name for f in column.type):
            child = pa.chunked_array([pc.struct_field(c, name) for c in chunks])
            values.update(f"{name}\0{_column_digest(child)}".encode())
    return f"{tag}|{there.hexdigest()}|{lengths.hexdigest()}|{values.hexdigest()}"


def _valid(chunk: pa.Array) -> np.ndarray:
    """(n,) bool. Most columns of wide tables have no nulls, and to ask takes longer than to hash a few hundred numbers."""
    return np.asarray(chunk.is_valid()) if chunk.null_count else np.ones(len(chunk), bool)


def _normal(column: pa.ChunkedArray) -> tuple[str, list[pa.Array]]:
    """What a column is once types that mean the same are one, and its chunks (at least one unless all rows are null)."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([c.storage for c in column.chunks], column.type.storage_type)
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _normal(column.cast(kind.value_type) if pa.types.is_dictionary(kind) else pc.run_end_decode(column))
    if column.null_count == len(column):
        return "null", [pa.nulls(len(column))]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_map(kind):
        kind = kind if not pa.types.is_map(kind) else pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        return "nested", column.cast(pa.large_list(kind.value_type)).chunks
    if pa.types.is_struct(kind):
        return "struct", column.chunks
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", column.cast(pa.large_string()).chunks
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes", column.cast(pa.large_binary()).chunks
    if pa.types.is_boolean(kind):
        return "bool", column.chunks
    if pa.types.is_date(kind):
        column, kind = column.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _normal_time(column, kind)
    if pa.types.is_integer(kind):
        wide = pa.types.is_uint64(kind) and pc.max(column).as_py() >= 2**63
        return ("uint", column.chunks) if wide else ("int", (column if kind == pa.int64() else column.cast(pa.int64())).chunks)
    if pa.types.is_floating(kind):
        chunks = (column if kind == pa.float64() else column.cast(pa.float64())).chunks
        return ("int" if all(_integral(_numbers(c, "float")).all() for c in chunks) else "float"), chunks
    written = (lambda v: f"decimal {v.normalize():f}") if pa.types.is_decimal(kind) else repr
    return "text", [pa.array([None if v is None else written(v) for v in c.to_pylist()], pa.large_string()) for c in column.chunks]


def _normal_time(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[str, list[pa.Array]]:
    """In microseconds, unless some value needs nanoseconds or lies beyond their reach, so that equal moments are equal in any unit."""
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    tag = "time" if pa.types.is_time(kind) else "duration" if pa.types.is_duration(kind) else "moment" if zone else "timestamp"
    unit = {"time": pa.time64, "duration": pa.duration}.get(tag, lambda u: pa.timestamp(u, zone))("us")
    try:
        return tag, column.cast(unit).cast(pa.int64()).chunks
    except pa.ArrowInvalid:
        return f"{tag} {kind.unit}", column.cast(pa.int64()).chunks


def _numbers(chunk: pa.Array, tag: str) -> np.ndarray:
    """(n,) the bytes that stand for a chunk: 0 under a null, one NaN, no -0.0."""
    if tag == "bool":
        return np.asarray(chunk.fill_null(False)).view(np.uint8)
    x = np.asarray(chunk.fill_null(0) if chunk.null_count else chunk)
    if x.dtype.kind != "f":
        return x
    return x.astype(np.int64) if tag == "int" else np.where(np.isnan(x), np.nan, x + 0.0)


def _integral(x: np.ndarray) -> np.ndarray:
    """(n,) bool: floats that are exact integers."""
    return (np.abs(x) < 2**53) & (x == np.floor(x))


def _offsets(chunk: pa.Array) -> tuple[np.ndarray, memoryview]:
    """offsets (n + 1,) int64 and bytes of a large_string or large_binary chunk, nothing hidden under its nulls."""
    chunk = chunk.fill_null(b"" if pa.types.is_large_binary(chunk.type) else "") if chunk.null_count else chunk
    _, offsets, data = chunk.buffers()
    if offsets is None or not len(chunk):
        return np.zeros(1, np.int64), memoryview(b"")
    return np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1], memoryview(data or b"")


def row_digests(table: pa.Table) -> np.ndarray:
    """(N,) uint64: equal for equal rows, in whatever order the columns come. Columns are named in it: leave out of the table what should not
    count."""
    total = np.full(table.num_rows, _seed("row"), np.uint64)
    for name in sorted(table.column_names):
        total = _mix(total ^ _hashes(table.column(name)) * _seed(name))
    return total


def rows_digest(table: pa.Table) -> str:
    """sha256 over the sorted row digests: of the same rows in any order. Openings of a test split are counted by it, so that shuffling a file resets
    nothing."""
    return "sha256:" + hashlib.sha256(np.sort(row_digests(table)).astype("<u8").tobytes()).hexdigest()


def _hashes(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) uint64 of a column's values."""
    tag, chunks = _normal(column)
    parts = [_hash(c, tag) for c in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash(chunk: pa.Array, tag: str) -> np.ndarray:
    n = len(chunk)
    if tag == "null":
        h = np.zeros(n, np.uint64)
    elif tag == "struct":
        h = np.full(n, _seed("struct"), np.uint64)
        for name in sorted(f.name for f in chunk.type):
            h = _mix(h ^ _hashes(pa.chunked_array([pc.struct_field(chunk, name)])) * _seed(name))
    elif tag == "nested":  # each value mixed with its place, then summed (modulo 2^64) over the row
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0)).astype(np.int64)
        ends = np.cumsum(lengths)
        place = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        inner = _mix(_hashes(pa.chunked_array([chunk.flatten()])) + _mix(place.astype(np.uint64)))
        sums = np.concatenate([[np.uint64(0)], np.cumsum(inner, dtype=np.uint64)])
        h = _mix((sums[ends] - sums[ends - lengths]) ^ _mix(lengths.astype(np.uint64)) ^ _seed("nested"))
    elif tag in ("text", "bytes"):
        codes = chunk.dictionary_encode()
        offsets, data = _offsets(codes.dictionary)
        each = (hashlib.blake2b(data[a:b], digest_size=8).digest() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
        words = np.append(np.frombuffer(b"".join(each), np.uint64) ^ _seed(tag), np.uint64(0))
        h = words[np.asarray(codes.indices.fill_null(-1))]
    else:
        h = _hash_numbers(_numbers(chunk, "float" if pa.types.is_floating(chunk.type) else tag), tag)
    return np.where(_valid(chunk), h, _seed("null")) if chunk.null_count else h


def _hash_numbers(x: np.ndarray, tag: str) -> np.ndarray:
    """Value by value, whatever the rest of the column is: 3.0 is 3 even where another split holds 3.5."""
    plain, alike = x, np.ones(len(x), bool)  # the number as an integer, where it is one
    if x.dtype.kind == "f":
        alike = _integral(x)
        plain, tag = np.where(alike, x, 0), "int"
    elif tag == "uint":
        alike, tag = x < 2**63, "int"
    elif tag.endswith(" ns"):
        alike, tag = x % 1000 == 0, tag.removesuffix(" ns")
        plain = x // 1000
    bits = x.view(np.uint64) if x.dtype.itemsize == 8 else x.astype(np.uint64)
    return _mix(np.where(alike, plain.astype(np.int64).view(np.uint64) ^ _seed(tag), bits ^ _seed(f"odd {tag}")))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: every bit of the input moves every bit of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _seed(name: str) -> np.uint64:
    """An odd 64-bit number of a name."""
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") | 1)
