"""Rollouts against their definitions: advantages by a slow loop, values at time limits, and rows that a policy would say again."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils._pytree import tree_leaves

pytest.importorskip("gymnasium")

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.environments import Environment
from modelwright.data.rollouts import Actor, Observer, Rollouts, Spread, generalised_advantages, pieces
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.learn.checkpoint import flatten, unflatten
from modelwright.objective import Experience

COUNTING = '''
import gymnasium, numpy as np

class Counting(gymnasium.Env):
    """Shows (steps taken, 1); the reward is 1 + steps taken; over, by its rules or by a time limit, after `length` steps."""
    observation_space, action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32), gymnasium.spaces.Discrete(2)
    def __init__(self, length=3, cut=False):
        self.length, self.cut = length, cut
    def reset(self, seed=None, options=None):
        self.t = 0
        return np.array([0, 1], np.float32), {}
    def step(self, action):
        self.t += 1
        over = self.t >= self.length
        return np.array([self.t, 1], np.float32), float(self.t), over and not self.cut, over and self.cut, {}

def make(**settings):
    return Counting(**settings)
'''
PLAIN = {"mlp": {"width": 16, "depth": 1, "bins": 0, "dropout": 0.0}}
RECURRENT = {"lstm": {"width": 16, "bidirectional": False, "dropout": 0.0}}


def built(environment, experience, seed=0):
    inputs, targets = environment.kinds()
    schema = Schema({c: find.make("kinds", k) for c, k in inputs.items()}, {c: find.make("kinds", k) for c, k in targets.items()})
    schema.fit(environment.sample(30 if environment.history else 300, 0))
    torch.manual_seed(0)
    encoders = {"observation": RECURRENT} if environment.history else {"table": PLAIN}
    heads = {"action": {"action": {"gain": 1.0}}, "value": "value"}
    model = assemble_model(schema, {"encoders": encoders, "fusion": "concat", "heads": heads, "decoders": {}})
    return schema, model, Rollouts(environment, schema, experience, seed, "action", "value")


@pytest.fixture
def counting(tmp_path):
    (tmp_path / "mine.py").write_text(COUNTING)
    return lambda history=False, **settings: Environment("mine.py:make", settings, None, history, tmp_path)


def test_advantages_are_equation_16():
    """A_t = sum over l of (discount trace)^l delta_(t+l), up to the episode's end; written as slowly as it is defined."""
    rng = np.random.default_rng(0)
    s, e, discount, trace = 40, 5, 0.9, 0.7
    rewards, values = rng.normal(size=(s, e)), rng.normal(size=(s + 1, e))
    ended = rng.random((s, e)) < 0.15
    terminated = ended & (rng.random((s, e)) < 0.5)
    found = generalised_advantages(rewards, values, terminated, ended, discount, trace)
    for i in range(e):
        for t in range(s):
            total, factor = 0.0, 1.0
            for u in range(t, s):
                after = 0.0 if terminated[u, i] else values[u + 1, i]
                total += factor * (rewards[u, i] + discount * after - values[u, i])
                factor *= discount * trace
                if ended[u, i]:
                    break
            assert found[t, i] == pytest.approx(total)


def test_trace_one_is_the_return_and_trace_zero_one_step():
    rewards, values = np.ones((6, 1)), np.full((7, 1), 0.5)
    never = np.zeros((6, 1), bool)
    ends = never.copy()
    ends[-1] = True
    assert np.allclose(generalised_advantages(rewards, values, ends, ends, 1.0, 1.0)[:, 0] + 0.5, [6, 5, 4, 3, 2, 1])
    assert np.allclose(generalised_advantages(rewards, values, never, never, 0.9, 0.0), 1 + 0.9 * 0.5 - 0.5)


