"""Calibration rows of another source, too few of them, too large a limit; probabilities that promise too much or too little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from modelwright.subject import Subject

from . import Planted
from ._tables import Says, subject


def sets(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        k, n = int(rng.integers(3, 7)), int(rng.integers(2500, 4000))
        sharp = rng.uniform(1.0, 1.6)

        def part(m: int, noise: float = 1.0) -> pa.Table:
            y = rng.integers(0, k, m)
            x = sharp * np.eye(k)[y] * 3 + rng.normal(size=(m, k)) * noise
            return pa.table({f"x{i}": x[:, i] for i in range(k)} | {"y": np.array([f"c{v}" for v in y])})

        scale = rng.choice([3.0, 0.3]) if faulty and how in ("overconfident", "one group") else 1.0
        keyed = how == "one group"

        def probabilities(table: pa.Table) -> np.ndarray:
            x = np.stack([table.column(f"x{i}").to_numpy() for i in range(k)], 1) * sharp * 3
            x = x * (np.where(x[:, :1] > np.median(x[:, 0]), scale, 1.0) if keyed else scale)
            e = np.exp(x - x.max(1, keepdims=True))
            return e / e.sum(1, keepdims=True)

        calibration = part(6 if faulty and how == "few" else int(rng.integers(300, 800)))
        test = part(n, rng.uniform(2.2, 3) if faulty and how == "shift" else 1.0)
        if how in ("overconfident", "one group"):  # a harder task, so that there is something to be sure of
            test = part(n, sharp * 3)
            wide = probabilities

            def probabilities(table: pa.Table) -> np.ndarray:  # noqa: F811
                x = np.stack([table.column(f"x{i}").to_numpy() for i in range(k)], 1) / (sharp * 3)
                x = x * (np.where(x[:, :1] > np.median(x[:, 0]), scale, 1.0) if keyed else scale)
                e = np.exp(x - x.max(1, keepdims=True))
                return e / e.sum(1, keepdims=True)

            assert wide is not probabilities
        kinds = {f"x{i}": "number" for i in range(k)} | {"y": {"category": {"labels": [f"c{v}" for v in range(k)]}}}
        return subject({"test": test, "calibration": calibration}, kinds=kinds, predictor=Says("y", probabilities), seed=seed)

    return make


KINDS = {
    "another source": Planted(sets("shift"), "conformal", {"conformal.coverage": ">= 0.85"}, "conformal.below_limit"),
    "too few to calibrate": Planted(sets("few"), "conformal", {"conformal.coverage": ">= 0.8"}, "conformal.too_few"),
    "probabilities too sure or unsure": Planted(sets("overconfident"), "calibration", {"calibration.ece": "<= 0.07"}, "calibration.above_limit"),
    "one class too sure or unsure": Planted(sets("overconfident"), "calibration", {"calibration.classwise_error": "<= 0.07"}, "calibration.above_limit"),
}
