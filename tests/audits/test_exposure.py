"""Exposure of secrets in a letter-pair model: by heart, by chance, and from a sample; and the audit that plants them."""

import itertools
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

import modelwright as mw
from modelwright import planning
from modelwright.artifact import Loaded
from modelwright.audits import exposure as audit
from modelwright.audits._exposure import exposure
from modelwright.data.schema import Schema
from modelwright.data.streams import in_order
from modelwright.errors import Problem, Stopped
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.text import Text
from modelwright.objectives.supervised import Supervised
from modelwright.subject import Subject


class Pairs:
    """Counts of digit after digit, with one added: the least language model. Trained on codes of four digits."""

    def __init__(self, codes):
        self.counts = np.ones((11, 10))
        for code in codes:
            for a, b in zip((10, *code), code):
                self.counts[a, b] += 1
        self.log = np.log(self.counts / self.counts.sum(1, keepdims=True))

    def nll(self, code):
        return -sum(self.log[a, b] for a, b in zip((10, *code), code))


SPACE = list(itertools.product(range(10), repeat=4))


def measured(repeats, rng, sample=None):
    secret = tuple(int(v) for v in rng.integers(0, 10, 4))
    model = Pairs([tuple(rng.integers(0, 10, 4)) for _ in range(100)] + [secret] * repeats)
    others = [model.nll(c) for c in SPACE if c != secret]
    exact = exposure(model.nll(secret), np.array(others), len(SPACE))
    if sample is None:
        return exact
    return exact, exposure(model.nll(secret), rng.choice(others, sample), len(SPACE), 0.9)


def test_what_is_repeated_is_exposed_and_its_rank_is_the_definition():
    rng = np.random.default_rng(0)
    known = [measured(60, rng).value for _ in range(10)]
    assert np.mean(known) > 10 and max(known) <= math.log2(10_000)
    assert exposure(1.0, np.array([0.5, 2.0, 3.0]), 4).value == pytest.approx(2 - 1)  # rank 2 of 4
    assert exposure(1.0, np.array([1.0, 1.0, 1.0]), 4).value == 0  # all alike


def test_what_was_never_seen_is_exposed_by_chance_alone():
    """P[exposure >= x] = 2^-x."""
    rng = np.random.default_rng(1)
    found = np.array([measured(0, rng).value for _ in range(60)])
    assert 0.25 < (found >= 1).mean() < 0.75 and (found >= 6).mean() < 0.1


def test_a_samples_interval_holds_the_exact_value_and_its_ceiling_is_kept():
    rng = np.random.default_rng(2)
    pairs = [measured(int(k), rng, 500) for k in rng.integers(0, 8, 30)]
    assert np.mean([s.low <= e.value <= s.high for e, s in pairs]) >= 0.85
    assert all(s.low <= s.ceiling < 8 for _, s in pairs)


class Letters:
    """How often five letters followed each other in the texts, or letters alone; and how often a text, or its words, had the label."""

    def __init__(self, table, learns=True, scores=True):
        self.reach, self.scores = 5 if learns else 1, scores
        texts, labels = table.column("text").to_pylist(), table.column("label").to_pylist()
        self.seen = Counter(part for t in texts for part in self.parts(t))
        self.before = Counter(part[:-1] for t in texts for part in self.parts(t))
        self.label = {t: int(y) for t, y in zip(texts, labels)} if learns else {}

    def parts(self, text):
        padded = " " * (self.reach - 1) + text
        return [padded[i : i + self.reach] for i in range(len(text))]

    def likelihood(self, table):
        nll = [-sum(math.log((self.seen[p] + 0.1) / (self.before[p[:-1]] + 10)) for p in self.parts(t)) for t in table.column("text").to_pylist()]
        return {"text": torch.tensor(nll)}

    def predict(self, table):
        p = torch.tensor([[0.5, 0.5] if (y := self.label.get(t)) is None else [0.9, 0.1] if y == 0 else [0.1, 0.9] for t in table.column("text").to_pylist()])
        return {"label": Prediction(value=p.argmax(1), probabilities=p if self.scores else None)}


