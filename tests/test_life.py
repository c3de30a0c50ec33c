"""The whole life through the command line and the Python API, on small real data."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from sklearn.datasets import load_breast_cancer

import modelwright as mw
from modelwright.errors import Refusal

STAGES = [{"pretrain": {"objective": "masked", "steps": 60}}, {"finetune": {"steps": 120}}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


@pytest.fixture
def patients(tmp_path):
    d = load_breast_cancer(as_frame=True)
    frame = d.data.assign(diagnosis=d.target.map({0: "malignant", 1: "benign"}))
    path = tmp_path / "my patients.csv"
    frame.to_csv(path, index=False)
    return path


def cli(*args, **more):
    return subprocess.run([sys.executable, "-m", "modelwright.cli", *map(str, args)], capture_output=True, text=True, timeout=300, **more)


def test_a_run_beats_the_majority_and_its_saved_model_answers_alike(patients, tmp_path):
    task = mw.task_of({"data": str(patients), "target": "diagnosis", "stages": STAGES, "audit": {"require": {"accuracy": ">= 0.8"}}})
    run = mw.run(task, tmp_path / "run")
    assert run.decision["verdict"] == "pass"
    assert run.headline["value"] > 0.9 > run.baselines["majority"]["accuracy"]["value"]
    for name in (
        "task.yaml",
        "plan.json",
        "metrics.jsonl",
        "evidence.json",
        "lineage.json",
        "card.md",
        "report.html",
        "model/model.json",
        "model/model.safetensors",
    ):
        assert (tmp_path / "run" / name).stat().st_size > 0, name
    model = mw.load(tmp_path / "run")
    answers = model.answer(pyarrow.csv.read_csv(patients))
    truth = pyarrow.csv.read_csv(patients).column("diagnosis").to_pylist()
    assert np.mean(np.array(answers.column("diagnosis").to_pylist()) == np.array(truth)) > 0.9
    with pytest.raises(Refusal, match="already holds a run"):
        mw.run(task, tmp_path / "run")


def test_two_commands_from_a_csv_to_predictions(patients, tmp_path):
    made = cli("new", patients, "--target", "diagnosis", "--out", tmp_path / "task.yaml")
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "task.yaml").read_text()
    (tmp_path / "task.yaml").write_text(text + '\nstages: [{train: {steps: 60}}]\naudit: {require: {accuracy: ">= 0.999"}}\n')
    planned = cli("plan", tmp_path / "task.yaml", "--json")
    assert json.loads(planned.stdout)["rows"]["train"] > 300
    ran = cli("run", tmp_path / "task.yaml", "--out", tmp_path / "run", "--json")
    assert ran.returncode == 3, ran.stderr  # the limit is out of reach: inconclusive or fail
    assert json.loads(ran.stdout)["decision"]["verdict"] in ("inconclusive", "fail")
    done = cli("predict", tmp_path / "run", "--data", patients, "--out", tmp_path / "p.csv")
    assert done.returncode == 0 and pyarrow.csv.read_csv(tmp_path / "p.csv").num_rows == 569
    same = cli("compare", tmp_path / "run", tmp_path / "run", "--json")
    assert all(line["value"] == 0 for line in json.loads(same.stdout)["differences"]), same.stderr


def test_a_killed_run_goes_on_to_the_same_bits(patients, tmp_path):
    stages = [{"train": {"steps": 1500, "checkpoint_minutes": 0.002, "precision": "fp32", "threads": 1, "batch_size": 32}}]
    tree = {"data": str(patients), "target": "diagnosis", "stages": stages}
    (tmp_path / "task.yaml").write_text(json.dumps(tree))
    mw.run(mw.load_task(tmp_path / "task.yaml"), tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, "-m", "modelwright.cli", "run", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "cut")], stderr=subprocess.DEVNULL
    )
    for _ in range(1200):
        kept = sorted((tmp_path / "cut" / "checkpoints" / "train").glob("step-*"))
        if kept and int(kept[-1].name[5:]) >= 100:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "evidence.json").exists(), "it ended before it could be killed"
    mw.run(mw.load_task(tmp_path / "task.yaml"), tmp_path / "cut", resume=True)
    a, b = ((tmp_path / x / "model" / "model.safetensors").read_bytes() for x in ("whole", "cut"))
    assert a == b


def test_a_hostile_task_lists_every_problem(tmp_path):
    (tmp_path / "bad.yaml").write_text("data: {source: x.csv, colums: {}}\ntraget: y\nstages: [{train: {lr: fast, epoch: 3}}]\n")
    found = cli("run", tmp_path / "bad.yaml", "--json")
    assert found.returncode == 2 and "Traceback" not in found.stderr
    errors = json.loads(found.stdout)["errors"]
    assert {e["code"] for e in errors} >= {"task.unknown_key", "task.missing_key", "task.wrong_value"} and len(errors) >= 5
    assert any("columns" in e["fix"] for e in errors)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: &x [1]\nb: *x", "a:\n\t- 1", "a: !!python/object/apply:os.system [ls]", "[" * 3000, "- 1", "", "data: x\ntarget: [}"]
)
def test_hostile_yaml_is_refused(text, tmp_path):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(Refusal):
        mw.load_task(tmp_path / "t.yaml")


@pytest.mark.parametrize(
    "column, code",
    [(["a"] * 60, "data.one_class"), ([None] * 60, "data.empty_target"), ([f"name {i}" for i in range(60)], "data.target_kind")],
)
def test_targets_that_cannot_be_learned(column, code):
    table = pa.table({"x": np.random.default_rng(0).normal(size=60), "y": pa.array(column, pa.string())})
    with pytest.raises(Refusal) as e:
        mw.plan(mw.task_of({"data": {"source": table}, "target": "y"}))
    assert e.value.problems[0].code == code


def test_columns_with_odd_names_and_missing_values_train(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    table = pa.table({
        "pm2.5": pa.array(np.where(rng.random(300) < 0.3, None, x)), "keys": rng.normal(size=300), 
        "表 格": rng.choice(["甲", "乙", None], 300).tolist(),
        "forward": x + 0.1 * rng.normal(size=300), "结果": np.where(x > 0, "是的", "不是"),
    })  # fmt: skip
    run = mw.run(mw.task_of({"data": {"source": table}, "target": "结果", "stages": [{"train": {"steps": 150}}]}), tmp_path / "run")
    assert run.decision is None and run.headline["value"] > 0.8
