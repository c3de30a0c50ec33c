"""Train on the worst logits that interval bounds allow, so that what was learnt can be proved against every small change of an input.

Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation", equations 11 and 12: the loss becomes kappa * nll(x) + (1 - kappa) *
nll(worst logits over the box of radius epsilon about x), where of every other class the largest difference to the true class's logit counts and
differences go through the last layer's differences of weights. Epsilon grows linearly from 0 to the whole between two shares of the steps, kappa
falls with it from 1; validation always sees the whole epsilon, so that the model kept is the best at what is asked. Bounds are those of the audit
(`layers/bounds.py`): what has no rule there (group norm, attention, batch statistics) is refused before training. Pictures move within [0, 1], a
table's numbers that are present in standard deviations; ids, codes and missing values stay. A step costs about three times a plain one.

Decided on validation rows of digits (cnn of width 32 and depth 2 without norm, 25 passes, epsilon 0.1, certified accuracy, one seed of 179 rows): lr 3e-3
0.40, 1e-2 0.59, 2e-2 0.56, Muon 0.54; with lr 1e-2 a ramp over the first 0.35 of the steps instead of from 0.05 to 0.6 0.61, and kappa 0.25 instead of
0.5 0.67 (accuracy 0.905 instead of 0.916).

Left out: mixes with tighter linear bounds (CROWN-IBP, Zhang et al. 2020) and the initialisation and regularisers of Shi et al. 2021 (they shorten the
schedule of deep networks; the two to four layers here start without).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..errors import refuse
from ..forms import Batch, Loss, Tabular, Term, Value
from ..layers.bounds import Box, NoBounds, ends, gaps
from ..model import Model
from ..objective import Objective, Wrapped
from ..strategy import Context, Progress, Strategy

Share = Annotated[float, Field(ge=0, le=1)]


class Certified(Strategy):
    def __init__(self, epsilon: float | None = None, numbers: float = 0.1, kappa: Share = 0.25, ramp: tuple[Share, Share] = (0.0, 0.35)):
        """epsilon: of pixels in [0, 1], None: the audit's, 0.1 in grey and 8/255 in colour. numbers: of a table's, in standard deviations. kappa: what the
        plain loss weighs in the end. ramp: shares of the steps between which epsilon grows."""
        if (epsilon is not None and epsilon < 0) or numbers < 0 or not ramp[0] < ramp[1]:
            raise ValueError(f"epsilon ({epsilon}) and numbers ({numbers}) must not be negative, and the ramp ({ramp[0]} to {ramp[1]}) must rise")
        self.epsilon, self.numbers, self.kappa, self.ramp = epsilon, numbers, kappa, ramp
        self.share = 0.0  # of epsilon, in training

    def learning(self, suggested: dict[str, Any]) -> dict[str, Any]:
        """Large steps and no decay, where the encoder has no wish of its own."""
        return {"lr": 1e-2, "weight_decay": 0.0} | suggested

    def prepare(self, context: Context) -> None:
        self.classes = {t: len(k.labels_) for t, k in context.schema.targets.items() if k.labels_}

    def objective(self, objective: Objective) -> Objective:
        return Bounded(objective, self)

    def after_step(self, model: Model, progress: Progress) -> None:
        start, end = self.ramp
        self.share = min(1.0, max(0.0, (progress.fraction - start) / (end - start)))

    def statement(self) -> dict[str, Any]:
        return {"certified": {"epsilon": self.epsilon, "numbers": self.numbers, "kappa": self.kappa}}

    def state(self) -> dict[str, Any]:
        return {"share": self.share}

    def load(self, state: dict[str, Any]) -> None:
        self.share = state["share"]


class Bounded(Wrapped):
    """The objective beside its own worst case within the bounds."""

    def __init__(self, inner: Objective, strategy: Certified):
        super().__init__(inner)
        self.strategy = strategy

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        s = self.strategy
        share = s.share if self.training else 1.0
        kappa = 1 - (1 - s.kappa) * share
        plain = self.inner.loss(model, batch, player)
        if plain.coupled is not None:
            raise refuse("certified.coupled", "this objective has no loss per row to bound", why="it compares rows", fix="leave certified out")
        terms = {name: replace(term, weight=term.weight * kappa) for name, term in plain.terms.items()}
        worst = {}
        for target, logits in self.worst(model, batch, share).items():
            total, count = model.heads[target].nll(logits, batch.targets[target], batch.knows(target))
            worst[f"certified {target}"] = Term(total, count, (1 - kappa) * plain.terms[target].weight if target in plain.terms else 1 - kappa)
        return Loss(terms, metrics=plain.metrics).plus(Loss(worst).times(batch.weight))

    def worst(self, model: Model, batch: Batch, share: float) -> dict[str, Tensor]:
        """{target: the head's outputs at their worst within share of epsilon}, for targets that are one of several classes."""
        wanted = [t for t in model.heads if t in self.strategy.classes and t in batch.targets and (self.heads is None or t in self.heads)]
        inputs = {name: self.box(value, share) for name, value in batch.inputs.items()}
        if all(value is batch.inputs[name] for name, value in inputs.items()):
            raise refuse("certified.input", "no input can be moved by a little", why="they are all ids or codes", fix="leave certified out")
        found = {}
        try:
            with torch.autocast(batch.device.type, enabled=False):  # a radius is lost in 16 bits
                outs = model.forward(batch.but(inputs=inputs), wanted)  # no call: another strategy's hooks on the model wait for the plain pass
            for target, out in outs.items():
                if isinstance(out, Tensor) and out.shape[1:] in ((), (self.strategy.classes[target],)):
                    found[target] = worst_logits(out, batch.targets[target])
        except NoBounds as e:
            why = "interval bounds need a sound rule for every operation: convolution, linear, pooling, ReLU and other rising functions have one"
            fix = "a picture through {cnn: {norm: none}}, a table through mlp" if "norm" in str(e) else "the encoders cnn (norm: none) and mlp"
            raise refuse("certified.bounds", f"certified finds no bounds through {e}", why=why, where="strategies.certified", fix=fix) from e
        if not found:
            why = "the bounds speak of the difference between two classes' logits"
            raise refuse("certified.target", "certified needs a target of classes with a head of one logit a class", why=why, fix="leave certified out")
        return found

    def box(self, value: Value, share: float) -> Value:
        """The input with all that is within share of epsilon of it; what cannot be moved is returned as it is."""
        if isinstance(value, Tabular) and value.numbers.shape[1]:
            radius = share * self.strategy.numbers * value.present.to(value.numbers.dtype)
            return replace(value, numbers=Box.of(value.numbers - radius, value.numbers + radius))
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 4:
            epsilon = self.strategy.epsilon
            radius = share * (epsilon if epsilon is not None else 0.1 if value.shape[1] == 1 else 8 / 255)
            return Box.of((value - radius).clamp(0, 1), (value + radius).clamp(0, 1))
        return value


def worst_logits(out: Tensor, y: Tensor) -> Tensor:
    """Of a box of logits (B, K): each class's largest excess over the true one's, 0 at y (B,) itself. Of one logit (B,): the end that is against y."""
    if out.dim() == 2:
        return -gaps(out, y)
    if not isinstance(out, Box):
        raise NoBounds("a logit that does not depend on the input")
    return torch.where(y.bool(), *ends(out))
