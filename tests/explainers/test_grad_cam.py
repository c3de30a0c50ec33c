"""Grad-CAM against its equations by hand, on a network whose class is known to live in one corner."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelwright import find
from modelwright.errors import Refusal


class Net(nn.Module):
    def __init__(self, pool=True):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 3)

    def layer(self, x):
        return F.relu(self.second(F.max_pool2d(F.relu(self.first((x - 0.5) / 0.25)), 2)))

    def forward(self, x):
        return self.head(self.layer(x).mean((2, 3)))


def explain(f, x, classes):
    return find.make("explainers", "grad_cam").explain(f, x, classes, x.mean(0), torch.Generator())


def test_it_is_equations_1_and_2():
    net, x, classes = Net(), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2, 1])
    a = net.layer(x).detach().requires_grad_(True)
    out = net.head(a.mean((2, 3)))
    found = explain(net, x, classes)
    for i in range(3):
        (slopes,) = torch.autograd.grad(out[i, classes[i]], a, retain_graph=True)
        heat = F.relu((slopes[i].mean((1, 2))[:, None, None] * a[i]).sum(0)).detach()
        assert torch.allclose(found[i, 0], F.interpolate(heat[None, None], (8, 8), mode="bilinear")[0, 0], atol=1e-6)
    assert found.shape == x.shape and (found >= 0).all()


def test_the_bright_corner_is_where_it_points():
    class Bright(nn.Module):
        def forward(self, x):
            return torch.stack([F.avg_pool2d(x, 2).sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)

    x = torch.zeros(1, 1, 8, 8)
    x[..., :4, :4] = 1
    heat = explain(Bright(), x, torch.tensor([0]))[0, 0]
    assert heat[:3, :3].min() > 10 * heat[5:, 5:].max()


def test_a_network_without_a_grid_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(Refusal, match="no layer"):
        explain(lambda x: net((x - 0.5) / 0.25), torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))


def test_against_captum():
    captum = pytest.importorskip("captum.attr")

    class Modules(Net):
        def __init__(self):
            super().__init__()
            self.last = nn.ReLU()

        def layer(self, x):
            return self.last(self.second(F.max_pool2d(F.relu(self.first((x - 0.5) / 0.25)), 2)))

    net, x, classes = Modules(), torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2, 1])
    theirs = captum.LayerGradCam(net, net.last).attribute(x, target=classes, relu_attributions=True)
    theirs = captum.LayerAttribution.interpolate(theirs, (8, 8), interpolate_mode="bilinear")
    assert torch.allclose(explain(net, x, classes), theirs.detach(), atol=1e-6)
