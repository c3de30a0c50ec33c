"""The residual network: shapes, that every parameter learns, that group norm keeps rows apart, and that it learns digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from modelwright import find
from modelwright.encoders.resnet import ResNet
from modelwright.kinds.picture import Picture


def built(channels: int = 1, size: tuple[int, int] = (28, 28), **settings) -> ResNet:
    torch.manual_seed(0)
    kind = Picture()
    kind.load({"size_": list(size), "channels_": channels})
    encoder = ResNet(**settings)
    encoder.build({"picture": kind})
    return encoder


@pytest.mark.parametrize(
    ("channels", "size", "grid"),
    [(1, (28, 28), (3, 3)), (3, (32, 32), (4, 4)), (3, (64, 64), (4, 4)), (3, (97, 50), (6, 3)), (1, (8, 8), (2, 2)), (1, (3, 5), (3, 5))],
)
def test_shapes(channels, size, grid):
    encoder = built(channels, size, width=4)
    h = encoder(torch.rand(3, channels, *size))
    assert (encoder.width, encoder.grid) == (16, grid) and h.grid == grid
    assert h.z.shape == (3, grid[0] * grid[1], 16) and h.vector.shape == (3, 16)
    assert [tuple(level.shape[1:]) for level in h.pyramid] == encoder.levels
    coarse = h.pyramid[-1]
    torch.testing.assert_close(h.z[:, grid[1] - 1], coarse[:, :, 0, -1])  # row by row
    torch.testing.assert_close(h.vector, (coarse.flatten(2).max(2).values + coarse.flatten(2).mean(2)) / 2)


@pytest.mark.parametrize("settings", [{}, {"norm": "group", "activation": "gelu"}, {"depth": 0, "activation": "silu"}, {"depth": 1}])
@pytest.mark.parametrize("size", [(16, 16), (64, 64)])
def test_gradient_reaches_every_parameter(settings, size):
    encoder = built(3, size, width=8, **settings)
    encoder(torch.rand(4, 3, *size)).vector.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_group_norm_keeps_rows_apart_and_batch_norm_does_not():
    x = torch.rand(4, 1, 16, 16)
    for norm, apart in (("group", True), ("batch", False)):
        encoder = built(1, (16, 16), width=8, norm=norm)
        alone = torch.cat([encoder(row[None]).vector for row in x])
        assert torch.allclose(encoder(x).vector, alone, atol=1e-4) == apart


def test_a_mirrored_answer_is_the_mean_of_two_and_only_once_trained():
    x, linear = torch.rand(4, 3, 32, 32), torch.nn.Linear(32, 10)
    plain, both = built(3, (32, 32), width=8).eval(), built(3, (32, 32), width=8, views=2).eval()
    wanted = (linear(plain(x).vector) + linear(plain(x.flip(3)).vector)) / 2
    torch.testing.assert_close(linear(both(x).vector), wanted)
    torch.testing.assert_close(both(x).vector, both(x.flip(3)).vector)
    torch.testing.assert_close(both(x).z, plain(x).z)
    torch.testing.assert_close(both.train()(x).vector, plain.train()(x).vector)


def test_six_views_are_two_and_both_of_these_moved_by_a_pixel():
    x, linear = torch.rand(4, 3, 32, 32), torch.nn.Linear(32, 10)
    plain, six = built(3, (32, 32), width=8).eval(), built(3, (32, 32), width=8, views=6).eval()
    edged = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
    edged = torch.cat([edged[..., :1], edged, edged[..., -1:]], 3)
    views = {1 / 4: [x], 1 / 8: [edged[:, :, :32, :32], edged[:, :, 2:, 2:]]}
    wanted = sum(w * (linear(plain(v).vector) + linear(plain(v.flip(3)).vector)) for w, found in views.items() for v in found)
    torch.testing.assert_close(linear(six(x).vector), wanted)
    torch.testing.assert_close(six.train()(x).vector, plain.train()(x).vector)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="width"):
        ResNet(width=0)
    settings = {"width": 8, "depth": 1, "norm": "batch", "activation": "relu", "patch": None, "views": 1}
    assert find.make("encoders", {"resnet": {"width": 8}}).spec == {"resnet": settings}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_learns_digits(norm):
    digits = load_digits()
    x, y = torch.from_numpy(digits.images / 16).float()[:, None], torch.from_numpy(digits.target)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    train, test = order[:1300], order[1300:]
    encoder = built(1, (8, 8), width=8, norm=norm)
    linear = torch.nn.Linear(encoder.width, 10)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *linear.parameters()], lr=5e-3)
    for _ in range(5):
        for rows in train[torch.randperm(1300, generator=torch.Generator().manual_seed(0))].split(64):
            loss = torch.nn.functional.cross_entropy(linear(encoder(x[rows]).pooled()), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    assert (linear(encoder(x[test]).pooled()).argmax(1) == y[test]).float().mean() > 0.93
