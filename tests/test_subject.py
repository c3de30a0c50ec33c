"""Rows of slices and of groups, by hand."""

from datetime import datetime

import pyarrow as pa
import pytest

from modelwright.errors import Refusal
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
