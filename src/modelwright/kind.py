"""A column's kind: what its values mean. It is the only thing that switches on the kind of data, both as input and as target.

A kind infers itself from a column's profile, fits on the training split alone, encodes a column into arrays that can be memory-mapped, and
turns chosen rows of them into tensors. As a target it also owns the metrics, so that models from elsewhere are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from . import metrics as m
from .errors import refuse
from .forms import Prediction, Ragged, Value

Stored = dict[str, np.ndarray]
"""An encoded column: values (N, ...) or flat values (sum of counts, ...) with offsets (N + 1,); known (N,) bool where something is missing."""


@dataclass
class Profile:
    """What is known of a raw column before its kind is: counted over the table, or over its first 100,000 rows."""

    name: str
    type: pa.DataType
    rows: int
    missing: int
    distinct: int
    sample: list[Any] = field(default_factory=list)  # up to 1,000 values that are not missing


@dataclass
class Metric:
    """A metric over chosen rows (indices, repeats allowed), so that intervals can resample it.

    rows (N,): where the metric is the mean of a per-row number, that number (NaN where the target is unknown); else None."""

    value: Callable[[np.ndarray], float]
    rows: np.ndarray | None = None
    better: Literal["higher", "lower"] = "higher"
    of: np.ndarray | None = None  # (N,) int: each row's class, -1 none, of a share that rests on its rarest class (auroc, f1)
    note: str = ""  # what a reader must know to read it; goes into the evidence's details

    @classmethod
    def mean(cls, rows: np.ndarray, better: Literal["higher", "lower"] = "higher", note: str = "") -> Metric:
        rows = np.asarray(rows, dtype=np.float64)
        return cls(lambda index: float(np.nanmean(rows[index])) if len(index) else float("nan"), rows, better, note=note)


class Kind:
    """Constructors store what the user declared; `fit` learns; fitted values end in `_` and are JSON (see `state`)."""

    is_component: ClassVar[bool] = True
    place: ClassVar[Literal["number", "code", "own", "none"]] = "own"
    """Where it goes as an input: columns among the table's numbers, one of its codes, an input of its own, or nowhere."""
    form: ClassVar[Literal["table", "ids", "picture", "series", "vector", "none"]] = "none"
    """What an input of its own looks like to an encoder: ids (Ragged of int), picture (B, C, H, W), series (Ragged of (C,) floats), vector (B, D)."""
    numbers: int = 1  # how many, where place is "number"
    drawn: ClassVar[bool] = False  # not in the table but drawn for every batch (noise): `batch` gets an empty store
    encoder: ClassVar[str | None] = None  # default encoder of an `own` input
    head: ClassVar[str | None] = None  # default head as a target
    primary: ClassVar[str] = ""  # the metric that a comparison looks at first
    measures: frozenset[str] = frozenset()  # the names of `metrics`, as far as they are known before anything is predicted
    credit: ClassVar[str | None] = None
    """The metric that is a mean over rows of how right each is, in [0, 1]: what slices and corruptions are measured by. None: there is none."""

    beside: tuple[str, ...] = ()  # other columns that are part of this target (the labels of its boxes): they are no inputs

    labels_: list[str] | None = None  # a class target's names, in the order of their indices
    bins_: list[list[float]] = []  # where place is "number": for each of its numbers rising edges, between which encoders take it as linear
    spec: dict[str, Any]

    @classmethod
    def guess(cls, column: Profile) -> float:
        """How well this kind fits the column, 0 (never) to 1; the highest wins."""
        return 0.0

    def meet(self, inputs: dict[str, Kind]) -> None:
        """As a target, before `fit`: the schema's inputs, for one that lies in an input's plane (boxes in a picture)."""

    def column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        """The values that `fit` and `encode` take: the column, or a struct of it and those that it is read with."""
        return table.column(name)

    def fit(self, values: pa.ChunkedArray) -> None:
        """Learn what encoding needs, from the training split."""

    def encode(self, values: pa.ChunkedArray) -> Stored:
        """As an input. number: values (N, k) float32 with NaN for missing; code: values (N,) int64 with 0 for missing or unseen."""
        raise refuse("kind.input", f"a column of kind {type(self).__name__.lower()} cannot be an input", fix="declare another kind, or ignore it")

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """As a target; `known` marks the rows that have one."""
        raise refuse("kind.target", f"a column of kind {type(self).__name__.lower()} cannot be a target of a table", fix="declare another kind")

    def at(self, root: str) -> None:
        """Paths in the cells lie below this folder. It belongs to the table at hand, not to what was fitted: a saved model knows of no folder."""

    def read(self, out: np.ndarray) -> Prediction:
        """As a target that is no class: what a model from elsewhere gave for B rows, (B, ...) numbers or (B,) texts."""
        if out.dtype.kind == "U":
            raise refuse("model.output", "texts for a target that is no text", fix="give numbers: one column a class, or one number a row")
        raise refuse("model.output", f"numbers of shape {out.shape} for a target of kind {type(self).__name__.lower()}", fix="audit a run of Modelwright's own")

    def contents(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """What the cells stand for, one value a row: a cell that names a file stands for what is in it. Rows are told apart and digested by this."""
        return values

    def batch(self, stored: Stored, rows: np.ndarray) -> Value:
        """The rows as tensors: dense, or `Ragged` where the column is stored with offsets."""
        if "offsets" not in stored:
            return torch.from_numpy(np.ascontiguousarray(stored["values"][rows]))
        return gather(stored["values"], stored["offsets"], rows)

    def draw(self, n: int, rng: torch.Generator | None) -> Value:
        """n rows of a drawn kind."""
        raise NotImplementedError

    def augment(self, value: Value, rng: torch.Generator) -> tuple[Value, torch.Tensor | None]:
        """Whole-batch augmentation, in training only; and how it moved things: (B, 2, 3) from old to new pixel positions (x, y, 1), None: not at all."""
        return value, None

    def follow(self, value: Value, moves: dict[str, torch.Tensor]) -> Value:
        """As a target that lies in an input's plane (boxes): go where the augmentation of {input: moves} took it."""
        return value

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """Every metric of this kind of target; the names are those of the contract."""
        raise NotImplementedError

    def placed(self, prediction: Prediction, table: pa.Table) -> Prediction:
        """Before `answer`: what people need of the table beside the prediction (sizes of the pictures) goes into its `extra`."""
        return prediction

    def answer(self, name: str, prediction: Prediction) -> dict[str, Any]:
        """The prediction as columns of an output table, for people: {column name: list or array of B}."""
        raise NotImplementedError

    def illustrate(self, name: str, table: pa.Table, row: int, prediction: Prediction) -> dict[str, Any]:
        """For a report's example: what to show of this row in place of its cells {column, "truth" or "predicted": value}."""
        return {}

    def describe(self) -> str:
        """A few words for the plan: "3 classes", "mean 2.1, sd 0.4"."""
        return ""

    def state(self) -> dict[str, Any]:
        """What was fitted, as JSON."""
        return {k: v for k, v in vars(self).items() if k.endswith("_")}

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def gather(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> Ragged:
    """Chosen rows of a flat store, padded with zeros: values (B, T, ...), lengths (B,)."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    longest = int(lengths.max(initial=0)) or 1
    out = np.zeros((len(rows), longest, *values.shape[1:]), values.dtype)
    inside = np.arange(longest) < lengths[:, None]
    out[inside] = values[(starts[:, None] + np.arange(longest))[inside]]
    return Ragged(torch.from_numpy(out), torch.from_numpy(lengths.astype(np.int64)))


# What the kinds of classes (boolean, category, ordered) share.

CLASS_METRICS = frozenset({"accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "nll", "brier", "ece"})


def class_metrics(prediction: Prediction, truth: Stored) -> dict[str, Metric]:
    """The contract's metrics of probabilities (N, K) against class indices (N,); rows whose target is missing do not count."""
    known, y = truth["known"], truth["values"]
    p = prediction.probabilities.numpy().astype(np.float64)
    chosen = prediction.value.numpy()
    k = p.shape[1]
    score = p[:, 1] if k == 2 else p

    def over(f, second: np.ndarray) -> Callable[[np.ndarray], float]:
        def value(index: np.ndarray) -> float:
            index = index[known[index]]
            return f(y[index], second[index])

        return value

    def mean(rows: np.ndarray, better: Literal["higher", "lower"]) -> Metric:
        return Metric.mean(np.where(known, rows, np.nan), better)

    confidence, bins = p.max(1), np.zeros(len(p), np.int64)
    bins[known] = m.equal_mass(confidence[known])  # they stay where they are while an interval leaves rows out
    gap = confidence - (p.argmax(1) == y)
    classes = np.where(known, y, -1)
    return {
        "accuracy": mean(chosen == y, "higher"),
        "balanced_accuracy": Metric(over(m.balanced_accuracy, chosen), of=classes),
        "f1": Metric(over(m.f1, chosen), of=classes),
        "auroc": Metric(over(m.auroc, score), of=classes),
        "average_precision": Metric(over(m.average_precision, score), of=classes),
        "nll": mean(m.nll_rows(y, p), "lower"),
        "brier": mean(m.brier_rows(y, p), "lower"),
        "ece": Metric(lambda rows: m.binned(bins, gap, rows[known[rows]]), better="lower"),
    }


def values_as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole floats lose their point, so that 1.0 and 1 are one name."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type) and pc.all(pc.equal(values, pc.round(values))).as_py():
        values = values.cast(pa.int64())
    return values.cast(pa.string())


def natural_order(name: str) -> tuple[int, float, str]:
    """2 before 10, and names after numbers."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def unseen_labels(values: pa.ChunkedArray, index: np.ndarray, kind: str, setting: str, labels: list[str]) -> None:
    """Refuse rows whose label has no index (-1) though they have one: they must not be dropped in silence."""
    unseen = values.is_valid().to_numpy() & (index < 0)
    if unseen.any():
        names = sorted(set(values_as_text(values).filter(pa.array(unseen)).to_pylist()))
        raise refuse(
            "data.unseen_label",
            f"{int(unseen.sum())} rows have a label that training does not: {', '.join(map(repr, names[:5]))}",
            why="the model has no class for it",
            fix=f"declare all labels ({kind}: {{{setting}: [{', '.join([*labels[:3], '...'])}]}}), or correct or remove those rows",
        )
