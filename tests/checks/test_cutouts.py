"""Parts of pictures, and pictures in a frame, are found in any light; other pictures of one kind are not, and a plain one is like none."""

import numpy as np
import pytest
import torch
from PIL import Image

from modelwright.checks.cutouts import cut_out, standard, windows

SIDE = 32


def scenes(rng, n):
    """(n, 1, SIDE, SIDE): uneven light and a bright spot."""
    shown = []
    for _ in range(n):
        light = np.asarray(Image.fromarray(rng.normal(110, 35, (5, 5)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(8, 24, (2, 1, 1))
        shown.append(np.clip(light + 60 * (y**2 + x**2 < 30) + rng.normal(0, 3, (SIDE, SIDE)), 0, 255))
    return np.stack(shown)[:, None].astype(np.uint8)


def part(x, rng):
    keep = int(rng.integers(24, 30))
    a, b = rng.integers(0, SIDE - keep + 1, 2)
    return np.asarray(Image.fromarray(x[0]).crop((a, b, a + keep, b + keep)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


def framed(x, rng):
    wide = Image.new("L", (40, 40), int(rng.integers(0, 255)))
    wide.paste(Image.fromarray(x[0]), (4, 4))
    return np.asarray(wide.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


@pytest.mark.parametrize("made", [part, framed])
def test_parts_and_frames_are_found_and_other_pictures_are_not(made):
    rng = np.random.default_rng(0)
    x = scenes(rng, 120)
    light = [np.clip(made(x[i], rng) * rng.uniform(0.8, 1.1), 0, 255).astype(np.uint8) for i in range(12)]
    found = cut_out(np.concatenate([light, x[80:]]), x[:80])
    assert found[:12].sum() >= 10 and not found[12:].any()


def test_a_window_is_the_part_of_a_picture_that_it_says():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    half = windows(x, torch.tensor([[0.5, -1.0, 1.0]]), 4)  # the left lower quarter
    inside = slice(1, -1)  # at the border of the picture there is nothing to go between
    assert torch.allclose(half[0, 0, :3, inside], x[0, 0, 4:7, 1:3]) and torch.allclose(half[0, 0], x[0, 0, 4:, :4], atol=1.1)
    assert torch.allclose(windows(x, torch.tensor([[1.0, 0, 0]]), 8)[..., inside, inside], x[..., inside, inside])


def test_light_and_contrast_make_no_difference_and_plain_pictures_are_like_none():
    x = torch.from_numpy(scenes(np.random.default_rng(1), 3)).float()
    assert torch.allclose(standard(x), standard(0.5 * x + 20), atol=1e-5) and torch.allclose(standard(x).norm(dim=1), torch.ones(3))
    assert not standard(torch.full((1, 1, 8, 8), 7.0)).any()
    assert not cut_out(np.zeros((5, 1, 8, 8), np.uint8), np.zeros((30, 1, 8, 8), np.uint8)).any()
