"""Scattering against its definition by slow sums, and what makes it fit for private training: no parameters, rows apart, one norm."""

import numpy as np
import pytest
import torch

from modelwright.encoders.scattering import Scattering, modulus, smoothed, smoothing, wavelets
from modelwright.kinds.picture import Picture


def built(channels: int = 1, size: tuple[int, int] = (28, 28), **settings) -> Scattering:
    kind = Picture()
    kind.load({"size_": list(size), "channels_": channels})
    encoder = Scattering(**settings)
    encoder.build({"picture": kind})
    return encoder


@pytest.mark.parametrize(
    ("size", "places", "channels", "angles"), [((28, 28), 49, 1, 8), ((8, 8), 4, 3, 4), ((30, 17), 40, 1, 1), ((3, 2), 1, 1, 2)]
)
def test_shapes(size, places, channels, angles):
    encoder = built(channels, size, angles=angles)
    h = encoder(torch.rand(3, channels, *size))
    paths = channels * (1 + 2 * angles + angles**2)
    assert h.z.shape == (3, 1, encoder.width) and encoder.width == paths * places
    assert not list(encoder.parameters()) and torch.isfinite(h.z).all()


@pytest.mark.parametrize("scale", [0, 1])
def test_wavelets_see_nothing_in_what_is_even_and_their_own_wave_best(scale):
    bank = wavelets(8, scale)[:, 0]
    complex_ = torch.complex(bank[:8], bank[8:])
    assert complex_.sum((1, 2)).abs().max() < 1e-5
    r = bank.shape[-1] // 2
    y, x = torch.meshgrid(*[torch.arange(-r, r + 1.0)] * 2, indexing="ij")
    for i in range(8):
        angle, frequency = np.pi * i / 8, 0.75 * np.pi / 2**scale
        wave = torch.cos(frequency * (x * np.cos(angle) + y * np.sin(angle)))
        assert int((complex_ * wave).sum((1, 2)).abs().argmax()) == i


def test_smoothing_is_a_gaussian_at_every_second_place():
    x, g = torch.rand(9, 7), torch.exp(-(torch.arange(-3, 4.0) ** 2) / (2 * 0.8**2))
    g, found = g / g.sum(), smoothed(x, smoothing(9), smoothing(7))
    padded = torch.nn.functional.pad(x[None, None], [3] * 4, mode="replicate")
    torch.testing.assert_close(found, torch.nn.functional.conv2d(padded, torch.outer(g, g)[None, None], stride=2)[0, 0])


def test_a_modulus_is_the_slow_sum_at_its_place():
    bank, x = wavelets(4, 0), torch.rand(1, 1, 12, 12, dtype=torch.float32)
    found = modulus(x, bank, 2)
    psi, r = torch.complex(bank[:4, 0], bank[4:, 0]), bank.shape[-1] // 2
    inside = lambda i: min(max(i, 0), 11)  # noqa: E731 - beyond the edge the edge goes on
    for i, j, k in ((0, 0, 0), (2, 3, 1), (5, 5, 3)):
        total = sum(psi[k, r + a, r + b] * x[0, 0, inside(2 * i + a), inside(2 * j + b)] for a in range(-r, r + 1) for b in range(-r, r + 1))
        assert found[0, k, i, j] == pytest.approx(abs(complex(total)), abs=1e-5)


def test_rows_stay_apart_have_one_norm_and_pictures_have_gradients():
    encoder, x = built(1, (16, 16)), torch.rand(4, 1, 16, 16, requires_grad=True)
    whole = encoder(x).pooled()
    torch.testing.assert_close(whole, torch.cat([encoder(row[None]).pooled() for row in x]), atol=1e-5, rtol=1e-4)
    assert torch.allclose(whole.norm(dim=1), torch.full((4,), 4.0), atol=0.1)
    whole[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_linear_head_on_it_learns_digits_from_few_rows():
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    with torch.no_grad():
        pictures = torch.from_numpy(x / 16).float().reshape(-1, 1, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
        z = built(1, (16, 16), angles=4)(pictures).pooled().numpy()
    order = np.random.default_rng(0).permutation(len(y))
    few, rest = order[:400], order[400:1000]
    assert LogisticRegression(C=1000, max_iter=200).fit(z[few], y[few]).score(z[rest], y[rest]) > 0.93