@pytest.mark.parametrize("cut", [False, True])
@torch.no_grad()
def test_a_time_limit_is_worth_what_the_policy_says_and_an_end_nothing(counting, cut):
    x = Experience(copies=3, steps=10, passes=1, batch_size=30, discount=0.9, trace=0.0)
    schema, model, stream = built(counting(cut=cut), x)
    rows = stream.collect(model)
    observer = Observer(stream.environment, schema)
    value = lambda t: float(model(batch_of(observer, np.array([[t, 1.0]])), ["value"])["value"])  # noqa: E731
    scale = schema.targets["value"].scale_
    seen = rows.inputs["table"].numbers[:, 0] * schema.inputs["observation_0"].sd_ + schema.inputs["observation_0"].mean_
    assert sorted(seen.round().unique().tolist()) == [0, 1, 2]  # the last observation is nobody's to act on
    for t, target in zip(seen.round().tolist(), rows.targets["value"][:, 0].tolist()):
        after = value(t + 1) if t < 2 or cut else 0.0
        assert target == pytest.approx((t + 1) / scale + 0.9 * after, abs=1e-5)
    assert len(rows) == 3 * 8 and stream.metrics()["environment_steps"] == 24  # of 10 steps two only reset
    assert stream.metrics()["episode_return"] == 6.0


def batch_of(observer, observations):
    from modelwright.forms import Batch

    return Batch(observer.inputs(observer.encode(observations.astype(np.float32))))


def test_advantages_are_normalised_over_the_collection(counting):
    _, model, stream = built(counting(length=5), Experience(copies=4, steps=16, passes=1, batch_size=64))
    advantage = stream.collect(model).extra["advantage"]
    assert advantage.mean().abs() < 1e-6 and float(advantage.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_what_a_policy_sees_is_what_the_schema_encodes():
    rng = np.random.default_rng(0)
    env = Environment("CartPole-v1")
    schema, _, _ = built(env, Experience(copies=1))
    schema.inputs["observation_1"].log_ = True
    x = (rng.normal(size=(64, 4)) * [1, 50, 1, 1e4]).astype(np.float32)
    encoded = schema.encode(pa.table(dict(zip(env.columns, x.T)))).batch(np.arange(64)).inputs["table"]
    fast = batch_of(Observer(env, schema), x).inputs["table"]
    assert torch.equal(encoded.numbers, fast.numbers) and torch.equal(encoded.present, fast.present) and encoded.codes.shape == fast.codes.shape
    lake = Environment("FrozenLake-v1")
    schema, _, _ = built(lake, Experience(copies=1))
    states = np.arange(16)
    encoded = schema.encode(pa.table({"observation": states})).batch(states).inputs["table"]
    fast = Observer(lake, schema)
    assert torch.equal(encoded.codes, fast.inputs(fast.encode(states))["table"].codes)
    masked = Environment("CartPole-v1", observe=[0, 2], history=True)
    schema, _, _ = built(masked, Experience(copies=1))
    walk = x[:, :2]
    encoded = schema.encode(pa.table({"observation": [walk.tolist()]})).batch(np.arange(1)).inputs["observation"]
    assert torch.equal(encoded.values[0], Observer(masked, schema).encode(walk))


def test_pieces_are_the_runs_of_steps():
    acted = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool).T
    index, copy, lengths = pieces(acted)
    assert copy.tolist() == [0, 0, 1, 2] and lengths.tolist() == [2, 2, 3, 5] and index[:, 0].tolist() == [0, 3, 1, 0]
    assert index[1].tolist() == [3, 4, 4, 4, 4]


@pytest.mark.parametrize("env", [{"observe": [0, 2], "history": True}, {}])
@torch.no_grad()
def test_the_training_pass_says_what_was_said_when_acting(env):
    """Step by step with the state handed on, resets included, gives the log-probabilities and values of one pass over each row."""
    x = Experience(copies=6, steps=25, passes=2, batch_size=50)
    _, model, stream = built(Environment("CartPole-v1", **env), x)
    count = 0
    for _ in range(3):  # a collection begins in the middle of episodes
        steps = 0
        for batch in stream.batches(model):
            state = {k.removeprefix("state."): v for k, v in batch.extra.items() if k.startswith("state.")}
            outs = model(batch, state=state or None)
            mask = batch.extra["mask"].bool()
            said = model.heads["action"].log_probability(outs["action"], batch.targets["action"])
            assert torch.allclose(said[mask], batch.extra["log_probability"][mask], atol=1e-5)
            assert torch.allclose(outs["value"][mask], batch.extra["old_value"][mask], atol=1e-5)
            steps += int(mask.sum())
            count += 1
        assert steps % 2 == 0 and steps > 2 * 6 * 20  # every step in both passes
    assert count == 3 * stream.steps() and stream.epoch == 3
    assert stream.metrics()["episode_return"] > 8


