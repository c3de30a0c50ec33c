"""A table's function whose every number is counted in standard deviations, so that an epsilon means the same whatever a task says of scales."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor


class InSpreads:
    """See `predictor.Opened`; unit (F,): how much of what the model reads is 1."""

    def __init__(self, opened, unit: Tensor):
        self.opened, self.unit, self.names = opened, unit, opened.names
        self.x = opened.x / unit

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        return self.opened.logits(x * self.unit.to(x.dtype), rows)

    def features(self, x: Tensor, rows: Tensor) -> Tensor | None:
        return self.opened.features(x * self.unit.to(x.dtype), rows)


def in_spreads(opened, schema, table: pa.Table):
    """The same where kinds standardise; numbers that are taken as they stand (`scale: false`) are counted in their spread over the table."""
    raw = [getattr(schema.inputs[n], "scale", True) is False for n in opened.names]
    if not any(raw):
        return opened
    unit = [spread(table.column(n)) if as_it_stands else 1.0 for n, as_it_stands in zip(opened.names, raw)]
    return InSpreads(opened, torch.tensor(unit))


def spread(column: pa.ChunkedArray) -> float:
    x = pc.cast(column, pa.float64(), safe=False).to_numpy()
    x = x[np.isfinite(x)]
    return float(x.std()) or 1.0 if len(x) else 1.0
