"""Who learns from which rows, as a property of any table: no copy and no member of a group straddles two splits, no row is lost, shares hold."""

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modelwright.data import splits
from modelwright.data.sources import load
from modelwright.digests import table_digest
from modelwright.errors import Refusal
from modelwright.planning import make
from modelwright.preparing import prepare
from modelwright.task import task_of

BY = {"random": {}, "by": {"by": "who"}, "time": {"time": "when"}, "by and time": {"by": "who", "time": "when"}, "given": {"column": "part"}}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


def components(links):
    """Number of each row's component, by the slow way: rows that share any value are joined until nothing changes."""
    of = list(range(len(links[0])))
    while True:
        before = list(of)
        for values in links:
            least = {}
            for i, v in enumerate(values):
                least[v] = min(least.get(v, i), of[i])
            of = [least[v] if v is not None else o for v, o in zip(values, of, strict=True)]
        if of == before:
            return of


@st.composite
def tables(draw):
    """Rows of few values, so that many are copies; `who` links copies to other copies. `row` names the row and is no input."""
    n = draw(st.integers(20, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few, people = draw(st.integers(2, 400)), draw(st.integers(3, 200))
    word = np.array(["甲", "b", None], object)
    return pa.table({
        "row": np.arange(n),
        "x": pa.array([None if v % 11 == 10 else v / 2 for v in rng.integers(0, few, n).tolist()], pa.float64()),
        "c": pa.array(word[rng.integers(0, 3, n)].tolist(), pa.string()),
        "who": pa.array([f"P{v}" for v in rng.integers(0, people, n)]),
        "when": pa.array(rng.integers(0, 10**6, n), pa.timestamp("us", "Asia/Tokyo")),
        "part": rng.choice(["train", "Test", "val"], n, p=[0.7, 0.2, 0.1]),
        "y": rng.choice(["in", "out"], n),
    })  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables(), st.sampled_from(list(BY)), st.integers(0, 5))
def test_copies_and_groups_never_straddle_and_no_row_is_lost(table, how, seed):
    columns = {"row": "ignore", "x": "number", "c": "category", "who": "ignore", "when": "ignore", "part": "ignore"}
    task = task_of({"data": {"source": table, "columns": columns, "split": {**BY[how], "seed": seed}}, "target": {"y": "category"}})
    try:
        found = prepare(task).tables
    except Refusal as e:
        assert {p.code for p in e.problems} <= {"data.empty_split", "data.one_class", "data.split_names"}
        return
    rows = {name: t["row"].to_pylist() for name, t in found.items()}
    assert sorted(sum(rows.values(), [])) == list(range(table.num_rows)) and all(rows.values())
    where = {row: name for name, some in rows.items() for row in some}
    links = [list(zip(table["x"].to_pylist(), table["c"].to_pylist(), strict=True))] + [table["who"].to_pylist()] * ("by" in BY[how])
    given_ = [{"Test": "test", "val": "validation"}.get(p, "") for p in table["part"].to_pylist()] if how == "given" else [""] * table.num_rows
    for row, part in enumerate(given_):
        assert not part or where[row] == part  # what is given stays so, and is warned of
    for row, unit in enumerate(components([[v if not g else None for v, g in zip(link, given_, strict=True)] for link in links])):
        assert given_[row] or where[row] == where[unit]
    for name, t in found.items():  # whole rows went there, and nothing else
        assert t.equals(table.take(pa.array(rows[name])))


@pytest.mark.parametrize("n", [200, 1003])
def test_shares_hold_within_each_class_and_later_rows_go_to_later_splits(n):
    rng = np.random.default_rng(n)
    strata, time = rng.choice(3, n, p=[0.8, 0.15, 0.05]), rng.permutation(n)
    shares = {"validation": 0.1, "calibration": 0.1, "test": 0.2}
    for seed in range(5):
        which = splits.assign(n, shares, seed, strata=strata)
        for label in range(3):
            of = np.bincount(which[strata == label], minlength=4) - np.array([0.6, 0.1, 0.1, 0.2]) * (strata == label).sum()
            assert np.abs(of).max() <= 1
        assert (which != splits.assign(n, shares, seed + 1, strata=strata)).any()
    which = splits.assign(n, shares, 0, strata=strata, time=time)
    assert all(time[which == i].max() < time[which == i + 1].min() for i in range(3)) and abs((which == 3).sum() - 0.2 * n) <= 1


def test_nanoseconds_and_zones_have_their_place_in_time():
    n = 100
    when = pa.array([1_700_000_000_000_000_001 + 7_777_777 * i for i in range(n)], pa.timestamp("ns", "America/New_York"))
    table = pa.table({"when": when, "x": np.random.default_rng(0).normal(size=n), "y": ["a", "b"] * (n // 2)})
    found = prepare(task_of({"data": {"source": table, "split": {"time": "when"}}, "target": "y"})).tables
    assert found["test"]["when"].to_numpy().min() > found["train"]["when"].to_numpy().max()


def test_rows_that_share_members_with_a_given_test_are_counted():
    n = 60
    table = pa.table({"x": [0.5, 0.5, *range(n - 2)], "who": ["a"] * 2 + [f"P{i}" for i in range(n - 2)], "part": ["test"] * 20 + ["train"] * (n - 20),
                      "y": ["a", "b"] * (n // 2)})  # fmt: skip
    table = table.set_column(1, "who", pa.array([*table["who"].to_pylist()[:-3], "a", "P4", "P4"]))
    task = {"data": {"source": table, "split": {"column": "part", "by": "who"}}, "target": "y"}
    assert any("3 test rows have a copy, or a row of the same 'who', in another split" in w for w in prepare(task_of(task)).warnings)


def test_rows_of_nobody_stay_together_and_are_told():
    n = 200
    who = [None if i % 5 == 0 else f"P{i}" for i in range(n)]
    table = pa.table({"who": who, "x": np.random.default_rng(0).normal(size=n), "y": ["a", "b"] * (n // 2)})
    found = prepare(task_of({"data": {"source": table, "split": {"by": "who"}}, "target": "y"}))
    assert sum(t["who"].null_count > 0 for t in found.tables.values()) == 1 and any("40 rows have no value in 'who'" in w for w in found.warnings)


def pictures(folder, copies=()):
    """32 pictures of noise in two classes; copies: (number, name) of files that hold what another holds."""
    rng = np.random.default_rng(0)
    for i in range(32):
        path = folder / ("cat" if i % 2 else "狗") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(path)
    for i, name in copies:
        (folder / name).write_bytes((folder / ("cat" if i % 2 else "狗") / f"{i:02d}.png").read_bytes())
    return folder


def test_a_picture_under_two_names_is_one(tmp_path):
    folder = pictures(tmp_path / "p", [(i, f"{'cat' if i % 2 else '狗'}/again-{i}.png") for i in range(32)])
    found = prepare(task_of({"data": {"source": str(folder)}, "target": "label"}))
    assert any("32 rows repeat" in w for w in found.warnings)
    where = {p: name for name, t in found.tables.items() for p in t["image"].to_pylist()}
    assert len(where) == 64 and len(set(where.values())) == 4
    for i in range(32):
        of = "cat" if i % 2 else "狗"
        assert where[f"{of}/{i:02d}.png"] == where[f"{of}/again-{i}.png"]


def test_digests_are_of_what_the_files_hold(tmp_path):
    def digests(folder):
        return make(task_of({"data": {"source": str(folder)}, "target": "label", "stages": [{"train": {"steps": 1}}]})).digests

    first = digests(pictures(tmp_path / "p"))
    assert digests(pictures(tmp_path / "elsewhere")) == first
    picture = tmp_path / "p" / "cat" / "01.png"
    status = picture.stat()
    content = picture.read_bytes()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    picture.write_bytes(picture.read_bytes() + b"\0" * (len(content) - picture.stat().st_size))  # of the same size, and
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))  # with the same time
    assert picture.stat().st_size == status.st_size and sum(a != first[s] for s, a in digests(tmp_path / "p").items()) == 1


def test_a_cell_that_holds_the_bytes_stands_for_them(tmp_path):
    folder = pictures(tmp_path / "p")
    loaded = load(str(folder))
    paths = loaded.table["image"].to_pylist()
    cells = pa.array([{"bytes": (folder / p).read_bytes(), "path": f"x/{i}"} for i, p in enumerate(paths)])
    found = prepare(task_of({"data": {"source": str(folder)}, "target": "label"}))
    packed = loaded.table.set_column(0, "image", cells)
    assert table_digest(found.schema.contents(packed)) == table_digest(found.schema.contents(loaded.table)) != table_digest(loaded.table)


def test_of_noise_alone_copies_are_of_what_is_made_not_of_a_label():
    """Nothing is read: pictures that come again stay together, rows of one action are no copies."""
    data = {"source": pa.table({"other": list(range(60)), "y": [i % 4 for i in range(60)]}), "columns": {"z": "noise", "other": "ignore"}}
    found = prepare(task_of({"data": data, "target": {"y": {"action": {"classes": 4}}}}))
    assert all(t.num_rows for t in found.tables.values())


def every_kind(folder, wild):
    """60 rows of every kind of column, the first 30 for training. wild: what the others hold is changed beyond recognition."""
    rng = np.random.default_rng(0)
    n, train = 60, np.arange(60) < 30
    kept = lambda plain, other: pa.array([a if t or not wild else b for t, a, b in zip(train, plain, other, strict=True)])  # noqa: E731
    x = rng.normal(size=n)
    for i in range(n):
        shape, top = ((8, 8), 99) if train[i] or not wild else ((5, 31, 3), 255)
        Image.fromarray(np.random.default_rng(i).integers(0, top, shape, np.uint8)).save(folder / f"{wild}-{i}.png")
    day = np.datetime64("2024-01-01T00:00:00", "s")
    words, few = rng.choice(["one", "two", "三", "四"], (n, 5)).tolist(), rng.choice(["a", "b"], n).tolist()
    return pa.table({
        "number": kept(x.tolist(), [None if i % 2 else 1e9 * (1 + i) for i in range(n)]),
        "whole": kept(list(range(n)), [-(10**12) - i for i in range(n)]),
        "amount": kept(np.exp(3 * x).tolist(), [0.0] * n),
        "category": kept(few, [f"new {i}" for i in range(n)]),
        "ordered": kept(few, few[::-1]),
        "boolean": kept([i % 3 == 0 for i in range(n)], [None] * n),
        "labels": kept([w[:2] for w in words], [[f"tag {i}", "z"] for i in range(n)]),
        "text": kept([" ".join(w) for w in words], [f"مرحبا {i} supercalifragilistic" * 50 for i in range(n)]),
        "time": kept([(day + 3600 * i).item() for i in range(n)], [(day + 10**8 * i).item() for i in range(n)]),
        "series": kept([[1.0, 2.0 + i] for i in range(n)], [[None, 1e7, -1e7]] * n),
        "picture": kept([f"{wild}-{i}.png" for i in range(n)], [f"{wild}-{i}.png" for i in range(n)]),
        "part": np.where(train, "train", np.resize(["validation", "calibration", "test"], n)),
        "y": kept(x.tolist(), (1e6 * x).tolist()),
        "z": few,
    })  # fmt: skip


def test_every_fitted_value_comes_from_the_training_rows_alone(tmp_path):
    kinds = {n: n for n in ("number", "category", "ordered", "boolean", "labels", "text", "series", "picture")}
    kinds |= {"whole": "number", "amount": "number", "time": "timestamp", "ordered": {"ordered": {"order": ["a", "b"]}}}
    kinds |= {"z": {"kind": "category", "group": True}}
    found = []
    for wild in (False, True):
        table = every_kind(tmp_path, wild)
        data = {"source": table, "columns": kinds, "split": {"column": "part"}, "root": str(tmp_path)}
        found.append(prepare(task_of({"data": data, "target": {"y": "number"}})))
    plain, changed = (f.schema.to_json() for f in found)
    assert plain == changed and len(plain["inputs"]) == 12
    assert {c["name"]: c["describe"] for c in found[0].columns} == {c["name"]: c["describe"] for c in found[1].columns}
    assert table_digest(found[0].tables["test"]) != table_digest(found[1].tables["test"])
    first, then = (f.schema.encode(f.tables["train"]) for f in found)  # and what is encoded with them is the same
    assert np.array_equal(first.inputs["table"]["numbers"], then.inputs["table"]["numbers"], equal_nan=True)


def test_by_time_a_day_is_one_split():
    """The split that a task asks for must not violate the limit that training ends before the test begins (`data.time_overlap`)."""
    from modelwright.checks.moments import overlap

    rng, n = np.random.default_rng(0), 1500
    x, when = rng.normal(size=n), np.datetime64("2020-01-01") + np.sort(rng.integers(0, 30, n))
    table = pa.table({"x": x, "when": when, "y": np.where(x > 0, "a", "b")})
    found = prepare(task_of({"data": {"source": table, "split": {"time": "when"}}, "target": "y"})).tables
    hits, _ = overlap(found["train"], found["test"], {"y"})
    assert not hits["when"].any() and abs(found["test"].num_rows - 0.2 * n) < 60
    few = splits.assign(100, {"validation": 0.1, "calibration": 0.1, "test": 0.2}, 0, time=np.arange(100) // 50)
    assert np.bincount(few).tolist() == [60, 10, 10, 20], "two moments cannot be shared out whole"
