"""Average the weights over training, and evaluate and ship the average.

Exponential moving average with the usual warm-up, decay_t = min(decay, (1 + t) / (10 + t)), or with `decay: null` the uniform average of the tail
(Polyak and Juditsky 1992; Izmailov et al. 2018, "SWA"). Buffers are copied from the live model, not averaged; running batch statistics are
therefore those of the live weights (SWA would pass over the data again). The copy is made after the first step, when the model is adapted.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..model import Model
from ..strategy import Progress, Strategy


class Average(Strategy):
    def __init__(self, decay: float | None = 0.999, start: float = 0.0):
        """decay: of the moving average, null = uniform; start: share of the stage before the average begins."""
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay ({decay}) must be at least 0 and below 1")
        if not 0 <= start < 1:
            raise ValueError(f"start ({start}) must be at least 0 and below 1")
        self.decay, self.start = decay, start
        self.averaged: Model | None = None
        self.n = 0  # weights averaged so far
        self.kept: dict[str, torch.Tensor] | None = None  # loaded, before there is a copy to put it in

    @torch.no_grad()
    def after_step(self, model: Model, progress: Progress) -> None:
        if progress.fraction < self.start:
            return
        average = self._copy(model)
        share = 1 / (self.n + 1) if self.decay is None else 1 - min(self.decay, (1 + self.n) / (10 + self.n))
        for old, new in zip(average.parameters(), model.parameters(), strict=True):
            old.lerp_(new, share if self.n else 1.0)
        for old, new in zip(average.buffers(), model.buffers(), strict=True):
            old.copy_(new)
        self.n += 1

    def view(self, model: Model) -> Model:
        return self._copy(model) if self.n else model

    def _copy(self, model: Model) -> Model:
        if self.averaged is None:
            self.averaged = copy.deepcopy(model)
            self.averaged.zero_grad(set_to_none=True)
            if self.kept is not None:
                self.averaged.load_state_dict(self.kept)
        return self.averaged

    def statement(self) -> dict[str, Any]:
        return {"average": {"decay": self.decay, "start": self.start, "weights": self.n}}

    def state(self) -> dict[str, Any]:
        return {"n": self.n, "averaged": None if self.averaged is None else self.averaged.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.n, self.kept, self.averaged = int(state["n"]), state["averaged"], None
