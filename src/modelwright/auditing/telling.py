"""What a report tells, gathered from a subject and its evidence: a `Story` of plain values."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import find
from .. import metrics as m
from ..errors import Refusal
from ..foreign.predictor import Foreign
from ..forms import Prediction
from ..intervals import interval
from ..registry.gate import COUNT, clustered
from ..report.story import Story, TargetPlots
from ..subject import Subject, metrics_of
from .explanations import explained

if TYPE_CHECKING:
    from ..planning import Plan
    from ..preparing import Prepared
    from ..registry.gate import Decision


def tell(
    of: Prepared | Plan, subject: Subject, found: dict[str, Any], model: dict[str, Any], told: list[Any] = (), lines: list[Any] = (), cost: list[Any] = (),
    decision: Decision | None = None, loosened: list[str] = (),
) -> Story:  # fmt: skip
    """Everything the report shows. Examples come from validation, never from the test split. model: facts of it; told, lines, cost: of its training;
    loosened: limits that were loosened after the test rows were opened, in words."""
    target, kind = next(iter(of.schema.targets.items()))
    primary = kind.primary if of.environment is None else "episode_return"
    played = next((e for e in found["evidence"] if e["metric"] == "episode_return" and e["split"] == "test"), None)
    compared: dict[str, dict[str, Any]] = {"random": {primary: {"value": played["details"]["random"], "low": None, "high": None}}} if played else {}
    n = subject.splits["test"].num_rows
    for name in subject.baselines:
        metrics = metrics_of(subject, "test", target, name)
        compared[name] = {}
        for metric in (kind.primary, *(x for x in ("auroc", "nll") if x in metrics and x != kind.primary)):
            i = interval(metrics[metric], n, level=subject.level, clusters=subject.clusters_of("test"))
            compared[name][metric] = {"value": i.value, "low": i.low, "high": i.high}
    gain = next((e for e in found["evidence"] if e["metric"] == "accuracy.gain_over_baseline" and e["target"] == target), None)
    ahead = gain["details"]["baseline"] if gain and gain["value"] is not None and gain["value"] < 0 else None
    speaks = subject.predictor is not None and all(_answers(subject, s) for s in ("test", "validation") if s in subject.splits)
    theirs = subject.predictor.notes if isinstance(subject.predictor, Foreign) else []
    notes = list(dict.fromkeys([*of.notes, *theirs]))
    by_stage = {s["name"]: [line for line in lines if line["stage"] == s["name"] and "loss" in line] for s in told}
    lineage = [f"Stage {s['name']}: {k} {json.dumps(v, default=str)}" for s in told for k, v in s["statement"].items()]
    return Story(
        title=of.task.name or f"{target} from {named(list(of.schema.inputs))}",
        task=of.task.model_dump(),
        plan={
            "rows": {s: t.num_rows for s, t in subject.splits.items()}, "columns": of.columns, "warnings": of.warnings, "notes": notes, **model,
            "interval_level": subject.level, "calibration": subject.lineage.get("calibration"),
        },
        stages=[{**s, "objective": find.split(s["objective"])[0], "train": by_stage[s["name"]]} for s in told],
        evidence=found,
        undecided=[] if decision is None else undecided(decision),
        loosened=loosened,
        elsewhere=isinstance(subject.predictor, Foreign),
        primary=primary,
        target=target,
        baselines=compared,
        ahead=ahead,
        plots={t: plots(subject, t) for t in of.schema.truths if speaks},
        slices=[e for e in found["evidence"] if e["slice"] is not None and e["metric"] in (primary, "accuracy")],
        worst=worst(of, subject, target) if target in of.schema.truths and "validation" in subject.splits and speaks else [],
        explained=[e for t in of.schema.truths if speaks and (e := explained(subject, found, t)) is not None],
        cost=cost,
        lineage=lineage,
    )  # fmt: skip


SAMPLED = ("robustness", "explanation")  # areas that look at some of the test rows, however many there are


def undecided(decision: Decision) -> list[dict[str, Any]]:
    """What each limit that an interval spans would take: see `Story.undecided`. Rows of a slice come as often among more test rows as among these."""
    spanned = [r for r in decision.rows if r.measurement is not None and r.codes and r.codes[0].endswith(".underpowered")]
    found = []
    for r in spanned:
        m = r.measurement
        counts = m.split in COUNT and r.limit.area not in (*SAMPLED, "efficiency")
        of = None if not counts else "clusters" if clustered(m) else "rows"
        found.append({"limit": r.name, "of": of, "times": r.needed_n / m.n if r.needed_n and m.n else None})
    return found


def named(columns: list[str], most: int = 60) -> str:
    """As many whole names as fit, and how many more there are."""
    fit = next((i for i in range(len(columns), 1, -1) if len(", ".join(columns[:i])) <= most), 1)
    return ", ".join(columns[:fit]) + f" and {len(columns) - fit} more" * (fit < len(columns))


def _answers(subject: Subject, split: str) -> bool:
    """Whether the model gives an answer at all: one that fails, or came too late, has its evidence by reason code and nothing to draw."""
    try:
        subject.predict(split)
    except Refusal:
        return False
    return True


def plots(subject: Subject, target: str) -> TargetPlots:
    kind = subject.schema.targets[target]
    temperature = (subject.lineage.get("calibration") or {}).get(target, {}).get("temperature", 1.0)
    prediction = subject.predict("test")[target]
    truth = kind.encode_target(kind.column(subject.splits["test"], target))
    known, y = truth["known"], truth["values"]
    drawn = TargetPlots(kind=find.split(kind.spec)[0], labels=kind.labels_ or ())
    if kind.form == "picture":
        drawn.samples = kind.answer(target, Prediction(subject.predict("validation")[target].value[:40]))[target]
        return drawn
    if prediction.boxes is not None:
        drawn.pr = kind.curves(prediction, truth)
    if prediction.probabilities is None:
        if prediction.value is not None and kind.head == "regression":
            drawn.residual = (kind.real(y[known]), kind.real(prediction.value.numpy()[known]))
        return drawn
    p = prediction.probabilities.numpy().astype(np.float64)[known]
    y = y[known]
    drawn.after = m.reliability(y, p)
    if temperature != 1.0:  # asked again: p to the power of T holds for a softmax, not for cumulative logits
        raw = copy.deepcopy(subject.predictor)
        raw.model.heads[target].temperature.fill_(1.0)
        untempered = raw.predict(subject.splits["test"])[target].probabilities.numpy().astype(np.float64)[known]
        drawn.before = m.reliability(y, untempered)
    drawn.confusion = m.confusion(y, prediction.value.numpy()[known], p.shape[1])
    if p.shape[1] == 2:
        drawn.roc = tuple(m.roc_curve(y, p[:, 1])[:2])
        drawn.pr = {"": tuple(m.pr_curve(y, p[:, 1])[:2])}
    return drawn


def worst(of: Prepared | Plan, subject: Subject, target: str, most: int = 8) -> list[dict[str, Any]]:
    """The validation rows that the model is most wrong about; none of a model that reads nothing but noise."""
    kind = of.schema.targets[target]
    table = subject.splits["validation"]
    if all(k.drawn for k in of.schema.inputs.values()):
        return []
    metrics = metrics_of(subject, "validation", target)
    by = next((metrics[k].rows for k in ("nll", "mae") if k in metrics and metrics[k].rows is not None), None)
    if by is None and "chrf" in metrics:  # a short text has no BLEU
        by = 100 - metrics["chrf"].rows
    if by is None:  # the primary metric of each row alone
        sign = -1 if metrics[kind.primary].better == "higher" else 1
        by = np.array([sign * metrics[kind.primary].value(np.array([i])) for i in range(table.num_rows)])
    rows = np.argsort(-np.nan_to_num(by, nan=-np.inf), kind="stable")[:most]
    prediction = subject.predict("validation")[target]
    answers = kind.answer(target, prediction)[target]
    names = set(table.column_names)
    shown = [c["name"] for c in of.columns if c["role"] in ("input", "group") and c["name"] in names]
    return [
        {
            **{c: table.column(c)[int(r)].as_py() for c in shown},
            "truth": table.column(target)[int(r)].as_py(),
            "predicted": np.asarray(answers)[r],
            "loss": float(by[r]),
            **kind.illustrate(target, table, int(r), prediction),
        }
        for r in rows
    ]
