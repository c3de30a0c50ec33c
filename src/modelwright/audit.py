"""What is proved. An audit measures and never judges: verdicts come from `registry.gate.decide` alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from .forms import Measurement, Prediction
from .predictor import Predictor

if TYPE_CHECKING:
    from .data.schema import Schema


@dataclass
class Subject:
    """A model under audit, with the data that it is judged on."""

    predictor: Predictor
    schema: Schema
    splits: dict[str, pa.Table]  # train, validation, calibration, test
    slices: list[str] = field(default_factory=list)  # declared: "sex=f"
    level: float = 0.95  # of intervals, corrected for the number of declared limits
    clusters: str | None = None  # column whose values are resampled together
    lineage: dict[str, Any] = field(default_factory=dict)  # data, code, parents, strategies' statements
    baselines: dict[str, Predictor] = field(default_factory=dict)
    seed: int = 0
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
    spec: dict[str, Any]

    def measure(self, subject: Subject) -> list[Measurement]:
        raise NotImplementedError
