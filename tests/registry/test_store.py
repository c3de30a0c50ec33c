"""Openings are never lost: not between processes, not in a damaged file, not where nothing can be written."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelwright.errors import Refusal, Stopped
from modelwright.registry import database
from modelwright.registry.formats import FORMATS
from modelwright.registry.store import Registry


def code(error):
    (problem,) = error.value.problems
    assert problem.what and problem.where and problem.fix
    return problem.code


def test_openings_are_counted_by_rows(tmp_path):
    registry = Registry(tmp_path / "deep" / "home" / "r.sqlite")
    assert [registry.open_test("sha256:a", who) for who in ("run-1", "run-2", "run-2")] == [1, 2, 3]
    assert registry.open_test("sha256:b", "run-1") == 1
    assert [o["who"] for o in Registry(registry.path).openings("sha256:a")] == ["run-1", "run-2", "run-2"]
    assert registry.openings("sha256:c") == [] and registry.openings("sha256:a")[0]["at"].endswith("Z")


def test_models_are_numbered_by_when_their_rows_first_judged_them(tmp_path):
    registry = Registry(tmp_path / "r.sqlite")
    for rows, model in (("sha256:a", "m1"), ("sha256:a", "m2"), ("sha256:b", "m3"), ("sha256:a", None), ("sha256:a", "m1"), ("sha256:a", "m3")):
        registry.open_test(rows, "run", model=model)
    assert registry.judged("sha256:a") == ["m1", "m2", "m3"] and registry.judged("sha256:b") == ["m3"] and registry.judged("sha256:c") == []


def test_home_is_where_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "家 home"))
    assert [Registry().open_test("sha256:a", "me") for _ in range(2)] == [1, 2]
    assert Registry().path == tmp_path / "家 home" / "registry.sqlite"


def test_several_processes_at_once(tmp_path):
    """Six processes start on a registry that does not exist yet; each count is given out once."""
    work = (
        "import sys; from modelwright.registry.store import Registry\n"
        "for _ in range(20): print(Registry(sys.argv[1]).open_test('sha256:a', sys.argv[2]))"
    )
    path = tmp_path / "r.sqlite"
    runs = [subprocess.Popen([sys.executable, "-c", work, path, f"run-{i}"], stdout=subprocess.PIPE, text=True) for i in range(6)]
    counts = [int(line) for run in runs for line in run.communicate(timeout=60)[0].split()]
    assert sorted(counts) == list(range(1, 121)) and all(run.returncode == 0 for run in runs)


def test_several_threads_at_once(tmp_path):
    registry = Registry(tmp_path / "r.sqlite")
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda i: registry.open_test("sha256:a", str(i)), range(80)))
    assert sorted(counts) == list(range(1, 81))


def test_a_killed_process_leaves_whole_openings(tmp_path):
    path = tmp_path / "r.sqlite"
    Registry(path).open_test("sha256:a", "before")
    work = (
        "import sys, sqlite3, os\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE')\n"
        "db.execute(\"INSERT INTO test_opening (digest, who) VALUES ('sha256:a', 'killed')\"); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", work, path], check=False).returncode == 9
    assert Registry(path).open_test("sha256:a", "after") == 2


@pytest.mark.parametrize("damage", ["text", "cut", "zeros", "table"])
def test_a_damaged_registry_stops_and_is_left_alone(tmp_path, damage):
    path = tmp_path / "r.sqlite"
    for i in range(50):
        Registry(path).open_test("sha256:a", f"run-{i}" * 40)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if damage == "table":
            db.execute("ALTER TABLE test_opening RENAME TO gone")
    db.close()
    whole = path.read_bytes()
    ruined = {
        "text": b"not a database at all, " * 50,
        "cut": whole[: len(whole) // 3],
        "zeros": whole[:100] + bytes(len(whole) - 100),
        "table": whole,
    }[damage]
    path.write_bytes(ruined)
    for f in ("r.sqlite-wal", "r.sqlite-shm"):
        (tmp_path / f).unlink(missing_ok=True)
    with pytest.raises(Stopped) as e:
        Registry(path).open_test("sha256:a", "now")
    assert code(e) == "registry.corrupt" and e.value.status == 4
    assert path.read_bytes() == ruined


def test_an_empty_file_is_a_new_registry(tmp_path):
    (tmp_path / "r.sqlite").touch()
    assert Registry(tmp_path / "r.sqlite").open_test("sha256:a", "me") == 1


def test_a_newer_registry_is_refused(tmp_path):
    path = tmp_path / "r.sqlite"
    Registry(path).open_test("sha256:a", "me")
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(FORMATS) + 1}")
    db.close()
    with pytest.raises(Refusal) as e:
        Registry(path).open_test("sha256:a", "me")
    assert code(e) == "registry.newer"


def test_a_lock_that_is_never_released(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    path = tmp_path / "r.sqlite"
    Registry(path).open_test("sha256:a", "me")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Stopped) as e:
            Registry(path).open_test("sha256:a", "me")
    finally:
        holder.close()
    assert code(e) == "registry.busy"


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Stopped) as e:
        Registry(tmp_path / "file" / "r.sqlite").open_test("sha256:a", "me")
    assert code(e) == "registry.unwritable"
    (tmp_path / "folder").mkdir()
    with pytest.raises(Stopped) as e:
        Registry(tmp_path / "folder").open_test("sha256:a", "me")
    assert code(e) == "registry.unwritable"


@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_home(tmp_path, exists):
    home = tmp_path / "home"
    home.mkdir()
    if exists:
        Registry(home / "r.sqlite").open_test("sha256:a", "me")
        for f in home.iterdir():
            f.chmod(0o400)
    home.chmod(0o500)
    if os.access(home, os.W_OK):
        pytest.skip("this user may write everywhere (root)")
    try:
        with pytest.raises(Stopped) as e:
            Registry(home / "r.sqlite").open_test("sha256:a", "me")
    finally:
        home.chmod(0o700)
    assert code(e) == "registry.unwritable"
