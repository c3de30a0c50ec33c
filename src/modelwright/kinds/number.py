"""A number; standardised by the training split, heavy tails by their logarithm.

As an input: (x - mean) / sd after sign(x) log(1 + |x|) where that brings the percentiles nearer to symmetry (skewed amounts). Missing is NaN here and
its own learned value in the encoder. As a target: standardised, reported in the column's own units.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from .. import metrics as m
from ..errors import refuse
from ..forms import Prediction
from ..kind import Kind, Metric, Profile, Stored

BINS = 128  # an encoder may take fewer
HUGE_32 = 1e30  # within single precision
HUGE = 1e100  # beyond it sums and squares overflow


class Number(Kind):
    place = "number"
    form = "table"
    head = "regression"
    primary = "rmse"

    def __init__(self, scale: bool = True, tolerance: float | None = None):
        """scale: False: values are taken as they are. tolerance: as a target, by how much an answer may be off and be right, in the column's own units:
        then there is a share `within` it, which slices and corruptions are measured by."""
        if tolerance is not None and not 0 < tolerance < float("inf"):
            raise ValueError(f"tolerance ({tolerance}) must be above 0")
        self.scale, self.tolerance = scale, tolerance
        self.credit = None if tolerance is None else "within"
        self.measures = frozenset({"rmse", "mae", "r2", "coverage"} | ({"within"} if self.credit else set()))

    @classmethod
    def guess(cls, column: Profile) -> float:
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
        return 0.6 if numeric else 0.0

    def fit(self, values: pa.ChunkedArray) -> None:
        x = floats(values)
        x = x[np.isfinite(x)]
        ordered = np.sort(x)
        huge = len(x) > 0 and max(-ordered[0], ordered[-1]) > HUGE
        self.log_ = bool(self.scale and len(x) and (huge or _skew(np.sign(ordered) * np.log1p(np.abs(ordered))) + 0.5 < _skew(ordered)))
        x = self._bend(x)
        self.mean_ = float(x.mean()) if self.scale and len(x) else 0.0
        sd = float(x.std()) if self.scale and len(x) else 0.0
        self.sd_ = sd if sd > 1e-12 * max(1.0, abs(self.mean_)) else 1.0
        self.constant_ = bool(len(x) == 0 or x.min() == x.max())
        self.bins_ = [edges(self._scaled(x))]

    def _bend(self, x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.log1p(np.abs(x)) if self.log_ else x

    def _scaled(self, bent: np.ndarray) -> np.ndarray:
        x = (bent - self.mean_) / self.sd_
        return (np.clip(x, -20, 20) if self.scale else np.clip(x, -HUGE_32, HUGE_32)).astype(np.float32)  # a slip of a thousandfold must not blow up a layer

    def encode(self, values: pa.ChunkedArray) -> Stored:
        x = floats(values)
        known = np.isfinite(x)
        return {"values": np.where(known, self._scaled(self._bend(np.where(known, x, 0.0))), np.nan)[:, None]}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        x = floats(values)
        known = np.isfinite(x)
        z = (self._bend(np.where(known, x, 0.0)) - self.mean_) / self.sd_
        return {"values": np.where(known, z, 0).astype(np.float32), "known": known}

    def real(self, z: np.ndarray) -> np.ndarray:
        """Standardised values in the column's own units."""
        x = np.asarray(z, np.float64) * self.sd_ + self.mean_
        return np.sign(x) * np.expm1(np.abs(x)) if self.log_ else x

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        y = np.where(truth["known"], self.real(truth["values"]), np.nan)
        p = self.real(prediction.value.numpy())
        error = p - y

        def over(f):
            return lambda index: f(*(a[index][~np.isnan(y[index])] for a in (y, p)))

        found = {
            "rmse": Metric(over(m.rmse), better="lower"),
            "mae": Metric.mean(np.abs(error), "lower"),
            "r2": Metric(over(m.r2)),
        }
        if self.tolerance is not None:
            found["within"] = Metric.mean(np.where(np.isnan(error), np.nan, np.abs(error) <= self.tolerance))
        if prediction.quantiles is not None:
            q = self.real(prediction.quantiles.numpy())
            found["coverage"] = Metric.mean(np.where(np.isnan(y), np.nan, (y >= q[:, 0]) & (y <= q[:, -1])))
        return found

    def read(self, out: np.ndarray) -> Prediction:
        """(B,) or (B, 1), in the column's own units."""
        if out.dtype.kind == "U":
            return super().read(out)
        if out.ndim > 2 or (out.ndim == 2 and out.shape[1] != 1):
            raise refuse("model.output", f"shape {out.shape} for a number", fix="give (B,) or (B, 1)")
        return Prediction(value=torch.from_numpy(self.encode_target(pa.chunked_array([pa.array(out.reshape(-1))]))["values"]))

    def answer(self, name: str, prediction: Prediction) -> dict:
        columns = {name: self.real(prediction.value.numpy())}
        if prediction.quantiles is not None:
            q = self.real(prediction.quantiles.numpy())
            columns |= {f"{name}.low": q[:, 0], f"{name}.high": q[:, -1]}
        return columns

    def describe(self) -> str:
        if self.constant_:
            return "constant"
        return ("log, " if self.log_ else "") + f"mean {self.real(np.array(0.0)):.4g}, sd {self.sd_:.3g}"


def edges(x: np.ndarray) -> list[float]:
    """Rising edges of at most BINS bins: every value where there are few, else quantiles of the distinct values; none for a constant.

    Of the distinct values, not of all rows as in Gorishniy et al. 2022, section 3.2.1: where most rows are 0, the few others may be what tells."""
    distinct = np.unique(x)
    if len(distinct) > BINS + 1:
        distinct = np.unique(np.quantile(distinct, np.linspace(0, 1, BINS + 1)).astype(np.float32))
    return [float(f"{v:.9g}") for v in distinct.tolist()] if len(distinct) > 1 else []  # nine digits: the same in 32 bits, and short in JSON


def floats(values: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64, NaN where missing or not a number."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        x = np.array([_float(v) for v in values.to_pylist()])
        strange = values.filter(pa.array(np.isnan(x))).drop_null().to_pylist()
        strange = [v for v in strange if v.strip().lower() not in ("", "nan")]
        if strange:
            what = f"{len(strange)} of {len(x)} values in a number column are no numbers: {', '.join(map(repr, strange[:3]))}"
            why = "read as missing they would change predictions in silence"
            raise refuse("data.not_number", what, why=why, fix="correct them, or leave those cells empty")
        return x
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan)
    return pc.cast(values, pa.float64(), safe=False).to_numpy()


def _float(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")


def _skew(x: np.ndarray) -> float:
    """Robust: how far the 1st and 99th percentiles of rising values are from symmetric about the median, in units of the quartiles' distance."""
    place = np.array([0.01, 0.25, 0.5, 0.75, 0.99]) * (len(x) - 1)
    below = place.astype(np.int64)  # np.percentile of a few hundred values takes ten times as long, and wide tables have thousands of columns
    low, q1, mid, q3, high = x[below] + (x[np.minimum(below + 1, len(x) - 1)] - x[below]) * (place - below)
    return abs((high - mid) - (mid - low)) / max(q3 - q1, 1e-12 * max(1.0, abs(mid)), 1e-9)
