import copy
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from modelwright import find
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows
from modelwright.errors import Refusal
from modelwright.learn import checkpoint
from modelwright.learn.loop import Stage, assemble, divide, fit
from modelwright.model import Model
from modelwright.settings import Settings
from modelwright.strategies.dp_sgd import Poisson, epsilon_of, noise_multiplier
from modelwright.strategy import Context


@pytest.fixture(scope="module")
def data():
    frame = load_breast_cancer(as_frame=True)
    table = pa.Table.from_pandas(frame.data.assign(diagnosis=frame.target.map({0: "malignant", 1: "benign"})))
    table = table.take(np.random.default_rng(0).permutation(569))
    schema = Schema({n: find.make("kinds", "number") for n in frame.data}, {"diagnosis": find.make("kinds", "category")})
    schema.fit(table.slice(0, 400))
    return schema, schema.encode(table.slice(0, 400)), schema.encode(table.slice(400))


def stage_of(data, strategies, steps=60, batch=64, folder=None, **settings):
    schema, train, _ = data
    torch.manual_seed(0)
    encoder = find.make("encoders", {"mlp": {"width": 32, "depth": 1, "bins": 0}})
    encoder.build(schema.encoders()["table"])
    fusion, head = find.make("fusions", "concat"), find.make("heads", "classes")
    fusion.build({"table": encoder.width})
    head.build(schema.targets["diagnosis"], fusion.width, None)
    model = Model({"table": encoder}, fusion, {"diagnosis": head}, {"diagnosis": find.make("decoders", "argmax")})
    context = Context(schema, len(train), batch, steps, 0, train)
    sampler = next((s.sampler(context) for s in strategies), None)
    s = Settings(**{"device": "cpu", "precision": "fp32", "lr": 5e-3, "weight_decay": 0.0, **settings})
    return Stage("t", model, find.make("objectives", "supervised"), strategies, Rows(train, batch, 0, sampler), context, s, steps, folder=folder)


def dp(**settings):
    return find.make("strategies", {"dp_sgd": {"seed": 1, **settings}})


def test_the_noise_gives_the_epsilon_that_was_asked_for():
    for epsilon, delta, rate, steps in [(3.0, 1e-5, 0.02, 300), (1.0, 1e-5, 0.05, 100)]:
        found = epsilon_of(noise_multiplier(epsilon, delta, rate, steps), delta, rate, steps)
        assert 0.99 * epsilon <= found <= epsilon


def test_the_accountant_agrees_with_the_closed_form_of_one_gaussian():
    """Balle and Wang 2018, theorem 8, for sensitivity 1."""
    from scipy.stats import norm

    noise, steps, delta = 6.0, 4, 1e-5
    s = noise / steps**0.5  # composed without sampling: one Gaussian
    epsilon = epsilon_of(noise, delta, 1.0, steps)
    assert norm.cdf(0.5 / s - epsilon * s) - np.exp(epsilon) * norm.cdf(-0.5 / s - epsilon * s) == pytest.approx(delta, rel=0.05)


def test_one_row_moves_the_sum_by_at_most_clip(data):
    strategy = dp(clip=0.3)
    strategy_stage = stage_of(data, [strategy])
    parts = assemble(strategy_stage)
    parts.learner.eval()  # dropout draws would differ
    parameters, batch = parts.parameters["model"], data[1].batch(np.arange(40))
    strategy.noise_ = 0.0

    def total(rows):
        return torch.cat([g.flatten() for g in parts.rule.estimate(parts.learner, parameters, batch.select(rows), "model", None).parts[0][0]])

    everything = total(torch.arange(40))
    moved = [float((everything - total(torch.tensor([j for j in range(40) if j != i]))).norm()) for i in range(0, 40, 8)]
    assert max(moved) <= 0.3 * (1 + 1e-4) and max(moved) > 0.29


def test_noise_is_drawn_once_a_step_with_the_stated_deviation(data):
    strategy = dp(epsilon=2.0, clip=0.5)
    parts = assemble(stage_of(data, [strategy]))
    empty = data[1].batch(np.zeros(0, np.int64))
    estimate = parts.rule.estimate(parts.learner, parts.parameters["model"], empty, "model", None)
    noise = torch.cat([g.flatten() for g in estimate.parts[0][0]])
    assert float(noise.std()) == pytest.approx(strategy.noise_ * 0.5, rel=0.05) and abs(float(noise.mean())) < 0.1 * strategy.noise_
    assert torch.allclose(torch.cat([g.flatten() for g in divide(estimate)]), noise / 64)
    batch, strategy.generator_ = data[1].batch(np.arange(32)), None
    parts.learner.eval()
    one = parts.rule.estimate(parts.learner, parts.parameters["model"], batch, "model", None).parts[0][0]
    strategy.generator_ = None
    many = parts.rule.estimate(parts.learner, parts.parameters["model"], batch, "model", 5).parts[0][0]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, many))


