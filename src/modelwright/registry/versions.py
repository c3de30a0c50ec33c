"""Versions: a number of a name, bound to a digest for ever."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .database import Session


@dataclass(frozen=True)
class Version:
    name: str
    version: int
    digest: str
    model: str
    lineage: dict[str, Any]
    folder: Path
    note: str = ""  # what whoever asked should know: an override, or that one has lapsed

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


def read(db: Session, store: Path, name: str | None = None) -> list[Version]:
    """In order; of all names without one."""
    sql = "SELECT name, version, digest, model, lineage FROM version" + (" WHERE name = ?" if name else "") + " ORDER BY name, version"
    return [Version(n, v, d, m, json.loads(text), place(store, d)) for n, v, d, m, text in db(sql, *([name] if name else []))]


def place(store: Path, digest: str) -> Path:
    return store / digest.removeprefix("sha256:")
