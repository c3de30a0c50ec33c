"""What answers is what the digest is over: weights, words and settings that lie in other files are refused. And a data frame's pipeline as ONNX."""

import json

import numpy as np
import pyarrow as pa
import pytest

from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.find import make
from modelwright.foreign.huggingface import files
from modelwright.foreign.onnx import Onnx
from modelwright.foreign.predictor import Foreign


def code(error):
    (problem,) = error.value.problems
    assert problem.what and problem.fix
    return problem.code


@pytest.fixture
def folder(tmp_path):
    """Of a Hugging Face model, as far as its files go."""
    (tmp_path / "hf").mkdir()
    for name, text in {"model.safetensors": "weights", "config.json": '{"_name_or_path": "/somewhere/else"}', "tokenizer.json": "{}"}.items():
        (tmp_path / "hf" / name).write_text(text)
    (tmp_path / "hf" / "tokenizer_config.json").write_text('{"tokenizer_file": "/nowhere/that/is/long/gone.json", "name_or_path": ".."}')
    assert files(tmp_path / "hf") == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    return tmp_path / "hf"


@pytest.mark.parametrize("name", ["../w.safetensors", "readme.safetensors", ".w.safetensors", "more/w.safetensors"])
def test_shards_that_do_not_count_as_the_model(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": name}}))
    with pytest.raises(Refusal) as e:
        files(folder)
    assert code(e) == "model.outside" and name in str(e.value)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    assert "model.safetensors.index.json" in files(folder)


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "base_model_name_or_path", "backbone"])
def test_settings_that_name_a_file_elsewhere(folder, tmp_path, key):
    (tmp_path / "words.json").write_text("{}")
    for place in (str(tmp_path / "words.json"), "../words.json"):
        (folder / "tokenizer_config.json").write_text(json.dumps({"deep": [{key: place}]}))
        with pytest.raises(Refusal) as e:
            files(folder)
        assert code(e) == "model.outside"
    (folder / "tokenizer_config.json").write_text(json.dumps({key: "tokenizer.json"}))
    assert files(folder)


def saved(graph, path, **how):
    onnx = pytest.importorskip("onnx")
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path, **how)
    return path


def test_an_onnx_file_whose_weights_lie_beside_it(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    monkeypatch.chdir(tmp_path)  # where onnxruntime would look for them
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", k]) for n, k in (("x", 40), ("y", 2))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [numpy_helper.from_array(np.ones((40, 2), "f"), "w")])
    path = saved(graph, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(Refusal, match="External data") as e:
        Onnx(str(path))
    assert code(e) == "model.corrupt" and "onnx.save_model" in e.value.problems[0].fix
    onnx.save_model(onnx.load(path), tmp_path / "whole.onnx")
    assert Onnx(str(tmp_path / "whole.onnx")).arrays({"x": np.ones((1, 40), "f")}).tolist() == [[40.0, 40.0]]


def test_a_data_frames_pipeline_gets_its_columns_by_name(tmp_path):
    """As skl2onnx writes one: an input a column, numbers and words, (n, 1) each; in the file's order, not the table's."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    given = [helper.make_tensor_value_info("sex", TensorProto.STRING, [None, 1]), helper.make_tensor_value_info("age", TensorProto.INT64, [None, 1])]
    nodes = [
        helper.make_node("LabelEncoder", ["sex"], ["code"], domain="ai.onnx.ml", keys_strings=["f", "男"], values_floats=[0.5, 0.25], default_float=0.0),
        helper.make_node("Cast", ["age"], ["years"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["years", "code"], ["said"], axis=1),
    ]
    path = saved(helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("said", TensorProto.FLOAT, [None, 2])]), tmp_path / "pipe.onnx")
    table = pa.table({"age": pa.array([0, 1, 0], pa.int64()), "other": [1.0, 2.0, 3.0], "sex": ["f", "男", None], "y": ["a", "b", "a"]})
    schema = Schema({"age": make("kinds", "number"), "other": make("kinds", "number"), "sex": make("kinds", "category")}, {"y": make("kinds", "category")})
    schema.fit(table)
    model = Foreign(str(path), schema)
    assert model.runner.table(table).tolist() == [[0.0, 0.5], [1.0, 0.25], [0.0, 0.0]]
    assert model.predict(table)["y"].value.tolist() == [1, 0, 0]
    for broken, words in ((pa.array([None, 1, 0], pa.int64()), "missing cells"), (pa.array(["x", "y", "z"]), "holds string")):
        with pytest.raises(Refusal, match=words) as e:
            model.predict(table.set_column(0, "age", broken))
        assert code(e) == "model.input"
    assert not model.runner.by_columns(["age", "other"])
