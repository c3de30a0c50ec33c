"""A folder for one process at a time, and for one result: what lies there already is never written over."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import refuse


class Lock:
    """One run per folder at a time; the lock goes with the process, however it ends. The file says who holds it."""

    def __init__(self, folder: Path):
        self.path = folder / ".lock"

    def __enter__(self) -> Lock:
        self.file = open(self.path, "a+")  # noqa: SIM115 - not "w": what the holder wrote stays
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self.file.seek(0)
            holder = self.file.read(200).strip() or "another run"
            self.file.close()
            fix = "wait for it to end, or name another --out"
            raise refuse("run.busy", f"{self.path.parent} is in use by {holder}", why="one run per folder at a time", fix=fix) from e
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        self.file.flush()
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.truncate(0)
        self.file.close()

    @classmethod
    def free(cls, folder: Path) -> None:
        """Refuse a folder in which a run is under way."""
        if (folder / ".lock").is_file():
            with cls(folder):
                pass


def unwritten(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder that holds one of these already."""
    if found := [n for n in names if os.path.lexists(folder / n)]:
        what = f"{folder} already holds {', '.join(found[:4])}"
        raise refuse("run.used", what, why="an earlier result is never overwritten", fix="name another --out")
