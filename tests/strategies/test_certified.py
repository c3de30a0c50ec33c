"""The loss is that of the paper, its bounds bind what it trains, what has none is refused, and what is certified is never more than what attacks leave."""

import copy

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from modelwright import artifact, find
from modelwright.audits.robustness import Robustness
from modelwright.data.schema import Schema
from modelwright.data.sources import load
from modelwright.data.streams import Rows
from modelwright.errors import Refusal
from modelwright.layers.bounds import Box, gaps
from modelwright.learn import loop
from modelwright.learn.probe import check, probe
from modelwright.settings import Settings
from modelwright.strategy import Context, Progress
from modelwright.subject import Subject


def certified(**settings):
    return find.make("strategies", {"certified": settings})


def at(strategy, share):
    strategy.after_step(None, Progress(round(1000 * 0.35 * share), 1000))
    assert strategy.share == pytest.approx(share, abs=0.01)
    return strategy


def test_the_loss_is_the_papers(cancer):
    strategy = at(certified(numbers=0.2, kappa=0.25), 0.5)
    parts = loop.assemble(cancer.stage([strategy]))
    learner, batch = parts.learner.train(), cancer.batch(12)
    with torch.no_grad():
        loss, model, y = learner(batch), learner.model, batch.targets["diagnosis"]
        kappa, radius = 1 - 0.75 * strategy.share, 0.2 * strategy.share
        table = batch.inputs["table"]
        moved = copy.deepcopy(batch)
        moved.inputs["table"].numbers = Box.of(table.numbers - radius * table.present, table.numbers + radius * table.present)
        wanted = kappa * F.cross_entropy(model(batch)["diagnosis"], y) + (1 - kappa) * F.cross_entropy(-gaps(model(moved)["diagnosis"], y), y)
        assert float(loss.mean()) == pytest.approx(float(wanted), rel=1e-5)
        for i in range(12):  # every row alone
            alone = learner(batch.select(slice(i, i + 1))).per_row()
            assert float(alone[0]) == pytest.approx(float(loss.per_row()[i]), rel=1e-4)
        double = learner(batch.but(weight=torch.full((12,), 2.0)))
        assert float(double.mean()) == pytest.approx(2 * float(wanted), rel=1e-5)


def test_epsilon_and_kappa_follow_the_schedule_and_validation_sees_the_whole(cancer):
    strategy = certified(numbers=0.1, kappa=0.5, ramp=(0.2, 0.6))
    parts = loop.assemble(cancer.stage([strategy]))
    batch, shares = cancer.batch(), []
    with torch.no_grad():
        for step in (0, 20, 40, 60, 100):
            strategy.after_step(None, Progress(step, 100))
            shares.append(strategy.share)
            assert parts.learner.train()(batch).terms["diagnosis"].weight == pytest.approx(1 - 0.5 * strategy.share)
            assert parts.learner.eval()(batch).terms["certified diagnosis"].weight == pytest.approx(0.5)
    assert shares == pytest.approx([0, 0, 0.5, 1, 1])
    again = certified()
    again.load(strategy.state())
    assert again.share == 1.0


def bound(model, batch, y, radius):
    table = batch.inputs["table"]
    moved = copy.deepcopy(batch)
    moved.inputs["table"].numbers = Box.of(table.numbers - radius * table.present, table.numbers + radius * table.present)
    with torch.no_grad():
        return gaps(model(moved)["diagnosis"], y).scatter(1, y[:, None], torch.inf).amin(1) > 0


