"""An explainer that came as a file is asked in a process of its own, with a differentiable model, and is caught where it is none."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

import modelwright as mw
from modelwright import artifact, evidence
from modelwright.audits.explanation import Explanation
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.foreign import explainer
from modelwright.foreign.predictor import Foreign
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject

CODE = """
import numpy as np
import torch
STEPS = 64  # our number embedding bends at the edges of its bins

def gradients(model, x, target):
    assert isinstance(model, torch.nn.Module) and x.dtype == torch.float32 and target.dtype == torch.int64
    total = torch.zeros_like(x)
    for i in range(STEPS):
        point = ((i + 0.5) / STEPS * x).requires_grad_(True)
        total += torch.autograd.grad(model(point).gather(1, target[:, None]).sum(), point)[0]
    print("what an explainer prints must not tear the answers")
    return x * total / STEPS

def occlusion(model, x, target):
    with torch.no_grad():
        whole = model(x).gather(1, target[:, None])
        columns = []
        for j in range(x.shape[1]):
            gone = x.clone()
            gone[:, j] = x[:, j].mean()
            columns.append(whole - model(gone).gather(1, target[:, None]))
    return torch.cat(columns, 1).numpy()

def weights(model, x, target):
    return x * next(p for p in model.net.parameters() if p.dim() == 2).abs().mean()

def itself(model, x, target):
    return x

own = torch.nn.Linear(4, 1)
def anothers(model, x, target):
    return x * own.weight[0]

def drawn(model, x, target):
    return torch.randn_like(x)

def flat(model, x, target):
    return x.sum(1)

def gaps(model, x, target):
    return x / 0

def crash(model, x, target):
    raise ValueError("not today")

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.layer.weight.data = torch.tensor([[3.0, -2.0, 0.0, 0.0]])
    def forward(self, x):
        return torch.sigmoid(self.layer(x))

def module():
    return Net()

def function():
    def predict(table):
        s = 3 * table.column("a").to_numpy() - 2 * table.column("b").to_numpy()
        return 1 / (1 + np.exp(-s))
    return predict
