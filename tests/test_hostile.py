"""What a careless or hostile user met once: each ends in an answer or a refusal, never in a traceback."""

import ctypes
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import modelwright as mw
from modelwright import artifact, cli, find, new, planning, seen
from modelwright.auditing import reproducing
from modelwright.data import sources
from modelwright.errors import Refusal, Stopped
from modelwright.home import write as write_text
from modelwright.kinds.timestamp import Timestamp
from modelwright.learn import checkpoint
from modelwright.new import write_task

STAGES = [{"train": {"steps": 10}}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


def command(monkeypatch, *words):
    """The exit status of the command line."""
    monkeypatch.setattr(sys, "argv", ["modelwright", *map(str, words)])
    with pytest.raises(SystemExit) as e:
        cli.main()
    return e.value.code


def rows(n=100):
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=n), "y": ["yes", "no"] * (n // 2)}


def test_a_declared_number_without_any_value_does_not_stop_the_tree_baseline(tmp_path):
    table = pa.table({**rows(), "empty": pa.nulls(100, pa.float64())})
    task = mw.task_of({"data": {"source": table, "columns": {"empty": "number"}}, "target": "y", "stages": STAGES})
    assert "trees" in mw.run(task, tmp_path / "run").baselines


def test_text_where_a_time_is_read_is_refused():
    kind = Timestamp()
    kind.fit(pa.chunked_array([["2024-01-31 13:45:00", "2024-02-01 00:00:00"]]))
    with pytest.raises(Refusal, match="hello"):
        kind.encode(pa.chunked_array([["hello"]]))


def test_a_task_file_that_cannot_be_opened_or_written_is_a_refusal(tmp_path):
    (tmp_path / "d.csv").write_text("a,y\n" + "\n".join(f"{i / 7:.3f},{i % 2}" for i in range(50)))
    (tmp_path / "file").write_text("")
    args = ["new", str(tmp_path / "d.csv"), "--target", "y", "--out", str(tmp_path / "file" / "t.yaml")]
    done = subprocess.run([sys.executable, "-m", "modelwright.cli", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_plugins_are_listed_once_however_wide_the_table_is():
    find._plugins.cache_clear()
    for _ in range(50):
        find.names("kinds")
    assert find._plugins.cache_info().misses == 1


@pytest.mark.parametrize("times", [[f"w{i}" for i in range(100)], [i if i % 5 else None for i in range(100)]])
def test_a_split_by_time_refuses_rows_without_a_time(times):
    task = mw.task_of({"data": {"source": pa.table({**rows(), "t": times}), "split": {"time": "t"}}, "target": "y", "stages": STAGES})
    with pytest.raises(Refusal) as e:
        planning.make(task)
    assert e.value.problems[0].code == "data.split_time"


def test_words_where_numbers_were_are_refused_not_read_as_missing(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=80), "b": rng.normal(size=80), "y": rng.choice(["u", "v"], 80)})
    mw.run(mw.task_of({"data": {"source": table}, "target": "y", "stages": [{"train": {"steps": 5}}]}), tmp_path / "run")
    with pytest.raises(Refusal, match="column 'a': 1 of 2 values .* no numbers"):
        mw.load(tmp_path / "run").answer(pa.table({"a": ["1.5", "foo"], "b": [1.0, 2.0]}))


def test_no_target_is_said():
    with pytest.raises(Refusal, match="no target"):
        mw.plan(mw.task_of({"data": {"source": pa.table({"a": list(range(50))})}, "target": []}))


def test_a_new_task_needs_a_column_to_learn_from(tmp_path):
    (tmp_path / "d.csv").write_text("y\n" + "a\nb\n" * 30)
    with pytest.raises(Refusal, match="only column"):
        write_task(str(tmp_path / "d.csv"), "y", tmp_path / "t.yaml")
    assert not (tmp_path / "t.yaml").exists()


def test_a_run_never_overwrites_the_evidence_of_an_audit(tmp_path):
    (tmp_path / "evidence.json").write_text("{}")
    with pytest.raises(Refusal, match="already holds evidence"):
        mw.run(mw.task_of({"data": {"source": pa.table(rows())}, "target": "y", "stages": STAGES}), tmp_path)


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(new, "write_task", interrupted)
    monkeypatch.setattr(sys, "argv", ["modelwright", "new", "d.csv"])
    with pytest.raises(SystemExit) as e:
        cli.main()
    assert e.value.code == 130 and "interrupted" in capsys.readouterr().err


def test_a_terminated_command_ends_as_an_interrupted_one(monkeypatch, capsys):
    monkeypatch.setattr(new, "write_task", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert command(monkeypatch, "new", "d.csv") == 130 and "interrupted" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_text_file_that_is_interrupted_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "task.yaml", "data: d.csv")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("words", [["run", "t.yaml", "--out", ""], ["plan", ""], ["run", "t.yaml", "--out="], ["audit", "", "--data", "d.csv"]])
def test_an_empty_value_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *words) == 2 and "empty value" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_a_command_of_a_group_is_named(monkeypatch, capsys):
    assert command(monkeypatch, "verify") == 2 and "modelwright registry verify" in capsys.readouterr().err


