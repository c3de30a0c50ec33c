"""The nouns that everything passes around. Legend: B batch rows, T tokens (or boxes, words), D width, C channels, H W height and width.

Everything in a `Batch` has the rows first, so that a row can be selected, redrawn or evaluated alone (`probe`, `per_example`) without
knowing what it holds. Things with a count per row are padded (`Ragged`); a table's columns travel together (`Tabular`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass
class Ragged:
    """Whatever has its own count per row, padded: values (B, T, ...), lengths (B,) int64. Values beyond a row's length are zeros and mean nothing."""

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True where there is a value."""
        return torch.arange(self.values.shape[1], device=self.values.device) < self.lengths[:, None]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass
class Tabular:
    """A table's columns: numbers (B, N) float, standardised, 0 where missing; present (B, N) bool; codes (B, M) int64, 0 = missing or unseen."""

    numbers: Tensor
    present: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return len(self.numbers)


Value = Tensor | Ragged | Tabular


@dataclass
class Batch:
    inputs: dict[str, Value]
    targets: dict[str, Value] = field(default_factory=dict)
    known: dict[str, Tensor] = field(default_factory=dict)  # (B,) bool per input column and target; absent = all known
    weight: Tensor | None = None  # (B,) float, None = ones: scales a row's loss, not its count
    groups: Tensor | None = None  # (B,) int64: the group that fairness and intervals speak of, -1 = none
    rows: Tensor | None = None  # (B,) int64: the row's number in its split
    extra: dict[str, Value] = field(default_factory=dict)  # what an objective needs beside: old log-probabilities, reset masks

    def __len__(self) -> int:
        for values in (self.inputs, self.targets, self.extra):
            for value in values.values():
                return len(value)
        return 0 if self.rows is None else len(self.rows)

    def map(self, f) -> Batch:
        """f on every tensor."""
        return pytree.tree_map(f, self)

    def select(self, index: Tensor | slice) -> Batch:
        """The rows at index; padding stays as it is."""
        return self.map(lambda t: t[index])

    def to(self, device: torch.device | str) -> Batch:
        return self if self.device == torch.device(device) else self.map(lambda t: t.to(device, non_blocking=True))

    def but(self, **changes: Any) -> Batch:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def knows(self, name: str) -> Tensor:
        """(B,) bool: where the column or target is there."""
        known = self.known.get(name)
        return torch.ones(len(self), dtype=torch.bool, device=self.device) if known is None else known

    @property
    def device(self) -> torch.device:
        leaf = next(pytree.tree_iter(self), None)
        return torch.device("cpu") if leaf is None else leaf.device


@dataclass
class Encoded:
    """What an encoder or fusion hands on: z (B, T, D), mask (B, T) bool or None (all), and what only some have."""

    z: Tensor
    mask: Tensor | None = None
    grid: tuple[int, int] | None = None  # T = H * W for pictures, row by row
    vector: Tensor | None = None  # (B, D) a summary better than the mean over tokens (CLS token, last state)
    pyramid: list[Tensor] | None = None  # [(B, C_i, H_i, W_i)] fine to coarse
    state: Any = None  # recurrent state or KV cache after these tokens

    def pooled(self) -> Tensor:
        """(B, D): the encoder's own summary, else the mean over the tokens that are there."""
        if self.vector is not None:
            return self.vector
        if self.mask is None:
            return self.z.mean(1)
        m = self.mask.unsqueeze(-1).to(self.z.dtype)
        return (self.z * m).sum(1) / m.sum(1).clamp(min=1)


    def levels(self) -> Tensor:
        """(B, D): the mean over the places of each level of the pyramid, fine to coarse; `pooled` where there is none."""
        return self.pooled() if self.pyramid is None else torch.cat([level.mean((2, 3)) for level in self.pyramid], 1)


@dataclass
class Term:
    """One part of a loss, per row: total (B,), count (B,) of units (rows, tokens, pixels, boxes; 0 where the target is missing)."""

    total: Tensor
    count: Tensor
    weight: float | Tensor = 1.0


