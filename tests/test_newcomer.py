"""What a newcomer meets between two commands: what is said of predictions, of folders in use, of runs side by side."""

import json
import logging
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import modelwright as mw
from modelwright import cli
from modelwright.cli import show
from modelwright.compare import compare
from modelwright.data import sources
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.find import make
from modelwright.foreign.predictor import Foreign
from modelwright.foreign.process import Worker
from modelwright.foreign.remote import as_logits
from modelwright.home import write
from modelwright.new import write_task
from modelwright.opening import remarks
from modelwright.preparing import columns_of
from modelwright.registry import policy as policies
from modelwright.running import Lock

STAGES = [{"train": {"steps": 5}}]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


def people(n=120):
    rng = np.random.default_rng(0)
    agreed = rng.choice(["是", "否"], n)
    return pa.table({"agreed": agreed, "age": rng.normal(40, 9, n), "city": rng.choice(["Oslo", "北京"], n), "y": np.where(agreed == "是", "in", "out")})


def ran(folder, table, **more):
    return mw.run(mw.task_of({"data": {"source": table}, "target": "y", "stages": STAGES, **more}), folder)


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_predict_says_what_the_answers_rest_on(tmp_path, monkeypatch, capsys):
    mw_run = ran(tmp_path / "run", people())
    (tmp_path / "new.csv").write_text("agreed,age,city\n是,40,Atlantis\nno,30,Oslo\n,,\n,, \n", "utf-8")
    monkeypatch.setattr("sys.argv", ["modelwright", "predict", str(mw_run.folder), "--data", str(tmp_path / "new.csv"), "--out", str(tmp_path / "o.csv")])
    with pytest.raises(SystemExit) as e:
        cli.main()
    said = capsys.readouterr()
    assert not e.value.code and "4 predictions" in said.out
    assert "column 'city': 1 of 4 rows have a value that training did not keep ('Atlantis')" in said.err
    assert "2 of 4 rows have nothing in any column" in said.err and said.err.count("note:") == 2


def test_groups_that_the_model_does_not_read(tmp_path):
    task = {"data": {"source": people(), "columns": {"city": {"kind": "ignore", "group": True}}}, "target": "y", "stages": STAGES}
    plan = mw.plan(mw.task_of(task))
    assert plan.schema.group == ["city"] and "city" not in plan.schema.inputs
    assert next(c for c in plan.columns if c["name"] == "city")["role"] == "group"


def test_a_limit_that_a_run_cannot_give_a_figure_is_told_before_it_trains():
    def said(group):
        task = {"data": {"source": people(), "columns": {"city": {"kind": "ignore", "group": group}}}, "target": "y", "stages": STAGES}
        plan = mw.plan(mw.task_of(task | {"audit": {"require": {"fairness.demographic_parity_difference": "<= 0.2", "ood.auroc": ">= 0.9"}}}))
        return [w for w in plan.warnings if "nothing here gives" in w]

    groups, strange = said(False)
    assert "fairness.demographic_parity_difference" in groups and "group: true" in groups and "ood.auroc" in strange and "--data ood=FILE" in strange
    assert said(True) == [strange]


def visits(n=240):
    rng = np.random.default_rng(1)
    day = np.datetime64("2022-01-01") + rng.integers(0, 700, n)
    return pa.table({"病人": [f"P{i:03d}" for i in rng.integers(0, 60, n)], "day": day, "x": rng.normal(size=n), "y": rng.choice(["in", "out"], n)})


def test_a_random_split_of_times_and_of_persons_is_warned_of():
    def said(table=None, split=None, **columns):
        given = {"source": visits() if table is None else table, "columns": columns, "split": split or {}}
        plan = mw.plan(mw.task_of({"data": given, "target": "y", "stages": STAGES}))
        return [w for w in plan.warnings if "at random" in w]

    person, moment = said()
    assert "'病人' names the same person" in person and "split: {by: 病人}" in person
    assert "'day' is a time" in moment and "split: {time: day}" in moment and "times still overlap" in moment
    by, in_time = said(split={"by": "病人"}), said(split={"time": "day"})
    assert len(by) == len(in_time) == 1 and "is a time" in by[0] and "same person" in in_time[0]
    assert "times still overlap" not in said(visits().drop_columns(["病人"]))[0]
    assert not said(病人="ignore", day="ignore") and not said(people())
    once = visits().set_column(0, "病人", pa.array([f"P{i:03d}" for i in range(240)]))
    assert not any("same person" in w for w in said(once))


