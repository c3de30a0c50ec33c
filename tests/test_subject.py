"""Rows of slices and of groups, by hand."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

import modelwright as mw
from modelwright.errors import Refusal
from modelwright.forms import clauses
from modelwright.registry.gate import normal_slice
from modelwright.subject import groups_of, rows_of

TABLE = pa.table({"sex": ["f", None, "m", "f"], "dose": pa.array([1.0, None, 3.0, 2.0]), "note": ["a", "", None, "头痛三天"]})


def test_empty_cells_and_lengths_are_slices():
    assert rows_of(TABLE, "sex=").tolist() == [False, True, False, False]
    assert rows_of(TABLE, "dose=").tolist() == [False, True, False, False]
    assert rows_of(TABLE, "note=").tolist() == [False, True, True, False]
    assert rows_of(TABLE, "len(note)>1 & dose<=2").tolist() == [False, False, False, True]  # four characters, not twelve bytes
    times = pa.table({"at": pa.array([datetime(2024, 1, 1, 3), datetime(2024, 1, 7, 15), None])})  # a Monday, a Sunday
    assert rows_of(times, "hour(at)<=4").tolist() == [True, False, False] and rows_of(times, "weekday(at)=6").tolist() == [False, True, False]
    with pytest.raises(Refusal):
        rows_of(TABLE, "len(nothing)>1")


def test_groups_are_values_together_and_those_who_did_not_say():
    group, names = groups_of(TABLE, ["sex"], least=1)
    assert names == ["sex=", "sex=f", "sex=m"] and group.tolist() == [1, 0, 2, 1]
    group, names = groups_of(TABLE, ["sex"])  # one row says nothing of a group
    assert names == ["sex=f", "sex=m"] and group.tolist() == [0, -1, 1, 0]
    both, names = groups_of(TABLE, ["sex", "dose"], least=1)
    assert names[both[2]] == "sex=m & dose=3.0" and names[both[1]] == "sex= & dose="


def test_numbers_count_by_fifths_of_the_rows_that_they_are_compared_with():
    ages = pa.table({"age": list(range(100))})
    group, names = groups_of(ages, ["age"])
    assert len(names) == 5
    for g, name in enumerate(names):  # which is a slice's, too
        assert (group == g).sum() == 20 and rows_of(ages, name).tolist() == (group == g).tolist()
    few, same = groups_of(ages.slice(0, 10), ["age"], ages)
    assert same == names and len(set(few.tolist())) == 1


def test_days_of_birth_count_by_fifths_and_make_slices():
    born = np.datetime64("1950-01-01") + np.arange(1000)
    for column in (pa.array(born), pa.array(born.astype("datetime64[ms]"))):
        table = pa.table({"born": column})
        group, names = groups_of(table, ["born"])
        assert np.bincount(group).tolist() == [200] * 5 and sorted(names)[0].startswith("born<=1950-07-")
        for g, name in enumerate(names):
            assert (rows_of(table, name) == (group == g)).all(), name
    with pytest.raises(Refusal) as e:
        rows_of(table, "born>tomorrow")
    assert e.value.problems[0].code == "slice.form"


def test_names_and_values_that_look_like_a_slice():
    odd = pa.table({"a=b": ["u", "v", "u"], "x@y": [1.0, -1.0, 2.0], "p>q": [1, 5, 9], "dept": ["R & D", "Sales", "R & D"], "note": ["a=b", "c", ""]})
    assert rows_of(odd, "a=b=u").tolist() == rows_of(odd, "dept=R & D").tolist() == [True, False, True]
    assert rows_of(odd, "dept=R & D & p>q>=9 & x@y > 0").tolist() == [False, False, True]
    assert rows_of(odd, "note=a=b").tolist() == [True, False, False]
    assert clauses("b>1 & dept=R & D & E") == ["b>1", "dept=R & D & E"] and normal_slice("x = 1 & dept=R & D") == "dept=R & D & x=1"
    for wrong in ("a=u", "R & D", "dept"):
        with pytest.raises(Refusal):
            rows_of(odd, wrong)


def test_a_slice_that_the_table_cannot_tell_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    table = pa.table({"x": np.arange(60.0), "sex": ["f", "m"] * 30, "y": ["a", "b"] * 30})
    task = {"data": {"source": table}, "target": "y", "audit": {"slices": ["sexx=f"], "require": {"accuracy@ages>3": ">= 0.5"}}}
    with pytest.raises(Refusal) as e:
        mw.plan(mw.task_of(task))
    assert [p.code for p in e.value.problems] == ["slice.form"] * 2 and "'sex'" in e.value.problems[0].fix
