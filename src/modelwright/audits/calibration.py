"""Do probabilities mean what they say: expected, class-wise and worst-slice calibration error on the test split, less what chance alone would show.

Bins of equal mass, 15 overall (see `metrics.ece`). A perfectly calibrated model does not score 0 on a finite sample: labels are drawn 50 times from
the model's own probabilities, which gives the floor. An error e above its floor f is sqrt(e^2 - f^2), as errors and noise add in squares (after
Kumar et al. 2019, section 4), and 0 below it; the interval is the plain error's, its ends treated alike: the low end no longer lies above a
calibrated model's 0. `classwise_error`: the same of each class's probability against its share (Kull et al. 2019), the mean over classes.
`worst_slice_error`: |mean confidence
- accuracy| of each declared slice and group of at least 30 rows, the worst; its low end is corrected for their number, its high end needs no
  correction, for the truly worst slice's own interval holds. What the temperature changed stands in the details.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import metrics as m
from ..forms import Measurement
from ..intervals import Interval, interval
from ..kind import Metric
from ..subject import Audit, Subject, rows_of

DRAWS = 50
LEAST = 30  # rows of a slice


class Calibration(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            began = time.perf_counter()
            prediction = subject.predict("test")[target]
            if prediction.probabilities is None:
                continue
            truth = kind.encode_target(kind.column(subject.splits["test"], target))
            known = truth["known"]
            y, p = truth["values"][known], prediction.probabilities.numpy().astype(np.float64)[known]
            if y.ndim > 1:  # label sets: no class has all the mass
                continue
            clusters = subject.clusters_of("test")
            clusters = None if clusters is None else clusters[known]
            rng = np.random.default_rng(subject.seed)
            drawn = [(p.cumsum(1) > rng.random((len(p), 1))).argmax(1) for _ in range(DRAWS)]
            temperature = subject.lineage.get("calibration", {}).get(target, {})
            for name, error in (("ece", m.ece), ("classwise_error", classwise)):
                i = interval(
                    Metric(lambda r, f=error, y=y, p=p: f(y[r], p[r]), better="lower"), len(y), level=subject.level, clusters=clusters, seed=subject.seed
                )
                floor = float(np.mean([error(d, p) for d in drawn])) if len(y) else 0.0
                details = {"noise_floor": floor, "before_its_removal": i.value, **(temperature if name == "ece" else {})}
                less = Interval(*(above(x, floor) for x in (i.value, i.low, i.high)), f"{i.method}, less the noise floor")
                found.append(self._line(subject, name, target, less, len(y), began, details))
            found += self._slices(subject, target, known, y, p, clusters, began)
        return found

    def _slices(self, subject, target, known, y, p, clusters, began) -> list[Measurement]:
        table = subject.splits["test"]
        groups = [f"{c}={v}" for c in subject.schema.group if c in table.column_names for v in table.column(c).drop_null().unique().to_pylist()]
        parts = {s: rows_of(table, s)[known] for s in dict.fromkeys([*subject.slices, *groups])}
        parts = {s: r for s, r in parts.items() if r.sum() >= LEAST}
        if not parts:
            return []
        gap, ends = p.max(1) - (p.argmax(1) == y), {}
        for slice, rows in parts.items():
            both = [interval(Metric.mean(gap[rows]), int(rows.sum()), level=at, clusters=None if clusters is None else clusters[rows])
                    for at in (subject.level, 1 - (1 - subject.level) / len(parts))]  # fmt: skip
            ends[slice] = (abs(both[0].value), max(both[1].low, -both[1].high, 0.0), max(both[0].high, -both[0].low))
        worst = max(ends, key=lambda s: ends[s][0])
        value, low, high = (max(e[j] for e in ends.values()) for j in range(3))
        details: dict[str, Any] = {"worst": worst, "slices": {s: list(e) for s, e in ends.items()}}
        i = Interval(value, min(low, value), high, f"worst of {len(parts)} slices, low end corrected for them")
        return [self._line(subject, "worst_slice_error", target, i, int(parts[worst].sum()), began, details)]

    def _line(self, subject: Subject, name: str, target: str, i: Interval, n: int, began: float, details: dict[str, Any]) -> Measurement:
        places = (target, "test", None, i.value, i.low, i.high, subject.level, n, i.method, subject.seed, time.perf_counter() - began)
        return Measurement("calibration", f"calibration.{name}", *places, details)


def above(error: float, floor: float) -> float:
    """What is left of an error once its noise floor is taken off, in squares; never below 0. NaN stays."""
    return error if np.isnan(error) else max(error**2 - floor**2, 0.0) ** 0.5


def classwise(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Mean over classes of the mean |share - probability| of a class over bins of equal mass of its probability."""
    each = []
    for k in range(probabilities.shape[1]):
        order = np.argsort(probabilities[:, k], kind="stable")
        p, hit = probabilities[order, k], (truth[order] == k).astype(np.float64)
        starts = np.unique(np.searchsorted(p, p[np.arange(bins) * len(p) // bins])) if len(p) else np.zeros(0, np.int64)
        each.append(np.abs(np.add.reduceat(hit - p, starts)).sum() / len(p) if len(p) else float("nan"))
    return float(np.mean(each))
