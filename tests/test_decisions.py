"""A model from elsewhere that decides for itself: a limit on calibration and one on fairness hold together, as the report says how."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import modelwright as mw
from modelwright.errors import Refusal

CODE = """
import numpy as np

def sure():
    return lambda table: three_times(table)[0]

def three_times(table):
    z = table.column("z").to_numpy() * 3
    p = 1 / (1 + np.exp(-z))
    return np.stack([1 - p, p], 1), z

def even():
    def answer(table):
        p, z = three_times(table)
        at = np.array([THRESHOLDS[f"sex={s}"][0][0] for s in table.column("sex").to_pylist()])
        q = 1 / (1 + np.exp(-z / TEMPERATURE))
        return {"probabilities": np.stack([1 - q, q], 1), "decisions": np.where(p[:, 1] > at, "yes", "no")}
    return answer

def truths():
    return lambda table: {"probabilities": three_times(table)[0], "decisions": three_times(table)[1] > 0}

def strange():
    return lambda table: {"probabilities": three_times(table)[0], "decisions": ["perhaps"] * table.num_rows}

def few():
    return lambda table: {"probabilities": three_times(table)[0], "decisions": ["yes"]}

def other():
    return lambda table: {"probabilities": three_times(table)[0], "answers": ["yes"]}
"""
TASK = {
    "data": {"source": "test.csv", "columns": {"sex": {"kind": "category", "group": True}}},
    "target": {"y": {"category": {"labels": ["no", "yes"]}}},
    "audit": {"require": {"calibration.ece": "<= 0.05", "fairness.demographic_parity_difference": "<= 0.1"}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for name in ("test", "calibration"):
        sex = rng.choice(["f", "m"], 4000)
        z = rng.normal(np.where(sex == "f", -0.7, 0.7), 1.5)
        y = np.where(rng.random(4000) < 1 / (1 + np.exp(-z)), "yes", "no")
        pa.csv.write_csv(pa.table({"sex": sex, "z": z, "y": y}), tmp_path / f"{name}.csv")
    return tmp_path


def audited(folder, name, out, **target):
    data = {r: str(folder / f"{r}.csv") for r in ("test", "calibration")}
    return mw.audit(f"{folder}/model.py:{name}", data, mw.task_of(TASK | target, root=folder), folder / out, only=["calibration", "fairness", "accuracy"])


def test_calibration_and_fairness_are_repaired_together_as_the_report_says(folder):
    (folder / "model.py").write_text(CODE)
    before = audited(folder, "sure", "before")
    lines = {e["metric"]: e for e in before.evidence["evidence"]}
    assert all(lines[m]["verdict"] == "fail" for m in TASK["audit"]["require"])
    temperature = lines["calibration.ece"]["details"]["repair"]["temperature"]
    thresholds = lines["fairness.demographic_parity_difference"]["details"]["repair"]["thresholds"]
    assert 2.5 < temperature < 3.5 and "decisions" in (folder / "before" / "report.html").read_text("utf-8")
    (folder / "model.py").write_text(f"{CODE}\nTEMPERATURE, THRESHOLDS = {temperature}, {json.dumps(thresholds)}\n")
    after = audited(folder, "even", "after")
    assert after.decision["verdict"] == "pass"
    assert "calibration is of its probabilities" in (folder / "after" / "report.html").read_text("utf-8")


def test_decisions_are_read_as_the_target_is(folder):
    (folder / "model.py").write_text(CODE)
    found = [{e["metric"]: e["value"] for e in audited(folder, n, n, target={"y": "boolean"}).evidence["evidence"]}["accuracy"] for n in ("truths", "sure")]
    assert found[0] == found[1] > 0.6


@pytest.mark.parametrize("name", ["strange", "few", "other"])
def test_what_is_no_decision_is_refused_before_the_test_is_opened(folder, name):
    (folder / "model.py").write_text(CODE)
    with pytest.raises(Refusal, match="decisions|a dict of"):
        audited(folder, name, name)
    assert not mw.Registry().history()
