"""An evidence.json measured again, from what lies beside it: same, or different and where."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from . import claims, evidence, find
from .auditing import audit
from .errors import refuse
from .task import load_task


def reproduce(kept: str | Path, out: str | Path) -> dict[str, Any]:
    """Every figure of an evidence.json measured again into folder out, from what lies beside it (a run, or audit.json): {"same": bool, differences}."""
    folder = Path(kept).parent
    before = evidence.read(kept)
    repeat = {f"{e['target']}:{e['metric']}": e["details"] for e in before["evidence"] if "rows" in e["details"]}
    if (folder / "model").is_dir():
        done = audit(folder, out=out, repeat=repeat)
    elif (folder / "audit.json").is_file():
        how = json.loads((folder / "audit.json").read_text("utf-8"))
        at = lambda place: None if place is None else os.path.normpath(folder / place)  # noqa: E731
        task = None if how["task"] is None else load_task(at(how["task"]))
        if "trainer" in how:
            done = claims.audit(at(how["trainer"]), at(how["statement"]), task, out)
        else:
            roles = {r: at(f) for r, f in how["data"].items()}
            given = {"budget": how.get("budget"), "only": how.get("only"), "explainer": at(how.get("explainer")), "repeat": repeat}
            done = audit(at(how["model"]), roles, task, out, **given)
    else:
        what = f"beside {kept} stands neither a model nor audit.json"
        raise refuse("audit.reproduce", what, fix="name the evidence.json in a run's or an audit's own folder")
    timed = [name for name in find.names("audits") if find.find("audits", name).clocked]
    both = (*before["evidence"], *done.evidence["evidence"])
    timed += [e["audit"] for e in both if "audit.budget" in e["reason_codes"]]  # there was no time for them
    name = lambda e: f"{e['target']}:{e['metric']}@{e['slice']}"  # noqa: E731
    short = {name(e) for e in both if e["method"] == "not measured" and any(c.endswith(".budget") for c in e["reason_codes"])}

    def figures(found: dict[str, Any]) -> dict[str, Any]:
        lines = [e for e in found["evidence"] if e["audit"] not in (*timed, "seeds", "gate") and e["method"] != "not measured"]
        return {name(e): (e["value"], e["low"], e["high"]) for e in lines if name(e) not in short}

    old, new = figures(before), figures(done.evidence)
    near = lambda a, b: a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9))  # noqa: E731
    differ = [
        {"figure": k, "before": old.get(k), "now": new.get(k)}
        for k in sorted(old.keys() | new.keys())
        if k not in old or k not in new or not all(map(near, old[k], new[k]))
    ]
    differ += [{"figure": "model", "before": before["model"], "now": done.evidence["model"]}] if before["model"] != done.evidence["model"] else []
    return {"same": not differ, "figures": len(old), "differences": differ, "folder": str(out)}
