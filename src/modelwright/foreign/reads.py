"""Which files a user's own code has read to answer: its weights, its helpers. They make the model as much as its text does, and its digest is of all of them.

Seen are files that Python opens (numpy, torch and json open theirs so), modules that lie elsewhere than what is installed, and, since
libraries in other languages open files unseen, files that the code names in full and safetensors beside any of these. Left out: what is installed, what
the process wrote itself, devices, and files that cells of a table name and that were first opened to answer about it: pictures by their paths are data.
A file that other libraries open by a name that was put together is not seen.
"""

from __future__ import annotations

import ast
import contextlib
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64")


class Reads:
    """From its making on, of this process, which runs a frozen copy of a file in its place."""

    def __init__(self, copy: str, place: Path):
        self.copy, self.place, self.opened, self.written = Path(copy), place, dict[str, None](), set[str]()
        installed = {sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])}
        self.not_his = tuple(f"{os.path.realpath(p)}{os.sep}" for p in (*installed, *SYSTEM, str(self.copy.parent)))
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes) and len(args) == 3:
            with contextlib.suppress(ValueError, OSError):
                path = os.path.abspath(os.fsdecode(args[0]))
                writes = any(c in (args[1] or "") for c in "wax+") or isinstance(args[2], int) and args[1] is None and args[2] & WRITES
                self.written.add(path) if writes else self.opened.setdefault(path)

    @contextlib.contextmanager
    def about(self, letter: bytes, content: bytes) -> Iterator[None]:
        """While a frame is answered. Of files that are first opened meanwhile, those that a cell of its table names are left out: by their paths in full, or
        as seen from here or from any other folder (the data's root may be any). Weights that are first read then, which no cell names, stay."""
        before = len(self.opened)
        try:
            yield
        finally:
            if letter == b"T" and len(self.opened) > before:
                self._leave_out(table_of(content), list(self.opened)[before:])

    def _leave_out(self, table: pa.Table, opened: list[str]) -> None:
        new = {p: os.path.realpath(p) for p in opened}
        names = {os.path.basename(p) for pair in new.items() for p in pair}
        cells = {os.path.normpath(c) for column in table.columns for c in texts(column) if os.path.basename(c) in names and "\0" not in c}
        whole = {os.path.realpath(c) for c in cells}
        for path, real in new.items():
            if real in whole or not cells.isdisjoint(path.split(os.sep, i)[-1] for i in range(1, path.count(os.sep) + 1)):
                del self.opened[path]

    def files(self) -> list[str]:
        """Sorted; the file itself, of which there is the copy, is not among them."""
        own = {self.place / self.copy.name, *self.written}
        modules = {str(f) for m in list(sys.modules.values()) if isinstance(f := getattr(m, "__file__", None), str)}
        found = {p for p in map(os.path.realpath, {*self.opened, *modules}) if self._his(p)}
        for code in [self.copy, *(Path(p) for p in found if p.endswith(".py"))]:
            found |= {p for p in map(os.path.realpath, self._named(code)) if self._his(p)}
        found |= {str(p) for folder in {Path(p).parent for p in found} for p in folder.glob("*.safetensors")}
        return sorted(found - {os.path.realpath(p) for p in own})

    def _his(self, path: str) -> bool:
        return os.path.isfile(path) and not path.endswith((".pyc", ".so")) and not path.startswith(self.not_his)

    def _named(self, code: Path) -> set[str]:
        """Files that a text in the code names, as seen from its place."""
        try:
            texts = {n.value for n in ast.walk(ast.parse(code.read_bytes())) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        except (OSError, SyntaxError, ValueError):
            return set()
        with contextlib.suppress(ValueError, OSError):
            return {str(self.place / t) for t in texts if 0 < len(t) < 256 and "\0" not in t and "\n" not in t}
        return set()


def table_of(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


def texts(column: pa.ChunkedArray) -> Iterator[str]:
    """Those of its cells, also of what is in lists and structs."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from texts(column.cast(kind.value_type))
    elif pa.types.is_struct(kind):
        for field in column.flatten():
            yield from texts(field)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from texts(pc.list_flatten(column))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from filter(None, column.to_pylist())