def test_rows_are_drawn_by_poisson_sampling():
    sampler = Poisson(1000, 0.05, 7)
    drawn = [rows for epoch in range(20) for rows in sampler.epoch(np.random.default_rng(epoch))]
    sizes = np.array([len(r) for r in drawn])
    assert sampler.steps() == 20 and len(drawn) == 400
    assert abs(sizes.mean() - 50) < 1.5 and abs(sizes.var() - 47.5) < 12  # binomial(1000, 0.05)
    other = list(Poisson(1000, 0.05, 8).epoch(np.random.default_rng(0)))
    assert not np.array_equal(drawn[0], other[0])
    assert np.array_equal(drawn[0], next(sampler.epoch(np.random.default_rng(0))))


def test_trains_breast_cancer(data):
    strategy = dp(epsilon=8.0)
    fitted = fit(stage_of(data, [strategy], steps=100))
    prediction = fitted.model.predict(data[2].batch(np.arange(169)))["diagnosis"]
    accuracy = float((prediction.value.numpy() == data[2].targets["diagnosis"]["values"]).mean())
    privacy = strategy.statement()["privacy"]
    assert accuracy > 0.85
    assert 7.9 < privacy["epsilon"] <= 8.0 and privacy["steps"] == 100 and privacy["divisor"] == 64 and privacy["delta"] == 1e-5
    assert privacy["gradients"] == "tapped" and privacy["neighbours"] == "add/remove one row"
    assert strategy.taken_ == 100


def test_a_tiny_rate_gives_empty_batches_and_goes_on(data):
    fitted = fit(stage_of(data, [dp()], steps=12, batch=1))
    assert fitted.progress.step == 12 and all(p.isfinite().all() for p in fitted.model.parameters())


def test_state_goes_on_with_the_same_noise_and_rows(data):
    batch = data[1].batch(np.arange(16))

    def step(parts):
        estimate = parts.rule.estimate(parts.learner.eval(), parts.parameters["model"], batch, "model", None)
        return torch.cat([g.flatten() for g in estimate.parts[0][0]])

    first = find.make("strategies", "dp_sgd")
    parts = assemble(stage_of(data, [first]))
    step(parts)
    saved = copy.deepcopy(first.state())
    expected, rows = step(parts), next(first.sampler_.epoch(np.random.default_rng(0)))
    second = find.make("strategies", "dp_sgd")
    stage = stage_of(data, [second])
    parts = assemble(stage)
    assert second.secret_ != first.secret_
    second.load(saved)
    assert torch.equal(step(parts), expected) and second.taken_ == 2
    assert np.array_equal(rows, next(second.sampler_.epoch(np.random.default_rng(0))))
    assert np.array_equal(rows, next(stage.stream.sampler.epoch(np.random.default_rng(0))))


def test_the_fast_way_is_held_against_the_loop_at_the_start_of_every_run_resumed_ones_too(data, tmp_path, monkeypatch):
    from modelwright.strategies import dp_sgd

    calls, real = [], dp_sgd.choose
    monkeypatch.setattr(dp_sgd, "choose", lambda *given: calls.append(len(given[2])) or real(*given))
    fit(stage_of(data, [dp()], steps=3, folder=tmp_path))
    assert len(calls) == 1 and calls[0] > 0
    stage = stage_of(data, [dp()], steps=6, folder=tmp_path)
    for path in tmp_path.glob("step-*/state.json"):  # as if it had been cut short
        body = json.loads(path.read_text())
        body["state"]["dict"][0][1]["dict"] = [[k, {"done": False, "steps": 6}.get(k, v)] for k, v in body["state"]["dict"][0][1]["dict"]]
        body["sha256"] = checkpoint._digest(path.parent / "tensors.safetensors", body["state"])
        path.write_text(json.dumps(body))
    assert fit(stage).progress.step == 6 and stage.strategies[0].taken_ == 6 and len(calls) == 2


def test_what_cannot_be_promised_is_refused(data):
    with pytest.raises(Refusal, match="delta"):
        assemble(stage_of(data, [dp(delta=0.01)]))
    with pytest.raises(Refusal, match="positive"):
        dp(epsilon=-1)
