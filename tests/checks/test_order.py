"""Order that tells the label is told from order that does not; kappa and correlation are those of a slow loop."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from modelwright.checks.order import told_by_order


def orders(rng, n=600):
    y = (rng.random(n) < 0.35).astype(int)
    return {
        "sorted": np.sort(y),
        "nearly sorted": y[np.argsort(y + rng.normal(size=n))],
        "runs": np.repeat(rng.integers(0, 2, n // 10), 10),
        "turns": np.arange(n) % 3 == 0,
        "thinned turns": (np.arange(n) % 2)[rng.random(n) < 0.7],
    }


@pytest.mark.parametrize("seed", range(5))
def test_orders_that_tell_the_label(seed):
    for name, y in orders(np.random.default_rng(seed)).items():
        assert told_by_order(np.asarray(y, int), 2, 0.99), name
    x = np.sort(np.random.default_rng(seed).normal(size=300)) + np.random.default_rng(seed).normal(size=300)
    assert told_by_order(x, None, 0.99)


def test_random_order_is_silent_as_often_as_is_said():
    rng, found = np.random.default_rng(0), 0
    for _ in range(300):
        n = int(rng.integers(50, 500))
        found += told_by_order(rng.choice(3, n, p=rng.dirichlet(np.ones(3))), 3, 0.9) is not None
        found += told_by_order(rng.normal(size=n), None, 0.9) is not None
    assert found <= 0.05 * 600  # a tenth was allowed; most of it lies below 0.1


def test_what_is_said_is_kappa_and_the_correlation_of_ranks():
    rng = np.random.default_rng(1)
    y = np.repeat(rng.integers(0, 3, 200), 4)[rng.random(800) < 0.9]
    assert float(told_by_order(y, 3, 0.99).split()[1]) == pytest.approx(cohen_kappa_score(y[1:], y[:-1]), abs=0.01)
    x = np.repeat(rng.normal(size=200), 4) + 0.1 * rng.normal(size=800)
    assert float(told_by_order(x, None, 0.99).split()[2]) == pytest.approx(spearmanr(x[1:], x[:-1])[0], abs=0.01)


def test_visits_of_one_person_lie_together_by_nature():
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(120), 6)
    y = rng.integers(0, 2, 120)[person]
    assert told_by_order(y, 2, 0.99) and told_by_order(y, 2, 0.99, person) is None
