"""A torch module in the worker as a differentiable function of its one picture, or of its table's numbers: what attacks and attributions need of it.

The answer is computed there; backwards, the worker is sent the cotangent and gives the gradient. x is what our own networks take (a picture in [0, 1];
a table's numbers standardised, and bent, as their kind is), so that epsilon means the same of every model; a column's own units, gaps (NaN) and
categories are put back before the module is asked. Within `Redrawn` the worker draws the module's weights anew. Nobody else's code runs here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..data.dataset import TABLE
from ..data.schema import Schema
from ..explainer import Redrawn
from ..operations import Counted
from .process import Worker

SLACK = 1e-6  # what single precision may put outside [0, 1]


class Remote:
    """See `predictor.Opened`."""

    def __init__(self, worker: Worker, schema: Schema, target: str, table: pa.Table, arrays: dict[str, np.ndarray], scale: str | None = None):
        """arrays: the table's inputs as the module reads them, one of them. scale: what its answers are (see `Foreign.said`)."""
        ((self.name, array),) = arrays.items()
        self.scale = scale
        self.worker, self.classes, self.given = worker, len(schema.targets[target].labels_), torch.from_numpy(array)
        self.x, self.numbers, self.names = self.given, [], []
        if self.name == TABLE:
            at = 0
            for name, kind in ((n, k) for n, k in schema.inputs.items() if k.place in ("number", "code")):
                if kind.head == "regression":  # a plain number
                    self.numbers.append((at, kind))
                    self.names.append(name)
                at += kind.numbers if kind.place == "number" else 1
            read = [kind.encode(table.column(n))["values"] for n, (_, kind) in zip(self.names, self.numbers)]
            standard = torch.from_numpy(np.concatenate(read, 1)) if read else torch.zeros(table.num_rows, 0)
            self.missing, self.x = standard.isnan(), standard.nan_to_num(0.0)

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        """In single precision, whatever x is: the module's own."""
        if self.name != TABLE:
            given = x
        else:
            columns = list(self.given[rows].unbind(1))
            for i, (at, kind) in enumerate(self.numbers):
                columns[at] = torch.where(self.missing[rows, i], torch.nan, real(kind, x[:, i]))
            given = torch.stack([c.float() for c in columns], 1)
        return as_logits(Answer.apply(given.float(), self.worker, self.name), self.classes, self.scale).to(x.dtype)

    def features(self, x: Tensor, rows: Tensor) -> None:
        return None


class Answer(torch.autograd.Function):
    """The module's answer (B, K) to x (B, ...), and its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, worker: Worker, name: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.worker, ctx.name, ctx.redrawn = worker, name, Redrawn.now
        return asked(worker, {name: x}, Redrawn.now)["answer"]

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        return asked(ctx.worker, {ctx.name: x}, ctx.redrawn, cotangent)["gradient"].reshape(x.shape), None, None


def asked(worker: Worker, inputs: dict[str, Tensor], now: Redrawn | None, cotangent: Tensor | None = None) -> dict[str, Tensor]:
    """{"answer"} or {"gradient"} of the module with its own weights, or with those that `now` redraws."""
    arrays = {f"input.{n}": x.detach().numpy() for n, x in inputs.items()}
    arrays |= {} if cotangent is None else {"cotangent": cotangent.numpy()}
    arrays |= {} if now is None else {"draw": np.array(now.seed)}
    arrays |= {} if Counted.now is None else {"count": np.array(True)}
    with torch._C.DisableTorchFunction():
        found = worker.differentiate(arrays)
    if Counted.now is not None:
        Counted.now.total += int(found["operations"])
    if now is not None:
        now.elsewhere = max(now.elsewhere, int(found["redrew"]))
    return {k: torch.from_numpy(v) for k, v in found.items()}


def real(kind: Any, z: Tensor) -> Tensor:
    """`Number.real`, differentiable."""
    x = z.double() * kind.sd_ + kind.mean_
    return x.sign() * x.abs().expm1() if kind.log_ else x


def as_logits(out: Tensor, k: int, scale: str | None) -> Tensor:
    """(B, K) whose softmax is the model's probabilities, by the rules of `Foreign.said`. One column is the second class's. scale: "probabilities" or
    "logits"; None: judged by these answers alone."""
    shares = are_shares(out.detach().numpy()) if scale is None else scale == "probabilities"
    if k == 2 and (out.dim() == 1 or out.shape[1] == 1):
        second = out.reshape(-1)
        if shares:
            return torch.stack([1 - second, second], 1).clamp(min=1e-30).log()
        return torch.stack([-second / 2, second / 2], 1)
    return out.clamp(min=1e-30).log() if shares else out


def are_shares(out: np.ndarray) -> bool:
    """Whether answers (B,), (B, 1) or (B, K) are probabilities: within [0, 1], and over K > 1 columns of sum 1."""
    inside = bool(((out >= -SLACK) & (out <= 1 + SLACK)).all())
    return inside and (out.ndim == 1 or out.shape[1] == 1 or bool(np.allclose(out.sum(1), 1, atol=1e-3)))
