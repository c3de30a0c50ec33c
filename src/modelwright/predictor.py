"""All that audits and services may see of a model: from a table to predictions, and, where it is one's own or lets itself be opened, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pyarrow as pa
import torch
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
class Counting(Protocol):
    """A Predictor that says what its model is made of, and what an answer computes, wherever that is."""

    def counted(self, table: pa.Table) -> dict[str, int]:
        """{"parameters", "operations": of the answer to these rows (`operations.Counted`)}; {} of a model that is not torch's."""
        ...


@runtime_checkable
class Inward(Protocol):
    """A Predictor that shows what its answers are read from, of whatever inputs: what strange rows are told by."""

    def inward(self, target: str, table: pa.Table) -> tuple[Tensor | None, Tensor]:
        """Logits (N, K), whose softmax is the answer, None of a target that is no class; and features (N, D), what the head reads, summarised."""
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


def differ(a: Prediction, b: Prediction) -> Tensor:
    """(N,) bool, row by row, but of texts: another decision, a probability that is another by a tenth, a number that is by a tenth of a standard
    deviation."""
    apart = torch.zeros(len(lean(a)), dtype=torch.bool)
    for one, two in ((a.value, b.value), (a.probabilities, b.probabilities), (shown(a), shown(b))):
        if one is not None and two is not None:
            apart |= ((flat(one) - flat(two)).abs() > 0.1).any(1)
    return apart


def lean(p: Prediction) -> Tensor:
    """(N,) what rows can be put in an order by: the last class's probability, a number, how much of something is there."""
    first = next(t for t in (p.probabilities, p.value, shown(p)) if t is not None)
    return flat(first)[:, -1]


def shown(p: Prediction) -> Tensor | None:
    """(N, 6) of boxes that are surer than 1/2: how many, the sums of their corners and of their labels."""
    if p.boxes is None:
        return None
    sure = (p.boxes.mask & (p.score > 0.5)).unsqueeze(-1)
    return torch.cat([sure.sum(1), (p.boxes.values * sure).sum(1), (p.labels.unsqueeze(-1) * sure).sum(1)], 1)


def flat(t: Tensor) -> Tensor:
    return t.reshape(len(t), -1).double()


def in_chunks(table: pa.Table, ask: Callable[[pa.Table], dict[str, Prediction]]) -> dict[str, Prediction]:
    """What is said of a table, CHUNK rows in memory at a time."""
    if not table.num_rows:
        raise refuse("data.no_rows", "the table has no rows", why="there is nothing to answer", fix="give at least one row")
    said = [ask(table.slice(start, CHUNK)) for start in range(0, table.num_rows, CHUNK)]
    return {target: Prediction.cat([part[target] for part in said]) for target in said[0]}
