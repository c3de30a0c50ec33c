"""Whether the database still says what it said: every table against the trail, whose lines carry digests, and the trail against what this home has seen.

The trail is chained (`trail.py`), so that a line that was changed or taken out of the middle is found. What it says of versions, measurements, openings
and limits is compared with their tables. A trail that was cut short, written anew from its beginning, or put back to an older copy is whole in itself:
`remember` keeps the last line that this home has seen beside the keys, and that line must be there. Whoever may write to the database and to that file
can forge both; so can whoever may call `Registry.record`: figures that were never measured, in proper form, are found by measuring again.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

from . import looked, trail
from .database import Session
from .objects import Finding

SEEN = "trail.json"  # in the keys/ folder: {database: [id, chain]}
Line = tuple[int, str]  # id, chain
DAY = datetime.timedelta(days=1)  # clocks of several machines differ by less


def amiss(db: Session, seen: Line | None, model: str | None = None) -> list[Finding]:
    """Everything that does not fit; nothing if all is well. seen: what `recall` says. model: of measurements only those of these bytes."""
    out: list[Finding] = []

    def add(what: str) -> None:
        out.append(Finding("trail" if "trail" in what else "database", "", what))

    if (line := trail.broken(db)) is not None:
        add(f"line {line} of the audit trail was changed, or one before it was taken out")
    if seen is not None and not holds(db, seen):
        add(f"the audit trail is not the one that this home has seen: it was cut short, written anew, or is an older copy (line {seen[0]} in {SEEN})")
    events = trail.read(db)
    said = {(e.name, e.version): (e.digest, e.details.get("model")) for e in events if e.what == "register"}
    is_ = {(name, number): (digest, bytes_) for name, number, digest, bytes_ in db("SELECT name, version, digest, model FROM version")}
    for name, number in sorted(key for key in said.keys() | is_.keys() if said.get(key) != is_.get(key)):
        add(f"{name}@{number} is not the version that was registered under this number")
    kept = dict(db("SELECT digest, model FROM evidence"))
    told = {e.digest: e.details.get("model") for e in events if e.what == "audit"}
    for digest in sorted(d for d, of in told.items() if model in (None, of) and kept.get(d) != of):
        add(f"the measurements {digest[:19]} that an audit recorded are gone, or are said to be of other bytes")
    for digest, body in db("SELECT digest, body FROM evidence WHERE ? IN ('', model)", model or ""):
        if digest != f"sha256:{hashlib.sha256(body.encode()).hexdigest()}":
            add(f"the measurements {digest[:19]} were changed after they were recorded")
    opened = Counter((digest, policy, targets) for digest, policy, targets in db("SELECT digest, policy, targets FROM test_opening"))
    lines = Counter((e.digest, e.details["policy"], e.details["targets"]) for e in events if e.what == "open")
    kept = {mark for mark, *row in db("SELECT mark, digest, whole, hashes FROM looked_at") if mark == looked.mark(*row)}
    lost = {e.digest for e in events if e.what == "open" and not {*e.details.get("rows", ())} <= kept}
    for digest in sorted({digest for digest, *_ in lines - opened} | lost):
        add(f"openings of the test rows {digest[:19]} were taken out or changed")
    return out


def late(db: Session) -> list[Finding]:
    """Lines of the trail that are dated more than a day before the line above them: a clock was set back."""
    out, last = [], ""
    for e in trail.read(db):
        if last and datetime.datetime.fromisoformat(last) - datetime.datetime.fromisoformat(e.at) > DAY:
            out.append(Finding("trail", "", f"line {e.id} of the audit trail is dated {e.at}, and an earlier one {last}: a clock was wrong"))
        last = max(last, e.at)
    return out


def holds(db: Session, line: Line) -> bool:
    """Whether this line is in the trail, as it was."""
    return db("SELECT chain FROM event WHERE id = ?", line[0]) == [(line[1],)]


def recall(keys: Path, name: str) -> Line | None:
    """The last line of a database's trail that this home has seen."""
    try:
        number, chain = json.loads((keys / SEEN).read_bytes())[name]
        return int(number), str(chain)
    except (FileNotFoundError, KeyError):
        return None
    except (OSError, ValueError, TypeError):
        return 0, "unreadable"


def remember(keys: Path, name: str, last: Line | None) -> None:
    """Keep the trail's last line where it is newer than the one that is kept. What cannot be written is not kept."""
    known = recall(keys, name)
    if last is None or known is not None and (known[0] >= last[0] or known[0] == 0):
        return
    with contextlib.suppress(OSError):
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = keys / f".{SEEN}.{os.getpid()}.{os.urandom(4).hex()}"
        others = json.loads((keys / SEEN).read_bytes()) if (keys / SEEN).exists() else {}
        half.write_text(json.dumps(others | {name: list(last)}, indent=1, ensure_ascii=False), "utf-8")
        half.replace(keys / SEEN)
