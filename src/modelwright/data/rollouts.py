"""What a policy meets when it acts: collected, judged, and gone over several times.

Generalised advantages: Schulman et al. 2016, eq. 16; a terminal state is worth nothing, a time limit's last observation what the policy says of it.
Environments reset on the step after the last (see environments), so that observation is valued like any other, and the step itself is left out.
Rewards are divided by the running spread of the discounted return (Engstrom et al. 2020), advantages are normalised over the collection. With
history a row is a piece of an episode, cut at its end and at the collection's, with the recurrent state that it began with.

Legend: S steps, E copies of the environment, B rows, T steps of a row (1 without history).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..errors import refuse
from ..forms import Batch, Prediction, Ragged, Tabular, Value
from ..model import Model
from ..objective import Experience
from .dataset import TABLE
from .environments import Copies, Environment
from .schema import Schema
from .streams import Stream

MOST = 2_000_000  # actions that a checkpoint holds, to be taken again


class Observer:
    """Observations as the schema encodes them, without a table in between: the hot path."""

    def __init__(self, environment: Environment, schema: Schema):
        columns = ["observation"] if environment.history else environment.columns
        strange = [c for c in schema.inputs if c not in columns]
        if strange or not schema.inputs:
            what = f"the inputs are {', '.join(schema.inputs) or 'none'}; {environment.name} shows {', '.join(columns)}"
            raise refuse("environment.columns", what, fix="name only columns that the environment shows")
        self.history = environment.history
        if self.history:
            self.series, self.name = schema.inputs["observation"], schema.key("observation")
            return
        self.name = TABLE
        numbers = [c for c in schema.table if schema.inputs[c].place == "number"]
        fitted = [schema.inputs[c] for c in numbers]
        self.index = [columns.index(c) for c in numbers]
        self.log = np.array([k.log_ for k in fitted], bool)
        self.mean, self.sd = np.array([k.mean_ for k in fitted]), np.array([k.sd_ for k in fitted])
        self.codes = None  # of a Discrete observation: (N,) its code by its number
        if not numbers:
            names = pa.chunked_array([pa.array(np.arange(environment.observation.n) + environment.observation.start)])
            self.codes = schema.inputs[columns[0]].encode(names)["values"]
            self.start = environment.observation.start

    def encode(self, observations: np.ndarray) -> Tensor:
        """(E, N) float32 numbers or channels, or (E, 1) int64 codes; equals `schema.encode` on the same values."""
        if self.history:
            return torch.from_numpy(self.series.scaled(observations))
        if self.codes is not None:
            return torch.from_numpy(self.codes[observations - self.start][:, None])
        x = observations.reshape(len(observations), -1)[:, self.index].astype(np.float64)
        if self.log.any():
            x = np.where(self.log, np.sign(x) * np.log1p(np.abs(x)), x)
        return torch.from_numpy(((x - self.mean) / self.sd).clip(-20, 20).astype(np.float32))

    def inputs(self, encoded: Tensor, lengths: Tensor | None = None) -> dict[str, Value]:
        """encoded (B, N), or (B, T, C) with history."""
        if self.history:
            return {self.name: Ragged(encoded, lengths)}
        if self.codes is not None:
            none = torch.zeros(len(encoded), 0)
            return {self.name: Tabular(none, none.bool(), encoded)}
        return {self.name: Tabular(encoded, torch.ones_like(encoded, dtype=torch.bool), encoded.new_zeros(len(encoded), 0, dtype=torch.int64))}


class Actor:
    """A model that plays: `environment.play(Actor(...), episodes, seed)`. Greedy without rng."""

    def __init__(self, model: Model, schema: Schema, environment: Environment, action: str, rng: torch.Generator | None = None):
        self.model, self.observer, self.action, self.rng = model, Observer(environment, schema), action, rng
        self.kind, self.start = schema.targets[action], int(environment.action.start) if environment.discrete else 0
        self.heads = [action]
        self.device = next(model.parameters()).device

    def __call__(self, observations: np.ndarray, state: Any, fresh: np.ndarray) -> tuple[np.ndarray, Any]:
        found, _, state = self.step(self.observer.encode(observations), state, fresh)
        return self.real(found[self.action].action.cpu().numpy()), state

    def step(self, encoded: Tensor, state: dict[str, Tensor] | None, fresh: np.ndarray) -> tuple[dict[str, Prediction], dict, dict]:
        """(predictions, recurrent state before, and after): {input: (E, ...)}, empty where nothing is recurrent."""
        inputs = self.observer.inputs(encoded, None)
        if self.observer.history:
            inputs = self.observer.inputs(encoded.unsqueeze(1), torch.ones(len(encoded), dtype=torch.int64))
            if state and fresh.any():
                begins = torch.from_numpy(fresh).to(self.device)
                state = {k: s.masked_fill(begins.view(-1, *[1] * (s.dim() - 1)), 0.0) for k, s in state.items()}
        found = self.model.predict(Batch(inputs).to(self.device), self.rng, self.heads, state or None)
        after = {k.removeprefix("state."): v for k, v in found[self.action].extra.items() if k.startswith("state.")}
        return found, state or {k: torch.zeros_like(v) for k, v in after.items()}, after

    def real(self, action: np.ndarray) -> np.ndarray:
        """In the environment's terms."""
        action = self.kind.real(action)
        return action + self.start if self.start else action


