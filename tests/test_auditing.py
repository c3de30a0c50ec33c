"""Any model, audited by one command: our own, a user's code that never sees a label, an ONNX file, and data alone."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import modelwright as mw
from modelwright.auditing import reproducing
from modelwright.errors import Refusal
from modelwright.foreign.predictor import layout
from modelwright.report import decided

CODE = """
import numpy as np
import torch
WEIGHT = np.array({weight})
MEAN, SD, BIAS = np.array({mean}), np.array({sd}), {bias}

def function():
    def predict(table):
        print("what a model prints must not tear the answers")
        assert "diagnosis" not in table.column_names, "a label reached the model"
        z = (table.to_pandas().to_numpy() - MEAN) / SD
        p = 1 / (1 + np.exp(-(z @ WEIGHT + BIAS)))
        return np.stack([1 - p, p], 1)
    return predict

class Net(torch.nn.Module):
    def forward(self, x):
        z = (x.double() - torch.tensor(MEAN)) / torch.tensor(SD)
        s = z @ torch.tensor(WEIGHT) + BIAS
        return torch.stack([-s / 2, s / 2], 1)

def module():
    return Net()

def crash():
    def predict(table):
        raise ValueError("not today")
    return predict

def later():
    def predict(table):
        assert table.num_rows <= 8, "not this row"
        return np.full((table.num_rows, 2), 0.5)
    return predict

def end():
    def predict(table):
        import os
        os._exit(9)
    return predict

def fickle():
    draws = np.random.default_rng(0)
    def predict(table):
        p = 1 / (1 + np.exp(-((table.to_pandas().to_numpy() - MEAN) / SD @ WEIGHT + BIAS)))
        p = np.where(draws.random(len(p)) < 0.1, 1 - p, p)
        return np.stack([1 - p, p], 1)
    return predict

def short():
    return lambda table: np.zeros((3, 2))

def wide():
    return lambda table: np.zeros((table.num_rows, 5))

def nothing():
    return 7
"""


SLOW = """
def slow():
    import time
    inner, calls = function(), [0]
    def predict(table):
        calls[0] += 1
        if calls[0] > 20:
            time.sleep(30)
        return inner(table)
    return predict
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A logistic regression as code, its task and its test rows, in one folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "diagnosis"})
    train, test = frame.iloc[:300], frame.iloc[300:]
    scaler = StandardScaler().fit(train.drop(columns="diagnosis"))
    made = LogisticRegression(max_iter=500).fit(scaler.transform(train.drop(columns="diagnosis")), train["diagnosis"])
    numbers = {"weight": made.coef_[0].tolist(), "mean": scaler.mean_.tolist(), "sd": scaler.scale_.tolist(), "bias": float(made.intercept_[0])}
    (folder / "model.py").write_text(CODE.format(**numbers))
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    (folder / "task.yaml").write_text(
        'data: train.csv\ntarget: {diagnosis: {category: {labels: ["0", "1"]}}}\naudit: {require: {accuracy: ">= 0.9"}}\n'
    )
    wanted = made.score(scaler.transform(test.drop(columns="diagnosis")), test["diagnosis"])
    return folder, wanted


QUICK = ["accuracy", "calibration"]


def audited(folder, model, out, **roles):
    data = {role: str(folder / file) for role, file in ({"test": "test.csv"} | roles).items()}
    return mw.audit(f"{folder}/{model}", data, mw.load_task(folder / "task.yaml"), out, only=QUICK)


def figure(done, metric):
    return next(e for e in done.evidence["evidence"] if e["metric"] == metric and e["slice"] is None)


@pytest.mark.parametrize("factory", ["function", "module"])
def test_a_users_code_is_judged_as_it_answers(folder, factory, tmp_path):
    folder, wanted = folder
    done = audited(folder, f"model.py:{factory}", tmp_path / "out", train="train.csv")
    assert figure(done, "accuracy")["value"] == pytest.approx(wanted) and done.decision["verdict"] == "pass"
    best = max(done.story.baselines, key=lambda b: done.story.baselines[b]["accuracy"]["value"])  # no validation rows: best on the test rows
    assert figure(done, "accuracy.gain_over_baseline")["details"]["baseline"] == best == "linear"
    kept = json.loads((tmp_path / "out" / "evidence.json").read_text("utf-8"))
    assert kept["model"].startswith("sha256:") and (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_each_further_model_on_the_same_test_rows_has_wider_intervals_and_the_same_one_has_not(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    shutil.copytree(folder[0], here)
    (here / "second.py").write_text((here / "model.py").read_text() + "\n# another\n")
    widths, levels = [], []
    for i, model in enumerate(("model.py", "second.py", "model.py")):
        found = figure(audited(here, f"{model}:function", tmp_path / f"out{i}"), "accuracy")
        widths.append(found["high"] - found["low"])
        levels.append((found["level"], found["details"]["test_openings"], found["details"]["test_models"]))
    assert levels == [(0.95, 1, 1), (0.975, 2, 2), (0.95, 3, 1)] and widths[0] == widths[2] < widths[1]
    assert "this is model number 2 that it judges" in (tmp_path / "out1" / "report.html").read_text("utf-8")
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "elsewhere"))
    assert reproducing.reproduce(tmp_path / "out1" / "evidence.json", tmp_path / "again")["same"]


