"""Environments: gymnasium's, or a user's own, as several copies side by side that a policy plays in.

`sample` is what a uniformly random policy sees, as an ordinary table: kinds are inferred and fitted from it like from any other. One form of
autoreset inside, gymnasium's NEXT_STEP: a finished copy shows the episode's last observation, and its next step only resets, whatever the action
(`Copies.ended` says where). It gives the value of a time limit's last observation for free (see rollouts). An environment's own vectorised code
is used where it has some, as CartPole has. Left out: observations that are pictures or dictionaries, several agents.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import did_you_mean, refuse

Act = Callable[[np.ndarray, Any, np.ndarray], tuple[np.ndarray, Any]]
"""(observations (B, ...), state, fresh (B,) bool: an episode begins) -> (actions (B,) or (B, A), state)"""


class Environment:
    def __init__(
        self, name: str, settings: dict[str, Any] | None = None, observe: list[int] | None = None, history: bool = False, root: str | Path = "."
    ):
        """name: gymnasium's (CartPole-v1), or `file.py:function`, which returns one environment, or all of them where it has a parameter `copies`.
        settings: passed on to it. observe: keep only these components of the observation. history: a row is an episode, not a step."""
        self.name, self.settings, self.observe, self.history, self.root = name, settings or {}, observe, history, Path(root)
        one = self._vector(1)
        self.observation, self.action = one.single_observation_space, one.single_action_space
        one.close()
        self._check()

    def make(self, copies: int, seed: int) -> Copies:
        """So many of them, each at the start of an episode."""
        return Copies(self._vector(copies), seed, self.observe)

    def _vector(self, copies: int) -> Any:
        try:
            import gymnasium
        except ModuleNotFoundError as e:
            raise refuse("extra.missing", "environments need the package 'gymnasium'", fix="pip install 'modelwright[rl]'") from e
        try:
            if ".py:" not in self.name:
                env = gymnasium.make_vec(self.name, num_envs=copies, **self.settings)
            else:
                function = self._function()
                if "copies" in inspect.signature(function).parameters:
                    env = function(copies=copies, **self.settings)
                else:
                    env = gymnasium.vector.SyncVectorEnv([lambda: function(**self.settings)] * copies)
        except gymnasium.error.UnregisteredEnv as e:
            what = f"there is no environment named {self.name!r}"
            raise refuse("environment.unknown", what, fix=did_you_mean(self.name, gymnasium.registry)) from e
        except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as e:
            raise refuse("extra.missing", f"{self.name} needs a package: {e}", fix="install it") from e
        except (gymnasium.error.Error, TypeError) as e:
            raise refuse("environment.setting", f"{self.name} cannot be made: {e}", fix="mend its settings") from e
        mode = env.metadata.get("autoreset_mode")
        if mode is not gymnasium.vector.AutoresetMode.NEXT_STEP:
            why = "the value of the observation at a time limit must be known"
            raise refuse("environment.autoreset", f"{self.name} resets by {mode}", why=why, fix="make it with AutoresetMode.NEXT_STEP")
        return env

    def _function(self) -> Callable[..., Any]:
        file, _, name = self.name.rpartition(":")
        path = (self.root / file).resolve()
        if not path.is_file():
            raise refuse("component.file", f"{file} does not exist", why="paths are relative to the task file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if name not in vars(module):
            raise refuse("component.file", f"{file} has no function {name}", fix=did_you_mean(name, [n for n in vars(module) if n[0] != "_"]))
        return getattr(module, name)

    def _check(self) -> None:
        observation, action = type(self.observation).__name__, type(self.action).__name__
        flat = observation == "Box" and len(self.observation.shape) == 1
        if not flat and (observation != "Discrete" or self.history or self.observe):
            what = f"{self.name} shows {self.observation}"
            fix = "wrap it in a function of your own (file.py:function), for example with FlattenObservation"
            raise refuse("environment.observation", what, why="observations must be vectors, or names without `observe` or `history`", fix=fix)
        if action != "Discrete" and (action != "Box" or len(self.action.shape) != 1):
            fix = "wrap it in a function of your own (file.py:function)"
            raise refuse("environment.action", f"{self.name} takes {self.action}", why="actions must be one of several, or a vector", fix=fix)
        if self.observe is not None and not (self.observe and all(0 <= i < self.observation.shape[0] for i in self.observe)):
            what = f"observe: {self.observe}, but {self.name} shows {self.observation.shape[0]} components"
            raise refuse("environment.observe", what, fix=f"numbers from 0 to {self.observation.shape[0] - 1}")

    @property
    def discrete(self) -> bool:
        return type(self.action).__name__ == "Discrete"

    @property
    def columns(self) -> list[str]:
        """The input columns of a step's row."""
        if type(self.observation).__name__ == "Discrete":
            return ["observation"]
        return [f"observation_{i}" for i in (range(self.observation.shape[0]) if self.observe is None else self.observe)]

    def kinds(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(inputs, targets) as specs: what a task that says nothing of columns gets."""
        one = "category" if type(self.observation).__name__ == "Discrete" else "number"
        inputs = {"observation": "series"} if self.history else {c: one for c in self.columns}
        if self.discrete:
            n, start = int(self.action.n), int(self.action.start)
            action = {"classes": n} | ({"labels": [str(start + i) for i in range(n)]} if start else {})
        else:
            action = {"low": self.action.low.tolist(), "high": self.action.high.tolist()}
        return inputs, {"action": {"action": action}, "value": "value"}

    def sample(self, n: int, seed: int) -> pa.Table:
        """What a uniformly random policy sees in n steps, or n episodes with history: columns as `columns`, and `action`."""
        rng = np.random.default_rng(seed)
        copies = self.make(min(n, 32), seed)
        episodes: list[list[tuple[np.ndarray, Any]]] = [[] for _ in copies.observations]
        done: list[list[tuple[np.ndarray, Any]]] = []
        count = 0
        while count < n:
            actions = self._random(len(episodes), rng)
            seen, ended = copies.observations, copies.ended
            copies.step(actions)
            for i, episode in enumerate(episodes):
                if ended[i]:  # this step only reset
                    done.append(episode)
                    episodes[i] = []
                else:
                    episode.append((seen[i], actions[i].tolist()))
            count = len(done) if self.history else count + int((~ended).sum())
        copies.env.close()
        if self.history:
            done = done[:n]
            see = pa.array([[o.tolist() for o, _ in e] for e in done], pa.list_(pa.list_(pa.float32())))
            return pa.table({"observation": see, "action": pa.array([[a for _, a in e] for e in done])})
        steps = [s for e in [*done, *episodes] for s in e][:n]
        see = np.stack([o for o, _ in steps]).reshape(len(steps), -1)
        return pa.table({c: see[:, i] for i, c in enumerate(self.columns)} | {"action": pa.array([a for _, a in steps])})

    def _random(self, n: int, rng: np.random.Generator) -> np.ndarray:
        if self.discrete:
            return rng.integers(0, self.action.n, n) + self.action.start
        low, high = np.maximum(self.action.low, -1e3), np.minimum(self.action.high, 1e3)
        return rng.uniform(low, high, (n, len(low))).astype(self.action.dtype)

    def random(self, seed: int) -> Act:
        """A policy that picks any action."""
        rng = np.random.default_rng(seed)
        return lambda observations, state, fresh: (self._random(len(observations), rng), None)

    def play(self, act: Act, episodes: int, seed: int, copies: int = 32, longest: int = 100_000) -> np.ndarray:
        """Undiscounted returns (E,) float64. Each copy plays its share of the episodes: to take those that end first would favour short ones."""
        n = min(copies, episodes)
        share = np.full(n, episodes // n) + (np.arange(n) < episodes % n)
        running, returns, state = np.zeros(n), [[] for _ in range(n)], None
        at = self.make(n, seed)
        for _ in range(longest * int(share.max())):
            actions, state = act(at.observations, state, at.fresh)
            running += at.step(actions)[0]
            for i in np.flatnonzero(at.ended):
                returns[i].append(running[i])
                running[i] = 0.0
            if all(len(r) >= s for r, s in zip(returns, share)):
                at.env.close()
                return np.array([x for r, s in zip(returns, share) for x in r[:s]])
        raise refuse("environment.endless", f"an episode of {self.name} did not end in {longest} steps", fix="give it a time limit")


class Copies:
    """Environments side by side. A step of a copy that has `ended` only resets it; then it is `fresh`."""

    def __init__(self, env: Any, seed: int, observe: list[int] | None):
        self.env, self.observe = env, observe
        n = env.num_envs
        self.observations = self._seen(env.reset(seed=seed)[0])  # (B, ...): what to act on now
        self.fresh, self.ended = np.ones(n, bool), np.zeros(n, bool)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(reward (B,) float64, terminated (B,) bool: ended by its own rules, not by a time limit)"""
        seen, reward, terminated, truncated, _ = self.env.step(actions)
        self.observations = self._seen(seen)
        self.fresh, self.ended = self.ended, terminated | truncated
        return reward.astype(np.float64), terminated

    def _seen(self, observations: np.ndarray) -> np.ndarray:
        return observations if self.observe is None else observations[:, self.observe]