def commanded(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["modelwright", *words])
    with pytest.raises(SystemExit) as e:
        cli.main()
    return (e.value.code or 0, *capsys.readouterr())


def test_a_ready_policy_is_listed_copied_and_tightened(tmp_path, monkeypatch, capsys):
    code, listed, _ = commanded(monkeypatch, capsys, "policy")
    assert not code and [line.split()[0] for line in listed.splitlines()] == ["credit", "driving", "medical", "moderation"]
    assert all(len(line.split()) > 3 for line in listed.splitlines()), "each says what it is for"
    code, text, _ = commanded(monkeypatch, capsys, "policy", "credit")
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    assert not code and policies.read("./mine.yaml", tmp_path) == policies.read("credit"), "the copy is the policy itself"
    code, _, refused = commanded(monkeypatch, capsys, "policy", "credt")
    assert code == 2 and "no ready policy 'credt'" in refused and "credit" in refused


def test_weights_beside_the_code_of_a_model_are_found_beside_it(tmp_path):
    (tmp_path / "shift.txt").write_text("0.25")
    code = "from pathlib import Path\n\ndef factory():\n    p = float((Path(__file__).parent / 'shift.txt').read_text())\n"
    (tmp_path / "mine.py").write_text(code + "    return lambda table: [[p, 1 - p]] * table.num_rows\n")
    assert Worker(f"{tmp_path / 'mine.py'}:factory").table(people(3)).tolist() == [[0.25, 0.75]] * 3


def test_an_onnx_file_that_names_its_classes_is_read_by_their_names(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    table = pa.table({"a": [0.9, 0.2], "b": [0.1, 0.8], "y": ["否", "是"]})
    for classes in (["是", "否"], ["其他", "否"]):  # the first column's class stands second in the alphabet
        node = helper.make_node("ZipMap", ["x"], ["said"], domain="ai.onnx.ml", classlabels_strings=classes)
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
        kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])))
        graph = helper.make_graph([node], "zip", [given], [helper.make_value_info("said", kind)])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / f"{classes[0]}.onnx")
    schema = Schema({n: make("kinds", "number") for n in "ab"}, {"y": make("kinds", "category")})
    schema.fit(table)
    found = Foreign(str(tmp_path / "是.onnx"), schema).predict(table)["y"]
    place = schema.targets["y"].labels_.index("是")
    np.testing.assert_allclose(found.probabilities[:, place], [0.9, 0.2], atol=1e-6)
    with pytest.raises(Refusal, match="其他") as e:
        Foreign(str(tmp_path / "其他.onnx"), schema).predict(table)
    assert e.value.problems[0].code == "model.labels"


def test_code_is_no_version_and_the_refusal_says_what_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text("factory = None")
    code, _, refused = commanded(monkeypatch, capsys, "registry", "import", f"{tmp_path / 'mine.py'}:factory", "--name", "m")
    assert code == 2 and "is code" in refused and "ONNX" in refused and "does not exist" not in refused


def test_yes_and_no_in_chinese_are_a_boolean_input(tmp_path):
    plan = mw.plan(mw.task_of({"data": {"source": people()}, "target": "y", "stages": STAGES}))
    kind = plan.schema.inputs["agreed"]
    assert "boolean" in kind.spec
    codes = kind.encode(pa.chunked_array([["是", "否", None, "真", "no"]]))["values"]
    assert codes.tolist() == [2, 1, 0, 2, 1]
    with pytest.raises(Refusal, match="'也许' is neither true nor false"):
        plan.schema.encode(people(20).set_column(0, "agreed", pa.array(["也许"] * 20)))


def test_an_override_is_said_when_its_alias_predicts(tmp_path):
    done = ran(tmp_path / "run", people(), audit={"require": {"accuracy": ">= 0.999"}})
    registry = mw.Registry()
    registry.register(done.folder, "clinic")
    registry.promote("clinic", "production", override={"who": "Ada", "why": "the ward waits", "until": "2999-01-01"})
    said = remarks("clinic@production", mw.load(done.folder).schema, people())
    assert said == ["clinic@production is served on an override by Ada until 2999-01-01: the ward waits"]


