"""Rates with their ties and exact intervals, likelihood ratios against scipy, and who is told from whom."""

import time

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright.audits import membership as mb
from modelwright.data.schema import Schema
from modelwright.errors import Problem, Stopped
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject


def test_rate_at_counts_whole_ties_only():
    others = np.arange(100.0)
    assert mb.rate_at(np.array([99.5, 98.5, 50.0]), others, 0.01, 0.95)[0] == pytest.approx(2 / 3)  # one of 100 others may lie above: above 98
    assert mb.rate_at(np.full(50, 3.0), np.full(50, 3.0), 0.01, 0.95) == (0.0, 0.0, 1.0)
    assert mb.rate_at(np.full(50, 3.0), np.zeros(1000), 0.01, 0.95)[1] > 0.9


def test_rate_intervals_hold_what_they_say():
    """Members N(1, 1), others N(0, 1): the true rate at fpr 0.05 is known."""
    from scipy.stats import norm

    truth, g = 1 - norm.cdf(norm.isf(0.05) - 1), np.random.default_rng(0)
    hits = []
    for _ in range(200):
        _, low, high = mb.rate_at(g.standard_normal(200) + 1, g.standard_normal(300), 0.05, 0.9)
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.9


def test_likelihood_ratio_is_that_of_normal_fits():
    from scipy.stats import norm

    g = np.random.default_rng(0)
    seen, held, score = g.standard_normal((12, 5)), np.arange(12)[:, None] % 2 == np.arange(5) % 2, g.standard_normal(5)
    got = mb.likelihood_ratio(score, seen, held)
    means = [np.array([seen[m[:, i], i].mean() for i in range(5)]) for m in (held, ~held)]
    sds = [np.sqrt(sum(((seen[m[:, i], i] - mu[i]) ** 2).sum() for i in range(5)) / (5 * 5)) for m, mu in zip((held, ~held), means)]
    expected = norm.logpdf(score, means[0], sds[0]) - norm.logpdf(score, means[1], sds[1])
    assert np.allclose(got, expected)


def test_scaled_confidence_is_the_log_odds():
    p = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    assert np.allclose(mb.scaled(p, np.array([1, 0])), np.log([0.5 / 0.5, 0.9 / 0.1]))


class Remembers:
    """Sure of the rows that it was made from, a coin for all others; without the scores it says right and wrong."""

    def __init__(self, table, schema, scores=True):
        self.seen = dict(zip(table.column("a").to_pylist(), table.column("label").to_pylist()))
        self.schema, self.scores = schema, scores

    def predict(self, table):
        rows = [self.seen.get(v) for v in table.column("a").to_pylist()]
        p = torch.tensor([[0.5, 0.5] if r is None else [0.99, 0.01] if r == "0" else [0.01, 0.99] for r in rows])
        return {"label": Prediction(value=p.argmax(1), probabilities=p if self.scores else None)}


def world(n=200, shift=0.0, scores=True, retrain=False, took=0.0, seconds=None, rows=1000, few=None):
    g = np.random.default_rng(0)
    kind, label = Number(scale=False), Category(["0", "1"])
    kind.fit(pa.chunked_array([[0.0, 1.0]]))
    label.labels_ = ["0", "1"]
    schema = Schema({"a": kind}, {"label": label})
    tables = {
        s: pa.table({"a": g.standard_normal(n) + d, "label": [str(v) for v in g.integers(0, 2, n)]}) for s, d in (("train", 0.0), ("test", shift))
    }
    tables["test"] = tables["test"].slice(0, few)
    again = (lambda table, seed: Remembers(table, schema, scores)) if retrain is True else retrain or None
    model = Remembers(tables["train"], schema, scores)
    subject = Subject(model, schema, tables, retrain=again, retrain_seconds=took, seconds=seconds)
    return {m.metric.removeprefix("privacy."): m for m in mb.Membership(rows).measure(subject)}


def test_what_remembers_is_found_with_scores_labels_and_shadows():
    assert world()["membership_auc"].low > 0.95 and world(600)["membership_tpr_at_fpr_0.01"].low > 0.85
    assert world(scores=False)["membership_auc"].low > 0.5
    found = world(retrain=True)
    assert found["membership_auc"].details["shadows"] >= mb.FEWEST and found["membership_auc"].details["aucs"]["lira"] > 0.95
    assert found["canary_tpr_at_fpr_0.05"].value == 1.0 and found["epsilon_lower_bound"].low > 2.5
    assert "at most" in found["epsilon_lower_bound"].method and found["epsilon_lower_bound"].high == float("inf")


