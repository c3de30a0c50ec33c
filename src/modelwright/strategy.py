"""How parameters are updated. A strategy acts in named places, each with its own law of composition; two strategies never negotiate.

adapt, groups   in the order written          gradient     one seat, then `transform`s in the order written
sampler         one seat                      after_step   in the order written
batch           chained                       view         chained, on copies
objective       nested, first is innermost    finish       reverse order of adapt
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .forms import Batch
from .gradient import GradientRule
from .model import Model
from .objective import Learner, Objective

if TYPE_CHECKING:
    from .data.dataset import Dataset
    from .data.schema import Schema


@dataclass
class Context:
    """What a strategy may know of the stage before it starts."""

    schema: Schema
    rows: int  # of the training split
    batch_size: int
    steps: int
    seed: int
    train: Dataset | None = None  # None where there is no fixed table (rollouts)
    root: str = "."  # the task file's folder, for paths in settings
    lineage: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    step: int = 0  # updates done
    steps: int = 1  # of the whole stage
    epoch: int = 0

    @property
    def fraction(self) -> float:
        return min(1.0, self.step / max(1, self.steps))


class Sampler:
    """Which rows make the next batch. It can be saved and goes on bit-exactly."""

    def epoch(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """The row indices (B,) of each batch of one pass; the length may differ, and be 0."""
        raise NotImplementedError

    def steps(self) -> int:
        """Batches in one pass."""
        raise NotImplementedError


class Strategy:
    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    claims: ClassVar[frozenset[str]] = frozenset()  # seats: "sampler", "gradient", "rounds"
    needs: ClassVar[frozenset[str]] = frozenset()
    """Facts that the probe must not refute: "separable" (a row's loss does not depend on other rows), "no_buffers" (the loss writes none),
    "known_rows" (batches are rows of a fixed training split), "unread" (no other strategy has `reads_rows`)."""
    reads_rows: ClassVar[bool] = False
    """It holds figures of training rows beside the batch (multipliers, a buffer, a teacher): an accountant would have to charge for them."""

    def learning(self, suggested: dict[str, Any]) -> dict[str, Any]:
        """The settings of learning that encoders and objective suggest, as this strategy would have them."""
        return suggested

    def prepare(self, context: Context) -> None:
        """Before sampler and adapt, possibly more than once: sizes, rates, files. Raise a `Refusal` where the task cannot be met."""

    def adapt(self, model: Model, rng: torch.Generator) -> Model:
        return model

    def groups(self, model: Model) -> dict[nn.Parameter, float]:
        """Learning-rate multipliers; those of several strategies multiply."""
        return {}

    def sampler(self, context: Context) -> Sampler | None:
        return None

    def batch(self, batch: Batch, learner: Learner, player: str, rng: torch.Generator) -> Batch:
        """May differentiate with respect to inputs, never parameters."""
        return batch

    def objective(self, objective: Objective) -> Objective:
        return objective

    def gradient(self) -> GradientRule | None:
        return None

    def transform(self, gradients: list[Tensor | None], parameters: list[Tensor]) -> list[Tensor | None]:
        """A pure function of the divided gradient."""
        return gradients

    def after_step(self, model: Model, progress: Progress) -> None:
        """After every update."""

    def view(self, model: Model) -> Model:
        """What is evaluated."""
        return model

    def finish(self, model: Model) -> Model:
        """Fold back what adapt laid on; what ships is an ordinary Model again."""
        return model

    def holds(self, model: Model) -> str | None:
        """None while the strategy's promise holds (zeros kept, adapters merged), else how it broke. Checked by the dry run and at the end."""
        return None

    def statement(self) -> dict[str, Any]:
        """What it claims of the run, for lineage.json: {"privacy": {"epsilon": 3, ...}}."""
        return {}

    def state(self) -> dict[str, Any]:
        """Tensors and JSON that resuming needs beyond the model and the objective."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass
