"""To MLflow's registry and back with the same digest; a model of MLflow's own comes in as ONNX or not at all, and is audited before it is promoted."""

import json
import pickle

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
from modelwright.errors import Refusal, Stopped  # noqa: E402
from modelwright.registry.exchange import from_mlflow, hidden, to_mlflow  # noqa: E402
from modelwright.registry.promotion import promote  # noqa: E402
from modelwright.registry.store import Registry  # noqa: E402

DAY = "2026-06-02"
AT = "2026-06-01T12:00:00Z"


def code(error):
    (problem,) = error.value.problems
    assert problem.what and problem.where and problem.fix
    return problem.code


@pytest.fixture
def client(tmp_path):
    import mlflow

    (tmp_path / "flow").mkdir()
    uri = f"sqlite:///{tmp_path}/flow/mlflow.db"
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_there_and_back(runs, registry, tmp_path, client):
    made = registry.register(runs.make(weights="一"), "分诊")
    promote(registry, "分诊", at=AT)
    place = str(tmp_path / "flow")
    told = to_mlflow(registry, registry.resolve("分诊@production"), place, DAY, "production")
    assert told == {"name": "分诊", "version": 1, "digest": made.digest, "alias": "production", "verdict": "pass"}
    theirs = client.get_model_version_by_alias("分诊", "production")
    assert theirs.tags["modelwright.digest"] == made.digest and theirs.tags["modelwright.verdict"] == "pass"
    assert theirs.tags["modelwright.policy"].startswith("sha256:") and theirs.tags["modelwright.overrides"] == "none"
    assert to_mlflow(registry, made, place, DAY)["version"] == 1  # the same bytes are the version that they are
    other = Registry(tmp_path / "elsewhere" / "registry.sqlite")
    for reference in ("分诊", "分诊@1", "分诊@production"):
        back, note = from_mlflow(other, f"sqlite:///{place}/mlflow.db", reference)
        assert back.digest == made.digest and back.version == 1 and back.model == made.model and "not known here" in note
    assert other.verify("分诊") == [] and back.lineage == made.lineage
    assert {r["code"] for r in promote(other, "分诊", at=AT).reasons} >= {"gate.unrecorded"}  # measured elsewhere: audited again here
    assert from_mlflow(registry, place, "分诊", "copy")[1] == "signed by a key that is trusted here"
    assert not [p for p in registry.objects.iterdir() if p.name.startswith(".")]


def test_an_override_is_told_there(runs, registry, tmp_path, client):
    runs.register(accuracy=(0.80, 0.75, 0.85))
    place = str(tmp_path / "flow")
    assert to_mlflow(registry, registry.find("m"), place, DAY)["verdict"] == "fail"
    promote(registry, "m", override={"who": "Dr. Li", "why": "we must", "until": "2026-07-31"}, at=AT)
    to_mlflow(registry, registry.find("m"), place, DAY)
    tags = client.get_model_version("m", "1").tags
    assert "Dr. Li" in tags["modelwright.overrides"] and "below_limit" in tags["modelwright.reasons"]


@pytest.mark.parametrize("what", ["changed", "added", "removed", "tag", "manifest"])
def test_what_changed_on_the_way_is_refused(runs, registry, tmp_path, client, what):
    runs.register()
    place = tmp_path / "flow"
    to_mlflow(registry, registry.find("m"), str(place), DAY)
    (weights,) = (place / "artifacts").rglob("model.safetensors")
    top = weights.parents[1]
    for path in [top, weights.parent, *top.rglob("*")]:
        path.chmod(0o755)
    if what == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif what == "added":
        (top / "model" / "more.txt").write_text("more")
    elif what == "removed":
        (top / "card.md").unlink()
    elif what == "manifest":
        (top / "manifest.json").write_text("{}")
    else:
        client.set_model_version_tag("m", "1", "modelwright.digest", "sha256:" + "0" * 64)
    other = Registry(tmp_path / "elsewhere" / "registry.sqlite")
    with pytest.raises(Refusal) as e:
        from_mlflow(other, str(place), "m")
    assert code(e) == "mlflow.tampered" and not other.versions()


