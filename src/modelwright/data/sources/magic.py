"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import re

SIGNS: list[tuple[bytes, str]] = [
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "packed with gzip"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ", "packed with xz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"FEA1", "a Feather file of version 1"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"{\\rtf", "an RTF document"),
]


def parquet(head: bytes) -> bool:
    return head.startswith(b"PAR1")


def arrow(head: bytes) -> bool:
    """An Arrow file, or an Arrow stream (which is what Hugging Face writes)."""
    return head.startswith((b"ARROW1", b"\xff\xff\xff\xff"))


def foreign(head: bytes) -> str | None:
    """What it is in words, if it is something that holds no text table."""
    text = not re.search(rb"[\x00-\x08\x0e-\x1f]", head[:512])
    for sign, words in SIGNS:
        if head.startswith(sign) and not (text and sign in (b"MZ", b"BZh", b"ORC", b"GIF8")):  # a header may begin with these letters
            return words
    if re.match(rb"\x80[\x02-\x05]", head):
        return "a Python pickle, which could run any code"
    if re.match(rb"(?i)\s*(<!doctype html|<html|<\?xml)", head):
        return "a web page or XML (a login page saved as a table, perhaps)"
    return None


def binary(head: bytes) -> bool:
    """More than one byte in a hundred is a control character that no text holds (NUL is looked at elsewhere)."""
    return len(re.findall(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]", head)) > max(1, len(head) // 100)
