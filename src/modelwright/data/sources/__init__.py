"""Anything a user has, as one table: `load`. One idea a file here; what a source is, is decided below and nowhere else.

    patients.csv   data/*.parquet   [a.csv, b.csv]   folder/        text tables, Parquet, Arrow, JSON; pictures by class; saved Hugging Face sets
    hub://NAME   sklearn://NAME                                     the hub (or MODELWRIGHT_DATA), scikit-learn's built-ins
    {visits: visits.csv, people: people.parquet} with query:        a SELECT over them, in DuckDB
    gym://NAME                                                      an environment to act in
    DataFrame, Table, Dataset, dict of lists                        from Python (pandas, polars, pyarrow, datasets)

Whatever is wrong ends in a `Refusal`, or is handled and told in the notes. Left out: URLs, databases, packed files (.gz, .zip), Excel.
"""

from __future__ import annotations

import errno
import glob
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import Problem, Stopped, did_you_mean, refuse
from . import files, hub, pictures
from .builtin import read_builtin
from .frames import read_frame
from .loaded import SPLITS, Context, Loaded, few
from .paths import SCHEME, resolve, unreadable, walk
from .query import ask

__all__ = ["Loaded", "load", "resolve"]


def load(
    source: Any,
    *,
    query: str | None = None,
    root: str | Path = ".",
    where: str = "data.source",
    limit: int = 256 << 20,
    cache: Path | None = None,
    environment: dict[str, Any] | None = None,
) -> Loaded:
    """The source as one table.

    source: a path, glob, folder, hub:// or sklearn:// name, a list of paths, {name: source} with a query, or a table in Python.
    query: one SELECT; a single source is the table `data` in it, named sources go by their names.
    root: what relative paths are relative to (the task file's folder). where: the source's place in the task file, for refusals.
    environment: settings, observe and history of a gym:// source.
    limit: bytes above which a table is kept on disk and mapped, in cache (default: in Modelwright's home).
    Raises Refusal for anything wrong with the source, Stopped where disk or memory runs out.
    """
    context = Context(Path(root), where, limit, cache)
    if isinstance(source, str) and source.startswith("gym://"):
        from .played import read_environment  # not before it is needed: gymnasium is an extra

        return read_environment(source, context, environment or {})
    try:
        if query is None:
            loaded = _one(source, context)
        else:
            sources = source if isinstance(source, dict) else {"data": source}
            loaded = ask(query, {str(name): _one(s, context) for name, s in sources.items()}, context)
    except (OSError, MemoryError, pa.ArrowException, UnicodeError, RecursionError) as e:
        raise _stopped(e, source, where) from e
    if not loaded.table.num_columns or not loaded.table.num_rows:
        what = "no columns" if not loaded.table.num_columns else "columns and no rows"
        raise refuse(
            "data.no_rows", f"{loaded.origin} has {what}", where=where, fix="check that it was written to its end, and the query's conditions"
        )
    if loaded.split is None and _is_split(loaded.table):
        loaded.split = "split"
        loaded.notes.append("the column 'split' names the source's own splits")
    return loaded


def _one(source: Any, context: Context) -> Loaded:
    """What a source is."""
    if source is None:
        raise refuse("data.source", "no source is given", where=context.where, fix="name a file, a folder, hub://NAME or sklearn://NAME")
    if isinstance(source, (list, tuple)) and source and all(isinstance(s, (str, Path)) for s in source):
        paths = [path for s in source for path in _paths(str(s), context)]
        return files.read_files(paths, context, f"{len(paths)} files", context.root)
    if type(source).__module__.split(".")[0] == "datasets" and type(source).__name__ in ("Dataset", "DatasetDict"):
        return hub.read_made(source, f"datasets.{type(source).__name__}", context)
    if not isinstance(source, (str, Path)):
        return read_frame(source, context)
    name = str(source)
    if name.startswith("hub://"):
        return hub.read_hub(name, context)
    if name.startswith("sklearn://"):
        return read_builtin(name, context)
    paths = _paths(name, context)
    if len(paths) == 1 and not paths[0].is_dir():
        return files.read_file(paths[0], context, name)
    if len(paths) == 1:
        return _folder(paths[0], context, name)
    return files.read_files(paths, context, name, context.root)


