"""What is learned. An objective is a module: what it owns (projector, critic, teacher, memory) is saved, moved and counted, and never ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .forms import Batch, Loss
from .model import Model

if TYPE_CHECKING:
    from .data.schema import Schema


@dataclass(frozen=True)
class Experience:
    """How an objective that learns by acting wants its batches: collect, look back, go over it several times."""

    copies: int = 16  # environments side by side
    steps: int = 64  # of each, between two updates of the policy
    passes: int = 10  # over what was collected
    batch_size: int = 256  # steps in one update
    discount: float = 0.99  # gamma
    trace: float = 0.95  # lambda of the generalised advantage estimate


class Objective(nn.Module):
    """`prepare` draws whatever is random (masks, noise) into the batch; `loss` is then a function of parameters and batch, apart from dropout.

    That split lets a loss be evaluated for one row alone with the same draws: what the probe and private gradients rest on."""

    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    players: dict[str, int] = {"model": 1}  # player -> updates per batch, in order; one optimizer each
    experience: Experience | None = None  # None: rows of a table
    heads: list[str] | None = None  # the heads it trains, None = all: the others keep their parameters
    validates: bool = True  # False: its loss on held-out rows does not say which model is better (players against each other); the last is kept

    def learning(self, rows: int) -> dict[str, Any]:
        """Settings (lr, betas, ...) that suit it on so many training rows, where the task leaves them open; they go before an encoder's."""
        return {}

    def build(self, model: Model, schema: Schema) -> None:
        """Make own layers, sized by the model. Raise a `Refusal` where model or data do not fit."""

    def prepare(self, batch: Batch, rng: torch.Generator) -> Batch:
        return batch

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        """One number per row (see `Loss`), batch.weight applied."""
        raise NotImplementedError

    def parameters_of(self, model: Model, player: str) -> list[Tensor]:
        """Who moves on whose turn. One player: everything that requires a gradient."""
        return [p for p in [*model.parameters(), *self.parameters()] if p.requires_grad]

    def after_step(self, model: Model) -> None:
        """Momentum copies, memory banks."""


class Wrapped(Objective):
    """A base for strategies' objectives: everything goes to the one inside; override `loss`."""

    is_component = False

    def __init__(self, inner: Objective):
        super().__init__()
        self.inner = inner
        self.players = inner.players
        self.experience = inner.experience
        self.heads = inner.heads
        self.validates = inner.validates

    def prepare(self, batch: Batch, rng: torch.Generator) -> Batch:
        return self.inner.prepare(batch, rng)

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        return self.inner.loss(model, batch, player)

    def parameters_of(self, model: Model, player: str) -> list[Tensor]:
        return self.inner.parameters_of(model, player)

    def after_step(self, model: Model) -> None:
        self.inner.after_step(model)


class Learner(nn.Module):
    """Model and objective as one function of their parameters: `learner(batch, player) -> Loss`. Gradient rules differentiate this."""

    def __init__(self, model: Model, objective: Objective, bf16: bool = False):
        super().__init__()
        self.model = model
        self.objective = objective
        self.bf16 = bf16

    def forward(self, batch: Batch, player: str = "model") -> Loss:
        if not self.bf16:
            return self.objective.loss(self.model, batch, player)
        with torch.autocast(batch.device.type, torch.bfloat16):
            return self.objective.loss(self.model, batch, player)
