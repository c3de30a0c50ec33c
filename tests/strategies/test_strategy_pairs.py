"""Every ordered pair of strategies trains or is refused with a reason: there is no third case, and no rule about pairs in the code."""

import copy
from itertools import permutations

import pytest
import torch

from modelwright import artifact, find
from modelwright.data.streams import Rows
from modelwright.errors import Refusal
from modelwright.learn import loop, probe

SETTINGS = {
    "prune": {"every": 2},
    "adversarial": {"steps": 2},
    "lora": {"rank": 4},
    "average": {"decay": 0.8},
    "dp_sgd": {"epsilon": 50.0, "seed": 0},
    "distil": {"teacher": "teacher"},
}
NAMES = [n for n in find.names("strategies") if n != "federated"]


@pytest.fixture(scope="module")
def root(cancer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    artifact.save(folder / "teacher", cancer.model(seed=9), cancer.schema)
    return folder


def run(cancer, root, names, steps=14):
    """The loss on the training rows before and after, and the model; the plan's checks come first, as in a real run."""
    strategies = [find.make("strategies", {n: SETTINGS.get(n, {})}) for n in names]
    stage = cancer.stage(strategies, steps=steps, lr=1e-2)
    stage.context.root = str(root)
    problems = probe.dry_run(stage)
    if problems:
        raise Refusal(problems)
    for strategy in strategies:
        strategy.prepare(stage.context)
    sampler = next((s for s in (strategy.sampler(stage.context) for strategy in strategies) if s is not None), None)
    stage.stream = Rows(cancer.train, 64, 0, sampler)
    batch = cancer.train.batch(range(400))
    rehearsal = copy.deepcopy(stage)
    parts = loop.assemble(rehearsal)
    problems = probe.check(probe.probe(parts, cancer.batch(8), rehearsal.strategies), rehearsal.strategies)
    if problems:
        raise Refusal(problems)
    objective = find.make("objectives", "supervised")
    with torch.no_grad():
        before = float(objective.loss(stage.model.eval(), batch, "model").mean())
        keys = list(stage.model.state_dict())
    found = loop.fit(stage)
    with torch.no_grad():
        after = float(objective.loss(found.model, batch, "model").mean())
    assert list(found.model.state_dict()) == keys
    assert [s.holds(found.model) for s in stage.strategies] == [None] * len(names)
    return before, after


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(permutations(NAMES, 2)), ids="-".join)
def test_a_pair_trains_or_is_refused(cancer, root, pair):
    try:
        before, after = run(cancer, root, pair)
    except Refusal as refusal:
        assert all(p.code and p.what and (p.why or p.fix) for p in refusal.problems)
        pytest.skip(refusal.problems[0].what)  # shown with -rs: the refused cells
    assert after < before


def test_the_refusals_are_those_of_the_design(cancer, root):
    for pair in (("lora", "prune"), ("lora", "freeze")):
        with pytest.raises(Refusal):
            run(cancer, root, pair)
    before, after = run(cancer, root, ("prune", "lora", "average", "distil", "adversarial"))  # a stack of five
    assert after < before


@pytest.mark.slow  # the privacy accountant takes its time
@pytest.mark.skipif("dp_sgd" not in NAMES, reason="dp_sgd is not there")
def test_mixing_rows_and_private_training_exclude_each_other(cancer, root):
    with pytest.raises(Refusal, match="mixup"):
        run(cancer, root, ("dp_sgd", "mixup"))
    before, after = run(cancer, root, ("lora", "adversarial", "dp_sgd"))
    assert after < before
