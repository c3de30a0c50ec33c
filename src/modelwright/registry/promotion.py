"""Promotion: an alias moves to a version only on a decision that passes, for exactly its bytes, made here and now from what the registry recorded.

What that rests on is in `judge.py`. It is made outside the database's lock, since bytes are verified for it; an audit of these bytes that was recorded
meanwhile, and bytes that were collected meanwhile, stop the move.

An override moves the alias against the reasons, but never over bytes that are not those that were registered. It names who, why and until when, stays
in the trail and on every card and report, and lapses after its last day (`aliases.py`).
"""

from __future__ import annotations

import datetime
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from ..errors import Problem, Refusal, refuse
from ..home import now
from .base import Base
from .gate import Policy
from .judge import Reasons, judge, reason
from .references import INVISIBLE, distinct, named
from .versions import Version


@dataclass
class Promotion:
    """What `promote` did and why. moved: whether the alias points to the version now."""

    version: Version
    alias: str
    moved: bool
    verdict: str  # pass, fail, inconclusive
    reasons: Reasons = field(default_factory=list)
    warnings: Reasons = field(default_factory=list)
    override: dict[str, str] | None = None
    evidence: list[dict[str, Any]] = field(default_factory=list)  # the audits that the decision rests on: source, at, digest, rows, limits

    def as_json(self) -> dict[str, Any]:
        facts = {"name": self.version.name, "version": self.version.version, "digest": self.version.digest, "model": self.version.model}
        decision = {"verdict": self.verdict, "reasons": self.reasons}
        told = {"warnings": self.warnings, "override": self.override, "evidence": self.evidence}
        return facts | {"alias": self.alias, "moved": self.moved, "decision": decision} | told


def promote(
    registry: Base,
    reference: str,
    alias: str = "production",
    *,
    extra: Policy | None = None,
    override: dict[str, str] | None = None,
    who: str | None = None,
    why: str = "",
    at: str | None = None,
) -> Promotion:
    """reference: NAME (its newest version), NAME@3, NAME@sha256:..., NAME@OTHER-ALIAS. extra: the limits of --policy. override: who, why, until."""
    at = at or now()
    distinct(named(alias, "alias", "--alias"), ["production", *(e.alias for e in registry.history(reference.partition("@")[0]) if e.alias)], "alias")
    if override is not None:
        override = _checked(override, at[:10])
    version = registry.find(reference, at[:10])
    found = judge(registry, version, extra)
    if override is not None and override["until"] > f"{int(at[:4]) + 1}{at[4:10]}":
        found.warnings.append(reason("override.far", f"the override counts until {override['until']}, more than a year from now"))
    whole = not any(r["code"] == "gate.tampered" for r in found.reasons)
    overridden = found.verdict != "pass" and override is not None and whole
    moved = found.verdict == "pass" or overridden
    details = {"verdict": found.verdict, "reasons": found.reasons, "warnings": found.warnings, "evidence": found.used}
    where = {"name": version.name, "version": version.version, "digest": version.digest, "alias": alias, "at": at, "details": details}
    said = override if overridden else {"who": who, "why": why}
    what = "override" if overridden else "promote" if moved else "refuse"
    registry.log(what, version.folder if moved else None, (version.model, found.heard) if moved else None, **said, **where)
    return Promotion(version, alias, moved, found.verdict, found.reasons, found.warnings, override if overridden else None, found.used)


def _checked(override: dict[str, str], today: str) -> dict[str, str]:
    problems = [
        Problem("override.incomplete", f"an override needs {k}", "it stays on the record", f"--{k}", example)
        for k, example in (("who", "--who 'Dr. Li'"), ("why", "--why 'the old model fails on the new scanner'"), ("until", "--until 2027-01-31"))
        if not any(c.isalnum() for c in unicodedata.normalize("NFKC", str(override.get(k) or "")) if c not in INVISIBLE)
    ]
    if problems:
        raise Refusal(problems)
    try:
        until = datetime.date.fromisoformat(override["until"]).isoformat()
    except (ValueError, TypeError) as e:
        raise refuse("override.until", f"{override['until']!r} is no date", where="--until", fix="year-month-day: 2027-01-31") from e
    if until < today:
        raise refuse("override.until", f"{until} has passed: it is {today}", where="--until", fix="a day to come")
    return {"who": override["who"].strip(), "why": override["why"].strip(), "until": until}
