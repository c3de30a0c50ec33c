"""Our optimizers are torch's, bit for bit, and stop and go on as if nothing had happened."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from modelwright.learn import checkpoint, optim
from modelwright.settings import Settings


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))


def gradients(model, steps):
    return [[torch.randn_like(p) for p in model.parameters()] for _ in range(steps)]


def walk(model, optimizer, steps):
    for gs in steps:
        for p, g in zip(model.parameters(), gs, strict=True):
            p.grad = g
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name, momentum", [("adamw", 0.9), ("sgd", 0.9), ("sgd", 0.0)])
def test_equal_to_torch(name, momentum):
    a = net()
    b, steps = copy.deepcopy(a), gradients(a, 20)
    if name == "adamw":  # torch's fused SGD cannot take a gap
        steps[3][1] = steps[0][2] = None
    ours = optim.optimizer(list(a.parameters()), {a[1].weight: 0.5}, Settings(optimizer=name, lr=1e-2, weight_decay=0.1, momentum=momentum))
    groups = [
        {"params": [b[0].weight], "lr": 1e-2, "weight_decay": 0.1},
        {"params": [b[0].bias, b[1].bias], "lr": 1e-2, "weight_decay": 0.0},
        {"params": [b[1].weight], "lr": 5e-3, "weight_decay": 0.1},
    ]
    if name == "sgd":
        theirs = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True)
    else:
        theirs = torch.optim.AdamW(groups, betas=(momentum, 0.99), fused=True)
    assert torch.equal(walk(a, ours, steps), walk(b, theirs, steps))


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_it_goes_on_from_a_checkpoint(name, tmp_path):
    s, whole = Settings(optimizer=name, lr=1e-2, weight_decay=0.1), net()
    steps = gradients(whole, 10)
    expected = walk(whole, optim.optimizer(list(whole.parameters()), {}, s), steps)
    first = net()
    optimizer = optim.optimizer(list(first.parameters()), {}, s)
    walk(first, optimizer, steps[:4])
    checkpoint.save(tmp_path, 4, optimizer.state_dict())
    again = optim.optimizer(list(first.parameters()), {}, s)
    again.load_state_dict(checkpoint.load(tmp_path))
    assert torch.equal(walk(first, again, steps[4:]), expected)


LEARNS = """
import sys, torch
from modelwright.learn import loop, optim
from modelwright.settings import Settings
p = torch.nn.Parameter(torch.ones(2))
rule = optim.optimizer([p], {}, Settings(lr=1.0, weight_decay=0.0))
(p.grad,) = torch.autograd.grad(p.sum(), [p])
rule.step()
sys.exit("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_imported_to_learn():
    assert subprocess.run([sys.executable, "-c", LEARNS], check=False).returncode == 0


def test_muon_turns_matrices_and_leaves_edges_to_adamw():
    torch.manual_seed(0)
    filters, head, bias = (nn.Parameter(torch.randn(*shape)) for shape in ((6, 4, 3, 3), (3, 6), (6,)))
    before = [p.detach().clone() for p in (filters, head, bias)]
    s = Settings(optimizer="muon", lr=0.01, weight_decay=0.5)
    optimizer = optim.optimizer([filters, head, bias], {}, s, {head})
    for p in (filters, head, bias):
        p.grad = torch.randn_like(p)
    optimizer.step()
    u, _, v = torch.linalg.svd(filters.grad.flatten(1), full_matrices=False)
    moved = (before[0] * (1 - 0.01 * 0.5) - filters.detach()).flatten(1) / (0.2 * 0.01 * 36**0.5)
    assert torch.nn.functional.cosine_similarity(moved.flatten(), (u @ v).flatten(), dim=0) > 0.97
    theirs = [nn.Parameter(b.clone()) for b in before[1:]]
    oracle = torch.optim.AdamW([{"params": theirs[:1], "weight_decay": 0.5}, {"params": theirs[1:], "weight_decay": 0}], lr=0.002, betas=(0.9, 0.99))
    for p, like in zip(theirs, (head, bias)):
        p.grad = like.grad
    oracle.step()
    assert torch.allclose(theirs[0], head) and torch.allclose(theirs[1], bias)


@pytest.mark.parametrize("shape", [(16, 16), (8, 64), (64, 8)])
def test_orthogonal_brings_singular_values_near_one(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(optim.orthogonal(g, steps=5))
    assert values.max() < 1.3 and values.median() > 0.6
