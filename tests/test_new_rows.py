"""A saved model and rows whose columns stand in another order, are more, are of other types, or hold nothing: the same answers, or a refusal in words."""

import io
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import modelwright as mw
from modelwright.errors import Refusal
from modelwright.opening import remarks

N = 120


def gaps(values, rng):
    return [None if rng.random() < 0.2 else v for v in values]


def picture(value, rng):
    file = io.BytesIO()
    Image.fromarray(rng.normal(value, 20, (8, 8)).clip(0, 255).astype(np.uint8)).save(file, "png")
    return file.getvalue()


def rows(n=N, seed=0):
    """Every kind of column, a fifth of every column's cells empty, targets too."""
    rng = np.random.default_rng(seed)
    z = rng.random(n) < 0.5
    return pa.table({
        "age": gaps(rng.normal(40, 9, n).tolist(), rng), "count": gaps(rng.integers(0, 9, n).tolist(), rng),
        "city": gaps(rng.choice(["Oslo", "北京", "القاهرة"], n).tolist(), rng), "grade": gaps(rng.choice(["low", "mid", "high"], n).tolist(), rng),
        "smoker": gaps((rng.random(n) < 0.5).tolist(), rng), "tags": gaps([list(rng.choice(["a", "b", "c"], 2)) for _ in range(n)], rng),
        "note": gaps([f"{'good 好' if a else 'bad 坏'} day number {i}" for i, a in enumerate(z)], rng),
        "scan": gaps([picture(180 if a else 70, rng) for a in z], rng), "curve": gaps([rng.normal(a, 1, rng.integers(1, 6)).tolist() for a in z], rng),
        "when": gaps([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(n)], rng),
        "y": gaps(["sick" if a else "well" for a in z], rng), "score": gaps(rng.normal(2.0 * z, 1, n).tolist(), rng),
    })  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(folder / "home"))
        data = {"source": rows(), "columns": {"grade": {"ordered": {"order": ["low", "mid", "high"]}}}}
        task = {"data": data, "target": ["y", "score"], "stages": [{"train": {"steps": 4}}]}
        done = mw.run(mw.task_of(task), folder / "run")
        kinds = {c["name"]: c["kind"] for c in mw.plan(mw.task_of(task)).columns}
        assert " ".join(kinds.values()) == "number number category ordered boolean labels text picture series timestamp category number"
        assert {e["target"] for e in done.evidence["evidence"] if e["metric"] in ("accuracy", "rmse") and e["value"] is not None} == {"y", "score"}
        checked = mw.audit(done.folder, {"test": rows(80, 1)}, out=folder / "audit", only=["accuracy"]).evidence["evidence"]
        known = rows(80, 1)["y"].drop_null()
        assert next(e["n"] for e in checked if e["metric"] == "accuracy" and not e["slice"]) == len(known)
        yield mw.load(done.folder)


def same(a, b):
    pairs = [(x, y) for t in a for x, y in ((a[t].value, b[t].value), (a[t].score, b[t].score)) if x is not None]
    return len(pairs) >= 2 and all(np.allclose(x, y, atol=1e-5) for x, y in pairs)


def put(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_order_more_columns_and_other_types_change_nothing(model):
    new = rows(30, 2).drop_columns(["y", "score"])
    said = model.predict(new)
    assert same(said, model.predict(new.select(new.column_names[::-1]).append_column("more", pa.nulls(30))))
    types = {"age": [pa.string(), pa.decimal128(38, 20)], "count": [pa.float64(), pa.string(), pa.int8()], "smoker": [pa.string(), pa.int64()],
             "city": [pa.dictionary(pa.int32(), pa.string()), pa.large_string()], "when": [pa.string(), pa.timestamp("ns")],
             "scan": [pa.large_binary()], "tags": [pa.large_list(pa.string())], "curve": [pa.list_(pa.float32())]}  # fmt: skip
    for name, others in types.items():
        for to in others:
            assert same(said, model.predict(put(new, name, new[name].cast(to, safe=False)))), (name, to)
    assert same(said, model.predict(put(new, "tags", pa.array([None if v is None else ";".join(v) for v in new["tags"].to_pylist()]))))
    pytest.importorskip("pandas")
    assert model.answer(new.to_pandas()).equals(model.answer(new))


def test_what_is_not_there_is_listed_and_what_cannot_be_read_is_named(model):
    new = rows(10, 3)
    with pytest.raises(Refusal) as e:
        model.predict(new.drop_columns(["age", "scan"]))
    assert [p.what for p in e.value.problems] == ["column 'age' is missing", "column 'scan' is missing"]
    wrong = [("age", "old", "no numbers"), ("scan", 1.0, "neither a file's bytes nor its path"), ("curve", 1.0, "list of numbers")]
    for name, value, word in (*wrong, ("when", "soon", "cannot be read"), ("note", ["a"], "cannot be read as text")):
        with pytest.raises(Refusal) as e:
            model.predict(put(new, name, pa.array([value] * 10)))
        assert word in str(e.value) and name in str(e.value)
    for nothing in (new.slice(0, 0), {"age": []}):
        with pytest.raises(Refusal):
            model.answer(nothing)
    with pytest.raises(Refusal, match="no rows"):
        model.predict(new.slice(0, 0))


def test_rows_that_say_nothing_are_answered_and_told(model):
    new = rows(6, 4).drop_columns(["y", "score"])
    nothing = pa.table({n: pa.nulls(6) for n in new.column_names})
    typed = pa.table({n: pa.nulls(6, new.schema.field(n).type) for n in new.column_names})
    assert same(model.predict(nothing), model.predict(typed))
    assert any("6 of 6 rows have nothing" in note for note in remarks("m", model.schema, typed))
    odd = put(put(new, "grade", pa.array(["top", "low", None, "mid", "top", "high"])), "city", pa.array(["Atlantis"] * 6))
    notes = remarks("m", model.schema, odd)
    assert any("'grade': 2 of 6 rows have a value that training did not keep ('top')" in n for n in notes) and any("'city': 6 of 6" in n for n in notes)
