"""The return that a policy expects from here on: a target that no table holds; rollouts compute it.

In units of `scale_`, the standard deviation of the returns that rollouts have seen, so that the loss is of one size in every environment.
"""

from __future__ import annotations

import numpy as np

from .. import metrics as m
from ..forms import Prediction
from ..kind import Kind, Metric, Stored


class Value(Kind):
    head = "value"
    primary = "rmse"
    measures = frozenset({"rmse"})

    def __init__(self):
        self.scale_ = 1.0

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        y, said = (x * self.scale_ for x in (truth["values"], prediction.value.numpy()))
        return {"rmse": Metric(lambda index: m.rmse(*(x[index[truth["known"][index]]] for x in (y, said))), better="lower")}

    def answer(self, name: str, prediction: Prediction) -> dict:
        return {name: list(prediction.value.numpy().astype(np.float64) * self.scale_)}

    def describe(self) -> str:
        return f"in units of {self.scale_:.3g}"
