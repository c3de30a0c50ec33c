"""Draw, audit, decide, count: faults refused for the right reason, twins wrongly refused, inconclusive; with exact (Clopper-Pearson) intervals."""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import time

import numpy as np

from modelwright import auditing
from modelwright.intervals import interval
from modelwright.kind import Metric
from modelwright.registry import gate

from . import Planted

DIGEST = "sha256:" + "0" * 64
HERE = pathlib.Path(__file__).parent


def judge(planted: Planted, seed: int, faulty: bool) -> tuple[str, set[str]]:
    """(verdict, reason codes) of one draw."""
    subject = planted.make(seed, faulty)
    policy = gate.parse(planted.limits, where=planted.audit)
    subject.level, subject.lineage = gate.level_for(policy), {"code": DIGEST, **subject.lineage}
    measured = auditing.measure(subject, only=[planted.audit])
    data = dict.fromkeys(subject.splits, DIGEST)
    for line in measured:
        line.digests = {"model": DIGEST, "data": DIGEST, "code": DIGEST}
    decision = gate.decide(policy, measured, digests={"model": DIGEST, "data": data, "code": DIGEST})
    return decision.verdict, {r["code"] for r in decision.reasons}


def share(hits: list[bool]) -> str:
    if not hits:
        return "-"
    i = interval(Metric.mean(np.array(hits, float)), len(hits), level=0.95)
    return f"{100 * i.value:.1f} % [{100 * i.low:.1f}, {100 * i.high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*")
    parser.add_argument("--draws", type=int, default=5, help="seeds of each kind, each with its fault and as a twin; costly kinds a third of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    areas = args.areas or sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))
    lines = []
    for area in areas:
        refused, right, wrongly, unsure, began, kinds = [], [], [], [], time.perf_counter(), {}
        for name, planted in importlib.import_module(f"benchmarks.auditor.{area}").KINDS.items():
            for draw in range(max(1, args.draws // 3) if planted.costly else args.draws):
                seed = args.seed + 1000 * draw + sum(map(ord, name))
                verdict, codes = judge(planted, seed, True)
                refused.append(verdict != "pass")
                right.append(verdict != "pass" and planted.expects in codes)
                twin, twin_codes = judge(planted, seed, False)
                wrongly.append(twin == "fail")
                unsure.append(twin == "inconclusive")
                if not right[-1] or twin != "pass":
                    kinds.setdefault(name, []).append((seed, verdict, sorted(codes), twin, sorted(twin_codes)))
        line = {
            "area": area, "faults": len(refused), "refused": share(refused), "for the right reason": share(right),
            "twins wrongly refused": share(wrongly), "twins inconclusive": share(unsure), "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        lines.append(line)
        print(json.dumps(line) if args.json else "  ".join(f"{k} {v}" for k, v in line.items()), flush=True)
        for name, slips in kinds.items():
            print(f"    {name}: " + "; ".join(map(str, slips[:3])), flush=True)


if __name__ == "__main__":
    main()
