"""What was looked at, and what was seen: openings of test splits, with the limits declared at the time, and what runs and audits measured.

An opening is counted by the split's rows, by whichever file brought them (`looked.py`), so that limits edited afterwards are found. A measurement is kept
as the text of its evidence.json, by the digest of that text, and every time that one is made is a line of the audit trail: only what stands here can be
promoted on (`promotion.py`), and what speaks against a model cannot be taken out unseen. All are functions of a database session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import looked, trail
from .database import Session

if TYPE_CHECKING:  # these bring torch, and `registry list` should answer at once
    from .gate import Policy


@dataclass(frozen=True)
class Audited:
    """What a run or an audit measured of a model's bytes, and when."""

    id: int  # of its line in the trail
    at: str
    source: str  # the name of the run's or the audit's folder
    digest: str  # of the text of its evidence.json
    evidence: Mapping[str, Any]


def open_test(
    db: Session, digest: str, who: str, limits: Policy | None, targets: Iterable[str], model: str | None = None, rows: Iterable[looked.Rows] = ()
) -> int:
    """rows: see `looked`. How often most of these rows were opened, this time included."""
    if limits is not None:
        from . import policy  # which is there: it made the limits

        text = json.dumps(policy.as_json(limits), ensure_ascii=False)
        db("INSERT INTO policy (digest, limits) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", limits.digest, text)
    row = (digest, who, limits.digest if limits is not None else None, _listed(targets))
    marks = looked.keep(db, digest, rows)
    trail.add(db, "open", digest=digest, details={"source": who, "policy": row[2], "targets": row[3], "model": model, "rows": marks})
    db("INSERT INTO test_opening (digest, who, policy, targets) VALUES (?, ?, ?, ?)", *row)
    return len(openings(db, digest))


def openings(db: Session, digest: str) -> list[dict[str, str]]:
    here = looked.before(db, digest)
    return [{"who": who, "at": at} for of, who, at in db("SELECT digest, who, at FROM test_opening ORDER BY opening") if of in here]


def judged(db: Session, digest: str, rows: Iterable[looked.Rows] = ()) -> list[str]:
    """The models that were measured on most of these test rows, by their bytes, in the order in which each was first."""
    here = looked.before(db, digest, rows)
    lines = [text for of, text in db("SELECT digest, details FROM event WHERE what = 'open' ORDER BY id") if of in here]
    return list(dict.fromkeys(model for text in lines if (model := json.loads(text).get("model"))))


def first_limits(db: Session, digest: str, targets: Iterable[str], rows: Iterable[looked.Rows] = ()) -> tuple[str, list[Any]] | None:
    """Digest and limits, as JSON, of the first opening of most of these rows with limits whose targets are some of these."""
    sql = (
        "SELECT o.digest, o.targets, p.digest, p.limits FROM test_opening o JOIN policy p ON p.digest = o.policy "
        "WHERE o.targets IS NOT NULL AND p.limits <> '[]' ORDER BY o.opening"
    )
    targets, here = set(targets), looked.before(db, digest, rows)
    return next(((policy, json.loads(limits)) for rows_, of, policy, limits in db(sql) if rows_ in here and targets & {*json.loads(of)}), None)


def limits_of(db: Session, digest: str) -> list[Any] | None:
    """As JSON."""
    rows = db("SELECT limits FROM policy WHERE digest = ?", digest)
    return json.loads(rows[0][0]) if rows else None


def record(db: Session, evidence: Mapping[str, Any], body: str, source: str, **of: str | None) -> str:
    """body: the evidence as text; source: the folder's name; of: who and at, for the trail."""
    digest = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
    db("INSERT INTO evidence (digest, model, body) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING", digest, evidence["model"], body)
    verdict = (evidence["decision"] or {}).get("verdict")
    trail.add(db, "audit", digest=digest, details={"model": evidence["model"], "source": source, "verdict": verdict}, **of)
    return digest


def recorded(db: Session, digest: str) -> dict[str, Any] | None:
    rows = db("SELECT r.body FROM evidence r JOIN event e ON e.digest = r.digest AND e.what = 'audit' WHERE r.digest = ?", digest)
    return json.loads(rows[0][0]) if rows else None


def audits(db: Session, model: str) -> list[Audited]:
    """Of exactly these bytes, oldest first. What has no line in the trail was put there by hand (or by a Modelwright before such lines): not heard."""
    sql = (
        "SELECT e.id, e.at, e.details, r.digest, r.body FROM evidence r JOIN event e ON e.digest = r.digest AND e.what = 'audit' WHERE r.model = ?"
    )
    found = [Audited(number, at, json.loads(details)["source"], digest, json.loads(body)) for number, at, details, digest, body in db(sql, model)]
    return sorted(found, key=lambda a: a.id)


def _listed(targets: Iterable[str]) -> str:
    return json.dumps(sorted(targets), ensure_ascii=False)
