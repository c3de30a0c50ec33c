"""The label-set head against Bernoulli distributions, label by label."""

import numpy as np
import torch
from torch.distributions import Bernoulli, Independent, kl_divergence

from modelwright import find

OUT = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def test_the_loss_is_that_of_independent_bernoullis():
    y = torch.rand(30, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    known = torch.arange(30) % 3 > 0
    total, count = find.make("heads", "label_set").nll(OUT, y, known)
    expected = -Independent(Bernoulli(logits=OUT), 1).log_prob(y.double()) * known
    np.testing.assert_allclose(total, expected, atol=1e-10)
    assert count.tolist() == known.double().tolist()


def test_it_predicts_the_likeliest_set_and_its_probability():
    found = find.make("heads", "label_set").predict(OUT)
    sets = torch.tensor([[k >> i & 1 for i in range(4)] for k in range(16)]).double()
    each = Independent(Bernoulli(logits=OUT.unsqueeze(1)), 1).log_prob(sets).exp()  # (30, 16)
    score, best = each.max(1)
    assert torch.equal(found.value, sets[best].bool())
    np.testing.assert_allclose(found.score, score, atol=1e-10)
    np.testing.assert_allclose(found.extra["probabilities"], OUT.sigmoid())


def test_divergence_is_the_kl():
    a, b = OUT, OUT.flip(0)
    p, q = (Independent(Bernoulli(logits=x / 2), 1) for x in (b, a))
    np.testing.assert_allclose(find.make("heads", "label_set").divergence(a, b, 2.0), 4 * kl_divergence(p, q), atol=1e-10)
