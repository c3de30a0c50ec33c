"""Numbers and text as people read them, the same in the report, the card and the plots."""

from __future__ import annotations

import math
import unicodedata
from numbers import Integral, Real
from typing import Any

LOWER = {"nll", "brier", "ece", "rmse", "mae", "quantile_loss", "loss"}


def lower_is_better(metric: str) -> bool:
    name = metric.rsplit(".", 1)[-1]
    return name in LOWER or name.endswith(("_difference", "_error", "_rate", "_mb", "_ms")) and name != "success_rate"


def finite(x: Any) -> bool:
    return isinstance(x, Real) and math.isfinite(x)


def number(x: Any) -> str:
    """0.9812, 1,140, 1.2e-05; a dash for what is not a number."""
    if isinstance(x, bool) or x is not None and not isinstance(x, Real):
        return clean(x, 40)
    if x is None or math.isnan(x):
        return "–"
    if isinstance(x, Integral) or math.isinf(x) or x == 0 or 10 <= abs(x) < 1e6 and x == int(x):
        x = x if math.isinf(x) else int(x)
        return f"{x:,}".replace("inf", "∞")
    if x != 0 and not 1e-3 <= abs(x) < 1e6:
        return f"{x:.2e}"
    return f"{x:,.4f}" if abs(x) < 10 else f"{x:,.1f}"


def interval(low: Any, high: Any) -> str:
    """[0.81, 0.9]; `exact` where both ends are one: a count, a size."""
    return "–" if low is None and high is None else "exact" if low == high else f"[{number(low)}, {number(high)}]"


def seconds(x: Any) -> str:
    if not finite(x):
        return "–"
    if x < 60:
        return f"{x:.1f} s"
    minutes = round(x / 60)
    return f"{x / 60:.1f} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(x: Any) -> str:
    return "–" if not finite(x) else f"{x:,.0f} MB" if x < 10_000 else f"{x / 1000:,.1f} GB"


def clean(x: Any, longest: int = 120) -> str:
    """One line of text without control, bidirectional-override or unpaired surrogate characters, cut at `longest`."""
    text = x if isinstance(x, str) else str(x)
    text = "".join(" " if c.isspace() else c for c in text[: 4 * longest] if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs", "Cf"))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
