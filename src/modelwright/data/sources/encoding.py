"""Any text file as UTF-8 bytes: the encoding is found, proved over the whole file and converted at the door.

Byte order marks decide; else UTF-16 shows by NULs at every second place; else the whole file is UTF-8; else one of the pages of two bytes a character
(`_page`), each by what its everyday text has and the others' has not; else Windows-1252 (Latin-1) where high bytes are rare among letters, and are
letters and signs that stand alone. Anything else is refused rather than turned into nonsense: a wrong guess would be silent. What was found is noted.
Left out: Cyrillic and other pages of one byte (save those as UTF-8).
Files up to the limit are read at once, larger ones are mapped, so that nothing larger than memory is ever held in it.
"""

from __future__ import annotations

import codecs
import mmap
import re
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import Refusal, refuse
from . import magic
from .loaded import Context

CHUNK = 1 << 22
BOMS = [
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32 LE"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32 BE"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with BOM"),
]
BOMS += [(codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16 LE"), (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16 BE")]
PAGES = {"gb18030": "GB18030 (GBK)", "cp950": "Big5", "cp932": "Shift-JIS", "euc_jp": "EUC-JP", "cp949": "EUC-KR"}
WESTERN = [bytes([b]) for b in (*range(0xC0, 0x100), *"€‚„…‘’“”–—™ŠŒŽšœžŸ¡¢£¥§©ª«®°±²³´µ·º»½¿®\xa0".encode("cp1252"))]  # letters, and signs that text has
Data = bytes | mmap.mmap


@dataclass
class Text:
    """data[start:] is UTF-8 without NULs, not only white space. quotes: number of `"` in it."""

    name: str
    data: Data
    start: int
    encoding: str
    quotes: int = 0


