"""The rows of a text table, to be read again and again: one value for every name in every row, or refused with the lines that differ.

What a quote is can only be seen on the whole: quotes are taken literally where they do not pair up and every line is a whole row without them;
else a quoted cell may hold separators and line breaks, and one that is never closed is refused. Blank lines are passed over and counted; in a
table of one column a blank line is a missing value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice

import pyarrow as pa
from pyarrow import csv

from ...errors import Problem, Refusal, refuse
from .dialect import Dialect, needless_zeros, open_quote, records
from .encoding import Text, count_byte, line_at
from .settle import Guess

BLOCKS = (1 << 22, 1 << 26, 1 << 30)  # a record must fit in a block: where one does not, the next size


class Rows:
    """The rows of a text table, to be read again and again: whole with types inferred, some columns as text, or in batches of text."""

    def __init__(self, text: Text, dialect: Dialect, names: list[str]):
        self.text, self.dialect, self.names = text, dialect, names
        self.end = len(text.data)  # blank lines at the end are its end
        while self.end > dialect.body and text.data[self.end - 1] in b"\r\n\x1a":
            self.end -= 1
        if self.end == dialect.body:
            raise refuse("data.no_rows", "a header and no rows", where=text.name, fix="check that it was written to its end")
        self.zeros = needless_zeros(text.data, dialect.body, dialect.separator)
        self.notes: list[str] = []
        self.block = 0  # the size that was large enough

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All columns with types inferred, or those named, as text."""
        table = self._whole(lambda *how: csv.read_csv(*how), columns)
        return self.table(columns) if columns is None and self._better_literally(table.num_rows) else table

    def judged(self) -> dict[str, Guess]:
        """What each column can be, after every row was seen."""

        def see(*how) -> tuple[int, dict[str, Guess]]:
            count, guesses = 0, {name: Guess(self.zeros) for name in self.names}
            for batch in csv.open_csv(*how):
                count += batch.num_rows
                for guess, column in zip(guesses.values(), batch.columns, strict=True):
                    guess.see(column)
            return count, guesses

        count, guesses = self._whole(see, self.names)
        return self.judged() if self._better_literally(count) else guesses

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Text, after `judged` has found all rows whole."""
        return iter(csv.open_csv(*self._how(self.names, lambda row: "skip")))

    def check_quotes(self) -> None:
        """An odd number of quotes: one may never be closed, and would swallow the rest of the file."""
        if self.dialect.quoted and self.text.quotes % 2:
            opened = open_quote(self.text.data, self.dialect.body, self.end, self.dialect.separator)
            if opened is not None and not self._literally():
                where, why = f"{self.text.name}: line {line_at(self.text.data, opened)}", "everything after it would be one cell"
                raise refuse(
                    "data.quote", "a quote is opened and never closed", where=where, why=why, fix='close it, or double it ("") where it is meant'
                )

    def _whole(self, read: Callable, columns: list[str] | None):
        """What read makes of all rows; with larger blocks where a record does not fit, refused where rows are ragged."""
        for self.block in BLOCKS:
            odd: list[int] = []

            def handle(row, odd=odd) -> str:
                if row.text.strip():
                    odd.append(row.actual_columns)
                return "skip"

            try:
                result = read(*self._how(columns, handle))
            except pa.ArrowInvalid as e:
                if self.block < BLOCKS[-1] and ("straddling" in str(e) or "out of sync" in str(e)):
                    continue
                raise refuse("data.unreadable", f"{self.text.name} cannot be read: {str(e)[:200]}", where=self.text.name) from e
            if odd and self.dialect.quoted and self.text.quotes and self._literally():
                return self._whole(read, columns)
            if odd:
                raise self._ragged(len(odd))
            return result
        raise AssertionError("the last block size either reads or raises")

    def _how(self, columns: list[str] | None, handle: Callable) -> tuple:
        """pyarrow's arguments."""
        quoted = self.dialect.quoted
        options = {} if columns is None else {"include_columns": columns, "column_types": dict.fromkeys(columns, pa.string())}
        return (
            pa.BufferReader(pa.py_buffer(self.text.data).slice(self.dialect.body, self.end - self.dialect.body)),
            csv.ReadOptions(column_names=self.names, block_size=self.block),
            csv.ParseOptions(
                delimiter=self.dialect.separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted and self.text.quotes > 0,
                ignore_empty_lines=len(self.names) > 1,
                invalid_row_handler=handle,
            ),
            csv.ConvertOptions(null_values=[""], strings_can_be_null=True, decimal_point=self.dialect.mark, check_utf8=False, **options),
        )

    def _better_literally(self, count: int) -> bool:
        """After a reading of count rows: look at the lines that made no row of their own. True where quotes turned out to be mere characters."""
        data, body = self.text.data, self.dialect.body
        breaks = 1 + count_byte(data, "\n", body, self.end) - count
        if breaks <= 0:
            return False
        if len(self.names) > 1:
            blank = sum(1 for _ in re.compile(rb"\n[ \t]*\r?(?=\n)").finditer(data, body - 1, self.end))
            breaks -= blank
            if blank:
                self.notes.append(f"{blank:,} blank lines were passed over")
        if breaks > 0 and self.dialect.quoted:
            if next(self._misfits(False), None) is None and not all(r.neat for r in self._records(True)) and self._literally():
                return True
            self.notes.append(f"{breaks:,} line breaks lie inside quoted cells")
        return False

    def _literally(self) -> bool:
        """Take quotes as mere characters, if every line is then a whole row."""
        if len(self.names) < 2 or next(self._misfits(False), None):
            return False
        self.dialect.quoted = False
        self.notes[:] = ["quotes do not pair up while every line is a whole row: they were taken literally"]
        return True

    def _records(self, quoted: bool) -> Iterator:
        return records(self.text.data, self.dialect.body, self.dialect.separator, quoted, self.dialect.line, self.end)

    def _misfits(self, quoted: bool) -> Iterator[tuple[int, int]]:
        """(line, number of values) of each row that is not as wide as the header."""
        return ((r.line, r.fields) for r in self._records(quoted) if r.fields != len(self.names) and self.text.data[r.begin : r.end].strip())

    def _ragged(self, count: int) -> Refusal:
        width, first = len(self.names), list(islice(self._misfits(self.dialect.quoted), min(count, 5)))
        lines = ", ".join(f"{line} ({fields})" for line, fields in first)
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        rows = "row has" if count == 1 else "rows have"
        what = f"{count:,} {rows} another number of values than the header's {width}: line{'s' if count > 1 else ''} {lines}{more}"
        why = "to drop or cut them would change the data without a word"
        fix = "mend these lines; a value that holds the separator or a line break must stand in quotes"
        if all(fields == width + 1 for _, fields in first):
            fix = "name every column in the header (is one for row names missing, or does each row end with a separator?)"
        return Refusal(Problem("data.ragged", what, why, f"{self.text.name}: line {first[0][0] if first else '?'}", fix))
