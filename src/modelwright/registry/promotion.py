"""Promotion: an alias moves to a version only on a decision that passes, for exactly its bytes, made here and now from what the registry recorded.

Nothing is read from a decision in a file. The limits are those of the task that was registered, with those of `--policy` on top (the tighter of
two counts, so that a policy never loosens). The measurements are those that the run or the audit recorded when it looked, found by the digest of
evidence.json; a file that was edited, or measured elsewhere, is not among them. The bytes are verified, and their digest must be the evidence's.
Limits that are looser than when the test split was first opened (with limits, for the same targets), or than those that the audit saw, are a
reason to refuse.

An override moves the alias against the reasons, but never over bytes that are not those that were registered. It names who, why and until when, stays
in the trail and on every card, and lapses after its last day (`aliases.py`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import evidence as evidence_
from .. import strict
from ..errors import Problem, Refusal, refuse
from ..home import now
from . import gate, policy, signing
from .gate import Policy
from .store import NAME, Registry, Version

Reasons = list[dict[str, str]]  # code, text


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

    def as_json(self) -> dict[str, Any]:
        facts = {"name": self.version.name, "version": self.version.version, "digest": self.version.digest, "model": self.version.model}
        decision = {"verdict": self.verdict, "reasons": self.reasons}
        return facts | {"alias": self.alias, "moved": self.moved, "decision": decision, "warnings": self.warnings, "override": self.override}


def promote(
    registry: Registry,
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
    if not NAME.fullmatch(alias) or alias.isdigit() or alias == "sha256":
        fix = "letters, digits, dots, dashes and underscores, a letter or digit first, and not only digits"
        raise refuse("registry.alias", f"{alias!r} cannot be an alias", where="--alias", fix=fix)
    if override is not None:
        override = _checked(override, at[:10])
    version = registry.find(reference, at[:10])
    verdict, reasons, warnings = judge(registry, version, extra)
    whole = not any(r["code"] == "gate.tampered" for r in reasons)
    overridden = verdict != "pass" and override is not None and whole
    moved = verdict == "pass" or overridden
    details = {"verdict": verdict, "reasons": reasons, "warnings": warnings}
    where = {"name": version.name, "version": version.version, "digest": version.digest, "alias": alias, "at": at, "details": details}
    if overridden:
        registry.log("override", version.folder, **override, **where)
    else:
        registry.log("promote" if moved else "refuse", version.folder if moved else None, who=who, why=why, **where)
    return Promotion(version, alias, moved, verdict, reasons, warnings, override if overridden else None)


def judge(registry: Registry, version: Version, extra: Policy | None = None) -> tuple[str, Reasons, Reasons]:
    """verdict, reasons, warnings of a version as it lies in the store."""
    findings = signing.verify(version.folder, version.digest, signing.trusted(registry.keys))
    if findings:
        return "fail", [_reason("gate.tampered", f"{f.kind}: {f.path}: {f.text}") for f in findings], []
    reasons: Reasons = []
    limits, targets = _declared(version.folder, reasons)
    if extra is not None:
        limits = policy.tightest(limits, extra)
    found = _measured(registry, version.folder, reasons)
    if not limits.limits:
        reasons.append(_reason("gate.no_limits", "no limits were declared, so nothing was shown"))
    if found is None:
        return "fail", reasons, []
    lineage = _tree(version.folder / "lineage.json") or {}
    model = evidence_.model_digest(version.folder / "model")
    if found["model"] != model:
        reasons.append(_reason("gate.digest", f"the evidence speaks of other bytes ({found['model'][:19]}) than are to be promoted ({model[:19]})"))
    digests = {"model": model, "data": lineage.get("data", found["data"]), "code": lineage.get("code", found["code"])}
    decision = gate.decide(limits, evidence_.measurements(found), digests=digests)
    loose, warnings = _changed(registry, found, limits, targets)
    reasons += (decision.reasons if decision else []) + loose
    verdict = decision.verdict if decision and decision.verdict != "pass" else "pass"
    return ("fail" if reasons and verdict == "pass" else verdict), reasons, warnings


def _declared(folder: Path, reasons: Reasons) -> tuple[Policy, list[str]]:
    """The limits and the targets of the task that was registered."""
    try:
        tree = strict.read(folder / "task.yaml", "task") if (folder / "task.yaml").exists() else {}
        tree = tree if isinstance(tree, dict) else {}
        audit, target = tree.get("audit") or {}, tree.get("target") or []
        targets = [target] if isinstance(target, str) else [*target]
        return policy.merged(audit.get("policy"), audit.get("require") or {}, folder, "task.yaml: audit"), targets
    except (Refusal, AttributeError, TypeError) as e:
        reasons.append(_reason("gate.limits", f"the limits in task.yaml cannot be read: {e}"))
        return gate.policy_of([]), []


def _measured(registry: Registry, folder: Path, reasons: Reasons) -> dict[str, Any] | None:
    path = folder / "evidence.json"
    if not path.exists():
        reasons.append(_reason("gate.missing", "there is no evidence: these bytes were not audited"))
        return None
    found = registry.recorded(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    if found is None:
        why = "it was edited, or measured with another registry"
        reasons.append(_reason("gate.unrecorded", f"evidence.json is not what an audit recorded in this registry: {why}"))
    return found


def _changed(registry: Registry, found: dict[str, Any], limits: Policy, targets: list[str]) -> tuple[Reasons, Reasons]:
    """Reasons where limits were loosened after the test split was opened; warnings where they were changed otherwise."""
    reasons: Reasons = []
    first = registry.first_limits(found["test_rows"], targets) if found.get("test_rows") else []
    audited = registry.limits_of(found["policy"]) if found["policy"] else []
    for when, before in (("when the test split was first opened", first), ("in the audit", audited)):
        texts = ["they are not known"] if before is None else policy.loosened(before, limits)
        reasons += [_reason("gate.policy_changed", f"limits were {when}: {t}") for t in texts]
    if reasons:
        return list({r["text"].split(": ", 1)[1]: r for r in reasons}.values()), []
    before = gate.policy_of(first)
    changed = first and before.digest != limits.digest
    text = "limits were added or tightened after the test split was first opened, none was loosened"
    return [], [_reason("gate.policy_changed", text)] if changed else []


def _checked(override: dict[str, str], today: str) -> dict[str, str]:
    problems = [
        Problem("override.incomplete", f"an override needs {k}", "it stays on the record", f"--{k}", example)
        for k, example in (("who", "--who 'Dr. Li'"), ("why", "--why 'the old model fails on the new scanner'"), ("until", "--until 2027-01-31"))
        if not str(override.get(k) or "").strip()
    ]
    if problems:
        raise Refusal(problems)
    try:
        until = datetime.date.fromisoformat(override["until"]).isoformat()
    except ValueError as e:
        raise refuse("override.until", f"{override['until']!r} is no date", where="--until", fix="year-month-day: 2027-01-31") from e
    if until < today:
        raise refuse("override.until", f"{until} has passed: it is {today}", where="--until", fix="a day to come")
    return {"who": override["who"].strip(), "why": override["why"].strip(), "until": until}


def overrides(registry: Registry, version: Version) -> list[dict[str, Any]]:
    """Every override of these bytes, lapsed or not: what cards, reports and services show."""
    return [
        {"alias": e.alias, "who": e.who, "why": e.why, "at": e.at, "until": e.until, "reasons": e.details["reasons"]}
        for e in registry.history()
        if e.what == "override" and e.digest == version.digest
    ]


def _reason(code: str, text: str) -> dict[str, str]:
    return {"code": code, "text": text}


def _tree(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