def read_text(path: Path, context: Context) -> Text:
    """The file as UTF-8; refused where it is something else."""
    name = path.name
    small = path.stat().st_size <= context.limit
    data = path.read_bytes() if small else _mapped(path)
    head = bytes(data[: 1 << 16])
    if words := magic.foreign(head):
        raise refuse("data.binary", f"this is {words}", where=name, why="a text table (CSV, TSV, JSON lines) was expected here", fix=_fix(words))
    codec, start, label = _by_mark(head)
    if codec == "utf-8":
        bad = _bad_utf8(data, start)
        if bad is not None:
            codec, label = _legacy(bytes(data[bad // CHUNK * CHUNK : bad // CHUNK * CHUNK + CHUNK]), name, bad, data)
    if codec != "utf-8":
        data, start = _transcoded(data, start, codec, label, name, small, context), 0
    text = Text(name, data, start, label)
    _survey(text)
    return text


def _fix(words: str) -> str:
    if "Excel" in words:
        return "save the sheet as CSV (UTF-8), or unpack the archive"
    return "unpack it first" if words.startswith(("packed", "a 7", "a RAR")) else "name the table's own file"


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def _by_mark(head: bytes) -> tuple[str, int, str]:
    """(codec, bytes of the mark, name) by the byte order mark or UTF-16's NULs; UTF-8 until proved otherwise."""
    for mark, codec, label in BOMS:
        if head.startswith(mark):
            return codec, len(mark), label
    found = []
    for codec, label in (("utf-16-le", "UTF-16 LE without BOM"), ("utf-16-be", "UTF-16 BE without BOM")) if 0 in head else ():
        text = head[: len(head) // 2 * 2].decode(codec, "replace")
        plain = sum(c < "\x80" for c in text)  # commas, digits and line ends: some everywhere, even in Chinese text
        if plain * 50 >= len(text) and re.search("[\r\n]", text) and "\0" not in text and text.count("\ufffd") <= 1:
            found.append((plain, codec, label))
    if found:
        return max(found)[1], 0, max(found)[2]
    return "utf-8", 0, "UTF-8"


def chunks(data: Data, start: int) -> Iterator[tuple[int, bytes]]:
    for at in range(start, len(data), CHUNK):
        yield at, data[at : at + CHUNK]


def _bad_utf8(data: Data, start: int) -> int | None:
    """Place of the first byte that is not UTF-8, or None."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at, chunk in chunks(data, start):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, at + CHUNK >= len(data))
        except UnicodeDecodeError as e:
            return max(start, at - pending + e.start)
    return None


def _legacy(chunk: bytes, name: str, bad: int, data: Data) -> tuple[str, str]:
    """(codec, name) of a file that is not UTF-8, judged by the chunk that shows it."""
    loose = chunk.decode("utf-8", "replace")
    broken = loose.count("\ufffd")
    three, two = sum(c > "\u07ff" for c in loose) - broken, sum("\x7f" < c <= "\u07ff" for c in loose)
    if data[:3] == codecs.BOM_UTF8 or three >= broken or two > 4 * broken:
        why = "the rest of it is UTF-8, so these bytes are damage and not another encoding"
        raise refuse(
            "data.encoding",
            "bytes that are not UTF-8",
            where=f"{name}: line {line_at(data, bad)}",
            why=why,
            fix="mend that line, or write the file again",
        )
    if magic.binary(chunk[: 1 << 16]) or b"\0" in chunk:
        raise refuse(
            "data.binary",
            "this is no text file",
            where=name,
            why="it holds control characters that no text has",
            fix="name the table's own file",
        )
    if page := _page(chunk):
        return page
    high = re.findall(rb"[\x80-\xff]", chunk)
    signs = sum(b in WESTERN for b in high)
    words = sum(map(len, re.findall(rb"[\xc0-\xff]{3,}", chunk)))  # in Western words accented letters stand alone
    if len(high) > 0.4 * (len(high) + len(re.findall(rb"[A-Za-z]", chunk))) or signs < 0.75 * len(high) or words > max(20, 0.5 * len(high)):
        why = "it is not UTF-8, UTF-16, GBK, Big5, Shift-JIS, EUC or a Western page (Windows-1252), and a wrong guess would turn words into nonsense"
        fix = f"save it as UTF-8, for example: iconv -f ITS-ENCODING -t UTF-8 {name} > new.csv"
        raise refuse("data.encoding", "the encoding is not recognised", where=f"{name}: line {line_at(data, bad)}", why=why, fix=fix)
    undefined = re.search(rb"[\x81\x8d\x8f\x90\x9d]", data)
    return ("latin-1", "Latin-1") if undefined else ("cp1252", "Windows-1252 (Latin-1)")


def _page(chunk: bytes) -> tuple[str, str] | None:
    """(codec, name) of two bytes a character. Shift-JIS and EUC-JP show by kana; Big5 by characters of which some end in ASCII bytes (of simplified Chinese
    and Korean none, of Western letters nearly all); Korean, from 20 different syllables on, by leaving empty half of the rows that Chinese spreads over."""
    pairs = np.frombuffer(b"".join(re.findall(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]", chunk)), np.uint8).reshape(-1, 2)
    if not len(pairs):
        return None
    lead, trail = pairs.T
    plain = (lead >= 0xB0) & (lead <= 0xD7) & (trail >= 0xA1)
    if (((lead == 0x82) & (trail >= 0x9F)) | ((lead == 0x83) & (trail <= 0x96))).mean() >= 0.2:
        found = "cp932"
    elif 0.15 <= (trail < 0x80).mean() <= 0.75 and ((lead >= 0xA1) & (lead <= 0xC6)).mean() >= 0.9:
        found = "cp950"
    elif ((lead == 0xA4) | (lead == 0xA5)).mean() >= 0.2 and (trail >= 0xA1).mean() >= 0.95:
        found = "euc_jp"
    elif (plain | ((lead >= 0xA1) & (lead <= 0xA3) & (trail >= 0xA1))).mean() >= 0.6:
        found = "cp949" if len(np.unique(pairs[plain], axis=0)) >= 20 and (lead[plain] > 0xC8).mean() < 0.05 else "gb18030"
    else:
        return None
    broken = chunk.decode(found, "replace").count("\ufffd")  # Cyrillic in one byte a letter looks like pairs, but many are no character
    return (found, PAGES[found]) if broken <= max(3, len(pairs) // 100) else None


def _transcoded(data: Data, start: int, codec: str, label: str, name: str, small: bool, context: Context) -> Data:
    """The text as UTF-8: in memory, or in a nameless file where it is large."""
    decoder, line, parts = codecs.getincrementaldecoder(codec)(), 1, []
    with nullcontext() if small else tempfile.TemporaryFile(dir=context.folder()) as sink:
        for at, chunk in chunks(data, start):
            try:
                text = decoder.decode(chunk, at + CHUNK >= len(data))
            except UnicodeDecodeError as e:
                line += e.object[: e.start].decode(codec, "replace").count("\n")
                what = f"bytes that are not {label}, which the rest of the file is"
                raise refuse("data.encoding", what, where=f"{name}: line {line}", fix="mend that line, or save the file as UTF-8") from e
            line += text.count("\n")
            (parts.append if sink is None else sink.write)(text.encode())
        if sink is None or not sink.tell():
            return b"".join(parts)
        sink.flush()
        return mmap.mmap(sink.fileno(), 0, access=mmap.ACCESS_READ)


def _survey(text: Text) -> None:
    """One pass: refuse NULs, binary and blank files; count quotes."""
    blank = True
    for at, chunk in chunks(text.data, text.start):
        nul = chunk.find(0)
        if nul >= 0:
            raise _nul(text, at + nul, chunk)
        if at == text.start and magic.binary(chunk[: 1 << 16]):
            why = "it holds control characters that no text has"
            raise refuse("data.binary", "this is no text file", where=text.name, why=why, fix="name the table's own file")
        text.quotes += count_byte(chunk, '"', 0, len(chunk))
        blank = blank and not chunk.strip()
    if blank:
        raise refuse("data.empty", "nothing but white space", where=text.name, fix="check that it was written to its end")


def _nul(text: Text, at: int, chunk: bytes) -> Refusal:
    if chunk[: 1 << 16].count(0) > max(8, len(chunk[: 1 << 16]) // 50):
        return refuse("data.binary", "this is no text file", where=text.name, why="it is full of NUL bytes", fix="name the table's own file")
    where = f"{text.name}: line {line_at(text.data, at)}"
    return refuse(
        "data.nul", "a NUL byte in the text", where=where, why="the file is damaged, or is not text", fix="write the file again, or take the byte out"
    )


def line_at(data: Data, at: int) -> int:
    """The line, from 1, that a place in the data is on."""
    return 1 + sum(data[i : min(i + CHUNK, at)].count(b"\n") for i in range(0, at, CHUNK))


def count_byte(data: Data, character: str, start: int, end: int) -> int:
    """How often an ASCII character occurs, in steps that stay in the processor's cache (bytes.count is slower where it occurs often)."""
    step = 1 << 17
    return sum(int(np.count_nonzero(np.frombuffer(data, np.uint8, min(step, end - at), at) == ord(character))) for at in range(start, end, step))