def test_limits_that_were_loosened_after_the_test_was_opened_are_told_in_the_banner(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    shutil.copytree(folder[0], here)
    said = []
    for limit in (">= 0.9", ">= 0.95", ">= 0.85"):
        task = (folder[0] / "task.yaml").read_text().replace(">= 0.9", limit)
        (here / "task.yaml").write_text(task)
        said.append(decided(audited(here, "model.py:function", tmp_path / f"out{len(said)}").story))
    assert ["does not hold" in s for s in said] == [False, False, True], said
    assert "at most once" in said[0] and "at most once" not in said[2] and said[2].startswith("The one declared limit holds")


def test_a_function_of_a_table_has_no_gradients_and_is_explained_and_attacked_all_the_same(folder, tmp_path):
    """Audits ask whether a model can be opened: no code of ours may fail for it."""
    folder, _ = folder
    data = {"test": str(folder / "test.csv")}
    done = mw.audit(f"{folder}/model.py:function", data, mw.load_task(folder / "task.yaml"), tmp_path / "out", only=["robustness", "explanation", "ood"])
    assert not [e for e in done.evidence["evidence"] if "audit.error" in e["reason_codes"]]


def test_an_audit_of_some_is_reproduced_as_it_was_asked(folder, tmp_path):
    folder, _ = folder
    audited(folder, "model.py:module", tmp_path / "out")
    again = reproducing.reproduce(tmp_path / "out" / "evidence.json", tmp_path / "again")
    assert again["same"] and again["recorded"] and again["figures"] > 5, again["differences"]


def forged(found, **changes):
    """The evidence with other fields in the line of the AUROC."""
    lines = [e | changes if e["metric"] == "auroc" else e for e in found["evidence"]]
    return found | {"evidence": lines}


FORGERIES = {  # evidence.json -> the figure that is named
    "value": (lambda d: forged(d, value=0.9999), "auroc"),
    "n": (lambda d: forged(d, n=9000), "auroc (accuracy, test) n"),
    "level": (lambda d: forged(d, level=0.9999), "level"),
    "seeds": (lambda d: forged(d, audit="seeds", value=0.9999), "auroc (seeds"),
    "gate": (lambda d: forged(d, audit="gate", value=0.9999), "auroc (gate"),
    "budget": (lambda d: forged(d, value=0.9999, reason_codes=["audit.budget"]), "auroc"),
    "not measured": (lambda d: forged(d, value=None, low=None, high=None, n=0, reason_codes=["audit.budget"]), "auroc"),
    "limit": (lambda d: forged(d, limit=">= 0.1", verdict="pass"), "verdict"),
    "details": (lambda d: forged(d, details={}), "of this file"),
    "digest": (lambda d: forged(d, digests={}), "digests"),
    "other bytes": (lambda d: forged(d, digests={**d["evidence"][0]["digests"], "model": "sha256:0"}), "of this file"),
    "left out": (lambda d: d | {"evidence": [e for e in d["evidence"] if e["metric"] != "auroc"]}, "auroc"),
    "twice": (lambda d: d | {"evidence": d["evidence"] * 2}, "auroc"),
    "decision": (lambda d: d | {"decision": {"verdict": "fail", "reasons": []}}, "decision"),
    "policy": (lambda d: d | {"policy": None}, "policy"),
    "openings": (lambda d: d | {"test_openings": 0}, "of this file"),
}


def test_a_forged_evidence_is_called_different_and_unknown(folder, tmp_path, monkeypatch):
    folder, _ = folder
    audited(folder, "model.py:function", tmp_path / "out")
    once = functools.cache(lambda of: measured(of, json.loads((of / "evidence.json").read_text("utf-8")), tmp_path / "again"))
    measured = reproducing._again
    monkeypatch.setattr(reproducing, "_again", lambda of, before, out: once(of))  # measured again once for all of them
    true = json.loads((tmp_path / "out" / "evidence.json").read_text("utf-8"))
    for name, (forge, figure) in FORGERIES.items():
        (tmp_path / "out" / "forged.json").write_text(json.dumps(forge(true)), "utf-8")
        again = reproducing.reproduce(tmp_path / "out" / "forged.json", tmp_path / "again")
        assert not again["same"] and not again["recorded"], name
        assert any(figure in d["figure"] for d in again["differences"]), (name, again["differences"])


def test_a_reading_of_a_clock_is_said_to_be_one(folder, tmp_path):
    folder, _ = folder
    data, task = {"test": str(folder / "test.csv")}, mw.load_task(folder / "task.yaml")
    mw.audit(f"{folder}/model.py:function", data, task, tmp_path / "out", only=["efficiency"])
    again = reproducing.reproduce(tmp_path / "out" / "evidence.json", tmp_path / "again")
    assert again["same"] and again["recorded"] and again["figures"] == 4, again  # that accuracy was not measured, since it was left out, and nothing counted
    why = [s["why"] for s in again["skipped"] if s["figure"] != "code"]
    assert why == ["a reading of a clock, or of a process's memory"] * 4


def test_a_model_at_work_ends_when_its_auditor_was_killed(tmp_path):
    (tmp_path / "spin.py").write_text("import os\n\ndef factory():\n    open('pid', 'w').write(str(os.getpid()))\n    while True:\n        pass\n")
    ask = "import sys; from modelwright.foreign.process import Worker; Worker(sys.argv[1])"
    parent = subprocess.Popen([sys.executable, "-c", ask, f"{tmp_path}/spin.py:factory"])
    until = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    model = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while alive(model) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(model)


def alive(process):
    """Neither gone nor a zombie that nobody has waited for."""
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat")
        return not (stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_the_budget_ends_an_onnx_file_that_never_does(folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    def value(name, kind=TensorProto.FLOAT, shape=(None, None)):
        return helper.make_tensor_value_info(name, kind, shape)

    again, times = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("MatMul", ["s", "W"], ["s2"])], np.array(10**12)
    body = helper.make_graph(
        again, "body", [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("s")], [value("c2", TensorProto.BOOL, []), value("s2")]
    )
    loop = [helper.make_node("Slice", ["x", "zero", "two", "one"], ["x2"]), helper.make_node("Loop", ["M", "", "x2"], ["y"], body=body)]
    constants = {"M": times, "W": np.eye(2, dtype=np.float32), "zero": np.array([0]), "two": np.array([2]), "one": np.array([1])}
    graph = helper.make_graph(loop, "graph", [value("x")], [value("y")], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    folder, _ = folder
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "endless.onnx")
    task, data = mw.load_task(folder / "task.yaml"), {"test": str(folder / "test.csv")}
    began = time.perf_counter()
    done = mw.audit(folder / "endless.onnx", data, task, tmp_path / "out", budget=1.0, only=["accuracy"])
    assert time.perf_counter() - began < 30 and done.decision["verdict"] == "fail"
    assert any("audit.budget" in e["reason_codes"] for e in done.evidence["evidence"])


def test_what_was_measured_before_the_time_was_spent_keeps_its_interval(folder, tmp_path):
    """A model that grows slow: an audit that no limit asks for uses up the time, and the model can no more be asked again."""
    (tmp_path / "slow.py").write_text((folder[0] / "model.py").read_text() + SLOW)
    for name in ("task.yaml", "test.csv", "train.csv"):
        shutil.copy(folder[0] / name, tmp_path)
    done = mw.audit(
        f"{tmp_path}/slow.py:slow", {"test": str(tmp_path / "test.csv")}, tmp_path / "task.yaml", tmp_path / "out", budget=12, only=["accuracy", "explanation"]
    )
    found = figure(done, "accuracy")
    assert found["low"] is not None and done.decision["verdict"] == "pass", (found["reason_codes"], found["details"])
    assert any("audit.budget" in e["reason_codes"] for e in done.evidence["evidence"])


def test_where_time_is_short_what_takes_a_moment_comes_before_what_a_limit_asks_for_and_may_take_all(folder, tmp_path):
    """Four audits of a second or less had waited in the alphabet for an explanation that used up the time."""
    folder, _ = folder
    told, task = [], mw.load_task(folder / "task.yaml")
    task.audit.require = {"accuracy": ">= 0.9", "explanation.fidelity": ">= 0"}
    some = ["accuracy", "explanation", "fairness", "ood", "robustness", "slices"]
    data = {"test": str(folder / "test.csv")}
    done = mw.audit(f"{folder}/model.py:module", data, task, tmp_path / "out", budget=6, only=some, log=lambda event, facts: told.append(facts.get("text", "")))
    order = [t.removeprefix("audit: ") for t in told if t.startswith("audit: ")]
    assert order[:5] == ["accuracy", "fairness", "ood", "slices", "explanation"] and figure(done, "accuracy")["low"] is not None


def test_codes_that_are_digits_alone_in_one_file_are_names_in_all(folder, tmp_path):
    """A column that the model does not read: numbers in the test file, words in that of strange rows."""
    here = tmp_path / "here"
    shutil.copytree(folder[0], here)
    for name, codes in (("test.csv", range(1000, 9999)), ("strange.csv", (f"x{i}" for i in range(9999)))):
        lines = (folder[0] / "test.csv").read_text().splitlines()
        (here / name).write_text("\n".join([lines[0] + ",ward", *(f"{line},{code}" for line, code in zip(lines[1:], codes))]) + "\n")
    text = (here / "task.yaml").read_text().replace("data: train.csv", "data: {source: train.csv, columns: {ward: ignore}}")
    (here / "task.yaml").write_text(text)
    data = {"test": str(here / "test.csv"), "ood": str(here / "strange.csv")}
    done = mw.audit(f"{here}/model.py:module", data, mw.load_task(here / "task.yaml"), tmp_path / "out", only=["ood"])
    assert 0.4 < figure(done, "ood.auroc")["value"] < 0.6  # the very same rows


def test_an_onnx_file(folder, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, wanted = folder
    scope = {}
    exec((folder / "model.py").read_text(), scope)  # noqa: S102 - our own text, above
    torch.onnx.export(scope["module"]().eval(), (torch.zeros(2, 30),), folder / "net.onnx", dynamo=True, dynamic_shapes=({0: "rows"},), verbose=False)
    done = audited(folder, "net.onnx", tmp_path / "out")
    assert figure(done, "accuracy")["value"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "factory, says",
    [
        ("crash", "not today"),
        ("end", "process ended"),
        ("short", "3 rows"),
        ("wide", r"5\) for 2 classes"),
        ("nothing", "cannot be called"),
        ("absent", "absent"),
    ],
)
def test_code_that_fails_is_a_refusal_or_no_figure_and_never_a_pass(folder, factory, says, tmp_path):
    folder, _ = folder
    with pytest.raises(Refusal) as e:  # before the test rows are opened for it
        audited(folder, f"model.py:{factory}", tmp_path / "out")
    assert says.replace("\\", "") in str(e.value) and not (tmp_path / "out" / "evidence.json").exists()
    if factory in ("crash", "wide"):
        assert "an Arrow table of 30 columns: mean radius" in str(e.value)


def test_code_that_fails_on_later_rows_is_no_figure_and_the_report_says_why(folder, tmp_path):
    folder, _ = folder
    done = audited(folder, "model.py:later", tmp_path / "out")
    assert done.decision["verdict"] == "fail" and "not this row" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["answers.csv", "model.pkl:load"])
def test_what_cannot_be_asked_is_refused_with_the_way_to_ask_it(folder, name, tmp_path):
    (folder[0] / name.partition(":")[0]).write_text("benign,malignant\n0.5,0.5\n")
    with pytest.raises(Refusal, match="cannot be asked.*(?s:.*)def factory"):
        audited(folder[0], name, tmp_path / "out")


def test_the_report_says_which_class_each_column_was_taken_for(folder, tmp_path):
    done = mw.audit(f"{folder[0]}/model.py:module", {"test": str(folder[0] / "test.csv")}, mw.load_task(folder[0] / "task.yaml"), tmp_path, only=["accuracy"])
    assert any("2 columns: 0, 1) are read as logits" in n for n in done.story.plan["notes"]), done.story.plan["notes"]


def test_without_a_task_a_foreign_model_is_refused(folder, tmp_path):
    with pytest.raises(Refusal, match="says nothing of its columns"):
        mw.audit(f"{folder[0]}/model.py:module", {"test": str(folder[0] / "test.csv")}, None, tmp_path / "out")


def test_our_own_run_is_audited_again_on_its_own_rows_and_on_others(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))  # openings are counted from the first
    task = mw.task_of({"data": "train.csv", "target": "diagnosis", "stages": [{"train": {"epochs": 2}}]}, root=folder[0])
    run = mw.run(task, tmp_path / "run")
    again = mw.audit(tmp_path / "run", out=tmp_path / "again", only=QUICK)
    mine, theirs = ({e["metric"]: e["value"] for e in x["evidence"] if e["audit"] == "accuracy"} for x in (run.evidence, again.evidence))
    assert mine == theirs and again.evidence["model"] == run.evidence["model"] and again.evidence["test_openings"] == 2
    other = mw.audit(tmp_path / "run", {"test": str(folder[0] / "test.csv")}, out=tmp_path / "other", only=QUICK)
    assert figure(other, "accuracy")["n"] == 269


def test_the_layout_is_the_tasks_own_order():
    task = mw.task_of({"data": {"source": "x", "columns": {"b": "number", "a": "category"}}, "target": "y"})
    table = pa.table({"a": ["u", "v", None], "b": [1.0, None, 3.0], "y": ["p", "q", "p"]})
    from modelwright.data.sources import load
    from modelwright.preparing import columns_of

    schema, _ = columns_of(task, table, load(table), [])
    schema.fit(table)
    got = layout(schema, table)["table"]
    order = [n for n in schema.inputs]
    want = {"a": [0, 1, -1], "b": [1, np.nan, 3]}
    np.testing.assert_array_equal(got, np.array([want[n] for n in order], np.float32).T)


def test_the_command_says_what_was_not_shown(folder, tmp_path):
    command = [sys.executable, "-m", "modelwright.cli", "audit", f"{folder[0]}/model.py:module", "--data", str(folder[0] / "test.csv")]
    command += ["--task", str(folder[0] / "task.yaml"), "--out", str(tmp_path / "out"), "--budget", "0s"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and "audit.budget" in done.stdout + done.stderr


def test_data_alone_is_audited_without_a_model(folder, tmp_path):
    folder, _ = folder
    data = {"train": str(folder / "train.csv"), "test": str(folder / "test.csv"), "validation": str(folder / "test.csv")}
    done = mw.audit(None, data, mw.load_task(folder / "task.yaml"), tmp_path / "out")
    assert figure(done, "data.duplicate_rate")["value"] > 0 and (tmp_path / "out" / "report.html").is_file()
    assert done.decision["verdict"] == "fail"  # accuracy was asked for, and nothing was there to have one


@pytest.mark.parametrize("model", ["nosuch", "nosuch.onnx", "nosuch.py", "nosuch.py:factory"])
def test_a_model_that_is_not_there_is_said_to_be(folder, model, tmp_path):
    with pytest.raises(Refusal, match="does not exist"):
        audited(folder[0], model, tmp_path / "out")


def test_a_model_that_answers_otherwise_when_asked_again_has_no_interval(folder, tmp_path):
    folder, _ = folder
    done = audited(folder, "model.py:fickle", tmp_path / "out")
    line = figure(done, "accuracy")
    assert "accuracy.fickle" in line["reason_codes"] and line["low"] is None and 0.02 < line["details"]["decided_otherwise"] < 0.4
    assert done.decision["verdict"] == "inconclusive"


@pytest.mark.slow
def test_a_model_that_takes_no_gaps_is_not_asked_about_them(folder, tmp_path):
    folder, _ = folder
    data = {"test": str(folder / "test.csv")}
    done = mw.audit(f"{folder}/model.py:module", data, mw.load_task(folder / "task.yaml"), tmp_path / "out", only=["robustness"])
    line, attacked = figure(done, "robustness.corruption_accuracy"), figure(done, "robustness.linf_accuracy")
    assert line["value"] > 0.8 and "takes no gaps" in line["details"]["accuracy_by_severity"]["missing"]
    assert 0 < attacked["value"] <= attacked["details"]["accuracy"]


def test_roles_of_the_command_line():
    from modelwright.cli import audit

    assert audit._roles(["a=b.csv"]) == {"a": "b.csv"}
    given = ["train=x=1.csv", "ood_near=near.csv", "of a year/2026=3.csv"]
    assert audit._roles(given) == {"train": "x=1.csv", "ood_near": "near.csv", "test": "of a year/2026=3.csv"}
    with pytest.raises(Refusal, match="two files for test"):
        audit._roles(["a.csv", "test=b.csv"])
