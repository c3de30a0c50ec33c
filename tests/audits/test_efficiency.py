"""A model that keeps its answers is timed on rows that it has not seen; memory and work are those of the process that does it."""

import os
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from modelwright import operations
from modelwright.audits import efficiency
from modelwright.audits.efficiency import Efficiency
from modelwright.data.schema import Schema
from modelwright.find import make
from modelwright.foreign.predictor import Foreign
from modelwright.subject import Subject


def table(n=60):
    rng = np.random.default_rng(0)
    return pa.table({"a": rng.standard_normal(n), "b": rng.standard_normal(n), "y": rng.choice(["n", "p"], n)})


def subject(predictor=None):
    schema = Schema({"a": make("kinds", "number"), "b": make("kinds", "number")}, {"y": make("kinds", "category")})
    schema.fit(table())
    return Subject(predictor, schema, {"test": table()})


class Keeps:
    """Slow once for each row, and then no more."""

    def __init__(self):
        self.kept = set()

    def predict(self, rows):
        if (key := str(rows.select(["a", "b"]).to_pydict())) not in self.kept:
            time.sleep(0.02)
        self.kept.add(key)


def figures(measured):
    return {m.metric.removeprefix("efficiency."): m for m in measured}


def test_kept_answers_are_not_timed():
    model, rows = Keeps(), table()
    for i in range(rows.num_rows):
        model.predict(rows.slice(i, 1))
    assert figures(Efficiency(repeats=40).measure(subject(model)))["latency_p50_ms"].low >= 20
    some = efficiency.anew(rows, 7, np.random.default_rng(1))
    assert some.schema == rows.schema and some.num_rows == 7 and set(some.column("a").to_pylist()) <= set(rows.column("a").to_pylist())


def test_a_slow_model_is_timed_until_the_highest_quantile_has_an_end():
    class Slow:
        def predict(self, rows):
            time.sleep(0.004)

    def found(**settings):
        return figures(Efficiency(enough=0.1, **settings).measure(subject(Slow())))["latency_p99_ms"]

    line = found()
    assert line.high is not None and 368 <= line.n < 380  # 0.1 s alone would have been 25
    assert found(seconds=0.2).high is None and found(repeats=20).n == 20


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system tells of other processes in /proc")


@LINUX
def test_memory_and_work_are_of_the_models_own_process(tmp_path):
    path = tmp_path / "heavy.py"
    path.write_text(
        "import numpy as np\ndef heavy():\n    held = np.ones(30_000_000)\n"
        "    def said(t):\n        for _ in range(3): held.sum()\n        return np.full((t.num_rows, 2), 0.5)\n    return said\n"
    )
    made = subject()
    made.predictor = Foreign(f"{path}:heavy", made.schema)
    found = figures(Efficiency(seconds=1.0).measure(made))
    assert found["memory_mb"].value > 240 and "own process" in found["memory_mb"].method
    assert made.predictor.process_id is not None and efficiency.peak_of(made.predictor.process_id) >= found["memory_mb"].value
    assert found["latency_p99_ms"].details["energy_joules_a_row"] > 0.05, "some ten milliseconds of work a call, at 15 W"


@LINUX
def test_processors_are_given_back():
    before = os.sched_getaffinity(0)
    with efficiency.held(1, [os.getpid()]):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before and efficiency.peak_of(2**30) is None and efficiency.worked_by(None) == 0


def test_operations_are_those_counted_by_hand(tmp_path):
    """Of modules in the worker: a dense layer of i to o numbers makes 2 i o, a convolution as many at each place."""
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\nnet = lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))\n"
        "table = lambda: lambda t: [[0.5, 0.5]] * len(t)\n"
    )
    made = subject()
    made.predictor = Foreign(f"{path}:net", made.schema)
    found = figures(Efficiency(repeats=3, batch=5).measure(made))
    by_hand = {"parameters": 2 * 2 + 2 * 16 + 16 + 16 * 2 + 2, "operations": 2 * (2 * 16 + 16 * 2)}
    assert {name: found[name].value for name in by_hand} == by_hand
    assert all(found[name].low == found[name].high == found[name].value and found[name].level == 1.0 for name in by_hand)
    made.predictor = Foreign(f"{path}:table", made.schema)
    line = figures(Efficiency(repeats=3).measure(made))["operations"]
    assert line.value is None and line.reasons == ["efficiency.not_counted"] and "torch does not compute" in line.details["why"]


class Texts:
    """An LSTM and a transformer over so many words as the row's number says."""

    def __init__(self):
        self.lstm, self.layer = nn.LSTM(8, 4, batch_first=True), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        self.sizes = []

    def counted(self, rows):
        words = 1 + int(abs(rows.column("a")[0].as_py()) * 10)
        self.sizes.append(words)
        with operations.Counted() as work, torch.no_grad():
            self.lstm(torch.ones(1, words, 8))
            self.layer(torch.ones(1, words, 8))
        return {"operations": work.total, "parameters": 1}

    def predict(self, rows):
        return None


def test_fused_layers_are_counted_and_what_hangs_on_the_row_has_an_interval():
    model = Texts()
    line = figures(Efficiency(repeats=3).measure(subject(model)))["operations"]
    words = np.array(model.sizes)
    lstm = 2 * words * 4 * 4 * (8 + 4)  # four gates, from input and state
    layer = 2 * words * (3 * 8 * 8 + 8 * 8 + 2 * 8 * 16) + 2 * 2 * words**2 * 8  # projections, two dense layers, attention
    assert len(set(words)) > 5 and np.isclose(line.value, (lstm + layer).mean()) and line.low < line.value < line.high
    assert torch.backends.mkldnn.enabled and torch.backends.mha.get_fastpath_enabled() and operations.Counted.now is None
