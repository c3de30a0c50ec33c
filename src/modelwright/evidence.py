"""evidence.json: what was measured, on which bytes, and what was decided; and the digests (`digests.py`) that bind the three."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .errors import Problem, Refusal, refuse
from .forms import Measurement
from .home import plain
from .registry.gate import Decision, Policy, area_of

SCHEMA = 1
FIELDS: dict[str, tuple[type | None, ...]] = {  # of a line of evidence
    **dict.fromkeys(("audit", "metric", "split", "method"), (str,)),
    **dict.fromkeys(("target", "slice", "limit", "verdict"), (str, None)),
    **dict.fromkeys(("value", "low", "high", "level"), (int, float, None)),
    **dict.fromkeys(("n", "seed"), (int,)),
    **dict.fromkeys(("details", "digests"), (dict,)),
    "seconds": (int, float),
    "reason_codes": (list,),
}
HEAD: dict[str, tuple[type | None, ...]] = {
    **dict.fromkeys(("schema", "test_openings"), (int,)),
    **dict.fromkeys(("code", "policy"), (str, None)),
    "model": (str,),
    "data": (dict,),
    "decision": (dict, None),
    "evidence": (list,),
}
VERDICTS = ("pass", "fail", "inconclusive", None)


def build(
    measurements: list[Measurement],
    decision: Decision | None,
    *,
    model: str,
    data: Mapping[str, str],
    code: str | None,
    policy: Policy | None,
    test_openings: int,
    test_rows: str | None = None,
) -> dict[str, Any]:
    """The object of evidence.json. test_rows: the digest by which openings are counted. What is not a finite number becomes null, with a reason code; a
    limit that nothing was measured for has a line of its own."""
    rows = [] if decision is None else decision.rows
    entries = []
    for m in measurements:
        mine = [r for r in rows if r.measurement is m]
        entries += [_entry(m, r.limit.text, r.verdict, r.codes) for r in mine] or [_entry(m, None, None, [])]
    for r in rows:
        if r.measurement is None:
            nothing = Measurement("gate", r.limit.metric, r.limit.target, "test", r.limit.slice, None, None, None, 0.0, 0, "not measured", 0, 0.0)
            entries.append(_entry(nothing, r.limit.text, r.verdict, r.codes))
    decided = None if decision is None else {"verdict": decision.verdict, "reasons": decision.reasons}
    return {
        "schema": SCHEMA,
        "model": model,
        "data": dict(data),
        "code": code,
        "decision": decided,
        "test_openings": test_openings,
        "test_rows": test_rows,
        "policy": policy.digest if policy and policy.limits else None,
        "evidence": entries,
    }


def meaning(tree: Mapping[str, Any], ours: bool) -> str:
    """Digest of what a task says that figures rest on beside model and rows: what is drawn, who belongs together, what texts are held to; of a model from
    elsewhere also its columns, groups and labels, which our own carries itself. tree: a task's, with defaults filled in."""
    audit = tree.get("audit") or {}
    said = {"seed": tree.get("seed", 0)} | {k: audit.get(k) for k in ("clusters", "safety", "synonyms", "secret")}
    if not ours:
        said |= {"columns": (tree.get("data") or {}).get("columns"), "target": tree.get("target")}
    return "sha256:" + hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def _entry(m: Measurement, limit: str | None, verdict: str | None, codes: list[str]) -> dict[str, Any]:
    line = {f.name: _plain(getattr(m, f.name)) for f in fields(Measurement) if f.name != "reasons"}
    codes = [*codes, *(c for c in m.reasons if c not in codes)]
    if line["value"] is None and not codes:
        codes.append(f"{area_of(m.metric, m.slice)}.not_a_number")
    elif line["value"] is not None and None in (line["low"], line["high"]) and not codes:
        codes.append(f"{area_of(m.metric, m.slice)}.no_interval")
    return {**line, "limit": limit, "verdict": verdict, "reason_codes": codes}


def _plain(x: Any) -> Any:
    """As JSON: numpy's scalars and arrays as Python's, what is not finite as null, keys as text."""
    if isinstance(x, np.ndarray | np.generic):
        x = x.tolist()
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, Mapping):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple | set):
        return [_plain(v) for v in x]
    assert x is None or isinstance(x, str | int | bool), f"{type(x).__name__} in a measurement"
    return x


def dumps(evidence: Mapping[str, Any]) -> str:
    """The text of evidence.json: sorted keys, no NaN, the same bytes for the same evidence."""
    return json.dumps(evidence, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: str | Path) -> dict[str, Any]:
    """evidence.json, checked; a Refusal lists all that is wrong. The decision in it is a record: to promote, decide again from `measurements`."""
    where = str(path)
    try:
        found = json.loads(plain(Path(path)).read_bytes(), parse_constant=lambda name: name, object_pairs_hook=_once)  # NaN and Infinity are text, and refused
    except FileNotFoundError:
        raise refuse(
            "evidence.missing", "there is no evidence", where=where, fix="run the audit first: `modelwright audit MODEL --data FILE`"
        ) from None
    except (ValueError, RecursionError) as e:
        raise refuse(
            "evidence.unreadable", f"not JSON: {e}", where=where, why="the file was cut short or edited", fix="run the audit again"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("schema"), int):
        raise refuse("evidence.unreadable", "not an evidence file: no schema version", where=where, fix="run the audit again")
    if found["schema"] > SCHEMA:
        why = f"this Modelwright reads up to {SCHEMA}"
        raise refuse("evidence.newer", f"schema {found['schema']} is newer than this Modelwright", where=where, why=why, fix="upgrade Modelwright")
    problems = _wrong(found, HEAD, where)
    if isinstance(found.get("decision"), dict):
        problems += _wrong(found["decision"], {"verdict": (str,), "reasons": (list,)}, f"{where}: decision")
    for i, line in enumerate(found["evidence"] if isinstance(found.get("evidence"), list) else []):
        problems += _wrong(line, FIELDS, f"{where}: evidence.{i}")
    if problems:
        raise Refusal(problems)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice would be read in one way here, and in another elsewhere."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _wrong(x: Any, spec: Mapping[str, tuple[type | None, ...]], where: str) -> list[Problem]:
    def bad(what: str) -> Problem:
        return Problem("evidence.unreadable", what, "the file was edited or is not ours", where, "run the audit again")

    if not isinstance(x, dict):
        return [bad(f"{x!r} is not an object")]
    found = [bad(f"{k!r} is missing") for k in spec if k not in x]
    for key, kinds in spec.items():
        value = x.get(key)
        fits = any(value is None if k is None else isinstance(value, k) and not isinstance(value, bool) for k in kinds)
        if key in x and not (fits and (not isinstance(value, float) or math.isfinite(value))):
            found.append(bad(f"{key} is {value!r}, not {' or '.join('null' if k is None else k.__name__ for k in kinds)}"))
    if "verdict" in x and x["verdict"] not in VERDICTS:
        found.append(bad(f"verdict is {x['verdict']!r}"))
    return found


def measurements(evidence: Mapping[str, Any]) -> list[Measurement]:
    """What was measured, from a checked evidence object; each once, though several limits may speak of it."""
    names, found = [f.name for f in fields(Measurement) if f.name != "reasons"], {}
    for line in evidence["evidence"]:
        if line["audit"] != "gate":
            m = Measurement(**{n: line[n] for n in names}, reasons=[])
            found[json.dumps([line[n] for n in names], sort_keys=True)] = m
    return list(found.values())
