"""All that audits and services may see of a model: from a table to predictions."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from .forms import Prediction


class Predictor(Protocol):
    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        """One Prediction per target, as many rows as the table. Targets in the table are never looked at."""
        ...
