"""One file, a list of files or a folder of them as one table. What a file is, its content says; its name helps only among text forms.

Parts must have the same columns (their order may differ); whole numbers and fractions meet as fractions, and text forms whose types differ meet
as text. Parts called train, validation, test (files or folders) bring a `split` column.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from ...errors import Problem, Refusal, refuse
from . import magic
from .columnar import read_arrow, read_parquet
from .delimited import read_delimited
from .encoding import read_text
from .jsonlines import looks_like_json, read_json
from .loaded import SPLITS, Context, Loaded, few
from .paths import regular
from .settle import Guess, settle
from .store import kept, key_of, note
from .tidy import tidy

COLUMNAR = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
DELIMITED = (".csv", ".tsv", ".tab", ".txt")
JSON = (".jsonl", ".ndjson", ".json")


def read_file(path: Path, context: Context, origin: str) -> Loaded:
    """A table file of any form."""
    size = regular(path, context.where).st_size
    key = key_of(path) if size > context.limit // 16 else None  # what is small is read anew
    found = kept(key, context) if key else None
    table, notes = found or _read(path, context, key)
    if key and not found:
        note(key, notes, context)
    table, more = tidy(table)
    return Loaded(table, notes + more, origin, root=path.parent)


def _read(path: Path, context: Context, key: str | None) -> tuple[pa.Table, list[str]]:
    with open(path, "rb") as f:
        head = f.read(512)
    form = path.suffix.lower()
    if magic.parquet(head):
        return read_parquet(path, context, key)
    if magic.arrow(head):
        return read_arrow(path, context, key)
    if form in COLUMNAR:
        why = f"by its first bytes it is {magic.foreign(head) or 'something else'}"
        raise refuse("data.corrupt", f"{path.name} is no {form[1:]} file", where=path.name, why=why, fix="check the file's name, or write it again")
    text = read_text(path, context)
    json = form in JSON or (form not in (".csv", ".tsv", ".tab") and looks_like_json(text))
    return (read_json if json else read_delimited)(text, context, key)


def read_files(paths: list[Path], context: Context, origin: str, root: Path) -> Loaded:
    """Several files of one table, in the order given."""
    parts = [read_file(p, context, p.name) for p in paths]
    splits = [split_of(p, root) for p in paths]
    joined = join(parts, [str(p.relative_to(root)) if p.is_relative_to(root) else p.name for p in paths], context)
    joined.origin, joined.root = origin, root
    add_folders(joined, [dict(f.split("=", 1) for f in p.relative_to(root).parts[:-1] if "=" in f) if p.is_relative_to(root) else {} for p in paths], parts)
    if len(parts) > 1 and all(splits) and len(set(splits)) > 1:
        add_split(joined, [(s, p.table.num_rows) for s, p in zip(splits, parts, strict=True)])
    return joined


def split_of(path: Path, root: Path) -> str | None:
    """The split that a file's name (train.csv, test-00000-of-00001.parquet) or a folder above it, below root, stands for."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    for name in (*folders, re.split(r"[-_.]", path.name)[0]):
        if name.lower() in SPLITS:
            return SPLITS[name.lower()]
    return None


def add_folders(loaded: Loaded, named: list[dict[str, str]], parts: list[Loaded]) -> None:
    """Columns that only folders' names hold (sex=f/part-0.parquet), as Hive, Spark and pandas write partitions."""
    for column in dict.fromkeys(c for names in named for c in names):
        if column in loaded.table.column_names:
            continue
        values = pa.array([None if (v := n.get(column)) in (None, "__HIVE_DEFAULT_PARTITION__") else unquote(v) for n in named], pa.string())
        guess = Guess()
        guess.see(values)
        to = guess.result(".")
        cells = pa.concat_arrays([pa.repeat(v, p.table.num_rows) for v, p in zip(settle(values, to), parts, strict=True)])
        loaded.table = loaded.table.append_column(column, cells)
        loaded.notes.append(f"column {column!r} is read from the names of folders")


def add_split(loaded: Loaded, runs: list[tuple[str, int]]) -> None:
    """A `split` column of runs (split, rows); a column of that name that is there already stays what it is."""
    name = "split"
    while name in loaded.table.column_names:
        name += "_of_file"
    column = pa.chunked_array([pa.repeat(pa.scalar(s), n) for s, n in runs], pa.string())
    loaded.table = loaded.table.append_column(name, column)
    loaded.split = name
    totals: dict[str, int] = {}
    for split, rows in runs:
        totals[split] = totals.get(split, 0) + rows
    loaded.notes.append(f"splits by the names of files or folders, as column {name!r}: " + ", ".join(f"{s} {n:,}" for s, n in totals.items()))


def join(parts: list[Loaded], names: list[str], context: Context) -> Loaded:
    """The parts one below the other; refused where their columns differ, naming the differences."""
    first = parts[0].table
    problems = []
    for part, name in zip(parts[1:], names[1:], strict=True):
        lacks = [c for c in first.column_names if c not in set(part.table.column_names)]
        extra = [c for c in part.table.column_names if c not in set(first.column_names)]
        if lacks or extra:
            said = [f"lacks {few(lacks)}"] * bool(lacks) + [f"has also {few(extra)}"] * bool(extra)
            what = f"{name} has other columns than {names[0]}: it {' and '.join(said)}"
            problems.append(
                Problem(
                    "data.columns_differ",
                    what,
                    "files of one source are parts of one table",
                    context.where,
                    "name only the files that belong together",
                )
            )
    if problems:
        raise Refusal(problems[:10])
    tables, notes = [first, *(p.table.select(first.column_names) for p in parts[1:])], []
    for column in first.column_names:
        types = list(dict.fromkeys(t.schema.field(column).type for t in tables))
        if len(types) > 1:
            to = _common(types)
            if to is None:
                shown = ", ".join(f"{n}: {t.schema.field(column).type}" for n, t in list(zip(names, tables, strict=True))[:5])
                raise refuse(
                    "data.columns_differ",
                    f"column {column!r} has types that do not meet",
                    why=shown,
                    where=context.where,
                    fix="write the files with one type",
                )
            tables = [t.set_column(t.schema.get_field_index(column), column, t[column].cast(to)) for t in tables]
            if to != pa.null() and pa.types.is_string(to) and any(not _is_text(t) for t in types):
                notes.append(f"column {column!r} differs in type between files and was read as text")
    if len(parts) == 1:
        return Loaded(first, parts[0].notes)
    told: dict[str, list[str]] = {}
    for part, name in zip(parts, names, strict=True):
        told.setdefault("; ".join(part.notes), []).append(name)
    return Loaded(pa.concat_tables([t.replace_schema_metadata() for t in tables]), [f"{few(n, 3)}: {what}" for what, n in told.items() if what] + notes)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _common(types: list[pa.DataType]) -> pa.DataType | None:
    """The one type for the parts of a column, or None."""
    try:
        return pa.unify_schemas([pa.schema([("", t)]) for t in types], promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string() if all(pa.types.is_primitive(t) or _is_text(t) for t in types) else None
