"""Cells that stand for missing: -999, 9999, 1900-01-01, "N/A", a zero where none can be.

Rules, not tests of significance, each with its own margin, so that a column that is only odd stays silent: a code is a well-known value that stands in
several rows and far from all others, or the 9 beyond answers from 1 to 5; zero where all others are far from zero; a word for missing
among text, or a sign alone ("-", but not beside "+").
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import floats, is_number, is_text

CODES = [sign * float("9" * k) for k in (2, 3, 4, 5, 6) for sign in (-1, 1)] + [
    sign * x for x in (77.0, 88.0, 97.0, 98.0, 888.0, 8888.0, 777.0, 999.9, 9998.0, 1e9) for sign in (-1, 1)
]
CODES += [1900.0, -1.0, -9.0, -99.9, -1e6, float(2**31 - 1), float(-(2**31))]
MISSING = {
    "n/a", "na", "#n/a", "#na", "#n/d", "n a", "nan", "null", "nil", "unknown", "unk", "blank", "missing", "undefined", "not available", "not applicable",
    "not known", "no data", "not recorded", "not specified", "not stated", "not provided", "tbd", "xxx", "xxxx", "-999", "-9999", "9999", "99999", "-99",
    "#value!", "unbekannt", "keine angabe", "inconnu", "desconocido", "未知", "缺失", "不详", "不明", "不清楚", "未填",
    "暂无", "未提供", "未记录", "未登记", "无数据", "无记录",
}  # fmt: skip
DAYS = ("0001-01-01", "1800-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1970-01-01", "2099-12-31", "2999-12-31", "9999-12-31")


def coded_missing(column: pa.ChunkedArray) -> dict[str, float] | None:
    """{value: its share} of codes for missing, or None."""
    if (days := _days(column)) is not None:
        return _coded_day(days)
    if is_text(column):
        n = len(column)
        counts = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
        found = {c["values"]: c["counts"] / n for c in counts if for_none(c["values"]) and c["counts"] >= 2}
        signs = [v for v in found if not re.search(r"\w", v)]
        if len(signs) > 1 or any(set(c["values"].strip()) == {"+"} for c in counts):  # signs that say something: + and -
            found = {v: share for v, share in found.items() if v not in signs}
        return found if 0 < sum(found.values()) < 1 else None
    if not is_number(column):
        return None
    x = floats(column)
    x = x[np.isfinite(x)]
    if len(x) < 20:
        return None
    found = {}
    values, counts = np.unique(x, return_counts=True)
    often = {v: c for v, c in zip(values.tolist(), counts.tolist(), strict=True) if c >= max(2, 0.001 * len(x))}
    codes = [v for v in often if v in CODES]
    rest = x[~np.isin(x, codes)]
    for v in codes:
        if len(np.unique(rest)) > 10 and _alone(v, rest):
            found[f"{v:g}"] = often[v] / len(x)
    if (v := _no_answer(values, counts)) is not None:
        found[f"{v:g}"] = often[v] / len(x)
    others = x[~np.isin(x, codes) & (x != 0)]
    if 0 < often.get(0.0, 0) < 0.5 * len(x) and len(np.unique(others)) > 20 and (others > 0).all() and _impossible(others):
        found["0"] = often[0.0] / len(x)
    return found or None


def for_none(text: str) -> bool:
    """Whether a cell says that nothing is known: a word for it, in brackets or with dots, or no letter and no digit at all."""
    word = " ".join(unicodedata.normalize("NFKC", text).casefold().translate(str.maketrans("()[]<>.", "       ")).split())
    return word in MISSING or bool(text.strip()) and not re.search(r"\w", text)


def _days(column: pa.ChunkedArray) -> np.ndarray | None:
    """(n,) the days of a column of dates (or of texts that all begin like 2024-01-31), where there are enough; None for any other column."""
    if is_text(column):
        head = column.cast(pa.string()).drop_null()
        if len(head) < 20 or not pc.all(pc.match_substring_regex(head, r"^\d{4}-\d\d-\d\d([ T].*)?$")).as_py():
            return None
        try:
            return np.array([v[:10] for v in head.to_pylist()], "datetime64[D]")
        except ValueError:  # 2024-02-31
            return None
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)) or len(column) - column.null_count < 20:
        return None
    return pc.cast(column.drop_null(), pa.timestamp("s"), safe=False).to_numpy().astype("datetime64[D]")


def _coded_day(days: np.ndarray) -> dict[str, float] | None:
    """Days that stand for none: several times the first or the last, and years from any other."""
    found = {}
    for code in DAYS:
        same, rest = days == np.datetime64(code), days[days != np.datetime64(code)]
        if same.sum() >= 2 and len(np.unique(rest)) > 10:
            before, after = (rest.min() - np.datetime64(code)).astype(int), (np.datetime64(code) - rest.max()).astype(int)
            found |= {code: float(same.mean())} if max(before, after) > 365 else {}
    return found or None


def _alone(v: float, rest: np.ndarray) -> bool:
    """Far from every other value: beyond the extremes by a quarter of the middle 98 %'s range; the one negative value among none counts sooner."""
    low, high = np.quantile(rest, [0.01, 0.99])
    reach = max(high - low, 1e-12)
    if v < 0 <= rest.min():
        return rest.min() - v > min(0.02 * reach, 5) or v <= -9
    return v < rest.min() - 0.25 * reach or v > rest.max() + 0.25 * reach


def _no_answer(values: np.ndarray, counts: np.ndarray) -> float | None:
    """Answers in whole steps from 0 or 1 up to 6 at most, and then 9 (or 99): beyond a gap of two steps or more from a last answer that is no rarity."""
    steps, v = values[:-1], values[-1:]
    if not (3 <= len(steps) <= 7 and steps[0] in (0, 1) and (np.diff(steps) == 1).all()):
        return None
    common = counts.sum() >= 100 and counts[-2] >= 0.04 * counts.sum() and counts[-1] >= max(2, 0.001 * counts.sum())
    return float(v[0]) if common and v[0] in (9, 99) and v[0] - steps[-1] > 2 else None


def _impossible(others: np.ndarray) -> bool:
    """Zero lies 2.5 spreads below the others' median (1.8 where the least of them is far from it), and nothing lies between."""
    q1, mid, q3 = np.quantile(others, [0.25, 0.5, 0.75])
    spread, least = max((q3 - q1) / 1.349, 1e-12), others.min()
    return bool(mid > 2.5 * spread and least > max(0.25 * spread, 0.04 * mid) or mid > 1.8 * spread and least > max(0.5 * spread, 0.2 * mid))
