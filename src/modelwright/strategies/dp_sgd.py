"""Differentially private SGD: each row's gradient clipped, Gaussian noise on their sum, rows drawn by Poisson sampling.

Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1, with C = clip and s = noise multiplier:

    g = (sum over rows of g_i min(1, C / |g_i|) + N(0, s^2 C^2 I)) / (expected rows)

s is the least for which Google's dp-accounting (privacy loss distributions of the Poisson-subsampled Gaussian, add/remove one row) gives at most
epsilon at delta over all steps of the stage. The divisor is the expected number of rows, as the real one is itself private. Noise falls on every
parameter that trains, once a step, however many passes a batch takes. The fast way to gradients of one row (`per_example`) is held against the loop
at the start.

What the claim rests on: rows and noise are drawn from a secret of the operating system, unless `seed` is set, which is for tests: who knows it can
take the noise away. The secret is in the checkpoints: guard those as you guard the data. Outside the claim: the training loss in the log, statistics
of preprocessing, choices made by trying several runs. Left out: cryptographic generators, noise safe against floating-point attacks (Mironov 2012),
several processes, several players.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..errors import refuse
from ..gradient import Estimate, GradientRule
from ..objective import Objective
from ..per_example import choose, clipped_sum
from ..strategy import Context, Sampler, Strategy

ACCOUNTANT = "dp-accounting PLD, Poisson-subsampled Gaussian"


class DPSGD(Strategy):
    claims = frozenset({"sampler", "gradient"})
    needs = frozenset({"separable", "no_buffers", "known_rows", "unread"})

    def __init__(self, epsilon: float = 3.0, delta: float | None = None, clip: float = 1.0, seed: int | None = None):
        """delta: None is min(1e-5, 1 / (10 rows)); clip: L2 norm of a row's gradient; seed: None is a secret (see above)."""
        if not epsilon > 0 or not clip > 0:
            raise ValueError(f"epsilon ({epsilon}) and clip ({clip}) must be positive")
        if delta is not None and not 0 < delta < 1:
            raise ValueError(f"delta ({delta}) must lie between 0 and 1")
        self.epsilon, self.delta, self.clip, self.seed = epsilon, delta, clip, seed
        self.sampler_: Poisson | None = None
        self.secret_: int | None = None

    def learning(self, suggested: dict[str, Any]) -> dict[str, Any]:
        return {**suggested, **suggested.get("private", {})}

    def prepare(self, context: Context) -> None:
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise refuse("privacy.processes", "dp_sgd runs in one process", why="each process would add noise of its own", fix="start one process")
        rows, batch = context.rows, min(context.batch_size, context.rows)
        self.rows_, self.batch_, self.steps_, self.rate_ = rows, batch, context.steps, batch / rows
        self.delta_ = min(1e-5, 0.1 / rows) if self.delta is None else self.delta
        if self.delta_ * rows >= 1:
            why = "a mechanism that publishes one whole row at random would satisfy that"
            what = f"delta ({self.delta_:g}) must be below 1 / rows ({1 / rows:.3g})"
            raise refuse("privacy.delta", what, why=why, fix=f"use delta: {0.1 / rows:.1g}")
        self.noise_ = noise_multiplier(self.epsilon, self.delta_, self.rate_, self.steps_)
        self.secret_ = int.from_bytes(os.urandom(15)) if self.seed is None else self.seed
        self.taken_, self.way_, self.why_ = 0, "", ""
        self.generator_: torch.Generator | None = None
        self.noise_state_: torch.Tensor | None = None
        if self.sampler_ is not None:  # the stream's own, made before this
            self.sampler_.secret = self.secret_

    def sampler(self, context: Context) -> Sampler:
        self.sampler_ = Poisson(context.rows, min(context.batch_size, context.rows) / context.rows, self.secret_)
        return self.sampler_

    def objective(self, objective: Objective) -> Objective:
        if sum(objective.players.values()) != 1:
            why = f"its players take {sum(objective.players.values())} updates a batch, and one is accounted for"
            raise refuse("plan.conflict", "dp_sgd trains objectives with one player", why=why, fix="use another objective, or leave dp_sgd out")
        return objective

    def gradient(self) -> GradientRule:
        return Private(self)

    def statement(self) -> dict[str, Any]:
        steps = max(self.steps_, self.taken_)
        privacy = {"epsilon": epsilon_of(self.noise_, self.delta_, self.rate_, steps), "delta": self.delta_, "accountant": ACCOUNTANT}
        privacy |= {"noise_multiplier": self.noise_, "sample_rate": self.rate_, "rows": self.rows_, "steps": steps, "clip": self.clip}
        privacy |= {"neighbours": "add/remove one row", "divisor": self.batch_, "secret": self.seed is None}
        return {"privacy": privacy | {"gradients": self.way_, "gradients_why": self.why_}}

    def state(self) -> dict[str, Any]:
        noise = None if self.generator_ is None else self.generator_.get_state()
        return {"secret": str(self.secret_), "taken": self.taken_, "way": self.way_, "why": self.why_, "noise": noise}

    def load(self, state: dict[str, Any]) -> None:
        self.secret_, self.taken_, self.way_, self.why_ = int(state["secret"]), int(state["taken"]), state["way"], state["why"]
        if self.sampler_ is not None:
            self.sampler_.secret = self.secret_
        self.noise_state_ = state["noise"]
        self.generator_ = None

    def noise_generator(self, device: torch.device) -> torch.Generator:
        if self.generator_ is None:
            self.generator_ = torch.Generator(device)
            self.generator_.manual_seed(int(np.random.SeedSequence([self.secret_, 1]).generate_state(1, np.uint64)[0] >> 1))
            if self.noise_state_ is not None:
                self.generator_.set_state(self.noise_state_)
        return self.generator_


