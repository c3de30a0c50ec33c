"""How a policy fares when it acts: the return of episodes that it plays by its likeliest actions, beside a random policy's.

Undiscounted returns of whole episodes in environments that training never began from (their seeds are set apart). An interval speaks of episodes of this
one policy; what another training seed would have given is in the lines of audit `seeds`.
"""

from __future__ import annotations

import time

import numpy as np

from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Audit, Subject


class Episodes(Audit):
    def __init__(self, episodes: int = 100):
        self.episodes = episodes

    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.play is None:
            return []
        began = time.perf_counter()
        returns, random = (subject.play(who, self.episodes) for who in ("model", "random"))
        details = {"random": float(random.mean()), "least": float(returns.min()), "most": float(returns.max())}
        found = []
        for name, rows in (("episode_return", returns), ("accuracy.gain_over_baseline", returns - random.mean())):
            i = interval(Metric.mean(rows), len(rows), level=subject.level, seed=subject.seed)
            seconds = time.perf_counter() - began
            line = Measurement(
                "episodes", name, subject.schema.acted[0], "test", None, i.value, i.low, i.high, subject.level, len(rows), i.method, subject.seed, seconds,
                details if name == "episode_return" else {"baseline": "random", "metric": "episode_return"},
            )  # fmt: skip
            found.append(line)
        spread = np.sqrt(returns.var(ddof=1) / len(returns) + random.var(ddof=1) / len(random))  # the random policy's mean is a guess too
        own = np.sqrt(returns.var(ddof=1) / len(returns))
        widen = spread / own if own > 0 else 1.0
        gain = found[1]
        gain.low, gain.high = (gain.value + (x - gain.value) * widen for x in (gain.low, gain.high))
        return found
