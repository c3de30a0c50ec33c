"""The audit trail: who did what, when and why. Lines are only ever added; each carries a digest over itself and the line before.

So a line that was changed, and one that was taken out of the middle, is found (`broken`). Whoever may write to the database can rewrite it whole:
keep a copy of its last digest elsewhere where that matters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..home import now, user
from .database import Session


@dataclass(frozen=True)
class Event:
    """A line of the trail."""

    id: int
    at: str  # UTC, as 2026-01-31T12:00:00Z
    who: str
    what: str  # open, audit, register, promote, override, rollback, refuse, collect
    name: str
    version: int | None = None
    digest: str | None = None  # of the object
    alias: str | None = None
    until: str | None = None  # of an override: its last day
    back: int | None = None  # of a rollback: the id of the move that counts again
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def lapsed(self, today: str) -> bool:
        return self.until is not None and today > self.until


COLUMNS = tuple(f.name for f in fields(Event))
SELECT = f"SELECT {', '.join(COLUMNS)}"


def plain(text: str) -> str:
    """One line that shows what it holds: no line breaks, no escapes of a terminal, no marks that turn the direction of writing."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def add(db: Session, what: str, *, who: str | None = None, at: str | None = None, name: str = "", why: str = "", **more: Any) -> None:
    """who and at: by default the user and the time of the front door."""
    before, chain = last(db) or (0, "")
    line = {"id": before + 1, "at": at or now(), "who": who or user(), "what": what, "name": name, "why": why} | more
    if line["who"] != user() and what not in ("open", "audit"):  # a name is claimed; the account is known
        line["details"] = {**line.get("details", {}), "account": user()}
    line["details"] = json.dumps(line.get("details", {}), ensure_ascii=False, sort_keys=True)
    assert not line.keys() - set(COLUMNS), line.keys()
    values = [line.get(k) for k in COLUMNS]
    db(f"INSERT INTO event ({', '.join(COLUMNS)}, chain) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})", *values, _link(chain, values))


def read(db: Session, name: str | None = None) -> list[Event]:
    """In order; of one name, or all."""
    rows = db(f"{SELECT} FROM event" + (" WHERE name = ?" if name else "") + " ORDER BY id", *([name] if name else []))
    return [Event(**dict(zip(COLUMNS, row, strict=True)) | {"details": json.loads(row[-1])}) for row in rows]


def last(db: Session) -> tuple[int, str] | None:
    """id and chain of the last line."""
    found = db("SELECT id, chain FROM event ORDER BY id DESC LIMIT 1")
    return tuple(found[0]) if found else None


def broken(db: Session) -> int | None:
    """The id of the first line that was changed, or that follows one that was taken out."""
    chain = ""
    for expected, (*values, said) in enumerate(db(f"{SELECT}, chain FROM event ORDER BY id"), 1):
        chain = _link(chain, values)
        if chain != said or values[0] != expected:
            return values[0]
    return None


def _link(chain: str, values: list[Any]) -> str:
    return hashlib.sha256((chain + json.dumps(values, ensure_ascii=False)).encode("utf-8", "surrogateescape")).hexdigest()
