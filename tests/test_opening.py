"""A model from elsewhere on its whole way: imported with its task, refused, audited, promoted, and asked by its reference alone."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

import modelwright as mw  # noqa: E402
from modelwright.cli import main  # noqa: E402
from modelwright.opening import predictor  # noqa: E402


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A file of rows, a net in ONNX that answers them (class up where a > b), and their task, beside an empty registry."""
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for file, n in (("rows.parquet", 100), ("fresh.parquet", 300)):
        a, b = rng.normal(size=(2, n))
        pq.write_table(pa.table({"a": a, "b": b, "y": np.where(a > b, "up", "down").tolist()}), tmp_path / file)
    helper = onnx.helper
    weight = np.array([[-5, 5], [5, -5]], np.float32)  # columns: down, up
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["out"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    (tmp_path / "task.yaml").write_text('data: rows.parquet\ntarget: {y: {category: {labels: [down, up]}}}\naudit: {require: {accuracy: ">= 0.9"}}\n')
    return tmp_path


def test_import_audit_promote_predict(home, monkeypatch, capsys):
    def cli(*args):
        monkeypatch.setattr("sys.argv", ["modelwright", *map(str, args), "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        return e.value.code or 0, json.loads(capsys.readouterr().out)

    status, made = cli("registry", "import", home / "net.onnx", "--name", "涨跌", "--task", home / "task.yaml")
    assert status == 0 and made["version"] == 1 and "nothing speaks for it" in made["note"]
    status, said = cli("promote", "涨跌")
    assert status == 3 and [r["code"] for r in said["decision"]["reasons"]] == ["gate.missing"]
    done = mw.audit("涨跌@1", {"test": str(home / "fresh.parquet")}, out=home / "audit", only=["accuracy"])  # its task came with it
    assert done.evidence["model"] == made["model"] and done.decision["verdict"] == "pass"
    status, said = cli("promote", "涨跌")
    assert status == 0 and said["evidence"][0]["source"] == "audit" and [w["code"] for w in said["warnings"]] == ["gate.other_rows"]
    table = pq.read_table(home / "fresh.parquet")
    answers = predictor("涨跌@production", table).answer(table)
    assert answers.column("y").to_pylist() == table.column("y").to_pylist()
    status, said = cli("predict", home / "net.onnx", "--data", home / "fresh.parquet", "--out", home / "o.csv", "--task", home / "task.yaml")
    assert status == 0 and said["rows"] == 300
    for arguments, code in {
        ("predict", home / "net.onnx", "--data", home / "fresh.parquet", "--out", home / "p.csv"): "predict.task",
        ("registry", "import", home / "net.onnx"): "usage",
        ("registry", "import", home / "rows.parquet", "--name", "n"): "model.missing",
        ("registry", "import", home / "nosuch", "--name", "n"): "model.missing",
        ("registry", "import", "m", "--from", "ftp:x"): "usage",
        ("export", "涨跌"): "usage",
        ("export", "涨跌", "--to", "zip"): "usage",
        ("export", "涨跌", home / "x", "--to", "mlflow:y"): "usage",
        ("registry", "report", "涨跌", home / "r.html"): "registry.no_report",
        ("audit", "涨跌@9", "--data", home / "fresh.parquet"): "registry.unknown_version",
    }.items():
        status, said = cli(*arguments)
        assert status == 2 and said["errors"][0]["code"] == code and said["errors"][0]["fix"], (arguments, said)
