import pytest
import torch
from torch import nn

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Batch, Loss, Ragged, Term
from modelwright.learn import loop
from modelwright.learn.loop import Learner
from modelwright.objective import Objective


class Linear(Objective):
    """loss_i = w . x_i, whose worst point within epsilon is known."""

    def loss(self, model, batch, player):
        total = (batch.inputs["x"] * model.w).flatten(1).sum(1)
        return Loss({"x": Term(total, torch.ones_like(total))})


class Weight(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_linear_loss_is_attacked_to_its_worst_point(steps):
    model, x = Weight((1, 4, 4)), torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    attack = find.make("strategies", {"adversarial": {"epsilon": 0.1, "steps": steps, "start": steps > 1}})
    made = attack.batch(Batch({"x": x}), Learner(model, Linear()), "model", torch.Generator().manual_seed(2))
    torch.testing.assert_close(made.inputs["x"], (x + 0.1 * model.w.sign()).clamp(0, 1))
    assert model.w.grad is None and not made.inputs["x"].requires_grad


def test_one_step_is_the_fast_gradient_sign_method(cancer):
    attack = find.make("strategies", {"adversarial": {"numbers": 0.05, "steps": 1, "start": False}})
    parts = loop.assemble(cancer.stage([attack], model=cancer.model(dropout=0.5)))
    parts.learner.train()
    batch = cancer.batch(8)
    made = attack.batch(batch, parts.learner, "model", torch.Generator()).inputs["table"]
    assert parts.learner.training and all(m.training for m in parts.learner.modules())
    parts.learner.eval()
    for i in range(8):  # row by row, alone
        row = batch.select(slice(i, i + 1))
        x = row.inputs["table"].numbers.clone().requires_grad_()
        row.inputs["table"].numbers = x
        (g,) = torch.autograd.grad(parts.learner(row).mean(), x)
        torch.testing.assert_close(made.numbers[i], (x + 0.05 * g.sign()).detach()[0])
    assert torch.equal(made.codes, batch.inputs["table"].codes)


def test_missing_numbers_and_padding_stay(cancer):
    attack = find.make("strategies", "adversarial")
    learner = loop.assemble(cancer.stage()).learner
    batch = cancer.batch(8)
    batch.inputs["table"].present[:, 3] = False
    batch.inputs["table"].numbers[:, 3] = 0
    made = attack.batch(batch, learner, "model", torch.Generator().manual_seed(0)).inputs["table"].numbers
    moved = (made - batch.inputs["table"].numbers).abs()
    assert moved[:, 3].max() == 0 and 0.05 < moved.max() <= 0.1 + 1e-6
    series = Ragged(torch.zeros(2, 3), torch.tensor([3, 1]))
    assert attack.project(torch.ones(2, 3), series.values, series).tolist() == [[torch.tensor(0.1).item()] * 3, [torch.tensor(0.1).item(), 0, 0]]


def test_it_learns_as_well_with_a_small_bound_and_resists_more_with_a_large_one(cancer):
    plain = cancer.fit(steps=100)
    small = cancer.fit([find.make("strategies", {"adversarial": {"steps": 2}})], steps=100)
    assert cancer.accuracy(small.model) > cancer.accuracy(plain.model) - 0.03
    found = cancer.fit([find.make("strategies", {"adversarial": {"numbers": 0.3, "steps": 4}})], steps=100)
    assert list(found.model.state_dict()) == list(plain.model.state_dict())
    attack = find.make("strategies", {"adversarial": {"numbers": 0.3, "steps": 10}})

    def attacked(model):
        learner = Learner(model, find.make("objectives", "supervised"))
        return float(learner(attack.batch(cancer.test.batch(range(169)), learner, "model", torch.Generator().manual_seed(0))).mean().detach())

    assert attacked(found.model) < attacked(plain.model)


def test_refusals(cancer):
    attack = find.make("strategies", "adversarial")
    with pytest.raises(Refusal, match="no input can be moved"):
        attack.batch(Batch({"note": torch.ones(2, 3, dtype=torch.int64)}), None, "model", torch.Generator())

    class Coupled(Objective):
        def loss(self, model, batch, player):
            return Loss(coupled=model(batch)["diagnosis"].var())

    with pytest.raises(Refusal, match="no loss per row"):
        attack.batch(cancer.batch(), Learner(cancer.model(), Coupled()), "model", torch.Generator())
    with pytest.raises(Refusal):
        find.make("strategies", {"adversarial": {"steps": 0}})
