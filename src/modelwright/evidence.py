"""Evidence: what was measured, on which bytes, and what was decided; and the digests that bind the three.

`model_digest` is over the files of a model folder, `table_digest` over a table's values: the same for int32 and int64, text and dictionary, one chunk
or many, CSV or Parquet, and any order of the columns; another for another order of the rows. Integral floats count as integers (a missing value turns
integers into floats elsewhere), -0.0 as 0.0, all NaN as one. Null, NaN, 0, "" and [] are five different things; text and bytes differ, and so do
times with and without a zone. `row_digests` follows the same rules row by row, in 64 bits: two different rows among 10 million collide with
probability 3e-6, and a claim about rows should compare them. It is no guard against a forger; `table_digest` (SHA-256) is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import Problem, Refusal, refuse
from .forms import Measurement

if TYPE_CHECKING:
    from .registry.gate import Decision, Policy

SCHEMA = 1


# Digests


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
        there.update(np.asarray(chunk.is_valid()).view(np.uint8) if len(chunk) else b"")
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
        return ("uint", column.chunks) if wide else ("int", column.cast(pa.int64()).chunks)
    if pa.types.is_floating(kind):
        chunks = column.cast(pa.float64()).chunks
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
    return np.where(np.asarray(chunk.is_valid()), h, _seed("null")) if n else h


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


# evidence.json


FIELDS: dict[str, tuple[type | None, ...]] = {  # of a line of evidence
    **dict.fromkeys(("audit", "metric", "split", "method"), (str,)),
    **dict.fromkeys(("target", "slice", "limit", "verdict"), (str, None)),
    **dict.fromkeys(("value", "low", "high", "level"), (int, float, None)),
    **dict.fromkeys(("n", "seed"), (int,)),
    **dict.fromkeys(("details", "digests"), (dict,)),
    "seconds": (int, float),
    "reason_codes": (list,),
}
HEAD: dict[str, tuple[type | None, ...]] = {
    **dict.fromkeys(("schema", "test_openings"), (int,)),
    **dict.fromkeys(("code", "policy"), (str, None)),
    "model": (str,),
    "data": (dict,),
    "decision": (dict, None),
    "evidence": (list,),
}
VERDICTS = ("pass", "fail", "inconclusive", None)


def build(
    measurements: list[Measurement],
    decision: Decision | None,
    *,
    model: str,
    data: Mapping[str, str],
    code: str | None,
    policy: Policy | None,
    test_openings: int,
    test_rows: str | None = None,
) -> dict[str, Any]:
    """The object of evidence.json. test_rows: the digest by which openings are counted. What is not a finite number becomes null, with a reason code; a
    limit that nothing was measured for has a line of its own."""
    rows = [] if decision is None else decision.rows
    entries = []
    for m in measurements:
        mine = [r for r in rows if r.measurement is m]
        entries += [_entry(m, r.limit.text, r.verdict, r.codes) for r in mine] or [_entry(m, None, None, [])]
    for r in rows:
        if r.measurement is None:
            nothing = Measurement("gate", r.limit.metric, r.limit.target, "test", r.limit.slice, None, None, None, 0.0, 0, "not measured", 0, 0.0)
            entries.append(_entry(nothing, r.limit.text, r.verdict, r.codes))
    decided = None if decision is None else {"verdict": decision.verdict, "reasons": decision.reasons}
    return {
        "schema": SCHEMA,
        "model": model,
        "data": dict(data),
        "code": code,
        "decision": decided,
        "test_openings": test_openings,
        "test_rows": test_rows,
        "policy": policy.digest if policy and policy.limits else None,
        "evidence": entries,
    }


def _entry(m: Measurement, limit: str | None, verdict: str | None, codes: list[str]) -> dict[str, Any]:
    from .registry.gate import area_of

    line = {f.name: _plain(getattr(m, f.name)) for f in fields(Measurement) if f.name != "reasons"}
    codes = [*codes, *(c for c in m.reasons if c not in codes)]
    if line["value"] is None and not codes:
        codes.append(f"{area_of(m.metric, m.slice)}.not_a_number")
    elif line["value"] is not None and None in (line["low"], line["high"]) and not codes:
        codes.append(f"{area_of(m.metric, m.slice)}.no_interval")
    return {**line, "limit": limit, "verdict": verdict, "reason_codes": codes}


def _plain(x: Any) -> Any:
    """As JSON: numpy's scalars and arrays as Python's, what is not finite as null, keys as text."""
    if isinstance(x, np.ndarray | np.generic):
        x = x.tolist()
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, Mapping):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple | set):
        return [_plain(v) for v in x]
    assert x is None or isinstance(x, str | int | bool), f"{type(x).__name__} in a measurement"
    return x


def dumps(evidence: Mapping[str, Any]) -> str:
    """The text of evidence.json: sorted keys, no NaN, the same bytes for the same evidence."""
    return json.dumps(evidence, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: str | Path) -> dict[str, Any]:
    """evidence.json, checked; a Refusal lists all that is wrong. The decision in it is a record: to promote, decide again from `measurements`."""
    where = str(path)
    try:
        found = json.loads(Path(path).read_bytes(), parse_constant=lambda name: name)  # NaN and Infinity stay text, and are then refused
    except FileNotFoundError:
        raise refuse(
            "evidence.missing", "there is no evidence", where=where, fix="run the audit first: `modelwright audit MODEL --data FILE`"
        ) from None
    except (ValueError, RecursionError) as e:
        raise refuse(
            "evidence.unreadable", f"not JSON: {e}", where=where, why="the file was cut short or edited", fix="run the audit again"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("schema"), int):
        raise refuse("evidence.unreadable", "not an evidence file: no schema version", where=where, fix="run the audit again")
    if found["schema"] > SCHEMA:
        why = f"this Modelwright reads up to {SCHEMA}"
        raise refuse("evidence.newer", f"schema {found['schema']} is newer than this Modelwright", where=where, why=why, fix="upgrade Modelwright")
    problems = _wrong(found, HEAD, where)
    if isinstance(found.get("decision"), dict):
        problems += _wrong(found["decision"], {"verdict": (str,), "reasons": (list,)}, f"{where}: decision")
    for i, line in enumerate(found["evidence"] if isinstance(found.get("evidence"), list) else []):
        problems += _wrong(line, FIELDS, f"{where}: evidence.{i}")
    if problems:
        raise Refusal(problems)
    return found


def _wrong(x: Any, spec: Mapping[str, tuple[type | None, ...]], where: str) -> list[Problem]:
    def bad(what: str) -> Problem:
        return Problem("evidence.unreadable", what, "the file was edited or is not ours", where, "run the audit again")

    if not isinstance(x, dict):
        return [bad(f"{x!r} is not an object")]
    found = [bad(f"{k!r} is missing") for k in spec if k not in x]
    for key, kinds in spec.items():
        value = x.get(key)
        fits = any(value is None if k is None else isinstance(value, k) and not isinstance(value, bool) for k in kinds)
        if key in x and not (fits and (not isinstance(value, float) or math.isfinite(value))):
            found.append(bad(f"{key} is {value!r}, not {' or '.join('null' if k is None else k.__name__ for k in kinds)}"))
    if "verdict" in x and x["verdict"] not in VERDICTS:
        found.append(bad(f"verdict is {x['verdict']!r}"))
    return found


def measurements(evidence: Mapping[str, Any]) -> list[Measurement]:
    """What was measured, from a checked evidence object; each once, though several limits may speak of it."""
    names, found = [f.name for f in fields(Measurement) if f.name != "reasons"], {}
    for line in evidence["evidence"]:
        if line["audit"] != "gate":
            m = Measurement(**{n: line[n] for n in names}, reasons=[])
            found[json.dumps([line[n] for n in names], sort_keys=True)] = m
    return list(found.values())
