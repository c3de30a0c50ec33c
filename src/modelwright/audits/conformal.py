"""Sets that hold the truth with a promised share: split conformal prediction, its coverage and size on the test split.

Angelopoulos & Bates 2021, section 1: a score on the calibration split, its ceil((n + 1) level) / n quantile as the threshold, and for a new row all
answers whose score is not above it. Classes: 1 - probability of the class (LAC: the smallest sets), or adaptive sets (APS, Romano et al. 2020,
equation 5 without randomisation). Numbers: the distance from the prediction, or from its quantiles where it has some (CQR, Romano et al. 2019). In
9 of 10 repetitions coverage is near the level, but it depends on the calibration rows: Beta(n + 1 - l, l) for l = floor((n + 1)(1 - level)); its
interval here is of these sets on other test rows. A declared slice has figures of its own (`conformal.coverage@sex=f`), and `worst_slice_coverage` is the
least of declared slices, groups and their crossings of at least 30 rows: what is covered on average may leave out the few. Refused
(`conformal.too_few`) where the calibration split is too small for any finite threshold at the level; refused too (`conformal.shared_rows`) where
calibration rows are test rows, answer and all, oftener than test rows repeat one another: such a threshold covers these rows and no others. The
temperature was fitted on the same calibration rows: one number, whose effect on coverage is below 1 / n.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from ..checks.copies import equal_rows
from ..forms import Measurement, Prediction
from ..intervals import Interval, interval
from ..kind import Kind, Metric
from ..subject import Audit, Subject, groups_of, rows_of


class Conformal(Audit):
    def __init__(self, level: float = 0.9, score: Literal["lac", "aps"] = "lac"):
        if not 0 < level < 1:
            raise ValueError(f"level ({level}) must lie between 0 and 1")
        self.level, self.score = level, score

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            if kind.head not in ("classes", "binary", "ordered", "regression"):
                continue
            began = time.perf_counter()
            if "calibration" not in subject.splits:
                found += [self._line(subject, name, target, None, None, None, 0, began, "none", {}, ["conformal.no_calibration"]) for name in NAMES]
                continue
            shared, usual = repeats(subject, target)
            if shared > usual + SHARED:
                why = f"{shared:.1%} of the calibration rows are test rows, answer and all, where {usual:.1%} could be chance"
                found += [self._line(subject, name, target, None, None, None, 0, began, "none", {"why": why}, ["conformal.shared_rows"]) for name in NAMES]
                continue
            scores, known = self._scores(subject, "calibration", target, kind)
            q = threshold(scores[known], self.level)
            if not math.isfinite(q):
                n = int(known.sum())
                details = {"calibration_rows": n, "needed": math.ceil(self.level / (1 - self.level) - 1e-9)}
                found += [self._line(subject, name, target, None, None, None, n, began, "none", details, ["conformal.too_few"]) for name in NAMES]
                continue
            found += self._judge(subject, target, kind, q, int(known.sum()), began)
        return found

    def _judge(self, subject: Subject, target: str, kind: Kind, q: float, calibrated: int, began: float) -> list[Measurement]:
        scores, known = self._scores(subject, "test", target, kind)
        prediction, clusters = subject.predict("test")[target], subject.clusters_of("test")
        held = np.where(known, scores <= q, np.nan)
        size = self._size(prediction, kind, target, q)
        details: dict[str, Any] = {"threshold": q, "calibration_rows": calibrated, "nominal": self.level, "score": self._name(prediction), "groups": {}}
        table = subject.splits["test"]
        parts = {slice: rows_of(table, slice) for slice in subject.slices}
        for columns in subject.groupings(table):
            group, names = groups_of(table, columns)
            parts = {name: group == g for g, name in enumerate(names)} | parts
        parts, lines = {s: r & known for s, r in parts.items()}, []

        def one(metric: Metric, rows: np.ndarray, level: float) -> Interval:
            return interval(metric, int(rows.sum()), level=level, clusters=None if clusters is None else clusters[rows], seed=subject.seed)

        for slice, rows in parts.items():
            if rows.any():
                i = one(Metric.mean(held[rows]), rows, subject.level)
                details["groups"][slice] = {"coverage": i.value, "low": i.low, "high": i.high, "n": int(rows.sum()), "mean_size": float(size[rows].mean())}
        for slice, rows in ((None, np.ones(len(held), bool)), *((s, parts[s]) for s in subject.slices)):
            for name, metric in (("coverage", Metric.mean(held[rows])), ("mean_size", Metric.mean(size[rows], "lower"))):
                i = one(metric, rows, subject.level)
                empty = float((size[rows] == 0).mean()) if rows.any() else None
                more = details if name == "coverage" else {"calibration_rows": calibrated, "empty_sets": empty}
                reasons = [] if rows.any() else ["slice.empty"]
                lines.append(self._line(subject, name, target, i.value, i.low, i.high, int(rows.sum()), began, i.method, more, reasons, slice))
        judged = {s: r for s, r in parts.items() if r.sum() >= LEAST}
        if judged:
            sure, wide = ([one(Metric.mean(held[r]), r, level) for r in judged.values()] for level in (subject.level, 1 - (1 - subject.level) / len(judged)))
            worst = min(range(len(judged)), key=lambda j: sure[j].value)
            name, method = list(judged)[worst], f"worst of {len(judged)} slices, high end corrected for them"
            ends = sure[worst].value, min(i.low for i in sure), min(i.high for i in wide)
            lines.append(self._line(subject, "worst_slice_coverage", target, *ends, int(judged[name].sum()), began, method, {"worst": name}, []))
        return lines

    def _name(self, prediction: Prediction) -> str:
        if prediction.probabilities is not None:
            return self.score
        return "quantiles" if prediction.quantiles is not None else "absolute residual"

    def _scores(self, subject: Subject, split: str, target: str, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
        """(N,) the truth's score, and (N,) bool: where there is a truth."""
        prediction = subject.predict(split)[target]
        truth = kind.encode_target(kind.column(subject.splits[split], target))
        y = truth["values"]
        if prediction.probabilities is not None:
            return class_scores(prediction.probabilities.numpy().astype(np.float64), self.score)[np.arange(len(y)), y], truth["known"]
        low, high = _bounds(prediction)
        return np.maximum(low - y, y - high), truth["known"]

    def _size(self, prediction: Prediction, kind: Kind, target: str, q: float) -> np.ndarray:
        """(N,): answers in the set, or the interval's width in the target's own units."""
        if prediction.probabilities is not None:
            return (class_scores(prediction.probabilities.numpy().astype(np.float64), self.score) <= q).sum(1).astype(np.float64)
        ends = [kind.answer(target, Prediction(value=torch.from_numpy(e)))[target] for e in (_bounds(prediction)[0] - q, _bounds(prediction)[1] + q)]
        return np.maximum(np.asarray(ends[1], np.float64) - np.asarray(ends[0], np.float64), 0.0)

    def _line(self, subject, name, target, value, low, high, n, began, method, details, reasons, slice=None) -> Measurement:
        seconds = time.perf_counter() - began
        return Measurement(
            "conformal", f"conformal.{name}", target, "test", slice, value, low, high, subject.level, n, method, subject.seed, seconds, details, reasons
        )


