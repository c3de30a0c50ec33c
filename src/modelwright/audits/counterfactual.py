"""Whether a table's decisions can be turned by changing few cells to values that occur, and how many it takes (NICE).

`counterfactuals` searches for the nearest such change; immutable columns stay (`columns: {age: {immutable: true}}`, and groups unless said otherwise). It
copies from training rows, and only where there are none from the test rows themselves.
- counterfactual_validity: the share of test rows for which a change of at most four cells was found. Low is no fault of the model, but such rows
  cannot be explained so.
- counterfactual_cells: how many cells it takes, mean over the rows where one was found. A model that turns on one cell may rest on a shortcut.
Plausible they are in that every new value occurs and all of them together in one row; that a person could bring the change about is not said.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from ..counterfactuals import counterfactuals
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Audit, Subject


class Counterfactuals(Audit):
    costly = "explanation"

    def __init__(self, rows: int = 50):
        """rows: at most, drawn at random."""
        self.rows = rows

    def measure(self, subject: Subject) -> list[Measurement]:
        targets = [n for n, k in subject.schema.truths.items() if k.labels_ is not None]
        return [line for t in targets for line in self._of(subject, t)] if subject.schema.table else []

    def _of(self, subject: Subject, target: str) -> list[Measurement]:
        began, test = time.perf_counter(), subject.splits["test"]
        pick = np.sort(np.random.default_rng(subject.seed).permutation(test.num_rows)[: self.rows])
        rows, n = test.take(pa.array(pick)), len(pick)
        if len(subject.schema.immutable) and set(subject.schema.table) <= set(subject.schema.immutable):
            return []
        found = counterfactuals(subject.predictor, subject.schema, target, rows, subject.splits.get("train", test), subject.seed)
        clusters = subject.clusters_of("test")
        given = {"level": subject.level, "clusters": None if clusters is None else clusters[pick], "seed": subject.seed}
        valid = np.array([c is not None for c in found], float)
        cells = np.array([np.nan if c is None else len(c.cells) for c in found])
        often: dict[str, int] = {}
        for c in found:
            for name in c.cells if c is not None else ():
                often[name] = often.get(name, 0) + 1
        details = {
            "changed_most": dict(sorted(often.items(), key=lambda e: -e[1])[:10]),
            "mean_distance": float(np.mean([c.distance for c in found if c is not None])) if valid.any() else None,
            "immutable": list(subject.schema.immutable),
        }

        def line(metric: str, m: Metric | None, n: int, reasons: tuple[str, ...] = ()) -> Measurement:
            i = None if m is None else interval(m, len(pick), **given)
            value = (None, None, None) if i is None else (i.value, i.low, i.high)
            method = "not measured" if i is None else i.method
            places = (target, "test", None, *value, subject.level, n, method, subject.seed, time.perf_counter() - began)
            return Measurement("counterfactual", f"explanation.{metric}", *places, details, list(reasons))

        none = ("explanation.no_counterfactual",) if not valid.any() else ()
        return [
            line("counterfactual_validity", Metric.mean(valid), n),
            line("counterfactual_cells", None if none else Metric.mean(cells, "lower"), int(valid.sum()), none),
        ]
