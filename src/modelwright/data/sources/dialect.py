"""How a text table is written: its separator, whether `"` quotes, where its header ends, its decimal mark. Judged on a sample.

The separator is the one under which most of the first 200 records have as many values as the header, which has at least two; where no
separator occurs in the header the table has one column. Quotes are taken literally only where that makes the sample consistent and reading
them as quotes does not. Left out: backslash escapes, single quotes, comment lines, tables without a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from ...errors import refuse
from .encoding import Data, Text

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
NONE = "\x1f"  # separates nothing: a table of one column, whose cells may hold any separator
SAMPLE = 1 << 20
MOST_COLUMNS = 100_000
MOST = 1 << 26  # a first line longer than this is no header


@dataclass
class Dialect:
    separator: str
    quoted: bool
    names: list[str]  # as written
    body: int  # where the rows begin
    line: int  # and on which line
    mark: str = "."

    def __str__(self) -> str:
        marks = f"separator {SEPARATORS[self.separator]}" if len(self.names) > 1 else "one column"
        return marks + (", decimal comma" if self.mark == "," else "") + ("" if self.quoted else ", quotes taken literally")


class Record(NamedTuple):
    line: int  # the first line it is on, from 1
    begin: int
    end: int  # of its text, line end excluded
    after: int  # where the next one begins
    fields: int
    closed: bool  # False: a quote is still open where the data ends
    neat: bool  # False: something follows a closing quote within its value


def records(data: Data, start: int, separator: str, quoted: bool, line: int = 1, end: int | None = None) -> Iterator[Record]:
    """Record by record up to end, quoted line breaks understood as pyarrow does: a quote opens at the start of a value only, and "" is a quote."""
    end = len(data) if end is None else end
    begin = field = start
    first, fields, inside, neat, shut = line, 1, False, True, -1  # shut: where the latest quote of this value closed
    events = re.compile((rb'"|' if quoted else b"") + rb"\r\n|\n|\r|" + re.escape(separator.encode()))
    for event in events.finditer(data, start, end):
        at, token = event.start(), event.group()
        if token == b'"':
            if inside:
                inside, shut = False, at
            else:
                inside = at == field or at == shut + 1 != 0
        elif inside:
            line += token != separator.encode()
        else:
            neat = neat and (shut < 0 or shut + 1 == at)
            field, shut = event.end(), -1
            if token == separator.encode():
                fields += 1
            else:
                line += 1
                yield Record(first, begin, at, field, fields, True, neat)
                begin, first, fields, neat = field, line, 1, True
    if begin < end:
        yield Record(first, begin, end, end, fields, not inside, neat and (shut < 0 or shut + 1 == end))


def open_quote(data: Data, start: int, end: int, separator: str) -> int | None:
    """Where the quote stands that is still open at the end, or None. Looks at quotes alone, as only they matter here."""
    edges, inside, opened, shut = b"\r\n" + separator.encode(), False, start, -1
    at = data.find(b'"', start, end)
    while at >= 0:
        if inside:
            inside, shut = False, at
        elif at == start or data[at - 1] in edges:
            inside, opened = True, at
        else:
            inside = at == shut + 1
        at = data.find(b'"', at + 1, end)
    return opened if inside else None


def detect(text: Text) -> Dialect:
    """The dialect; refused where there is no header to be found."""
    sample = _sample(text)
    whole = len(sample) == len(text.data) - text.start
    separator, quoted, named = _separator(sample, whole, text.name)
    header = next(r for r in records(sample, named, separator, quoted) if sample[r.begin : r.end].strip())
    if not header.closed:
        raise refuse(
            "data.quote", "a quote is never closed", where=f"{text.name}: line {header.line}", why="the header never ends", fix="close the quote"
        )
    if header.fields > MOST_COLUMNS:
        what = f"{header.fields:,} columns"
        raise refuse(
            "data.columns", what, where=f"{text.name}: line {header.line}", why=f"at most {MOST_COLUMNS:,} are read", fix="write rows as rows"
        )
    line = 1 + len(re.findall(rb"\r\n|\n|\r", sample[: header.after]))
    names = _values(sample[header.begin : header.end], separator, quoted)
    return Dialect(separator, quoted, names, text.start + header.after, line, _mark(sample[header.end : header.end + (1 << 18)], separator))


def _sample(text: Text) -> bytes:
    size = SAMPLE
    while True:
        sample = bytes(text.data[text.start : text.start + size])
        if re.search(rb"[\r\n]", sample.strip()) or text.start + size >= len(text.data):
            return sample
        if size >= MOST:
            raise refuse(
                "data.binary",
                f"no line end in the first {MOST >> 20} MB",
                where=text.name,
                fix="check that it is a text table with a header",
            )
        size *= 8


def _separator(sample: bytes, whole: bool, name: str) -> tuple[str, bool, int]:
    """(separator, quoted, where the header begins)."""
    if told := re.match(rb'\s*"?sep=([,;\t|])"?[ \t]*\r?\n', sample):  # Excel's own way of saying it
        return told[1].decode(), True, told.end()
    best, how = (0.0, 0), None
    for quoted in (True, False):
        for separator in "\t,;|" if name.endswith((".tsv", ".tab")) else ",;\t|":
            share, width = _fit(sample, whole, separator, quoted)
            if width > 1 and (share, width) > best and (quoted or share == 1.0):
                best, how = (share, width), (separator, quoted, 0)
        if best[0] == 1.0 or b'"' not in sample:
            break
    return how or (NONE, True, 0)


def _fit(sample: bytes, whole: bool, separator: str, quoted: bool) -> tuple[float, int]:
    """(share of the first records that are as wide as the header, its width)."""
    found = list(islice((r for r in records(sample, 0, separator, quoted) if sample[r.begin : r.end].strip()), 201))
    if len(found) > 1 and found[-1].end == len(sample) and not whole:
        found.pop()
    if not found or (len(found) == 1 and not found[0].closed):
        return 0.0, 0
    width = found[0].fields
    return sum(r.fields == width and r.closed for r in found[1:]) / max(1, len(found) - 1), width


def _values(record: bytes, separator: str, quoted: bool) -> list[str]:
    """One record's values, read by the reader of the rows."""
    read = csv.ReadOptions(autogenerate_column_names=True, block_size=len(record) + 16)
    parse = csv.ParseOptions(delimiter=separator, quote_char='"' if quoted else False, newlines_in_values=quoted)
    convert = csv.ConvertOptions(null_values=[], strings_can_be_null=False)
    convert.column_types = {f"f{i}": pa.string() for i in range(record.count(separator.encode()) + 1)}
    table = csv.read_csv(pa.BufferReader(record.strip(b"\r\n") + b"\n"), read, parse, convert)
    return [column[0].as_py() for column in table.columns]


