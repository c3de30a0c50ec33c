"""Do probabilities mean what they say: the expected calibration error on the test split, beside what the temperature changed.

The error is over 15 bins of equal mass (see `metrics.ece`). A perfectly calibrated model does not score 0 on a finite sample:
`noise_floor` in the details
is the mean error when labels are drawn from the model's own probabilities, 50 times.
"""

from __future__ import annotations

import time

import numpy as np

from .. import metrics as m
from ..audit import Audit, Subject
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric


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
            clusters = subject.clusters_of("test")
            i = interval(
                Metric(lambda index, y=y, p=p: m.ece(y[index], p[index]), better="lower"), len(y), level=subject.level,
                clusters=None if clusters is None else clusters[known], seed=subject.seed,
            )  # fmt: skip
            rng = np.random.default_rng(subject.seed)
            drawn = [(p.cumsum(1) > rng.random((len(p), 1))).argmax(1) for _ in range(50)]
            details = {"noise_floor": float(np.mean([m.ece(d, p) for d in drawn])), **subject.lineage.get("calibration", {}).get(target, {})}
            found.append(
                Measurement(
                    "calibration",
                    "calibration.ece",
                    target,
                    "test",
                    None,
                    i.value,
                    i.low,
                    i.high,
                    subject.level,
                    len(y),
                    i.method,
                    subject.seed,
                    time.perf_counter() - began,
                    details,
                )
            )
        return found
