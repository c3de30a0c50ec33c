"""The objects of a JSON file one by one, each with the line it begins on; refused at the first that is broken.

Python's own decoder, because the fast ones end the whole process on deep nesting (pyarrow's does, on a line of nine hundred thousand brackets).
Stricter than JSON in one thing: a key that occurs twice in an object is refused, since one of the values would vanish.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ...errors import Refusal, refuse
from .encoding import CHUNK, Text

HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")


def is_array(text: Text) -> bool:
    """Whether the file is one array, and not an object a line."""
    return text.data[text.start : text.start + 4096].lstrip()[:1] == b"["


def records(text: Text) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) one by one."""
    return _from_array(text) if is_array(text) else _from_lines(text)


def _from_lines(text: Text) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(text), 1):
        line = line.decode().rstrip()
        if not line:
            continue
        try:
            record, end = _DECODER.raw_decode(line, len(line) - len(line.lstrip()))
            if end < len(line):
                raise json.JSONDecodeError("something follows the object", line, end)
        except (ValueError, RecursionError) as e:
            raise _broken(text.name, number, e) from e
        if not isinstance(record, dict):
            what = f"{json.dumps(record, ensure_ascii=False)[:60]} is not an object"
            why, fix = "a row needs names for its values", 'write {"name": value, ...}'
            raise refuse("data.json", what, where=f"{text.name}: line {number}", why=why, fix=fix)
        yield number, record


def _lines(text: Text) -> Iterator[bytes]:
    at, end = text.start, len(text.data)
    while at < end:
        stop = text.data.find(b"\n", at)
        stop = end if stop < 0 else stop
        yield text.data[at:stop]
        at = stop + 1


class _Twice(ValueError):
    pass


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice("a key occurs twice in one object")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_no_twice)


def _broken(name: str, number: int, error: Exception) -> Refusal:
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error).split(": line")[0].split("(char")[0].strip()
    column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    return refuse("data.json", f"broken JSON: {what}", where=f"{name}: line {number}{column}", fix="write one object a line, or one array of objects")


def _from_array(text: Text) -> Iterator[tuple[int, dict[str, Any]]]:
    """Element by element, so that a large array is never held as a whole."""
    window = _Window(text)
    window.peek()
    window.to(window.at + 1)  # the bracket
    more = window.peek() != "]"
    while more:
        if window.peek() != "{":
            found = window.buffer[window.at : window.at + 20]
            raise _broken(text.name, window.line, ValueError(f"expected an object, found {found!r}" if found else "the array is never closed"))
        yield window.line, window.element()
        mark = window.peek()
        if mark not in (",", "]"):
            raise _broken(text.name, window.line, ValueError(f"expected a comma or ], found {mark!r}" if mark else "the array is never closed"))
        more = mark == ","
        window.to(window.at + more)
    window.to(window.at + 1)
    if window.peek():
        raise _broken(text.name, window.line, ValueError("something follows the array"))


class _Window:
    """The decoded text from a place onward, and the line of that place."""

    def __init__(self, text: Text):
        decoder = codecs.getincrementaldecoder("utf-8")()
        ends = len(text.data)
        self.name, self.buffer, self.at, self.line = text.name, "", 0, 1
        self.source = (decoder.decode(text.data[i : i + CHUNK], i + CHUNK >= ends) for i in range(text.start, ends, CHUNK))

    def more(self, chunks: int = 1) -> bool:
        part = "".join(islice(self.source, chunks))
        self.buffer, self.at = self.buffer[self.at :] + part, 0
        return part != ""

    def to(self, place: int) -> None:
        self.line += self.buffer.count("\n", self.at, place)
        self.at = place

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            self.to(_SPACE.match(self.buffer, self.at).end())
            if self.at < len(self.buffer) or not self.more():
                return self.buffer[self.at : self.at + 1]

    def element(self) -> dict[str, Any]:
        chunks = 1
        while True:
            try:
                record, end = _DECODER.raw_decode(self.buffer, self.at)
            except (ValueError, RecursionError) as e:
                place = e.pos if isinstance(e, json.JSONDecodeError) else self.at
                cut = isinstance(e, json.JSONDecodeError) and (place >= len(self.buffer) - 16 or e.msg.startswith("Unterminated"))
                at = self.line + self.buffer.count("\n", self.at, place)
                if cut and self.more(chunks):
                    chunks *= 2
                    continue
                raise _broken(self.name, at, e) from e
            self.to(end)
            return record
