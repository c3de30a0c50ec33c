"""What is proved. An audit measures and never judges: verdicts come from `registry.gate.decide` alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import find
from .errors import did_you_mean, refuse
from .forms import Measurement, Prediction
from .kind import Metric
from .predictor import Opened, Predictor

if TYPE_CHECKING:
    from .data.schema import Schema


@dataclass
class Subject:
    """A model under audit, with the data that it is judged on."""

    predictor: Predictor
    schema: Schema
    splits: dict[str, pa.Table]  # test, and where there are any train, validation, calibration; reference, ood, trusted
    slices: list[str] = field(default_factory=list)  # declared: "sex=f"
    level: float = 0.95  # of intervals, corrected for the number of declared limits
    clusters: str | None = None  # column whose values are resampled together
    lineage: dict[str, Any] = field(default_factory=dict)  # data, code, parents, strategies' statements
    baselines: dict[str, Predictor] = field(default_factory=dict)
    seed: int = 0
    open: Callable[[str, pa.Table], Opened | None] | None = None  # (target, table) -> the model with gradients, where it can be had
    retrain: Callable[[pa.Table, int], Predictor] | None = None  # the same recipe on other rows, with a seed
    retrain_seconds: float = 0.0  # what the same on the training rows took; 0: not known
    seconds: float | None = None  # an audit that could take longer stops by then, and says what was not shown
    trainer: Any = None  # of a private training from elsewhere (`trainer.Trainer`); lineage["statement"] is what is said of it
    play: Callable[[str, int], np.ndarray] | None = None  # of a policy: ("model" or "random", episodes) -> returns (E,)
    explainers: dict[str, Callable[..., Any]] = field(default_factory=dict)  # explain(x -> logits, x, classes, baseline) -> like x
    _seen: dict[tuple[str, str], dict[str, Prediction]] = field(default_factory=dict)

    def predict(self, split: str, who: str = "model") -> dict[str, Prediction]:
        """Predictions on a split, made once. who: "model" or a baseline's name."""
        if (split, who) not in self._seen:
            predictor = self.predictor if who == "model" else self.baselines[who]
            self._seen[split, who] = predictor.predict(self.splits[split])
        return self._seen[split, who]

    def clusters_of(self, split: str) -> np.ndarray | None:
        """(N,) cluster numbers, or None where every row stands alone."""
        if self.clusters is None:
            return None
        return self.splits[split].column(self.clusters).combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)


class Audit:
    is_component: ClassVar[bool] = True
    clocked: ClassVar[bool] = False  # its figures are readings of a clock, which no two runs share
    costly: ClassVar[str | None] = None  # its area, if it takes seconds: a run then measures it only where a limit is of that area, an audit always
    spec: dict[str, Any]

    def measure(self, subject: Subject) -> list[Measurement]:
        raise NotImplementedError


def due(areas: set[str]) -> list[str]:
    """The audits of a run: all but the costly ones whose area no limit is of."""
    costly = {name: find.find("audits", name).costly for name in find.names("audits")}
    return [name for name, area in costly.items() if area is None or area in areas]


def metrics_of(subject: Subject, split: str, target: str, who: str = "model") -> dict[str, Metric]:
    """The target kind's metrics of a predictor on a split."""
    kind = subject.schema.targets[target]
    truth = kind.encode_target(kind.column(subject.splits[split], target))
    return kind.metrics(subject.predict(split, who)[target], truth)


def rows_of(table: pa.Table, slice: str) -> np.ndarray:
    """(N,) bool: the rows of a slice: `column=value` or `column>value` (also >=, <, <=), joined by ` & `. A missing value is in no slice."""
    inside = np.ones(table.num_rows, bool)
    for part in slice.split(" & "):
        match = re.fullmatch(r"(.+?)(>=|<=|=|>|<)(.*)", part.strip())
        if match is None or match[1].strip() not in table.column_names:
            fix = did_you_mean(match[1].strip(), table.column_names) if match else "write column=value"
            raise refuse("slice.form", f"{part!r} names no slice of this table", where="audit", fix=fix)
        column, op, value = table.column(match[1].strip()), match[2], match[3].strip()
        if op == "=":
            found = pc.equal(column.cast(pa.string()), value)
            if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
                found = pc.equal(pc.cast(column, pa.float64(), safe=False), _number(value, part))
        else:
            compare = {">": pc.greater, ">=": pc.greater_equal, "<": pc.less, "<=": pc.less_equal}[op]
            found = compare(pc.cast(column, pa.float64(), safe=False), _number(value, part))
        inside &= pc.fill_null(found, False).to_numpy()
    return inside


def _number(text: str, part: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise refuse("slice.form", f"{part!r}: {text!r} is not a number", where="audit", fix="compare a number column with a number") from e
