"""Environments: resets are no steps, every episode counts, and what cannot be used is refused with the fix."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from modelwright.data.environments import Environment
from modelwright.errors import Refusal

COUNTING = '''
import gymnasium, numpy as np
from gymnasium import spaces

class Counting(gymnasium.Env):
    """Shows how many steps were taken; the reward is that number. Odd episodes last `long` steps."""
    def __init__(self, length=3, long=None, cut=False, continuous=False):
        self.length, self.long, self.cut, self.episode = length, long or length, cut, -1
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(np.array([-2.0], np.float32), np.array([2.0], np.float32)) if continuous else spaces.Discrete(3)
    def seen(self):
        return np.array([self.t, -self.t], np.float32)
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self.seen(), {}
    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        over = self.t >= (self.long if self.episode % 2 else self.length)
        return self.seen(), float(self.t), over and not self.cut, over and self.cut, {}

def make(**settings):
    return Counting(**settings)

def together(copies, mode="NextStep"):
    return gymnasium.vector.SyncVectorEnv([Counting] * copies, autoreset_mode=mode)
'''


@pytest.fixture
def counting(tmp_path):
    (tmp_path / "mine.py").write_text(COUNTING)
    return lambda name="make", observe=None, history=False, **settings: Environment(f"mine.py:{name}", settings, observe, history, tmp_path)


def zeros(observations, state, fresh):
    return np.zeros(len(observations), np.int64), state


def test_a_sample_has_steps_and_no_resets(counting):
    env = counting(observe=[0])
    table = env.sample(200, 0)
    assert table.num_rows == 200 and table.column_names == ["observation_0", "action"]
    assert set(table.column("observation_0").to_pylist()) == {0.0, 1.0, 2.0}  # 3 is the last observation: nobody acts there
    assert set(table.column("action").to_pylist()) == {0, 1, 2}
    assert table.equals(env.sample(200, 0)) and not table.equals(env.sample(200, 1))


def test_with_history_a_row_is_an_episode(counting):
    table = counting(history=True, length=2, long=5).sample(7, 0)
    assert table.num_rows == 7
    for seen, actions in zip(table.column("observation").to_pylist(), table.column("action").to_pylist()):
        assert seen == [[float(t), -float(t)] for t in range(len(seen))] and len(actions) == len(seen) and len(seen) in (2, 5)


def test_actions_of_a_box_are_vectors_within_it(counting):
    env = counting(continuous=True)
    actions = np.array(env.sample(100, 0).column("action").to_pylist())
    assert actions.shape == (100, 1) and actions.min() > -2 and actions.max() < 2 and actions.std() > 0.9
    assert env.kinds()[1]["action"] == {"action": {"low": [-2.0], "high": [2.0]}}


def test_returns_are_those_of_whole_episodes_and_short_ones_are_not_favoured(counting):
    returns = counting(length=1, long=10).play(zeros, 8, 0, copies=4)  # each copy plays one of either length
    assert sorted(returns) == [1.0] * 4 + [55.0] * 4
    assert len(counting().play(zeros, 5, 0, copies=2)) == 5


def test_fresh_marks_the_first_observation_of_each_episode(counting):
    marks = []

    def act(observations, state, fresh):
        marks.append((observations[:, 0].copy(), fresh.copy()))
        return np.zeros(len(fresh), np.int64), state

    counting().play(act, 6, 0, copies=2)
    for seen, fresh in marks:
        assert np.array_equal(fresh, seen == 0)


def test_cartpole_uses_its_own_vectorised_code_and_can_be_masked():
    env = Environment("CartPole-v1", observe=[0, 2])
    copies = env.make(5, 0)
    assert type(copies.env).__name__ == "CartPoleVectorEnv" and copies.observations.shape == (5, 2)
    assert env.columns == ["observation_0", "observation_2"]
    returns = env.play(zeros, 20, 0)
    assert returns.min() >= 8 and returns.max() <= 11  # a push to one side falls in about nine steps


def test_names_as_observations():
    env = Environment("FrozenLake-v1")
    assert env.columns == ["observation"] and env.kinds()[0] == {"observation": "category"}
    table = env.sample(50, 0)
    assert set(table.column("observation").to_pylist()) <= set(range(16))


@pytest.mark.parametrize(
    "name, arguments, code, fix",
    [
        ("CartPole-v11", {}, "environment.unknown", "CartPole-v1"),
        ("CartPole-v1", {"settings": {"gravitation": 3}}, "environment.setting", "settings"),
        ("CartPole-v1", {"observe": [0, 4]}, "environment.observe", "0 to 3"),
        ("Blackjack-v1", {}, "environment.observation", "wrap"),
        ("FrozenLake-v1", {"history": True}, "environment.observation", "wrap"),
        ("mine.py:mak", {}, "component.file", "make"),
        ("yours.py:make", {}, "component.file", ""),
        ("mine.py:together", {"settings": {"mode": "SameStep"}}, "environment.autoreset", "NEXT_STEP"),
    ],
)
def test_refusals(tmp_path, name, arguments, code, fix):
    (tmp_path / "mine.py").write_text(COUNTING)
    with pytest.raises(Refusal) as e:
        Environment(name, root=tmp_path, **arguments)
    assert e.value.problems[0].code == code and fix in e.value.problems[0].fix


def test_a_function_may_make_all_copies(counting):
    assert counting("together").make(3, 0).observations.shape == (3, 2)


def test_an_endless_episode_is_refused(counting):
    with pytest.raises(Refusal, match="did not end"):
        counting(length=10**9).play(zeros, 2, 0, longest=50)
