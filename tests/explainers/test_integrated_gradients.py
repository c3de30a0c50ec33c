"""Integrated gradients and gradient times input against closed forms."""

import pytest
import torch

from modelwright import find


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def explain(name, *args, **settings):
    return find.make("explainers", {name: settings}).explain(*args, rng())


W = torch.randn(4, 3, generator=rng())
X, BASE, CLASSES = torch.randn(7, 4, generator=rng(1)), torch.randn(4, generator=rng(2)), torch.tensor([0, 1, 2, 0, 1, 2, 0])


def test_of_a_linear_function_both_are_weight_times_distance():
    for name in ("integrated_gradients", "gradient_times_input"):
        assert torch.allclose(explain(name, lambda x: x @ W, X, CLASSES, BASE), (X - BASE) * W.T[CLASSES], atol=1e-5)


def test_of_a_sum_of_squares_integrated_gradients_are_the_differences():
    square = lambda x: (x**2 * W[:, 0]).sum(1, keepdim=True)  # noqa: E731 - separable: attribution i is w_i (x_i^2 - b_i^2)
    assert torch.allclose(explain("integrated_gradients", square, X, 0 * CLASSES, BASE), W[:, 0] * (X**2 - BASE**2), atol=1e-4)
    slope = explain("gradient_times_input", square, X, 0 * CLASSES, BASE)
    assert torch.allclose(slope, (X - BASE) * 2 * W[:, 0] * X, atol=1e-4)


def test_more_steps_close_the_gap():
    f = lambda x: torch.tanh(3 * x @ W)  # noqa: E731
    change = (f(X) - f(BASE.expand_as(X))).gather(1, CLASSES[:, None]).squeeze(1)
    asked = []

    def counted(x):
        asked.append(len(x))
        return f(x)

    gaps = [(explain("integrated_gradients", counted, X, CLASSES, BASE, steps=n).sum(1) - change).abs().sum() for n in (2, 64)]
    assert gaps[1] < 0.01 * change.abs().sum() and gaps[0] <= 0.05 * change.abs().sum() and len(asked) < 2 + 18 + 2 + 64 + 1
    rough = (X - BASE) * (explain("gradient_times_input", f, (X + BASE) / 2, CLASSES, BASE) / ((X - BASE) / 2))
    assert (rough.sum(1) - change).abs().sum() > 0.2 * change.abs().sum()  # one midpoint is far off


def test_tripling_keeps_the_midpoints_that_were_asked():
    f = lambda x: torch.tanh(9 * x[:, :1]) + x[:, 1:2] ** 3  # noqa: E731
    x, base, zero = torch.full((1, 2), 2.0).double(), torch.zeros(2).double(), torch.tensor([0])
    found = explain("integrated_gradients", f, x, zero, base, steps=1)
    at = (torch.arange(9).double() + 0.5) / 9 * 2  # 1 step, tripled twice
    slow = torch.stack([2 * (9 * (1 - torch.tanh(9 * at) ** 2)).mean(), 2 * (3 * at**2).mean()])
    assert torch.allclose(found[0], slow)


def test_against_captum():
    captum = pytest.importorskip("captum.attr")
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).double()
    x, base = X.double(), BASE.double()
    theirs = captum.IntegratedGradients(net).attribute(x, base[None], target=CLASSES, n_steps=32, method="riemann_middle")
    assert torch.allclose(explain("integrated_gradients", net, x, CLASSES, base), theirs, atol=1e-8)
    theirs = captum.InputXGradient(net).attribute(x, target=CLASSES)
    assert torch.allclose(explain("gradient_times_input", net, x, CLASSES, torch.zeros(4).double()), theirs, atol=1e-10)
