import copy

import numpy as np
import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.learn import loop
from modelwright.strategy import Progress

CONSTRAINTS = ["demographic_parity", "equalized_odds", "equal_opportunity"]


def fairness(constraint="equalized_odds", **settings):
    return find.make("strategies", {"fairness": {"constraint": constraint} | settings})


def prepared(cancer, constraint="equalized_odds", **settings):
    strategy = fairness(constraint, **settings)
    strategy.prepare(cancer.stage().context)
    return strategy


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_multipliers_follow_the_definition(cancer, constraint):
    rng = np.random.default_rng(0)
    g, y, p1 = rng.integers(0, 2, 50), rng.integers(0, 2, 50), rng.random(50)
    p = np.stack([1 - p1, p1], 1)
    said = p.argmax(1)
    strategy = prepared(cancer, constraint, rate=0.5)
    strategy.seen = strategy.figures(torch.tensor(p), torch.tensor(g), torch.tensor(y))
    strategy.after_step(None, Progress(1, 10))
    for a in range(2):
        for k in range(2):
            among = [i for i in range(50) if constraint == "demographic_parity" or y[i] == k]
            wanted = 0.5 * (np.mean([said[i] == k for i in among]) - np.mean([said[i] == k for i in among if g[i] == a]))
            if constraint == "equal_opportunity" and k == 0:
                wanted = 0.0
            assert float(strategy.multipliers[a, k]) == pytest.approx(wanted, abs=1e-6)


def test_weights_average_one_over_the_training_rows(cancer):
    strategy = prepared(cancer)
    strategy.multipliers = torch.tensor([[1.0, -0.5], [0.2, 0.0]])
    y, g = cancer.train.targets["diagnosis"]["values"], cancer.train.groups
    rows = [float(strategy.weights()[g[i], y[i]]) for i in range(len(y))]
    assert np.mean(rows) == pytest.approx(1, abs=1e-5)
    assert float(strategy.weights()[0, 0] / strategy.weights()[0, 1]) == pytest.approx(np.exp(1.5), rel=1e-5)


def test_the_weights_of_a_step_come_from_earlier_steps_only(cancer):
    strategy = fairness()
    loop.assemble(cancer.stage([strategy]))
    learner = loop.assemble(cancer.stage()).learner
    learner.model.load_state_dict(cancer.fit(steps=100).model.state_dict())  # untrained, it says the same of everybody
    batch = cancer.batch()
    first = strategy.batch(batch, learner, "model", None)
    assert torch.equal(first.weight, torch.ones(32))
    strategy.after_step(learner.model, Progress(1, 10))
    batch.groups[3] = -1
    second = strategy.batch(batch.but(weight=torch.full((32,), 2.0)), learner, "model", None)
    wanted = 2 * strategy.weights()[batch.groups, batch.targets["diagnosis"]]
    wanted[3] = 2.0
    assert torch.equal(second.weight, wanted) and second.weight.unique().numel() > 2


def gap(cancer, model, constraint):
    """The largest difference between the groups, on the training rows, in the share that is told yes."""
    batch = cancer.train.batch(np.arange(400))
    yes, y, g = model.predict(batch)["diagnosis"].value.double(), batch.targets["diagnosis"], batch.groups
    among = {"demographic_parity": [y >= 0], "equalized_odds": [y == 0, y == 1], "equal_opportunity": [y == 1]}[constraint]
    return max(float((yes[a & (g == 0)].mean() - yes[a & (g == 1)].mean()).abs()) for a in among)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_it_narrows_the_gap_and_still_learns(cancer, constraint):
    plain, found = cancer.fit(steps=150), cancer.fit([fairness(constraint)], steps=150)
    assert gap(cancer, found.model, constraint) < 0.9 * gap(cancer, plain.model, constraint)
    assert list(found.model.state_dict()) == list(plain.model.state_dict())
    if constraint != "demographic_parity":  # size and diagnosis go together: parity must cost accuracy
        assert cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.04


def test_a_resumed_run_ends_in_the_same_bits(cancer, tmp_path):
    whole = cancer.fit([fairness()], steps=12)
    stage = cancer.stage([fairness()], steps=12, folder=tmp_path, checkpoint_minutes=1e-9)

    def kill(line):
        if line.get("step") == 9:
            raise KeyboardInterrupt

    stage.log = kill
    with pytest.raises(KeyboardInterrupt):
        loop.fit(stage)
    again = loop.fit(cancer.stage([fairness()], steps=12, folder=tmp_path))
    for k, v in whole.model.state_dict().items():
        assert torch.equal(v, again.model.state_dict()[k]), k


def test_a_yes_or_no_target_has_classes_and_a_number_has_none(cancer):
    context = cancer.stage().context
    context.schema = copy.deepcopy(context.schema)
    context.schema.targets["diagnosis"] = find.make("kinds", "boolean")
    strategy = fairness("equal_opportunity", positive="false")
    strategy.prepare(context)
    assert strategy.last == 0
    context.schema.targets["diagnosis"] = find.make("kinds", "number")
    with pytest.raises(Refusal, match="no classes"):
        fairness().prepare(context)


def test_groups_that_are_not_there_are_named_with_their_count(cancer):
    def refused(strategy, change):
        context = cancer.stage().context
        context.schema, context.train = copy.deepcopy((context.schema, context.train))
        change(context)
        with pytest.raises(Refusal) as caught:
            strategy.prepare(context)
        return str(caught.value)

    def drop(context):
        context.schema.group_values_.append("size=huge")

    def cell(context):
        context.train.groups[context.train.targets["diagnosis"]["values"] == 0] = 0

    assert "group size=huge has 0 rows" in refused(fairness(), drop)
    assert "group size=small has 0 training rows labelled 'benign'" in refused(fairness(), cell)
    assert "no column is marked" in refused(fairness(), lambda c: c.schema.group.clear())
    assert "is no label" in refused(fairness(positive="sick"), lambda c: None)
    with pytest.raises(Refusal):
        fairness("fair")


def test_a_plan_keeps_the_last_weights_unless_told_otherwise():
    """Those of the least validation loss come from before the multipliers act."""
    import modelwright as mw
    from modelwright.task import task_of

    def kept(**stage):
        rng = np.random.default_rng(0)
        data = {"x": rng.normal(size=200).tolist(), "sex": rng.choice(["f", "m"], 200).tolist(), "y": rng.choice(["no", "yes"], 200).tolist()}
        source = {"source": data, "columns": {"sex": {"kind": "category", "group": True}}}
        return mw.plan(task_of({"data": source, "target": "y", "stages": [{"train": {"epochs": 1, **stage}}]})).stages[0].settings.keep

    assert kept() == "best" and kept(strategies=["fairness"]) == "last" and kept(strategies=["fairness"], keep="best") == "best"
