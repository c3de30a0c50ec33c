"""All that audits and services may see of a model: from a table to predictions, and, where it is one's own or lets itself be opened, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pyarrow as pa
from torch import Tensor

from .errors import refuse
from .forms import Prediction

CHUNK = 65_536  # rows that are encoded at a time


class Predictor(Protocol):
    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        """One Prediction per target, as many rows as the table. Targets in the table are never looked at."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """A Predictor that can also say how likely given targets are: what exposure is measured by."""

    def likelihood(self, table: pa.Table) -> dict[str, Tensor]:
        """(N,) per target in the table: minus the log-likelihood of the row's own, a text's as a whole."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """A Predictor whose model may be at work in another process: what it costs is measured there."""

    process_id: int | None


@runtime_checkable
class Inward(Protocol):
    """A Predictor that shows what its answers are read from, of whatever inputs: what strange rows are told by."""

    def inward(self, target: str, table: pa.Table) -> tuple[Tensor, Tensor]:
        """Of a class target: logits (N, K), whose softmax is the answer, and features (N, D), what the head reads, summarised."""
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


def in_chunks(table: pa.Table, ask: Callable[[pa.Table], dict[str, Prediction]]) -> dict[str, Prediction]:
    """What is said of a table, CHUNK rows in memory at a time."""
    if not table.num_rows:
        raise refuse("data.no_rows", "the table has no rows", why="there is nothing to answer", fix="give at least one row")
    said = [ask(table.slice(start, CHUNK)) for start in range(0, table.num_rows, CHUNK)]
    return {target: Prediction.cat([part[target] for part in said]) for target in said[0]}
