"""Odd names, several processes, damaged files, links, collection in the middle of an export, a server that is not there: words and an exit status."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from modelwright.digests import model_digest
from modelwright.errors import Refusal, Stopped
from modelwright.registry import objects
from modelwright.registry.collect import collect
from modelwright.registry.export import huggingface
from modelwright.registry.promotion import promote
from modelwright.registry.references import is_reference
from modelwright.registry.store import Registry
from modelwright.report.index import render

AT = "2026-06-01T12:00:00Z"


def code(error):
    (problem,) = error.value.problems
    assert problem.what and problem.where and problem.fix
    return problem.code


# Names


@pytest.mark.parametrize("name", ["肺炎分诊", "モデル-1", "a.b_c-d", "1", "x" * 100])
def test_names_of_any_script(runs, registry, name):
    made = registry.register(runs.make(), name)
    promote(registry, f"{name}@1", "生产", at=AT)
    assert registry.resolve(f"{name}@生产").digest == made.digest and is_reference(f"{name}@生产")
    assert registry.resolve(f"{name}@{made.digest}").name == name


NO_NAMES = ["", " ", "a b", "..", ".", "../m", "a/b", "a\\b", "/etc", "a@b", "a\nb", "a\x00b", "-m", "_m", "x" * 101, "x" * 10_000, "e\u0301"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_no_names(runs, registry, name):
    run = runs.make()
    with pytest.raises(Refusal) as e:
        registry.register(run, name)
    assert code(e) == "registry.name" and len(str(e.value)) < 500
    registry.register(run, "m")
    with pytest.raises(Refusal) as e:
        promote(registry, "m", name, at=AT)
    assert code(e) == "registry.alias"
    with pytest.raises(Refusal):
        registry.find(f"m@{name}" if name else "m@ ")
    with pytest.raises(Refusal):
        registry.find(f"{name}@production")


def test_a_folder_of_any_name(runs, registry, tmp_path):
    run = tmp_path / "第一次 运行" / ("x" * 200)
    shutil.copytree(runs.make(), run)
    assert registry.resolve(f"m@{registry.register(run, 'm').version}").version == 1
    out = tmp_path / "导 出" / ("y" * 200)
    assert "README.md" in huggingface(registry, registry.resolve("m"), out, "2026-06-02", render)
    assert [p.name for p in out.parent.iterdir()] == [out.name]


# Several at once


def test_two_processes_promote_at_once(runs, registry):
    """Each of twenty moves is one line of the trail, the alias is where the last of them put it, and the chain is whole."""
    one, two = runs.register(weights="one"), runs.register(weights="two")
    work = (
        "import sys\nfrom modelwright.registry.store import Registry\n"
        "for _ in range(10): assert Registry(sys.argv[1]).promote('m@' + sys.argv[2], who=sys.argv[2]).moved"
    )
    started = [subprocess.Popen([sys.executable, "-c", work, registry.path, str(n)]) for n in (1, 2)]
    assert [s.wait(timeout=120) for s in started] == [0, 0]
    moves = [e for e in registry.history("m") if e.what == "promote"]
    assert len(moves) == 20 and registry.broken_trail() is None
    assert registry.resolve("m@production").digest == {1: one, 2: two}[moves[-1].version].digest


# Damage


def test_a_registry_that_is_gone_is_a_new_one_and_knows_no_model(runs, registry):
    runs.register()
    for file in registry.path.parent.glob("registry.sqlite*"):
        file.unlink()
    with pytest.raises(Refusal) as e:
        registry.resolve("m")
    assert code(e) == "registry.unknown_name"


def test_a_registry_cut_short_stops_every_command(runs, registry, monkeypatch, capsys):
    from modelwright.cli import main

    runs.register()
    collect(registry, dry_run=True)
    for file in registry.path.parent.glob("registry.sqlite-*"):
        file.unlink()
    whole = registry.path.read_bytes()
    registry.path.write_bytes(whole[: len(whole) // 3])
    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))
    for command in (["registry", "list"], ["promote", "m"], ["registry", "verify"], ["registry", "history"], ["registry", "gc"], ["rollback", "m"]):
        monkeypatch.setattr("sys.argv", ["modelwright", *command, "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        (problem,) = json.loads(capsys.readouterr().out)["errors"]
        assert e.value.code == 4 and problem["code"] == "registry.corrupt" and problem["fix"]
    assert registry.path.read_bytes() == whole[: len(whole) // 3]


def test_a_damaged_key_is_refused_and_kept(runs, registry):
    runs.register()
    key = registry.keys / "modelwright.pem"
    key.chmod(0o600)
    key.write_bytes(key.read_bytes()[:40])
    with pytest.raises(Refusal) as e:
        runs.register(weights="two")
    assert code(e) == "key.unreadable" and len(key.read_bytes()) == 40 and not [p for p in registry.objects.iterdir() if p.name.startswith(".half")]


def test_a_store_whose_public_keys_are_gone_is_not_trusted(runs, registry):
    runs.register()
    for key in registry.keys.glob("*.pub"):
        key.unlink()
    done = promote(registry, "m", at=AT)
    assert not done.moved and {r["code"] for r in done.reasons} == {"gate.tampered"}


# Links


def test_links_of_every_sort_are_refused_on_the_way_in(runs, registry, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "passwd").write_text("secret")
    for i, make in enumerate((
        lambda run: (run / "model" / "more").symlink_to(secret),
        lambda run: (run / "model" / "up").symlink_to(".."),
        lambda run: (run / "model" / "nowhere").symlink_to("nowhere else"),
        lambda run: os.mkfifo(run / "model" / "pipe"),
        lambda run: ((run / "card.md").unlink(), (run / "card.md").symlink_to(secret / "passwd")),
        lambda run: (shutil.move(run / "model", run / "real"), (run / "model").symlink_to(run / "real")),
    )):
        run = runs.make(weights=str(i))
        make(run)
        with pytest.raises(Refusal) as e:
            registry.register(run, "m")
        assert code(e) == "registry.link"
    assert not registry.versions() and not list(registry.objects.glob("*"))


def test_a_link_put_into_the_store_is_found_and_nothing_is_read_through_it(runs, registry, tmp_path):
    made = runs.register()
    weights = made.folder / "model" / "model.safetensors"
    (tmp_path / "copy").write_bytes(weights.read_bytes())
    (made.folder / "model").chmod(0o755)
    weights.unlink()
    weights.symlink_to(tmp_path / "copy")
    with pytest.raises(Refusal) as e:
        registry.resolve("m")
    assert code(e) == "registry.tampered" and "linked" in {f.kind for f in registry.verify("m")}
    with pytest.raises(Refusal):
        huggingface(registry, made, tmp_path / "out", "2026-06-02", render)
    assert not (tmp_path / "out").exists()


# Collection beside an export


def test_an_export_is_whole_or_nothing_whenever_the_bytes_are_collected(runs, registry, tmp_path):
    """Before it, in its middle, and at some moment that no one chose."""
    made = runs.register(weights="one")
    collect(registry, keep=0)
    with pytest.raises(Refusal) as e:
        huggingface(registry, made, tmp_path / "before", "2026-06-02", render)
    assert code(e) == "registry.no_bytes" and list(tmp_path.glob("*before*")) == []
    made = runs.register(weights="two")
    index = lambda *told: (collect(registry, keep=0), render(*told))[1]  # noqa: E731
    files = huggingface(registry, made, tmp_path / "middle", "2026-06-02", index)
    assert not made.folder.exists() and model_digest(tmp_path / "middle", ["model.json", "model.safetensors", "parts/words.txt"]) == made.model
    assert "README.md" in files
    for i in range(6):
        made = runs.register(weights=f"race {i}")
        gone = threading.Thread(target=collect, args=[registry], kwargs={"keep": 0})
        gone.start()
        try:
            assert huggingface(registry, made, tmp_path / f"race-{i}", "2026-06-02", render) == files
        except Refusal as e:
            assert e.problems[0].code == "registry.no_bytes" and not (tmp_path / f"race-{i}").exists()
        gone.join()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_an_export_takes_no_bytes_that_changed_under_it(runs, registry, tmp_path):
    made = registry.resolve(f"m@{runs.register().version}")
    path = made.folder / "evidence.json"
    path.chmod(0o644)
    path.write_text("{}")
    with pytest.raises(Refusal) as e:
        huggingface(registry, made, tmp_path / "out", "2026-06-02", render)
    assert code(e) == "registry.tampered" and not (tmp_path / "out").exists()


# A server that is not there


@pytest.mark.parametrize("command", [["registry", "list"], ["promote", "m"], ["registry", "gc"]])
def test_a_server_that_does_not_answer(tmp_path, monkeypatch, capfd, command):
    """Exit status 4, words, and no password anywhere."""
    pytest.importorskip("psycopg")
    from modelwright.cli import main

    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("THE_URL", "postgresql://me:hun%40ter2@127.0.0.1:9/models?sslkey=k")
    monkeypatch.setattr("sys.argv", ["modelwright", *command, "--url-env", "THE_URL"])
    with pytest.raises(SystemExit) as e:
        main()
    said = "".join(capfd.readouterr())
    assert e.value.code == 4 and "does not answer" in said and "127.0.0.1/models" in said and "Traceback" not in said
    assert "ter2" not in said and "me:" not in said
    monkeypatch.setenv("THE_URL", "mysql://me:hunter2@host/x")
    with pytest.raises(SystemExit) as e:
        main()
    said = "".join(capfd.readouterr())
    assert e.value.code == 2 and "cannot be read" in said and "hunter2" not in said


def test_without_mlflow_it_says_what_to_install(runs, registry, monkeypatch, capsys):
    from importlib.util import find_spec

    from modelwright.cli import main

    if find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed")
    runs.register()
    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))
    for command in (["export", "m", "--to", "mlflow:flow"], ["registry", "import", "m", "--from", "mlflow:flow"]):
        monkeypatch.setattr("sys.argv", ["modelwright", *command, "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        (problem,) = json.loads(capsys.readouterr().out)["errors"]
        assert e.value.code == 2 and problem["code"] == "extra.missing" and "modelwright[mlflow]" in problem["fix"]


def test_a_locked_registry_says_so(runs, registry, monkeypatch):
    import sqlite3

    from modelwright.registry import database

    runs.register()
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    holder = sqlite3.connect(registry.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Stopped) as e:
            promote(Registry(registry.path), "m", at=AT)
    finally:
        holder.close()
    assert code(e) == "registry.busy"


def test_what_the_store_lists_is_what_it_digests(runs, registry):
    made = runs.register()
    files, odd = objects.listing(made.folder)
    assert not odd and objects.digest_of(files) == made.digest and objects.model_digest(files) == made.model == model_digest(made.folder / "model")
