"""Copies of test rows are no further witnesses; people who are alike are."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks.copies import joined, repeats
from modelwright.data.schema import Schema
from modelwright.find import make
from modelwright.intervals import interval
from modelwright.kind import Metric
from modelwright.subject import Subject


def fine(n, rng):
    """A table of real numbers."""
    return pa.table({"a": rng.normal(size=n), "b": rng.normal(size=n), "y": [str(v) for v in rng.integers(0, 2, n)]})


def few(n, rng):
    """A table of few values, in which most rows come again."""
    return pa.table({c: [str(v) for v in rng.integers(0, k, n)] for c, k in (("a", 5), ("b", 4), ("c", 3), ("y", 2))})


@pytest.mark.parametrize("n", [100, 1000, 4000])
@pytest.mark.parametrize("seed", range(3))
def test_people_who_are_alike_are_no_copies(n, seed):
    rng = np.random.default_rng(seed)
    assert repeats(few(n, rng)) is None and repeats(few(n, rng), few(2 * n, rng)) is None
    assert repeats(fine(n, rng)) is None and repeats(fine(n, rng), fine(n, rng)) is None


def test_copies_are_told():
    rng = np.random.default_rng(0)
    table, train = fine(300, rng), fine(500, rng)
    for k in (2, 50):
        copies = pa.concat_tables([table] * k).take(pa.array(rng.permutation(300 * k)))
        for number in (repeats(copies), repeats(copies, train)):
            assert (np.bincount(number) == k).all() and len(np.bincount(number)) == 300
    some = pa.table({c: [f"{c} {v}" for v in rng.integers(0, 12, 400)] for c in "abcd"} | {"y": ["0"] * 400})
    assert repeats(pa.concat_tables([some] * 5), pa.table({c: [f"{c} {v}" for v in rng.integers(0, 12, 400)] for c in "abcd"} | {"y": ["0"] * 400})) is not None
    texts = pa.table({"x": [f"this is what number {i} wrote to us yesterday" for i in range(100)], "y": ["0", "1"] * 50})
    assert repeats(texts) is None and repeats(pa.concat_tables([texts] * 3)) is not None


def test_an_interval_of_copies_is_that_of_one():
    rng = np.random.default_rng(0)
    table = fine(200, rng)
    schema = Schema({"a": make("kinds", "number"), "b": make("kinds", "number")}, {"y": make("kinds", "category")})
    schema.fit(table)
    right = (np.asarray(table["a"]) > -1.2) * 1.0
    copies = pa.concat_tables([table] * 20)
    subject = Subject(None, schema, {"test": copies})
    one = interval(Metric.mean(right), 200, level=0.95)
    many = interval(Metric.mean(np.tile(right, 20)), 4000, level=0.95, clusters=subject.clusters_of("test"))
    naive = interval(Metric.mean(np.tile(right, 20)), 4000, level=0.95)
    assert naive.high - naive.low < 0.3 * (one.high - one.low) < 0.33 * (many.high - many.low)


def test_clusters_that_share_rows_are_joined():
    assert joined(np.array([0, 0, 1, 2, 3]), np.array([5, 6, 6, 7, 7])).tolist() == [0, 0, 0, 1, 1]
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 30, 60), rng.integers(0, 30, 60)
    slow = np.arange(60)
    for _ in range(60):
        for of in (a, b):
            slow = np.array([slow[of == v].min() for v in of])
    assert len({*zip(joined(a, b).tolist(), slow.tolist(), strict=True)}) == len(set(slow.tolist())) == len(set(joined(a, b).tolist()))
