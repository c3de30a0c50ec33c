"""All that audits and services may see of a model: from a table to predictions, and, where it is one's own or lets itself be opened, gradients."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa
from torch import Tensor

from .forms import Prediction


class Predictor(Protocol):
    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        """One Prediction per target, as many rows as the table. Targets in the table are never looked at."""
        ...


class Opened(Protocol):
    """A class target as a differentiable function of one input over chosen rows: what attacks and attributions need."""

    x: Tensor
    """(N, ...) the input as the model sees it: a picture (C, H, W) in [0, 1]; a table's numbers (F,), standardised, all else held as in its row."""

    names: list[str]
    """Of a table: the column of each of the F numbers; of a picture: none."""

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        """x (B, ...) in the place of rows (B,) -> (B, K), differentiable in x; a softmax over K gives the model's probabilities. x may be float64
        where the model can be computed so: the answer is then, too."""
        ...

    def features(self, x: Tensor, rows: Tensor) -> Tensor | None:
        """(B, D): what the head reads, summarised; None where the model does not say."""
        ...
