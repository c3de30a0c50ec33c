"""Occlusion is the fall of the answer, one input at a time."""

import pytest
import torch

from modelwright import find


def test_it_is_the_slow_loop():
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(6, 8, generator=rng)
    f = lambda x: torch.tanh(x @ w)[:, :3] * x[:, :3]  # noqa: E731
    x, base, classes = torch.randn(4, 6, generator=rng), torch.randn(6, generator=rng), torch.tensor([0, 1, 2, 0])
    found = find.make("explainers", "occlusion").explain(f, x, classes, base, rng)
    for i in range(4):
        for j in range(6):
            gone = x[i].clone()
            gone[j] = base[j]
            fall = f(x[i : i + 1])[0, classes[i]] - f(gone[None])[0, classes[i]]
            assert torch.allclose(found[i, j], fall, atol=1e-6)


def test_patches_of_a_picture_share_their_fall():
    f = lambda x: x.sum((1, 2, 3))[:, None]  # noqa: E731
    found = find.make("explainers", {"occlusion": {"patches": 2}}).explain(
        f, torch.ones(1, 3, 4, 4), torch.tensor([0]), torch.zeros(3, 4, 4), torch.Generator()
    )
    assert torch.allclose(found, torch.ones(1, 3, 4, 4))


def test_against_captum():
    captum = pytest.importorskip("captum.attr")
    net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).double()
    rng = torch.Generator().manual_seed(0)
    x, base, classes = torch.randn(6, 5, generator=rng).double(), torch.randn(5, generator=rng).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    theirs = captum.FeatureAblation(net).attribute(x, base[None], target=classes)
    assert torch.allclose(find.make("explainers", "occlusion").explain(net, x, classes, base, rng), theirs, atol=1e-10)
