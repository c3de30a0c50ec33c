"""Baselines answer as scikit-learn's own estimators do, from arrays alone."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

import modelwright as mw
from modelwright import baselines, boosted, find, predictor
from modelwright.baselines import Baseline, summaries
from modelwright.data.schema import Schema
from modelwright.errors import Refusal


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("categories", [None, [1, 3]])
def test_trees_from_arrays_are_scikit_learns(classes, categories):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    x[:, 1], x[:, 3] = rng.integers(0, 40, 500), rng.integers(3, 9, 500)
    x[rng.random(500) < 0.2, 0] = np.nan
    score = np.nan_to_num(x[:, 0]) + (x[:, 1] % 3) + x[:, 2] ** 2 + (x[:, 3] == 5)
    y = score if not classes else np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    cls = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    made = cls(max_iter=20, categorical_features=categories, random_state=0).fit(x[:300], y[:300])
    x[400:, 3] = 77  # a category that training never saw
    x[450:, 1] = np.nan
    got = boosted.raw(boosted.arrays_of(made), x)
    want = made._raw_predict(x)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_trees_whose_last_tree_has_no_categories():
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, 3, 300), rng.normal(size=300)], 1)
    y = (x[:, 0] == 1) * 99 + np.sin(9 * x[:, 1])
    made = HistGradientBoostingRegressor(max_iter=30, learning_rate=1.0, max_leaf_nodes=3, categorical_features=[0], random_state=0).fit(x, y)
    has = [len(stage[0].raw_left_cat_bitsets) for stage in made._predictors]
    assert has[0] and not has[-1]
    np.testing.assert_allclose(boosted.raw(boosted.arrays_of(made), x), made._raw_predict(x), rtol=1e-9, atol=1e-9)


def test_the_bag_of_a_text_is_scikit_learns_tfidf():
    texts = ["a cat sat", "the cat and the dog and the cat", None, "", "一只 猫 sat"]
    table = pa.table({"note": texts, "y": ["a", "b", "a", "b", "a"]})
    schema = Schema({"note": find.make("kinds", {"text": {"vocabulary": 300}})}, {"y": find.make("kinds", "category")})
    schema.fit(table)
    data = schema.encode(table)
    made = Baseline.fit("linear", schema, data, 0)
    bag = made._bag(data.inputs["note"], 5, schema.inputs["note"].vocabulary_size)
    want = TfidfTransformer(sublinear_tf=True).fit_transform(bag.copy())
    np.testing.assert_allclose(made.features(data).toarray(), want.toarray(), atol=1e-12)


def test_summaries_of_series():
    values, offsets = np.array([[1.0], [3.0], [2.0]], np.float32), np.array([0, 0, 3])
    got = summaries(values, offsets)
    np.testing.assert_allclose(got, [[0] * 6, [2, np.std([1, 3, 2]), 1, 3, 1, 2]], rtol=1e-6)


@pytest.mark.parametrize("data, target", [("sklearn://breast_cancer", "diagnosis"), ("sklearn://diabetes", "progression")])
@pytest.mark.parametrize("name", ["majority", "linear", "trees"])
def test_a_baseline_is_chosen_saved_audited_and_served(data, target, name, tmp_path):
    task = mw.task_of({"data": data, "target": target, "model": {"instead": name}})
    run = mw.run(task, tmp_path / "run")
    plan = mw.plan(task)
    fitted = Baseline.fit(name, plan.schema, plan.data["train"], 0).predict(plan.tables["test"])[target]
    served = mw.load(run.folder).predict(plan.tables["test"])[target]
    assert torch.equal(served.value, fitted.value)
    assert name not in run.baselines and run.headline["value"] is not None and not list((tmp_path / "run").rglob("*.pkl"))


def test_each_label_of_a_set_is_scikit_learns_logistic_regression(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    hot = np.stack([x[:, 0] > 0.3, x[:, 1] + x[:, 2] > 0, np.ones(400, bool)], 1)
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "topics": ["|".join(np.array(["x", "y", "z"])[row]) for row in hot]})
    tree = {"data": table, "target": {"topics": "labels"}, "stages": [{"train": {"steps": 20}}]}
    plan = mw.plan(mw.task_of(tree))
    fitted, rows = Baseline.fit("linear", plan.schema, plan.data["train"], 0), plan.data["train"].targets["topics"]["values"]
    features, said = fitted.features(plan.data["test"]), fitted.predict(plan.tables["test"])["topics"]
    for k in (0, 1):
        theirs = LogisticRegression(max_iter=300).fit(fitted.features(plan.data["train"]), rows[:, k]).predict_proba(features)[:, 1]
        np.testing.assert_allclose(said.extra["probabilities"][:, k], theirs, atol=1e-5)
    assert said.value[:, 2].all() and (said.value == torch.from_numpy(plan.data["test"].targets["topics"]["values"])).float().mean() > 0.95
    run = mw.run(mw.task_of(tree), tmp_path / "run")
    assert run.baselines["linear"]["micro_f1"]["value"] > 0.95 > run.baselines["majority"]["micro_f1"]["value"]
    assert mw.run(mw.task_of({k: tree[k] for k in ("data", "target")} | {"model": {"instead": "linear"}}), tmp_path / "chosen").headline["value"] > 0.95


def test_a_baseline_that_cannot_learn_the_task_is_refused():
    with pytest.raises(Refusal, match="trees cannot learn"):
        mw.plan(mw.task_of({"data": "sklearn://digits", "target": "digit", "model": {"instead": "trees"}}))


def test_a_large_table_is_answered_in_parts_and_learnt_from_some_rows(tmp_path, monkeypatch):
    table = load_iris(as_frame=True).frame.rename(columns={"target": "kind"})
    task = {"data": table, "target": {"kind": "category"}, "stages": [{"train": {"steps": 5, "threads": 1}}]}
    mw.run(mw.task_of(task), tmp_path / "run")
    rows, loaded = pa.Table.from_pandas(table), mw.load(tmp_path / "run")
    train = loaded.schema.encode(rows)
    whole = {name: p.predict(rows)["kind"] for name, p in {"net": loaded, **baselines.fit(loaded.schema, train, 0)}.items()}
    monkeypatch.setattr(predictor, "CHUNK", 7)
    for name, p in {"net": loaded, **baselines.fit(loaded.schema, train, 0)}.items():
        said = p.predict(rows)["kind"]
        torch.testing.assert_close(said.probabilities, whole[name].probabilities)
        assert torch.equal(said.value, whole[name].value)
    monkeypatch.setattr(baselines, "ROWS", 60)
    few = baselines._some(train, 0)
    assert len(few) == 60 == len(few.inputs["table"]["numbers"]) == len(few.targets["kind"]["values"])
    assert not torch.allclose(baselines.fit(loaded.schema, train, 0)["linear"].predict(rows)["kind"].probabilities, whole["linear"].probabilities)
