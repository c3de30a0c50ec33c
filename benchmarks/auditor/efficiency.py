"""Models that are slower than they look: answers that are kept, a pause now and then, work that grows. Twins do the same at once."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from modelwright.subject import Subject

from . import Planted, _tables

PAUSE = 0.12  # seconds; limits are half of it


def slow(when):
    """when(calls, known rows, row) -> whether the model pauses before it answers."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        columns, y = _tables.made(rng, int(rng.integers(150, 400)))
        made, kept, often = _tables.subject(_tables.split(columns | {"y": y}, rng), seed=seed), set(), int(rng.integers(12, 18))
        calls = 0

        def said(table: pa.Table) -> np.ndarray:
            nonlocal calls
            calls, row = calls + 1, str(table.drop_columns(["y"]).slice(0, 1).to_pydict())
            if faulty and when(calls, kept, row, often):
                time.sleep(PAUSE)
            kept.add(row)
            return np.full((table.num_rows, 2), 0.5)

        made.predictor = _tables.Says("y", said)
        for i in range(made.splits["test"].num_rows):  # as other audits have asked by now
            kept.add(str(made.splits["test"].drop_columns(["y"]).slice(i, 1).to_pydict()))
        return made

    return make


LIMIT = {"efficiency.latency_p95_ms": f"<= {500 * PAUSE:g}"}
KINDS = {
    "answers_kept": Planted(slow(lambda calls, kept, row, often: row not in kept), "efficiency", LIMIT, "efficiency.above_limit"),
    "pauses": Planted(slow(lambda calls, kept, row, often: calls % often < 3), "efficiency", LIMIT, "efficiency.above_limit"),
    "tires": Planted(slow(lambda calls, kept, row, often: calls > 30), "efficiency", LIMIT, "efficiency.above_limit"),
}
