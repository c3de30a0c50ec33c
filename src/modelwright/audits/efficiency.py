"""What an answer costs: latency of a batch with warm-up, the model's size, parameters and operations, and the memory of the process that predicts.

Latency is of the whole way from a table to predictions, encoding included, on this machine with `threads` threads, for `batch` rows; after warm-up,
`repeats` times or, once p99 has a high end, until `enough` seconds have passed; never longer than `seconds`. Every cell comes from a test row of its
own, so that a model which keeps its answers finds none. Where the system lets us, all that predicts is held to as many processors as threads. A
quantile has an exact interval from order statistics (Conover 1999, section 3.2): p99 needs 368 repeats for a high end at 0.95, and more where many
limits are declared; fewer leave it open (2 s alone were 23 calls of a model that takes 88 ms). Memory is the peak resident set so far of the process
that predicts (of one of its own, for a model that came with code, that one), Python and torch included: an upper bound. Energy, in the details, is an
estimate: processor seconds times `watts`. These figures speak of this machine and its load. Operations are those of one row in such a batch, as `operations`
counts them; where they hang on the row, as a text's length, their mean over COUNTED batches. Left out: answers that are kept of a model of one picture or
text alone; operations and parameters of what is not torch's.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from scipy.stats import binom

from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Audit, Counting, Elsewhere, Subject

COUNTED = 16  # batches


class Efficiency(Audit):
    clocked = tuple(f"efficiency.{name}" for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "memory_mb"))

    def __init__(self, batch: int = 1, threads: int = 1, repeats: int = 1200, enough: float = 2.0, seconds: float = 20.0, watts: float = 15.0):
        """enough, seconds: as above. watts: of one busy core, for the energy estimate."""
        self.batch, self.threads, self.repeats, self.enough, self.seconds, self.watts = batch, threads, repeats, enough, seconds, watts

    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.predictor is None or subject.splits["test"].num_rows == 0:
            return []
        began = time.perf_counter()
        theirs = subject.predictor.process_id if isinstance(subject.predictor, Elsewhere) else None
        taken, busy = self._latencies(subject, theirs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)
        peak, whose = (peak, "this process") if theirs is None else (peak_of(theirs), "the model's own process")
        details = {"batch": self.batch, "threads": self.threads, "mean_ms": float(taken.mean()), "energy_joules_a_row": busy * self.watts / self.batch}
        found = []
        for q in (0.5, 0.95, 0.99):
            low, high = order_interval(taken, q, subject.level)
            figure = (f"latency_p{round(100 * q)}_ms", float(np.quantile(taken, q, method="inverted_cdf")), low, high, subject.level, len(taken))
            found.append(self._line(subject, *figure, "order statistics", details if q == 0.99 else {}, began))
        found += [self._line(subject, "memory_mb", peak, peak, peak, 1.0, 1, f"peak resident set of {whose}", {}, began)] * (peak is not None)
        size = subject.lineage.get("size_bytes")
        if size is not None:
            found.append(self._line(subject, "size_mb", size / 1e6, size / 1e6, size / 1e6, 1.0, 1, "bytes of the model's files / 10^6", {}, began))
        return found + self._counts(subject, began)

    def _counts(self, subject: Subject, began: float) -> list[Measurement]:
        """Parameters, and the operations of a row's answer."""
        table, rng = subject.splits["test"], np.random.default_rng([subject.seed, 1])
        rows = min(self.batch, table.num_rows)
        ask = subject.predictor.counted if isinstance(subject.predictor, Counting) else lambda table: {}
        why = "torch does not compute it: operations and parameters of trees, ONNX files and functions of a table are not counted"
        try:
            said = ask(anew(table, rows, rng))
        except Exception as e:  # noqa: BLE001 - a model that answers, and not while it is watched
            said, why = {}, f"it fails while its operations are counted: {e}"[:300]
        if not said:
            nothing = (None, None, None, subject.level, 0, "not measured", {"why": why}, began, ["efficiency.not_counted"])
            return [self._line(subject, name, *nothing) for name in ("parameters", "operations")]
        each = [said["operations"] / rows, ask(anew(table, rows, rng))["operations"] / rows]
        if each[0] != each[1]:
            each += [ask(anew(table, rows, rng))["operations"] / rows for _ in range(COUNTED - 2)]
        count, mean = float(said["parameters"]), float(np.mean(each))
        low, high, level, method = mean, mean, 1.0, "counted: matrix products, convolutions, attention"
        if len(each) > 2:
            i = interval(Metric.mean(np.array(each), "lower"), len(each), level=subject.level)
            low, high, level, method = i.low, i.high, subject.level, f"{method}; {i.method}"
        lines = [("parameters", count, count, count, 1.0, 1, "counted"), ("operations", mean, low, high, level, len(each), method)]
        return [self._line(subject, *line, {}, began) for line in lines]

    def _latencies(self, subject: Subject, theirs: int | None) -> tuple[np.ndarray, float]:
        """(R,) milliseconds, and processor seconds a call. theirs: the process of the model, where it has one."""
        table, rng = subject.splits["test"], np.random.default_rng(subject.seed)
        last = self.seconds if subject.seconds is None else min(self.seconds, subject.seconds)
        with held(self.threads, [os.getpid(), *([] if theirs is None else [theirs])]):
            for _ in range(5):
                subject.predictor.predict(anew(table, self.batch, rng))
            taken, start, busy = [], time.perf_counter(), 0.0
            needed = math.log((1 - subject.level) / 2) / math.log(0.99)  # readings that give p99 a high end
            while (n := len(taken)) < 3 or n < self.repeats and time.perf_counter() - start < (last if n < needed else min(last, self.enough)):
                rows = anew(table, self.batch, rng)
                before, worked = time.perf_counter(), time.process_time() + worked_by(theirs)
                subject.predictor.predict(rows)
                taken.append(1000 * (time.perf_counter() - before))
                busy += time.process_time() + worked_by(theirs) - worked
            return np.array(taken), busy / len(taken)

    def _line(self, subject, name, value, low, high, level, n, method, details, began, reasons=()) -> Measurement:
        figure = (f"efficiency.{name}", None, "test", None, value, low, high, level, n, method, subject.seed, time.perf_counter() - began)
        return Measurement("efficiency", *figure, details, list(reasons))


