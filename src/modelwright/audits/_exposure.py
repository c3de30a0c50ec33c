"""How much likelier a model finds a planted secret than its equals: exposure, in bits.

Source: Carlini et al. 2019, "The Secret Sharer", definition 4, for a secret s drawn at random from a space R of equals:

    exposure(s) = log2 |R| - log2 rank(s)

where rank 1 is the likeliest of all. 0 to 1 bit is chance (P[exposure >= x] = 2^-x for a secret that the model never saw), log2 |R| is known by heart. Where
R is too large to be gone through, the rank comes from a random sample of it, with an exact (Clopper-Pearson) interval; with N samples no more than about
log2 N bits are ever sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv


@dataclass(frozen=True)
class Exposure:
    value: float  # bits
    low: float
    high: float
    ceiling: float  # the most that could have been shown


def exposure(secret: float, others: np.ndarray, space: float, level: float = 0.95) -> Exposure:
    """secret: its negative log-likelihood; others (N,): of its equals, all of them (N = space - 1) or a random sample; space: |R|. Ties count against
    the secret's being known."""
    n, better = len(others), int((others <= secret).sum())
    top = math.log2(space)
    if n >= space - 1:
        value = top - math.log2(1 + better)
        return Exposure(value, value, value, top)
    error = (1 - level) / 2
    share_high = float(betaincinv(better + 1, n - better, 1 - error)) if better < n else 1.0
    share_low = float(betaincinv(better, n - better + 1, error)) if better else 0.0
    bits = lambda share: top - math.log2(1 + share * (space - 1))  # noqa: E731
    most = bits(float(betaincinv(1, n, 1 - error)))
    return Exposure(bits(better / n), bits(share_high), bits(share_low), most)
