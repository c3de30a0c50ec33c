"""What one training run shows of epsilon: each of m canaries is in or out by a fair coin, and an attacker guesses which.

Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", theorem 5.2. Under (epsilon, delta)-privacy for adding or
removing one row, the number W of right guesses among r (the rest abstains) obeys, with B ~ Binomial(r, e^epsilon / (1 + e^epsilon)),

    P[W >= v] <= P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i,   i = 1 ... m

so the least epsilon under which v right guesses are no more unlikely than `error` is surpassed with confidence 1 - error. Even an attacker who is right
every time shows only so much with m canaries: `ceiling`. How many guesses are made is chosen among three, each with a third of the error.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betainc, betaincinv, gammaln

GUESSED = (1.0, 0.5, 0.2)  # shares of the canaries that are guessed, the surest first
MOST = 20.0  # of epsilon that is looked for


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The right side of the theorem."""
    q = 1 / (1 + math.exp(-epsilon))
    k = np.arange(right - 1, -1, -1)
    ways = gammaln(guesses + 1) - gammaln(k + 1) - gammaln(guesses - k + 1)
    below = np.cumsum(np.exp(ways + k * math.log(q) + (guesses - k) * math.log1p(-q)))  # P[v > B >= v - i], i = 1 ... v
    steepest = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    beta = float(betainc(right, guesses - right + 1, q)) if right else 1.0
    return min(1.0, beta + 2 * canaries * delta * steepest)


def epsilon_at_least(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """The lower bound of epsilon, at confidence 1 - error; 0 where nothing is shown."""
    if p_value(canaries, guesses, right, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, MOST
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(canaries, guesses, right, middle, delta) <= error else (low, middle)
    return low


def right_guesses(score: np.ndarray, inside: np.ndarray, guesses: int) -> int:
    """Of the highest half of the guesses "in" and the lowest half "out". score, inside (m,)."""
    order = np.argsort(-score, kind="stable")
    half = guesses // 2
    return int(inside[order[:half]].sum() + (~inside[order[len(order) - (guesses - half) :]]).sum())


def audit(score: np.ndarray, inside: np.ndarray, delta: float, level: float) -> dict[str, float]:
    """bound: of epsilon, surely at least; high: the most that the same guesses could be worth, if chance was against them; ceiling: what could have been
    shown. Each end errs with (1 - level) / 2 at most."""
    m, error, best = len(score), (1 - level) / 2 / len(GUESSED), {}
    for share in GUESSED:
        r = max(2, round(share * m))
        v = right_guesses(score, inside, r)
        bound, most = epsilon_at_least(m, r, v, delta, error), epsilon_at_least(m, r, r, delta, error)
        rate = float(betaincinv(v + 1, r - v, 1 - error)) if v < r else 1.0
        high = math.inf if rate >= 1 else max(bound, math.log(rate / (1 - rate)), 0.0)
        if not best or bound > best["bound"]:
            best = {"bound": bound, "high": high, "guesses": r, "right": v, "ceiling": max(most, best.get("ceiling", 0.0))}
        best["ceiling"] = max(best["ceiling"], most)
    return best | {"canaries": m, "delta": delta}
