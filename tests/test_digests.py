"""Digests that are equal exactly where the values are."""

import datetime as dt
import decimal
import math
import shutil
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from modelwright import digests as D
from modelwright.errors import Refusal

WORDS = ["", "a", None, "ä", "我们", "a\0b", "ab", None]


def both(a, b):
    """Equal digests, of the table and of every row."""
    a, b = (x if isinstance(x, pa.Table) else pa.table({"x": x}) for x in (a, b))
    same_rows = D.row_digests(a).tolist() == D.row_digests(b).tolist()
    assert (D.table_digest(a) == D.table_digest(b)) == same_rows
    return same_rows


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pa.array([1, None, 3], pa.int8()), pa.array([1, None, 3], pa.int64())),
        (pa.array([1, 2], pa.uint64()), pa.array([1, 2], pa.int16())),
        (pa.array([1, None, 3], pa.int32()), pa.array([1.0, None, 3.0])),  # what a missing value turns integers into elsewhere
        (pa.array([0.5, -0.0, math.nan], pa.float32()), pa.array([0.5, 0.0, -math.nan], pa.float64())),
        (pa.array(WORDS), pa.array(WORDS).dictionary_encode()),
        (pa.array(WORDS), pa.array(WORDS, pa.large_string())),
        (pa.array(WORDS), pa.array(WORDS, pa.string_view())),
        (pa.array(WORDS), pa.chunked_array([WORDS[:3], [], WORDS[3:]], pa.string())),
        (pa.array(["x", "y", *WORDS])[2:], pa.array(WORDS)),
        (pa.array([b"ab", None, b"cd"], pa.binary(2)), pa.array([b"ab", None, b"cd"], pa.large_binary())),
        (pa.array([[1, 2], None, [], [3]], pa.list_(pa.int32())), pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int64()))),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)), pa.array([[1, 2], None, [3, 4]])),
        (pa.array([[0], [1, 2], None, [], [3]])[1:], pa.chunked_array([[[1, 2], None], [[], [3]]])),
        (pa.array([{"a": 1, "b": "x"}, None]), pa.array([{"b": "x", "a": 1}, None])),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())), pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64()))),
        (pa.array([dt.datetime(2020, 1, 2)], pa.timestamp("s")), pa.array([dt.datetime(2020, 1, 2)], pa.timestamp("ns"))),
        (pa.array([dt.datetime(9999, 1, 2)], pa.timestamp("ms")), pa.array([dt.datetime(9999, 1, 2)], pa.timestamp("us"))),
        (pa.array([dt.date(2020, 1, 2)]), pa.array([dt.datetime(2020, 1, 2)], pa.timestamp("us"))),
        (pa.array([dt.timedelta(1)], pa.duration("s")), pa.array([dt.timedelta(1)], pa.duration("ns"))),
        (pa.array([dt.time(1)], pa.time32("s")), pa.array([dt.time(1)], pa.time64("us"))),
        (pa.array([decimal.Decimal("1.50")]), pa.array([decimal.Decimal("1.5")])),
        (pa.nulls(3), pa.array([None, None, None], pa.string())),
        (pa.array([], pa.int32()), pa.array([], pa.string())),
    ],
)
def test_types_that_mean_the_same(a, b):
    assert both(a, b)


DIFFERENT = [
    *(
        [0],
        [None],
        [math.nan],
        [""],
        [[]],
        [False],
        [b""],
        ["None"],
        [1],
        [True],
        [-1],
        [0.5],
        [1e300],
        ["1"],
        [b"1"],
        ["a"],
        [math.inf],
        [2**53 + 1],
    ),
    *(
        [[0]],
        [[0, 0]],
        [[None]],
        [["a", "b"]],
        [["ab"]],
        [["b", "a"]],
        [{"a": 1}],
        [{"a": 2}],
        [{"b": 1}],
        [dt.datetime(2020, 1, 1)],
        [dt.date(2020, 1, 2)],
    ),
    *([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], [dt.time(0)], [dt.timedelta(0)], [decimal.Decimal("1.5")], [1.5], ["1.5"]),
    *(
        [1, None],
        [None, 1],
        [None, None],
        ["a", None],
        ["", None],
        ["a", "b"],
        ["ab", ""],
        ["", "ab"],
        ["b", "a"],
        [[1], [2, 3]],
        [[1, 2], [3]],
        [[2, 1], [3]],
    ),
]


def test_values_that_differ_differ():
    tables = [pa.table({"x": pa.array(v)}) for v in DIFFERENT]
    tables += [pa.table({"y": [1]}), pa.table({"x": [1], "y": [1]}), pa.table({"x": pa.array([2**64 - 1], pa.uint64())})]
    assert len({D.table_digest(t) for t in tables}) == len(tables)
    rows = [D.row_digests(t)[0] for t in tables if t.num_rows == 1]
    assert len(set(rows)) == len(rows)


def test_columns_have_no_order_but_rows_do():
    table = pa.table({"b": [1, 2, 3], "a": ["x", "y", "y"]})
    assert both(table, table.select(["a", "b"]))
    turned = table.take([2, 1, 0])
    assert D.table_digest(turned) != D.table_digest(table)
    assert D.row_digests(turned).tolist() == D.row_digests(table).tolist()[::-1]
    assert D.rows_digest(turned) == D.rows_digest(table) != D.rows_digest(table.slice(1)) != D.rows_digest(pa.concat_tables([table, table]))
    assert not both(table, table.rename_columns(["a", "b"]))  # the same values under exchanged names


