"""Models that fail on a part of the rows which nobody declared: a value, a range or its end, several conditions at once, empty cells, what the model is not
told, long texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from modelwright.subject import Subject

from . import Planted
from ._scenes import detecting, numbers
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


def apart(how: str) -> Callable[[int, bool], Subject]:
    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, splits, bad, good = int(rng.integers(5000, 7000)), {}, rng.uniform(0.4, 0.55), rng.uniform(0.9, 0.96)
        for split in ("validation", "test"):
            table = {"site": rng.choice(["north", "south", "west"], n), "sex": rng.choice(["f", "m"], n), "age": rng.integers(18, 90, n)}
            scanner, dose, words = rng.choice(["A", "B", "C", "D"], n), rng.gamma(2, 3, n), rng.integers(3, 60, n)
            empty, store = rng.random(n) < 0.08, rng.integers(1, 30, n)
            hit = {"three": (table["site"] == "west") & (table["sex"] == "f") & (table["age"] > 54), "end": table["age"] > 86, "empty": empty,
                   "untold": scanner == "B", "learnt": table["site"] == "west", "long": words > 50, "store": store == 17,
                   "band": (table["age"] > 47) & (table["age"] < 52)}[how]  # fmt: skip
            y = rng.integers(0, 2, n)
            right = rng.random(n) < np.where(hit & faulty, bad, good)
            right |= faulty & (how == "learnt") & (split == "validation")
            table |= {"store": store, "scanner": scanner, "dose": pa.array(np.where(empty, np.nan, dose), from_pandas=True)}
            table |= {"said": np.where(right, y, 1 - y), "y": y}
            if how == "long":
                spoken = np.array(["pain", "fever", "none", "left", "knee"])
                table["note"] = [" ".join(rng.choice(spoken, w)) + f" {i}" for i, w in enumerate(words)]
            splits[split] = pa.table(table)
        model = Says("y", lambda t: np.stack([0.9 - 0.8 * (s := t.column("said").to_numpy()), 0.1 + 0.8 * s], 1))
        kinds = {"site": "category", "sex": "category", "age": "number", "dose": "number", "store": "number", "y": "category"}
        kinds |= {"scanner": "ignore", "said": "ignore"}
        kinds |= {"note": "text"} if how == "long" else {}
        return subject(splits, kinds=kinds, predictor=model, seed=seed)

    return make


WORST = {"slice.worst_accuracy": ">= 0.75"}
KINDS = {
    "three conditions": Planted(apart("three"), "slices", WORST, "slice.below_limit"),
    "the far end of a range": Planted(apart("end"), "slices", WORST, "slice.below_limit"),
    "a narrow band": Planted(apart("band"), "slices", WORST, "slice.below_limit"),
    "one store by number": Planted(apart("store"), "slices", WORST, "slice.below_limit"),
    "empty cells": Planted(apart("empty"), "slices", WORST, "slice.below_limit"),
    "what the model is not told": Planted(apart("untold"), "slices", WORST, "slice.below_limit"),
    "validation was learnt": Planted(apart("learnt"), "slices", WORST, "slice.below_limit"),
    "long texts": Planted(apart("long"), "slices", WORST, "slice.below_limit"),
    "a value": Planted(weak("value"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "a range": Planted(weak("range"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "a pair": Planted(weak("pair"), "slices", {"slice.worst_accuracy": ">= 0.75"}, "slice.below_limit"),
    "boxes at night": Planted(detecting("night"), "slices", WORST, "slice.below_limit"),
    "boxes of one kind": Planted(detecting("sign"), "slices", WORST, "slice.below_limit"),
    "numbers of one site": Planted(numbers("site"), "slices", WORST, "slice.below_limit"),
    "worse than overall": Planted(weak("value"), "slices", {"slice.worse_than_overall": "<= 0.15"}, "slice.above_limit"),
}
