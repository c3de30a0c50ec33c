"""Kernel SHAP against the definition of Shapley values, closed forms, and the shap package where it is installed."""

import itertools
import math

import numpy as np
import pytest
import torch

from modelwright import find


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def shap(f, x, classes, baseline, seed=0, **settings):
    return find.make("explainers", {"shap": settings}).explain(f, x, classes, baseline, rng(seed))


def by_definition(v, inputs):
    """(F,) the weighted mean over coalitions of what each input adds; v: a tuple of inputs -> number."""
    values = np.zeros(inputs)
    for i in range(inputs):
        others = [j for j in range(inputs) if j != i]
        for s in range(inputs):
            weight = math.factorial(s) * math.factorial(inputs - s - 1) / math.factorial(inputs)
            values[i] += sum(weight * (v((*c, i)) - v(c)) for c in itertools.combinations(others, s))
    return values


@pytest.mark.parametrize("inputs", [1, 2, 5])
def test_it_is_the_definition(inputs):
    w = torch.randn(inputs, 2, generator=rng()).double()
    f = lambda x: torch.stack([torch.tanh(x @ w[:, 0]) * (1 + x[:, 0]), (x @ w[:, 1]) ** 2], 1)  # noqa: E731 - nothing additive in it
    x, base, classes = torch.randn(3, inputs, generator=rng(1)).double(), torch.randn(inputs, generator=rng(2)).double(), torch.tensor([0, 1, 1])
    found = shap(f, x, classes, base)
    for i in range(3):

        def v(kept, i=i):
            row = base.clone()
            row[list(kept)] = x[i, list(kept)]
            return float(f(row[None])[0, classes[i]])

        assert np.allclose(found[i].numpy(), by_definition(v, inputs), atol=1e-8)


@pytest.mark.parametrize("inputs", [6, 30])
def test_of_a_linear_function_it_is_weight_times_distance(inputs):
    """Exact when enumerated, and when sampled too: the least squares have nothing left over."""
    w = torch.randn(inputs, 3, generator=rng()).double()
    x, rows, classes = torch.randn(4, inputs, generator=rng(1)).double(), torch.randn(9, inputs, generator=rng(2)).double(), torch.tensor([0, 1, 2, 0])
    expected = w.T[classes] * (x - rows.mean(0))
    assert torch.allclose(shap(lambda x: x @ w, x, classes, rows.mean(0)), expected, atol=1e-8)
    assert torch.allclose(shap(lambda x: x @ w, x, classes, rows), expected, atol=1e-8)  # rows as the background: interventional


def test_sampled_values_add_up_and_are_near_the_exact_ones(monkeypatch):
    from modelwright.explainers import shap as module

    w = torch.randn(8, 16, generator=rng()).double()
    u = torch.randn(16, 2, generator=rng(3)).double()
    f = lambda x: torch.tanh(x @ w) @ u  # noqa: E731
    x, base, classes = torch.randn(5, 8, generator=rng(1)).double(), torch.zeros(8).double(), torch.tensor([0, 1, 0, 1, 0])
    exact = shap(f, x, classes, base)
    monkeypatch.setattr(module, "EXACT", 4)
    near = shap(f, x, classes, base, coalitions=2000)
    change = (f(x) - f(base.expand_as(x))).gather(1, classes[:, None]).squeeze(1)
    assert torch.allclose(near.sum(1), change, atol=1e-8) and torch.allclose(exact.sum(1), change, atol=1e-8)
    assert (near - exact).abs().max() < 0.1 * exact.abs().max()


def test_pictures_go_in_patches_whose_members_share():
    f = lambda x: torch.stack([x[:, :, :4, :4].sum((1, 2, 3)), x.sum((1, 2, 3))], 1)  # noqa: E731
    x, base = torch.ones(2, 3, 8, 8), torch.zeros(3, 8, 8)
    found = shap(f, x, torch.tensor([0, 0]), base, patches=2)
    assert torch.allclose(found[:, :, :4, :4], torch.ones(2, 3, 4, 4), atol=1e-5) and found[:, :, 4:].abs().max() < 1e-5


def test_against_the_shap_package():
    shap_ = pytest.importorskip("shap")
    w = torch.randn(7, 2, generator=rng()).double()
    f = lambda x: torch.tanh(x @ w) + x[:, :2] * x[:, 2:4]  # noqa: E731
    x, base = torch.randn(4, 7, generator=rng(1)).double(), torch.randn(7, generator=rng(2)).double()
    theirs = shap_.KernelExplainer(lambda a: f(torch.from_numpy(a))[:, 0].numpy(), base[None].numpy()).shap_values(x.numpy(), silent=True)
    assert np.allclose(shap(f, x, torch.zeros(4, dtype=torch.long), base).numpy(), theirs, atol=1e-6)
