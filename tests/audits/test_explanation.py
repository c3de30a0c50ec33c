"""Attributions against closed forms, and each test of an explainer on one that is good and one that is blind."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from modelwright.audits import explanation as e
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.subject import Subject


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_integrated_gradients_of_linear_and_quadratic_functions():
    w = torch.randn(4, 3, generator=rng())
    x, base, classes = torch.randn(7, 4, generator=rng(1)), torch.randn(4, generator=rng(2)), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert torch.allclose(e.integrated_gradients(lambda x: x @ w, x, classes, base), (x - base) * w.T[classes], atol=1e-5)
    square = lambda x: (x**2 * w[:, 0]).sum(1, keepdim=True)  # noqa: E731 - separable: attribution i is w_i (x_i^2 - b_i^2)
    assert torch.allclose(e.integrated_gradients(square, x, 0 * classes, base), w[:, 0] * (x**2 - base**2), atol=1e-4)


def test_spearman_is_scipys_over_the_kept_inputs():
    from scipy.stats import spearmanr

    a, b = torch.randn(5, 9, generator=rng()), torch.randn(5, 9, generator=rng(1))
    keep = torch.arange(9) < 7
    expected = [spearmanr(x[:7], y[:7]).statistic for x, y in zip(a.numpy(), b.numpy())]
    assert np.allclose(e.spearman(a, b, keep), expected)


def test_deletion_and_insertion_by_hand():
    """One input decides: its place first is worth all there is."""
    f = lambda x: torch.stack([0 * x[:, 0], 20 * (x[:, 0] - 0.5)], 1)  # noqa: E731
    x, base, one = torch.ones(6, 5), torch.zeros(5), torch.ones(6, dtype=torch.long)
    first = torch.zeros(6, 5)
    first[:, 0] = 1.0
    ours, random = e.curves(f, x, one, base, first, rng())
    assert np.allclose(ours, 0.5, atol=1e-3)  # deletion 0 and insertion 1 at every point: (1 - 0) / 2
    last, _ = e.curves(f, x, one, base, -first, rng())
    assert np.allclose(last, -0.5, atol=1e-3) and -0.4 < random.mean() < 0.4


def test_redrawn_weights_change_every_parameter_and_come_back():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3, generator=rng())
    before = net(x)
    with e.Redrawn(rng()) as redrawn:
        assert not torch.allclose(net(x), before) and torch.equal(net(x), net(x)) and len(redrawn.weights) == 4
    assert torch.equal(net(x), before)


class Net:
    """A small net on six numbers, of which the first two decide."""

    def __init__(self, scaffold=False):
        torch.manual_seed(0)
        self.net, self.scaffold = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2)), scaffold
        g = np.random.default_rng(0)
        x = g.standard_normal((400, 6)).astype(np.float32)
        x[:, 3] = x[:, 2] * 2
        self.names = [f"f{i}" for i in range(6)]
        kinds = {n: Number(scale=False) for n in self.names}
        for i, k in enumerate(kinds.values()):
            k.fit(pa.chunked_array([x[:, i]]))
        label = Category(["0", "1"])
        label.labels_ = ["0", "1"]
        self.schema = Schema(kinds, {"label": label})
        y = (x[:, 0] + x[:, 1] > 0).astype(int)
        self.table = pa.table({n: x[:, i] for i, n in enumerate(self.names)} | {"label": [str(v) for v in y]})
        rule = torch.optim.Adam(self.net.parameters(), 1e-2)
        for _ in range(200):
            rule.zero_grad()
            nn.functional.cross_entropy(self.net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            rule.step()

    def predict(self, table):
        x = torch.from_numpy(np.stack([table.column(n).to_numpy() for n in self.names], 1)).float()
        with torch.no_grad():
            p = self.net(x).softmax(1)
        if self.scaffold:
            away = (x[:, 3] - 2 * x[:, 2]).abs() > 0.2
            p = torch.where(away[:, None], nn.functional.one_hot((x[:, 5] > 0).long(), 2).float(), p)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    def open(self, target, table):
        self.x = torch.from_numpy(np.stack([table.column(n).to_numpy() for n in self.names], 1)).float()
        return self

    def logits(self, x, rows):
        return self.net(x)


def measured(net, explainers=None):
    lineage = {"planted": ["f0", "f1"]}
    subject = Subject(net, net.schema, {"test": net.table}, open=net.open, explainers=explainers or {}, lineage=lineage)
    return {m.metric.removeprefix("explanation."): m for m in e.Explanation().measure(subject)}


def test_good_and_blind_explainers():
    net = Net()
    good, blind = measured(net), measured(net, {"blind": lambda f, x, classes, base: x})
    assert good["completeness_error"].value < 0.01 < blind["completeness_error"].value
    assert good["randomization_similarity"].high < 0.6 and blind["randomization_similarity"].value == pytest.approx(1.0)
    assert good["fidelity"].low > 0.1 and good["fidelity"].value > blind["fidelity"].value
    assert good["stability"].low > 0.8 and good["recall_at_k"].value == 1.0
    assert good["offmanifold_gap"].high < 0.15


def test_a_scaffold_is_seen_and_a_closed_model_says_so():
    assert measured(Net(scaffold=True))["offmanifold_gap"].low > 0.15
    net = Net()
    found = e.Explanation().measure(Subject(net, net.schema, {"test": net.table}))
    assert {m.metric: m.reasons for m in found}["explanation.fidelity"] == ["explanation.no_gradients"]
    assert e.self_test()
