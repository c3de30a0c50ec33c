"""A user's torch module in the worker is differentiated there, and attacked and explained like one of our own."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright.data.schema import Schema
from modelwright.explainer import Redrawn
from modelwright.find import make
from modelwright.foreign.predictor import Foreign
from modelwright.foreign.remote import Remote

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.form = nn.Linear(3, 8), nn.Linear(8, 3 if form == "logits" else 1), form
    def forward(self, x):
        z = self.last(torch.tanh(self.first(torch.nan_to_num(x) / 10)))
        return z if self.form == "logits" else z.sigmoid()

def logits(): return Net("logits")
def shares(): return Net("shares")

class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c = nn.Conv2d(1, 3, 3)
    def forward(self, x): return self.c(x).amax((2, 3))

def picture(): return Conv()

class Stepped(nn.Module):
    def forward(self, x): return torch.stack([x.round().sum(1), -x.sum(1).detach(), 0 * x.sum(1).detach()], 1)

def stepped(): return Stepped()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("remote") / "net.py"
    path.write_text(CODE)
    return path


def table_of(n=20):
    rng = np.random.default_rng(0)
    income = np.exp(rng.normal(5, 2, n))
    income[3] = np.nan
    return pa.table({
        "age": rng.normal(40, 10, n), "city": rng.choice(["北京", "Oslo"], n), "income": pa.array(income, from_pandas=True),
        "y": rng.choice(["a", "b", "c"], n),
    })  # fmt: skip


def opened(file, factory, labels=("a", "b", "c")):
    table = table_of()
    inputs = {"age": make("kinds", "number"), "city": make("kinds", "category"), "income": make("kinds", "number")}
    target = make("kinds", {"category": {"labels": list(labels)}})
    schema = Schema(inputs, {"y": target})
    schema.fit(table.set_column(3, "y", pa.array([labels[i % len(labels)] for i in range(len(table))])))
    model = Foreign(f"{file}:{factory}", schema)
    return model, model.open("y", table), table


def local(file, factory):
    scope = {}
    exec(file.read_text(), scope)
    return scope[factory]()


@pytest.mark.parametrize("factory, labels", [("logits", "abc"), ("shares", "ab")])
def test_answers_and_gradients_are_the_modules_own(file, factory, labels):
    model, there, table = opened(file, factory, labels)
    assert isinstance(there, Remote) and there.names == ["age", "income"]
    rows = torch.arange(len(table))
    said = there.logits(there.x, rows).softmax(1)
    assert torch.allclose(said.double(), model.predict(table)["y"].probabilities.double(), atol=1e-5)
    x = there.x.double().requires_grad_(True)
    (slope,) = torch.autograd.grad(there.logits(x, rows)[:, 1].sum(), x)
    step = 1e-3
    for i in range(2):  # central differences, of an answer in single precision
        ahead = torch.zeros_like(there.x)
        ahead[:, i] = step
        with torch.no_grad():
            rise = (there.logits(there.x + ahead, rows) - there.logits(there.x - ahead, rows))[:, 1] / (2 * step)
        assert torch.allclose(slope[:, i].float(), rise, atol=2e-2 * max(1.0, float(rise.abs().max())))
    assert slope[3, 1] == 0  # its income is missing, whatever stands in x
    assert float(slope.abs().max()) > 0.01


def test_a_picture(file):
    rng = np.random.default_rng(0)
    kind, target = make("kinds", {"picture": {"size": 8}}), make("kinds", {"category": {"labels": ["a", "b", "c"]}})
    import io

    from PIL import Image

    cells = []
    for _ in range(6):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(out, "png")
        cells.append(out.getvalue())
    table = pa.table({"scan": pa.array(cells, pa.binary()), "y": ["a", "b", "c"] * 2})
    schema = Schema({"scan": kind}, {"y": target})
    schema.fit(table)
    there = Foreign(f"{file}:picture", schema).open("y", table)
    net = local(file, "picture")
    x = there.x.clone().requires_grad_(True)
    y = there.x.clone().requires_grad_(True)
    there.logits(x, torch.arange(6))[:, 2].square().sum().backward()
    net(y)[:, 2].square().sum().backward()
    assert torch.allclose(x.grad, y.grad, atol=1e-6)


def test_weights_are_redrawn_in_the_worker(file):
    _, there, table = opened(file, "logits")
    rows = torch.arange(len(table))
    before = there.logits(there.x, rows)
    with Redrawn(1) as one:
        first = there.logits(there.x, rows)
    with Redrawn(1):
        again = there.logits(there.x, rows)
    with Redrawn(2):
        other = there.logits(there.x, rows)
    slopes = []
    for seed in (None, 1):  # the backward pass comes after the block, and is the same model's
        x = there.x.clone().requires_grad_(True)
        with Redrawn(seed) if seed else torch.enable_grad():
            out = there.logits(x, rows)
        slopes.append(torch.autograd.grad(out[:, 1].sum(), x)[0])
    assert not torch.allclose(*slopes)
    assert one.elsewhere == 4 and torch.equal(first, again)
    assert not torch.allclose(first, before) and not torch.allclose(first, other)
    assert torch.equal(there.logits(there.x, rows), before)


def test_no_gradient_is_zero(file):
    _, there, table = opened(file, "stepped")
    x = there.x.clone().requires_grad_(True)
    there.logits(x, torch.arange(len(table))).sum().backward()
    assert not x.grad.any()
