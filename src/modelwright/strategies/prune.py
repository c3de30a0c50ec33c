"""Set the smallest weights to zero, more and more of them, up to a declared sparsity.

Zhu and Gupta 2017, equation 1: s_t = s (1 - (1 - (t - t_0) / (t_1 - t_0))^3) from `begin` to `end` of the stage, per weight, by magnitude. What
was set to zero stays zero through every step. Validation sees the model as it would ship, at the full sparsity, so the best state that is kept is
the best sparse one. Heads are left dense by default: they are small and most sensitive. Zeros save space and, without sparse kernels, no time.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import refuse
from ..model import Model
from ..strategy import Progress, Strategy


class Prune(Strategy):
    def __init__(self, sparsity: float = 0.5, begin: float = 0.1, end: float = 0.7, every: int = 10, targets: str | None = None):
        """sparsity: share of zeros in each weight; begin, end: shares of the stage; every: steps between prunings; targets: regular expression of
        names of Linear and convolution layers, default those of encoders and fusion."""
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity ({sparsity}) must lie between 0 and 1")
        if not 0 <= begin < end <= 1:
            raise ValueError(f"begin ({begin}) must come before end ({end}), both from 0 to 1")
        if every < 1:
            raise ValueError(f"every ({every}) must be at least 1")
        self.sparsity, self.begin, self.end, self.every, self.targets = sparsity, begin, end, every, targets
        self.masks: dict[str, Tensor] = {}  # {layer: where its weight is kept}
        self.names: list[str] = []

    def adapt(self, model: Model, rng: torch.Generator) -> Model:
        wanted = re.compile(self.targets or r"^(encoders|fusion)\.")
        layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        self.names = [name for name, m in model.named_modules() if isinstance(m, layers) and wanted.search(name)]
        if not self.names:
            why = f"no Linear or convolution layer has a name that matches {wanted.pattern!r}"
            raise refuse("prune.nothing_matches", "prune finds nothing to prune", why=why, fix="set targets to names such as encoders.table.first")
        self.masks = {}
        return model

    def at(self, fraction: float) -> float:
        """The sparsity due after a share of the stage."""
        left = 1 - min(1.0, max(0.0, (fraction - self.begin) / (self.end - self.begin)))
        return self.sparsity * (1 - left**3)

    @torch.no_grad()
    def after_step(self, model: Model, progress: Progress) -> None:
        if progress.step % self.every == 0 or progress.step >= progress.steps:
            self.masks = {name: keep(self.weight(model, name), self.at(progress.fraction)) for name in self.names}
        for name, mask in self.masks.items():
            self.weight(model, name).mul_(mask)

    def view(self, model: Model) -> Model:
        return model if self.holds(model) is None else self._pruned(copy.deepcopy(model))

    def finish(self, model: Model) -> Model:
        return self._pruned(model)

    @torch.no_grad()
    def _pruned(self, model: Model) -> Model:
        """Zeros are the smallest, so a weight that is sparse enough does not change."""
        for name in self.names:
            self.weight(model, name).mul_(keep(self.weight(model, name), self.sparsity))
        return model

    def holds(self, model: Model) -> str | None:
        for name in self.names:
            weight = self.weight(model, name)
            zeros, due = int((weight == 0).sum()), round(self.sparsity * weight.numel())
            if zeros < due:
                return f"{due} of {weight.numel()} weights of {name} are zero, but {zeros} are"
        return None

    def weight(self, model: Model, name: str) -> Tensor:
        return model.get_submodule(name).weight

    def statement(self) -> dict[str, Any]:
        return {"prune": {"sparsity": self.sparsity, "layers": self.names}}

    def state(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def load(self, state: dict[str, Any]) -> None:
        self.masks = state["masks"]


def keep(weight: Tensor, sparsity: float) -> Tensor:
    """True but for the round(sparsity * n) smallest in magnitude: exactly that many, whatever ties."""
    mask = torch.ones_like(weight, dtype=torch.bool)
    smallest = torch.topk(weight.abs().flatten(), round(sparsity * weight.numel()), largest=False).indices
    mask.view(-1)[smallest] = False
    return mask