"""
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a network of ours that learnt `3 a - 2 b, and the colour`, its test rows, and the explainers."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "theirs.py").write_text(CODE)
    g = np.random.default_rng(0)
    x, colour = g.standard_normal((300, 4)), g.choice(["red", "blue"], 300)
    y = (3 * x[:, 0] - 2 * x[:, 1] + (colour == "red") > 0).astype(int)
    table = pa.table({n: x[:, i] for i, n in enumerate(NAMES)} | {"colour": colour, "y": [str(v) for v in y]})
    pa.csv.write_csv(table.slice(200), folder / "test.csv")
    kinds = {n: Number() for n in NAMES} | {"colour": Category(), "y": Category(["0", "1"])}
    for n, kind in kinds.items():
        name = type(kind).__name__.lower()
        kind.spec = {name: {"labels": ["0", "1"]} if n == "y" else {}}
    schema = Schema({n: kinds[n] for n in [*NAMES, "colour"]}, {"y": kinds["y"]})
    schema.fit(table)
    torch.manual_seed(0)
    parts = {"encoders": {"table": {"mlp": {"width": 32, "depth": 1}}}, "fusion": "concat", "heads": {"y": "classes"}, "decoders": {}}
    model = artifact.assemble_model(schema, parts)
    batch, rule = schema.encode(table).batch(np.arange(300)), torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        rule.zero_grad()
        total, _ = model.heads["y"].nll(model(batch, ["y"])["y"], batch.targets["y"], batch.knows("y"))
        total.mean().backward()
        rule.step()
    artifact.save(folder / "model", model, schema)
    return folder, schema, table.slice(200)


def measured(explain, predictor, schema, table, model, rows=24):
    theirs = explainer.Theirs(explain, str(model), predictor)
    subject = Subject(predictor, schema, {"test": table}, explainers={explain: theirs}, open=getattr(predictor, "open", None))
    return {m.metric.removeprefix("explanation."): m for m in Explanation(rows=rows).measure(subject)}


def test_good_and_bad_explainers_of_our_own_model(made):
    folder, schema, table = made
    loaded = artifact.open_model(folder / "model")
    good = measured(f"{folder}/theirs.py:gradients", loaded, schema, table, folder / "model")
    assert good["completeness_error"].value < 0.1 and good["fidelity"].low > 0 and good["stability"].value > 0.9
    assert good["randomization_similarity"].value < 0.6 and good["randomization_similarity"].details["weights"] > 4
    assert not any(m.reasons for m in good.values())
    ours = Subject(loaded, schema, {"test": table}, open=loaded.open)
    ours = {m.metric.removeprefix("explanation."): m for m in Explanation(rows=24, others=False).measure(ours)}
    assert good["fidelity"].value == pytest.approx(ours["fidelity"].value, abs=0.03)  # the same method, through the pipe and row by row


@pytest.mark.parametrize(
    "name, metric, code",
    [
        ("itself", "randomization_similarity", "explanation.ignores_model"),
        pytest.param("anothers", "randomization_similarity", "explanation.ignores_model", marks=pytest.mark.slow),
        pytest.param("weights", "randomization_similarity", "explanation.ignores_model", marks=pytest.mark.slow),
        pytest.param("drawn", "stability", "explanation.unstable", marks=pytest.mark.slow),
        pytest.param("flat", "fidelity", "explanation.shape", marks=pytest.mark.slow),
        pytest.param("gaps", "fidelity", "explanation.shape", marks=pytest.mark.slow),
        pytest.param("crash", "fidelity", "explanation.failed", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_explanation_is_caught(made, name, metric, code):
    folder, schema, table = made
    found = measured(f"{folder}/theirs.py:{name}", artifact.open_model(folder / "model"), schema, table, folder / "model")
    assert code in found[metric].reasons, found[metric]


@pytest.mark.slow
@pytest.mark.parametrize("factory, explain", [("module", "gradients"), ("function", "occlusion")])
def test_models_from_elsewhere(made, factory, explain):
    """A module is differentiable in the process, a function from tables answers; the weights of the one can be drawn anew."""
    folder, schema, table = made
    schema = Schema({n: schema.inputs[n] for n in NAMES}, schema.targets)
    predictor = Foreign(f"{folder}/theirs.py:{factory}", schema)
    found = measured(f"{folder}/theirs.py:{explain}", predictor, schema, table.drop_columns(["colour"]), f"{folder}/theirs.py:{factory}", rows=64)
    assert found["fidelity"].low > 0 and found["stability"].value > 0.9 and found["stability"].low > 0
    if factory == "module":
        assert found["completeness_error"].value < 0.1 and found["randomization_similarity"].value < 0.6
    else:
        assert found["randomization_similarity"].reasons == ["explanation.no_weights"]


def test_a_missing_function_is_refused_in_words(made):
    folder, _, _ = made
    with pytest.raises(Refusal, match="the explainer's own code failed"):
        explainer.Theirs(f"{folder}/theirs.py:nowhere", str(folder / "model"), artifact.open_model(folder / "model"))


@pytest.mark.slow
def test_the_command_measures_decides_and_reproduces(made, tmp_path):
    folder, _, _ = made
    require = {"explanation.fidelity": ">= 0", "explanation.randomization_similarity": "<= 0.7"}
    (tmp_path / "task.yaml").write_text(json.dumps({"data": "test.csv", "target": "y", "audit": {"require": require}}))
    verdicts, data, task = {}, {"test": str(folder / "test.csv")}, mw.load_task(tmp_path / "task.yaml")
    for name in ("gradients", "itself"):
        done = mw.audit(folder / "model", data, task, tmp_path / name, explainer=f"{folder}/theirs.py:{name}", only=["explanation"])
        verdicts[name] = done.decision["verdict"]
    assert verdicts == {"gradients": "pass", "itself": "fail"}
    page = (tmp_path / "itself" / "report.html").read_text("utf-8")
    assert "it says the same of a model with other weights" in page
    kept = evidence.read(tmp_path / "gradients" / "evidence.json")
    again = mw.audit(folder / "model", data, task, tmp_path / "again", explainer=f"{folder}/theirs.py:gradients", only=["explanation"])
    values = [[(e["metric"], e["value"], e["low"]) for e in found["evidence"]] for found in (kept, again.evidence)]
    assert values[0] == values[1]
