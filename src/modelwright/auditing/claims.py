"""The audit of a private training from elsewhere: its trainer is tried in a process of its own, and its statement's claim is a limit.

The claim, `privacy.epsilon <= claim.epsilon`, is judged beside the limits of a task where there is one. There is no model, and no row of data: the evidence
is bound to the trainer's file and to the statement's text.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .. import evidence, home, report
from ..curves import Log
from ..data.schema import Schema
from ..errors import refuse
from ..foreign import trainer
from ..home import write
from ..lock import unwritten
from ..registry import gate
from ..registry import policy as policies
from ..registry.store import Registry
from ..report.story import Story
from ..subject import Subject
from ..task import Task
from . import WRITES, Audited, code_digest, measure, relative

METRIC = "privacy.epsilon"


def audit(
    path: str, statement: str | Path, task: Task | None = None, out: str | Path = "audit", *, budget: float | None = None, log: Log = lambda event, facts: None
) -> Audited:  # fmt: skip
    """path: FILE.py:factory; statement: a JSON file. Raises a Refusal where there is no trainer, or no claim."""
    folder, said = Path(out), trainer.read_statement(statement)
    unwritten(folder, WRITES)
    claimed = said["claim"].get("epsilon")
    if isinstance(claimed, bool) or not isinstance(claimed, (int, float)) or not 0 < claimed < float("inf"):
        what = f"claim.epsilon is {claimed!r}"
        raise refuse("trainer.statement", what, why="a claim is a positive number", where="--statement", fix='"claim": {"epsilon": 3.0, "delta": 1e-5, ...}')
    claim = gate.parse({METRIC: f"<= {float(claimed)!r}"}, where="--statement: claim.epsilon")
    policy = claim if task is None else policies.tightest(claim, policies.of_task(task))
    tried, digest = trainer.there(path)
    code, data = code_digest(), {"train": "sha256:" + hashlib.sha256(Path(statement).read_bytes()).hexdigest()}
    subject = Subject(None, Schema({}, {}), {}, level=gate.level_for(policy), lineage={"code": code, "statement": said}, trainer=tried)
    measured = measure(subject, budget, ["private_training"], log)
    for line in measured:
        line.split, line.digests = "train", {"model": digest, "data": data["train"], "code": code}
    decision = gate.decide(policy, measured, digests={"model": digest, "data": data, "code": code})
    found = evidence.build(measured, decision, model=digest, data=data, code=code, policy=policy, test_openings=0)
    Registry().record(found, folder.name)
    folder.mkdir(parents=True, exist_ok=True)
    again = {"trainer": relative(path, folder), "statement": relative(str(statement), folder)}
    again["task"] = None if task is None else relative(str(Path(task.root, task.file)), folder)
    write(folder / "audit.json", home.sealed(again))
    write(folder / "evidence.json", evidence.dumps(found))
    story = _story(path, said, found, measured[0].details, tried.facts)
    report.write(folder, story)
    return Audited(folder, found, story)


def _story(path: str, said: dict, found: dict, details: dict, facts: dict) -> Story:
    claim, rows = said["claim"], said.get("rows")
    words = [f"claimed: epsilon {claim['epsilon']:g} at delta {claim.get('delta')}, {claim.get('neighbours')}, by {claim.get('accountant')}"]
    words += list(details.get("found") or [details.get("error")] if details.get("found") or details.get("error") else ["nothing was found against it"])
    plan = {"rows": {"train": rows} if isinstance(rows, int) else {}, "statement": {k: v for k, v in said.items() if k != "claim"}}
    plan |= {"the trainer says": {k: v for k, v in facts.items() if k not in ("cuts", "lacks")}, "measured": details.get("measured") or {}}
    return Story(f"Private training: {Path(path).name}", plan=plan, evidence=found, primary=METRIC, lineage=words)
