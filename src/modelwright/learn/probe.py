"""Facts measured on a tiny batch before training, and a dry run of the strategies: conflicts are found, never declared.

A row's loss is watched while every other row is redrawn, and when the row is evaluated alone. A loss that moves is coupled, and the first module
whose output for that row moved is named. A probe refutes, it cannot prove. Everything runs on a deep copy, in fp32, in train mode, without dropout,
its parameters slightly moved (a layer that starts at zero would hide what is behind it); the stage, its generators and modes stay as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import Problem, Refusal
from ..forms import Batch
from ..objective import Learner
from ..per_example import no_dropout
from ..strategy import Progress, Strategy
from . import loop

TOLERANCE = 1e-4
DRAWS = 3


@dataclass
class PlayerFacts:
    separable: bool = True  # not refuted: no row's loss moved with the other rows
    coupled: bool = False  # the loss itself says that it is
    where: str = ""  # what couples first: "model.encoders.table.norm (BatchNorm1d)", "strategy mixup", "objective Contrast"
    why: str = ""  # what was seen
    buffers: list[str] = field(default_factory=list)  # written by a call of the loss
    moves: list[str] = field(default_factory=list)  # parameters that get a gradient
    still: list[str] = field(default_factory=list)  # trainable ones that get none


@dataclass
class Facts:
    players: dict[str, PlayerFacts]
    known_rows: bool  # batches say which rows of the split they hold


def probe(parts: loop.Assembled, batch: Batch, strategies: list[Strategy] | tuple[Strategy, ...] = ()) -> Facts:
    """batch: at least two rows, about eight, as the stream gives them. strategies: whose batch hooks run before the loss."""
    assert len(batch) >= 2, "one row alone shows no coupling"
    devices = [batch.device] if batch.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        learner, strategies = copy.deepcopy((parts.learner, list(strategies)))
        learner.bf16 = False
        torch.manual_seed(0)
        with torch.no_grad():
            for p in learner.parameters():
                if p.requires_grad and p.is_floating_point():
                    p.add_(torch.randn_like(p) * (0.1 * p.square().mean().sqrt() + 0.01))
        learner.train()
        seen = _Probe(learner, strategies, batch, parts.rng.get_state())
        with no_dropout(learner):
            players = {player: seen.player(player) for player in learner.objective.players}
    return Facts(players, batch.rows is not None)


class _Probe:
    def __init__(self, learner: Learner, strategies: Any, batch: Batch, rng: Tensor):
        self.learner, self.strategies, self.batch, self.rng = learner, strategies, batch, rng
        self.buffers = {(name, key): b.clone() for name, m in learner.named_modules() for key, b in m._buffers.items() if b is not None}

    def restore(self) -> None:
        for (name, key), saved in self.buffers.items():
            self.learner.get_submodule(name)._buffers[key] = saved.clone()

    def prepared(self, batch: Batch, player: str) -> dict[str, Batch]:
        """The batch after each hook, in order; same draws every time."""
        self.restore()
        torch.manual_seed(1)
        rng = torch.Generator()
        rng.set_state(self.rng)
        objective = self.learner.objective
        steps = {f"objective {type(objective).__name__}": objective.prepare(batch, rng)}
        for strategy in self.strategies:
            steps[f"strategy {name_of(strategy)}"] = strategy.batch(list(steps.values())[-1], self.learner, player, rng)
        return steps

    def loss(self, batch: Batch, player: str) -> tuple[Any, list[tuple[str, list[Tensor]]]]:
        """(Loss, every module's output in order)."""
        self.restore()
        torch.manual_seed(2)
        with _outputs(self.learner) as outputs:
            return self.learner(batch, player), outputs

    def player(self, player: str) -> PlayerFacts:
        whole = self.prepared(self.batch, player)
        ready = list(whole.values())[-1]
        loss, outputs = self.loss(ready, player)
        facts = PlayerFacts(buffers=self.written())
        self.gradients(loss, player, facts)
        if loss.coupled is not None:
            facts.separable, facts.coupled = False, True
            facts.where, facts.why = f"objective {type(self.learner.objective).__name__}", "its loss compares rows and has no value per row"
            return facts
        rows, n = loss.per_row().detach(), len(self.batch)
        draw = torch.Generator().manual_seed(0)
        for i in sorted({0, n // 2, n - 1}):
            for _ in range(DRAWS):
                others = [j for j in range(n) if j != i]
                index = torch.tensor(others)[torch.randint(0, n - 1, (n,), generator=draw)]
                index[i] = i
                steps = self.prepared(self.batch.select(index.to(self.batch.device)), player)
                hook = next((name for name in steps if _moved(_row(whole[name], i, n), _row(steps[name], i, n))), "")
                again, moved = self.loss(list(steps.values())[-1], player)
                if self.differs(rows, i, again.per_row().detach()[i], facts, "when the other rows were redrawn"):
                    facts.where = hook or self.first(outputs, i, n, moved, i, n)
                    return facts
            try:
                again, moved = self.loss(ready.select(slice(i, i + 1)), player)
            except (ValueError, RuntimeError) as e:
                facts.separable, facts.why = False, f"row {i} cannot be evaluated alone: {str(e).splitlines()[0]}"
                facts.where = f"objective {type(self.learner.objective).__name__}"
                return facts
            if self.differs(rows, i, again.per_row().detach()[0], facts, "when it was evaluated alone"):
                facts.where = self.first(outputs, i, n, moved, 0, 1)
                return facts
        return facts

    def differs(self, rows: Tensor, i: int, value: Tensor, facts: PlayerFacts, how: str) -> bool:
        scale = max(float(rows[i].abs()), float(rows.abs().mean()), 1e-12)
        if abs(float(value) - float(rows[i])) <= TOLERANCE * scale:
            return False
        facts.separable, facts.why = False, f"the loss of row {i} went from {float(rows[i]):.6g} to {float(value):.6g} {how}"
        return True

    def first(self, a, i: int, n: int, b, j: int, m: int) -> str:
        """The first module whose output for the row moved; else the objective."""
        for (name, before), (_, after) in zip(a, b, strict=False):
            if _moved([t[i] for t in before if t.dim() and len(t) == n], [t[j] for t in after if t.dim() and len(t) == m]):
                return f"{name} ({type(self.learner.get_submodule(name)).__name__})"
        return f"objective {type(self.learner.objective).__name__}"

    def written(self) -> list[str]:
        now = {(name, key): b for name, m in self.learner.named_modules() for key, b in m._buffers.items() if b is not None}
        return [".".join(filter(None, k)) for k, b in now.items() if k not in self.buffers or not torch.equal(b, self.buffers[k])]

    def gradients(self, loss: Any, player: str, facts: PlayerFacts) -> None:
        names = {id(p): name for name, p in self.learner.named_parameters()}
        parameters = self.learner.objective.parameters_of(self.learner.model, player)
        mean = loss.mean()
        found: Any = [None] * len(parameters)
        if mean.requires_grad and parameters:
            found = torch.autograd.grad(mean, parameters, allow_unused=True)
        for p, g in zip(parameters, found, strict=True):
            (facts.still if g is None else facts.moves).append(names[id(p)])


def _row(batch: Batch, i: int, n: int) -> list[Tensor]:
    return [t[i] for t in pytree.tree_leaves(batch) if t.dim() and len(t) == n]


def _moved(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether a row's numbers differ by more than rounding; a padding that grew is no difference."""
    for a, b in zip(before, after, strict=False):
        if a.shape == b.shape:
            a, b = a.detach().double(), b.detach().double()
            if float((a - b).abs().max() if a.numel() else 0.0) > TOLERANCE * max(float(a.abs().max() if a.numel() else 0.0), 1e-6):
                return True
    return False


@contextmanager
def _outputs(root: nn.Module) -> Iterator[list[tuple[str, list[Tensor]]]]:
    """Every module's output tensors, in the order in which they end: the innermost first."""
    kept: list[tuple[str, list[Tensor]]] = []

    def keep(name: str):
        def hook(module, args, out):
            form = vars(out) if not isinstance(out, (Tensor, tuple, list, dict)) else out
            plain = [t for t in pytree.tree_leaves(form) if type(t) in (Tensor, nn.Parameter)]  # not the boxes of bounds: they have no difference
            kept.append((name, [t.detach().clone() for t in plain]))

        return hook

    handles = [m.register_forward_hook(keep(name)) for name, m in root.named_modules() if name]
    try:
        yield kept
    finally:
        for h in handles:
            h.remove()


def name_of(strategy: Strategy) -> str:
    """Its name in the task file."""
    return next(iter(strategy.spec))


def check(facts: Facts, strategies: list[Strategy]) -> list[Problem]:
    """Each strategy's needs against what was measured; and whether anything that ships would learn at all."""
    found = []
    if not any(name.startswith("model.") for f in facts.players.values() for name in f.moves):
        what, why = "this stage moves no parameter of the model", "what it would teach only helps learning, and does not ship"
        found.append(Problem("plan.idle", what, why, "objective", "leave the stage out, or choose an encoder that learns"))
    for strategy in strategies:
        name = name_of(strategy)
        for player, f in facts.players.items():
            who = "" if list(facts.players) == ["model"] else f" of player {player}"
            if "separable" in strategy.needs and not f.separable:
                what = f"{name} needs each row's loss{who} to depend on that row alone; {f.where} mixes rows"
                found.append(Problem("plan.conflict", what, f.why, f"strategies.{name}", _remedy(f, name)))
            if "no_buffers" in strategy.needs and f.buffers:
                what = f"{name} needs a loss{who} that writes no buffer; it writes {_list(f.buffers)}"
                why = "what rows leave in a buffer escapes the gradient, and ships"
                found.append(Problem("plan.conflict", what, why, f"strategies.{name}", _remedy(f, name)))
        for other in (o for o in strategies if o.reads_rows and "unread" in strategy.needs):
            what = f"{name} accounts for its own steps only; {name_of(other)} holds figures of training rows"
            why = "they reach the model without noise, so the stated epsilon would not be earned"
            found.append(Problem("plan.conflict", what, why, "strategies", f"leave out {name_of(other)} or {name}"))
        if "known_rows" in strategy.needs and not facts.known_rows:
            why = "these batches do not say which rows of a training split they hold (a rollout, a replay)"
            what, fix = f"{name} needs batches drawn from a fixed training split", f"leave {name} out, or train on a table"
            found.append(Problem("plan.conflict", what, why, f"strategies.{name}", fix))
    return found


def accumulates(facts: Facts) -> list[Problem]:
    """Micro-batches add up to the batch where no row's loss looks at another's. facts: without the batch hooks, which see whole batches."""
    found = []
    for f in (f for f in facts.players.values() if not f.separable):
        what = f"micro-batches would not add up to the batch: {f.where} mixes rows"
        found.append(Problem("plan.conflict", what, f.why, "micro_batch", _remedy(f, "micro_batch")))
    return found


def _remedy(f: PlayerFacts, name: str) -> str:
    if "BatchNorm" in f.where or any(b.endswith("running_mean") for b in f.buffers):
        return "use group norm, which looks at one row at a time"
    return f"leave {f.where.removeprefix('strategy ')} or {name} out" if f.where else f"leave {name} out, or what writes the buffer"


def _list(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def dry_run(stage: loop.Stage) -> list[Problem]:
    """On a deep copy: adapt all, change what trains at random, end the schedule, finish in reverse; then every promise must hold.

    Also finds seats that two strategies claim."""
    found = []
    for seat in sorted({seat for s in stage.strategies for seat in s.claims}):
        who = [name_of(s) for s in stage.strategies if seat in s.claims]
        if len(who) > 1:
            what = f"{' and '.join(who)} each claim the one {seat} seat"
            why, fix = "two of them cannot both decide it", f"keep one of: {', '.join(who)}"
            found.append(Problem("plan.conflict", what, why, f"strategies.{who[-1]}", fix))
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        model, strategies = copy.deepcopy((stage.model, stage.strategies))
        rng = torch.Generator().manual_seed(0)
        try:
            for s in strategies:
                s.prepare(stage.context)
            for s in strategies:
                model = s.adapt(model, rng)
            with torch.no_grad():
                for p in model.parameters():
                    if p.requires_grad and p.is_floating_point():
                        p.add_(torch.randn_like(p) * (0.1 * p.square().mean().sqrt() + 0.01))
            for s in strategies:
                s.after_step(model, Progress(stage.steps, stage.steps))
            for s in strategies:
                model = s.view(model)
            done: list[Strategy] = []
            broken: set[int] = set()
            for s in reversed(strategies):
                model = s.finish(model)
                done.append(s)
                for kept in done:
                    promise = None if id(kept) in broken else kept.holds(model)
                    if promise:
                        broken.add(id(kept))
                        found.append(_broken(kept, s, promise))
        except Refusal as e:
            found += e.problems
    return found


def _broken(kept: Strategy, by: Strategy, promise: str) -> Problem:
    name, other = name_of(kept), name_of(by)
    if kept is by:
        what, fix = f"{name} does not keep its promise in this stage", f"leave {name} out, or change its settings"
    else:
        what, fix = f"{other} undoes {name}", f"write {name} before {other}: what is written first is folded back last"
    return Problem("plan.conflict", what, promise, f"strategies.{name}", fix)
