"""What every kind of column owes, whatever column it is given: an honest guess, a fit that survives JSON, rows that encode alike in any company, or a
refusal in words. As an input, and as a target."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_data import INPUTS, TARGETS, digits, png
from torch.utils import _pytree as pytree

from modelwright import find
from modelwright.data import schema
from modelwright.data.schema import profile
from modelwright.errors import Refusal
from modelwright.kind import Kind

N = 24
rng = np.random.default_rng(0)
DAY = datetime.datetime(2024, 2, 28, 13, 45)
COLUMNS = {
    "whole": pa.array([i % 5 for i in range(N)]),
    "ratio": pa.array(rng.normal(size=N)),
    "word": pa.array([["low", "middle", "high"][i % 3] for i in range(N)]),
    "sentence": pa.array([f"句子 number {i} says 你好 🙂 to العالم" for i in range(N)]),
    "flag": pa.array([i % 2 == 0 for i in range(N)]),
    "yes": pa.array([["yes", "no"][i % 2] for i in range(N)]),
    "day": pa.array([DAY + datetime.timedelta(days=31 * i) for i in range(N)]),
    "date": pa.array([DAY.date() + datetime.timedelta(days=i) for i in range(N)]),
    "series": pa.array([[float(j) for j in range(i % 4)] for i in range(N)]),
    "steps": pa.array([[[1.0, float(j)] for j in range(1 + i % 4)] for i in range(N)]),
    "tags": pa.array([["a", "b", "c"][: i % 4] for i in range(N)]),
    "tagged": pa.array(["a;b", "c", ""][i % 3] for i in range(N)),
    "picture": pa.array([png(p) for p in digits()[0][:N]]),
    "bytes": pa.array([b"no picture"] * N),
    "boxes": pa.array([[{"label": "a", "xyxy": [0.1, 0.1, 0.5, 0.6]}] * (i % 3) for i in range(N)]),
    "nothing": pa.nulls(N),
    "constant": pa.array([1.0] * N),
    "infinite": pa.array([float("inf") if i % 7 == 0 else float(i) for i in range(N)]),
    "names": pa.array(["x", "y"] * (N // 2)).dictionary_encode(),
}
KINDS = find.names("kinds")


def chunked(values: pa.Array, gaps: bool) -> pa.ChunkedArray:
    """In two chunks, every fifth row missing."""
    if gaps and not pa.types.is_null(values.type):
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        values = pa.array([None if i % 5 == 4 else v for i, v in enumerate(values.to_pylist())], values.type)
    return pa.chunked_array([values.slice(0, 10), values.slice(10)])


def made(name: str) -> Kind:
    kind = find.make("kinds", TARGETS.get(name) or next((s for s in INPUTS.values() if s and find.split(s)[0] == name), name))
    kind.meet({})
    return kind


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)


def read(kind, values, target):
    return schema.encode(kind, pa.table({"c": values}), "c", target)


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", KINDS)
def test_a_column_is_read_alike_in_any_company_or_refused(name, column, gaps):
    values = chunked(COLUMNS[column], gaps)
    kind = made(name)
    try:
        schema.fit(kind, pa.table({"c": values}), "c")
    except Refusal as refusal:
        assert all(p.code and p.what and (p.fix or p.why) for p in refusal.problems)
        return
    state = json.loads(json.dumps(kind.state()))
    again = find.make("kinds", json.loads(json.dumps(kind.spec)))
    again.meet({})
    again.load(state)
    assert isinstance(kind.describe(), str) and again.describe() == kind.describe()
    for target in (False, True):
        if kind.drawn or (kind.place == "none" and not target):
            continue
        try:
            stored = read(kind, values, target)
        except Refusal as refusal:
            assert all(p.code and p.what and (p.fix or p.why) for p in refusal.problems)
            continue
        assert all(isinstance(a, np.ndarray) for a in stored.values()) and "values" in stored
        assert same(stored, read(again, values, target)), "what was saved and loaded encodes otherwise"
        n = len(stored["offsets"]) - 1 if "offsets" in stored else len(stored["values"])
        assert n == N and ("known" not in stored or stored["known"].shape == (N,))
        if "known" in stored:
            assert not stored["known"][values.is_null().to_numpy()].any(), "a missing value is known"
        if "known" in stored or "offsets" in stored or kind.place == "own":
            rows = np.array([7, 3, 12])
            few = read(kind, values.take(pa.array(rows)), target)
            got, alone = kind.batch(stored, rows), kind.batch(few, np.arange(3))
            assert all(torch.equal(a, b) for a, b in zip(pytree.tree_leaves(got), pytree.tree_leaves(alone))), "rows depend on their company"
            assert all(torch.isfinite(v).all() for v in pytree.tree_leaves(got) if v.is_floating_point())
        else:
            parts = [read(kind, values.slice(start, 8), target)["values"] for start in range(0, N, 8)]
            assert np.array_equal(np.concatenate(parts), stored["values"], equal_nan=stored["values"].dtype.kind == "f")
            assert not np.isinf(stored["values"]).any()


@pytest.mark.parametrize("name", KINDS)
def test_a_guess_is_between_never_and_certain(name):
    for gaps in (False, True):
        for column in COLUMNS:
            (seen,) = profile(pa.table({"c": chunked(COLUMNS[column], gaps)})).values()
            assert 0.0 <= find.find("kinds", name).guess(seen) <= 1.0, column


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_is_inferred_as_a_kind_that_can_read_it(column):
    values = chunked(COLUMNS[column], True)
    (seen,) = profile(pa.table({"c": values})).values()
    if column == "bytes":
        with pytest.raises(Refusal, match="looks like no kind"):
            schema.infer(seen)
        return
    kind = made(schema.infer(seen))
    schema.fit(kind, pa.table({"c": values}), "c")
    if kind.place != "none":
        read(kind, values, False)


@pytest.mark.parametrize("name", KINDS)
def test_what_training_has_not_seen_is_encoded_or_refused(name):
    """Fitted on one column, given another: other names, other widths, other types."""
    pairs = ("whole ratio", "word yes", "word sentence", "series steps", "tags tagged", "day word", "flag yes", "picture word", "steps series")
    for first, second in (pair.split() for pair in pairs):
        kind = made(name)
        for target in (False, True):
            try:
                schema.fit(kind, pa.table({"c": chunked(COLUMNS[first], False)}), "c")
                stored = read(kind, chunked(COLUMNS[second], False), target) if not kind.drawn else {}
            except Refusal as refusal:
                assert all(p.code and p.what and (p.fix or p.why) for p in refusal.problems)
                continue
            assert all(isinstance(a, np.ndarray) for a in stored.values())


@pytest.mark.parametrize("name", [k for k in KINDS if find.find("kinds", k).drawn])
def test_what_is_drawn_is_drawn_from_the_generator(name):
    kind = made(name)
    one, two = (kind.draw(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two) and len(one) == 5 and not torch.equal(one, kind.draw(5, torch.Generator().manual_seed(4)))
    assert torch.equal(kind.draw(5, None), kind.draw(5, None))