def _paths(name: str, context: Context) -> list[Path]:
    """The file or folder, or the files that a pattern stands for."""
    if (scheme := SCHEME.match(name)) and "://" in name:
        why, hint = "nothing is downloaded but from the hub", did_you_mean(scheme[1], ["hub", "sklearn", "gym"])
        if scheme[1] in ("hub", "sklearn"):
            why, hint = "a list holds files", "did you mean the name alone, or {name: source, ...} with a query?"
        raise refuse(
            "data.source",
            f"{name[:100]!r} is no source",
            where=context.where,
            why=why,
            fix=hint if "mean" in hint else "download the file and name it, or use hub://NAME or sklearn://NAME",
        )
    try:
        path = context.root / Path(name).expanduser()
        path.stat()
        return [path]
    except (OSError, ValueError, RuntimeError) as e:
        found = sorted(glob.glob(str(path))) if "\0" not in name and any(c in name for c in "*?[") else []
        found = [Path(p) for p in found if Path(p).is_file()]
        if not found:
            raise unreadable(context.root / name, e, context.where) from e
        return found


def _folder(folder: Path, context: Context, origin: str) -> Loaded:
    """A saved Hugging Face set, files of one table, or pictures by class."""
    if hub.is_saved(folder):
        return hub.read_saved(folder, context, origin)
    found, links = walk(folder, context.where)
    for suffixes in (files.COLUMNAR, (".csv", ".tsv", ".tab"), (".jsonl", ".ndjson"), (".json",)):
        tables = [p for p in found if p.suffix.lower() in suffixes]
        if tables:
            loaded = files.read_files(tables, context, origin, folder)
            if rest := len(found) - len(tables):
                loaded.notes.append(f"{rest:,} other files of the folder were left out")
            if links:
                loaded.notes.append(f"{links:,} linked folders were not entered")
            return loaded
    if any(p.suffix.lower() in pictures.SUFFIXES for p in found):
        return pictures.read_pictures(folder, found, links, context, origin)
    what = f"it holds {few([p.name for p in found], 4)}" if found else "it is empty"
    why = what + (f", and {links:,} linked folders, which are not entered" if links else "")
    raise refuse(
        "data.empty",
        f"{origin} holds no table and no pictures",
        where=context.where,
        why=why,
        fix="name the folder that holds the files, or one file",
    )


def _is_split(table: pa.Table) -> bool:
    """Whether a column `split` says train, validation, test and nothing else."""
    if "split" not in table.column_names:
        return False
    column = table["split"]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return {v is not None and v.lower() in SPLITS for v in pc.unique(column).to_pylist()} == {True}


def _stopped(error: BaseException, source: Any, where: str) -> Exception:
    """What the world did to us in the middle of reading."""
    name = str(source)[:120] if isinstance(source, (str, Path)) else type(source).__name__
    if isinstance(error, (MemoryError, pa.ArrowMemoryError)):
        return Stopped(
            Problem("data.memory", f"memory ran out while reading {name}", where=where, fix="free memory, or give fewer columns or rows by a query")
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Stopped(Problem("data.disk_full", f"the disk is full while reading {name}", where=where, fix="free space where MODELWRIGHT_HOME lies"))
    if isinstance(error, OSError) and error.filename is not None:
        return unreadable(Path(str(error.filename)), error, where)
    return refuse(
        "data.unreadable", f"{name} cannot be read", where=where, why=str(error).split("\n")[0][:200], fix="write it again, as CSV (UTF-8) or Parquet"
    )
