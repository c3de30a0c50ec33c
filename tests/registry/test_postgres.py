"""The registry's whole life on PostgreSQL, where a server is found: what its other tests show on SQLite, and several processes that race."""

import os
import subprocess
import sys

import pytest

from modelwright.registry import promotion, whole

ON_FILES = {  # they open the SQLite file by hand, damage it, or say where it lies
    "test_measurements_without_a_line_in_the_trail_count_for_nothing", "test_audits_are_lines_of_the_trail_that_cannot_go_unseen",
    "test_the_trail_cannot_be_changed_unseen", "test_several_processes_register_at_once", "test_a_registry_of_the_first_format_is_carried_on",
    "test_a_reference_opens_like_a_folder", "test_the_whole_way_by_the_command_line", "test_postgres_holds_what_sqlite_holds",
    "test_postgres_under_several_processes", "test_a_password_is_never_shown",
}  # fmt: skip
for module in ("test_promote", "test_later_audits", "test_registry"):
    globals().update({k: v for k, v in vars(__import__(module)).items() if k not in ON_FILES and k.startswith("test_")})


@pytest.fixture
def url(postgres):
    return postgres


def test_it_is_postgres_that_is_asked(runs, registry):
    runs.register()
    assert not registry.path.exists() and registry.history("m") and registry.amiss() == []


def test_two_processes_promote_and_register_at_once(runs, registry, postgres):
    """Each move is one line of the trail, no number is given twice, the alias is where the last move put it, and the chain is whole."""
    runs.register(weights="one")
    runs.register(weights="two")
    own = {str(n): [runs.make(weights=f"{n}-{i}") for i in range(2)] for n in (1, 2)}
    work = (
        "import os, sys\nfrom modelwright.registry.store import Registry\nr = Registry(sys.argv[1], url=os.environ['URL'])\n"
        "for run in sys.argv[3:]:\n"
        "    assert r.promote('m@' + sys.argv[2], who=sys.argv[2]).moved\n    print(r.register(run, 'm', who=sys.argv[2]).version)\n"
    )
    env = {**os.environ, "URL": postgres}
    started = [subprocess.Popen([sys.executable, "-c", work, registry.path, n, *own[n]], stdout=subprocess.PIPE, text=True, env=env) for n in own]
    numbers = [int(n) for s in started for n in s.communicate(timeout=120)[0].split()]
    assert all(s.returncode == 0 for s in started) and sorted(numbers) == [3, 4, 5, 6]
    moves = [e for e in registry.history("m") if e.what == "promote"]
    assert len(moves) == 4 and registry.broken_trail() is None and registry.amiss() == []
    assert registry.resolve("m@production").version == moves[-1].version
    assert all(registry.resolve(f"m@{n}").version == n and registry.verify(f"m@{n}") == [] for n in range(1, 7))


def test_a_database_edited_by_hand(runs, registry, postgres):
    """Whoever may take the triggers off is found by the chain, and nothing is promoted on it."""
    import psycopg

    runs.register()
    with psycopg.connect(postgres, autocommit=True) as db:
        with pytest.raises(psycopg.Error, match="append-only"):
            db.execute("UPDATE evidence SET body = replace(body, '0.93', '0.99')")
        db.execute("ALTER TABLE evidence DISABLE TRIGGER ALL")
        db.execute("UPDATE evidence SET body = replace(body, '0.93', '0.99')")
    done = promotion.promote(registry, "m", at="2026-06-01T12:00:00Z")
    assert not done.moved and {r["code"] for r in done.reasons} == {"gate.tampered"}
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute("ALTER TABLE event DISABLE TRIGGER ALL")
        db.execute("DELETE FROM event WHERE id = (SELECT max(id) FROM event)")
    assert any(whole.SEEN in f.text for f in registry.amiss())