def anew(table: pa.Table, rows: int, rng: np.random.Generator) -> pa.Table:
    """So many rows (at most the table's), each cell from another of the table's rows."""
    some = (pa.array(rng.integers(0, table.num_rows, min(rows, table.num_rows))) for _ in table.column_names)
    return pa.table([table.column(n).take(at) for n, at in zip(table.column_names, some)], schema=table.schema)


@contextlib.contextmanager
def held(threads: int, processes: list[int]) -> Iterator[None]:
    """So many threads of torch, and as many processors for all threads of some processes, where the system has such a thing (Linux)."""
    before, of = torch.get_num_threads(), {}
    torch.set_num_threads(threads)
    with contextlib.suppress(AttributeError, OSError):
        for task in (int(t.name) for p in processes for t in Path(f"/proc/{p}/task").iterdir()):
            with contextlib.suppress(ProcessLookupError):
                of[task] = os.sched_getaffinity(task)
                some = sorted(of[task])
                os.sched_setaffinity(task, [some[(os.getpid() + i) % len(some)] for i in range(threads)])  # not the first for everybody
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for task, processors in of.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(task, processors)


def peak_of(process: int) -> float | None:
    """Megabytes of another process at most, where the system tells (Linux)."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(x for x in Path(f"/proc/{process}/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return None


def worked_by(process: int | None) -> float:
    """Processor seconds of another process so far; 0 where there is none, or the system does not tell."""
    if process is not None:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def order_interval(x: np.ndarray, q: float, level: float) -> tuple[float | None, float | None]:
    """Ends for the q-quantile from the sorted sample, each missed with probability at most (1 - level) / 2; None where the sample is too small."""
    x, n, error = np.sort(x), len(x), (1 - level) / 2
    below = int(binom.ppf(error, n, q))  # P(at most below - 1 values lie under the quantile) < error
    above = int(binom.ppf(1 - error, n, q)) + 1
    return (float(x[below - 1]) if below >= 1 else None), (float(x[above - 1]) if above <= n else None)
