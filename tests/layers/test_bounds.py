"""Bounds against brute force: no point of the box leaves them, a linear layer's are exact, and their gradients are those of finite differences.

The audit's own use of them is tested in audits/test_robustness.py."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelwright.layers.bounds import Box, NoBounds, ends, gaps
from modelwright.layers.residual import ConvNorm


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Summary(nn.Module):
    """What the cnn encoder hands on: global maximum and mean, halved."""

    def forward(self, x):
        z = x.flatten(2).transpose(1, 2)
        return (z.amax(1) + z.mean(1)) / 2


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(ConvNorm(1, 4, True, "none", "relu"), ConvNorm(4, 6, True, "none", "relu"), Summary(), nn.Linear(6, 3)).double()


@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_no_point_of_the_box_leaves_the_bounds(eps):
    net, x = small(), torch.rand(5, 1, 8, 8, generator=rng()).double()
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    box = net(Box.of(low, high))
    (lower, upper), margin = ends(box), gaps(box, torch.tensor([0, 1, 2, 0, 1]))
    y, closest = torch.tensor([0, 1, 2, 0, 1])[:, None], torch.full((5, 3), torch.inf).double()

    def look(point):
        nonlocal closest
        z = net(point)
        assert (z >= lower).all() and (z <= upper).all()
        closest = torch.minimum(closest, (z.gather(1, y) - z).detach())

    for i in range(150):  # points within, and corners
        share = torch.rand(x.shape, generator=rng(i)).double()
        look(low + (share.round() if i % 2 else share) * (high - low))
    for k in range(3):  # corners that an attacker chooses: along the gradient of each difference
        at = x.clone().requires_grad_()
        for _ in range(3):
            z = net(at)
            (g,) = torch.autograd.grad((z.gather(1, y).squeeze(1) - z[:, k]).sum(), at)
            at = torch.where(g > 0, low, torch.where(g < 0, high, at)).detach().requires_grad_()
            look(at.detach())
    assert (margin <= closest + 1e-12).all() and (margin.gather(1, y) == 0).all()
    assert (margin >= lower.gather(1, y) - upper - 1e-6).all()  # differences of weights are never looser than differences of ends


def test_a_linear_map_has_exact_bounds():
    w, b = torch.randn(4, 7, generator=rng()).double(), torch.randn(4, generator=rng(1)).double()
    x, y = torch.randn(9, 7, generator=rng(2)).double(), torch.arange(9) % 4
    r = torch.rand(9, 7, generator=rng(3)).double()
    found = gaps(F.linear(Box.of(x - r, x + r), w, b), y)
    for i in range(9):
        for k in range(4):
            d = w[y[i]] - w[k]
            assert float(found[i, k]) == pytest.approx(float(d @ x[i] - d.abs() @ r[i] + b[y[i]] - b[k]), abs=1e-4)


def test_rules_of_products_of_boxes_and_of_choices():
    low, r = torch.randn(40, generator=rng()), torch.rand(40, generator=rng(1))
    a, b = Box.of(low, low + r), Box.of(low.flip(0), low.flip(0) + r)
    for f in (lambda p, q: p * q, lambda p, q: p - q, lambda p, q: 2 - p + q, lambda p, q: -p / 4, lambda p, q: torch.where(low > 0, p, q)):
        lower, upper = ends(f(a, b))
        seen = torch.stack([f(low + s * r, low.flip(0) + t * r) for s in torch.linspace(0, 1, 9) for t in torch.linspace(0, 1, 9)])
        torch.testing.assert_close(torch.stack([lower, upper]), torch.stack([seen.amin(0), seen.amax(0)]))  # each entry once: exact


def test_both_ends_are_differentiable_in_the_parameters():
    net, x = small(1), torch.rand(3, 1, 8, 8, generator=rng()).double()
    y = torch.tensor([0, 1, 2])

    def worst():
        return F.cross_entropy(-gaps(net(Box.of(x - 0.05, x + 0.05)), y), y)

    for p in net.parameters():
        (g,) = torch.autograd.grad(worst(), p)
        with torch.no_grad():
            direction = torch.randn(p.shape, generator=rng(5)).double()
            p += 1e-6 * direction
            up = worst()
            p -= 2e-6 * direction
            down = worst()
            p += 1e-6 * direction
        assert float((up - down) / 2e-6) == pytest.approx(float((g * direction).sum()), rel=1e-3, abs=1e-6)


def test_dropout_draws_one_mask_for_both_ends_and_the_unknown_has_no_bounds():
    lower, upper = ends(F.dropout(Box.of(torch.ones(500), torch.ones(500)), 0.5))
    assert torch.equal(lower, upper) and set(lower.tolist()) == {0.0, 2.0}
    x = Box.of(torch.zeros(2, 8), torch.ones(2, 8))
    for strange in (lambda: nn.GroupNorm(2, 8)(x), lambda: nn.BatchNorm1d(8)(x), lambda: F.gelu(x), lambda: x.softmax(1)):
        with pytest.raises(NoBounds):
            strange()
