"""What comes out of the cache is what encoding gives; nothing stale, cut short or half-written is ever used."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from modelwright import find
from modelwright.data import cache
from modelwright.data.schema import Schema
from modelwright.digests import table_digest


@pytest.fixture
def made(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "CHUNK", 7)
    rng = np.random.default_rng(0)
    words = np.array(["一", "two", "three", "四", "five", "six"])
    table = pa.table({
        "note": [" ".join(rng.choice(words, k)) if k else None for k in rng.integers(0, 9, 40)],
        "age": [float(a) if a > 2 else None for a in rng.integers(0, 90, 40)],
        "who": list(rng.choice(["a", "b"], 40)),
        "y": list(rng.choice(["no", "yes"], 40)),
    })  # fmt: skip
    kinds = {"note": find.make("kinds", "text"), "age": find.make("kinds", "number"), "who": find.make("kinds", "category")}
    schema = Schema(kinds, {"y": find.make("kinds", "category")}, ["who"])
    schema.fit(table)
    return schema, table


def folders(tmp_path):
    return sorted((tmp_path / "home" / "cache" / "encoded").iterdir())


def same(a, b):
    x, y = cache._arrays(a), cache._arrays(b)
    return x.keys() == y.keys() and all(x[k].dtype == y[k].dtype and np.array_equal(x[k], y[k], equal_nan=x[k].dtype.kind == "f") for k in x)


def test_chunks_join_to_what_encoding_at_once_gives_and_are_found_again(made, tmp_path):
    schema, table = made
    first = cache.encode(schema, table, table_digest(table))
    assert same(first, schema.encode(table)) and isinstance(first.inputs["note"]["values"], np.memmap)
    rows = np.array([30, 2, 2])
    assert str(first.batch(rows)) == str(schema.encode(table).batch(rows))
    (folder,) = folders(tmp_path)
    before = (folder / "0.bin").stat().st_mtime_ns
    assert same(cache.encode(schema, table, table_digest(table)), first) and (folder / "0.bin").stat().st_mtime_ns == before


def test_other_rows_and_other_fits_are_other_folders(made, tmp_path):
    schema, table = made
    cache.encode(schema, table, table_digest(table))
    half = table.slice(0, 20)
    assert same(cache.encode(schema, half, table_digest(half)), schema.encode(half)) and len(folders(tmp_path)) == 2
    schema.fit(half)
    assert same(cache.encode(schema, half, table_digest(half)), schema.encode(half)) and len(folders(tmp_path)) == 3


@pytest.mark.parametrize("harm", ["cut", "gone", "index", "bit", "types", "a file"])
def test_a_damaged_folder_is_made_anew(made, tmp_path, harm):
    schema, table = made
    cache.encode(schema, table, table_digest(table))
    (folder,) = folders(tmp_path)
    if harm == "cut":
        (folder / "0.bin").write_bytes((folder / "0.bin").read_bytes()[:-3])
    elif harm == "gone":
        (folder / "1.bin").unlink()
    elif harm == "bit":
        content = (folder / "0.bin").read_bytes()
        (folder / "0.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "a file":  # in the folder's place: memory has to do
        shutil.rmtree(folder)
        folder.write_text("")
        assert same(cache.encode(schema, table, table_digest(table)), schema.encode(table))
        folder.unlink()
    else:
        (folder / "index.json").write_text('{"n": 40' if harm == "index" else '{"n": 40, "names": [], "arrays": 3}')
    assert same(cache.encode(schema, table, table_digest(table)), schema.encode(table))
    assert same(cache._open(folder, schema), schema.encode(table))


def test_a_picture_file_that_changes_is_read_again(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    for name, colour in (("a.png", 10), ("b.png", 200)):
        Image.new("L", (8, 8), colour).save(tmp_path / name)
    table = pa.table({"scan": ["a.png", "b.png"]})
    schema = Schema({"scan": find.make("kinds", {"picture": {"root": str(tmp_path)}})}, {})
    schema.fit(table)
    for colour in (200, 90):
        Image.new("L", (8, 8), colour).save(tmp_path / "b.png")
        assert cache.encode(schema, table, table_digest(schema.contents(table))).inputs["scan"]["values"][1, 0, 0, 0] == colour


def test_parts_of_a_large_table_are_mapped_and_the_same(made, monkeypatch):
    _, table = made
    which = np.arange(40) % 3
    small = cache.split(table, which, ("a", "b", "c"))
    monkeypatch.setattr(cache, "LIMIT", 100)
    large = cache.split(table, which, ("a", "b", "c"))
    assert all(large[k].equals(small[k]) for k in small) and small["b"].num_rows == 13


def test_what_another_process_finishes_meanwhile_is_kept(made, tmp_path, monkeypatch):
    schema, table = made
    real, inodes = cache._open, []

    def late(folder, schema):  # the other one ends between our look and our writing
        if not inodes:
            cache._write(folder, schema, table)
            inodes.append((folder / "index.json").stat().st_ino)
            raise FileNotFoundError(folder)
        return real(folder, schema)

    monkeypatch.setattr(cache, "_open", late)
    assert same(cache.encode(schema, table, table_digest(table)), schema.encode(table))
    (folder,) = folders(tmp_path)
    assert [(folder / "index.json").stat().st_ino] == inodes
