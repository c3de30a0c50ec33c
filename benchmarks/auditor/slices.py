"""Models that fail on a part of the rows which nobody declared: a value, a range, a pair of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from modelwright.subject import Subject

from . import Planted
from ._tables import Says, subject


def weak(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, splits = int(rng.integers(3000, 5000)), {}
        bad, good = rng.uniform(0.45, 0.62), rng.uniform(0.9, 0.96)
        for split in ("validation", "test"):
            table = {"site": rng.choice(["north", "south", "west", "east", "mid"], n), "age": rng.integers(18, 90, n), "dose": rng.gamma(2, 3, n)}
            hit = {"value": table["site"] == "east", "range": table["age"] > 75, "pair": (table["site"] == "west") & (table["age"] > 54)}[how]
            y = rng.integers(0, 2, n)
            right = rng.random(n) < np.where(hit & faulty, bad, good)
            splits[split] = pa.table(table | {"said": np.where(right, y, 1 - y), "y": y})
        model = Says("y", lambda t: np.stack([0.9 - 0.8 * (s := t.column("said").to_numpy()), 0.1 + 0.8 * s], 1))
        kinds = {"site": "category", "age": "number", "dose": "number", "said": "ignore", "y": "category"}
        return subject(splits, kinds=kinds, predictor=model, seed=seed)

    return make


KINDS = {
    "a value": Planted(weak("value"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "a range": Planted(weak("range"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "a pair": Planted(weak("pair"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "worse than overall": Planted(weak("value"), "slices", {"slice.worse_than_overall": "<= 0.15"}, "slice.above_limit"),
}
