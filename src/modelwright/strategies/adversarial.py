"""Train on the worst inputs within epsilon of the true ones, instead of on the true ones.

Madry et al. 2018, equation 2.1, by projected gradient ascent in the largest-change norm; `steps: 1, start: false` is the fast gradient sign method
of Goodfellow et al. 2015. Pictures stay in [0, 1]; of a table, the numbers that are present move, in standard deviations; ids, codes and missing
values stay. The attack runs with the model in evaluation mode (fixed batch statistics, no dropout) and follows the sign of the gradient of the sum
of per-row losses, so each row is attacked for itself and the attack composes with private training. Parameters are not touched. A batch costs
`steps` more passes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import refuse
from ..forms import Batch, Ragged, Tabular, Value
from ..objective import Learner
from ..strategy import Strategy


class Adversarial(Strategy):
    def __init__(self, epsilon: float = 8 / 255, numbers: float = 0.1, steps: int = 7, start: bool = True):
        """epsilon: of pixels in [0, 1]; numbers: of a table's numbers and series, in standard deviations; start: at random within epsilon."""
        if epsilon < 0 or numbers < 0 or not 1 <= steps <= 1000:
            raise ValueError(f"epsilon ({epsilon}) and numbers ({numbers}) must not be negative, steps ({steps}) from 1 to 1000")
        self.epsilon, self.numbers, self.steps, self.start = epsilon, numbers, steps, start

    def batch(self, batch: Batch, learner: Learner, player: str, rng: torch.Generator) -> Batch:
        if len(batch) == 0:  # Poisson sampling may draw no row
            return batch
        clean = {name: dense(value) for name, value in batch.inputs.items()}
        clean = {name: x for name, x in clean.items() if x.is_floating_point() and x.numel()}
        if not clean:
            raise refuse("adversarial.input", "no input can be moved by a little", why="they are all ids or codes", fix="leave adversarial out")
        at = {name: x + self.bound(x) * (2 * torch.rand(x.shape, generator=rng).to(x) - 1) * self.start for name, x in clean.items()}
        at = {name: self.project(x, clean[name], batch.inputs[name]) for name, x in at.items()}
        modes = [(m, m.training) for m in learner.modules()]
        learner.eval()
        for _ in range(self.steps):
            at = {name: x.detach().requires_grad_() for name, x in at.items()}
            loss = learner(moved(batch, at), player)
            if loss.coupled is not None:
                raise refuse("adversarial.coupled", "this objective has no loss per row to attack", why="it compares rows", fix="leave it out")
            gradients = torch.autograd.grad(loss.per_row().sum(), list(at.values()), allow_unused=True)
            for (name, x), g in zip(list(at.items()), gradients, strict=True):
                if g is not None:
                    step = min(1.0, 2.5 / self.steps) * self.bound(x)
                    at[name] = self.project(x.detach() + step * g.sign(), clean[name], batch.inputs[name])
        for m, training in modes:
            m.training = training
        return moved(batch, {name: x.detach() for name, x in at.items()})

    def bound(self, x: Tensor) -> float:
        return self.epsilon if x.dim() >= 4 else self.numbers

    def project(self, x: Tensor, clean: Tensor, value: Value) -> Tensor:
        """The nearest point within the bound, in [0, 1] if it is a picture, and unmoved where there is no value."""
        x = torch.minimum(torch.maximum(x, clean - self.bound(x)), clean + self.bound(x))
        if isinstance(value, Tabular):
            return torch.where(value.present, x, clean)
        if isinstance(value, Ragged):
            return torch.where(value.mask.view(*value.mask.shape, *[1] * (x.dim() - 2)), x, clean)
        return x.clamp(0, 1) if x.dim() >= 4 else x


def dense(value: Value) -> Tensor:
    return value.numbers if isinstance(value, Tabular) else value.values if isinstance(value, Ragged) else value


def moved(batch: Batch, at: dict[str, Tensor]) -> Batch:
    inputs = dict(batch.inputs)
    for name, x in at.items():
        old = inputs[name]
        inputs[name] = Tabular(x, old.present, old.codes) if isinstance(old, Tabular) else Ragged(x, old.lengths) if isinstance(old, Ragged) else x
    return batch.but(inputs=inputs)