def test_a_folder_in_use_says_by_whom(tmp_path):
    done = ran(tmp_path / "run", people())
    with Lock(done.folder):
        with pytest.raises(Refusal, match=f"in use by process {os.getpid()} on ") as e:
            ran(done.folder, people())
        assert e.value.problems[0].code == "run.busy" and "--resume" not in e.value.problems[0].fix
    with pytest.raises(Refusal, match="already holds a run"):
        ran(done.folder, people())


def test_a_name_with_colons_is_no_emoji():
    with show.out.capture() as said:
        show.out.print("mine.py:factory: the model's code")
    assert said.get() == "mine.py:factory: the model's code\n"


def test_figures_without_intervals_have_no_question_marks():
    assert show._figure({"value": 0.5, "low": None, "high": None}) == "0.5000 (no interval)"
    assert show._figure({"value": 0.5, "low": 0.4, "high": None}) == "0.5000 (at least 0.4000)"
    assert show._figure({"value": 0.5, "low": 0.4, "high": 0.6}) == "0.5000 (0.4000 to 0.6000)"


def test_figures_are_of_the_rows_that_have_the_target(tmp_path):
    table = people(200).append_column("height", pa.array(np.random.default_rng(1).normal(170, 9, 200)))
    gaps = [None if i % 3 == 0 else v for i, v in enumerate(table.column("age").to_pylist())]
    task = {"data": {"source": table.set_column(1, "age", pa.array(gaps))}, "target": ["y", "age"], "stages": STAGES}
    done = mw.run(mw.task_of(task), tmp_path / "run")
    rows = {e["target"]: e["n"] for e in done.evidence["evidence"] if e["metric"] in ("accuracy", "rmse")}
    test = mw.plan(mw.task_of(task)).tables["test"]
    assert rows == {"y": test.num_rows, "age": test.num_rows - test.column("age").null_count} and rows["age"] < rows["y"]


def test_compare_shows_names_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "the_patients_blood_pressure_at_admission_收缩压"
    line = {"target": name, "metric": "accuracy.gain_over_baseline", "a": 0.5, "b": None, "value": 0.1, "low": None, "high": None, "surely": None}
    show.show_comparison({"rows": 10, "unit": "test rows", "level": 0.95, "differences": [line]})
    said = capsys.readouterr().out
    assert name in said and "accuracy.gain_over_baseline" in said and "no interval" in said and "…" not in said


def test_two_policies_are_compared_on_episodes_that_begin_alike(tmp_path):
    pytest.importorskip("gymnasium")
    small = {"clipped_policy": {"copies": 8, "steps": 16, "batch_size": 64, "passes": 1}}
    tree = {"data": "gym://CartPole-v1", "target": "action", "stages": [{"train": {"objective": small, "epochs": 1}}]}
    for name, seed in (("a", 0), ("b", 1)):
        mw.run(mw.task_of({**tree, "seed": seed}), tmp_path / name)
    found = compare(tmp_path / "a", tmp_path / "b")
    (line,) = found["differences"]
    assert found["rows"] == 100 and line["metric"] == "episode_return" and abs(line["a"] - line["b"] - line["value"]) < 1e-9
    assert compare(tmp_path / "a", tmp_path / "a")["differences"][0]["value"] == 0
    ran(tmp_path / "c", people())
    with pytest.raises(Refusal, match="different environments"):
        compare(tmp_path / "a", tmp_path / "c")


# Models from elsewhere

THEIRS = """
import time
import numpy as np
def one():
    def f(table):
        return np.array(table["x"], float)
    return f
def sleeps():
    def f(table):
        time.sleep(60)
    return f
def never():
    time.sleep(60)
"""


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / "theirs.py").write_text(THEIRS)
    schema = Schema({"x": make("kinds", "number")}, {"y": make("kinds", {"category": {"labels": ["a", "b"]}})})
    schema.inputs["x"].fit(pa.chunked_array([[0.0, 1.0]]))
    schema.targets["y"].fit(pa.chunked_array([["a", "b"]]))
    return lambda name, **more: Foreign(f"{tmp_path / 'theirs.py'}:{name}", schema, **more)


