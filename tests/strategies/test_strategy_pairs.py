"""Every ordered pair of strategies trains to near the plain run, or is refused with a reason that is named here: there is no third case, and no rule about
pairs in the code."""

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
    "freeze": {"parts": [r"layers\.0"]},  # of a net that nobody has trained: all of it would leave little to learn
    "average": {"decay": 0.8},
    "dp_sgd": {"epsilon": 50.0, "seed": 0},
    "distil": {"teacher": "teacher"},
}
NAMES = find.names("strategies")
STEPS = 60
REFUSED = {  # what each is refused for; whatever else is refused is a fault
    **{pair: "fairness holds figures of training rows" for pair in permutations(("dp_sgd", "fairness"))},
    **{pair: "distil holds figures of training rows" for pair in permutations(("dp_sgd", "distil"))},
    **{pair: "mixup mixes rows" for pair in permutations(("dp_sgd", "mixup"))},
    ("lora", "prune"): "lora undoes prune",
    ("lora", "freeze"): "is frozen",
}


@pytest.fixture(scope="module")
def root(cancer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    artifact.save(folder / "teacher", cancer.model(seed=9), cancer.schema)
    return folder


def run(cancer, root, names, steps=14):
    """The loss on the training rows before and after, and accuracy on the test rows; the plan's checks come first, as in a real run."""
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
    return before, after, cancer.accuracy(found.model)


@pytest.fixture(scope="module")
def plain(cancer, root):
    """Accuracy without a strategy."""
    return run(cancer, root, [], STEPS)[2]


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(permutations(NAMES, 2)), ids="-".join)
def test_a_pair_trains_or_is_refused(cancer, root, plain, pair):
    try:
        before, after, accuracy = run(cancer, root, pair, STEPS)
    except Refusal as refusal:
        assert all(p.code and p.what and p.fix for p in refusal.problems) and pair in REFUSED, str(refusal)
        assert REFUSED[pair] in str(refusal)
        return
    assert pair not in REFUSED and after < before
    assert accuracy > plain - 0.06


def test_the_refusals_are_those_of_the_design(cancer, root):
    for pair in (("lora", "prune"), ("lora", "freeze")):
        with pytest.raises(Refusal):
            run(cancer, root, pair)
    before, after, _ = run(cancer, root, ("prune", "lora", "average", "distil", "adversarial"))  # a stack of five
    assert after < before


@pytest.mark.slow  # the privacy accountant takes its time
def test_mixing_rows_and_private_training_exclude_each_other(cancer, root):
    with pytest.raises(Refusal, match="mixup"):
        run(cancer, root, ("dp_sgd", "mixup"))
    before, after, _ = run(cancer, root, ("lora", "adversarial", "dp_sgd"))
    assert after < before
