"""What a report tells: everything that `run` knows at its end, as plain Python values. Only the title is needed; what is missing is left out.

Numbers may be None or NaN, text may be anything: it is escaped, cleaned of control characters and cut where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Curve = tuple[Sequence[float], Sequence[float]]  # x (N,), y (N,)
Bins = tuple[Sequence[float], Sequence[float], Sequence[int]]  # confidence (M,), accuracy (M,), count (M,); empty bins may be NaN


@dataclass
class TargetPlots:
    """What is drawn of one target, on the split named; each part may be missing."""

    kind: str = ""
    labels: Sequence[str] = ()  # K
    split: str = "test"
    before: Bins | None = None  # reliability, before and after temperature scaling
    after: Bins | None = None
    roc: Curve | None = None  # false positive rate, true positive rate
    pr: Mapping[str, Curve] = field(default_factory=dict)  # {class, "" of two classes: (recall, precision)}
    confusion: Any = None  # (K, K) counts, rows are the truth
    residual: Curve | None = None  # truth, predicted
    samples: Sequence[bytes] = ()  # pictures that the model made of validation rows


@dataclass
class Explained:
    """What is shown of explanations of one target."""

    target: str
    shown: list[str] = field(default_factory=list)  # explainers that passed their tests
    hidden: list[Mapping[str, str]] = field(default_factory=list)  # explainer, why it is not shown
    bars: dict[str, Mapping[str, float]] = field(default_factory=dict)  # {explainer: {column: mean |attribution|}}, the largest first
    pictures: Sequence[Mapping[str, Any]] = ()  # picture (C, H, W) in [0, 1], maps {explainer: (H, W)}, truth, predicted
    changes: Sequence[Mapping[str, Any]] = ()  # row, truth, before, after, cells {column: (as it is, as it would have to be)}


@dataclass
class Story:
    title: str
    task: Mapping[str, Any] = field(default_factory=dict)  # as resolved
    plan: Mapping[str, Any] = field(default_factory=dict)
    """rows {split: n}; columns [{name, kind, describe, role}]; warnings [text]; all other keys (components, trainable, device, precision, facts, ...)
    are shown under their own names: text, a number, a list or a mapping."""
    stages: Sequence[Mapping[str, Any]] = ()
    """name, objective, seconds, steps; history [{step, loss, ...}], the validations; train [{step, loss, lr}]."""
    evidence: Mapping[str, Any] = field(default_factory=dict)  # of evidence.json
    undecided: Sequence[Mapping[str, Any]] = ()
    """Limits that intervals span: limit (with its name); of, what would decide: rows of the test, clusters of them, or None (training rows, readings, a
    sample that more test rows do not enlarge); times, how many times as many it takes (None: no number will do)."""
    cleaning: int = 0  # steps that cleaning.yaml proposes
    loosened: Sequence[str] = ()  # limits that were loosened after the test split was opened, in words
    elsewhere: bool = False  # a model that was trained elsewhere, and only audited here
    primary: str | None = None  # the metric that counts first, e.g. "auroc"
    target: str | None = None  # the target it is of; None: the first that has it
    baselines: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)  # {name: {metric: {value, low, high}}}
    ahead: str | None = None  # the name of a baseline that is ahead of the model
    plots: Mapping[str, TargetPlots] = field(default_factory=dict)  # by target
    slices: Sequence[Mapping[str, Any]] = ()  # slice, metric, value, low, high, n
    worst: Sequence[Mapping[str, Any]] = ()  # validation rows {column: value}, with truth, predicted, loss; bytes of a picture become a thumbnail
    explained: Sequence[Explained] = ()
    cost: Sequence[Mapping[str, Any]] = ()  # stage, seconds, memory_mb
    lineage: Sequence[str] = ()  # sentences: base model, privacy, what saw which rows

    def lines(self) -> list[Mapping[str, Any]]:
        """The lines of evidence."""
        return list(self.evidence.get("evidence") or ())

    def headline(self) -> Mapping[str, Any] | None:
        """The line of evidence of the primary metric: on the whole test split, or None."""
        whole = [e for e in self.lines() if e.get("metric") == self.primary and e.get("slice") is None and e.get("split") == "test"]
        return next((e for e in whole if self.target in (None, e.get("target")) and e.get("value") is not None), None)
