"""Encoded splits kept on disk: decoded once, memory-mapped ever after, found again by what they were made from.

A folder's name is the digest of the rows, of the fitted schema and of the code that encoded them, so nothing stale is ever found. Rows are encoded and
written a chunk at a time: neither pictures nor tokens need to fit into memory. A folder appears whole, by rename; one that was cut short is made anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import home
from .dataset import Dataset
from .schema import Schema
from .sources import store
from .sources.loaded import Context

CHUNK = 8_192  # rows in memory at a time
SMALL = 100_000  # tables of numbers and codes alone, up to so many rows, are encoded faster than they are found
DAYS = 30  # a folder that nobody opened for so long is removed
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError)  # not there, cut short, edited
CHECKED = 1 << 30  # bytes of a file up to which it is read and compared when it is opened: a second at most
LIMIT = 256 << 20  # bytes above which a split is kept on disk


def encode(schema: Schema, table: pa.Table, digest: str) -> Dataset:
    """`schema.encode(table)` through the cache. digest: of the table's contents."""
    if not schema.own and table.num_rows <= SMALL:
        return schema.encode(table)
    made_from = json.dumps([schema.to_json(), digest, _code()], sort_keys=True, default=str)
    folder = home.cache() / "encoded" / hashlib.sha256(made_from.encode()).hexdigest()[:40]
    there = folder.exists()
    try:
        return _open(folder, schema)
    except DAMAGED:
        if there:  # else another process may be the first to write it, at this moment
            shutil.rmtree(folder, ignore_errors=True)
    try:
        _write(folder, schema, table)
        return _open(folder, schema)
    except DAMAGED:
        return schema.encode(table)  # no room to keep it, or somebody is in the way: memory will have to do


def split(table: pa.Table, which: np.ndarray, names: tuple[str, ...]) -> dict[str, pa.Table]:
    """{name: the rows where which (N,) has its number}; a large table's parts go to disk and are mapped."""
    if table.nbytes <= LIMIT:
        return {name: table.filter(pa.array(which == i)) for i, name in enumerate(names)}
    context = Context(Path("."), "data", LIMIT)

    def part(i: int):
        start = 0
        for batch in table.to_batches(max_chunksize=65_536):
            yield batch.filter(pa.array(which[start : start + len(batch)] == i))
            start += len(batch)

    return {name: store.keep(part(i), table.schema, context) for i, name in enumerate(names)}


@cache
def _code() -> str:
    """Of everything that decides how a column is encoded."""
    here = Path(__file__).parent
    files = [*sorted((here.parent / "kinds").glob("*.py")), here / "schema.py", here / "dataset.py", here / "cache.py"]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def _arrays(data: Dataset) -> dict[tuple[str, str, str], np.ndarray]:
    """{(side, column, key): array}"""
    found = {(s, n, k): a for s, columns in (("inputs", data.inputs), ("targets", data.targets)) for n, stored in columns.items() for k, a in stored.items()}
    return found if data.groups is None else found | {("groups", "", ""): data.groups}


def _write(folder: Path, schema: Schema, table: pa.Table) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _tidy(folder.parent)
    half = folder.with_name(f"{folder.name}.{os.getpid()}.half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    files: dict[tuple[str, str, str], Any] = {}
    index: dict[tuple[str, str, str], dict[str, Any]] = {}
    ends: dict[tuple[str, str], int] = {}  # of the flat values so far, per ragged column
    try:
        for start in range(0, table.num_rows, CHUNK):
            part = schema.encode(table.slice(start, CHUNK))
            assert not index or set(index) == set(_arrays(part)), "a column changed its arrays between chunks"
            for place, array in _arrays(part).items():
                if place[2] == "offsets":
                    end = ends.get(place[:2], 0)
                    ends[place[:2]] = end + int(array[-1])
                    array = (array if start == 0 else array[1:]) + end
                if place not in files:
                    name = f"{len(files)}.bin"
                    files[place] = open(half / name, "wb")  # noqa: SIM115 - closed below
                    index[place] = {"place": place, "file": name, "dtype": array.dtype.str, "rows": 0, "crc": 0, "shape": list(array.shape[1:])}
                entry = index[place]
                assert (entry["dtype"], entry["shape"]) == (array.dtype.str, list(array.shape[1:])), f"{place} changed its form between chunks"
                content = np.ascontiguousarray(array).data
                files[place].write(content)
                entry["rows"] += len(array)
                entry["crc"] = zlib.crc32(content, entry["crc"])
        for file in files.values():
            file.close()
        names = {"inputs": list(part.inputs), "targets": list(part.targets)}
        (half / "index.json").write_text(json.dumps({"n": table.num_rows, "names": names, "arrays": list(index.values())}))
        try:
            half.rename(folder)
        except OSError:
            if not folder.exists():  # else someone was first
                raise
    finally:
        for file in files.values():
            file.close()
        shutil.rmtree(half, ignore_errors=True)


def _open(folder: Path, schema: Schema) -> Dataset:
    index = json.loads((folder / "index.json").read_text())
    sides: dict[str, dict[str, dict[str, np.ndarray]]] = {side: {n: {} for n in names} for side, names in index["names"].items()}
    groups = None
    for entry in index["arrays"]:
        (side, name, key), shape, dtype = entry["place"], (entry["rows"], *entry["shape"]), np.dtype(entry["dtype"])
        path = folder / entry["file"]
        if path.stat().st_size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path} was cut short")
        array = np.memmap(path, dtype, "c", shape=shape) if math.prod(shape) else np.zeros(shape, dtype)
        if 0 < array.nbytes <= CHECKED and zlib.crc32(array.data) != entry["crc"]:
            raise ValueError(f"{path} is not as it was written")
        if side == "groups":
            groups = np.array(array)
        else:
            sides[side][name][key] = array
    os.utime(folder)
    kinds = {schema.key(c): schema.inputs[c] for c in schema.own}
    return Dataset(index["n"], sides["inputs"], sides["targets"], kinds, schema.targets, groups)


def _tidy(parent: Path) -> None:
    for folder in parent.iterdir():
        if time.time() - folder.stat().st_mtime > DAYS * 86_400:
            shutil.rmtree(folder, ignore_errors=True)