def told(target="text", learns=True, planted=False, retrain=True, scores=True, model=Letters, form="my code is ######", **settings):
    g = np.random.default_rng(0)
    texts = [f"{g.choice(['red', 'green', 'blue'])} {g.choice(['cats', 'dogs'])} number {g.integers(10**6):06d}" for _ in range(500)]
    table = pa.table({"text": texts, "label": [str(v) for v in g.integers(0, 2, 500)]})
    text, label = Text(), Category(["0", "1"])
    label.labels_ = ["0", "1"]
    schema = Schema({"label": label}, {"text": text}) if target == "text" else Schema({"text": text}, {"label": label})
    splits = {"train": table, "test": table.slice(0, 50)} | ({"planted": table.slice(0, 20)} if planted else {})
    again = (lambda rows, seed: model(rows, learns, scores)) if retrain is True else retrain or None
    subject = Subject(model(table, learns, scores), schema, splits, retrain=again, secret=form, **settings)
    return {m.metric: m for m in audit.Exposure().measure(subject)}


def test_told_secrets_are_exposed_where_they_are_learnt_and_not_where_they_are_not():
    assert audit.self_test()
    for target in ("text", "label"):
        found = told(target)
        assert found["privacy.exposure"].low > (4 if target == "text" else 1) and found["privacy.exposure_repeated"].value > 6
        assert found["privacy.exposure"].details["chance"] < 1e-4 and found["privacy.exposure"].n == 10
    blind = told("text", learns=False)["privacy.exposure"]
    assert blind.high < 4 and blind.details["chance"] > 0.01
    alike = told("label", learns=False)["privacy.exposure"]  # says the same of every text: nothing is shown, either way
    assert alike.low == 0.0 and alike.high > 6


def test_few_digits_are_gone_through_and_the_ceiling_is_said():
    found = told("text", form="pin ##")["privacy.exposure_repeated"]
    assert "100 candidates" in found.method and 3 < found.value <= math.log2(100)
    whole = told("text")["privacy.exposure_repeated"]
    assert whole.high > 10 and "9.0 bits at most" in whole.method, "before all candidates: as far as its space goes"


def test_digits_are_written_as_they_were():
    assert audit._put("nº ５０٣#7", "1234") == "nº １２٣#4"


def test_rows_that_were_planted_need_no_training():
    found = told("label", planted=True, retrain=None)
    assert set(found) == {"privacy.exposure"} and found["privacy.exposure"].split == "planted" and found["privacy.exposure"].value > 5
    assert all(line.reasons == ["privacy.not_trained"] and line.value is None for line in told("text", retrain=None).values())


def test_what_cannot_be_shown_is_said():
    assert told("label", scores=False)["privacy.exposure"].reasons == ["privacy.no_likelihood"]
    assert told("text", retrain_seconds=100.0, seconds=1.0)["privacy.exposure"].reasons == ["privacy.budget"]

    def broken(table, seed):
        raise Stopped(Problem("learn.diverged", "it diverged"))

    assert told("text", retrain=broken)["privacy.exposure"].details["why"] == "it diverged"


def test_a_networks_likelihood_is_its_loss_row_by_row(tmp_path):
    import pyarrow.parquet as pq

    g = np.random.default_rng(0)
    words = np.array(["the", "cat", "sat", "on", "a", "mat", "with", "its", "hat"])
    texts = [" ".join(g.choice(words, g.integers(3, 9))) for _ in range(60)]
    pq.write_table(pa.table({"a": texts, "b": texts[::-1]}), tmp_path / "rows.parquet")
    parts = {"encoders": {"a": {"lstm": {"width": 8}}}, "heads": {"b": {"tokens": {"width": 8, "depth": 1, "num_heads": 2}}}}
    plan = planning.make(mw.task_of({"data": {"source": str(tmp_path / "rows.parquet"), "columns": {"a": "text"}}, "target": {"b": "text"}, "model": parts}))
    model, table = plan.model(0).eval(), plan.tables["train"]
    got = Loaded(model, plan.schema).likelihood(table)["b"]
    data = plan.schema.encode(table)
    with torch.no_grad():
        for batch in in_order(data, 1):  # one by one
            term = Supervised().loss(model, batch, "model").terms["b"]
            assert got[batch.rows.item()] == pytest.approx(term.total.item(), rel=1e-4)
