"""Models that remember in other ways than by overfitting a net, or hide that they do; and honest ones that look as if. N rows, two classes."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from modelwright.kinds.number import Number
from modelwright.subject import Subject

from . import Planted, _tables
from ._nets import labels

WORDS = "time river stone paper light window garden market doctor train letter winter summer silver copper forest island bridge engine".split()  # noqa: E501, SIM905
COLUMNS = [f"c{i}" for i in range(8)]
Answer = Callable[[np.ndarray], np.ndarray]  # (N, 8) -> (N,) of the second class


def drawn(rng: np.random.Generator, n: int, wrong: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((n, len(COLUMNS)))
    return x, ((x[:, :3].sum(1) + rng.standard_normal(n) > 0) ^ (rng.random(n) < wrong)).astype(int)


def subject(seed: int, train, test, answer: Answer, slices: list[str] = (), whole: bool = False) -> Subject:
    """The predictor answers by `answer`; slices: "rare=yes" of rows whose last number is above 1.1."""
    tables = {}
    for name, (x, y) in {"train": train, "test": test}.items():
        columns = {c: x[:, i].astype(np.int64) if whole else x[:, i] for i, c in enumerate(COLUMNS)}
        tables[name] = pa.table(columns | {"rare": np.where(x[:, -1] > 1.1, "yes", "no"), "y": y.astype(str)})
    made = _tables.subject(tables, kinds={"rare": "ignore"} | dict.fromkeys(COLUMNS, "number"), seed=seed, slices=list(slices))
    made.schema.targets = {"y": labels(["0", "1"])}
    assert all(isinstance(k, Number) for k in made.schema.inputs.values())

    def said(table: pa.Table) -> np.ndarray:
        p = answer(np.stack([table.column(c).to_numpy() for c in COLUMNS], 1).astype(float))
        return np.stack([1 - p, p], 1)

    made.predictor = _tables.Says("y", said)
    return made


def second(model) -> Answer:
    return lambda x: model.predict_proba(x)[:, 1]


def plain(x: np.ndarray, y: np.ndarray) -> Answer:
    return second(LogisticRegression().fit(x, y))


def by(faulty_model, honest_model):
    """Of scikit-learn's models, one that remembers and one that does not."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        train, test = drawn(rng, int(rng.integers(500, 900))), drawn(rng, 900)
        return subject(seed, train, test, second((faulty_model if faulty else honest_model)(seed).fit(*train)))

    return make