@torch.no_grad()
def test_the_actor_forgets_at_the_beginning_of_an_episode():
    env = Environment("CartPole-v1", observe=[0, 2], history=True)
    schema, model, _ = built(env, Experience(copies=1))
    actor = Actor(model, schema, env, "action")
    seen = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    state = None
    for t in range(3):
        _, state = actor(seen[t], state, np.array([t == 0, True, t == 2, not t]))
    alone, _ = actor.step(actor.observer.encode(seen[2]), None, np.ones(4, bool))[0], None
    again = actor.step(actor.observer.encode(seen[2]), None, np.ones(4, bool))[2]["observation"]
    assert torch.allclose(state["observation"][1:3], again[1:3]) and not torch.allclose(state["observation"][0], again[0])
    assert alone["action"].action.shape == (4,)


@pytest.mark.parametrize("history", [False, True])
def test_a_resumed_run_goes_on_where_it_stood(history):
    x = Experience(copies=3, steps=20, passes=2, batch_size=10)
    made = lambda: built(Environment("CartPole-v1", observe=[0, 2], history=history), x)  # noqa: E731
    schema, model, stream = made()
    list(stream.batches(model))  # a whole collection, so that episodes are under way
    going = stream.batches(model)
    for _ in range(3):
        next(going)
    again = made()[2]
    tensors = {}
    again.load(unflatten(json.loads(json.dumps(flatten(stream.state(), tensors))), tensors))  # as a checkpoint keeps it
    assert again.epoch == 1 and again.metrics() == stream.metrics() and again.schema.targets["value"].scale_ == schema.targets["value"].scale_ != 1.0
    rest, other = [*going, *stream.batches(model)], [*again.batches(model), *again.batches(model)]
    assert len(rest) == len(other) == 2 * stream.steps() - 3 and again.taken == stream.taken
    for a, b in zip(rest, other, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(tree_leaves(a), tree_leaves(b), strict=True) if u is not None)


def test_an_environment_that_cannot_be_played_again_begins_new_episodes(counting):
    x = Experience(copies=3, steps=10, passes=2, batch_size=10)
    _, model, stream = built(counting(), x)
    next(stream.batches(model))
    state = stream.state()
    state["play"]["seen"] = state["play"]["seen"] + 1  # as chance of its own would show
    again = built(counting(), x)[2]
    again.load(state)
    assert again.copies is None and len(list(again.batches(model))) == again.steps() - 1 and len(list(again.batches(model))) == again.steps()


def test_the_same_seed_gives_the_same_rows(counting):
    a, b, c = (built(Environment("CartPole-v1"), Experience(copies=3, steps=10), seed)[1:] for seed in (0, 0, 1))
    rows = [stream.collect(model).inputs["table"].numbers for model, stream in (a, b, c)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_spread_is_the_standard_deviation():
    rng, spread = np.random.default_rng(0), Spread()
    parts = [rng.normal(5, 3, n) for n in (1, 0, 7, 100)]
    for part in parts:
        spread.add(part)
    assert spread.sd() == pytest.approx(np.concatenate(parts).std())
    assert Spread().sd() == 1.0


def test_other_columns_than_the_environments_are_refused():
    env = Environment("CartPole-v1", observe=[0, 2])
    whole = Environment("CartPole-v1")
    schema, _, _ = built(whole, Experience(copies=1))
    with pytest.raises(Refusal, match="observation_1"):
        Observer(env, schema)
