"""A stage may learn from another source; what the held-out splits hold never reaches it."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import modelwright as mw
from modelwright.errors import Refusal


def made(tmp_path, stage):
    frame = load_breast_cancer(as_frame=True).frame
    frame["target"] = np.where(frame["target"] == 1, "benign", "malignant")
    frame.to_csv(tmp_path / "labelled.csv", index=False)
    more = frame.drop(columns="target")
    more.to_csv(tmp_path / "unlabelled.csv", index=False)
    (more * 1.01).to_parquet(tmp_path / "other.parquet")
    stages = [{"pretrain": {"objective": "masked", "epochs": 1, **stage}}, {"train": {"epochs": 2}}]
    return mw.task_of({"data": "labelled.csv", "target": "target", "stages": stages}, root=tmp_path)


def test_rows_of_held_out_splits_are_left_out_of_pre_training(tmp_path):
    plan = mw.plan(made(tmp_path, {"data": "unlabelled.csv"}))
    held = sum(plan.tables[s].num_rows for s in ("validation", "calibration", "test"))
    assert len(plan.train(0)) == 569 - held and plan.train(1) is plan.data["train"]
    assert any(f"{held} rows stand in a held-out split" in w for w in plan.warnings)


def test_other_rows_are_all_used_and_remembered(tmp_path):
    task = made(tmp_path, {"data": "other.parquet"})
    run = mw.run(task, tmp_path / "run")
    assert run.stages[0]["data"].startswith("sha256:") and run.stages[1]["data"] is None
    assert len(mw.plan(task).train(0)) == 569
    again = mw.plan(mw.load_task(tmp_path / "run" / "task.yaml"))
    assert again.stages[0].digest == run.stages[0]["data"]


def test_a_column_that_is_missing_there_is_named(tmp_path):
    task = made(tmp_path, {"data": "other.parquet"})
    frame = load_breast_cancer(as_frame=True).frame.drop(columns=["mean radius", "target"])
    frame.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(Refusal, match="'mean radius' is missing"):
        mw.plan(task)