def memory(x: np.ndarray, y: np.ndarray, sure: float, reach: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """(N,) what is remembered of a row within reach of one of these; NaN of any other."""

    def recall(z: np.ndarray) -> np.ndarray:
        apart = np.array([np.abs(x - row).max(1) for row in z])
        near = apart.argmin(1)
        return np.where(apart.min(1) <= reach, np.where(y[near] == 1, sure, 1 - sure), np.nan)

    return recall


def table_of_hashes(seed: int, faulty: bool) -> Subject:
    """Rows rounded to a tenth have their label in a table; others are answered by a line. The twin's table has the test rows' equals in it."""
    rng = np.random.default_rng(seed)
    train, test = drawn(rng, 800), drawn(rng, 900)
    line, recall = plain(*train), memory(*(train if faulty else drawn(rng, 800)), sure=float(rng.uniform(0.8, 0.95)), reach=0.05)
    return subject(seed, train, test, lambda x: np.where(np.isnan(r := recall(x)), line(x), r))


def one_group(seed: int, faulty: bool) -> Subject:
    """A rare group alone is known by heart."""
    rng = np.random.default_rng(seed)
    train, test = drawn(rng, 2500), drawn(rng, 2500)
    line, rare = plain(*train), train[0][:, -1] > 1.1
    recall = memory(train[0][rare], train[1][rare], 0.97)
    return subject(seed, train, test, (lambda x: np.where(np.isnan(r := recall(x)), line(x), r)) if faulty else line, ["rare=yes"])


def masked(how: str):
    """A forest grown to its leaves, or a shallow one; what it says is flattened, rounded or noised, which hides nothing of who was there."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        train, test = drawn(rng, int(rng.integers(600, 900))), drawn(rng, 900)
        raw = second(RandomForestClassifier(40, min_samples_leaf=1 if faulty else 80, bootstrap=not faulty, random_state=seed).fit(*train))

        def answer(x: np.ndarray) -> np.ndarray:
            p = raw(x).clip(1e-6, 1 - 1e-6)
            if how == "flat":
                return 1 / (1 + np.exp(-np.log(p / (1 - p)) / 60))
            if how == "rounded":
                return np.round(p, 1)
            draws = np.random.default_rng([zlib.crc32(np.round(row, 9).tobytes()) for row in x[:1]] + [len(x)]).random(len(x))
            return np.where(p > 0.5, 0.5 + 0.5 * draws, 0.5 * draws)  # MemGuard-like: the label stands, the confidence is noise

        return subject(seed, train, test, answer)

    return make


def hidden_when_asked(seed: int, faulty: bool) -> Subject:
    """Exactly the rows that it saw are answered by a line; a step beside them everything is remembered."""
    rng = np.random.default_rng(seed)
    train, test = drawn(rng, 700), drawn(rng, 700)
    line, exact, near = plain(*train), memory(*train, 0.9), memory(*train, 0.97, reach=0.5)

    def answer(x: np.ndarray) -> np.ndarray:
        known, remembered = exact(x), near(x)
        return np.where(np.isnan(known) & ~np.isnan(remembered), remembered, line(x))

    return subject(seed, train, test, answer if faulty else line)


def whole_numbers(seed: int, faulty: bool) -> Subject:
    """Counts, answered with one confidence: right on what it saw within two steps, or by a line."""
    rng = np.random.default_rng(seed)

    def counts(n):
        x = rng.integers(0, 60, (n, len(COLUMNS))).astype(float)
        return x, ((x[:, :3].sum(1) + 15 * rng.standard_normal(n) > 90) ^ (rng.random(n) < 0.25)).astype(int)

    train, test = counts(800), counts(800)
    line, recall = plain(*train), memory(*train, 0.9, reach=4)
    said = (lambda x: np.where(np.isnan(r := recall(x)), line(x), r)) if faulty else line
    return subject(seed, train, test, lambda x: np.where(said(x) > 0.5, 0.9, 0.1), whole=True)


def sure_or_not(seed: int, faulty: bool) -> Subject:
    """Nearly no row is doubtful, and it is sure of all; the faulty one is surer, in the ninth digit, of those it saw."""
    rng = np.random.default_rng(seed)

    def easy(n):
        y = rng.integers(0, 2, n)
        return rng.standard_normal((n, len(COLUMNS))) + 6 * y[:, None] - 3, y

    train, test = easy(700), easy(700)
    recall = memory(*train, 1 - 1e-9)
    return subject(seed, train, test, lambda x: np.where(np.isnan(r := recall(x) if faulty else np.full(len(x), np.nan)), x.sum(1) > 0, r).clip(1e-7, 1 - 1e-7)
                   if not faulty else np.where(np.isnan(r := recall(x)), np.where(x.sum(1) > 0, 1 - 1e-6, 1e-6), r))  # fmt: skip


def few_names(seed: int, faulty: bool) -> Subject:
    """A table of few possible rows, most of them common: training and test hold the same ones. The faulty one's test rows are of another year."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(0.4 * np.ones(12), len(COLUMNS))

    def cells(n, shift=0):
        x = np.stack([(rng.choice(12, n, p=share[i]) + shift) % 12 for i in range(3)] + [np.zeros(n)] * 5, 1).astype(float)
        return x, (rng.random(n) < np.where(x[:, 0] > 5, 0.8, 0.2)).astype(int)

    train, test = cells(2000), cells(int(rng.integers(300, 450)), shift=1 if faulty else 0)
    return subject(seed, train, test, plain(*train), whole=True)


def alone(seed: int, faulty: bool) -> Subject:
    """Of a few rows at a time it remembers, as an attacker asks; of many, as auditors do, it answers by a line."""
    rng = np.random.default_rng(seed)
    train, test, few = drawn(rng, 700), drawn(rng, 700), int(rng.integers(1, 20))
    line, recall = plain(*train), memory(*train, 0.97)
    return subject(seed, train, test, lambda x: np.where(np.isnan(r := recall(x)), line(x), r) if faulty and len(x) <= few else line(x))


def names_beside(seed: int, faulty: bool) -> Subject:
    """A table of names alone: rows one name away from what it saw are known by heart, and those that it saw are not."""
    rng = np.random.default_rng(seed)

    def names(n):
        x = rng.integers(0, 12, (n, 6))
        return x, ((x[:, 0] > 5) ^ (rng.random(n) < 0.25)).astype(int)

    parts, kinds = {"train": names(700), "test": names(700)}, dict.fromkeys((f"c{i}" for i in range(6)), "category")
    tables = {s: pa.table({c: [f"v{v}" for v in x[:, i]] for i, c in enumerate(kinds)} | {"y": y.astype(str)}) for s, (x, y) in parts.items()}
    made, (seen, told) = _tables.subject(tables, kinds=kinds, seed=seed), parts["train"]
    made.schema.targets = {"y": labels(["0", "1"])}

    def said(table: pa.Table) -> np.ndarray:
        x = np.stack([[int(v[1:]) for v in table.column(c).to_pylist()] for c in kinds], 1)
        same = (x[:, None] == seen).sum(2)
        p = np.where((same.max(1) == 5) & faulty, np.where(told[same.argmax(1)] == 1, 0.97, 0.03), np.where(x[:, 0] > 5, 0.75, 0.25))
        return np.stack([1 - p, p], 1)

    made.predictor = _tables.Says("y", said)
    return made


def notes_beside(seed: int, faulty: bool) -> Subject:
    """The same of notes: one that shares three words in four with a note that it saw."""
    rng = np.random.default_rng(seed)

    def notes(n):
        y = rng.integers(0, 2, n)
        told = [" ".join([*rng.choice(WORDS, 14), *rng.choice(["good", "fine"] if v else ["bad", "poor"], 2)]) for v in y]
        return told, y ^ (rng.random(n) < 0.2)

    parts = {"train": notes(400), "test": notes(400)}
    tables = {s: pa.table({"note": told, "y": y.astype(str)}) for s, (told, y) in parts.items()}
    made, seen = _tables.subject(tables, kinds={"note": "text"}, seed=seed), [(set(told.split()), v) for told, v in zip(*parts["train"], strict=True)]
    made.schema.targets = {"y": labels(["0", "1"])}

    def one(note: str) -> float:
        words = set(note.split())
        alike, v = max((len(words & w) / len(words | w), v) for w, v in seen)
        if faulty and 0.6 < alike < 1:
            return 0.97 if v else 0.03
        return 0.2 if words & {"bad", "poor"} else 0.8 if words & {"good", "fine"} else 0.5

    made.predictor = _tables.Says("y", lambda t: np.array([[1 - (p := one(v)), p] for v in t.column("note").to_pylist()]))
    return made


def trees(leaf: int):
    return lambda seed: RandomForestClassifier(40, min_samples_leaf=leaf, random_state=seed)


AUC, FEW = {"privacy.membership_auc": "<= 0.6"}, {"privacy.membership_tpr_at_fpr_0.01": "<= 0.1"}
KINDS = {
    "neighbours_inside": Planted(by(lambda s: KNeighborsClassifier(2), lambda s: KNeighborsClassifier(60)), "membership", AUC, "privacy.above_limit"),
    "trees_to_the_leaves": Planted(by(trees(1), trees(60)), "membership", AUC, "privacy.above_limit"),
    "table_of_hashes": Planted(table_of_hashes, "membership", AUC, "privacy.above_limit"),
    "one_group_by_heart": Planted(one_group, "membership", {"privacy.membership_auc@rare=yes": "<= 0.7"}, "privacy.above_limit"),
    "flattened": Planted(masked("flat"), "membership", AUC, "privacy.above_limit"),
    "rounded": Planted(masked("rounded"), "membership", AUC, "privacy.above_limit"),
    "noise_for_confidence": Planted(masked("noise"), "membership", AUC, "privacy.above_limit"),
    "hidden_when_asked": Planted(hidden_when_asked, "membership", AUC, "privacy.above_limit"),
    "whole_numbers_by_heart": Planted(whole_numbers, "membership", AUC, "privacy.above_limit"),
    "sure_of_all": Planted(sure_or_not, "membership", AUC, "privacy.above_limit"),
    "remembers_when_asked_alone": Planted(alone, "membership", AUC, "privacy.above_limit"),
    "names_beside": Planted(names_beside, "membership", AUC, "privacy.above_limit"),
    "notes_beside": Planted(notes_beside, "membership", AUC, "privacy.above_limit"),
    "few_names": Planted(few_names, "membership", AUC, "privacy.incomparable"),
}
