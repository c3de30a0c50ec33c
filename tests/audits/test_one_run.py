"""The bound against its definition, and on randomised response, whose epsilon is known."""

import math

import numpy as np
import pytest

from modelwright.audits import _one_run as one


def slow(m, r, v, epsilon, delta):
    """Theorem 5.2 as it stands: sums of single probabilities."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    p = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    beta = sum(p[v:])
    alpha = max((sum(p[max(0, v - i) : v]) / i for i in range(1, m + 1)), default=0.0)
    return min(1.0, beta + 2 * m * delta * alpha)


@pytest.mark.parametrize("m, r, v", [(10, 10, 9), (40, 20, 15), (60, 30, 0), (60, 30, 30)])
@pytest.mark.parametrize("epsilon, delta", [(0.0, 0.0), (1.0, 1e-5), (2.5, 1e-2)])
def test_the_p_value_is_its_definition(m, r, v, epsilon, delta):
    assert one.p_value(m, r, v, epsilon, delta) == pytest.approx(slow(m, r, v, epsilon, delta), rel=1e-9)


def test_the_bound_is_where_the_p_value_crosses_the_error():
    bound = one.epsilon_at_least(300, 300, 290, 1e-5, 0.025)
    assert one.p_value(300, 300, 290, bound - 1e-6, 1e-5) <= 0.025 < one.p_value(300, 300, 290, bound + 1e-3, 1e-5)
    assert one.epsilon_at_least(300, 300, 150, 1e-5, 0.025) == 0.0
    assert one.epsilon_at_least(300, 300, 290, 1e-2, 0.025) < bound  # a larger delta explains more


def test_randomised_response_is_never_claimed_to_leak_more_than_it_does():
    """Each coin is told truly with probability e^eps / (1 + e^eps): the worst mechanism of that epsilon, so the bound comes close from below."""
    g, epsilon, bounds = np.random.default_rng(0), 1.0, []
    for _ in range(100):
        inside = g.random(600) < 0.5
        told = inside == (g.random(600) < math.exp(epsilon) / (1 + math.exp(epsilon)))
        found = one.audit(told + 1e-9 * g.random(600), inside, 0.0, 0.95)
        bounds.append(found["bound"])
        assert found["bound"] <= found["high"] and found["ceiling"] > 4.5
    assert np.mean(np.array(bounds) > epsilon) <= 0.05 and np.median(bounds) > 0.65


def test_an_attacker_who_knows_everything_reaches_the_ceiling_and_one_who_knows_nothing_zero():
    g = np.random.default_rng(1)
    inside = g.random(300) < 0.5
    all_right, blind = one.audit(inside + 0.0, inside, 1e-5, 0.95), one.audit(g.random(300), inside, 1e-5, 0.95)
    assert all_right["right"] == all_right["guesses"] and all_right["high"] == math.inf
    assert 3 < all_right["bound"] < all_right["ceiling"] == one.epsilon_at_least(300, 300, 300, 1e-5, 0.025 / 3) and blind["bound"] < 0.3
