"""Freeze parts of the model, for good or until a share of the stage is done (gradual unfreezing).

Howard and Ruder 2018 ("ULMFiT", section 3.3) unfreeze part by part from the head down. Optimizers are made once, from the parameters that
require a gradient when the stage is assembled. So a part that thaws later keeps requiring one and its gradient is dropped until then, which
leaves the parameter and its optimizer state untouched (no weight decay either); a part that never thaws requires none and costs no backward.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..errors import did_you_mean, refuse
from ..model import Model
from ..strategy import Progress, Strategy


class Freeze(Strategy):
    def __init__(self, parts: list[str] | None = None, unfreeze_at: list[float] | None = None):
        """parts: regular expressions of parameter names, default all encoders; unfreeze_at: share of the stage after which each part learns."""
        self.parts = parts or [r"^encoders\."]
        self.unfreeze_at = unfreeze_at
        if unfreeze_at is not None and len(unfreeze_at) != len(self.parts):
            raise ValueError(f"unfreeze_at has {len(unfreeze_at)} shares for {len(self.parts)} parts")
        if any(not 0 <= share <= 1 for share in unfreeze_at or []):
            raise ValueError(f"unfreeze_at {unfreeze_at} must be shares of the stage, 0 to 1")
        self.frozen: list[str] = []  # names that adapt froze
        self.until: dict[Tensor, float] = {}  # parameters that thaw, and when
        self.fraction = 0.0

    def adapt(self, model: Model, rng: torch.Generator) -> Model:
        self.frozen, self.until = [], {}
        free = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for i, part in enumerate(self.parts):
            matched = [name for name in free if re.search(part, name)]
            if not matched:
                near = did_you_mean(part, [n for n, _ in model.named_parameters()])
                raise refuse("freeze.nothing_matches", f"no parameter that learns matches {part!r}", fix=near)
            for name in matched:
                if self.unfreeze_at is None:
                    free[name].requires_grad_(False)
                    self.frozen.append(name)
                else:
                    self.until[free[name]] = self.unfreeze_at[i]
        if not any(p.requires_grad and self.until.get(p, 0.0) == 0 for p in model.parameters()):
            later = "" if self.unfreeze_at is None else f" before {min(self.unfreeze_at):g} of the stage"
            raise refuse("freeze.everything", f"nothing is left to learn{later}", why=f"{self.parts} match every parameter", fix="freeze fewer parts")
        return model

    def transform(self, gradients: list[Tensor | None], parameters: list[Tensor]) -> list[Tensor | None]:
        return [None if self.fraction < self.until.get(p, 0.0) else g for g, p in zip(gradients, parameters, strict=True)]

    def after_step(self, model: Model, progress: Progress) -> None:
        self.fraction = progress.fraction

    def finish(self, model: Model) -> Model:
        """The next stage finds everything free again, as this one did."""
        for name, p in model.named_parameters():
            if name in self.frozen:
                p.requires_grad_(True)
        return model

    def state(self) -> dict:
        return {"fraction": self.fraction}

    def load(self, state: dict) -> None:
        self.fraction = float(state["fraction"])
