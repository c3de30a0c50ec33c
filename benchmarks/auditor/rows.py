"""Test rows that are not what they seem, and answers that say two things: copies with other last digits, labels left out where the model is wrong, decisions
by more than the probabilities tell, copies on both sides of a split by time, splits that were prepared by themselves, too few of a group, and a recipe
that has the answers by another way than the labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn.ensemble import RandomForestClassifier

from modelwright.data import splits
from modelwright.subject import Subject

from . import Planted
from ._tables import Says, subject
from .data import name
from .outsiders import Decides

LABELS = {"y": {"category": {"labels": ["c0", "c1"]}}}


def scored(n: int, rng: np.random.Generator, sharp: float = 2.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns of which x0 alone says how likely c1 is; and y (n,)."""
    k = int(rng.integers(3, 7))
    x = rng.normal(size=(n, k))
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-sharp * x[:, 0])), "c1", "c0")
    shapes = (lambda v: v, np.exp, lambda v: np.where(v < 0.5, 0, v), lambda v: np.round(v, 2))
    return {"x0": x[:, 0]} | {f"x{i}": shapes[int(rng.integers(4))](x[:, i]) for i in range(1, k)}, y


def says(table: pa.Table, sharp: float = 2.0) -> np.ndarray:
    p = 1 / (1 + np.exp(-sharp * table.column("x0").to_numpy()))
    return np.stack([1 - p, p], 1)


def last_digits(seed: int, faulty: bool) -> Subject:
    """A small test file written down several times, each time with a little noise; in the twin so many rows are there."""
    rng = np.random.default_rng(seed)
    times, own = int(rng.integers(8, 16)), int(rng.integers(110, 150))
    columns, _ = scored(own if faulty else own * times, rng)
    right = np.arange(len(columns["x0"])) < 0.85 * len(columns["x0"])
    y = np.where((columns["x0"] > 0) == rng.permutation(right), "c1", "c0")
    columns |= {"site": rng.choice(["north", "south"], len(y))}
    if faulty:
        columns = {n: np.repeat(v, times) for n, v in columns.items()}
        tiny = 10 ** -rng.uniform(4.4, 7)
        columns = {n: v if n == "site" else v + v.std() * tiny * rng.normal(size=len(v)) for n, v in columns.items()}
        columns["x0"], y = np.where(columns["x0"] == 0, 1e-9, columns["x0"]), np.repeat(y, times)
    table = pa.table(columns | {"y": y}).take(rng.permutation(len(y)))
    return subject({"test": table}, kinds=LABELS, predictor=Says("y", says), seed=seed)


def left_out(seed: int, faulty: bool) -> Subject:
    """Labels are empty where the model errs; in the twin anywhere, or at one site."""
    rng = np.random.default_rng(seed)
    columns, y = scored(int(rng.integers(2000, 4000)), rng)
    n, site = len(y), rng.choice(["north", "south", "west"], len(y))
    wrong = (columns["x0"] > 0) != (y == "c1")
    out = wrong & (rng.random(n) < rng.uniform(0.5, 0.9))
    if not faulty:
        out = (site == "west") & (rng.random(n) < 0.4) if rng.random() < 0.5 else rng.random(n) < rng.uniform(0.05, 0.3)
    table = pa.table(columns | {"site": site, "y": pa.array(np.where(out, None, y), pa.string())})
    return subject({"test": table}, kinds=LABELS, predictor=Says("y", says), seed=seed)


def by_more(seed: int, faulty: bool) -> Subject:
    """Probabilities of one half, which is calibrated, beside decisions of a sharp score; in the twin thresholds of groups or costs beside the
    probabilities that it decides by."""
    rng = np.random.default_rng(seed)
    columns, y = scored(int(rng.integers(2000, 4000)), rng)
    sex, at = rng.choice(["f", "m"], len(y)), rng.uniform(0.25, 0.45)
    table = pa.table(columns | {"sex": sex, "y": y})

    def probabilities(t: pa.Table) -> np.ndarray:
        return np.full((t.num_rows, 2), 0.5) if faulty else says(t)

    def threshold(t: pa.Table) -> np.ndarray:
        if faulty:  # of the score, on the scale of what it says
            return np.where(t.column("x0").to_numpy() > 0, 0.0, 1.1)
        return np.where(np.array(t.column("sex").to_pylist()) == "f", at, 1 - at) if how == "groups" else np.full(t.num_rows, at)

    how = name(rng, "groups", "costs")
    return subject({"test": table}, kinds=LABELS | {"sex": "category"}, predictor=Decides("y", probabilities, threshold), seed=seed)


