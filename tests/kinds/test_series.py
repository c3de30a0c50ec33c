"""Series: standardised by the training split, gaps flagged, nothing learned from other rows."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright import find
from modelwright.data.schema import Schema, infer, profile
from modelwright.errors import Refusal


def fitted(rows, type=None, **settings):
    kind = find.make("kinds", {"series": settings})
    kind.fit(pa.chunked_array([pa.array(rows, type)]))
    return kind


def test_channels_are_standardised_by_all_steps():
    rng = np.random.default_rng(0)
    rows = [(rng.normal(size=(n, 2)) * [3, 0.1] + [5, -1]).tolist() for n in (4, 9, 2, 30)]
    kind = fitted(rows)
    stacked = np.concatenate([np.array(r) for r in rows])
    assert np.allclose(kind.mean_, stacked.mean(0)) and np.allclose(kind.sd_, stacked.std(0)) and kind.channels == 2
    stored = kind.encode(pa.chunked_array([pa.array(rows)]))
    assert stored["values"].dtype == np.float32 and np.allclose(stored["values"], (stacked - stacked.mean(0)) / stacked.std(0), atol=1e-5)
    ragged = kind.batch(stored, np.array([2, 1]))
    assert ragged.values.shape == (2, 9, 2) and ragged.lengths.tolist() == [2, 9]
    assert np.allclose(ragged.values[0, :2], kind.scaled(np.array(rows[2]))) and not ragged.values[0, 2:].any()


def test_a_list_of_numbers_is_one_channel_and_is_inferred():
    table = pa.table({"pulse": [[1.0, 2.0], [3.0], []], "walk": [[[1.0, 2.0]], [[0.0, 1.0], [2.0, 2.0]], []], "words": [["a"], ["b"], []]})
    found = {name: infer(p) for name, p in profile(table).items()}
    assert found["pulse"] == "series" and found["walk"] == "series" and found["words"] != "series"
    kind = fitted([[1.0, 2.0], [3.0], []])
    stored = kind.encode(table.column("pulse"))
    assert stored["values"].shape == (3, 1) and stored["offsets"].tolist() == [0, 2, 3, 3]


def test_gaps_get_a_flag_only_where_training_had_them():
    rows = [[[1.0, 5.0], [None, 7.0]], [[3.0, 6.0], None], None]
    kind = fitted(rows)
    assert kind.channels == 4 and kind.gaps_ == [0, 1]
    stored = kind.encode(pa.chunked_array([pa.array(rows)]))
    assert stored["known"].tolist() == [True, True, False] and stored["offsets"].tolist() == [0, 2, 4, 4]
    assert stored["values"][1, 0] == 0 and stored["values"][1, 2:].tolist() == [1, 0] and stored["values"][3].tolist() == [0, 0, 1, 1]
    whole = fitted([[[1.0, 5.0]], [[3.0, 6.0]]])
    assert whole.channels == 2 and whole.encode(pa.chunked_array([pa.array([[[None, 5.5]]])]))["values"].tolist() == [[0, 0]]


def test_steps_of_another_width_are_refused():
    with pytest.raises(Refusal, match="between 1 and 2 numbers"):
        fitted([[[1.0], [1.0, 2.0]]])
    with pytest.raises(Refusal, match="a step has 3 numbers, in training 2"):
        fitted([[[1.0, 2.0]]]).encode(pa.chunked_array([pa.array([[[1.0, 2.0, 3.0]]])]))


def test_only_the_last_steps_are_kept():
    stored = fitted([[1.0, 2.0, 3.0]], most=2).encode(pa.chunked_array([pa.array([[1.0, 2.0, 3.0], [9.0]])]))
    assert stored["offsets"].tolist() == [0, 2, 3] and np.allclose(stored["values"][:2, 0], (np.array([2, 3]) - 2) / np.std([1, 2, 3]))


def test_it_survives_saving_and_chunks():
    rows = [[[float(i), 1.0]] * (i % 4) for i in range(20)]
    schema = Schema({"walk": find.make("kinds", "series")}, {})
    table = pa.table({"walk": pa.chunked_array([rows[:7], rows[7:]])})
    schema.fit(table)
    again = Schema.from_json(schema.to_json())
    a, b = (s.encode(table).batch(np.arange(20)).inputs["walk"] for s in (schema, again))
    assert np.array_equal(a.values, b.values) and a.lengths.tolist() == [i % 4 for i in range(20)]
