import numpy as np
import pyarrow as pa
import pytest

from modelwright import baselines, find
from modelwright.audits.accuracy import Accuracy
from modelwright.data.schema import Schema
from modelwright.intervals import paired
from modelwright.subject import Subject, metrics_of


def subject(target, *splits):
    """What is linear, learnt from few rows: the linear baseline is ahead of the trees, and the mean of training is what is judged."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 5))
    y = x @ [2, -1, 1, 0.5, -2] + rng.normal(size=700)
    table = pa.table({f"x{i}": x[:, i] for i in range(5)} | {"y": y if target == "number" else np.where(y > 0, "in", "out")})
    schema = Schema({f"x{i}": find.make("kinds", "number") for i in range(5)}, {"y": find.make("kinds", target)})
    cut = {"train": table.slice(0, 100), "validation": table.slice(100, 200), "test": table.slice(300)}
    schema.fit(cut["train"])
    fitted = baselines.fit(schema, schema.encode(cut["train"]), 0)
    return Subject(fitted["majority"], schema, {s: cut[s] for s in splits}, baselines=fitted)


@pytest.mark.parametrize("target", ["number", "category"])
def test_the_gain_is_over_the_best_baseline_chosen_on_validation_or_over_all_at_once(target):
    for splits in (("train", "test"), ("train", "validation", "test")):
        made = subject(target, *splits)
        (line,) = [m for m in Accuracy().measure(made) if m.metric == "accuracy.gain_over_baseline"]
        primary = made.schema.targets["y"].primary
        ours = metrics_of(made, "test", "y")[primary]
        sign = 1 if ours.better == "higher" else -1
        theirs = {b: metrics_of(made, "test", "y", b)[primary] for b in made.baselines}
        figures = {b: sign * m.value(np.arange(400)) for b, m in theirs.items()}
        assert line.details["baseline"] == max(figures, key=figures.get) == "linear" and figures["trees"] < figures["linear"]
        assert line.value == pytest.approx(sign * ours.value(np.arange(400)) - figures["linear"]) and line.low < line.value < line.high < 0
        chosen = theirs if "validation" not in splits else {"linear": theirs["linear"]}
        each = [paired(ours, m, 400, level=1 - 0.05 / len(chosen)) for m in chosen.values()]
        ends = [(i.low, i.high) if sign > 0 else (-i.high, -i.low) for i in each]
        assert (line.low, line.high) == pytest.approx(tuple(np.min(ends, axis=0)))
        assert ("at once" in line.method) == (len(chosen) > 1)
