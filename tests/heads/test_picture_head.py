"""The picture head: every size comes out exactly, the likelihood is a normal's, rows stay apart, it can paint what it is shown."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from modelwright import find
from modelwright.forms import Encoded
from modelwright.kinds.picture import Picture


def head(size=(8, 8), channels=1, width=8, **settings):
    kind = find.make("kinds", "picture")
    kind.size_, kind.channels_ = list(size), channels
    torch.manual_seed(0)
    made = find.make("heads", {"picture": settings})
    made.build(kind, width, None)
    return made


def seen(n, width=8, seed=0):
    return Encoded(torch.randn(n, 1, width, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("size, channels", [((8, 8), 1), ((1, 1), 1), ((7, 9), 3), ((28, 28), 1), ((33, 50), 3)])
def test_a_picture_of_any_size(size, channels):
    made = head(size, channels)
    found = made.predict(made(seen(3))).value
    assert found.shape == (3, channels, *size) and found.min() >= 0 and found.max() <= 1
    assert min(made.sizes[0]) < 16


def test_the_loss_is_a_normals_with_one_spread_counted_in_pixels():
    made, h = head(), seen(6)
    out, target = made(h), torch.rand(6, 1, 8, 8)
    known = torch.tensor([True, True, False, True, True, False]).float()
    total, count = made.nll(out, target, known)
    expected = -Normal(out.sigmoid(), made.log_sd.exp()).log_prob(target).sum((1, 2, 3)) * known
    torch.testing.assert_close(total, expected)
    assert count.tolist() == [64.0, 64.0, 0.0, 64.0, 64.0, 0.0]


def test_divergence_is_the_kl_a_pixel():
    made = head()
    a, b = made(seen(4)), made(seen(4, seed=1))
    p, q = Normal(b.sigmoid(), made.log_sd.exp()), Normal(a.sigmoid(), made.log_sd.exp())
    torch.testing.assert_close(made.divergence(a, b, 2.0), kl_divergence(p, q).mean((1, 2, 3)))


def test_rows_stay_apart_in_training():
    made, h = head().train(), seen(5)
    alone = torch.cat([made(Encoded(h.z[i : i + 1])) for i in range(5)])
    torch.testing.assert_close(made(h), alone, atol=1e-5, rtol=1e-4)


def test_it_paints_what_it_is_shown():
    made, h, target = head(), seen(4), torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    for _ in range(300):
        total, count = made.nll(made(h), target, torch.ones(4))
        optimizer.zero_grad()
        (total.sum() / count.sum()).backward()
        optimizer.step()
    assert (made.predict(made(h)).value - target).abs().mean() < 0.02


def test_metrics_of_a_picture_target_against_their_definitions():
    kind, rng = Picture(), np.random.default_rng(0)
    truth = {"values": rng.integers(0, 256, (300, 3, 5, 4), np.uint8), "known": np.arange(300) % 4 > 0}
    value = torch.rand(300, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    metrics = kind.metrics(find.find("heads", "picture")().predict(value.logit()), truth)
    squared = ((value.numpy() - truth["values"] / 255) ** 2)[truth["known"]]
    rows = np.arange(300)
    assert metrics["rmse"].value(rows) == pytest.approx(squared.mean() ** 0.5, rel=1e-5) and metrics["rmse"].better == "lower"
    assert metrics["psnr"].value(rows) == pytest.approx((-10 * np.log10(squared.mean((1, 2, 3)))).mean(), rel=1e-5)
    assert "predicted and true" in metrics["psnr"].note
