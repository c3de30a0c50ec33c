"""The recipe once more: the same by seed, another by another, quiet, and what shadow models and canaries of a real run show."""

import numpy as np
import pytest
import torch

import modelwright as mw
from modelwright import planning
from modelwright.artifact import Loaded, open_model
from modelwright.auditing import retraining

SMALL = {"mlp": {"width": 32, "depth": 1, "bins": 0, "dropout": 0.0}}
TREE = {
    "data": "sklearn://breast_cancer", "target": "diagnosis", "model": {"encoders": {"table": SMALL}},
    "stages": [{"train": {"epochs": 3, "batch_size": 64, "threads": 1}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("again")
    return mw.run(mw.task_of(TREE), home / "run")


def said(model, table):
    return model.predict(table)["diagnosis"].probabilities.numpy()


def test_a_run_trained_again_is_the_same_by_seed_and_from_its_folder(run):
    plan = planning.make(mw.task_of(TREE))
    table, test, before = plan.tables["train"].slice(0, 200), plan.tables["test"], torch.get_rng_state()
    made = retraining.of_plan(plan, 60.0)
    one, two, other = made(table, 1), made(table, 1), made(table, 2)
    assert np.array_equal(said(one, test), said(two, test)) and not np.array_equal(said(one, test), said(other, test))
    assert torch.equal(before, torch.get_rng_state()), "an audit's own draws must not move"
    again, seconds = retraining.of_folder(run.folder, open_model(run.folder), plan.tables)
    assert np.allclose(said(again(table, 1), test), said(one, test), atol=1e-6) and seconds > 0
    whole = again(plan.tables["train"], 0)
    assert np.allclose(said(whole, test), said(Loaded(mw.load(run.folder).model, plan.schema), test), atol=1e-5), "the recipe on its own rows is the run"


def test_passes_are_kept_on_fewer_rows_and_baselines_are_fitted_again(tmp_path):
    plan = planning.make(mw.task_of(TREE))
    recipe = retraining.of_plan(plan, 60.0)  # seconds that the run took; three times as many are allowed
    stage = recipe._on(plan.stages[0], 64, 0)
    assert stage.steps == pytest.approx(3, abs=1) and stage.settings.batch_size == 64
    chosen = planning.make(mw.task_of(TREE | {"model": {"instead": "linear"}}))
    model = retraining.of_plan(chosen, 0.0)(chosen.tables["train"].slice(0, 200), 0)
    assert said(model, chosen.tables["test"]).shape[1] == 2


def test_a_private_recipe_draws_no_secret(tmp_path):
    tree = TREE | {"stages": [{"train": {"epochs": 1, "batch_size": 64, "threads": 1, "strategies": [{"dp_sgd": {"epsilon": 8}}]}}]}
    plan = planning.make(mw.task_of(tree))
    recipe = retraining.of_plan(plan, 60.0)  # seconds that the run took; three times as many are allowed
    one, two = (said(recipe(plan.tables["train"].slice(0, 200), 4), plan.tables["test"]) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.slow
def test_limits_on_canaries_hold_in_a_run_and_in_its_audit(tmp_path):
    heart = {"epochs": 200, "lr": 0.01, "weight_decay": 0.0, "schedule": "constant", "keep": "last", "batch_size": 32, "threads": 1}
    tree = TREE | {
        "model": {"encoders": {"table": {"mlp": {"width": 256, "depth": 2, "bins": 16, "dropout": 0.0}}}}, "stages": [{"train": heart}],
        "audit": {"require": {"privacy.canary_tpr_at_fpr_0.05": "<= 0.3", "privacy.epsilon_lower_bound": "<= 1"}},
    }  # fmt: skip
    run = mw.run(mw.task_of(tree), tmp_path / "run")
    again = mw.audit(run.folder, out=tmp_path / "again", only=["membership"])
    for found in (run.evidence, again.evidence):
        lines = {e["metric"]: e for e in found["evidence"]}
        assert lines["privacy.canary_tpr_at_fpr_0.05"]["value"] > 0.5 and lines["privacy.epsilon_lower_bound"]["value"] > 0.5
        assert "at most" in lines["privacy.epsilon_lower_bound"]["method"] and found["decision"]["verdict"] == "fail"
