"""Units that switch: one group's (or split's, or hump's) values fall on the others' once multiplied by a known factor, and are far from them else."""

from __future__ import annotations

import numpy as np

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


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two sorted samples."""
    both = np.concatenate([a, b])
    return float(np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max())


def _at(x: np.ndarray, share: float) -> float:
    """A quantile of sorted values."""
    place = share * (len(x) - 1)
    low = int(place)
    return float(x[low] + (place - low) * (x[min(low + 1, len(x) - 1)] - x[low]))


def _spread(x: np.ndarray) -> float:
    return max((_at(x, 0.75) - _at(x, 0.25)) / 1.349, 1e-12)


def _switch(a: np.ndarray, b: np.ndarray, known: tuple[str, ...] = tuple(FACTORS), strict: float = 1.0) -> str | None:
    """The factor by which a (in one unit) turns into b, both sorted, or None. Values far apart as they stand, on each other once converted."""
    if min(len(a), len(b)) < 8 or abs(_at(a, 0.5) - _at(b, 0.5)) < 2 * min(_spread(a), _spread(b)):
        return None
    if min((np.diff(a) > 0).sum(), (np.diff(b) > 0).sum()) < 5:
        return None
    before, noise, found = _apart(a, b), 1.5 * np.sqrt((len(a) + len(b)) / (len(a) * len(b))), []
    for name in known:
        times, plus = FACTORS[name]
        small = 1 < times < 5 and (plus == 0 or before < 0.95)  # groups may differ so by nature: a closer fit is asked
        for x, y, way in ((a, b, "x"), (b, a, "/")):
            if before < (0.8 if small else 0.7):  # accounts that are used and accounts that are not lie tenfold apart, too, but mingle
                continue
            after = _apart(x * times + plus, y)
            middle = abs(_at(x, 0.5) * times + plus - _at(y, 0.5)) / _spread(y)
            wider = abs(np.log(_spread(x) * times / _spread(y)))
            if after < min(((0.04 if small else 0.12) + noise) * strict, before - 0.4) and middle < 0.5 * strict and wider < 1.0 * strict:
                found.append((after, f"{way} {name}"))
    return min(found)[1] if found else None


def since(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(N,) 0 before and 1 from the moment on at which x (N,) changed most, -1 where either is missing: where the sum of ranks less their mean strays
    farthest (Pettitt 1979). t (N,): when each was. Nine fixed moments leave up to a twentieth of the rows on the wrong side."""
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(t))
    found = np.full(len(x), -1)
    if len(there) < 16:
        return found
    rows = there[np.argsort(t[there], kind="stable")]
    rank = np.empty(len(rows))
    rank[np.argsort(x[rows], kind="stable")] = np.arange(len(rows))
    strays = np.abs(np.cumsum(rank - rank.mean()))[:-1]
    last = int(np.where(np.diff(t[rows]) > 0, strays, -1.0).argmax())  # of before; one moment is not cut
    found[rows] = np.arange(len(rows)) > last
    return found


def _running(x: np.ndarray) -> bool:
    """Whether x (N,) numbers the rows: whole, each once, and rising or evenly spread. Its years lie manifold apart, too, and it has no unit."""
    if len(x) < 2 or (x != np.round(x)).any() or len(np.unique(x)) < len(x):
        return False
    even = np.abs((np.sort(x) - x.min()) / np.ptp(x) - np.linspace(0, 1, len(x))).max()
    return bool((np.diff(x) > 0).all() or even < 0.02 + 1.5 / np.sqrt(len(x)))


