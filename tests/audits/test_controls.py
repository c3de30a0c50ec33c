"""The controls of a training run, against a run whose weights stand still and a recipe that reads the test rows' answers."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

import modelwright as mw
from modelwright import auditing, find
from modelwright.audits.controls import gained
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.registry import gate
from modelwright.subject import Subject


def table(n=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": np.where(x[:, 0] + 0.3 * rng.normal(size=n) > 0, "yes", "no")})


def run(folder, lr, require=None):
    pyarrow.csv.write_csv(table(), folder.with_name("rows.csv"))
    tree = {"data": {"source": str(folder.with_name("rows.csv"))}, "target": "y", "stages": [{"fit": {"steps": 60, "lr": lr, "threads": 1}}]}
    return mw.run(mw.task_of(tree | {"audit": {"require": require or {}}}), folder)


def lines(evidence):
    return {e["metric"]: e for e in evidence["evidence"]}


def test_a_run_that_learns_moves_its_weights_and_its_recipe_learns_nothing_from_shuffled_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    limits = {"accuracy.weights_moved": ">= 0.5", "accuracy.gain_of_shuffled_labels": "<= 0.25"}
    found = lines(run(tmp_path / "run", 0.01, limits).evidence)
    assert found["accuracy.weights_moved"]["value"] > 0.9 and found["accuracy.weights_moved"]["verdict"] == "pass"
    shuffled = found["accuracy.gain_of_shuffled_labels"]
    assert shuffled["verdict"] == "pass" and shuffled["low"] <= 0 and not shuffled["reason_codes"]
    again = mw.audit(tmp_path / "run", out=tmp_path / "audit", only=["controls"])
    assert lines(again.evidence)["accuracy.gain_of_shuffled_labels"]["value"] == pytest.approx(shuffled["value"])


def test_weights_that_stand_still_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    found = lines(run(tmp_path / "run", 1e-30).evidence)
    assert found["accuracy.weights_moved"]["value"] == 0 and found["accuracy.weights_moved"]["reason_codes"] == ["accuracy.weights_still"]
    assert found["accuracy.gain_of_shuffled_labels"]["reason_codes"] == ["accuracy.not_trained"]


@pytest.mark.parametrize("leaks", [False, True])
def test_a_recipe_that_reads_the_test_rows_learns_from_shuffled_labels(leaks):
    whole = table(800)
    schema = Schema({c: find.make("kinds", "number") for c in "abc"}, {"y": find.make("kinds", "category")})
    schema.fit(whole)
    answers = dict(zip(whole.column("a").to_pylist(), whole.column("y").to_pylist(), strict=True))

    class Knows:
        def predict(self, t):
            said = [answers[a] == "yes" if leaks else False for a in t.column("a").to_pylist()]
            return {"y": Prediction(value=torch.tensor(said).long())}

    splits = {"train": whole.slice(0, 500), "test": whole.slice(500)}
    s = Subject(Knows(), schema, splits, lineage={"moved": 1.0}, retrain=lambda rows, seed: Knows())
    found = {m.metric: m for m in auditing.measure(s, only=["controls"])}["accuracy.gain_of_shuffled_labels"]
    assert (found.reasons == ["accuracy.learns_from_shuffled"]) == leaks and (found.low > 0.3) == leaks
    limit = gate.parse({"accuracy.gain_of_shuffled_labels": "<= 0.1"})
    assert not limit.limits[0].empty and not gate.parse({"accuracy.gain_of_shuffled_labels": ">= 0"}).limits[0].empty


def test_the_gain_is_over_the_best_constant():
    assert gained(np.array([1, 1, 0]), np.array([1, 0, 0]), np.array([0, 0, 1]), True).tolist() == [1, -1, 0]
    assert gained(np.array([1.0, 0.0]), np.array([2.0, 0.0]), np.array([0.0, 0.5, 9.0]), False).tolist() == [0.5, 0.5]
