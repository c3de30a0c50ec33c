"""Seconds until a policy plays CartPole-v1 well: `python benchmarks/speed/cartpole.py [SEEDS] [FIRST]`.

`clipped_policy` as a task file of one line has it, against stable-baselines3's PPO with the settings that rl-zoo tuned for CartPole-v1. After every
2,048 steps the likeliest action is played for 100 episodes (one evaluator for both, its time not counted); the clock stops at a mean return of 475.
Both on one thread, in one process, imports and construction not counted; a run that never gets there counts its whole time. Needs stable-baselines3.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from pairs import interleave, machine, now, report

import modelwright as mw
from modelwright.data.environments import Environment
from modelwright.data.rollouts import Actor
from modelwright.learn import loop

EVERY, ENOUGH = 2048, 475.0
CARTPOLE = Environment("CartPole-v1")
PLAN = mw.plan(mw.task_of({"data": "gym://CartPole-v1", "target": "action", "stages": [{"act": {"objective": "clipped_policy", "validations": 1000}}]}))


class Reached(Exception):
    pass


class Judge:
    """Stops the clock while it evaluates, and ends the run when the policy is good enough."""

    def __init__(self, seed: int):
        self.seed, self.began, self.away, self.steps = seed, now(), np.zeros(2), 0

    def __call__(self, act) -> float:
        paused = now()
        self.steps += EVERY
        mean = float(CARTPOLE.play(act, 100, 10_000 + self.seed, copies=100).mean())
        if mean >= ENOUGH:
            self.seconds = paused - self.began - self.away
            raise Reached
        self.away += now() - paused
        return mean

    def run(self, learn) -> np.ndarray:
        try:
            learn()
        except Reached:
            print(f"  seed {self.seed}: {self.steps:,} steps", file=sys.stderr)
            return self.seconds
        print(f"  seed {self.seed}: not within {self.steps:,} steps", file=sys.stderr)
        return now() - self.began - self.away


def ours(seed: int) -> np.ndarray:
    stage = PLAN.stage(0, PLAN.model(seed), seed)
    judge = Judge(seed)
    stage.validate = lambda learner: {"return": judge(Actor(learner.model, stage.context.schema, CARTPOLE, "action"))}
    stage.better = "higher"
    return judge.run(lambda: loop.fit(stage))


def theirs(seed: int) -> np.ndarray:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    def falls(start: float):
        return lambda left: left * start

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            if self.num_timesteps and self.num_timesteps % EVERY == 0:
                judge(lambda observations, state, fresh: (self.model.predict(observations, deterministic=True)[0], None))

        def _on_step(self) -> bool:
            return True

    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
        learning_rate=falls(0.001), clip_range=falls(0.2), seed=seed, device="cpu",
    )  # fmt: skip
    judge = Judge(seed)
    return judge.run(lambda: model.learn(100_000, callback=Watch()))


def main(seeds: int = 5, first: int = 0) -> None:
    torch.set_num_threads(1)
    print("cartpole:", machine("stable-baselines3", "gymnasium", threads=1))
    seeds_of = {f: iter(range(first, first + seeds)) for f in (ours, theirs)}
    contenders = {"ours": lambda: ours(next(seeds_of[ours])), "stable-baselines3": lambda: theirs(next(seeds_of[theirs]))}
    found = interleave(contenders, seeds, warm=0)
    report(found, "ours", {"stable-baselines3": "aim 0.33"}, "s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
