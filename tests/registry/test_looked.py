"""Test rows are known again in another file: with rows less or more, or another column; fresh rows of any table are not."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright import find, seen
from modelwright.data.schema import Schema
from modelwright.registry import gate, looked
from modelwright.registry.store import Registry

KEY = b"a key"


def opened(registry, table, model, limit=">= 0.5"):
    """Its place among the models of these rows, and how often they were opened."""
    kinds = {n: find.make("kinds", "number") for n in table.column_names if n not in ("y", "row")}
    schema = Schema(kinds, {"y": find.make("kinds", "category")})
    digest, rows = seen.test_rows(schema, table, KEY)
    policy = gate.parse({"accuracy": limit})
    loosened = registry.edited_limits(digest, ["y"], policy, rows)
    times = registry.open_test(digest, model, policy, ["y"], model, rows)
    assert [x.bound for x in registry.first_limits(digest, ["y"])] == [x.bound for x in registry.first_limits(digest, ["y"], rows)]
    return registry.judged(digest).index(model) + 1, times, len(loosened)


def made(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"a": rng.normal(size=n), "b": rng.integers(0, 9, n), "y": rng.integers(0, 2, n)})


def test_rows_are_known_again_in_another_file(tmp_path):
    registry, table = Registry(tmp_path / "r.sqlite"), made()
    assert opened(registry, table, "first", ">= 0.9") == (1, 1, 0)
    assert opened(registry, table.slice(1), "second") == (2, 2, 1), "and limits that are looser than at the first"
    assert opened(registry, pa.concat_tables([table, made(500, 1)]), "third") == (3, 3, 1)
    assert opened(registry, table.append_column("row", pa.array(range(3000))), "fourth") == (4, 4, 1)
    assert opened(registry, table.take(np.random.default_rng(0).permutation(3000)[:900]), "first") == (1, 5, 1), "a model keeps its place"
    assert opened(registry, made(seed=2), "fresh") == (1, 1, 0)
    assert opened(registry, pa.concat_tables([table.slice(0, 1000), made(2000, 3)]), "mostly fresh") == (1, 1, 0)
    assert not registry.amiss()


def test_what_was_kept_of_rows_cannot_be_taken_out_unseen(tmp_path):
    registry = Registry(tmp_path / "r.sqlite")
    opened(registry, made(), "first")
    for change in ("DELETE FROM looked_at", "UPDATE looked_at SET hashes = '[]'"):
        with pytest.raises(Exception, match="append-only"):
            registry.transaction(lambda db, change=change: db(change))
    registry.transaction(lambda db: (db("DROP TRIGGER looked_at_no_update"), db("UPDATE looked_at SET hashes = '[]'")))
    assert any("taken out or changed" in f.text for f in registry.amiss())


@pytest.mark.parametrize("cells", [2, 30, 300, 2000, 100_000])
def test_fresh_rows_of_few_values_are_not_known(cells):
    """As often as it may by chance: 1 in 100, in the worst table; a table of 2,000 rows and as many possible ones is that."""
    rng, hits = np.random.default_rng(cells), 0
    for _ in range(100):
        a, b = (seen.alone(pa.table({"x": rng.integers(0, cells, 2000)}), KEY) for _ in range(2))
        hits += looked.known(b, a)
    assert hits <= 2


def test_sketches_of_large_splits_agree_with_a_count_of_all():
    rng = np.random.default_rng(0)
    old = rng.permutation(10**6)[:50_000]
    for share, want in ((0.4, False), (0.6, True)):
        new = np.concatenate([old[: int(share * 9000)], 10**7 + rng.permutation(10**6)[: 9000 - int(share * 9000)]])
        a, b = (seen.alone(pa.table({"x": x}), KEY) for x in (old, new))
        assert not a[0] and len(a[1]) == seen.FEW and looked.known(b, a) == want
    assert not looked.known((True, []), (True, [])) and looked.known((True, list(range(6))), (True, list(range(6))))
