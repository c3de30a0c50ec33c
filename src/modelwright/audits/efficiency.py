"""What an answer costs: latency of a batch with warm-up, the model's size and parameters, and the memory of the process that predicts.

Latency is of the whole way from a table to predictions, encoding included, on this machine with `threads` threads, for `batch` rows; after warm-up,
at most `repeats` times or `seconds`. A quantile has an exact interval from order statistics (Conover 1999, section 3.2): p99 needs 368 repeats for
a high end at 0.95; fewer leave it open. Memory is the process's peak resident set so far, Python and torch included: an upper bound. Energy, in the
details, is an estimate: processor seconds times `watts`. The figures speak of this machine and its load.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch
from scipy.stats import binom

from ..forms import Measurement
from ..subject import Audit, Subject


class Efficiency(Audit):
    clocked = tuple(f"efficiency.{name}" for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "memory_mb"))

    def __init__(self, batch: int = 1, threads: int = 1, repeats: int = 800, seconds: float = 2.0, watts: float = 15.0):
        """seconds: the most that measuring latency takes. watts: of one busy core, for the energy estimate."""
        self.batch, self.threads, self.repeats, self.seconds, self.watts = batch, threads, repeats, seconds, watts

    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.predictor is None or subject.splits["test"].num_rows == 0:
            return []
        began = time.perf_counter()
        taken, busy = self._latencies(subject)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
        details = {"batch": self.batch, "threads": self.threads, "mean_ms": float(taken.mean()), "energy_joules_a_row": busy * self.watts / self.batch}
        found = []
        for q in (0.5, 0.95, 0.99):
            low, high = order_interval(taken, q, subject.level)
            figure = (f"latency_p{round(100 * q)}_ms", float(np.quantile(taken, q, method="inverted_cdf")), low, high, subject.level, len(taken))
            found.append(self._line(subject, *figure, "order statistics", details if q == 0.99 else {}, began))
        found.append(self._line(subject, "memory_mb", peak, peak, peak, 1.0, 1, "peak resident set of this process", {}, began))
        size, parameters = subject.lineage.get("size_bytes"), subject.lineage.get("parameters")
        if size is not None:
            found.append(self._line(subject, "size_mb", size / 1e6, size / 1e6, size / 1e6, 1.0, 1, "bytes of the model's files / 10^6", {}, began))
        if parameters is not None:
            count = float(parameters)
            found.append(self._line(subject, "parameters", count, count, count, 1.0, 1, "counted", {}, began))
        return found

    def _latencies(self, subject: Subject) -> tuple[np.ndarray, float]:
        """(R,) milliseconds, and processor seconds a call."""
        table, threads = subject.splits["test"], torch.get_num_threads()
        part = min(self.batch, table.num_rows)
        last = self.seconds if subject.seconds is None else min(self.seconds, subject.seconds)
        torch.set_num_threads(self.threads)
        try:
            for i in range(5):
                subject.predictor.predict(table.slice(i % (table.num_rows - part + 1), part))
            taken, start, busy = [], time.perf_counter(), time.process_time()
            while len(taken) < 3 or (len(taken) < self.repeats and time.perf_counter() - start < last):
                rows = table.slice((len(taken) * part) % (table.num_rows - part + 1), part)
                before = time.perf_counter()
                subject.predictor.predict(rows)
                taken.append(1000 * (time.perf_counter() - before))
            return np.array(taken), (time.process_time() - busy) / len(taken)
        finally:
            torch.set_num_threads(threads)

    def _line(self, subject, name, value, low, high, level, n, method, details, began) -> Measurement:
        seconds = time.perf_counter() - began
        return Measurement("efficiency", f"efficiency.{name}", None, "test", None, value, low, high, level, n, method, subject.seed, seconds, details)


def order_interval(x: np.ndarray, q: float, level: float) -> tuple[float | None, float | None]:
    """Ends for the q-quantile from the sorted sample, each missed with probability at most (1 - level) / 2; None where the sample is too small."""
    x, n, error = np.sort(x), len(x), (1 - level) / 2
    below = int(binom.ppf(error, n, q))  # P(at most below - 1 values lie under the quantile) < error
    above = int(binom.ppf(1 - error, n, q)) + 1
    return (float(x[below - 1]) if below >= 1 else None), (float(x[above - 1]) if above <= n else None)