def _mark(sample: bytes, separator: str) -> str:
    """The decimal mark: what numbers that can be read in one way only say; else a comma where the file's numbers hold commas alone."""
    bare = rb"[\d.,]" if separator != "," else rb"[\d.]"
    edge = rb"[\s\"" + re.escape(separator.encode()) + rb"]"
    cells = re.findall(rb"(?<=" + edge + rb")[+-]?(\d" + bare + rb"*\d)(?=" + edge + rb")", sample)
    cells += re.findall(rb'"[+-]?(\d[\d.,]*\d)"', sample)
    cells = cells[:: 1 + len(cells) // 5000]
    comma = sum(re.fullmatch(rb"\d+,(\d{1,2}|\d{4,})|\d{1,3}(\.\d{3})+,\d+|0,\d+", c) is not None for c in cells)
    point = sum(re.fullmatch(rb"\d+\.(\d{1,2}|\d{4,})|\d{1,3}(,\d{3})+\.\d+|0\.\d+", c) is not None for c in cells)
    if comma == point == 0 and separator != ",":
        comma = sum(b"," in c and b"." not in c for c in cells)
        point = sum(b"." in c for c in cells)
    return "," if comma > point else "."


_BEFORE = np.isin(np.arange(256), list(b',;\t|\n\r" '))


def needless_zeros(data: Data, start: int, separator: str) -> bool:
    """Whether some cell may begin with 0 and another digit, as codes do and numbers do not."""
    step, mark = 1 << 17, ord(separator)  # a step that stays in the processor's cache
    for at in range(max(start - 1, 0), len(data), step):
        a = np.frombuffer(data, np.uint8, min(step + 2, len(data) - at), at)
        before = a[:-2]
        found = (a[1:-1] == 48) & (a[2:] - np.uint8(48) < 10) & ((before < 46) if mark < 46 else (before < 46) | (before == mark))
        if found.any() and _BEFORE[before[np.flatnonzero(found)]].any():
            return True
    return False