def test_what_one_column_is_is_decided_once(theirs):
    model = theirs("one")
    assert model.predict(pa.table({"x": [0.2, 3.0, -1.0]}))["y"].probabilities[0, 1] == pytest.approx(1 / (1 + np.exp(-0.2)))
    again = model.predict(pa.table({"x": [0.2, 0.3]}))["y"].probabilities  # looks like probabilities, and is none
    assert again[0, 1] == pytest.approx(1 / (1 + np.exp(-0.2))) and len(model.notes) == 1 and "logits" in model.notes[0]
    other = theirs("one")
    assert other.predict(pa.table({"x": [0.2, 0.3]}))["y"].probabilities[0, 1] == pytest.approx(0.2)
    with pytest.raises(Refusal, match="no probabilities"):
        other.predict(pa.table({"x": [3.0]}))


def test_differentiable_answers_are_read_as_decided():
    import torch

    out = torch.tensor([[0.2], [0.3]])
    assert torch.allclose(as_logits(out, 2, "logits").softmax(1)[:, 1], out[:, 0].sigmoid())
    assert torch.allclose(as_logits(out, 2, "probabilities").softmax(1)[:, 1], out[:, 0])


def test_the_budget_ends_a_model_that_sleeps(theirs, tmp_path):
    began = time.perf_counter()
    with pytest.raises(Refusal, match="still at work"):
        theirs("never", seconds=1.0)
    rows = pa.table({"x": np.arange(60) / 60, "y": ["a", "b"] * 30})
    task = mw.task_of({"data": {"source": rows}, "target": {"y": {"category": {"labels": ["a", "b"]}}}, "audit": {"require": {"accuracy": ">= 0.5"}}})
    done = mw.audit(f"{tmp_path / 'theirs.py'}:sleeps", {"test": rows}, task, tmp_path / "audit", budget=8.0, only=["accuracy"])
    assert time.perf_counter() - began < 50 and done.decision["verdict"] == "fail"
    assert any("audit.budget" in e["reason_codes"] for e in done.evidence["evidence"]) and (tmp_path / "audit" / "report.html").is_file()


# Folders of this machine