def test_a_name_that_cannot_be_registered_is_refused_before_the_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "t.yaml").write_text("data: d.csv\ntarget: y\n")
    assert command(monkeypatch, "run", tmp_path / "t.yaml", "--out", tmp_path / "run", "--register", "a b") == 2
    assert "cannot be a name" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_registry_is_not_kept_for_longer_than_dates_last(monkeypatch, capsys):
    assert command(monkeypatch, "registry", "gc", "--days", "99999999999") == 2 and "lifetime" in capsys.readouterr().err


def test_a_full_disk_under_copytree_is_told(monkeypatch, capsys):
    def full(*_):
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])

    monkeypatch.setattr(new, "write_task", full)
    assert command(monkeypatch, "new", "d.csv") == 4 and "no space is left" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["task.yaml", "model", "report.html", "checkpoints"])
def test_what_lies_in_the_folder_of_a_new_run_is_kept(tmp_path, name):
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("mine")
    with pytest.raises(Refusal, match=f"already holds {name}"):
        mw.run(mw.task_of({"data": {"source": pa.table(rows())}, "target": "y", "stages": STAGES}), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_rare_class_is_named_as_the_user_wrote_it():
    table = pa.table({"a": np.random.default_rng(0).normal(size=100), "y": ["often"] * 85 + ["罕见"] * 15})
    assert any("class '罕见' has" in w for w in planning.make(mw.task_of({"data": {"source": table}, "target": "y", "stages": STAGES})).warnings)


@pytest.mark.parametrize("write", ["checkpoint", "model", "rows"])
def test_no_room_for_weights_stops_the_run_in_words(write, tmp_path):
    tensors = {"w": torch.zeros(10_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(Stopped) as e:
            if write == "checkpoint":
                checkpoint.save(tmp_path / "c", 1, tensors)
            elif write == "model":
                artifact._write(tmp_path / "m", tensors, {})
            else:
                seen.keep(tmp_path, [pa.table(rows(2_000))], ["a"], b"key")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert e.value.problems[0].code == "disk.full" and e.value.status == 4
    assert not [p for p in tmp_path.rglob("*") if p.is_file() or p.name.startswith(".")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run, and its task."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(folder / "home"))
        task = mw.task_of({"data": {"source": pa.table(rows())}, "target": "y", "stages": STAGES})
        mw.run(task, folder / "run")
    return folder / "run", task


@pytest.mark.parametrize("file, change", [("model.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 4])), ("model.json", lambda b: b.replace(b"yes", b"yez"))])
def test_a_bit_that_flipped_in_a_model_is_found_before_it_answers(done, tmp_path, file, change):
    shutil.copytree(done[0], tmp_path / "run")
    path = tmp_path / "run" / "model" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Refusal) as e:
        artifact.open_model(tmp_path / "run")
    assert e.value.problems[0].code == "model.corrupt"


DAMAGE = [lambda t: t[: len(t) // 2], lambda t: "", lambda t: "[]", lambda t: "{}", lambda t: t.replace('"steps": 10', '"steps": 11')]


@pytest.mark.parametrize("change", DAMAGE)
def test_a_damaged_plan_is_refused_on_resume_and_nothing_is_lost(done, tmp_path, change):
    shutil.copytree(done[0], tmp_path / "run")
    plan = tmp_path / "run" / "plan.json"
    plan.write_text(change(plan.read_text()))
    with pytest.raises(Refusal) as e:
        mw.run(done[1], tmp_path / "run", resume=True)
    assert e.value.problems[0].code == "run.damaged" and artifact.open_model(tmp_path / "run")


def test_damaged_curves_and_checkpoints_are_left_out_and_told(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_bytes(b'{"stage": \xff}\n[1]\n{"stage": "train", "step": 1, "loss": 1.0}\n{"sta')
    for state in (tmp_path / "run").glob("checkpoints/*/*/state.json"):
        state.write_text("{")
    again = mw.run(done[1], tmp_path / "run", resume=True)
    assert "damaged" in (again.folder / "report.html").read_text("utf-8")
    assert (again.folder / "model" / "model.safetensors").read_bytes() == (done[0] / "model" / "model.safetensors").read_bytes()


def test_predictions_are_not_written_over_the_rows_that_they_are_of(done, tmp_path, monkeypatch, capsys):
    (tmp_path / "d.csv").write_text("a\n1\n2\n")
    assert command(monkeypatch, "predict", done[0], "--data", tmp_path / "d.csv", "--out", tmp_path / "d.csv") == 2
    assert "is the data itself" in capsys.readouterr().err and (tmp_path / "d.csv").read_text() == "a\n1\n2\n"


def test_a_run_goes_on_with_its_own_task_alone(done, tmp_path):
    """Another task's settings were left out without a word, and another number of stages ended in an IndexError."""
    shutil.copytree(done[0], tmp_path / "run")
    before = (tmp_path / "run" / "evidence.json").read_bytes()
    for other in ({"stages": [{"train": {"steps": 11}}]}, {"stages": [*STAGES, {"more": {"steps": 10}}]}, {"seed": 1}, {"model": {"instead": "trees"}}):
        task = mw.task_of({"data": done[1].data.model_dump(), "target": "y", "stages": STAGES} | other)
        with pytest.raises(Refusal, match=f"the task changed since this run began: {next(iter(other))}"):
            mw.run(task, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "evidence.json").read_bytes() == before


def test_a_run_that_lost_its_plan_is_not_begun_anew_over_its_result(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "run")
    (tmp_path / "run" / "plan.json").unlink()
    with pytest.raises(Refusal, match="already holds"):
        mw.run(done[1], tmp_path / "run", resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"task": null}', '{"task": null, "model": null, "data": []}', "[" * 100_000])
def test_a_damaged_audit_json_is_refused(done, tmp_path, text):
    shutil.copyfile(done[0] / "evidence.json", tmp_path / "evidence.json")
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(Refusal) as e:
        reproducing.reproduce(tmp_path / "evidence.json", tmp_path / "again")
    assert e.value.problems[0].code == "run.damaged" and not (tmp_path / "again").exists()


@pytest.mark.parametrize("stage", [{"patience": True}, {"epochs": True}, {"strategies": [{"lora": {"rank": True}}]}])
def test_true_is_no_number(stage):
    """`patience: true` was a patience of 1."""
    with pytest.raises(Refusal, match="True: input should be a number"):
        mw.task_of({"data": "d.csv", "target": "y", "stages": [{"train": stage}]})


@pytest.mark.parametrize("key", ["root", "file"])
def test_a_key_that_would_be_passed_over_is_unknown(key):
    with pytest.raises(Refusal, match=f"unknown key '{key}'"):
        mw.task_of({"data": "d.csv", "target": "y", key: "x"})


@pytest.mark.parametrize("target", [{"y": None}, {"y": 5}, [["y"]], 1.5])
def test_what_names_no_target_is_one_problem(target):
    with pytest.raises(Refusal) as e:
        mw.task_of({"data": "d.csv", "target": target})
    assert [p.code for p in e.value.problems] == ["task.missing_key"] and "names no target" in str(e.value)


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path):
    for data, target in (("nothing.csv", "y"), (pa.table(rows()), "z")):
        with pytest.raises(Refusal):
            mw.run(mw.task_of({"data": {"source": data}, "target": target, "stages": STAGES}), tmp_path / "runs" / "one")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_named_without_a_version_is_refused_with_its_versions(done, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(done[0].parent / "home"))
    mw.Registry().register(done[0], "triage")
    with pytest.raises(Refusal, match="fix: triage@1"):
        artifact.located("triage")
    with pytest.raises(Refusal, match="fix: triage@1"):
        mw.audit("triage", {"test": pa.table(rows())}, out=tmp_path / "audit")
    assert artifact.located("triages") == Path("triages")


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("change", [lambda b: None, lambda b: b[: len(b) // 2], lambda b: b[:-9] + bytes([b[-9] ^ 4]) + b[-8:]], ids=["gone", "cut", "flipped"])
def test_a_damaged_model_is_not_registered(done, tmp_path, file, change):
    """It was, under a number of its own, though nothing could open it."""
    shutil.copytree(done[0], tmp_path / "run")
    path = tmp_path / "run" / "model" / file
    left = change(path.read_bytes())
    path.unlink() if left is None else path.write_bytes(left)
    with pytest.raises(Refusal) as e:
        mw.Registry().register(tmp_path / "run", "triage")
    assert e.value.problems[0].code in ("model.corrupt", "registry.no_model") and not mw.Registry().names()


def test_a_link_in_a_circle_among_pictures_is_a_picture_that_cannot_be_read(tmp_path):
    for i in range(40):
        folder = tmp_path / "pictures" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"{i}.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "photo.heic").write_bytes(b"x")
    with pytest.raises(Refusal, match="'b/loop.png': there is no such file"):
        planning.make(mw.task_of({"data": {"source": "pictures"}, "target": "label", "stages": STAGES}, root=tmp_path))
    assert "no pictures were left out: 'b/photo.heic'" in " ".join(sources.load("pictures", root=tmp_path).notes)


def test_a_folder_that_is_gone_and_a_locale_without_letters_are_said(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd {tmp_path}/gone && rmdir ../gone && exec {sys.executable} -m modelwright plan t.yaml"
    env = {**os.environ, "PYTHONPATH": str(Path(mw.__file__).parents[1])}
    gone = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert gone.returncode == 2 and "is gone" in gone.stderr
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "modelwright", "plan", "任务.yaml"]
    plain = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert plain.returncode == 2 and "PYTHONUTF8=1" in plain.stderr


def test_a_pipe_that_ends_is_no_fault_of_ours():
    env = {**os.environ, "PYTHONPATH": str(Path(mw.__file__).parents[1])}
    script = f"{sys.executable} -m modelwright components | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", script], env=env, capture_output=True, timeout=60).returncode == 0


def mortal():
    """Rights to files bind root too."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how root gives up its rights differs by system")
@pytest.mark.parametrize("wal", [False, True])
def test_a_home_that_can_only_be_read_is_read(done, tmp_path, wal):
    shutil.copytree(done[0].parent / "home", home := tmp_path / "sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWRIGHT_HOME", str(home))
        mw.Registry().register(done[0], "triage")
    (tmp_path / "new.csv").write_text("a\n1\n2\n")
    beside = sqlite3.connect(home / "registry.sqlite", isolation_level=None)
    beside.execute("BEGIN") if wal else beside.close()  # a process beside us, whose log of writes lies beside the file
    if wal:
        beside.execute("SELECT * FROM version").fetchall()
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(home.rglob("*"))

    def status(*words):
        env = {**os.environ, "MODELWRIGHT_HOME": str(home), "PYTHONPATH": str(Path(mw.__file__).parents[1])}
        words = [sys.executable, "-m", "modelwright", *map(str, words)]
        done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=mortal)  # noqa: PLW1509
        assert "Traceback" not in done.stderr
        return done.returncode

    try:
        assert status("registry", "list") == status("registry", "show", "triage@1") == 0
        assert status("register", done[0], "--name", "again") in (2, 4)
        if not wal:
            assert status("predict", "triage@1", "--data", "new.csv", "--out", "out.csv") == 0
        assert sorted(home.rglob("*")) == before
    finally:
        beside.close()
        for path in (home, *home.rglob("*")):
            path.chmod(0o755)
