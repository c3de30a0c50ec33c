"""What a report shows of explanations: of those explainers that passed their tests, and why the others are not shown.

Bars come from the audit's own figures, heat maps and counterfactuals are made for validation rows: the test split is never shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .. import closed, find
from ..counterfactuals import counterfactuals
from ..errors import Refusal
from ..explainer import Asked, Telling
from ..report.story import Explained
from ..subject import Subject

WRONG = {
    "explanation.incomplete": "its attributions do not add up to the model's answer",
    "explanation.ignores_model": "it says the same of a model with other weights",
    "explanation.ignores_class": "it says the same of every class",
    "explanation.unstable": "asked again of nearly the same row, it says something else",
    "explanation.overlooks": "it leaves out what matters most",
    "explanation.unfaithful": "what it points to matters no more than inputs in random order",
    "explanation.shape": "it gave another shape than its input's, or values that are no numbers",
    "explanation.failed": "it failed",
    "explanation.self_test": "the tests themselves failed on a known function",
    "explanation.budget": "the time allowed was spent before it",
}
PICTURES, MAPS, CHANGES = 4, 3, 6  # at most shown: pictures, explainers of each, counterfactuals
FIRST = ("grad_cam", "shap", "permutation_importance", "lime", "occlusion")  # after the one under audit


def explained(subject: Subject, found: dict[str, Any], target: str) -> Explained | None:
    """None where no explanation of this target was measured."""
    lines = [e for e in found["evidence"] if e["audit"] == "explanation" and e["target"] == target and "explainer" in e["details"]]
    changed = any(e["audit"] == "counterfactual" and e["target"] == target for e in found["evidence"])
    told = Explained(target)
    for name in dict.fromkeys(e["details"]["explainer"] for e in lines):
        mine = [e for e in lines if e["details"]["explainer"] == name]
        why = [WRONG[c] for c in dict.fromkeys(c for e in mine for c in e["reason_codes"]) if c in WRONG]
        if not why and all(e["value"] is None for e in mine if e["metric"] == "explanation.fidelity"):
            why = [str(mine[-1]["details"].get("why", "it was not measured"))]
        if why:
            told.hidden.append({"explainer": name, "why": "; ".join(why)})
        else:
            told.shown.append(name)
            told.bars |= {name: mine[0]["details"]["importance"]} if "importance" in mine[0]["details"] else {}
    drawn = [*told.shown[:1], *(n for n in FIRST if n in told.shown[1:])][:MAPS]
    told.bars = {n: told.bars[n] for n in drawn if n in told.bars}
    if "validation" in subject.splits and subject.predictor is not None:
        if told.shown and closed.form(subject.schema) == "picture" and subject.schema.targets[target].labels_:
            told.pictures = heat(subject, target, drawn)
        if changed and closed.form(subject.schema) == "table":
            told.changes = changes(subject, target)
    return told if lines or changed else None


def heat(subject: Subject, target: str, names: list[str]) -> list[dict[str, Any]]:
    """Pictures (C, H, W) in [0, 1] of the first validation rows, each with a map (H, W) by explainer."""
    table, kind = subject.splits["validation"].slice(0, 64), subject.schema.targets[target]
    part = table.slice(0, PICTURES)
    said = [kind.labels_[i] for i in subject.predictor.predict(part)[target].value.tolist()]
    shown = [{"truth": t, "predicted": p, "maps": {}} for t, p in zip(part.column(target).to_pylist(), said)]
    for name in names:
        explainer, call = (None, subject.explainers[name]) if name in subject.explainers else (find.make("explainers", name), None)

        def asked(rows: pa.Table, call=call, explainer=explainer) -> Asked:
            got = call.opened(target, rows) if isinstance(call, Telling) else None
            got = got or closed.opened(subject.predictor, subject.schema, target, rows, subject.open, getattr(explainer, "gradients", False))
            return Asked(got, target, rows.select([n for n in subject.schema.inputs if n in rows.column_names]))

        f, base = asked(part), asked(table).x.mean(0)
        with torch.no_grad():
            classes = f(f.x).argmax(1)
        try:
            rng = torch.Generator().manual_seed(subject.seed)
            maps = explainer.explain(f, f.x, classes, base, rng) if call is None else call(f, f.x, classes, base)
        except (Refusal, RuntimeError):
            continue
        for row, x, m in zip(shown, f.x, maps):
            row["picture"] = x.float().numpy()
            row["maps"][name] = m.detach().float().sum(0).numpy()
    return [row for row in shown if "picture" in row]


def changes(subject: Subject, target: str) -> list[dict[str, Any]]:
    """For validation rows, those decided wrongly first: what would have had to be otherwise."""
    kind, table = subject.schema.targets[target], subject.splits["validation"]
    truth = kind.encode_target(kind.column(table, target))
    wrong = truth["known"] & (truth["values"] != subject.predict("validation")[target].value.numpy())
    rows = np.argsort(~wrong, kind="stable")[:CHANGES]
    found = counterfactuals(subject.predictor, subject.schema, target, table.take(pa.array(rows)), subject.splits.get("train", table), subject.seed)
    name = lambda i: kind.labels_[i]  # noqa: E731
    return [
        {"row": int(r), "truth": table.column(target)[int(r)].as_py(), "before": name(c.before), "after": name(c.after), "cells": c.cells}
        for r, c in zip(rows, found)
        if c is not None
    ]
