"""The verdict on a version: everything that this registry recorded of exactly its bytes, under one set of limits. A decision in a file counts for nothing.

The limits are those of the task that was registered, with those of `--policy` on top (the tighter of two counts, so that a policy never loosens). The
figures are those of every run and audit of these bytes, by the test rows that they were measured on. On the same rows the newest figure for a limit
counts: an audit of some areas (`--only`) completes an earlier one. What has no value (an exception, a spent budget, a metric that these rows leave
undefined) takes nothing back and proves nothing. Then:

    against    a limit is violated on any rows, whoever chose them: refused, and the audit is named. Only a newer audit on the same rows replaces that
    for        every limit is satisfied on the same rows: the registered test rows, or where those do not decide, the newest others, which is said
    neither    refused, with the reasons of the registered rows

Rows that the version was trained or calibrated on are never for, nor are figures under another task than the registered one (`evidence.meaning`: other
columns, groups, labels, clusters, seed); against they count where the registered task has no figures on the same rows.
Limits that are looser than when the rows were first opened (with limits, for the
same targets), or than those that the audit saw, are a reason to refuse. An evidence.json that is not what was recorded, or speaks of other bytes, is
one too, until an audit made after the registration speaks for them. Left out: rows in part the same as the training rows;
the registry keeps no rows, and an audit of a run leaves out those that the run's own record holds (`seen.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import evidence as evidence_
from .. import strict
from ..errors import Refusal
from . import gate, policy, signing
from .base import Base
from .gate import Limit, Policy, Row
from .records import Audited
from .versions import Version

Reasons = list[dict[str, str]]  # code, text
LIKE = {"data.duplicate_rate": "equal one of them beyond chance", "data.near_duplicate_rate": "nearly equal one"}
SEEN = "data.seen_rate"


@dataclass
class Judged:
    verdict: str  # pass, fail, inconclusive
    reasons: Reasons
    warnings: Reasons = field(default_factory=list)
    used: list[dict[str, Any]] = field(default_factory=list)  # the audits that it rests on: source, at, digest, rows, limits
    heard: int = 0  # id of the last audit in the trail that was looked at


@dataclass
class Test:
    """What was measured on the same test rows."""

    registered: bool | None  # the rows that were registered as the version's test split; None: none were
    seen: bool  # rows that the version was trained or calibrated on
    other: bool  # under another task than the registered one
    latest: dict[Limit, tuple[Audited, list[Row]]]  # the newest figures for each limit, or that there is none
    replaced: list[str]  # in words, violations that a newer audit on these rows took the place of

    @property
    def rows(self) -> list[tuple[Audited, Row]]:
        return [(a, r) for a, rows in self.latest.values() for r in rows]

    @property
    def verdict(self) -> str:
        found = {r.verdict for _, r in self.rows}
        return next(v for v in ("fail", "inconclusive", "pass") if v in found)

    @property
    def newest(self) -> Audited:
        return max((a for a, _ in self.rows), key=lambda a: a.id)

    def called(self, audit: Audited) -> str:
        than = "test rows" if self.registered is None else "other test rows than the registered ones"
        rows = "the registered test rows" if self.registered else f"{than} ({_short(audit.evidence)})"
        return f"{audit.source or audit.digest[:19]}{f' of {audit.at[:10]}' if audit.at else ''} on {rows}"


def judge(registry: Base, version: Version, extra: Policy | None = None) -> Judged:
    """A version as it lies in the store."""
    try:
        findings = signing.verify(version.folder, version.digest, signing.trusted(registry.keys))
    except FileNotFoundError as e:  # collected while they were read
        raise registry.gone(version) from e
    findings += registry.amiss(version.model)
    if findings:
        return Judged("fail", [reason("gate.tampered", ": ".join(filter(None, (f.kind, f.path, f.text)))) for f in findings])
    reasons: Reasons = []
    limits, targets = _declared(version.folder, reasons)
    if extra is not None:
        limits = policy.tightest(limits, extra)
    audits = registry.audits(version.model)
    own, amiss = _own(registry, version, audits)
    if not audits:
        reasons.append(amiss or reason("gate.missing", "there is no evidence: these bytes were not audited"))
    empty = [f"{limit.name} {limit.text}" for limit in limits.limits if limit.empty]
    if len(empty) == len(limits.limits):
        holds = f"every model satisfies {', '.join(empty)}" if empty else "no limits were declared"
        reasons.append(reason("gate.no_limits", f"{holds}, so nothing was shown"))
    if not audits or len(empty) == len(limits.limits):
        return Judged("fail", reasons, heard=max((a.id for a in audits), default=0))

    tests = _tests(version, limits, audits, own)
    against = {id(t): [(a, r) for a, r in t.rows if r.verdict == "fail" and _measured(r)] for t in tests}
    changed = {id(t): _changed(registry, t, limits, targets) for t in tests}
    good = [t for t in tests if t.verdict == "pass" and not t.seen and not t.other]
    first = lambda some: next((t for t in some if t.registered), some[0] if some else None)  # noqa: E731 - newest first
    rests = first([t for t in good if not changed[id(t)][0]]) or first(good) or first([t for t in tests if not t.other]) or first(tests)
    verdict = rests.verdict
    if rests not in good:
        reasons += [reason(code, _told(rests, a, r, own)) for a, r in rests.rows if r.verdict != "pass" for code in r.codes]
    for test in tests:
        if test is not rests and against[id(test)]:
            verdict = "fail"
            reasons.append(reason("gate.audit_failed", f"speaks against these bytes: {test.called(against[id(test)][0][0])}"))
            reasons += [reason(code, _told(test, a, r, own)) for a, r in against[id(test)] for code in r.codes]
    if rests.seen:
        reasons.append(reason("gate.seen_rows", f"{rests.called(rests.newest)}: the version was trained or calibrated on these rows"))
    if rests.other:
        told = f"{rests.called(rests.newest)}: under another task than the registered one (its columns, groups, labels, clusters, seed)"
        reasons.append(reason("gate.other_task", told))
    loose, warnings = changed[id(rests)]
    reasons += loose
    reasons += _misstated(version, audits, registry.registered_at(version))
    if amiss:
        (warnings if verdict == "pass" and rests.newest.id > registry.registered_at(version) else reasons).append(amiss)
    if verdict == "pass" and not rests.registered:
        warnings.append(reason("gate.other_rows", f"it rests on {rests.called(rests.newest)}, {_likeness(version, rests)}"))
    warnings += [reason("gate.empty_limit", f"every model satisfies {text}") for text in empty]
    warnings += [] if verdict != "pass" else [reason("gate.replaced", text) for text in dict.fromkeys(rests.replaced)]
    for test in tests:
        if test is not rests and test.verdict != "pass" and not against[id(test)]:
            open_ = "; ".join(dict.fromkeys(r.text for _, r in test.rows if r.verdict != "pass"))
            warnings.append(reason("gate.undecided", f"{test.called(test.newest)} did not decide: {open_}"))
    verdict = "fail" if reasons and verdict == "pass" else verdict
    return Judged(verdict, reasons, warnings, _used(rests), max(a.id for a in audits))


def _tests(version: Version, limits: Policy, audits: list[Audited], own: Audited | None) -> list[Test]:
    """By test rows, those with the newest audit first."""
    by_rows: dict[tuple[str, bool], list[Audited]] = {}
    asked = _meaning(version)
    for audit in audits:
        by_rows.setdefault((audit.evidence.get("test_rows") or audit.digest, asked not in (None, _asked(audit) or asked)), []).append(audit)
    splits = _splits(version)
    tests = []
    for (rows_, other), group in by_rows.items():
        if other and (rows_, False) in by_rows:
            continue
        replaced = []
        digests = {a.evidence["data"].get("test") for a in group}
        latest: dict[Limit, tuple[Audited, list[Row]]] = {}
        for audit in group:
            decision = gate.decide(limits, evidence_.measurements(audit.evidence), digests=_bound(version, audit, audit is own))
            for limit in limits.limits:
                rows = [r for r in decision.rows if r.limit == limit]
                if limit not in latest or any(_measured(r) for r in rows) and not _escapes(limit, latest[limit], audit):
                    before, failed = latest.get(limit, (None, []))
                    said = [r.text for r in failed if r.verdict == "fail" and _measured(r)]
                    replaced += [f"{before.source or before.digest[:19]}, on the same rows, said: {text}" for text in said]
                    latest[limit] = (audit, rows)
        registered = own in group or splits.get("test") in digests - {None} or (None if "test" not in splits and own is None else False)
        trained = {d for s, d in splits.items() if s in ("train", "validation", "calibration")}
        shown = digests | {a.evidence["data"].get("trusted") for a in group}
        tests.append(Test(registered, bool(shown & trained), other, latest, replaced))
    return sorted(tests, key=lambda t: -t.newest.id)


def _escapes(limit: Limit, before: tuple[Audited, list[Row]], now: Audited) -> bool:
    """Whether a violation would be replaced by a figure that was taken beside other training rows, of which this limit speaks too."""
    beside = lambda a: {s: d for s, d in a.evidence["data"].items() if s != "test"}  # noqa: E731
    speaks = limit.area in ("data", "privacy") or limit.metric.startswith("accuracy.")
    return speaks and any(r.verdict == "fail" and _measured(r) for r in before[1]) and not beside(before[0]).items() <= beside(now).items()


def _misstated(version: Version, audits: list[Audited], registered: int) -> Reasons:
    """Where lineage.json names other training rows than whatever was recorded of these bytes before they were registered."""
    said = _splits(version).get("train")
    known = {a.evidence["data"]["train"] for a in audits if a.id < registered and "train" in a.evidence["data"]}
    if not known or said in known or said is None and not _ours(version):  # an import says nothing of its training
        return []
    text = f"lineage.json says that it was trained on {str(said)[:19]}, and no run or audit of these bytes did before they were registered"
    return [reason("gate.lineage", text)]


def _likeness(version: Version, test: Test) -> str:
    """What is known of how the rows that a promotion rests on are like training rows."""
    trained = _splits(version).get("train")
    for a in sorted({a.id: a for a, _ in test.rows}.values(), key=lambda a: -a.id):
        said = {line["metric"]: line["value"] for line in a.evidence["evidence"] if line["metric"] in (*LIKE, SEEN) and line["value"] is not None}
        seen = "" if SEEN not in said else f"{100 * said.pop(SEEN):.3g} % stood in its own record of training rows and were left out"
        if "train" in a.evidence["data"] and said:
            whose = "the version's own training rows" if a.evidence["data"]["train"] == trained else "the rows that were given as training rows"
            return f"compared with {whose}: " + ", ".join([*(f"{100 * said[m]:.3g} % {how}" for m, how in LIKE.items() if m in said), *filter(None, [seen])])
        if seen:
            return f"of which {seen}; near ones were not looked for (--data train=FILE)"
    return "whose likeness to training rows was not compared: no training rows were given (--data train=FILE)"


def _meaning(version: Version) -> str | None:
    """Of the task that was registered; None where none was."""
    path = version.folder / "task.yaml"
    try:
        tree = strict.read(path, "task") if path.exists() else None
        return evidence_.meaning(tree, _ours(version)) if isinstance(tree, dict) else None
    except (Refusal, AttributeError, TypeError):
        return None  # said by `_declared`


def _ours(version: Version) -> bool:
    return (version.folder / "model" / "model.json").is_file()


def _asked(audit: Audited) -> str | None:
    """Of the task of an audit; of one by an earlier Modelwright None."""
    return next((line["digests"]["task"] for line in audit.evidence["evidence"] if "task" in line["digests"]), None)


def _splits(version: Version) -> Mapping[str, str]:
    """Digests of the tables that lineage.json names."""
    found = _tree(version.folder / "lineage.json").get("data")
    return found if isinstance(found, Mapping) else {}


def _measured(row: Row) -> bool:
    """Whether there is a figure: an audit that failed, had no time, or found nothing to measure on leaves a missing one, or one without a value."""
    return row.measurement is not None and row.measurement.value is not None and not math.isnan(row.measurement.value)


def _bound(version: Version, audit: Audited, own: bool) -> dict[str, Any]:
    """What figures must have been measured on: of the version's own run what its lineage says, else what the audit says of itself."""
    lineage = _tree(version.folder / "lineage.json") if own else {}
    return {"model": version.model, "data": lineage.get("data", audit.evidence["data"]), "code": lineage.get("code", audit.evidence["code"])}


