"""Which test rows were looked at before, in whatever file: a test set with one row less, some more, or another column is no fresh one.

Of each test split that is opened the registry keeps keyed hashes of the rows that stand alone in it (`seen.alone`), of all columns and of those that the
task reads, at most some thousands. Two splits are compared by the rows whose hashes both would have kept (a bottom-k sketch, Cohen & Kaplan 2007). A
split was looked at before where at least HALF of its rows stood in an earlier one. Chance alone does not reach that, whatever the table: if a row is
expected c times among the earlier split's, it stands alone there with probability c exp(-c), at most 1 / e; and few rows say so only by more (Hoeffding).
Left out: tables where hardly a row stands alone, and rows of which a cell was changed: those are known by the digest of the whole split alone. Other
homes have other keys, and know each other's rows by that digest only, too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable

from .database import Session

Rows = tuple[bool, list[int]]  # whether these are all rows that stand alone; their keyed hashes, rising
HALF, ALARM = 0.5, 0.01


def keep(db: Session, digest: str, looked: Iterable[Rows]) -> list[str]:
    """The marks by which the trail names what was kept."""
    marks = []
    for whole, hashes in looked:
        text = json.dumps([f"{h:x}" for h in hashes])
        marks.append(mark(digest, whole, text))
        db("INSERT INTO looked_at (mark, digest, whole, hashes) VALUES (?, ?, ?, ?) ON CONFLICT (mark) DO NOTHING", marks[-1], digest, int(whole), text)
    return marks


def mark(digest: str, whole: bool | int, text: str) -> str:
    return hashlib.sha256(f"{digest} {int(whole)} {text}".encode()).hexdigest()


def before(db: Session, digest: str, looked: Iterable[Rows] = ()) -> set[str]:
    """The digests of the splits that hold at least half of these rows, this one's among them. looked: of rows that were not kept yet."""
    kept = [(of, bool(whole), [int(h, 16) for h in json.loads(text)]) for of, whole, text in db("SELECT digest, whole, hashes FROM looked_at")]
    mine = [*looked] or [(whole, hashes) for of, whole, hashes in kept if of == digest]
    return {digest} | {of for of, *theirs in kept if of != digest and any(known(rows, theirs) for rows in mine)}


def known(rows: Rows, earlier: Rows) -> bool:
    """Whether at least half of the first split's rows stood in the second, and not by chance."""
    ends = [math.inf if whole else max(hashes, default=-1) for whole, hashes in (rows, earlier)]
    asked = [h for h in rows[1] if h <= min(ends)]
    share = len({*asked} & {*earlier[1]}) / max(1, len(asked))
    return share >= HALF and len(asked) * (share - 1 / math.e) ** 2 >= -math.log(ALARM) / 2