def test_members_are_told_however_sure_the_model_is_of_them():
    """Less sure of what it saw than of anything else: the loss alone finds the opposite."""
    g = np.random.default_rng(0)
    inside, y = np.arange(800) < 400, g.integers(0, 2, 800)
    right = np.where(inside, 0.6, np.where(g.random(800) < 0.8, g.uniform(0.7, 1, 800), g.uniform(0, 0.3, 800)))
    p = np.stack([np.where(y == 0, right, 1 - right), np.where(y == 1, right, 1 - right)], 1)
    said = Prediction(value=torch.from_numpy(p).argmax(1), probabilities=torch.from_numpy(p))
    assert mb.m.auroc(inside.astype(int), mb.confidence(p, y)) < 0.3 and mb.m.auroc(inside.astype(int), mb.learnt(mb.said_of(said, y), inside, 0)) > 0.95
    aucs = [mb.m.auroc(inside.astype(int), mb.learnt(np.random.default_rng(s).standard_normal((800, 4)), inside, s)) for s in range(5)]
    assert max(aucs) < 0.56, "nothing is learnt where there is nothing"
    logs = np.log(p[0])
    assert np.allclose(mb.said_of(said, y)[0], [logs[y[0]], logs.max(), logs.max() - logs.min(), -(p[0] * logs).sum()])


def test_numbers_known_by_heart_are_found_by_their_errors():
    g = np.random.default_rng(0)
    kinds = {n: Number(scale=False) for n in "ay"}
    x, y = g.standard_normal((2, 800))
    for n, column in (("a", x), ("y", y)):
        kinds[n].fit(pa.chunked_array([column]))
    table, schema = pa.table({"a": x, "y": y}), Schema({"a": kinds["a"]}, {"y": kinds["y"]})
    tables, aucs = {"train": table.slice(0, 400), "test": table.slice(400)}, []
    for remembers in (True, False):
        seen = dict(zip(x[:400], y[:400])) if remembers else {}

        class Model:
            def predict(self, table, seen=seen):
                said = pa.chunked_array([[seen.get(v, 0.0) for v in table.column("a").to_pylist()]])
                return {"y": Prediction(value=torch.from_numpy(kinds["y"].encode_target(said)["values"]))}

        found = {m.metric: m for m in mb.Membership().measure(Subject(Model(), schema, tables))}
        aucs.append(found["privacy.membership_auc"])
    assert aucs[0].low > 0.95 and aucs[1].high < 0.62


def test_shadow_models_are_as_large_as_the_run_where_there_is_time():
    sizes = []

    def counted(table, seed):
        sizes.append(table.num_rows)
        return Remembers(table, None)

    found = world(400, retrain=counted, rows=100)["membership_auc"]
    assert found.details["shadows"] == mb.SHADOWS and sizes[1:] == [400] * mb.SHADOWS  # the first was the canaries'
    sizes.clear()
    assert world(400, retrain=counted, few=100)["membership_auc"].details["shadows"] == mb.SHADOWS
    assert set(sizes[1:]) == {375}, "three quarters of 500, as near to 400 as whole parts come"
    again = mb.Again(Subject(None, None, {"train": pa.table({"a": range(100)})}, retrain_seconds=10.0), time.perf_counter() + 32.0)
    assert 15 <= again.rows(20) <= 16


def test_sets_that_differ_by_themselves_are_not_compared():
    found = world(shift=1.0)
    assert found["membership_auc"].value is None and found["membership_auc"].reasons == ["privacy.incomparable"]


def test_what_the_time_does_not_allow_is_said_and_never_passes():
    slow = world(retrain=True, took=1e4, seconds=1.0)
    assert slow["membership_auc"].reasons == ["privacy.budget"] and slow["membership_auc"].high == 1.0
    assert slow["canary_tpr_at_fpr_0.05"].value is None and slow["epsilon_lower_bound"].reasons == ["privacy.budget"]
    assert slow["epsilon_lower_bound"].details["needed_seconds"] > 1e4

    def broken(table, seed):
        raise Stopped(Problem("learn.diverged", "it diverged"))

    lost = world(retrain=broken)
    assert lost["membership_auc"].reasons == ["privacy.retraining"] and lost["canary_tpr_at_fpr_0.05"].details["why"] == "it diverged"


