"""The loop's promises: accumulation is exact, checkpoints survive damage, divergence is said and keeps the work."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.artifact import assemble_model, load, save
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows, Shuffled
from modelwright.errors import Refusal, Stopped
from modelwright.gradient import Plain
from modelwright.learn import checkpoint, loop, optim
from modelwright.objective import Learner
from modelwright.settings import Settings
from modelwright.strategy import Context


def table(n=120):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=n), rng.normal(size=n)
    sick = np.where(rng.random(n) < 0.3, None, np.where(x > 0, "yes", "no"))
    return pa.table({"x": x, "z": z, "where": rng.choice(["a", "b"], n), "sick": pa.array(sick.tolist()), "cost": 2 * z + 0.1 * rng.normal(size=n)})


def stage(steps=40, folder=None, **settings):
    schema = Schema({"x": find.make("kinds", "number"), "z": find.make("kinds", "number"), "where": find.make("kinds", "category")},
                    {"sick": find.make("kinds", "boolean"), "cost": find.make("kinds", "number")})  # fmt: skip
    schema.fit(table())
    data = schema.encode(table())
    torch.manual_seed(0)
    parts = {
        "encoders": {"table": {"mlp": {"width": 16, "dropout": 0.0}}},
        "fusion": "concat",
        "heads": {"sick": "binary", "cost": "regression"},
        "decoders": {},
    }
    model = assemble_model(schema, parts)
    s = Settings(**{"device": "cpu", "precision": "fp32", "lr": 3e-3, "weight_decay": 0.0, "batch_size": 32, "threads": 1} | settings)
    return loop.Stage(
        "train",
        model,
        find.make("objectives", "supervised"),
        [],
        Rows(data, 32, 0),
        Context(schema, len(data), 32, steps, 0, data),
        s,
        steps,
        folder=folder,
    )


def test_accumulation_is_exact_though_counts_differ():
    """Two targets, one with gaps: micro-batches of 5 rows must give the gradient of the whole batch."""
    s = stage()
    learner = Learner(s.model, s.objective)
    parameters = list(s.model.parameters())
    batch = s.stream.data.batch(np.arange(32))
    whole = loop.divide(Plain().estimate(learner, parameters, batch, "model", None))
    small = loop.divide(Plain().estimate(learner, parameters, batch, "model", 5))
    for a, b in zip(whole, small, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-6)


def test_the_mean_is_the_sum_of_totals_over_the_sum_of_counts():
    s = stage()
    batch = s.stream.data.batch(np.arange(32))
    loss = s.objective.loss(s.model, batch, "model")
    by_hand = sum(float(t.total.sum() / t.count.sum()) for t in loss.terms.values())
    assert float(loss.mean().detach()) == pytest.approx(by_hand, rel=1e-6)
    alone = torch.cat([s.objective.loss(s.model, batch.select(slice(i, i + 1)), "model").per_row() for i in range(32)])
    assert torch.allclose(alone, loss.per_row(), atol=1e-6)


def test_it_learns_both_targets_and_what_is_saved_is_what_was_trained(tmp_path):
    s = stage(steps=150)
    first = float(s.objective.loss(s.model, s.stream.data.batch(np.arange(120)), "model").mean())
    fitted = loop.fit(s)
    batch = s.stream.data.batch(np.arange(120))
    assert float(s.objective.loss(fitted.model, batch, "model").mean()) < first - 0.5
    save(tmp_path / "model", fitted.model, s.context.schema)
    model, schema = load(tmp_path / "model")
    again = schema.encode(table().select(["cost", "where", "z", "sick", "x"]))  # the order of the table's columns does not matter
    for t, p in model.predict(again.batch(np.arange(120))).items():
        assert torch.equal(p.value, fitted.model.predict(batch)[t].value)


def test_a_damaged_model_is_refused(tmp_path):
    s = stage()
    save(tmp_path / "model", s.model, s.context.schema)
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Refusal, match="cannot be read"):
        load(tmp_path / "model")


def test_divergence_is_said(tmp_path):
    with pytest.raises(Stopped, match="diverged at step") as e:
        loop.fit(stage(steps=400, lr=1e6, clip=None, optimizer="sgd", folder=tmp_path, weight_decay=0.0))
    assert e.value.status == 4 and "lr" in e.value.problems[0].fix


def test_divergence_keeps_the_last_good_state(tmp_path):
    """Steps grow until it breaks; what is kept was written before, and is sound."""
    s = stage(steps=400, lr=3.0, clip=None, optimizer="sgd", warmup=0.9, weight_decay=5.0, folder=tmp_path)
    s.validate = lambda learner: {"loss": float(learner(s.stream.data.batch(np.arange(120))).mean())}
    with pytest.raises(Stopped, match="the last good state is kept in") as e:
        loop.fit(s)
    kept = sorted(tmp_path.glob("step-*"))[-1]
    assert str(kept) in e.value.problems[0].why and int(kept.name[5:]) < int(e.value.problems[0].what.split()[5]) - 1
    good = stage()
    good.model.load_state_dict({k.removeprefix("model."): v for k, v in checkpoint.load(tmp_path)["learner"].items()})
    assert float(s.objective.loss(good.model, s.stream.data.batch(np.arange(120)), "model").mean().detach()) < 10


def test_weights_that_are_no_numbers_are_found_at_the_last_step():
    s = stage(steps=3)
    s.strategies = [find.make("strategies", "freeze")]
    s.strategies[0].transform = lambda gradients, parameters: [None if g is None else g * float("nan") for g in gradients]
    s.stream.observe = lambda batch, loss: loss.zero_()  # a loss that tells nothing
    with pytest.raises(Stopped, match="diverged at step"):
        loop.fit(s)


def test_a_validation_that_is_no_number_does_not_stay_the_best():
    s, figures = stage(steps=20, validations=10), iter([float("nan"), 3.0, float("nan"), 2.0, 2.5])
    s.validate = lambda learner: {"loss": next(figures, 9.0)}
    assert loop.fit(s).best == {"loss": 2.0}


def test_micro_batches_keep_what_an_objective_measures():
    s = stage()
    s.objective.loss = lambda model, batch, player, real=s.objective.loss: replace(real(model, batch, player), metrics={"x": batch.rows.float().mean()})
    learner, batch = Learner(s.model, s.objective), s.stream.data.batch(np.arange(32))
    for micro in (None, 5, 32):
        estimate = Plain().estimate(learner, list(s.model.parameters()), batch, "model", micro)
        assert float(estimate.metrics["x"]) == pytest.approx(15.5)


def test_a_checkpoint_cut_short_costs_a_step_back(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"a": torch.full((3,), float(step)), "nested": [{"b": (1, None, "x")}, {3: torch.zeros(())}]})
    assert checkpoint.load(tmp_path)["a"][0] == 2
    last = sorted(tmp_path.glob("step-*"))[-1] / "tensors.safetensors"
    last.write_bytes(last.read_bytes()[:-4])
    kept = checkpoint.load(tmp_path)
    assert kept["a"][0] == 1 and kept["nested"][0]["b"] == (1, None, "x") and kept["nested"][1][3] == 0
    assert checkpoint.damaged(tmp_path) == ["step-000000002"]
    state = tmp_path / "step-000000001" / "state.json"
    state.write_text(state.read_text().replace('"x"', '"y"'))  # still JSON, and not what was written
    assert checkpoint.load(tmp_path) is None and len(checkpoint.damaged(tmp_path)) == 2
    (tmp_path / ".half").mkdir()  # of a save that was killed
    checkpoint.save(tmp_path, 3, {"a": torch.zeros(3)})
    assert checkpoint.load(tmp_path) is not None and not (tmp_path / ".half").exists()


def test_every_row_once_an_epoch_and_the_same_order_after_a_stop():
    sampler = Shuffled(103, 10)
    rows = np.concatenate(list(sampler.epoch(np.random.default_rng(0))))
    assert sorted(rows) == list(range(103))
    s = stage()
    whole = [b.rows for _ in range(2) for b in s.stream.batches(s.model)]
    again = stage().stream
    some = [b.rows for b, _ in zip(again.batches(s.model), range(2), strict=False)]
    resumed = stage().stream
    resumed.load({"epoch": 0, "done": 2})
    rest = [b.rows for _ in range(2) for b in resumed.batches(s.model)]
    assert all(torch.equal(a, b) for a, b in zip(whole, some + rest, strict=True))


@pytest.mark.parametrize("schedule, end", [("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)])
def test_schedules(schedule, end):
    assert optim.factor(schedule, 0.1, 0.05) == pytest.approx(0.5)
    assert optim.factor(schedule, 0.1, 0.1) == pytest.approx(1.0)
    assert optim.factor(schedule, 0.1, 1.0) == pytest.approx(end, abs=1e-9)


def test_clipping_is_torchs():
    gradients = [torch.randn(4, 3), None, torch.randn(5)]
    p = [torch.zeros(4, 3, requires_grad=True), torch.zeros(5, requires_grad=True)]
    p[0].grad, p[1].grad = gradients[0].clone(), gradients[2].clone()
    norm = torch.nn.utils.clip_grad_norm_(p, 0.7)
    assert torch.allclose(optim.clip_(gradients, 0.7), norm)
    assert torch.allclose(gradients[0], p[0].grad) and torch.allclose(gradients[2], p[1].grad)


def test_minutes_are_settled_again_when_the_machine_is_free(tmp_path, monkeypatch):
    """By a clock of our own: the first thirty steps take 5 ms each, all others 1 ms."""
    clock, own = [0.0, 0], loop.step

    def step(*given):
        clock[0], clock[1] = clock[0] + (0.005 if clock[1] < 30 else 0.001), clock[1] + 1
        return own(*given)

    monkeypatch.setattr(loop, "step", step)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    fitted = loop.fit(stage(2000, tmp_path, minutes=0.02, validations=1))
    assert clock[0] == pytest.approx(1.2, abs=0.02) and fitted.progress.step > 1000, "of 240 steps that the first twenty had foretold"


def test_minutes_are_settled_by_the_first_steps_and_kept_by_a_resumed_run(tmp_path):
    first = stage(2000, tmp_path, minutes=0.02, validations=1)
    fitted = loop.fit(first)
    assert 0.3 < fitted.seconds < 12 and fitted.progress.step == fitted.progress.steps != 2000
    again = loop.fit(stage(2000, tmp_path, minutes=0.02, validations=1))
    assert again.progress.step == fitted.progress.step  # nothing is left to do


def test_named_steps_are_kept_however_long_they_take():
    assert loop.fit(stage(12)).progress.step == 12