NAMES = ("coverage", "mean_size")
LEAST = 30  # rows of a slice
SHARED = 0.05  # of calibration rows may be test rows beyond what chance explains


def repeats(subject: Subject, target: str) -> tuple[float, float]:
    """The share of calibration rows that are test rows (in inputs and target, or in every column, or with real numbers cut to a thousandth of their spread),
    and about how large it would be by chance: twice the share of one half of the test rows that are in the other."""
    both = [n for n in subject.splits["test"].column_names if n in subject.splits["calibration"].column_names]
    found = (0.0, 0.0)
    read = [n for n in both if n in (*subject.schema.inputs, target)]
    for columns, cut in ((read, False), (both, False), (read, True)):  # inputs of few values repeat by chance where whole rows do not
        ours, test = (subject.splits[s].select(columns) for s in ("calibration", "test"))
        ours, test = (coarse(t, test) for t in (ours, test)) if cut else (ours, test)
        half = test.num_rows // 2
        if half and ours.num_rows and ours.schema.types == test.schema.types:
            shares = float(equal_rows(ours, test).mean()), 2 * float(equal_rows(test.slice(half), test.slice(0, half)).mean())
            found = max(found, shares, key=lambda s: s[0] - s[1])
    return found


def coarse(table: pa.Table, like: pa.Table) -> pa.Table:
    """Real numbers cut to a thousandth of their spread in `like`."""
    for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_floating(column.type) and (spread := np.nanstd(like.column(name).to_numpy())) > 0:
            table = table.set_column(i, name, pa.array(np.floor(column.to_numpy() / (1e-3 * spread))))
    return table


def threshold(scores: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest score; infinite where there are fewer."""
    k = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[k - 1]) if k <= len(scores) else math.inf


def class_scores(p: np.ndarray, score: str) -> np.ndarray:
    """(N, K): lac 1 - p; aps the mass of all classes at least as likely as this one."""
    if score == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    mass = np.take_along_axis(p, order, 1).cumsum(1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, mass, 1)
    return out


def _bounds(prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    if prediction.quantiles is not None:
        q = prediction.quantiles.numpy().astype(np.float64)
        return q[:, 0], q[:, -1]
    value = prediction.value.numpy().astype(np.float64)
    return value, value
