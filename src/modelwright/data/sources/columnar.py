"""Parquet and Arrow files, told by their first bytes.

An Arrow file that is not packed is mapped as it lies; anything that would take more memory than the limit is unpacked batch by batch into a
mapped file. Everything is validated in full: a hostile file's offsets could otherwise point anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import refuse
from .loaded import Context
from .store import keep


def read_parquet(path: Path, context: Context, key: str | None = None) -> tuple[pa.Table, list[str]]:
    try:
        with pq.ParquetFile(path) as file:
            meta, schema = file.metadata, file.schema_arrow
            groups = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
            if max(groups, meta.num_rows * len(schema)) <= context.limit:
                table = file.read()
                table.validate(full=True)
            else:
                table = keep(_checked(file.iter_batches()), schema, context, key)
            if table.num_rows != meta.num_rows:
                raise pa.ArrowInvalid(f"it says {meta.num_rows:,} rows and holds {table.num_rows:,}")
    except MemoryError:  # Arrow's is an ArrowException too, and says nothing of the file
        raise
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _corrupt(path, "Parquet", e) from e
    return _without_index(table, "Parquet")


def read_arrow(path: Path, context: Context, key: str | None = None) -> tuple[pa.Table, list[str]]:
    """An Arrow (Feather 2) file or stream."""
    try:
        with pa.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            before = pa.total_allocated_bytes()
            batches = _checked((reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else iter(reader))
            first = next(batches, None)
            packed = first is not None and pa.total_allocated_bytes() - before > first.nbytes // 2
            if first is None:
                table = reader.schema.empty_table()
            elif packed:
                table = keep(chain([first], batches), reader.schema, context, key)
            else:
                table = pa.Table.from_batches([first, *batches], reader.schema)
    except MemoryError:  # Arrow's is an ArrowException too, and says nothing of the file
        raise
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _corrupt(path, "Arrow", e) from e
    return _without_index(table, "Arrow")


def _checked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch proved before anything looks at it: even its size is computed from its offsets."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _without_index(table: pa.Table, form: str) -> tuple[pa.Table, list[str]]:
    """pandas writes a frame's index as a column of a made-up name; the frame itself does not count it as one."""
    try:
        index = json.loads((table.schema.metadata or {})[b"pandas"])["index_columns"]
        drop = [n for n in index if isinstance(n, str) and n.startswith("__index_level_") and n in table.column_names]
    except (KeyError, TypeError, ValueError, RecursionError):
        drop = []
    return (table.drop_columns(drop), [form, "the pandas index was left out"]) if drop else (table, [form])


def _corrupt(path: Path, form: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, pa.ArrowException):
        return error  # the disk, not the file: said at the door
    why = str(error).split("\n")[0][:200] or type(error).__name__
    return refuse(
        "data.corrupt", f"{path.name} is no whole {form} file", where=path.name, why=why, fix="copy or write it again: it may be cut short or damaged"
    )
