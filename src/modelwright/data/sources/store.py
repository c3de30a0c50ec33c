"""Tables larger than memory: kept as an Arrow file in the cache folder and mapped from it.

A file has a key where its source has one (path, size, time of change, and how it was read), so that the next run finds it; else it is
unlinked as soon as it is mapped. Written under another name and moved into place when whole. What was noted while reading is kept inside.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pyarrow as pa

from .loaded import Context

VERSION = 1  # of what is kept: raise it when a reader changes what it makes of the same file


def key_of(path: Path, how: str = "") -> str:
    """The name under which a file's table is kept: the path's part first, so that an older state of the same file can be told and removed."""
    real = os.path.realpath(path)
    status = os.stat(real)
    state = f"{VERSION} {how} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"  # ctime: nobody sets it back
    return f"{_short(real)}-{_short(state)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def keep(batches: Iterable[pa.RecordBatch], schema: pa.Schema, context: Context, key: str | None = None) -> pa.Table:
    """The batches as a table: in memory up to the limit, else mapped from a file."""
    held, size = [], 0
    batches = iter(batches)
    if any(pa.types.is_dictionary(t) for t in schema.types):  # a file holds one dictionary a column, batches may bring one each
        flat = [(f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f).with_nullable(True) for f in schema]
        schema = pa.schema(flat, schema.metadata)
        batches = (batch.cast(schema) for batch in batches)
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size > context.limit:
            return _spill(chain(held, batches), schema, context, key)
    return pa.Table.from_batches(held, schema)


def kept(key: str, context: Context) -> tuple[pa.Table, list[str]] | None:
    """(table, notes) of an earlier run, or None; a damaged file is removed."""
    path = context.folder() / f"{key}.arrow"
    try:
        table = _map(path)
        notes = json.loads(path.with_suffix(".json").read_text("utf-8"))
        table.validate()
        if not isinstance(notes, list):
            raise ValueError("the notes are not as they were written")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # ArrowInvalid is a ValueError
        path.unlink(missing_ok=True)
        return None
    return table, notes


def note(key: str, notes: list[str], context: Context) -> None:
    """Keep the notes beside a kept table, if there is one; the table counts only with them."""
    path = context.folder() / f"{key}.arrow"
    if path.exists():
        _write(path.with_suffix(".json"), json.dumps(notes).encode())


def _spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, context: Context, key: str | None) -> pa.Table:
    folder = context.folder()
    handle, name = tempfile.mkstemp(suffix=".part", dir=folder)
    os.close(handle)
    part = Path(name)
    try:
        with pa.OSFile(name, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        table = _map(part)  # the mapping outlives the name, and whatever another process does to the file in its place
        if key is not None:
            for old in folder.glob(f"{key.split('-')[0]}-*"):
                old.unlink(missing_ok=True)
            os.replace(part, folder / f"{key}.arrow")
        return table
    finally:
        part.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")  # another process may keep the same file at this moment
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _map(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
