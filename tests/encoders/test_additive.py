"""Every column adds a curve of its own, whose values at the knots are the head's weights."""

import numpy as np
import pytest
import torch

from modelwright.encoders.additive import Additive, hats, padded
from modelwright.find import make
from modelwright.forms import Tabular


def test_hats_are_linear_interpolation():
    knots = padded([[-1.0, 0.0, 2.0, 5.0], [0.0, 1.0]])
    weights = np.array([3.0, -1.0, 0.5, 2.0])
    x = torch.linspace(-3, 7, 101)
    found = hats(torch.stack([x, x], 1), knots)
    assert np.allclose(found[:, 0].numpy() @ weights, np.interp(x, knots[0], weights), atol=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(101, 2)) and float(found[:, 1, 2:].max()) < 1e-5 and float(found.min()) >= -1e-6


class Number:
    place, numbers, bins_ = "number", 1, [[-1.0, 0.0, 1.0]]


class Code:
    place, cardinality = "code", 3


def built():
    encoder = Additive()
    encoder.build({"age": Number(), "city": Code()})
    return encoder


def rows(numbers, present, codes):
    return Tabular(torch.tensor(numbers), torch.tensor(present), torch.tensor(codes))


def test_a_missing_number_has_a_weight_of_its_own():
    encoder = built()
    z = encoder(rows([[0.5], [0.5]], [[True], [False]], [[2], [0]])).z[:, 0]
    assert z.tolist() == [[0, 0.5, 0.5, 0, 0, 0, 1], [0, 0, 0, 1, 1, 0, 0]] and encoder.width == 7


def test_nothing_learns_here_and_inputs_have_gradients():
    encoder = built()
    assert not list(encoder.parameters())
    x = torch.tensor([[0.25]], requires_grad=True)
    out = encoder(Tabular(x, torch.tensor([[True]]), torch.tensor([[1]]))).z @ torch.arange(7.0)
    out.sum().backward()
    assert x.grad.item() == pytest.approx(1.0)  # from weight 1 at knot 0 to weight 2 at knot 1


def test_settings_are_checked():
    assert make("encoders", "additive").spec == {"additive": {"bins": 32}}
    with pytest.raises(Exception, match="bins"):
        make("encoders", {"additive": {"bins": 0}})