class Rollouts(Stream):
    """One epoch = one collection, gone over `experience.passes` times.

    Environments cannot be saved, but played again: a resumed run takes the same actions from the same start, and goes on to the same bits if it then sees
    what was seen. Else (an environment with chance of its own, or over MOST actions) it begins new episodes after the collection at hand."""

    def __init__(self, environment: Environment, schema: Schema, experience: Experience, seed: int, action_target: str, value_target: str):
        self.environment, self.schema, self.experience, self.seed = environment, schema, experience, seed
        self.action, self.value = action_target, value_target
        self.epoch, self.taken = 0, 0  # collections, steps taken in environments
        self.rng = torch.Generator().manual_seed(seed)
        self.finished: deque[float] = deque(maxlen=100)  # returns of episodes
        self.spread = Spread()  # of discounted returns
        self.explained = 0.0  # share of the returns' variance that the values foresaw
        self.copies: Copies | None = None
        self.rows: Batch | None = None  # the collection at hand
        self.done = 0  # its minibatches that were learnt from
        self.made, self.taken_actions = 0, []  # the collection before which the copies began, and every action since, (E, ...) each

    def steps(self) -> int:
        x = self.experience
        return x.passes * self.parts

    @property
    def parts(self) -> int:
        """Minibatches of a pass."""
        x = self.experience
        return max(1, min(round(x.copies * x.steps / x.batch_size), x.copies if self.environment.history else x.copies * x.steps))

    def batches(self, model: Model) -> Iterator[Batch]:
        if self.rows is None:
            self.rows, self.done = self.collect(model), 0
        rows, order, at = self.rows, np.random.default_rng((self.seed, self.epoch, 1)), 0
        for _ in range(self.experience.passes):
            for part in np.array_split(order.permutation(len(rows)), self.parts):
                at += 1
                if len(part) and at > self.done:
                    self.done = at
                    yield self._cut(rows.select(torch.from_numpy(part)))
        self.epoch, self.rows = self.epoch + 1, None

    @torch.no_grad()
    def collect(self, model: Model) -> Batch:
        """Act, and judge what came of it: all rows of a collection."""
        x = self.experience
        actor = Actor(model, self.schema, self.environment, self.action, self.rng)
        actor.heads = [self.action, self.value]
        if self.copies is None:
            self.copies, self.made, self.taken_actions = self._begin(self.epoch), self.epoch, []
            self.recurrent, self.discounted, self.running = None, np.zeros(x.copies), np.zeros(x.copies)
        at = self.copies
        seen, actions, said, values, states = [], [], [], [], []
        rewards, terminated, ended, acted = (np.zeros((x.steps, x.copies), t) for t in (np.float64, bool, bool, bool))
        for t in range(x.steps):
            encoded = actor.observer.encode(at.observations)
            found, before, self.recurrent = actor.step(encoded, self.recurrent, at.fresh)
            action = found[self.action]
            acted[t] = ~at.ended
            chosen = actor.real(action.action.cpu().numpy())
            rewards[t], terminated[t] = at.step(chosen)
            self.taken_actions.append(chosen)
            ended[t] = at.ended
            seen.append(encoded)
            states.append(before)
            for kept, new in ((actions, action.action), (said, action.extra["log_probability"]), (values, found[self.value].value)):
                kept.append(new.cpu())
            self._follow(rewards[t], acted[t], ended[t])
        last = actor.step(actor.observer.encode(at.observations), self.recurrent, at.fresh)[0][self.value].value.cpu()
        old = torch.stack([*values, last]).numpy()
        self.schema.targets[self.value].scale_ = scale = self.spread.sd()
        advantages = generalised_advantages(rewards / scale, old, terminated, ended, x.discount, x.trace)
        returns = advantages + old[:-1]
        chosen, judged = advantages[acted], returns[acted]
        self.explained = float(1 - chosen.var() / max(judged.var(), 1e-12))
        advantages = (advantages - chosen.mean()) / (chosen.std() + 1e-8)
        self.taken += int(acted.sum())
        columns = {
            "action": torch.stack(actions),
            "return": torch.from_numpy(returns.astype(np.float32)),
            "advantage": torch.from_numpy(advantages.astype(np.float32)),
            "log_probability": torch.stack(said),
            "old_value": torch.from_numpy(old[:-1]),
        }
        return self._rows(actor.observer, torch.stack(seen), columns, states, acted)

    def _follow(self, rewards: np.ndarray, acted: np.ndarray, ended: np.ndarray) -> None:
        """Returns of episodes, and the spread of discounted ones."""
        self.running += rewards
        self.discounted = self.discounted * self.experience.discount + rewards
        self.spread.add(self.discounted[acted])
        if ended.any():
            self.finished.extend(self.running[ended].tolist())
            self.running[ended] = self.discounted[ended] = 0.0

    def _rows(self, observer: Observer, seen: Tensor, columns: dict[str, Tensor], states: list[dict[str, Tensor]], acted: np.ndarray) -> Batch:
        """(S, E, ...) -> rows."""
        if not observer.history:
            there = torch.from_numpy(acted)
            flat = {k: v[there].unsqueeze(1) for k, v in columns.items()}
            inputs, mask, begin = observer.inputs(seen[there]), torch.ones(int(acted.sum()), 1), {}
        else:
            index, copy, lengths = pieces(acted)
            mask = (torch.arange(index.shape[1]) < lengths[:, None]).float()
            flat = {k: _pad(v[index, copy[:, None]], mask) for k, v in columns.items()}
            inputs = observer.inputs(_pad(seen[index, copy[:, None]], mask), lengths)
            begin = {f"state.{k}": torch.stack([s[k].cpu() for s in states])[index[:, 0], copy] for k in states[0]}
        targets = {self.action: flat.pop("action"), self.value: flat.pop("return")}
        return Batch(inputs, targets, extra=flat | {"mask": mask} | begin)

    def _cut(self, batch: Batch) -> Batch:
        """Without the padding that none of these rows needs."""
        longest = int(batch.extra["mask"].sum(1).max())
        if longest == batch.extra["mask"].shape[1]:
            return batch
        inputs = {k: Ragged(v.values[:, :longest], v.lengths) for k, v in batch.inputs.items()}
        extra = {k: v if k.startswith("state.") else v[:, :longest] for k, v in batch.extra.items()}
        return batch.but(inputs=inputs, targets={k: v[:, :longest] for k, v in batch.targets.items()}, extra=extra)

    def metrics(self) -> dict[str, float]:
        """episode_return: undiscounted, mean of the last 100 episodes; environment_steps so far; explained_variance of returns by the values."""
        mean = {"episode_return": float(np.mean(self.finished))} if self.finished else {}
        return mean | {"environment_steps": float(self.taken), "explained_variance": self.explained}

    def _begin(self, epoch: int) -> Copies:
        return self.environment.make(self.experience.copies, int(np.random.default_rng((self.seed, epoch)).integers(2**31)))

    def state(self) -> dict[str, Any]:
        kept = {"epoch": self.epoch, "taken": self.taken, "finished": list(self.finished), "spread": vars(self.spread) | {}, "explained": self.explained}
        kept |= {"rng": self.rng.get_state(), "done": self.done, "made": self.made}
        if self.rows is not None:
            rows = self.rows
            kept["rows"] = {"inputs": {n: dict(vars(v)) for n, v in rows.inputs.items()}, "targets": dict(rows.targets), "extra": dict(rows.extra)}
        if self.copies is not None and len(self.taken_actions) * self.experience.copies <= MOST:
            actions = np.stack(self.taken_actions)
            kept["play"] = {
                "actions": torch.from_numpy(actions), "seen": torch.from_numpy(np.array(self.copies.observations)),
                "recurrent": self.recurrent, "discounted": torch.from_numpy(self.discounted.copy()), "running": torch.from_numpy(self.running.copy()),
            }  # fmt: skip
        return kept

    def load(self, state: dict[str, Any]) -> None:
        """Where it stood; older checkpoints hold no collection: theirs is dropped, and the next one begins."""
        self.epoch, self.taken = int(state["epoch"]), int(state["taken"])
        self.finished.extend(state["finished"])
        vars(self.spread).update(state["spread"])
        self.schema.targets[self.value].scale_ = self.spread.sd()
        self.rng.set_state(state["rng"])
        self.copies, self.rows = None, None
        if "rows" not in state:
            self.epoch += 1
            return
        self.done, self.made, self.explained = int(state["done"]), int(state["made"]), float(state["explained"])
        kept = state["rows"]
        inputs = {n: Ragged(**v) if "lengths" in v else Tabular(**v) for n, v in kept["inputs"].items()}
        self.rows = Batch(inputs, kept["targets"], extra=kept["extra"])
        if "play" in state:
            self._again(state["play"])

    def _again(self, play: dict[str, Any]) -> None:
        """Take the actions again; the environments stand where they stood if they then show what they showed."""
        copies = self._begin(self.made)
        actions = list(play["actions"].numpy())
        for action in actions:
            copies.step(action)
        if np.array_equal(copies.observations, play["seen"].numpy()):
            self.copies, self.taken_actions, self.recurrent = copies, actions, play["recurrent"]
            self.discounted, self.running = play["discounted"].numpy().copy(), play["running"].numpy().copy()