def test_file_formats(tmp_path):
    r = np.random.default_rng(0)
    table = pa.table(
        {"i": r.integers(-9, 9, 500), "f": np.round(r.normal(size=500), 3), "s": r.choice(["a", "我们", "x,y"], 500), "t": r.random(500) < 0.5}
    )
    table = table.set_column(0, "i", pa.array([None if k % 7 == 0 else v for k, v in enumerate(table["i"].to_pylist())]))
    pa.csv.write_csv(table, tmp_path / "t.csv")
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=37, use_dictionary=True)
    pq.write_table(
        table.cast(pa.schema([("i", pa.int32()), ("f", pa.float64()), ("s", pa.dictionary(pa.int8(), pa.string())), ("t", pa.bool_())])),
        tmp_path / "d.parquet",
    )
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as f, pa.ipc.new_file(f, table.schema) as out:
        for batch in table.to_batches(max_chunksize=11):
            out.write_batch(batch)
    for other in (pa.csv.read_csv(tmp_path / "t.csv"), pq.read_table(tmp_path / "t.parquet"), pq.read_table(tmp_path / "d.parquet")):
        assert both(table, other)
    assert both(table, pa.ipc.open_file(str(tmp_path / "t.arrow")).read_all())
    assert both(table, pa.Table.from_pandas(table.to_pandas(), preserve_index=False))


def test_a_rows_digest_does_not_depend_on_its_split():
    """3.0 is the same price in a split of whole prices and in one with 3.5 in it; text is the same in a dictionary of other words."""
    train = pa.table({"price": [3.0, 7.0], "shop": pa.array(["a", "b"]).dictionary_encode()})
    test = pa.table({"price": [3.5, 3.0], "shop": pa.array(["b", "a"])})
    at = dt.datetime(2020, 1, 1)
    far = pa.array([at, dt.datetime(9999, 1, 1)], pa.timestamp("us"))
    fine = pa.chunked_array([pa.array([1577836800 * 10**9, 1577836800 * 10**9 + 1]).cast(pa.timestamp("ns"))])
    assert (
        D.row_digests(pa.table({"t": far}))[0]
        == D.row_digests(pa.table({"t": fine}))[0]
        == D.row_digests(pa.table({"t": pa.array([at], pa.timestamp("s"))}))[0]
    )
    assert len(set(D.row_digests(pa.table({"t": fine})))) == 2
    assert D.row_digests(test)[1] == D.row_digests(train)[0] and D.row_digests(test)[0] not in D.row_digests(train)


def test_row_digests_find_exactly_the_duplicates():
    r = np.random.default_rng(1)
    rows = pa.table({"a": r.integers(0, 30, 20_000), "b": r.choice([*"abc", None], 20_000), "c": r.integers(0, 40, 20_000) / 4})
    digests = D.row_digests(rows)
    assert digests.dtype == np.uint64 and len(np.unique(digests)) == rows.group_by(["a", "b", "c"]).aggregate([]).num_rows
    unique = D.row_digests(pa.table({"a": np.arange(1_000_000)}))
    assert len(np.unique(unique)) == 1_000_000
    ones = np.unpackbits(unique.view(np.uint8)).mean()  # bits as if by a coin
    assert abs(ones - 0.5) < 0.001


def test_hidden_values_under_nulls_do_not_count():
    values, mask = np.array([1, 77, 3]), np.array([False, True, False])
    assert both(pa.array(values, mask=mask), pa.array([1, None, 3]))
    text = pa.StringArray.from_buffers(3, pa.py_buffer(np.array([0, 1, 7, 8], np.int32)), pa.py_buffer(b"ahiddenb"), pa.py_buffer(b"\x05"), 1)
    assert text.to_pylist() == ["a", None, "b"] and both(text, pa.array(["a", None, "b"]))


def test_empty_tables():
    assert D.row_digests(pa.table({"x": pa.array([], pa.int64())})).tolist() == []
    assert D.table_digest(pa.table({"x": pa.array([], pa.int64())})) != D.table_digest(pa.table({"y": pa.array([], pa.int64())}))


def test_digests_are_fast():
    r = np.random.default_rng(0)
    table = pa.table({"f": r.normal(size=2_000_000), "s": r.choice(["first", "second", "a longer third"], 2_000_000)})
    times = []
    for _ in range(3):
        start = time.perf_counter()
        D.table_digest(table)
        times.append(time.perf_counter() - start)
    assert table.nbytes / min(times) > 100e6


def test_table_digest_is_pinned():
    """A digest that changes between versions would void every evidence file: change this figure only with the format."""
    table = pa.table({"n": [1, None, 3], "f": [0.5, 1.5, None], "s": ["a", "我们", None], "l": [[1], [], None]})
    assert D.table_digest(table) == "sha256:c09d3016443169ff77875be620d87bd4620c2a9b3cf27f16d0d8ed95228062a5"
    assert D.row_digests(table).tolist() == [8321894550677087470, 13706744619447978217, 11022079855880489378]


def test_model_digest(tmp_path):
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "model.json").write_text("{}")
    (model / "sub" / "w.safetensors").write_bytes(b"123")
    first = D.model_digest(model)
    assert first.startswith("sha256:") and len(first) == 71
    shutil.copytree(model, tmp_path / "elsewhere")
    assert D.model_digest(tmp_path / "elsewhere") == first == D.model_digest(str(model))
    (model / "sub" / "w.safetensors").write_bytes(b"124")
    assert D.model_digest(model) != first
    (model / "sub" / "w.safetensors").write_bytes(b"123")
    assert D.model_digest(model) == first
    (model / "sub" / "w.safetensors").rename(model / "w.safetensors")
    assert D.model_digest(model) != first
    for missing in (tmp_path / "nothing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(Refusal, match="no model files"):
            D.model_digest(missing)
