"""Sets of labels: reading, encoding, what is unknown and unseen, metrics against scikit-learn, and a whole run from lists and from text."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

import modelwright as mw
from modelwright import find
from modelwright.data.schema import infer, profile
from modelwright.errors import Refusal
from modelwright.forms import Prediction


def fitted(values, **settings):
    kind = find.make("kinds", {"labels": settings})
    kind.fit(column(values))
    return kind


def column(values) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def test_lists_and_texts_mean_the_same():
    lists = fitted([["b", "a"], [], None, ["a", "a"]])
    assert lists.names_ == ["a", "b"] and lists.numbers == 2
    target = lists.encode_target(column([["b", "a"], [], None, ["a", "a"]]))
    np.testing.assert_array_equal(target["values"], [[1, 1], [0, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(target["known"], [True, True, False, True])
    for first, last in (("b;a", "a; a"), ("b|a", "a |a"), ("b, a", "a,a"), ("b；a", "a;a"), ("b、a", "a")):
        texts = [first, "", None, last]
        kind = fitted(texts)
        np.testing.assert_array_equal(kind.encode_target(column(texts))["values"], target["values"])


def test_the_stronger_separator_wins_and_can_be_declared():
    assert fitted(["New York, USA; Paris", "Paris"]).names_ == ["New York, USA", "Paris"]
    assert fitted(["a/b", "b-c"], separators="/-").names_ == ["a", "b", "c"]
    assert fitted(["糖尿病；高血压", "高血压"]).names_ == sorted(["糖尿病", "高血压"])


def test_as_an_input_the_unknown_is_nan_and_the_unseen_nothing():
    kind = fitted([["b", "a"], ["a"]])
    np.testing.assert_array_equal(kind.encode(column([["a", "z"], None, []]))["values"], [[1, 0], [np.nan, np.nan], [0, 0]])
    assert fitted([["b", "a"], ["a"]], most=1).names_ == ["a"]


def test_an_unseen_label_in_a_target_is_refused_unless_told():
    with pytest.raises(Refusal, match="'z'"):
        fitted([["a"], ["b"]]).encode_target(column([["a", "z"]]))
    np.testing.assert_array_equal(fitted([["a"], ["b"]], drop_unseen=True).encode_target(column([["a", "z"]]))["values"], [[1, 0]])
    assert fitted([["a"]], labels=["z", "a"]).encode_target(column([["a", "z"]]))["values"].tolist() == [[True, True]]


def test_only_lists_of_text_are_guessed():
    table = pa.table({"t": [["a"], ["b", "c"]], "n": [[1.0], [2.0]], "s": ["a;b", "c"]})
    kinds = find.find("kinds", "labels")
    assert [kinds.guess(p) > 0 for p in profile(table).values()] == [True, False, False]
    assert infer(profile(table)["t"]) == "labels"


def test_what_was_fitted_is_json():
    kind = fitted(["甲;乙", "乙"])
    again = find.make("kinds", "labels")
    again.load(json.loads(json.dumps(kind.state())))
    np.testing.assert_array_equal(again.encode(column(["甲"]))["values"], kind.encode(column(["甲"]))["values"])


def test_metrics_are_scikit_learns_on_the_known_rows():
    rng = np.random.default_rng(0)
    y, p = rng.random((60, 4)) < 0.4, rng.random((60, 4)) < 0.4
    known = rng.random(60) < 0.8
    found = fitted([list("abcd")]).metrics(Prediction(value=torch.from_numpy(p)), {"values": y, "known": known})
    rows = rng.integers(0, 60, 80)
    at = rows[known[rows]]
    assert found["micro_f1"].value(rows) == pytest.approx(f1_score(y[at], p[at], average="micro"))
    assert found["macro_f1"].value(rows) == pytest.approx(f1_score(y[at], p[at], average="macro"))
    assert found["subset_accuracy"].value(rows) == pytest.approx(accuracy_score(y[at], p[at]))


@pytest.mark.parametrize("form", ["list", "text"])
def test_a_run_learns_every_label_and_reads_labels_as_inputs(form, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    x, has = rng.normal(size=(600, 2)), rng.random((600, 3)) < 0.5
    true = np.stack([x[:, 0] > 0, x[:, 1] > 0.5, has[:, 0]], 1)
    tags = [[n for n, yes in zip(("运动", "news", "art"), row, strict=True) if yes] for row in true]
    read = [[n for n, yes in zip("uvw", row, strict=True) if yes] for row in has]
    tags[7] = None
    if form == "text":
        tags, read = [None if t is None else "|".join(t) for t in tags], ["|".join(t) for t in read]
    table = pa.table({"x": x[:, 0], "y": x[:, 1], "read": read, "tags": tags})
    data = {"source": table, "columns": {"read": "labels"}}
    run = mw.run(mw.task_of({"data": data, "target": {"tags": "labels"}, "stages": [{"fit": {"steps": 150}}]}), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    lines = {e["metric"]: e for e in run.evidence["evidence"] if e["slice"] is None}
    assert lines["micro_f1"]["value"] > 0.9 and lines["subset_accuracy"]["value"] > 0.8
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    answer = mw.load(tmp_path / "run").answer(table.slice(0, 5))
    assert answer.num_rows == 5 and {"tags", "tags=运动", "tags=art"} <= set(answer.column_names)
