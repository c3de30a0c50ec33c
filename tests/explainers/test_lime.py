"""LIME's regression against scikit-learn's, and of functions whose local slopes are known."""

import numpy as np
import torch
from sklearn.linear_model import Ridge

from modelwright import find
from modelwright.explainers.lime import imitation


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_regression_is_scikit_learns():
    z = (torch.rand(60, 6, generator=rng()) < 0.5).double()
    said, weights = torch.randn(60, 3, generator=rng(1)).double(), torch.rand(60, generator=rng(2)).double()
    ours = imitation(z, said, weights, 0.01).numpy()
    for i in range(3):
        theirs = Ridge(alpha=0.01 * float(weights.sum())).fit(z.numpy(), said[:, i].numpy(), sample_weight=weights.numpy())
        assert np.allclose(ours[i], theirs.coef_, atol=1e-8)


def test_of_a_linear_function_it_is_weight_times_distance():
    w = torch.randn(5, 2, generator=rng()).double()
    x, base, classes = torch.randn(6, 5, generator=rng(1)).double(), torch.randn(5, generator=rng(2)).double(), torch.tensor([0, 1, 0, 1, 0, 1])
    found = find.make("explainers", {"lime": {"ridge": 1e-9}}).explain(lambda x: x @ w, x, classes, base, rng())
    assert torch.allclose(found, w.T[classes] * (x - base), atol=1e-5)


def test_an_input_that_the_model_does_not_read_gets_next_to_nothing():
    f = lambda x: torch.stack([torch.tanh(3 * x[:, 0] * x[:, 1]), x[:, 2]], 1)  # noqa: E731
    x, base = torch.ones(3, 4).double(), torch.zeros(4).double()
    found = find.make("explainers", "lime").explain(f, x, torch.zeros(3, dtype=torch.long), base, rng())
    assert (found[:, :2] > 0.2).all() and (found[:, 2:].abs() < 0.1).all()
