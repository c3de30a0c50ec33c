"""CSV and its relatives: one value for every name in every row, or the table is refused with the lines that differ.

Up to the limit pyarrow reads and infers in one go; columns whose inferred type would lose something (codes with leading zeros, long digits,
NaN) are read once more as text and settled. Above the limit the file is streamed twice as text: once to judge each column over all its rows,
once to write it, typed, into an Arrow file that is then mapped; so a late word in a column of numbers makes a text column and loses nothing.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from .dialect import detect
from .encoding import Text
from .loaded import Context, few
from .rows import Rows
from .settle import DATES, Guess, arrow_type, settle
from .store import keep
from .tidy import unique


def read_delimited(text: Text, context: Context, key: str | None = None) -> tuple[pa.Table, list[str]]:
    """(the table, notes); refused where rows are ragged, a quote stays open or there is no row. key: see `store`."""
    dialect = detect(text)
    names, renamed = unique(dialect.names)
    rows = Rows(text, dialect, names)
    rows.check_quotes()
    if len(text.data) > context.limit:
        table, guesses = _streamed(rows, context, key)
    else:
        table, guesses = _inferred(rows)
    notes = [f"{text.encoding}, {dialect}", *renamed, *rows.notes, *told(guesses, dialect.mark), *_empty(table, guesses, dialect.mark)]
    if all(re.fullmatch(r"\s*[\d.,]+\s*", n) for n in dialect.names):
        notes.append(f"the first line holds only numbers and was taken for the header: {few(names, 3)}")
    elif values := [n for n in dialect.names if re.fullmatch(r"\s*[+-]?\d+[.,]\d+\s*", n)]:
        notes.append(f"the header holds numbers ({few(values, 3)}): if the file has none, its first row was taken for it")
    return table, notes


def _inferred(rows: Rows) -> tuple[pa.Table, dict[str, Guess]]:
    """In memory. The types are pyarrow's, but for columns that came as text or would lose something."""
    table = rows.table()
    suspects = [n for n, c in zip(table.column_names, table.columns, strict=True) if _loses(c, rows.zeros)]
    again = dict(zip(suspects, rows.table(suspects).columns, strict=True)) if suspects else {}
    columns, guesses = [], {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        column = again.get(name, column)
        if pa.types.is_string(column.type):
            guess = guesses[name] = Guess(rows.zeros)
            for chunk in column.chunks:
                guess.see(chunk)
            to = guess.result(rows.dialect.mark)
            column = pa.chunked_array([settle(chunk, to) for chunk in column.chunks], arrow_type(to))
        columns.append(column)
    return pa.table(columns, names=table.column_names), guesses


def _loses(column: pa.ChunkedArray, zeros: bool) -> bool:
    """Whether the inferred type may not hold what was written."""
    if pa.types.is_integer(column.type):
        return zeros
    if pa.types.is_time(column.type):
        return True
    if pa.types.is_floating(column.type):
        top = pc.max(pc.abs(column)).as_py()
        return zeros or (top is not None and top >= 2.0**63) or pc.any(pc.is_nan(column)).as_py()
    return False


def _streamed(rows: Rows, context: Context, key: str | None) -> tuple[pa.Table, dict[str, Guess]]:
    """Through an Arrow file: judge, then convert."""
    guesses = rows.judged()
    to = {name: guess.result(rows.dialect.mark) for name, guess in guesses.items()}
    schema = pa.schema([(name, arrow_type(to[name])) for name in rows.names])
    typed = (pa.record_batch([settle(b.column(n), to[n]) for n in rows.names], schema=schema) for b in rows.batches())
    return keep(typed, schema, context, key), guesses


def _empty(table: pa.Table, guesses: dict[str, Guess], mark: str) -> list[str]:
    """How many cells were simply empty, by column."""
    counts = {name: column.null_count for name, column in zip(table.column_names, table.columns, strict=True)}
    for name, guess in guesses.items():
        counts[name] -= guess.marks.total() if guess.result(mark) != "text" else 0
    found = [f"{name} ({n:,})" for name, n in counts.items() if n]
    return [f"empty cells: {'; '.join(found[:8])}" + (f" and {len(found) - 8:,} more columns" if len(found) > 8 else "")] if found else []


def told(guesses: dict[str, Guess], mark: str) -> list[str]:
    """For the plan: what became of marks of missing values, of commas in numbers, and of text that looks like numbers."""
    lines: dict[str, list[str]] = {}
    for name, guess in guesses.items():
        result = guess.result(mark)
        if counts := ", ".join(f"{n:,} {m!r}" for m, n in guess.marks.most_common(3)):
            what = "kept as words in text columns, though they may mean missing" if result == "text" else "read as missing"
            lines.setdefault(what, []).append(f"{name} ({counts})")
        if result == "text" and guess.why:
            lines.setdefault("kept as text", []).append(f"{name} ({guess.why})")
        if result.startswith("number ") or result == "apart":
            how = f"without their sign {result.removeprefix('number ')}" if result != "apart" else "with thousands set apart"
            lines.setdefault(f"numbers read {how}", []).append(name)
        if result in DATES:
            lines.setdefault(f"dates read as {result}", []).append(name)
        if guess.either or (result == "point" and guess.commas) or (result == "comma" and mark == "."):
            what = "decimal commas" if result == "comma" else "commas between thousands" if guess.commas else "decimal points"
            lines.setdefault(f"numbers read with {what}", []).append(name + (" (could be read either way)" if guess.either else ""))
    return [f"{what}: {'; '.join(found[:8])}" + (f" and {len(found) - 8:,} more columns" if len(found) > 8 else "") for what, found in lines.items()]
