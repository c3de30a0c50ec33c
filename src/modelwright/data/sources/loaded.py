"""What a source gives back, and what every reader is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ... import home

SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation"}
SPLITS |= {"test": "test", "testing": "test"}
"""Names of files and folders that mean a split, and the split that they mean."""


@dataclass
class Loaded:
    """A source as one table. Missing is null (never NaN or ""), names are unique, dictionaries and decimals are plain values."""

    table: pa.Table
    notes: list[str] = field(default_factory=list)  # what was detected and done, for `plan`
    origin: str = ""  # the source as it was written
    split: str | None = None  # the column that holds the source's own splits
    root: Path = Path(".")  # what paths inside the table are relative to: the source's own folder
    environment: Any = None  # of a source that is played in (environments.Environment)


@dataclass(frozen=True)
class Context:
    """root: what relative sources are relative to; where: the source's place in the task file; limit: bytes above which a table goes to disk."""

    root: Path
    where: str
    limit: int
    cache: Path | None = None

    def folder(self) -> Path:
        """Where converted tables are kept; made when it is first needed."""
        if self.cache is None:
            return home.cache()
        self.cache.mkdir(parents=True, exist_ok=True)
        return self.cache


def few(names: list[str], most: int = 5) -> str:
    """'a', 'b' and 3 more"""
    shown = ", ".join(repr(n) if len(n) <= 60 else repr(n[:57] + "...") for n in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