def test_a_declared_slice_has_its_own_figures():
    """A model that knows the rows above 1 by heart, and no others."""
    g = np.random.default_rng(0)
    kind, label = Number(scale=False), Category(["0", "1"])
    kind.fit(pa.chunked_array([[0.0, 1.0]]))
    label.labels_ = ["0", "1"]
    schema = Schema({"a": kind}, {"label": label})
    tables = {s: pa.table({"a": g.standard_normal(900), "label": [str(v) for v in g.integers(0, 2, 900)]}) for s in ("train", "test")}
    model = Remembers(tables["train"].filter(pa.array(tables["train"].column("a").to_numpy() > 1)), schema)
    found = mb.Membership().measure(Subject(model, schema, tables, ["a>1", "a<1", "a>4"]))
    by = {(m.metric.removeprefix("privacy."), m.slice): m for m in found}
    assert len(by) == len(found) == 10 and all(by[m, None].reasons == ["privacy.not_trained"] for m in mb.CANARY)
    assert by["membership_auc", "a>1"].low > 0.95 and by["membership_auc", "a<1"].high < 0.6 and 0.5 < by["membership_auc", None].value < 0.7
    assert by["membership_auc", "a>1"].n < 400 and by["membership_tpr_at_fpr_0.01", "a>4"].reasons == ["privacy.too_few"]


def test_whole_numbers_are_moved_by_whole_steps():
    kind, label = Number(scale=False), Category(["0", "1"])
    kind.fit(pa.chunked_array([[0.0, 1.0]]))
    seen = []

    class Asked:
        def predict(self, table):
            seen.append(table.column("a"))
            return {"label": None}

    x = np.random.default_rng(0).integers(0, 100, 300)
    subject = Subject(Asked(), Schema({"a": kind}, {"label": label}), {})
    assert len(list(mb.noised(subject, "label", pa.table({"a": x}), np.random.default_rng(1), 3))) == 3
    for column in seen:
        moved = column.to_numpy() - x
        assert pa.types.is_integer(column.type) and column.to_numpy().min() >= 0 and 0 < np.abs(moved).mean() < 3


def told(schema, f, seen):
    class Asked:
        def predict(self, table):
            seen.append(table)
            p = torch.tensor([f(row, table.num_rows) for row in table.to_pylist()])
            return {"label": Prediction(value=(p > 0.5).long(), probabilities=torch.stack([1 - p, p], 1))}

    return Subject(Asked(), schema, {})


def test_a_model_that_remembers_when_asked_alone_is_asked_alone():
    kind, label, seen = Number(scale=False), Category(["0", "1"]), []
    kind.fit(pa.chunked_array([[0.0, 1.0]]))
    pool, inside = pa.table({"a": np.arange(60.0)}), np.arange(60) < 30
    schema = Schema({"a": kind}, {"label": label})
    said, alone = mb.asked(told(schema, lambda row, rows: 0.9 if rows == 1 and row["a"] < 30 else 0.4, seen), "label", pool, inside)
    assert alone and np.allclose(said.probabilities[:, 1], np.where(inside, 0.9, 0.4)) and sum(t.num_rows == 1 for t in seen) == 92
    said, alone = mb.asked(told(schema, lambda row, rows: 0.4, seen), "label", pool, inside)
    assert not alone and len(said.value) == 60


def test_names_pictures_and_texts_have_copies_beside_them():
    from modelwright.audits._beside import beside
    from modelwright.kinds.picture import Picture
    from modelwright.kinds.text import Text

    g = np.random.default_rng(0)
    names = pa.table({n: [f"v{v}" for v in g.integers(0, 9, 200)] for n in "ab"})
    kinds = {n: Category() for n in "ab"}
    for n, kind in kinds.items():
        kind.fit(names.column(n))
    moved = beside(Schema(kinds, {}), names, g)
    changed = np.stack([np.array(moved.column(n).to_pylist()) != np.array(names.column(n).to_pylist()) for n in "ab"], 1)
    assert changed.sum(1).max() == 1 and 0.8 < changed.any(1).mean() < 0.95  # one in nine is the same by chance
    notes = pa.table({"note": ["a picture of somebody who walks by the river in the evening sun " * 3] * 50})
    assert np.mean([v != notes.column("note")[0].as_py() for v in beside(Schema({"note": Text()}, {}), notes, g).column("note").to_pylist()]) > 0.8
    picture = Picture(size=8, channels=1)
    scans = pa.table({"scan": picture.answer("x", Prediction(value=torch.full((5, 1, 8, 8), 0.5)))["x"]})
    picture.fit(scans.column("scan"))
    pixels = picture.encode(beside(Schema({"scan": picture}, {}), scans, g).column("scan"))["values"] / 255
    assert 0.02 < pixels.std() < 0.06
    assert beside(Schema({}, {}), scans, g) is None