def test_a_model_of_theirs_comes_as_onnx_and_nothing_speaks_for_it(registry, tmp_path, client):
    onnx = pytest.importorskip("onnx")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(client.tracking_uri)
    mlflow.set_registry_uri(client.tracking_uri)
    client.create_experiment("theirs", (tmp_path / "flow" / "theirs").as_uri())
    mlflow.set_experiment("theirs")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with mlflow.start_run():
        mlflow.onnx.log_model(net, name="net", registered_model_name="theirs")
    made, note = from_mlflow(registry, f"sqlite:///{tmp_path}/flow/mlflow.db", "theirs", task="audit: {require: {accuracy: '>= 0.9'}}\ntarget: y\n")
    assert "ONNX" in note and (made.folder / "model" / "model.onnx").read_bytes() == net.SerializeToString()
    assert "theirs version 1" in made.lineage["parents"][0]
    assert {r["code"] for r in promote(registry, "theirs", at=AT).reasons} == {"gate.missing"}


def test_weights_that_mlflow_lays_beside_are_put_into_the_file(registry, tmp_path, client):
    """As it does by default; such a version could be imported and never opened."""
    onnx, mlflow = pytest.importorskip("onnx"), pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(client.tracking_uri)
    mlflow.set_registry_uri(client.tracking_uri)
    client.create_experiment("large", (tmp_path / "flow" / "large").as_uri())
    mlflow.set_experiment("large")
    helper, weight = onnx.helper, np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    sides = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 64]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [onnx.numpy_helper.from_array(weight, "w")])
    with mlflow.start_run():
        mlflow.onnx.log_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), name="net", registered_model_name="large")
    made, _ = from_mlflow(registry, f"sqlite:///{tmp_path}/flow/mlflow.db", "large")
    assert [p.name for p in (made.folder / "model").iterdir()] == ["model.onnx"]
    session = pytest.importorskip("onnxruntime").InferenceSession((made.folder / "model" / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": np.eye(64, dtype=np.float32)})[0], weight)


def test_a_pickle_is_refused_unread(registry, tmp_path, client):
    """A folder as mlflow.sklearn writes it, whose pickle would leave a file behind."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = tmp_path / "flow" / "sk"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    flavours = "flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}\n  sklearn: {pickled_model: model.pkl}\n"
    (folder / "MLmodel").write_text(flavours)
    client.create_registered_model("sk")
    client.create_model_version("sk", folder.as_uri())
    with pytest.raises(Refusal) as e:
        from_mlflow(registry, str(tmp_path / "flow"), "sk")
    assert code(e) == "mlflow.pickle" and "python_function, sklearn" in e.value.problems[0].what and "ONNX" in str(e.value)
    for text in ("flavors: {onnx: {data: ../../secret.onnx}}", "flavors: 7", "!!python/object/apply:os.system ['true']", ""):
        (folder / "MLmodel").write_text(text)
        with pytest.raises(Refusal) as e:
            from_mlflow(registry, str(tmp_path / "flow"), "sk")
        assert code(e) == "mlflow.form"
    assert not (tmp_path / "ran").exists() and not registry.versions()


def test_what_is_not_there_is_said(registry, tmp_path, client):
    client.create_registered_model("empty")
    for reference in ("nosuch", "it's", "empty", "empty@7", "empty@best"):
        with pytest.raises(Refusal) as e:
            from_mlflow(registry, str(tmp_path / "flow"), reference)
        assert code(e) == "mlflow.unknown"
    with pytest.raises(Stopped) as e:
        from_mlflow(registry, "nosuch://me:hunter2@host/x", "m")
    assert code(e) == "mlflow.failed" and e.value.status == 4 and "hunter2" not in json.dumps([p.as_json() for p in e.value.problems])
    assert hidden("http://a:b@c/d and postgresql://e:f@g") == "http://***@c/d and postgresql://***@g"