def _own(registry: Base, version: Version, audits: list[Audited]) -> tuple[Audited | None, dict[str, str] | None]:
    """The recorded text of the version's evidence.json; or what is amiss with that file. A version may have none (it was imported)."""
    path = version.folder / "evidence.json"
    if not path.exists():
        return None, None
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    own = next((a for a in reversed(audits) if a.digest == digest), None)
    if own is not None:
        return own, None
    found = registry.recorded(digest)
    if found is None:
        why = "it was edited, or measured with another registry"
        return None, reason("gate.unrecorded", f"evidence.json is not what an audit recorded in this registry: {why}")
    said, is_ = found["model"][:19], version.model[:19]
    return None, reason("gate.digest", f"the evidence speaks of other bytes ({said}) than are to be promoted ({is_})")


def _declared(folder: Path, reasons: Reasons) -> tuple[Policy, list[str]]:
    """The limits and the targets of the task that was registered."""
    try:
        tree = strict.read(folder / "task.yaml", "task") if (folder / "task.yaml").exists() else {}
        tree = tree if isinstance(tree, dict) else {}
        audit, target = tree.get("audit") or {}, tree.get("target") or []
        targets = [target] if isinstance(target, str) else [*target]
        return policy.merged(audit.get("policy"), audit.get("require") or {}, folder, "task.yaml: audit"), targets
    except (Refusal, AttributeError, TypeError) as e:
        reasons.append(reason("gate.limits", f"the limits in task.yaml cannot be read: {e}"))
        return gate.policy_of([]), []


