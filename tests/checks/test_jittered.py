"""Copies that differ in their last digits are one witness; honest rows of any shape are not joined."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks.copies import jittered, repeats

SHAPES = (lambda x: x, np.exp, lambda x: np.exp(3 * x), lambda x: np.where(x < 0.5, 0, x), lambda x: np.round(x, 1), lambda x: np.round(x, 2))


@pytest.mark.parametrize("times", [2, 8])
def test_copies_with_a_little_noise_are_one_witness(times):
    rng = np.random.default_rng(times)
    z = np.repeat(rng.normal(size=(300, 4)), times, 0)
    z += 1e-4 * rng.normal(size=z.shape)
    site, order = np.repeat(rng.choice(["a", "b"], 300), times), rng.permutation(len(z))
    table = pa.table({f"x{i}": np.exp(v) for i, v in enumerate(z.T)} | {"site": site}).take(order)
    found = repeats(table)
    assert abs(len(np.unique(found)) - 300) <= 3
    same = np.repeat(np.arange(300), times)[order]
    assert all(len(np.unique(same[found == k])) <= 3 for k in np.unique(found)), "nearly none of several people"


def test_rows_along_a_line_rounded_skewed_or_full_of_zeros_are_not_joined():
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(100, 3000)), int(rng.integers(3, 7))
        z = rng.normal(size=(n, 1)) @ rng.normal(size=(1, k)) + rng.choice([0, 0.01, 1]) * rng.normal(size=(n, k))
        table = pa.table({f"x{i}": SHAPES[rng.integers(len(SHAPES))](v) for i, v in enumerate(z.T)} | {"c": rng.integers(0, 3, n)})
        assert jittered(table) is None, seed
    gaps = pa.table({f"x{i}": pa.array(np.where(rng.random(900) < 0.3, np.nan, rng.normal(size=900)), from_pandas=True) for i in range(4)})
    assert jittered(gaps) is None and jittered(gaps.slice(0, 1)) is None