class Private(GradientRule):
    """The noisy sum of clipped gradients, to be divided by the expected number of rows."""

    def __init__(self, dp: DPSGD):
        self.dp, self.plans, self.checked = dp, {}, False

    def estimate(self, learner, parameters, batch, player, micro=None) -> Estimate:
        dp = self.dp
        if not self.checked and len(batch):  # of a resumed run too: it may be another machine
            (dp.way_, dp.why_), self.checked = choose(learner, parameters, batch, player), True
        sums, norms, loss = clipped_sum(learner, parameters, batch, player, dp.clip, micro, dp.way_ or "loop", self.plans)
        rng = dp.noise_generator(parameters[0].device)
        for total in sums:
            total.add_(torch.randn(total.shape, generator=rng, device=total.device, dtype=total.dtype), alpha=dp.noise_ * dp.clip)
        dp.taken_ += 1
        clipped = (norms > dp.clip).float().mean() if len(norms) else loss
        return Estimate([(sums, float(dp.batch_))], loss, {"rows": torch.tensor(float(len(batch))), "rows_clipped": clipped})


class Poisson(Sampler):
    """Every row joins every batch with the same probability, on its own; the number of rows varies and may be 0."""

    def __init__(self, rows: int, rate: float, secret: int | None):
        """secret: set by `prepare` where that comes later."""
        self.rows, self.rate, self.secret = rows, rate, secret

    def steps(self) -> int:
        return max(1, round(1 / self.rate))

    def epoch(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        assert self.secret is not None, "rows cannot be drawn before the strategy is prepared"
        own = np.random.default_rng([self.secret, 0, int(rng.integers(2**63))])
        for _ in range(self.steps()):
            yield np.flatnonzero(own.random(self.rows) < self.rate)


@cache
def epsilon_of(noise: float, delta: float, rate: float, steps: int) -> float:
    """The epsilon of `steps` Poisson-subsampled Gaussians; an upper bound."""
    import dp_accounting

    step = dp_accounting.GaussianDpEvent(noise)
    event = dp_accounting.SelfComposedDpEvent(step if rate >= 1 else dp_accounting.PoissonSampledDpEvent(rate, step), steps)
    accountant = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3)
    return float(accountant.compose(event).get_epsilon(delta))


@cache
def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise (to 0.2 % of itself) whose epsilon is at most the one asked for."""
    low, high = 0.25, 1.0
    while epsilon_of(high, delta, rate, steps) > epsilon:
        low, high = high, 2 * high
        if high > 1e5:
            raise refuse("privacy.epsilon", f"no noise reaches epsilon {epsilon} at delta {delta:g} in {steps} steps", fix="ask for a larger epsilon")
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if epsilon_of(middle, delta, rate, steps) > epsilon else (low, middle)
    return high