class Spread:
    """Standard deviation of all numbers seen so far (Chan et al. 1979, pairwise update)."""

    def __init__(self):
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, x: np.ndarray) -> None:
        if not len(x):
            return
        mean, n = float(x.mean()), self.n + len(x)
        self.squares += float(((x - mean) ** 2).sum()) + (mean - self.mean) ** 2 * self.n * len(x) / n
        self.mean += (mean - self.mean) * len(x) / n
        self.n = n

    def sd(self) -> float:
        return float(np.sqrt(self.squares / self.n)) if self.n > 1 and self.squares > 1e-12 * self.n else 1.0


def generalised_advantages(rewards, values, terminated, ended, discount: float, trace: float) -> np.ndarray:
    """(S, E). values (S + 1, E); ended = terminated or cut by a time limit.

    delta_t = r_t + discount V_{t+1} (0 where terminated) - V_t;  A_t = delta_t + discount trace A_{t+1} (0 where ended)
    """
    deltas = rewards + discount * values[1:] * ~terminated - values[:-1]
    advantages, carried = np.empty_like(deltas), np.zeros(deltas.shape[1])
    for t in reversed(range(len(deltas))):
        advantages[t] = carried = deltas[t] + discount * trace * ~ended[t] * carried
    return advantages


def pieces(acted: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of steps (S, E) -> index of their steps (B, T), clamped to the last one; their copy (B,); lengths (B,)."""
    there = np.pad(acted.T, ((0, 0), (1, 1)))  # (E, S + 2)
    copy, first = np.nonzero(there[:, 1:] & ~there[:, :-1])
    last = np.nonzero(there[:, :-1] & ~there[:, 1:])[1]
    lengths = last - first
    index = first[:, None] + np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    return torch.from_numpy(index), torch.from_numpy(copy), torch.from_numpy(lengths)


def _pad(x: Tensor, mask: Tensor) -> Tensor:
    """Zeros beyond each row's length."""
    return x * mask.view(*mask.shape, *[1] * (x.dim() - 2)).to(x.dtype)
