"""What a careless or hostile user met once: each ends in an answer or a refusal, never in a traceback."""

import resource
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

import modelwright as mw
from modelwright import artifact, cli, find, new, planning
from modelwright.errors import Refusal, Stopped
from modelwright.kinds.timestamp import Timestamp
from modelwright.learn import checkpoint
from modelwright.new import write_task

STAGES = [{"train": {"steps": 10}}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


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


def test_a_rare_class_is_named_as_the_user_wrote_it():
    table = pa.table({"a": np.random.default_rng(0).normal(size=100), "y": ["often"] * 85 + ["罕见"] * 15})
    assert any("class '罕见' has" in w for w in planning.make(mw.task_of({"data": {"source": table}, "target": "y", "stages": STAGES})).warnings)


@pytest.mark.parametrize("write", ["checkpoint", "model"])
def test_no_room_for_weights_stops_the_run_in_words(write, tmp_path):
    tensors = {"w": torch.zeros(10_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(Stopped) as e:
            checkpoint.save(tmp_path / "c", 1, tensors) if write == "checkpoint" else artifact._write(tmp_path / "m", tensors, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert e.value.problems[0].code == "disk.full" and e.value.status == 4


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
    (state,) = (tmp_path / "run").glob("checkpoints/*/*/state.json")
    state.write_text("{")
    again = mw.run(done[1], tmp_path / "run", resume=True)
    assert "damaged" in (again.folder / "report.html").read_text("utf-8")
    assert (again.folder / "model" / "model.safetensors").read_bytes() == (done[0] / "model" / "model.safetensors").read_bytes()