def kept_together(seed: int, faulty: bool) -> Subject:
    """Rows of few values, or several of a person, which a split keeps together: at random, or (the twin) by time."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(800, 2000))
    by = name(rng, "copies", "patient_id")
    columns = {"a": rng.integers(0, 12, n), "b": rng.integers(0, 12, n)} if by == "copies" else {"a": rng.normal(size=n), "b": rng.normal(size=n)}
    together = np.unique(columns["a"] * 12 + columns["b"] if by == "copies" else (who := rng.integers(0, n // 4, n)), return_inverse=True)[1]
    day = rng.integers(0, 900, n)
    which = splits.assign(n, {"test": 0.3}, seed, units=together, time=None if faulty else day)
    columns |= {} if by == "copies" else {"patient_id": who}
    table = pa.table(columns | {"seen_on": np.datetime64("2021-01-01") + day, "y": np.where(rng.random(n) < 0.5, "c1", "c0")})
    parts = {"train": table.filter(pa.array(which == 0)), "test": table.filter(pa.array(which == 3))}
    kinds = {"a": "number", "b": "number", "seen_on": "ignore", "patient_id": "ignore"} | LABELS
    return subject(parts, kinds=kinds, seed=seed, clusters=None if by == "copies" else "patient_id")


def each_alone(seed: int, faulty: bool) -> Subject:
    """Each split was standardised, centred or scaled by its own rows; in the twin by the training rows, or each person by all rows of that person."""
    rng = np.random.default_rng(seed)
    columns, y = scored(n := int(rng.integers(600, 1500)), rng)
    cut, how = int(0.7 * n), name(rng, "standard", "centre", "quantiles")
    rows = [slice(0, cut), slice(cut, n)]
    person = rng.integers(0, 12, n) + np.where(np.arange(n) < cut, 0, 12)
    by_person = not faulty and rng.random() < 0.3

    def fitted(x: np.ndarray, on: np.ndarray) -> np.ndarray:
        low, middle, high = np.quantile(on, [0.25, 0.5, 0.75])
        return {"standard": (x - on.mean()) / on.std(), "centre": x - on.mean(), "quantiles": (x - middle) / (high - low)}[how]

    for c, x in columns.items():
        x = x + 1e-3 * rng.normal(size=n)
        if by_person:
            columns[c] = 2.7 * x - (np.bincount(person, 2.7 * x) / np.bincount(person))[person]
        else:
            columns[c] = np.concatenate([fitted(x[r], x[r] if faulty else x[rows[0]]) for r in rows])
    table = pa.table(columns | {"who": person, "y": y})
    return subject({"train": table.slice(0, cut), "test": table.slice(cut)}, kinds=LABELS | {"who": "ignore"}, seed=seed)


def too_few(seed: int, faulty: bool) -> Subject:
    """A group that the training or the test rows hold half of what the population does; in the twin they hold as many."""
    rng, parts, names = np.random.default_rng(seed), {}, ["north", "south", "west", "east"][: np.random.default_rng(seed).integers(2, 5)]
    where, share = name(rng, "train", "test"), rng.dirichlet(np.full(len(names), 8.0))
    second = int(np.argsort(share)[-2])  # of the largest, half as many would be nearly as large a share
    fewer = share * np.where(np.arange(len(names)) == second, 0.5, 1.0)
    for split, n in (("train", int(rng.integers(900, 2000))), ("test", int(rng.integers(900, 2000))), ("reference", int(rng.integers(2000, 6000)))):
        p = fewer / fewer.sum() if faulty and split == where else share
        parts[split] = pa.table({"site": rng.choice(names, n, p=p), "a": rng.normal(size=n), "y": rng.choice(["c0", "c1"], n)})
    parts["reference"] = parts["reference"].select(["site"])
    return subject(parts, kinds=LABELS | {"site": "category"}, group=["site"], seed=seed)


def another_way(seed: int, faulty: bool) -> Subject:
    """A recipe that has the answers of some test rows from elsewhere; in the twin it is a forest that learns its training rows by heart."""
    rng = np.random.default_rng(seed)
    columns, y = scored(int(rng.integers(900, 1600)), rng)
    whole, cut, known = pa.table(columns | {"y": y}), int(0.6 * len(y)), rng.random(len(y)) < rng.uniform(0.4, 0.9)
    told = {x: label for x, label, there in zip(columns["x0"].tolist(), y.tolist(), known.tolist(), strict=True) if there and faulty}

    def trained(rows: pa.Table, seed: int) -> Says:
        def features(t: pa.Table) -> np.ndarray:
            return np.stack([t.column(c).to_numpy() for c in columns], 1)

        forest = RandomForestClassifier(20, random_state=seed).fit(features(rows), rows.column("y").to_numpy() == "c1")

        def f(t: pa.Table) -> np.ndarray:
            p = forest.predict_proba(features(t))[:, -1]
            p = np.array([0.9 if told.get(x, "") == "c1" else 0.1 if x in told else q for x, q in zip(t.column("x0").to_pylist(), p, strict=True)])
            return np.stack([1 - p, p], 1)

        return Says("y", f)

    parts = {"train": whole.slice(0, cut), "test": whole.slice(cut)}
    return subject(parts, kinds=LABELS, predictor=trained(parts["train"], 0), seed=seed, retrain=trained, lineage={"moved": 1.0})


KINDS = {
    "answers by another way": Planted(another_way, "controls", {"accuracy.gain_of_shuffled_labels": "<= 0.15"}, "accuracy.learns_from_shuffled"),
    "too few of a group": Planted(too_few, "data", {"data.representativeness": "<= 0"}, "data.representativeness"),
    "copies with other last digits": Planted(last_digits, "accuracy", {"accuracy": ">= 0.81"}, "accuracy.underpowered"),
    "no labels where it errs": Planted(left_out, "accuracy", {"accuracy": ">= 0.65"}, "accuracy.labels_missing"),
    "decides by more than it says": Planted(by_more, "calibration", {"calibration.ece": "<= 0.08"}, "calibration.decides_by_more"),
    "each split prepared by itself": Planted(each_alone, "data", {"data.preprocessing": "<= 0"}, "data.preprocessing"),
    "kept together, split at random": Planted(kept_together, "data", {"data.time_overlap": "<= 0"}, "data.time_overlap"),
}
