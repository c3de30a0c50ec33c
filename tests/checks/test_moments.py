"""How long after another moment: read from times, days and texts alike; and it is asked as a column is."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks.columns import cells
from modelwright.checks.moments import moments, overlap, parts, spans


@pytest.mark.parametrize("kind", ["time", "day", "text"])
def test_days_between(kind):
    rng = np.random.default_rng(0)
    a = np.datetime64("2020-01-01") + rng.integers(0, 900, 50).astype("timedelta64[D]")
    b = a + (days := rng.integers(0, 60, 50)).astype("timedelta64[D]")
    write = {"time": lambda v: v.astype("datetime64[s]"), "day": lambda v: v, "text": lambda v: [str(d) for d in v]}[kind]
    table = pa.table({"came": pa.array(write(a)), "went": pa.array(write(b)), "age": rng.integers(0, 90, 50)})
    found = spans(table, ["came", "went", "age"])
    assert list(found) == ["went - came"] and found["went - came"].to_pylist() == days.tolist()
    when, names = cells(table.column("came"))
    assert not names and (np.diff(when[np.argsort(a)]) >= 0).all()


def test_a_gap_stays_a_gap_and_text_that_is_no_date_is_none():
    table = pa.table({"a": ["2020-01-01", None], "b": ["2020-01-03", "2020-01-04"], "c": ["2020-13-45", "x"]})
    assert spans(table, ["a", "b"])["b - a"].to_pylist() == [2.0, None]
    assert moments(table.column("c")) is None and moments(pa.chunked_array([["a-1", "b-2"]])) is None


def test_test_rows_before_the_end_of_training():
    train, test = pa.table({"day": ["2020-01-01", "2020-03-01"], "y": [1, 2]}), pa.table({"day": ["2020-02-01", "2020-04-01"], "y": [1, 2]})
    hits, ends = overlap(train, test, {"y"})
    assert hits["day"].tolist() == [True, False] and ends == {"day": "2020-03-01"}


def test_parts_of_a_time_are_those_of_the_calendar():
    day = np.datetime64("2024-02-29T23:59:58") + np.arange(0, 10**6, 7919).astype("timedelta64[s]")
    found = parts(pa.chunked_array([day.astype("datetime64[s]")]))
    assert [int(float(v)) for v in found["second"]] == [d.second for d in day.tolist()]
    assert [int(float(v)) for v in found["hour"]] == [d.hour for d in day.tolist()]
    assert list(parts(pa.chunked_array([day.astype("datetime64[D]")]))) == ["weekday"] and parts(pa.chunked_array([["a", "b"]])) == {}


@pytest.mark.parametrize("form", ["%Y%m%d", "%d.%m.%Y", "%Y/%m/%d", "%Y年%m月%d日", "%d/%m/%Y", "%m/%d/%Y"])
def test_days_are_read_as_they_are_written(form):
    days = np.datetime64("2023-01-25") + np.arange(40)
    cells = [d.strftime(form) for d in days.astype(object)]
    column = pa.chunked_array([pa.array([int(c) for c in cells]) if form == "%Y%m%d" else pa.array(cells)])
    assert (moments(column) == days.astype("datetime64[s]").astype(float)).all()


def test_what_has_two_readings_or_is_no_day_is_no_time():
    for written in (["03/04/2024"] * 30, ["31.02.2024"] * 30, list(range(20230100, 20230140)), list(range(20001001, 20001020)), ["1.2.3"] * 30):
        assert moments(pa.chunked_array([pa.array(written)])) is None