@dataclass
class Loss:
    """A loss is one number per row. Only an honestly coupled one (InfoNCE) gives a scalar, and says so by using `coupled`.

    per_row (B,)  = sum over terms of weight * total / count
    mean ()       = sum over terms of weight * (sum of totals) / (sum of counts)         what plain training descends
    """

    terms: dict[str, Term] = field(default_factory=dict)
    coupled: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)  # scalars to log

    def per_row(self) -> Tensor:
        if self.coupled is not None:
            raise ValueError("this loss is coupled: it has no value per row")
        return sum(t.weight * t.total / t.count.clamp(min=1) for t in self.terms.values())

    def mean(self) -> Tensor:
        loss = sum(t.weight * t.total.sum() / t.count.sum().clamp(min=1) for t in self.terms.values())
        return loss if self.coupled is None else loss + self.coupled

    def times(self, weight: Tensor | None) -> Loss:
        """Each row's totals scaled by weight (B,); counts stay."""
        if weight is None:
            return self
        if self.coupled is not None:
            raise ValueError("this loss is coupled: rows cannot be weighted")
        return replace(self, terms={k: replace(t, total=t.total * weight) for k, t in self.terms.items()})

    def plus(self, other: Loss) -> Loss:
        """Both losses' terms; the names must differ."""
        assert not self.terms.keys() & other.terms.keys(), "two terms of one name"
        parts = [c for c in (self.coupled, other.coupled) if c is not None]
        return Loss(self.terms | other.terms, sum(parts) if parts else None, self.metrics | other.metrics)


@dataclass
class Prediction:
    """What a model says of one target, for B rows. Which fields are set is the target kind's affair; audits and reports read no more.

    value (B,) class index, number, rank or (B, T) ids; probabilities (B, K); quantiles (B, Q); boxes: Ragged (B, T, 4) xyxy as shares of
    the picture's width and height, with labels (B, T) and score (B, T); tokens: Ragged of ids; action (B,) or (B, A); score (B,) confidence, higher is surer;
    extra: anything a stream
    must keep (log-probability, value)."""

    value: Tensor | None = None
    probabilities: Tensor | None = None
    quantiles: Tensor | None = None
    boxes: Ragged | None = None
    labels: Tensor | None = None
    tokens: Ragged | None = None
    action: Tensor | None = None
    score: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Prediction:
        return pytree.tree_map(lambda t: t.detach().to(device), self)

    def select(self, index: Tensor | slice) -> Prediction:
        """The rows at index; padding stays as it is."""
        return pytree.tree_map(lambda t: t[index], self)

    @staticmethod
    def cat(parts: list[Prediction]) -> Prediction:
        """Row after row; ragged parts are padded to the longest."""

        return Prediction(**{f.name: _join_field([getattr(p, f.name) for p in parts]) for f in fields(Prediction)})


def _join_field(values: list[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, Ragged):
        return Ragged(_cat([v.values for v in values]), torch.cat([v.lengths for v in values]))
    if isinstance(first, Mapping):
        return {k: _cat([v[k] for v in values]) for k in first}
    return _cat(values)


def _cat(tensors: list[Tensor]) -> Tensor:
    """Along rows; the second dimension is padded with zeros where it differs."""
    if tensors[0].dim() > 1 and len({t.shape[1] for t in tensors}) > 1:
        longest = max(t.shape[1] for t in tensors)
        tensors = [torch.cat([t, t.new_zeros(t.shape[0], longest - t.shape[1], *t.shape[2:])], 1) for t in tensors]
    return torch.cat(tensors)


@dataclass
class Measurement:
    """One measured figure. Never a verdict: those come from `registry.gate.decide` alone."""

    audit: str
    metric: str
    target: str | None
    split: str
    slice: str | None
    value: float | None  # None: not a number or not measured; `reasons` says why
    low: float | None
    high: float | None
    level: float  # of the interval, already corrected for the number of declared limits
    n: int
    method: str
    seed: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)  # codes `<area>.<what>`
    digests: dict[str, str] = field(default_factory=dict)  # model, data, code, settings


def clauses(slice: str) -> list[str]:
    """The clauses `column=value` that ` & ` joins in a slice. One inside a value (dept=R & D) joins none: what follows it compares nothing."""
    return [clause.strip() for clause in re.split(r" & (?=[^=<>&]*[=<>])", slice)]


def _register(cls: type) -> None:
    """Let torch's tree functions (vmap among them) walk a form; fields that are None are not leaves."""

    def flatten(form):
        names = tuple(f.name for f in fields(cls) if getattr(form, f.name) is not None)
        return [getattr(form, n) for n in names], names

    pytree.register_pytree_node(cls, flatten, lambda values, names: cls(**dict(zip(names, values, strict=True))))


for _cls in (Ragged, Tabular, Batch, Prediction):
    _register(_cls)
