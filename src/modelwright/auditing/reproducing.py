"""An evidence.json measured again, from what lies beside it: same, or different and where; and what cannot be measured again, in words.

Every field of every line is compared, and so are decision, digests and limits. What no repetition can show is said, and believed for the decision
alone: readings of a clock, what there was no time for, and other seeds' trainings. The level of intervals is the evidence's own: `test_models` of its
lines. `recorded` says whether the registry has these very bytes: what was changed since, or was measured elsewhere, is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import evidence, find, home
from ..errors import refuse
from ..forms import Measurement
from ..intervals import over_seeds
from ..registry import gate
from ..registry import policy as policies
from ..registry.store import Registry
from ..subject import due
from ..task import load_task
from . import Audited, absolute, audit, claims

Line = dict[str, Any]


def reproduce(kept: str | Path, out: str | Path) -> dict[str, Any]:
    """Every figure of an evidence.json measured again into folder out, from what lies beside it (a run, or audit.json).

    {"same": bool, "figures": how many were compared, "differences": [{figure, before, now}], "skipped": [{figure, why, before, now}], "recorded": bool}"""
    folder, before = Path(kept).parent, evidence.read(kept)
    recorded = Registry().recorded(f"sha256:{hashlib.sha256(Path(kept).read_bytes()).hexdigest()}") is not None
    done, policy, budget = _again(folder, before, out)
    skipped: list[dict[str, Any]] = []
    lines = [e for e in before["evidence"] if not _beside(e, folder, skipped)]
    expected = done.evidence if policy is None else _believed(lines, done.evidence, policy, budget, skipped)
    differences = _differences({**before, "evidence": lines}, expected)
    if before["code"] != expected["code"]:
        skipped.append({"figure": "code", "why": "another Modelwright measured it", "before": before["code"], "now": expected["code"]})
    found = {"same": not differences, "figures": len(lines) - len({s["figure"] for s in skipped} & {_name(e) for e in lines}), "differences": differences}
    return found | {"skipped": skipped, "recorded": recorded, "folder": str(out)}


def _again(folder: Path, before: dict[str, Any], out: str | Path) -> tuple[Audited, gate.Policy | None, float | None]:
    """What is measured now; its limits (None: of a claim); the budget that was declared."""
    repeat = {f"{e['target']}:{e['metric']}": e["details"] for e in before["evidence"] if "rows" in e["details"]}
    said = (e["details"].get("test_models") for e in before["evidence"])
    models = next((m for m in said if type(m) is int and m > 0), 1)
    if (folder / "model").is_dir():
        policy = policies.of_task(load_task(folder / "task.yaml"))
        return audit(folder, out=out, repeat=repeat, only=due({limit.area for limit in policy.limits}), models=models), policy, None
    if not (folder / "audit.json").is_file():
        what = f"beside the evidence in {folder} stands neither a model nor audit.json"
        raise refuse("audit.reproduce", what, fix="name the evidence.json in a run's or an audit's own folder")
    how = home.kept(folder / "audit.json", "task")
    if not how.keys() >= {"trainer", "statement"} and not (how.keys() >= {"model"} and isinstance(how.get("data"), dict)):
        raise refuse("run.damaged", "audit.json says neither model and data nor trainer and statement", where=str(folder), fix="audit anew")
    at = partial(absolute, folder=folder)
    task = None if how["task"] is None else load_task(at(how["task"]))
    if "trainer" in how:
        return claims.audit(at(how["trainer"]), at(how["statement"]), task, out), None, None
    roles, budget = {r: at(f) for r, f in how["data"].items()}, how.get("budget")
    done = audit(at(how["model"]), roles, task, out, budget=budget, only=how.get("only"), explainer=at(how.get("explainer")), repeat=repeat, models=models)
    task = task or (load_task(Path(at(how["model"]), "task.yaml")) if how["model"] and Path(at(how["model"]), "task.yaml").is_file() else None)
    return done, policies.of_task(task) if task else gate.parse({}), budget


def _beside(e: Line, folder: Path, skipped: list[dict[str, Any]]) -> bool:
    """Whether a line stands beside what the audits of a finished model say: a run's seeds. It must be what its record says."""
    if not (folder / "model").is_dir() or e["limit"] is not None or e["audit"] != "seeds":
        return False
    kept, values = home.kept(folder / "lineage.json", "seeds"), e["details"].get("values")
    if e["split"] != "validation" or not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        return False
    i = over_seeds(np.array(values))
    wanted = (len(values), float(i.value), float(i.low), float(i.high), i.method)
    fits = len(values) == kept["seeds"] > 1 and _near([*wanted], [e[k] for k in ("n", "value", "low", "high", "method")])
    why = "other seeds would have to be trained anew; mean and interval are those of the values that it names"
    skipped.extend([{"figure": _name(e), "why": why, "before": e["value"], "now": None}] * fits)
    return fits


