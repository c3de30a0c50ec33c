"""Versions, references, the trail, rollback and collection; on SQLite, and on PostgreSQL where there is a server."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelwright.artifact import located
from modelwright.digests import model_digest
from modelwright.errors import Refusal, Stopped
from modelwright.registry import aliases, promotion
from modelwright.registry.collect import collect, needed
from modelwright.registry.formats import OPENINGS
from modelwright.registry.store import Registry
from modelwright.registry.trail import Event
from modelwright.registry.versions import Version

DAY = "2026-06-01"


def code(error):
    (problem,) = error.value.problems
    assert problem.what and problem.where and problem.fix
    return problem.code


def promote(registry, reference, alias="production", at=f"{DAY}T10:00:00Z", **more):
    done = promotion.promote(registry, reference, alias, who="ann", at=at, **more)
    assert done.moved, done.reasons
    return done


# Versions


def test_versions_are_numbers_bound_to_digests(runs, registry):
    one, two = runs.register(weights="one"), runs.register(weights="two")
    other = runs.register(name="其他", weights="one")
    assert [(v.name, v.version) for v in registry.versions()] == [("m", 1), ("m", 2), ("其他", 1)]
    assert one.digest != two.digest and one.model == other.model == model_digest(runs.root / "run-1" / "model")
    assert registry.register(runs.root / "run-1", "m").version == 1 and len(registry.versions("m")) == 2  # the same content is the same version
    kept = sorted(p.relative_to(one.folder).as_posix() for p in one.folder.rglob("*") if p.is_file())
    model = ["model/model.json", "model/model.safetensors", "model/parts/words.txt"]
    assert kept == ["card.md", "evidence.json", "lineage.json", "manifest.json", *model, "plan.json", "task.yaml"]
    assert all(not p.lstat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) for p in [one.folder, *one.folder.rglob("*")])
    assert one.lineage == {
        "code": "sha256:code",
        "data": {"train": "sha256:train", "test": "sha256:test"},
        "parents": [],
        "statements": [{"epsilon": 3.0}],
    }
    assert not [p for p in registry.objects.iterdir() if p.name.startswith(".")]


def test_references(runs, registry):
    one, two = runs.register(weights="one"), runs.register(weights="two")
    promote(registry, "m@1")
    for text, version in (("m", 2), ("m@1", 1), ("m@production", 1), (f"m@{one.digest}", 1), (f"m@{two.model}", 2), (f"m@{two.digest[:20]}", 2)):
        assert registry.resolve(text).version == version, text
    for text, problem in {
        "n": "registry.unknown_name", "m@9": "registry.unknown_version", "m@staging": "registry.unknown_alias",
        "m@sha256:": "registry.unknown_version", f"m@sha256:{'0' * 64}": "registry.unknown_version", "../m": "registry.name", "": "registry.name",
    }.items():  # fmt: skip
        with pytest.raises(Refusal) as e:
            registry.resolve(text)
        assert code(e) == problem, text


def test_a_reference_opens_like_a_folder(runs, registry, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))
    one = runs.register()
    assert located("m@1") == one.folder and located(Path(f"m@{one.digest}")) == one.folder
    assert located("some/folder") == Path("some/folder") and located("file.py:factory") == Path("file.py:factory")


def test_what_is_read_is_verified(runs, registry):
    one = runs.register()
    weights = one.folder / "model" / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(Refusal) as e:
        registry.resolve("m")
    assert code(e) == "registry.tampered"
    assert registry.register(runs.root / "run-1", "m").version == 1  # the run's own bytes again: the damaged ones are set aside
    assert registry.resolve("m").version == 1 and [p.name for p in registry.objects.iterdir() if p.name.startswith(".bad-")]


def test_no_model_links_and_odd_names_are_refused(runs, registry, tmp_path):
    with pytest.raises(Refusal) as e:
        registry.register(tmp_path / "nothing", "m")
    assert code(e) == "registry.no_model"
    run = runs.make()
    for name in ("", "a/b", "..", "-x", "a@b", "x" * 101):
        with pytest.raises(Refusal) as e:
            registry.register(run, name)
        assert code(e) == "registry.name"
    (tmp_path / "secret").write_text("secret")
    (run / "model" / "more.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal) as e:
        registry.register(run, "m")
    assert code(e) == "registry.link" and not registry.versions() and not list(registry.objects.glob("*"))


def test_several_processes_register_at_once(runs, registry):
    """Four processes, five runs each of their own and one that all share, on a registry that does not exist yet: no number twice, no bytes lost."""
    shared = runs.make(weights="shared")
    own = [[runs.make(weights=f"{p}-{i}") for i in range(5)] for p in range(4)]
    registry.path.unlink()
    work = (
        "import sys\nfrom modelwright.registry.store import Registry\n"
        "for run in sys.argv[2:]: print(Registry(sys.argv[1]).register(run, 'm', who='p').version)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", work, registry.path, *own[p][:3], shared, *own[p][3:]], stdout=subprocess.PIPE, text=True)
        for p in range(4)
    ]
    numbers = [int(x) for s in started for x in s.communicate(timeout=120)[0].split()]
    assert all(s.returncode == 0 for s in started) and len(numbers) == 24
    assert sorted(set(numbers)) == list(range(1, 22)) == [v.version for v in registry.versions("m")]
    assert registry.broken_trail() is None and len(registry.history()) == 21
    assert all(registry.resolve(f"m@{n}").version == n for n in range(1, 22))


def test_a_registry_of_the_first_format_is_carried_on(tmp_path, runs):
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    now = "(strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))"
    db.executescript(OPENINGS.replace("{id}", "INTEGER PRIMARY KEY").replace("{now}", now) + "; PRAGMA user_version = 1;")
    db.execute("INSERT INTO test_opening (digest, who) VALUES ('sha256:a', 'before')")
    db.commit()
    db.close()
    registry = Registry(path)
    assert registry.open_test("sha256:a", "after") == 2 and registry.register(runs.make(), "m").version == 1


# Aliases


def moves(*told):
    """(what, version, until or back) as events numbered from 1."""
    fields = {"rollback": "back", "override": "until"}
    return [Event(i, "t", "w", what, "m", v, f"d{v}", "a", **({fields[what]: x} if what in fields else {})) for i, (what, v, x) in enumerate(told, 1)]


def test_aliases_are_read_from_the_trail():
    told = moves(("promote", 1, None), ("promote", 2, None), ("override", 3, "2026-02-01"))
    stack = aliases.stack(told)
    assert [m.version for m in stack] == [1, 2, 3]
    assert aliases.current(stack, "2026-02-01").version == 3 and aliases.current(stack, "2026-02-02").version == 2
    assert aliases.before(stack, "2026-02-01").version == 2
    back = aliases.stack([*told, *moves(*[("promote", 9, None)] * 3, ("rollback", 2, 2))[3:]])
    assert [m.version for m in back] == [1, 2]
    assert [m.version for m in aliases.stack(moves(("promote", 1, None), ("override", 2, "2026-01-01"), ("promote", 2, None)))] == [1, 2]
    assert aliases.current(aliases.stack(moves(("override", 1, "2026-01-01"))), "2026-01-02") is None


def test_rollback_goes_back_step_by_step_and_no_further(runs, registry):
    for weights in "abc":
        runs.register(weights=weights)
        promote(registry, "m")
    assert registry.resolve("m@production").version == 3
    assert registry.rollback("m", who="bo", why="complaints").version == 2 and registry.resolve("m@production").version == 2
    promote(registry, "m@3")
    assert registry.rollback("m").version == 2 and registry.rollback("m").version == 1
    with pytest.raises(Refusal) as e:
        registry.rollback("m")
    assert code(e) == "registry.no_rollback" and registry.resolve("m@production").version == 1
    told = [(e.what, e.version, e.who) for e in registry.history("m") if e.what == "rollback"]
    assert told[0] == ("rollback", 2, "bo") and len(told) == 3


def test_the_trail_cannot_be_changed_unseen(runs, registry):
    runs.register()
    promote(registry, "m")
    runs.register(weights="two")
    assert registry.broken_trail() is None
    db = sqlite3.connect(registry.path)
    for sql in ("UPDATE event SET who = 'eve'", "DELETE FROM event", "UPDATE version SET digest = 'x'", "DELETE FROM evidence"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(sql)
    db.execute("DROP TRIGGER event_no_UPDATE")
    db.execute("UPDATE event SET who = 'eve' WHERE id = 3")
    db.commit()
    assert registry.broken_trail() == 3
    db.execute("UPDATE event SET who = 'ann' WHERE id = 3")
    db.commit()
    assert registry.broken_trail() is None
    db.execute("DROP TRIGGER event_no_DELETE")
    db.execute("DELETE FROM event WHERE id = 3")
    db.commit()
    db.close()
    assert registry.broken_trail() == 4


# Collection


def test_collection_keeps_what_aliases_parents_and_retention_need(runs, registry):
    first = runs.register(weights="0")
    for i in range(1, 7):
        runs.register(weights=str(i), parents=[f"model {first.model}"] if i == 2 else ())
    for number in (2, 3, 4):
        promote(registry, f"m@{number}")
    registry.rollback("m")  # 3 again; 2 can still be gone back to, 4 cannot
    would = collect(registry, keep=1, dry_run=True)
    assert [c.versions for c in sorted(would, key=lambda c: c.versions)] == [["m@4"], ["m@5"], ["m@6"]] and all(c.size > 0 for c in would)
    assert all(registry.resolve(f"m@{n}") for n in range(1, 8))  # a dry run removes nothing
    assert {c.digest for c in collect(registry, keep=1, who="ann")} == {c.digest for c in would}
    assert [n for n in range(1, 8) if registry.find(f"m@{n}").folder.is_dir()] == [1, 2, 3, 7]
    assert registry.resolve("m@production").version == 3 and registry.rollback("m").version == 2
    with pytest.raises(Refusal) as e:
        registry.resolve("m@5")
    assert code(e) == "registry.no_bytes" and "garbage" in e.value.problems[0].why
    assert len(registry.versions("m")) == 7 and {e.version for e in registry.history("m") if e.what == "collect"} == {4, 5, 6}
    assert registry.register(runs.root / "run-5", "m").version == 5 and registry.resolve("m@5")  # the same bytes come back as the same version
    assert collect(registry, keep=7) == [] and collect(registry, keep=0, days=1, at=f"{DAY}T12:00:00Z") == []


def test_parents_of_parents_stay():
    told = [Version("m", i, f"sha256:{i:064x}", f"sha256:{i + 100:064x}", {"parents": [f"sha256:{i + 101:064x}"]}, Path()) for i in range(1, 5)]
    assert needed(told, [], 0, 0, DAY) == set()
    assert needed(told, [Event(1, "t", "w", "promote", "m", 2, told[1].digest, "a")], 0, 0, DAY) == {v.digest for v in told[1:]}


def test_left_overs_are_collected_but_not_a_copy_in_progress(runs, registry):
    runs.register()
    for name in (".half-new", ".trash-old"):
        (registry.objects / name).mkdir()
    assert [c.digest for c in collect(registry)] == [".trash-old"]
    assert [c.digest for c in collect(registry, at="2099-01-01T00:00:00Z")] == [".half-new"]


def test_a_promotion_never_lands_on_collected_bytes(runs, registry):
    one = runs.register(weights="one")
    runs.register(weights="two")
    collect(registry, keep=1)
    with pytest.raises(Refusal) as e:
        registry.log("promote", one.folder, name="m", version=1, digest=one.digest, alias="production")
    assert code(e) == "registry.no_bytes"
    assert not promotion.promote(registry, "m@1", who="ann").moved


# PostgreSQL


def test_postgres_holds_what_sqlite_holds(postgres, runs, tmp_path):
    registry = runs.registry = Registry(tmp_path / "pg" / "r.sqlite", url=postgres)
    assert [registry.open_test("sha256:a", who) for who in "ab"] == [1, 2] and [o["who"] for o in registry.openings("sha256:a")] == ["a", "b"]
    assert registry.openings("sha256:a")[0]["at"].endswith("Z")
    for weights in "ab":
        runs.register(weights=weights)
        promote(registry, "m")
    assert registry.resolve("m@production").version == 2 and registry.rollback("m").version == 1 and registry.broken_trail() is None
    runs.register(weights="c", require={"accuracy": ">= 0.80"})
    refused = promotion.promote(registry, "m", who="ann")
    assert not refused.moved and {r["code"] for r in refused.reasons} == {"gate.policy_changed"}
    assert sorted(c.versions for c in collect(registry, keep=0)) == [["m@2"], ["m@3"]]
    assert not registry.path.exists()
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres) as db, pytest.raises(psycopg.Error, match="append-only"):
        db.execute("DELETE FROM event")


def test_postgres_under_several_processes(postgres, runs, tmp_path):
    own = [[runs.make(weights=f"{p}-{i}") for i in range(4)] for p in range(4)]
    work = (
        "import os, sys\nfrom modelwright.registry.store import Registry\nr = Registry(sys.argv[1], url=os.environ['URL'])\n"
        "for run in sys.argv[2:]: print(r.register(run, 'm', who='p').version, r.open_test('sha256:a', 'p'))"
    )
    path, env = tmp_path / "pg" / "r.sqlite", {**os.environ, "URL": postgres}
    started = [subprocess.Popen([sys.executable, "-c", work, path, *own[p]], stdout=subprocess.PIPE, text=True, env=env) for p in range(4)]
    told = [tuple(map(int, line.split())) for s in started for line in s.communicate(timeout=120)[0].splitlines()]
    assert sorted(v for v, _ in told) == sorted(n for _, n in told) == list(range(1, 17))
    assert Registry(path, url=postgres).broken_trail() is None


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cr%40t@127.0.0.1:9/x", "host=127.0.0.1 port=9 user=me password=s3cr@t", "postgresql://me:s3cr%40t@[bad/x"]
)
def test_a_password_is_never_shown(tmp_path, url):
    pytest.importorskip("psycopg")
    with pytest.raises((Stopped, Refusal)) as e:
        Registry(tmp_path / "r.sqlite", url=url).openings("sha256:a")
    shown = str(e.value) + repr(e.value.__cause__) + str([p.as_json() for p in e.value.problems])
    assert "s3cr" not in shown and e.value.problems[0].code in ("registry.unreachable", "registry.url")
