"""Garbage collection: the bytes of versions that nobody needs. Numbers, digests, lineage and the trail stay for ever; only folders are removed.

Needed is whatever an alias points to or could be rolled back to, the newest `keep` versions of every name, those registered in the last `days` days,
and the parents of all of these, and theirs. The list is made and the folders are renamed under the database's lock, under which `register` and
`promote` write too: nothing is removed between another process's look and its leap. Removal itself comes after.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import refuse
from ..home import now
from . import aliases, objects, trail
from .base import Base
from .database import Session
from .trail import Event
from .versions import Version, read

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HALF = datetime.timedelta(days=1)  # a copy that was never finished is left to whoever may still be writing it for so long


@dataclass(frozen=True)
class Collected:
    digest: str  # or the name of a leftover
    versions: list[str]  # name@3
    size: int  # bytes


def needed(versions: Iterable[Version], events: Iterable[Event], keep: int, days: int, today: str) -> set[str]:
    """Digests of the objects that stay. A pure function of what the registry knows."""
    versions, events = list(versions), list(events)
    roots: set[str] = set()
    pointed = {(e.name, e.alias) for e in events if e.what in aliases.MOVES}
    for name, alias in pointed:
        moves = aliases.stack(e for e in events if (e.name, e.alias) == (name, alias) and e.what in aliases.MOVES)
        roots |= {m.digest for m in moves if m.digest}
    for name in {v.name for v in versions}:
        newest = sorted((v for v in versions if v.name == name), key=lambda v: -v.version)
        roots |= {v.digest for v in newest[:keep]}
    since = (datetime.date.fromisoformat(today) - datetime.timedelta(days=days)).isoformat()
    roots |= {e.digest for e in events if e.what == "register" and e.digest and days and e.at[:10] >= since}
    return _with_parents(roots, versions)


def _with_parents(digests: set[str], versions: list[Version]) -> set[str]:
    """Parents are named by the digest of an object or of its model, in whatever words."""
    parents: Mapping[str, set[str]] = {v.digest: set(DIGEST.findall(" ".join(v.lineage.get("parents", [])))) for v in versions}
    found, todo = set(), set(digests)
    while todo:
        found |= todo
        named = {p for digest in todo for p in parents.get(digest, ())}
        todo = {v.digest for v in versions if v.digest in named or v.model in named} - found
    return found


def collect(
    registry: Base, *, keep: int = 3, days: int = 0, dry_run: bool = False, who: str | None = None, at: str | None = None
) -> list[Collected]:
    """What was removed, or with dry_run what would be."""
    if keep < 0 or not 0 <= days < 100_000:
        raise refuse("usage", f"keep {keep}, days {days}: neither can be negative, nor days a lifetime", fix="--keep 3")
    at, trash, why = at or now(), [], f"keep {keep}, days {days}"

    def work(db: Session) -> list[Collected]:
        versions = read(db, registry.objects)
        stays = {registry.folder(d) for d in needed(versions, trail.read(db), keep, days, at[:10])}
        gone = []
        for folder in sorted(registry.objects.iterdir()) if registry.objects.is_dir() else []:
            named = [v for v in versions if v.folder == folder]
            if folder in stays or not (re.fullmatch(r"[0-9a-f]{64}", folder.name) or _left_over(folder, at)):
                continue
            digest = f"sha256:{folder.name}" if len(folder.name) == 64 else folder.name
            gone.append(Collected(digest, [v.reference for v in named], _size(folder)))
            if not dry_run:
                trash.append(_aside(folder))
                for v in named:
                    trail.add(db, "collect", who=who, at=at, name=v.name, version=v.version, digest=digest, why=why)
        return gone

    found = registry.transaction(work)
    for folder in trash:
        objects.remove(folder)
    return found


def _left_over(folder: Path, at: str) -> bool:
    """A removal or a copy that was interrupted."""
    if folder.name.startswith(".trash-"):
        return True
    age = datetime.datetime.fromisoformat(at) - datetime.datetime.fromtimestamp(folder.lstat().st_mtime, datetime.UTC)
    return folder.name.startswith(".half-") and age > HALF


def _aside(folder: Path) -> Path:
    if folder.name.startswith("."):
        return folder
    place = folder.with_name(f".trash-{folder.name}")
    objects.remove(place)
    if not folder.is_symlink():
        folder.chmod(0o755)
    return folder.rename(place)


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()) if folder.is_dir() else 0
