"""Proximal policy optimisation: the loss is equation 7 and 9, padding counts nothing, impossible policies are refused, and it learns."""

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.environments import Environment
from modelwright.data.rollouts import Actor, Rollouts
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.forms import Ragged
from modelwright.learn import loop
from modelwright.settings import Settings
from modelwright.strategy import Context

PLAIN = {"mlp": {"width": 64, "depth": 1, "bins": 0, "dropout": 0.0}}
RECURRENT = {"lstm": {"width": 16, "bidirectional": False, "dropout": 0.0}}


def stage(encoder=PLAIN, env=None, seed=0, epochs=1, **settings):
    env = Environment("CartPole-v1", **(env or {}))
    inputs, targets = env.kinds()
    schema = Schema({c: find.make("kinds", k) for c, k in inputs.items()}, {c: find.make("kinds", k) for c, k in targets.items()})
    schema.fit(env.sample(50 if env.history else 1000, 0))
    torch.manual_seed(seed)
    key = "observation" if env.history else "table"
    parts = {"encoders": {key: encoder}, "fusion": "concat", "heads": {"action": "action", "value": "value"}, "decoders": {}}
    objective = find.make("objectives", {"clipped_policy": settings})
    stream = Rollouts(env, schema, objective.experience, seed, "action", "value")
    learning = {k: v for k, v in objective.learning(0).items() if k != "epochs"}
    s = Settings(**{"device": "cpu", "threads": 1, "batch_size": objective.experience.batch_size} | learning)
    steps = epochs * stream.steps()
    return loop.Stage("act", assemble_model(schema, parts), objective, [], stream, Context(schema, 0, s.batch_size, steps, seed), s, steps)


def moved(stage):
    """A collection, and a policy that has changed since."""
    rows = stage.stream.collect(stage.model)
    stage.objective.build(stage.model, stage.context.schema)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in stage.model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return rows


@pytest.mark.parametrize("encoder, env", [(PLAIN, {}), (RECURRENT, {"observe": [0, 2], "history": True})])
@torch.no_grad()
def test_the_loss_is_equations_7_and_9(encoder, env):
    s = stage(encoder, env, copies=5, steps=20, clip=0.1, entropy=0.03, value_weight=0.7)
    rows = moved(s)
    state = {k.removeprefix("state."): v for k, v in rows.extra.items() if k.startswith("state.")}
    outs = s.model(rows, state=state or None)
    law, mask = torch.distributions.Categorical(logits=outs["action"]), rows.extra["mask"].bool()
    loss = s.objective.loss(s.model, rows, "model")
    per_row, n, clipped, kl = [], 0, 0, 0.0
    for i in range(len(rows)):
        total = 0.0
        for t in range(int(mask[i].sum())):
            new, old = float(law.log_prob(rows.targets["action"])[i, t]), float(rows.extra["log_probability"][i, t])
            r, a = np.exp(new - old), float(rows.extra["advantage"][i, t])
            total -= min(r * a, min(max(r, 0.9), 1.1) * a)
            total += 0.7 * 0.5 * float(outs["value"][i, t] - rows.targets["value"][i, t]) ** 2 - 0.03 * float(law.entropy()[i, t])
            n, clipped, kl = n + 1, clipped + (abs(r - 1) > 0.1), kl + r - 1 - np.log(r)
        per_row.append(total)
    counts = loss.terms["policy"].count
    assert counts.tolist() == mask.sum(1).tolist() and counts.sum() == n
    assert np.allclose(loss.per_row().numpy() * counts.numpy(), per_row, atol=1e-4)
    assert float(loss.mean()) == pytest.approx(sum(per_row) / n, abs=1e-5)
    assert 0 < clipped < n and float(loss.metrics["clip_fraction"]) == pytest.approx(clipped / n)
    assert float(loss.metrics["approximate_kl"]) == pytest.approx(kl / n, abs=1e-5)


@torch.no_grad()
def test_a_rows_loss_depends_on_that_row_alone():
    s = stage(RECURRENT, {"observe": [0, 2], "history": True}, copies=5, steps=20)
    rows = moved(s)
    together = s.objective.loss(s.model, rows, "model").per_row()
    for i in range(len(rows)):
        alone = s.stream._cut(rows.select(slice(i, i + 1)))  # without the padding that others need
        assert torch.allclose(s.objective.loss(s.model, alone, "model").per_row()[0], together[i], atol=1e-5)


def test_padding_gives_no_gradient():
    s = stage(RECURRENT, {"observe": [0, 2], "history": True}, copies=5, steps=30)
    rows = moved(s)
    mask = rows.extra["mask"].bool()
    assert not mask.all()
    noise = lambda x: torch.where(mask.view(*mask.shape, *[1] * (x.dim() - 2)), x, torch.full_like(x, 1))  # noqa: E731
    walk = rows.inputs["observation"]
    other = rows.but(
        inputs={"observation": Ragged(noise(walk.values), walk.lengths)},
        targets={k: noise(v) for k, v in rows.targets.items()},
        extra={k: v if k == "mask" or k.startswith("state.") else noise(v) for k, v in rows.extra.items()},
    )
    parameters = [p for p in s.model.parameters()]
    a, b = (torch.autograd.grad(s.objective.loss(s.model, r, "model").mean(), parameters, allow_unused=True) for r in (rows, other))
    assert sum(g is not None for g in a) >= 8
    assert all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in zip(a, b))


@pytest.mark.parametrize(
    "encoder, code",
    [
        ({"mlp": {"dropout": 0.1}}, "objective.dropout"),
        ({"lstm": {"bidirectional": False}}, "objective.dropout"),
        ({"lstm": {"dropout": 0.0}}, "objective.direction"),
    ],
)
def test_policies_that_cannot_be_are_refused(encoder, code):
    s = stage(encoder, {"history": "lstm" in encoder}, copies=2, steps=4)
    with pytest.raises(Refusal) as e:
        s.objective.build(s.model, s.context.schema)
    assert code in {p.code for p in e.value.problems} and all(p.fix for p in e.value.problems)


def test_a_task_without_a_value_is_refused():
    s = stage(copies=2, steps=4)
    del s.context.schema.targets["value"]
    with pytest.raises(Refusal, match="one action and one value"):
        s.objective.build(s.model, s.context.schema)


@pytest.mark.slow
def test_it_solves_cartpole():
    s = stage(epochs=int(find.make("objectives", "clipped_policy").learning(0)["epochs"]))
    fitted = loop.fit(s)
    returns = s.stream.environment.play(Actor(fitted.model, s.context.schema, s.stream.environment, "action"), 100, 1000)
    assert returns.mean() >= 475