def test_a_trained_table_is_certified_and_no_corner_moves_a_certified_row(cancer):
    plain, found = cancer.fit(steps=150), cancer.fit([certified(numbers=0.3)], steps=150)
    assert list(found.model.state_dict()) == list(plain.model.state_dict())
    batch = cancer.test.batch(np.arange(len(cancer.test)))
    y = batch.targets["diagnosis"]
    ours, theirs = (bound(f.model.eval(), batch, y, 0.3) for f in (found, plain))
    assert ours.float().mean() > theirs.float().mean() + 0.05 and cancer.accuracy(found.model) > cancer.accuracy(plain.model) - 0.06
    for seed in range(60):
        corner = copy.deepcopy(batch)
        sign = torch.randint(0, 2, corner.inputs["table"].numbers.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        corner.inputs["table"].numbers += 0.3 * sign * corner.inputs["table"].present
        assert (found.model.predict(corner)["diagnosis"].value == y)[ours].all()


def digits(norm="none", **settings):
    """A stage on scikit-learn's digits, its schema and test rows."""
    rows = load("sklearn://digits").table.take(np.random.default_rng(0).permutation(1797))
    schema = Schema({"image": find.make("kinds", {"picture": {"augment": []}})}, {"digit": find.make("kinds", "category")})
    schema.fit(rows.slice(0, 1400))
    train = schema.encode(rows.slice(0, 1400))
    torch.manual_seed(0)
    encoder = {"cnn": {"width": 16, "depth": 2, "norm": norm}}
    model = artifact.assemble_model(schema, {"encoders": {"image": encoder}, "fusion": "concat", "heads": {"digit": "classes"}, "decoders": {}})
    s = Settings(device="cpu", precision="fp32", threads=1, lr=1e-2, weight_decay=0.0, keep="last")
    steps = 160
    context = Context(schema, 1400, 64, steps, 0, train)
    strategy = certified(**settings)
    return loop.Stage("t", model, find.make("objectives", "supervised"), [strategy], Rows(train, 64, 0), context, s, steps), schema, rows.slice(1400)


def test_digits_are_certified_and_never_more_than_attacks_leave():
    stage, schema, test = digits(epsilon=0.03)
    stage.strategies[0].prepare(stage.context)
    loaded = artifact.Loaded(loop.fit(stage).model, schema)
    subject = Subject(loaded, schema, {"test": test}, open=loaded.open)
    found = {m.metric: m for m in Robustness(rows=64, steps=10, linf=0.03).measure(subject)}
    certified_, attacked = found["robustness.certified_accuracy"], found["robustness.linf_accuracy"]
    assert certified_.value > 0.3
    assert certified_.value <= attacked.value <= attacked.details["accuracy"]
    assert certified_.details["robust_accuracy"] == pytest.approx({"certified": certified_.value, "attacked": attacked.value})


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_what_has_no_bounds_is_refused_by_the_probe(norm):
    stage, _, _ = digits(norm)
    stage.strategies[0].prepare(stage.context)
    with pytest.raises(Refusal) as refused:
        probe(loop.assemble(stage), stage.context.train.batch(range(8)), stage.strategies)
    (problem,) = refused.value.problems
    assert problem.code == "certified.bounds" and f"{norm}_norm" in problem.what and "norm: none" in problem.fix


def test_the_probe_finds_rows_apart(cancer):
    strategy = certified()
    facts = probe(loop.assemble(cancer.stage([strategy])), cancer.batch(8), [strategy])
    assert facts.players["model"].separable and not check(facts, [strategy])


def test_one_logit_and_refusals(cancer):
    table = pa.table({"x": np.linspace(-1, 1, 40), "y": [i % 2 == 0 for i in range(40)], "z": np.linspace(0, 1, 40)})
    number = find.make("kinds", "number")

    def learner(targets, inputs=None):
        schema = Schema(inputs or {"x": number}, {t: find.make("kinds", k) for t, k in targets.items()})
        schema.fit(table)
        torch.manual_seed(0)
        parts = {"encoders": {"table": {"mlp": {"width": 8, "bins": 0, "dropout": 0.0}}}, "fusion": "concat", "decoders": {}}
        model = artifact.assemble_model(schema, parts | {"heads": {t: k.head for t, k in schema.targets.items()}})
        strategy = at(certified(), 1.0)
        strategy.prepare(Context(schema, 40, 8, 1, 0))
        data = schema.encode(table)
        objective = find.make("objectives", "supervised")
        return loop.Learner(model, strategy.objective(objective)), data.batch(np.arange(40))

    net, batch = learner({"y": "boolean", "z": "number"})
    with torch.no_grad():
        loss = net(batch)
    assert set(loss.terms) == {"y", "z", "certified y"}
    assert (loss.terms["certified y"].total >= loss.terms["y"].total - 1e-5).all()  # the worst is never better than what is
    with pytest.raises(Refusal, match="one logit a class"):
        (lambda n, b: n(b))(*learner({"z": "number"}))
    with pytest.raises(Refusal, match="moved by a little"):
        (lambda n, b: n(b))(*learner({"y": "boolean"}, {"x": find.make("kinds", "category")}))
    for wrong in ({"epsilon": -1.0}, {"ramp": [0.6, 0.2]}, {"kappa": 2.0}):
        with pytest.raises(Refusal):
            certified(**wrong)
