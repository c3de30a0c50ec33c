"""Exposure of secrets in a letter-pair model: by heart, by chance, and from a sample."""

import itertools
import math

import numpy as np
import pytest

from modelwright.audits._exposure import exposure


class Pairs:
    """Counts of digit after digit, with one added: the least language model. Trained on codes of four digits."""

    def __init__(self, codes):
        self.counts = np.ones((11, 10))
        for code in codes:
            for a, b in zip((10, *code), code):
                self.counts[a, b] += 1
        self.log = np.log(self.counts / self.counts.sum(1, keepdims=True))

    def nll(self, code):
        return -sum(self.log[a, b] for a, b in zip((10, *code), code))


SPACE = list(itertools.product(range(10), repeat=4))


def measured(repeats, rng, sample=None):
    secret = tuple(int(v) for v in rng.integers(0, 10, 4))
    model = Pairs([tuple(rng.integers(0, 10, 4)) for _ in range(100)] + [secret] * repeats)
    others = [model.nll(c) for c in SPACE if c != secret]
    exact = exposure(model.nll(secret), np.array(others), len(SPACE))
    if sample is None:
        return exact
    return exact, exposure(model.nll(secret), rng.choice(others, sample), len(SPACE), 0.9)


def test_what_is_repeated_is_exposed_and_its_rank_is_the_definition():
    rng = np.random.default_rng(0)
    known = [measured(60, rng).value for _ in range(10)]
    assert np.mean(known) > 10 and max(known) <= math.log2(10_000)
    assert exposure(1.0, np.array([0.5, 2.0, 3.0]), 4).value == pytest.approx(2 - 1)  # rank 2 of 4
    assert exposure(1.0, np.array([1.0, 1.0, 1.0]), 4).value == 0  # all alike


def test_what_was_never_seen_is_exposed_by_chance_alone():
    """P[exposure >= x] = 2^-x."""
    rng = np.random.default_rng(1)
    found = np.array([measured(0, rng).value for _ in range(60)])
    assert 0.25 < (found >= 1).mean() < 0.75 and (found >= 6).mean() < 0.1


def test_a_samples_interval_holds_the_exact_value_and_its_ceiling_is_kept():
    rng = np.random.default_rng(2)
    pairs = [measured(int(k), rng, 500) for k in rng.integers(0, 8, 30)]
    assert np.mean([s.low <= e.value <= s.high for e, s in pairs]) >= 0.85
    assert all(s.low <= s.ceiling < 8 for _, s in pairs)
