"""The one loop. Everything that learns goes through `fit`: masked pre-training, private fine-tuning, distillation, PPO, GANs.

    adapt the model -> build the objective -> wrap it -> for each batch and player: batch hooks, gradient, reduce, divide, transform, step -> finish

A run that was killed goes on from its last checkpoint and, on a CPU, ends in the same bits: the order of rows and their augmentations depend on
(seed, epoch, step), and the state of every random generator is in the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..data.streams import Stream
from ..errors import Problem, Stopped
from ..gradient import Estimate, GradientRule, Plain
from ..model import Model
from ..objective import Learner, Objective
from ..settings import Settings
from ..strategy import Context, Progress, Strategy
from . import checkpoint, memory, optim


@dataclass
class Stage:
    """All that one stage of learning needs. `settings` are resolved: no None where the loop needs a value."""

    name: str
    model: Model
    objective: Objective
    strategies: list[Strategy]
    stream: Stream
    context: Context
    settings: Settings
    steps: int
    validate: Callable[[Learner], dict[str, float]] | None = None  # on the view of the model; the first figure is the one to watch
    better: str = "lower"
    folder: Path | None = None  # for checkpoints
    log: Callable[[dict[str, Any]], None] = lambda line: None


@dataclass
class Fitted:
    model: Model
    objective: Objective
    progress: Progress
    best: dict[str, float]  # the validation kept
    history: list[dict[str, float]] = field(default_factory=list)  # every validation
    seconds: float = 0.0


@dataclass
class Assembled:
    """A stage with everything in its place, before the first step. The plan probes one of these; `fit` runs one."""

    learner: Learner
    rule: GradientRule
    optimizers: dict[str, optim.Optimizer]
    parameters: dict[str, list[torch.Tensor]]
    rng: torch.Generator

    @property
    def model(self) -> Model:
        return self.learner.model

    @property
    def objective(self) -> Objective:
        return self.learner.objective


def assemble(stage: Stage) -> Assembled:
    """adapt in the order written, build, nest; then whoever still requires a gradient gets an optimizer."""
    s = stage.settings
    memory.keep()
    if s.threads is not None:
        torch.set_num_threads(s.threads)
    torch.manual_seed(stage.context.seed)
    rng = torch.Generator().manual_seed(stage.context.seed)
    model, objective = stage.model, stage.objective
    for strategy in stage.strategies:
        strategy.prepare(stage.context)
    for strategy in stage.strategies:
        model = strategy.adapt(model, rng)
    objective.build(model, stage.context.schema)
    for strategy in stage.strategies:
        objective = strategy.objective(objective)
    if s.channels_last:
        model.to(memory_format=torch.channels_last)
    learner = Learner(model, objective, s.precision == "bf16").to(s.device)
    multipliers: dict[torch.nn.Parameter, float] = {}
    for strategy in stage.strategies:
        for p, rate in strategy.groups(model).items():
            multipliers[p] = multipliers.get(p, 1.0) * rate
    rules = [r for r in (strategy.gradient() for strategy in stage.strategies) if r is not None]
    parameters = {player: objective.parameters_of(model, player) for player in objective.players}
    optimizers = {player: optim.optimizer(ps, multipliers, s, optim.edge(model, model.heads)) for player, ps in parameters.items()}
    return Assembled(learner, rules[0] if rules else Plain(), optimizers, parameters, rng)


def fit(stage: Stage) -> Fitted:
    """Learn. Raises `Stopped` on divergence or a full disk, with the last good state on disk."""
    s, began = stage.settings, time.perf_counter()
    parts = assemble(stage)
    learner, model, objective = parts.learner, parts.model, parts.objective
    progress = Progress(steps=stage.steps)
    best: dict[str, Any] = {"figures": {}, "state": None, "since": 0}
    history: list[dict[str, float]] = []
    kept = checkpoint.load(stage.folder) if stage.folder else None
    if kept is not None:
        _restore(kept, stage, parts, progress, best, history)
    settled = max(5, stage.steps // 100) if s.minutes is not None and isinstance(parts.rule, Plain) else None  # private noise is tuned to the planned steps
    every, log_every = _every(stage, progress.steps)
    sign = 1.0 if stage.better == "lower" else -1.0
    saved, cost, since_step, running, first = time.perf_counter(), 0.0, None, None, None
    learner.train()
    done = progress.step >= progress.steps
    while not done:
        for batch in stage.stream.batches(model):
            optim.set_rate(list(parts.optimizers.values()), optim.factor(s.schedule, s.warmup, progress.fraction))
            for player, times in objective.players.items():
                for _ in range(times):
                    estimate = step(stage, parts, batch, player)
            progress.step += 1
            progress.epoch = stage.stream.epoch
            objective.after_step(model)
            for strategy in stage.strategies:
                strategy.after_step(model, progress)
            stage.stream.observe(batch, estimate.loss)

            loss = float(estimate.loss)
            running = loss if running is None else 0.95 * running + 0.05 * loss
            first = loss if first is None else first
            if not math.isfinite(loss) or abs(running) > 1e4 * (1 + abs(first)):
                raise _diverged(stage, progress, f"the loss grew from {first:.4g} to {loss:.4g}" if math.isfinite(loss) else "the loss is not a number")
            now, settles = time.perf_counter(), progress.step == settled and since_step is not None  # a run that goes on keeps what was settled
            if settles:
                a_step = (now - since_step[1]) / (progress.step - since_step[0])
                progress.steps = progress.step + max(1, round((60 * s.minutes - (now - began)) / a_step))
                every, log_every = _every(stage, progress.steps)
                settled *= 4  # the machine may be busier by then, or less
            if settles or progress.step == 2:  # the first two warm up
                since_step = progress.step, now
            done = progress.step >= progress.steps
            if progress.step % log_every == 0 or done:
                rate = next(iter(parts.optimizers.values())).param_groups[0]["lr"]
                figures = {k: float(v) for k, v in estimate.metrics.items()} | stage.stream.metrics()
                stage.log({"step": progress.step, "steps": progress.steps, "epoch": progress.epoch, "loss": loss, "lr": rate, **figures})
            turn = progress.step % every == 0 or done
            if stage.validate and turn:
                figures = validate(stage, learner)
                history.append({"step": progress.step, **figures})
                stage.log({"step": progress.step, "steps": progress.steps, **{f"validation.{k}": v for k, v in figures.items()}})
                watched, least = next(iter(figures.values())), next(iter(best["figures"].values()), math.nan)
                if sign * watched < sign * least or math.isnan(least):
                    best.update(figures=figures, state=checkpoint.snapshot(view(stage, model)), since=0)
                else:
                    best["since"] += 1
                    done = done or (s.patience is not None and best["since"] >= s.patience)
            since = time.perf_counter() - saved
            if done or settles or since > 60 * s.checkpoint_minutes or (turn and since > 100 * cost):  # oftener where it costs little
                if not all(bool(p.isfinite().all()) for p in learner.parameters()):
                    raise _diverged(stage, progress, "weights are not numbers")
                if stage.folder:
                    start = time.perf_counter()
                    checkpoint.save(stage.folder, progress.step, _state(stage, parts, progress, best, history, done))
                    saved = time.perf_counter()
                    cost = saved - start
            if done:
                break
    shipped = view(stage, model)
    if s.keep == "best" and best["state"] is not None:
        shipped.load_state_dict(best["state"])
    for strategy in reversed(stage.strategies):
        shipped = strategy.finish(shipped)
    return Fitted(shipped.eval(), objective, progress, best["figures"], history, time.perf_counter() - began)


def _every(stage: Stage, steps: int) -> tuple[int, int]:
    """Steps between validations (at most one an epoch), and between lines of the log."""
    epoch, most = stage.stream.steps(), stage.settings.validations
    return max(1, min(epoch, steps) if steps <= epoch * most else round(steps / most)), max(1, steps // 500)


def step(stage: Stage, parts: Assembled, batch: Any, player: str) -> Estimate:
    """One update of one player."""
    learner, s = parts.learner, stage.settings
    parameters = parts.parameters[player]
    batch = learner.objective.prepare(batch.to(s.device), parts.rng)
    for strategy in stage.strategies:
        batch = strategy.batch(batch, learner, player, parts.rng)
    estimate = parts.rule.estimate(learner, parameters, batch, player, s.micro_batch)
    gradients = divide(estimate)
    for strategy in stage.strategies:
        gradients = strategy.transform(gradients, parameters)
    if s.clip is not None:
        optim.clip_(gradients, s.clip)
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    parts.optimizers[player].step()
    return estimate


def divide(estimate: Estimate) -> list[torch.Tensor | None]:
    """Sum over processes what the estimator returned, then divide: exact however rows and counts are spread."""
    total: list[torch.Tensor | None] | None = None
    for gradients, count in estimate.parts:
        if dist.is_initialized():
            n = torch.as_tensor(float(count))
            dist.all_reduce(n)
            for g in gradients:
                if g is not None:
                    dist.all_reduce(g)
            count = n
        part = gradients if isinstance(count, float) and count == 1.0 else [None if g is None else g / count for g in gradients]
        total = part if total is None else [b if a is None else a if b is None else a + b for a, b in zip(total, part, strict=True)]
    return total


def view(stage: Stage, model: Model) -> Model:
    """What is evaluated: each strategy sees the view before it, so one that looks at its own copy alone (averaging) wins over those before."""
    for strategy in stage.strategies:
        model = strategy.view(model)
    return model


def validate(stage: Stage, learner: Learner) -> dict[str, float]:
    seen = view(stage, learner.model)
    judged = Learner(seen, learner.objective, learner.bf16).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        figures = stage.validate(judged)
    learner.train()
    return figures


def _state(stage, parts, progress, best, history, done) -> dict[str, Any]:
    return {
        "progress": vars(progress) | {"done": done},
        "learner": parts.learner.state_dict(),
        "optimizers": {k: o.state_dict() for k, o in parts.optimizers.items()},
        "strategies": [strategy.state() for strategy in stage.strategies],
        "stream": stage.stream.state(),
        "rng": {"loop": parts.rng.get_state(), "torch": torch.get_rng_state()},
        "best": best,
        "history": history,
    }


def _restore(kept, stage, parts, progress, best, history) -> None:
    done = kept["progress"].pop("done")
    vars(progress).update(kept["progress"])
    if done:
        progress.step = progress.steps = max(progress.step, 1)
    parts.learner.load_state_dict(kept["learner"])
    for k, o in parts.optimizers.items():
        o.load_state_dict(kept["optimizers"][k])
    for strategy, state in zip(stage.strategies, kept["strategies"], strict=True):
        strategy.load(state)
    stage.stream.load(kept["stream"])
    parts.rng.set_state(kept["rng"]["loop"])
    torch.set_rng_state(kept["rng"]["torch"])
    best.update(kept["best"])
    history.extend(kept["history"])


def _diverged(stage: Stage, progress: Progress, why: str) -> Stopped:
    """A checkpoint is good if the loss after it was: those of the last two steps are not counted on."""
    s, kept = stage.settings, sorted(stage.folder.glob("step-*")) if stage.folder else []
    good = [path for path in kept if int(path.name.removeprefix("step-")) < progress.step - 1]
    left = f"the last good state is kept in {good[-1]}" if good else "it came to nothing that was worth keeping"
    return Stopped(
        Problem(
            "learn.diverged",
            f"stage {stage.name} diverged at step {progress.step} of {progress.steps}",
            why=f"{why} (lr {s.lr:g}, {s.optimizer}, clip {s.clip}); {left}",
            fix=f"in a new run, try lr: {s.lr / 10:g}, or a longer warmup",
        )
    )