def unit_switch(x: np.ndarray, groups: dict[str, np.ndarray]) -> str | None:
    """Where the unit of x (N,) switches: by a grouping {name: (N,) numbers of names, -1 none}, or within the column; None where it does not."""
    if _running(x[np.isfinite(x)]):
        return None
    order = np.argsort(x, kind="stable")[: int(np.isfinite(x).sum())]  # NaN stand last
    x = x[order]
    for name, group in groups.items():
        of = group[order]
        for g, many in enumerate(np.bincount(of[of >= 0])):
            if min(many, len(x) - many) >= 8 and (factor := _switch(x[of != g], x[of == g])):
                return f"by {name}: {factor}"
    whole, x = len(x), x[x > 0]
    if len(x) < 40 or len(x) < 0.9 * whole or (np.diff(x) > 0).sum() < 29:
        return None
    gaps = np.diff(np.log(x))
    inner = slice(max(8, int(0.02 * len(x))), len(x) - max(8, int(0.02 * len(x))))
    cut = int(np.argmax(gaps[inner])) + inner.start + 1 if len(gaps[inner]) else 0
    if cut and gaps[cut - 1] > 0.15 and gaps[cut - 1] > 3 * np.sort(gaps[inner])[-2:][0]:
        factor = _switch(x[:cut], x[cut:], WITHIN, 0.7)
        if factor:
            return f"within the column, {min(cut, len(x) - cut)} rows: {factor}"
    return None


def degrees(x: np.ndarray, groups: dict[str, np.ndarray], like: dict[str, np.ndarray], least: int = 12) -> str | None:
    """Where x (N,) switches between Celsius and Fahrenheit although a year's ranges overlap in the two: of two names of a grouping, as in `unit_switch`, the
    medians of one are 1.8 times those of the other plus 32 from month to month (or from name to name of another grouping, in `like`), with spreads 1.8 times
    as wide, and far from them as they stand. At least three months must say so that differ more than their days do; the others are alike as they stand, as
    before a day within a year. Weather and places differ, too, but not by that slope and that intercept. least: rows of a name in a month that count."""
    there = np.isfinite(x)
    if len(np.unique(x[there])) < 20 or np.quantile(x[there], 0.01) < -90 or np.quantile(x[there], 0.99) > 250:
        return None
    for name, group in groups.items():
        for other, stratum in like.items():
            if other != name and (found := _degrees(x, group, stratum, there & (group >= 0) & (stratum >= 0), least)):
                return f"by {name}, within {found} of {other}: 1.8 x + 32 (Celsius, Fahrenheit)"
    return None


def _degrees(x: np.ndarray, group: np.ndarray, stratum: np.ndarray, there: np.ndarray, least: int) -> str | None:
    """How many strata say so, "10 of 12"."""
    names, strata = int(group.max(initial=0)) + 1, int(stratum.max(initial=0)) + 1
    cell, x = (group * strata + stratum)[there], x[there]
    many = np.bincount(cell, minlength=names * strata)
    enough = (many >= least).reshape(names, strata)
    if (enough.sum(0) > 1).sum() < 3:
        return None
    x, first, last = x[np.lexsort([x, cell])], np.cumsum(many) - many, np.maximum(many - 1, 0)
    low, middle, high = (x[np.minimum(first + (share * last).astype(int), len(x) - 1)].reshape(names, strata) for share in (0.25, 0.5, 0.75))
    spread, one = np.maximum((high - low) / 1.349, 1e-12), 1 / np.maximum(many, 1).reshape(names, strata)
    for a in range(names):  # in Celsius; all others at once
        known, noise = enough[a] & enough, np.sqrt(one[a] + one)
        off, wide = np.abs(middle - middle[a]), np.maximum(spread[a], spread)
        miss, wider = np.abs(middle[a] * 1.8 + 32 - middle), np.log(spread / (1.8 * spread[a]))
        turned = known & (off > 2 * wide) & (np.abs(wider) < 0.4 + 2 * noise) & (3 * miss < off)
        neither = known & ~turned & (off > 1.5 * wide)
        for b in np.flatnonzero((turned.sum(1) >= 3) & (neither.sum(1) <= 0.15 * known.sum(1))):
            of = turned[b]
            at, to, days, missed = middle[a][of], middle[b][of], np.median(spread[a][of]), np.median((miss[b] / spread[b])[of])
            line = np.ptp(at) > 2 * days and abs(np.polyfit(at, to, 1)[0] / 1.8 - 1) < 0.12
            if line and abs(np.median(wider[b][of])) < 0.2 and missed < (0.75 if of.sum() < 6 else 1.8):  # many months: one place may be warmer
                return f"{of.sum()} of {known[b].sum()}"
    return None
