"""Celsius and Fahrenheit share a year's range: what tells is the map from month to month, and no season, place or warmer year is one."""

import numpy as np
import pytest

from modelwright.checks.moments import calendar
from modelwright.checks.units import degrees, unit_switch


def weather(seed=0, n=3000, sites=3):
    """day, month, year, site and Celsius (N,) of three years, each warmer than the last, the sites some degrees apart."""
    rng = np.random.default_rng(seed)
    day, site = rng.integers(0, 1096, n), rng.integers(0, sites, n)
    of = calendar((day + 18_628) * 86_400.0)  # from 2021-01-01 on
    x = 11 - 14 * np.cos(2 * np.pi * (day - 20) / 365) + rng.normal(0, 3.5, n) + 3.0 * site + 1.5 * of["year"]
    return rng, of["month"], of["year"], site, np.round(x, 1)


@pytest.mark.parametrize("where", ["test", "test after May", "site", "from a month on"])
def test_a_switch_that_the_seasons_hide_is_found_and_the_seasons_are_none(where):
    rng, month, year, site, x = weather()
    test = rng.integers(0, 4, len(x)) == 0
    other = {"test": test, "test after May": test & (month > 4), "site": site == 2, "from a month on": 12 * year + month > 16}[where]
    like = {"year": year, "month": month, "site": site}
    groups = {"split": test * 1} | {f"split and {n}": c + test * (c.max() + 1) for n, c in like.items()}
    switched = np.where(other, 1.8 * x + 32, x)
    assert "Celsius" in degrees(switched, groups, like)
    switched[::7] = np.nan
    assert "Celsius" in degrees(switched, groups, like)
    assert degrees(x, groups, like) is None
    for natural in (x * 1.8, x + 32, 10 * np.where(other, 1.8 * x + 32, x), np.where(other, x + 20, x), np.where(other, 1.8 * x, x), np.full(len(x), np.nan)):
        assert degrees(natural, groups, like) is None


def test_a_number_of_the_row_has_no_unit():
    number = np.arange(1.0, 7001)
    first = {"year": (number <= 1000) * 1}
    assert "7" in unit_switch(number + 0.5, first), "so would a measurement"
    for rows in (np.arange(len(number)), np.random.default_rng(1).permutation(len(number)), np.r_[0:4000:3, 4000:7000]):
        assert unit_switch(number[rows], {"year": first["year"][rows]}) is None
    heights = np.random.default_rng(2).permutation(np.arange(1500, 1900))
    assert "10" in unit_switch(np.where(np.arange(400) < 150, heights * 10.0, heights), {"site": (np.arange(400) < 150) * 1})


def test_a_calendar_is_of_whole_years_and_months():
    t = np.array(["2023-12-31T23:59:59", "2024-01-01", "2025-06-30", "NaT"], "datetime64[s]")
    found = calendar(np.where(np.isnat(t), np.nan, t.astype(np.int64)))
    assert found["year"].tolist() == [0, 1, 2, -1] and found["month"].tolist() == [11, 0, 5, -1]
    assert [*calendar(np.array([0.0, 2e9]))] == ["month"] and calendar(np.array([np.nan]))["year"].tolist() == [-1]