def _changed(registry: Base, test: Test, limits: Policy, targets: list[str]) -> tuple[Reasons, Reasons]:
    """Reasons where limits were loosened after the test split was opened; warnings where they were changed otherwise."""
    reasons: Reasons = []
    rows = test.newest.evidence.get("test_rows")
    measured = {line["target"] for a, _ in test.rows for line in a.evidence["evidence"] if line["target"]}  # task.yaml may name others
    first = registry.first_limits(rows, {*targets} | measured) if rows else []
    seen = [registry.limits_of(p) for p in dict.fromkeys(a.evidence["policy"] for a, _ in test.rows) if p]
    for when, before in (("when the test split was first opened", first), *(("in the audit", audited) for audited in seen)):
        texts = ["the limits there are not known"] if before is None else policy.loosened(before, limits)
        reasons += [reason("gate.policy_changed", f"looser than {when}: {t} (fresh test rows can judge the new limit)") for t in texts]
    if reasons:
        return list({r["text"].split(": ", 1)[1]: r for r in reasons}.values()), []
    before = gate.policy_of(first)
    changed = first and before.digest != limits.digest
    text = "limits were added or tightened after the test split was first opened, none was loosened"
    return [], [reason("gate.policy_changed", text)] if changed else []


def _used(test: Test) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for limit, (a, _) in test.latest.items():
        facts = {"source": a.source, "at": a.at, "digest": a.digest, "rows": "registered" if test.registered else "other", "limits": []}
        found.setdefault(a.digest, facts)["limits"].append(limit.name)
    return list(found.values())


def _told(test: Test, audit: Audited, row: Row, own: Audited | None) -> str:
    """A reason; whose it is, where it is not of the version's own run."""
    return row.text if audit is own or own is None and test.registered else f"{row.text} ({test.called(audit)})"


def reason(code: str, text: str) -> dict[str, str]:
    return {"code": code, "text": text}


def _short(evidence: Mapping[str, Any]) -> str:
    return str(evidence.get("test_rows") or evidence["data"].get("test"))[:19]


def _tree(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
