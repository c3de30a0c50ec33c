"""A policy through its whole life: an environment as a source, rollouts, evidence from episodes, a saved model that plays on."""

import json

import pytest

import modelwright as mw
from modelwright.errors import Refusal

pytest.importorskip("gymnasium")
SMALL = {"clipped_policy": {"copies": 16, "steps": 32, "batch_size": 256, "passes": 4}}


def task(**more):
    return mw.task_of({"data": "gym://CartPole-v1", "target": "action", "stages": [{"train": {"objective": SMALL, "epochs": 15}}], **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mw.run(task(audit={"require": {"episode_return": ">= 40"}}), tmp_path_factory.mktemp("policy") / "run")


def test_a_policy_learns_and_is_judged_by_episodes(run):
    line = next(e for e in run.evidence["evidence"] if e["metric"] == "episode_return" and e["split"] == "test")
    assert line["value"] > 2 * line["details"]["random"] and line["n"] == 100
    assert run.decision["verdict"] == "pass" and run.baselines["random"]["episode_return"]["value"] == line["details"]["random"]
    assert not any(e["metric"] == "accuracy" for e in run.evidence["evidence"]), "a random policy's actions are no truth"
    assert "episode_return" in (run.folder / "report.html").read_text("utf-8")


def test_the_saved_policy_acts_on_a_table(run):
    answers = mw.load(run.folder).answer(mw.plan(task()).tables["test"].slice(0, 5))
    assert set(answers.column("action").to_pylist()) <= {"0", "1"} and answers.num_rows == 5


def test_what_it_logs_can_be_read(run):
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert {"approximate_kl", "clip_fraction", "environment_steps"} <= set(lines[5]) and any("validation.episode_return" in x for x in lines)


def test_a_policy_that_remembers(tmp_path):
    data = {"source": "gym://CartPole-v1", "environment": {"observe": [0, 2], "history": True}}
    objective = {"clipped_policy": {"copies": 8, "steps": 16, "batch_size": 64, "passes": 2}}
    run = mw.run(mw.task_of({"data": data, "target": "action", "stages": [{"train": {"objective": objective, "epochs": 2}}]}), tmp_path / "run")
    assert run.headline["metric"] == "episode_return" and run.headline["value"] > 5


def test_a_policy_cut_short_goes_on_to_the_same_bits(tmp_path):
    stage = {"objective": {"clipped_policy": {"copies": 8, "steps": 32, "batch_size": 64, "passes": 2}}, "epochs": 5, "checkpoint_minutes": 1e-9}
    tree = task(stages=[{"train": {**stage, "precision": "fp32", "threads": 1, "keep": "last"}}])

    def cut(event, facts):
        if event == "step" and facts["step"] >= 21:
            raise KeyboardInterrupt

    whole = mw.run(tree, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        mw.run(tree, tmp_path / "cut", log=cut)
    resumed = mw.run(tree, tmp_path / "cut", resume=True)
    assert resumed.evidence["model"] == whole.evidence["model"]


@pytest.mark.parametrize(
    "tree, code",
    [
        ({"data": "gym://CartPoll-v1"}, "environment.unknown"),
        ({"target": "reward"}, "task.target"),
        ({"data": {"source": "gym://CartPole-v1", "environment": {"observe": [9]}}}, "environment.observe"),
        ({"data": "sklearn://iris", "target": "species"}, "objective.environment"),
        ({"stages": [{"train": {"objective": SMALL, "strategies": ["dp_sgd"]}}]}, "plan.conflict"),
        ({"model": {"encoders": {"table": "mlp"}}}, "objective.dropout"),
    ],
)
def test_what_cannot_be_is_refused_before_acting(tree, code):
    with pytest.raises(Refusal) as refused:
        mw.plan(task(**tree))
    assert code in {p.code for p in refused.value.problems}
