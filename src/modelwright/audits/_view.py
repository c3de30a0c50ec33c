"""What checks of data see of a subject, and how what they find becomes measurements."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ..checks.learner import truth
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Subject

ALARM = 0.01  # the chance of a false finding, per metric
SHORT = 5  # columns or rows that details name


class View:
    def __init__(self, subject: Subject, rows: int):
        self.subject, self.rows, self.start = subject, rows, time.perf_counter()
        self.test, self.train = subject.splits["test"], subject.splits.get("train")
        self.alarm = min(ALARM, 1 - subject.level)

    def line(
        self, name: str, value: float | None, n: int, details: dict[str, Any], reasons: list[str] | None = None, *, target: str | None = None,
        split: str = "test", low: float | None = None, high: float | None = None, method: str = "exact: these rows, counted", level: float = 1.0,
    ) -> Measurement:  # fmt: skip
        reasons = [f"data.{name}"] * bool(value) if reasons is None else reasons
        low, high = (value, value) if low is None and high is None else (low, high)
        seconds = time.perf_counter() - self.start
        return Measurement("data", f"data.{name}", target, split, None, value, low, high, level, n, method, self.subject.seed, seconds, details, reasons)

    def share(self, name: str, hits: np.ndarray, whole: int, details: dict[str, Any], split: str = "test") -> Measurement:
        """A share of rows: exact where all were looked at."""
        if len(hits) == whole:
            return self.line(name, float(hits.mean()), len(hits), details, split=split)
        i = interval(Metric.mean(hits, "lower"), len(hits), level=self.subject.level)
        return self.line(name, i.value, len(hits), details, split=split, low=i.low, high=i.high, method=i.method, level=self.subject.level)

    def sample(self, table: pa.Table, rows: int | None = None) -> pa.Table:
        rows = rows or self.rows
        if table.num_rows <= rows:
            return table
        return table.take(np.sort(np.random.default_rng(self.subject.seed).permutation(table.num_rows)[:rows]))

    def units(self, table: pa.Table) -> np.ndarray | None:
        if self.subject.clusters is None or self.subject.clusters not in table.column_names:
            return None
        return table.column(self.subject.clusters).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)

    @property
    def inputs(self) -> list[str]:
        return [n for n, k in self.subject.schema.inputs.items() if not k.drawn and n in self.test.column_names]

    def others(self) -> dict[str, pa.Table]:
        return {n: t for n, t in self.subject.splits.items() if n in ("train", "validation", "calibration")}

    def main(self) -> tuple[str, pa.Table]:
        """The split that columns are looked at in."""
        return ("test", self.test) if self.train is None else ("train", self.train)

    def common(self, parts: dict[str, pa.Table]) -> list[str]:
        return [n for n in self.test.column_names if all(n in t.column_names for t in parts.values())]

    def truths(self, table: pa.Table) -> Iterator[tuple[str, np.ndarray, np.ndarray, int | None]]:
        """target, y, known, classes (None: a number), of each target that is one or the other."""
        for target in self.subject.schema.truths:
            found = truth(self.subject.schema, table, target)
            if found is not None:
                yield target, *found
