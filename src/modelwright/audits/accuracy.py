"""Every metric of every target on the test split, overall and by slice, with intervals; and the paired gain over the best baseline.

Intervals: see `intervals` (jackknife and exact shares, whole clusters where rows belong together). The gain over a baseline is
paired on the same rows; the baseline is the one that is best on validation, so that choosing it costs nothing here. Without validation rows it is the
one that is best on the test rows, and the interval holds for all of them at once (Bonferroni).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..forms import Measurement
from ..intervals import Interval, interval, paired
from ..kind import Metric
from ..subject import Audit, Subject, metrics_of, rows_of


class Accuracy(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            began = time.perf_counter()
            metrics = metrics_of(subject, "test", target)
            table = subject.splits["test"]
            known = table.column(target).is_valid().to_numpy()  # a figure is of so many rows as have the target
            clusters = subject.clusters_of("test")
            for slice in [None, *subject.slices]:
                rows = np.arange(table.num_rows) if slice is None else np.flatnonzero(rows_of(table, slice))
                for name, metric in metrics.items():
                    part = narrowed(metric, rows)
                    i = interval(part, len(rows), level=subject.level, clusters=None if clusters is None else clusters[rows], seed=subject.seed)
                    reasons, details = ["slice.empty"] if not known[rows].any() else [], {"note": metric.note} if metric.note else {}
                    found.append(self._line(subject, name, target, slice, i, int(known[rows].sum()), began, reasons, details))
            if subject.baselines and kind.primary in metrics:
                found.append(self._gain(subject, target, kind.primary, metrics[kind.primary], clusters))
        return found

    def _gain(self, subject: Subject, target: str, primary: str, ours: Metric, clusters: np.ndarray | None) -> Measurement:
        began = time.perf_counter()
        sign, names = 1.0 if ours.better == "higher" else -1.0, list(subject.baselines)
        if "validation" in subject.splits:
            rows = np.arange(subject.splits["validation"].num_rows)
            names = [max(names, key=lambda b: sign * metrics_of(subject, "validation", target, b)[primary].value(rows))]
        n, level = subject.splits["test"].num_rows, 1 - (1 - subject.level) / len(names)
        found = {b: paired(ours, metrics_of(subject, "test", target, b)[primary], n, level=level, clusters=clusters, seed=subject.seed) for b in names}
        if sign < 0:  # a lower error is a gain
            found = {b: replace(i, value=-i.value, low=-i.high, high=-i.low) for b, i in found.items()}
        best = min(found, key=lambda b: found[b].value)
        value, low, high = np.min([(i.value, i.low, i.high) for i in found.values()], axis=0).tolist()  # of the least gain, since each end holds for each
        method = found[best].method + f", the least of {len(names)} at once" * (len(names) > 1)
        known = n - subject.splits["test"].column(target).null_count
        line = self._line(subject, "accuracy.gain_over_baseline", target, None, Interval(value, low, high, method), known, began, [])
        line.details = {"baseline": best, "metric": primary}
        return line

    def _line(self, subject, name, target, slice, i, n, began, reasons, details=None) -> Measurement:
        return Measurement(
            "accuracy",
            name,
            target,
            "test",
            slice,
            i.value,
            i.low,
            i.high,
            subject.level,
            n,
            i.method,
            subject.seed,
            time.perf_counter() - began,
            details or {},
            reasons,
        )


def narrowed(metric: Metric, rows: np.ndarray) -> Metric:
    """The metric over some rows, renumbered from 0."""
    if len(rows) == 0:
        return Metric(lambda index: float("nan"), better=metric.better)
    part = {k: None if v is None else v[rows] for k, v in (("rows", metric.rows), ("of", metric.of))}
    return Metric(lambda index: metric.value(rows[index]), better=metric.better, **part)