def _believed(lines: list[Line], now: dict[str, Any], policy: gate.Policy, budget: float | None, skipped: list[dict[str, Any]]) -> dict[str, Any]:
    """The evidence as it should be: what was measured now, save where that cannot be shown, and what the gate says to it."""
    old, measured = {_name(e): m for e, m in _measurements(lines)}, []
    short = lambda m: any(c.endswith(".budget") for c in m.reasons)  # noqa: E731
    late = lambda m: short(m) and m.value is None and (budget is not None or "audit.budget" not in m.reasons)  # noqa: E731
    cut = {m.audit for m in old.values() if late(m)}

    def skip(name: str, why: str, was: Measurement | None, is_: Measurement | None) -> None:
        skipped.append({"figure": name, "why": why, "before": was and was.value, "now": is_ and is_.value})

    def theirs(m: Measurement) -> Measurement:
        """A line of the old file, as one of this: on the same bytes, or it counts for nothing."""
        digests = m.digests | {"model": now["model"], "data": now["data"].get(m.split), "code": now["code"]}
        return replace(m, digests=digests, details={k: now["test_openings"] if k == "test_openings" else v for k, v in m.details.items()})

    for e, m in _measurements(now["evidence"]):
        name, was = _name(e), old.pop(_name(e), None)
        if was is None and m.audit in cut:
            skip(name, "there was no time for it", was, m)
        elif was is not None and (late(was) or short(m) and (short(was) or m.value is None)):
            skip(name, "there was no time for it", was, m)
            measured.append(theirs(was))
        elif was is not None and m.metric in find.find("audits", m.audit).clocked:
            skip(name, "a reading of a clock, or of a process's memory", was, m)
            details = m.details | {k: v for k, v in was.details.items() if k in m.details and not k.startswith("test_")}
            reasons = [] if m.reasons == ["efficiency.no_interval"] else m.reasons  # too few readings for an end: as those there were
            measured.append(replace(m, value=was.value, low=was.low, high=was.high, n=was.n, details=details, reasons=reasons))
        else:
            measured.append(m)
    for name, m in old.items():
        if late(m):
            skip(name, "there was no time for it", m, None)
            measured.append(theirs(m))
    decision = gate.decide(policy, measured, digests={k: now[k] for k in ("model", "data", "code")})
    named = {k: now[k] for k in ("model", "data", "code", "test_openings", "test_rows")}
    return evidence.build(measured, decision, policy=policy, **named)


def _measurements(lines: list[Line]) -> list[tuple[Line, Measurement]]:
    """What was measured, each once, with its own reasons: those of a limit that does not hold begin with the gate's."""
    names, found = [f.name for f in fields(Measurement) if f.name != "reasons"], {}
    for e in lines:
        if e["audit"] != "gate":
            reasons = e["reason_codes"][e["verdict"] in ("fail", "inconclusive") :]
            found.setdefault(json.dumps([e[n] for n in names], sort_keys=True), (e, Measurement(**{n: e[n] for n in names}, reasons=reasons)))
    return list(found.values())


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """All that is not the same, but for seconds, the count of openings, which goes on, and the code's digest."""
    old, new = _by_name(before), _by_name(now, any("task" in e["digests"] for e in before["evidence"]))
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name, []), new.get(name, [])
        if len(a) != len(b):
            found.append({"figure": name, "before": [e["value"] for e in a] or "not there", "now": [e["value"] for e in b] or "not there"})
        for x, y in zip(a, b, strict=False):
            keys = [k for k in y if not _near(x[k], y[k])]
            for k in keys:
                was, is_ = x[k], y[k]
                if k == "details":  # those that differ
                    some = [d for d in was.keys() | is_.keys() if d not in was or d not in is_ or not _near(was[d], is_[d])]
                    was, is_ = ({d: v for d, v in of.items() if d in some} for of in (was, is_))
                found.append({"figure": name if k == "value" else f"{name} {k}", "before": was, "now": is_})
    heads = [k for k in ("schema", "model", "data", "policy", "test_rows") if before.get(k) != now[k]]
    heads += ["decision"] if _said(before["decision"]) != _said(now["decision"]) else []
    return [{"figure": k, "before": before.get(k), "now": now[k]} for k in heads] + found  # first what explains the rest


def _by_name(whole: dict[str, Any], task: bool = True) -> dict[str, list[Line]]:
    """Lines by what they speak of, without what differs from time to time; what must be the file's own counts as such. task: with its digest, which
    older files have not."""
    found = defaultdict(list)
    for e in whole["evidence"]:
        its, told = e["digests"], e["details"].get("test_openings")
        whose = {"code": whole["code"], "model": whole["model"], "data": whole["data"].get(e["split"])}  # what became another is said once, of the whole
        own = {k: its.get(k) == v or k == "code" and its.get(k) is None for k, v in whose.items()}
        own |= {"openings": told == (whole["test_openings"] if e["split"] == "test" and e["audit"] != "gate" else None)}
        details = {k: v for k, v in e["details"].items() if k != "test_openings" and "seconds" not in k}
        details |= {"test_models": details.get("test_models", 1)}  # older files say nothing of it
        line = {k: v for k, v in e.items() if k not in ("seconds", "details", "digests")}
        digests = {k: v for k, v in its.items() if task or k != "task"} | dict.fromkeys(whose.keys() & its.keys())
        found[_name(e)].append(line | {"details": details, "digests": digests, "of this file": own})
    return found


def _said(decision: dict[str, Any] | None) -> Any:
    return decision and (decision["verdict"], sorted(json.dumps(r, sort_keys=True) for r in decision["reasons"]))


def _name(e: Line) -> str:
    return f"{e['target']}:" * (e["target"] is not None) + e["metric"] + f"@{e['slice']}" * (e["slice"] is not None) + f" ({e['audit']}, {e['split']})"


def _near(a: Any, b: Any) -> bool:
    """Equal, but for the last digits of a number."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_near(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_near, a, b))
    if type(a) in (int, float) and type(b) in (int, float):
        return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return type(a) is type(b) and a == b
