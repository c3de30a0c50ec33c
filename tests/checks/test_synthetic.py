"""Rows between rows are found, whatever the columns' scales; real rows and copies are let be. Oracle: the triangle inequality in a double loop."""

import numpy as np
import pytest

from modelwright.checks.synthetic import between, real


def smote(rng, x, m, near=5):
    a = rng.integers(0, len(x), m)
    order = np.argsort(((x[a, None] - x[None]) ** 2).sum(2), 1)[:, 1 : near + 1]
    b = order[np.arange(m), rng.integers(0, near, m)]
    return x[a] + rng.random((m, 1)) * (x[b] - x[a])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_made_rows_are_those_of_a_double_loop(seed, kind):
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.01, 1, 500], int(rng.integers(3, 8)))
    own = (rng.normal(3, 1, (150, len(scale))) * scale).astype(kind)
    test = np.concatenate([smote(rng, own, 20), rng.normal(3, 1, (30, len(scale))) * scale]).astype(kind)
    z, w = ((v.astype(float) - own.mean(0)) / own.std(0) for v in (own, test))
    to = np.linalg.norm(w[:, None] - z[None], axis=2)
    apart = np.linalg.norm(z[:, None] - z[None], axis=2)
    slow = [np.min(np.add.outer(d, d) - apart + 9 * np.eye(len(d))) < 1e-5 for d in to]
    assert between(own.astype(float), test.astype(float), None, seed).tolist() == slow and sum(slow) == 20


def test_a_test_row_that_training_rows_were_made_of():
    rng = np.random.default_rng(5)
    own = rng.normal(size=(100, 4))
    train = np.concatenate([own[:80], smote(rng, own, 60)])
    assert between(train, own[80:], None, 0).any() and not between(own[:80], own[80:], None, 0).any()


def test_labels_part_the_rows_and_copies_do_not_count():
    rng = np.random.default_rng(6)
    own, y = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    made = smote(rng, own[y == 1], 30)
    assert between(own, made, (y, np.ones(30)), 0).all() and not between(own, made, (y, np.zeros(30)), 0).any()
    assert not between(own, own[:50], None, 0).any() and not between(np.repeat(own, 2, 0), own[:50] + 1e-9, None, 0).any()


def test_where_nothing_can_be_said():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(200, 2))
    assert between(x, x[:5] + 1, None, 0) is None  # two columns
    assert between(np.stack([x[:, 0], x[:, 1], x.sum(1)], 1), np.stack([x[:, 0], x[:, 1], x.sum(1)], 1)[:5] + 1, None, 0) is None  # in one plane
    assert real(x[:, 0]) and not real(np.round(x[:, 0])) and not real(np.where(rng.random(200) < 0.5, np.nan, x[:, 0]))


def test_bills_of_nought_or_of_the_same_every_month_lie_on_lines_by_nature():
    rng = np.random.default_rng(8)
    bills = rng.normal(50, 20, (400, 4))
    bills[::3, 1:] = 0
    bills[1::3] = bills[1::3, :1]
    assert not between(bills[:300], bills[300:], None, 0).any()
