"""Cells that do not mean what they seem: codes for missing, units that switch, numbers written as text.

Rules, not tests of significance, each with its own margin, so that a column that is only odd stays silent:
- a code is a well-known value (-999, 9999, 1900-01-01, ...) that stands in several rows and far from all others; zero where all others are far from
  zero; a word for missing among text.
- a unit switches where one group's (or split's) values fall on the others' once multiplied by a known factor, and are far from them else.
- a number is written as text where most cells read as one once separators, currency, percent or a unit are taken off.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CODES = [sign * float("9" * k) for k in (2, 3, 4, 5, 6) for sign in (-1, 1)] + [
    sign * x for x in (888.0, 8888.0, 777.0, 999.9, 9998.0, 1e9) for sign in (-1, 1)
]
CODES += [-1.0, -9.0, -77.0, -88.0, -99.9, -1e6, float(2**31 - 1), float(-(2**31))]
MISSING = {
    "n/a", "na", "#n/a", "#na", "nan", "null", "nil", "unknown", "unk", "?", "??", "missing", "undefined", "not available", "not applicable",
    "not known", "no data", "not recorded", "not specified", "-999", "-9999", "9999", "99999", "-99", "#value!",
    "未知", "缺失", "不详", "未填", "暂无", "未提供",
}  # fmt: skip
DAYS = ("0001-01-01", "1800-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1970-01-01", "2099-12-31", "2999-12-31", "9999-12-31")
FACTORS = {
    "10": (10, 0), "100": (100, 0), "1000": (1000, 0), "1e6": (1e6, 0), "2.54 (inch, cm)": (2.54, 0), "25.4 (inch, mm)": (25.4, 0),
    "2.2046 (kg, lb)": (2.20462, 0), "28.35 (oz, g)": (28.3495, 0), "3.281 (m, ft)": (3.28084, 0), "1.609 (mile, km)": (1.60934, 0),
    "3.6 (m/s, km/h)": (3.6, 0), "18.02 (mmol/L, mg/dL of glucose)": (18.018, 0), "38.67 (mmol/L, mg/dL of cholesterol)": (38.67, 0),
    "88.4 (umol/L, mg/dL)": (88.42, 0), "60": (60, 0), "3600": (3600, 0), "24": (24, 0), "12": (12, 0), "7": (7, 0), "365": (365.25, 0),
    "4.184 (kcal, kJ)": (4.184, 0), "3.785 (gallon, l)": (3.78541, 0), "30.48 (ft, cm)": (30.48, 0), "7.5 (kPa, mmHg)": (7.50062, 0),
    "1.8 x + 32 (Celsius, Fahrenheit)": (1.8, 32), "x + 273.15 (Celsius, Kelvin)": (1, 273.15),
}  # fmt: skip
WITHIN = (
    "10",
    "100",
    "1000",
    "2.54 (inch, cm)",
    "25.4 (inch, mm)",
    "2.2046 (kg, lb)",
    "30.48 (ft, cm)",
    "18.02 (mmol/L, mg/dL of glucose)",
    "1.8 x + 32 (Celsius, Fahrenheit)",
    "x + 273.15 (Celsius, Kelvin)",
)  # where no group tells, two humps of one population are no rarity
NUMBER = re.compile(
    r"\s*([$€£¥￥]|USD|EUR|CNY|RMB)?\s*[-+−]?[\d０-９][\d０-９.,'’ \u00a0]*(e[-+]?\d+)?\s*"
    r"([%％‰]|[$€£¥￥元万]|°?[a-zA-Zµμ]{1,5}(/[a-zA-Z]{1,5})?[²³23]?)?\s*",
    re.IGNORECASE,
)


def is_number(column: pa.ChunkedArray) -> bool:
    return pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)


def is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(column, pa.float64(), safe=False).to_numpy()


def coded_missing(column: pa.ChunkedArray) -> dict[str, float] | None:
    """{value: its share} of codes for missing, or None."""
    if (days := _days(column)) is not None:
        return _coded_day(days)
    if is_text(column):
        n = len(column)
        counts = pc.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
        found = {c["values"]: c["counts"] / n for c in counts if c["values"].strip().lower() in MISSING and c["counts"] >= 2}
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
    others = x[~np.isin(x, codes) & (x != 0)]
    if 0 < often.get(0.0, 0) < 0.5 * len(x) and len(np.unique(others)) > 20 and (others > 0).all() and _impossible(others):
        found["0"] = often[0.0] / len(x)
    return found or None


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


def _impossible(others: np.ndarray) -> bool:
    """Zero lies 2.5 spreads below the others' median, and nothing lies between."""
    q1, mid, q3 = np.quantile(others, [0.25, 0.5, 0.75])
    spread = max((q3 - q1) / 1.349, 1e-12)
    return mid / spread > 2.5 and others.min() > 0.25 * spread and others.min() > 0.04 * mid


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two sorted samples."""
    both = np.concatenate([a, b])
    return float(np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max())


def _spread(x: np.ndarray) -> float:
    low, high = np.quantile(x, [0.25, 0.75])
    return max((high - low) / 1.349, 1e-12)


def _switch(a: np.ndarray, b: np.ndarray, known: tuple[str, ...] = tuple(FACTORS), strict: float = 1.0) -> str | None:
    """The factor by which a (in one unit) turns into b, or None. Values far apart as they stand, on each other once converted."""
    if min(len(a), len(b)) < 8 or min(len(np.unique(a)), len(np.unique(b))) < 6:
        return None
    if abs(np.median(a) - np.median(b)) < 2 * min(_spread(a), _spread(b)):
        return None
    a, b = np.sort(a), np.sort(b)
    before, noise, found = _apart(a, b), 1.5 * np.sqrt((len(a) + len(b)) / (len(a) * len(b))), []
    for name in known:
        times, plus = FACTORS[name]
        small = 1 < times < 5  # groups may differ so by nature: a closer fit is asked
        for x, y, way in ((a, b, "x"), (b, a, "/")):
            if before < (0.8 if small else 0.4):
                continue
            after = _apart(x * times + plus, y)
            middle = abs(np.median(x) * times + plus - np.median(y)) / _spread(y)
            wider = abs(np.log(_spread(x) * times / _spread(y)))
            if after < min(((0.04 if small else 0.12) + noise) * strict, before - 0.4) and middle < 0.5 * strict and wider < 1.0 * strict:
                found.append((after, f"{way} {name}"))
    return min(found)[1] if found else None


def unit_switch(x: np.ndarray, groups: dict[str, np.ndarray]) -> str | None:
    """Where the unit of x (N,) switches: by a grouping {name: (N,) text codes, -1 none}, or within the column; None where it does not."""
    known = np.isfinite(x)
    for name, group in groups.items():
        for g in np.unique(group[group >= 0]):
            factor = _switch(x[known & (group != g)], x[known & (group == g)])
            if factor:
                return f"by {name}: {factor}"
    x = np.sort(x[known & (x > 0)])
    if len(x) < 40 or len(x) < 0.9 * known.sum() or len(np.unique(x)) < 30:
        return None
    gaps = np.diff(np.log(x))
    inner = slice(max(8, int(0.02 * len(x))), len(x) - max(8, int(0.02 * len(x))))
    cut = int(np.argmax(gaps[inner])) + inner.start + 1 if len(gaps[inner]) else 0
    if cut and gaps[cut - 1] > 0.15 and gaps[cut - 1] > 3 * np.sort(gaps[inner])[-2:][0]:
        factor = _switch(x[:cut], x[cut:], WITHIN, 0.7)
        if factor:
            return f"within the column, {min(cut, len(x) - cut)} rows: {factor}"
    return None


def number_format(column: pa.ChunkedArray) -> str | None:
    """How numbers are written where they are written as text; None where the column is no such."""
    if not is_text(column):
        return None
    cells = [c for c in column.cast(pa.string()).drop_null().to_pylist() if c.strip() and c.strip().lower() not in MISSING]
    if len(cells) < 20 or len(set(cells)) < 8:
        return None
    read = [NUMBER.fullmatch(c) is not None for c in cells]
    units = {m[0].lower() for c in cells if (m := re.search(r"[a-zA-Zµμ]+\W*$", c))}
    if sum(read) < 0.8 * len(cells) or len(units) > 6:  # 12a, 7b, 3c: names of things
        return None
    plain = [bool(re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", c, re.IGNORECASE | re.ASCII)) for c in cells]
    dressed = [c for c, r, p in zip(cells, read, plain, strict=True) if r and not p]
    if len(dressed) < max(2, 0.01 * len(cells)):
        return None
    kinds = {
        "a comma or point between digits": any(re.search(r"\d[,'’ \u00a0]\d", c) or c.count(".") > 1 for c in dressed),
        "a currency": any(re.search(r"[$€£¥￥元万]|USD|EUR|CNY|RMB", c) for c in dressed),
        "a percent sign": any(re.search(r"[%％‰]", c) for c in dressed),
        "a unit": any(re.search(r"\d\s*°?[a-zA-Zµμ]", c) for c in dressed),
        "wide digits": any(re.search(r"[０-９]", c) for c in dressed),
    }
    mixed = "; some cells are plain" if any(plain) else ""
    return f"{len(dressed)} of {len(cells)} cells: " + (", ".join(k for k, v in kinds.items() if v) or "written otherwise") + mixed
