"""Calibration rows of another source, too few of them, or the test rows themselves; coverage that leaves out a group; probabilities that promise too much
or too little, of everything, of one class, of one group, or so that it cancels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from sklearn.isotonic import IsotonicRegression

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


def covered(how: str) -> Callable[[int, bool], Subject]:
    """Sets that cover on average what they leave out in one group; a threshold that was fitted to the test rows."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        k, n, share, hard = int(rng.integers(3, 6)), int(rng.integers(4000, 6000)), rng.uniform(0.15, 0.3), rng.uniform(1.6, 2.2)

        def part(m: int) -> pa.Table:
            y, few = rng.integers(0, k, m), rng.random(m) < share
            x = 2.2 * np.eye(k)[y] + rng.normal(size=(m, k)) * np.where(few & faulty & (how == "group"), hard, 1.0)[:, None]
            return pa.table({f"x{i}": x[:, i] for i in range(k)} | {"sex": np.where(few, "f", "m"), "y": np.array([f"c{v}" for v in y])})

        def probabilities(table: pa.Table) -> np.ndarray:
            e = np.exp(2.2 * np.stack([table.column(f"x{i}").to_numpy() for i in range(k)], 1))
            return e / e.sum(1, keepdims=True)

        test, calibration = part(n), part(int(rng.integers(800, 1500)))
        if how == "shared" and faulty:
            calibration = test.take(rng.permutation(n)[: calibration.num_rows])
        kinds = {f"x{i}": "number" for i in range(k)} | {"sex": "category", "y": {"category": {"labels": [f"c{v}" for v in range(k)]}}}
        splits = {"test": test, "calibration": calibration}
        return subject(splits, kinds=kinds, group=["sex"], predictor=Says("y", probabilities), seed=seed, slices=["sex=f"])

    return make


def cancelling(how: str) -> Callable[[int, bool], Subject]:
    """Errors of probabilities that the mean does not show."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, off = int(rng.integers(8000, 12000)), rng.uniform(0.14, 0.18) * faulty
        k = int(rng.integers(6, 10)) if how == "one class of many" else 2
        sex, said, sure = rng.choice(["f", "m"], n), rng.integers(0, k, n), rng.uniform(0.6, 0.82, n)
        women = sex == "f"
        if how == "score":  # of women it is too high throughout
            p = rng.beta(2, 2, n)
            y = (rng.random(n) < np.clip(p - off * women, 0, 1)).astype(int)
            said, sure = (p > 0.5).astype(int), np.maximum(p, 1 - p)
        else:
            wrong = {"bins": np.where(sure > 0.71, -off, off) * women, "groups": np.where(women, -off, off), "classes": np.where(said == 1, -off, off),
                     "one class of many": np.where(said == 1, -2 * off, 0)}[how]  # fmt: skip
            y = np.where(rng.random(n) < sure + wrong, said, (said + rng.integers(1, k, n)) % k)

        def probabilities(t: pa.Table) -> np.ndarray:
            s, c = t.column("said").to_numpy(), t.column("sure").to_numpy()
            p = np.repeat(((1 - c) / (k - 1))[:, None], k, 1)
            p[np.arange(len(s)), s] = c
            return p

        labels = [f"c{v}" for v in range(k)]
        kinds = {"sex": "category", "said": "number", "sure": "number", "y": {"category": {"labels": labels}}}
        table = pa.table({"sex": sex, "said": said, "sure": sure, "y": np.array(labels)[y]})
        return subject({"test": table}, kinds=kinds, group=["sex"], predictor=Says("y", probabilities), seed=seed)

    return make


def score(how: str) -> Callable[[int, bool], Subject]:
    """Two classes and one score: fitted in many steps to the test rows; the rank in the batch; few values, with rows in the order of the truth."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(800, 1500))
        z = rng.choice([-1.7, 0.9, 1.7], 2 * n) if how == "ties" else 1.5 * rng.normal(size=2 * n)
        y = (rng.random(2 * n) < 1 / (1 + np.exp(-z * (0.4 if faulty and how == "ties" else 1)))).astype(int)
        test, other = slice(0, n), slice(0, n) if faulty else slice(n, None)
        fitted = IsotonicRegression(out_of_bounds="clip").fit(z[other], y[other])
        order = np.argsort(y[test], kind="stable") if how == "ties" else np.arange(n)

        def probabilities(t: pa.Table) -> np.ndarray:
            z = t.column("z").to_numpy()
            rank = (z.argsort().argsort() + 0.5) / len(z)
            p = fitted.predict(z) if how == "fitted" else rank if how == "rank" and faulty else 1 / (1 + np.exp(-z))
            return np.stack([1 - p, p], 1)

        kinds = {"z": "number", "y": {"category": {"labels": ["c0", "c1"]}}}
        table = pa.table({"z": z[test][order], "y": np.array(["c0", "c1"])[y[test][order]]})
        return subject({"test": table}, kinds=kinds, predictor=Says("y", probabilities), seed=seed)

    return make


GROUP, CLASS = {"calibration.worst_slice_error": "<= 0.07"}, {"calibration.worst_class_error": "<= 0.07"}
KINDS = {
    "another source": Planted(sets("shift"), "conformal", {"conformal.coverage": ">= 0.85"}, "conformal.below_limit"),
    "too few to calibrate": Planted(sets("few"), "conformal", {"conformal.coverage": ">= 0.8"}, "conformal.too_few"),
    "probabilities too sure or unsure": Planted(sets("overconfident"), "calibration", {"calibration.ece": "<= 0.07"}, "calibration.above_limit"),
    "a group left out": Planted(covered("group"), "conformal", {"conformal.coverage@sex=f": ">= 0.85"}, "conformal.below_limit"),
    "some group left out": Planted(covered("group"), "conformal", {"conformal.worst_slice_coverage": ">= 0.85"}, "conformal.below_limit"),
    "calibrated on test rows": Planted(covered("shared"), "conformal", {"conformal.coverage": ">= 0.85"}, "conformal.shared_rows"),
    "a score too high for a group": Planted(cancelling("score"), "calibration", GROUP, "calibration.above_limit"),
    "bins that cancel in a group": Planted(cancelling("bins"), "calibration", GROUP, "calibration.above_limit"),
    "groups that cancel": Planted(cancelling("groups"), "calibration", GROUP, "calibration.above_limit"),
    "classes that cancel": Planted(cancelling("classes"), "calibration", CLASS, "calibration.above_limit"),
    "one class of many": Planted(cancelling("one class of many"), "calibration", CLASS, "calibration.above_limit"),
    "fitted to the test rows": Planted(score("fitted"), "calibration", {"calibration.ece": "<= 0.1"}, "calibration.fitted_here"),
    "the rank in the batch": Planted(score("rank"), "calibration", {"calibration.ece": "<= 0.1"}, "accuracy.fickle"),
    "few values in the order of the truth": Planted(score("ties"), "calibration", CLASS, "calibration.above_limit"),
    "one class too sure or unsure": Planted(sets("overconfident"), "calibration", {"calibration.classwise_error": "<= 0.07"}, "calibration.above_limit"),
}