@pytest.fixture
def pictures(tmp_path):
    """60 pictures in two classes, and a table that names them from a folder beside it."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "on this 机器"
    (folder / "scans").mkdir(parents=True)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8) // (1 + i % 2)).save(folder / "scans" / f"{i}.png")
    lines = [f"scans/{i}.png,{'ab'[i % 2]}" for i in range(60)]
    (folder / "t.csv").write_text("\n".join(["scan,y", *lines]), "utf-8")
    return folder


def test_no_folder_of_this_machine_is_in_the_model_and_it_works_elsewhere(pictures, tmp_path, monkeypatch):
    done = mw.run(mw.task_of({"data": str(pictures / "t.csv"), "target": "y", "stages": STAGES}), tmp_path / "run")
    text = (done.folder / "model" / "model.json").read_text("utf-8")
    assert "机器" not in text and str(tmp_path) not in text and "scans" not in text
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pictures.rename(elsewhere / "moved")
    monkeypatch.chdir(elsewhere)
    before = sorted((done.folder / "model").iterdir())
    argv = ["modelwright", "predict", str(done.folder), "--data", "moved/t.csv", "--out", "o.csv", "--json"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as e:
        cli.main()
    assert not e.value.code and len(Path("o.csv").read_text().splitlines()) == 61 and before == sorted((done.folder / "model").iterdir())


def test_a_root_is_said_once_and_relative_to_the_task(pictures, tmp_path):
    (tmp_path / "t.csv").write_text((pictures / "t.csv").read_text("utf-8"))
    task = {"data": {"source": "t.csv", "root": "on this 机器"}, "target": "y", "stages": STAGES}
    done = mw.run(mw.task_of(task, root=tmp_path), tmp_path / "runs" / "one")
    assert mw.load_task(done.folder / "task.yaml").data.root == os.path.join("..", "..", "on this 机器")
    assert json.loads((done.folder / "evidence.json").read_text("utf-8"))["model"] == mw.audit(done.folder, out=tmp_path / "again").evidence["model"]
    columns = {"scan": {"kind": "picture", "root": str(pictures)}}
    with pytest.raises(Refusal, match="root of its own"):
        mw.plan(mw.task_of({**task, "data": {**task["data"], "columns": columns}}, root=tmp_path))


def test_tables_of_an_audit_may_lie_in_different_folders(pictures, tmp_path):
    done = mw.run(mw.task_of({"data": str(pictures / "t.csv"), "target": "y", "stages": STAGES}), tmp_path / "run")
    other = tmp_path / "other"
    (other / "scans").mkdir(parents=True)
    for i in range(40):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(other / "scans" / f"{i}.png")
    (other / "test.csv").write_text("\n".join(["scan,y", *(f"scans/{i}.png,{'ab'[i % 2]}" for i in range(40))]))
    data = {"train": str(pictures / "t.csv"), "test": str(other / "test.csv")}
    found = mw.audit(done.folder, data, out=tmp_path / "audit", only=["accuracy"])
    assert next(e for e in found.evidence["evidence"] if e["metric"] == "accuracy")["n"] == 40


# Columns that are nearly something else


def columns(tmp_path, values, name="n"):
    """(type, kind, warnings, notes) of a column in a CSV file of its own."""
    rng = np.random.default_rng(0)
    lines = [f'"{v}",{x:.3f},{"uv"[i % 2]}' for i, (v, x) in enumerate(zip(values, rng.normal(size=len(values)), strict=True))]
    (tmp_path / "t.csv").write_text("\n".join([f"{name},x,y", *lines]), "utf-8")
    task = mw.task_of({"data": "t.csv", "target": "y"}, root=tmp_path)
    loaded = sources.load("t.csv", root=tmp_path)
    warnings = []
    _, found = columns_of(task, loaded.table, loaded, warnings)
    return str(loaded.table.schema.field(name).type), found[0]["kind"], " ".join(warnings), " ".join(loaded.notes)


DAYS = [(2024, 1 + i % 12, 1 + (7 * i) % 28) for i in range(40)]


@pytest.mark.parametrize(
    "form, note",
    [
        ("{y}/{m}/{d}", "year/month/day"), ("{y}年{m}月{d}日", "年月日"), ("{d:02}.{m:02}.{y}", "day.month.year"), ("{d}.{m}.{y} 13:05", "day.month.year"),
        ("{d} {b} {y}", "day month's name year"), ("{b}. {d}, {y} 13:05:10", "month's name day, year"),
    ],
)  # fmt: skip
def test_dates_that_can_be_read_in_one_way_are(form, note, tmp_path):
    names = ["Jan", "February", "Mar", "April", "May", "June", "July", "Aug", "September", "Oct", "Nov", "Dec"]
    kind, read, warnings, notes = columns(tmp_path, [form.format(y=y, m=m, d=d, b=names[m - 1]) for y, m, d in DAYS])
    assert (kind, read, warnings) == ("timestamp[s]", "timestamp", "") and f"dates read as {note}: n" in notes
    table = sources.load("t.csv", root=tmp_path).table
    assert [(v.year, v.month, v.day) for v in table["n"].to_pylist()] == DAYS


@pytest.mark.parametrize("form", ["{d:02}/{m:02}/{y}", "{m:02}/{d:02}/{y}", "{m}-{d}-24"])
def test_dates_that_could_be_read_in_two_ways_stay_text_with_a_warning(form, tmp_path):
    kind, _, warnings, _ = columns(tmp_path, [form.format(y=y, m=m, d=d) for y, m, d in DAYS])
    assert kind == "string" and "column 'n' looks like dates" in warnings and "2024-01-31" in warnings


@pytest.mark.parametrize("form", ["{}%", "${:,}.50", "{} €", "￥{}", "-$ {}", "{}元"])
def test_amounts_with_one_sign_are_numbers(form, tmp_path):
    values = [1200 + 37 * i for i in range(40)]
    kind, read, warnings, notes = columns(tmp_path, [form.format(v) for v in values])
    assert (kind, read, warnings) == ("double", "number", "") and "without their sign" in notes
    first = sources.load("t.csv", root=tmp_path).table["n"][0].as_py()
    assert first == pytest.approx((1200.5 if ".50" in form else 1200) * (-1 if form[0] == "-" else 1))


def test_thousands_set_apart_and_signs_that_differ(tmp_path):
    kind, *_ = columns(tmp_path, [f"{1200 + i:,}".replace(",", "'") for i in range(40)])
    assert kind == "double"
    kind, read, warnings, _ = columns(tmp_path, [f"{'$€'[i % 2]}{i + 10}" for i in range(40)])
    assert kind == "string" and "looks like numbers" in warnings


@pytest.mark.parametrize("stray", ["unknown", "Total", '""7'])
def test_one_word_among_numbers_is_warned_of(stray, tmp_path):
    kind, read, warnings, _ = columns(tmp_path, [stray, *(f"{1.5 * i}" for i in range(39))])
    assert kind == "string" and "holds numbers but for" in warnings and f"read as {read}" in warnings


@pytest.mark.parametrize("values", [["00261", "10310", "00741"], ["A12", "B7", "C9"], ["red", "blue", "7"], ["12 rue X", "9 av Y", "3 bd Z"]])
def test_words_and_codes_are_not_warned_of(values, tmp_path):
    assert columns(tmp_path, [v + str(i) if v[0] == "A" else v for i in range(20) for v in values])[2] == ""


def test_a_header_that_is_a_row_and_columns_instead_of_rows(tmp_path):
    (tmp_path / "t.csv").write_text("0.25,7,yes\n0.5,8,no\n")
    assert any("its first row was taken for it" in n for n in sources.load("t.csv", root=tmp_path).notes)
    (tmp_path / "t.json").write_text(json.dumps({"a": [1, 2], "y": ["u", "v"]}))
    with pytest.raises(Refusal, match="columns, not rows"):
        sources.load("t.json", root=tmp_path)


def test_an_audit_takes_tables_from_python(theirs, tmp_path):
    rows = pa.table({"x": np.arange(60) / 60, "y": ["a", "b"] * 30})
    task = mw.task_of({"data": {"source": rows}, "target": {"y": {"category": {"labels": ["a", "b"]}}}})
    mw.audit(f"{tmp_path / 'theirs.py'}:one", {"test": rows}, task, tmp_path / "audit", only=["accuracy"])
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["data"] == {"test": "(a Table given from Python)"}


def test_text_that_is_all_numbers_is_warned_of(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"n": f"{i * 1.7:.2f}", "x": i % 7, "y": "uv"[i % 2]}) + "\n" for i in range(40)))
    warnings = []
    loaded = sources.load("t.jsonl", root=tmp_path)
    columns_of(mw.task_of({"data": "t.jsonl", "target": "y"}, root=tmp_path), loaded.table, loaded, warnings)
    assert any("holds numbers written as text ('0.00')" in w for w in warnings)


# What is refused, and where it says that it is


@pytest.mark.parametrize(
    "rows, more, code, says",
    [
        (1, {}, "data.too_few_rows", "1 rows are too few"),
        (60, {"stages": []}, "task.value", "at least 1 item"),
        (60, {"target": None}, "task.missing_key", "None names no target"),
        (60, {"target": "one"}, "data.one_class", "has one value"),
    ],
)
def test_a_refusal_says_what_and_where(rows, more, code, says):
    table = {"x": list(range(rows)), "one": ["a"] * rows, "y": ["u", "v"] * (rows // 2) + ["u"] * (rows % 2)}
    with pytest.raises(Refusal, match=says) as e:
        mw.plan(mw.task_of({"data": {"source": table}, "target": "y", **more}, file="t.yaml"))
    (problem,) = e.value.problems
    assert problem.where.startswith("t.yaml: ") and (problem.code == code or code == "task.value")


def test_a_folder_is_no_task_file(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(Refusal, match=r"is a folder(.|\n)*a\.yaml"):
        mw.load_task(tmp_path)


def test_a_picture_that_cannot_be_read_is_named(pictures):
    (pictures / "scans" / "7.png").write_bytes(b"")
    with pytest.raises(Refusal, match=r"'scans/7.png': it is empty"):
        mw.plan(mw.task_of({"data": str(pictures / "t.csv"), "target": "y", "stages": STAGES}))


def test_thousands_of_columns_are_planned_in_seconds():
    rng = np.random.default_rng(0)
    table = {f"c{i}": rng.normal(size=40) for i in range(3000)} | {"y": ["u", "v"] * 20}
    loaded = sources.load(table)
    schema, _ = columns_of(mw.task_of({"data": {"source": table}, "target": "y"}), loaded.table, loaded, [])
    schema.fit(loaded.table)
    began = time.process_time()
    schema.encode(loaded.table)
    assert time.process_time() - began < 5  # 3,000 looks at a list of 3,000 names took minutes


def test_a_registry_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "file"))
    told = []
    with pytest.raises(Refusal, match="cannot make"):
        mw.run(mw.task_of({"data": {"source": people()}, "target": "y", "stages": STAGES}), tmp_path / "run", log=lambda event, facts: told.append(event))
    assert "stage" not in told


def test_a_disk_that_fills_leaves_nothing_half_written(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="t.yaml"):
            write(tmp_path / "t.yaml", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_the_accountants_remarks_do_not_reach_the_terminal():
    pytest.importorskip("absl")
    from absl import logging as remarks_of_absl  # noqa: F401 - its own logger is made now

    cli.options.quiet()
    assert not logging.getLogger("absl").isEnabledFor(logging.WARNING)


def test_whole_numbers_with_gaps_are_classes_as_they_would_be_without():
    classes = [float(i % 3) if i % 5 else None for i in range(100)]
    table = {"x": np.random.default_rng(0).normal(size=100), "y": classes}
    schema = mw.plan(mw.task_of({"data": {"source": table}, "target": "y", "stages": STAGES})).schema
    assert schema.targets["y"].labels_ == ["0", "1", "2"]


def test_pandas_intervals_are_read_as_text():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=60)
    loaded = sources.load(pandas.DataFrame({"x": x, "bin": pandas.cut(x, 3), "y": ["u", "v"] * 30}))
    assert loaded.table.schema.field("bin").type == pa.string() and any("'bin' holds interval" in n for n in loaded.notes)


def test_new_writes_a_task_for_a_target_whose_kind_is_said(tmp_path):
    """A text to be written is no set of classes: the refusal says how to name its kind, and that works."""
    (tmp_path / "pairs.csv").write_text("en,zh\n" + "\n".join(f"sentence {i},句子 {i}" for i in range(80)), "utf-8")
    with pytest.raises(Refusal) as e:
        write_task(str(tmp_path / "pairs.csv"), "zh", tmp_path / "t.yaml")
    assert "--target zh=text" in e.value.problems[0].fix
    task = mw.load_task(write_task(str(tmp_path / "pairs.csv"), "zh=text", tmp_path / "t.yaml"))
    assert task.targets == {"zh": "text"}
    with pytest.raises(Refusal, match="no column"):
        write_task(str(tmp_path / "pairs.csv"), "nosuch=text", tmp_path / "u.yaml")


def test_a_task_may_be_a_tree_and_the_unit_of_its_split_is_the_witness(tmp_path):
    """Rows that the split keeps together count together, and that none of them is on both sides is measured, though no name tells that they are persons."""
    rng = np.random.default_rng(0)
    ward, ill = np.repeat(np.arange(60), 5), rng.normal(size=60) > 0
    table = pa.table({"x": rng.normal(size=60)[ward] + 1e-3 * rng.normal(size=300), "ward": [f"w{i}" for i in ward], "y": np.where(ill[ward], "ill", "well")})
    tree = {"data": {"source": table, "split": {"by": "ward"}}, "target": "y", "model": {"instead": "linear"}}
    assert mw.plan(tree).parts["instead"] == "linear"
    done = mw.run(tree | {"audit": {"require": {"data.group_overlap": "<= 0"}}}, tmp_path / "run")
    lines = {e["metric"]: e for e in done.evidence["evidence"] if e["slice"] is None}
    assert done.evidence["decision"]["verdict"] == "pass" and lines["data.group_overlap"]["value"] == 0.0
    alone = mw.run(tree | {"data": {"source": table.drop_columns(["ward"])}}, tmp_path / "alone")
    other = next(e for e in alone.evidence["evidence"] if e["metric"] == "accuracy" and e["slice"] is None)
    width = lambda e: e["high"] - e["low"]  # noqa: E731
    assert width(lines["accuracy"]) > 1.3 * width(other), "sixty wards are fewer witnesses than three hundred rows"
