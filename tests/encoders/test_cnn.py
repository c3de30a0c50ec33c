"""The plain network: shapes, that every parameter learns, that rows stay apart, and that it learns digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from modelwright.encoders.cnn import CNN
from modelwright.kinds.picture import Picture


def built(channels: int = 1, size: tuple[int, int] = (28, 28), **settings) -> CNN:
    torch.manual_seed(0)
    kind = Picture()
    kind.load({"size_": list(size), "channels_": channels})
    encoder = CNN(**settings)
    encoder.build({"picture": kind})
    return encoder


@pytest.mark.parametrize(("size", "depth", "grid"), [((28, 28), 3, (3, 3)), ((32, 20), 2, (8, 5)), ((64, 64), 4, (4, 4)), ((2, 3), 4, (2, 3))])
def test_shapes(size, depth, grid):
    encoder = built(3, size, width=4, depth=depth)
    h = encoder(torch.rand(2, 3, *size))
    assert encoder.width == 4 * 2 ** (depth - 1) and h.grid == encoder.grid == grid
    assert h.z.shape == (2, grid[0] * grid[1], encoder.width) and h.vector.shape == (2, encoder.width)
    assert [tuple(level.shape[1:]) for level in h.pyramid] == encoder.levels
    torch.testing.assert_close(h.z[:, grid[1]] if grid[0] > 1 else h.z[:, 0], h.pyramid[-1][:, :, min(1, grid[0] - 1), 0])  # row by row


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_gradient_reaches_every_parameter(norm):
    encoder = built(3, (16, 16), width=8, norm=norm, activation="silu")
    encoder(torch.rand(4, 3, 16, 16)).vector.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_rows_stay_apart():
    encoder, x = built(1, (16, 16)), torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(encoder(x).vector, torch.cat([encoder(row[None]).vector for row in x]), atol=1e-4, rtol=1e-4)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="width"):
        CNN(width=0)


def test_learns_digits():
    digits = load_digits()
    x, y = torch.from_numpy(digits.images / 16).float()[:, None], torch.from_numpy(digits.target)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    train, test = order[:1300], order[1300:]
    encoder = built(1, (8, 8), width=16)
    linear = torch.nn.Linear(encoder.width, 10)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *linear.parameters()], lr=5e-3)
    for _ in range(5):
        for rows in train[torch.randperm(1300, generator=torch.Generator().manual_seed(0))].split(64):
            loss = torch.nn.functional.cross_entropy(linear(encoder(x[rows]).pooled()), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    encoder.eval()
    assert (linear(encoder(x[test]).pooled()).argmax(1) == y[test]).float().mean() > 0.9
