"""Rows without a label: missing by chance they take nothing away; missing where the model is unsure they take every interval that rests on labels."""

import numpy as np
import pyarrow as pa
import pytest
from benchmarks.auditor._tables import Says, subject
from scipy.stats import mannwhitneyu

from modelwright import auditing
from modelwright.auditing import unlabelled

KINDS = {"y": {"category": {"labels": ["c0", "c1"]}}, "who": "identifier"}


def made(lacks, seed=0, n=3000, **more):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-2 * x)), "c1", "c0")
    who = rng.integers(0, n // 5, n)
    wrong = (x > 0) != (y == "c1")
    table = pa.table({"x": x, "who": who, "y": pa.array(np.where(lacks(rng, wrong, who), None, y), pa.string())})

    def probabilities(t):
        p = 1 / (1 + np.exp(-2 * t.column("x").to_numpy()))
        return np.stack([1 - p, p], 1)

    return subject({"test": table}, kinds=KINDS, predictor=Says("y", probabilities), **more)


def test_labels_that_are_missing_where_the_model_errs_leave_no_interval():
    s = made(lambda rng, wrong, who: wrong & (rng.random(len(wrong)) < 0.8))
    lines = [m for m in auditing.measure(s, only=["accuracy", "calibration", "slices", "efficiency"]) if m.target == "y" and m.value is not None]
    assert {m.audit for m in lines} >= {"accuracy", "calibration"}
    assert all(m.low is None and m.high is None and "accuracy.labels_missing" in m.reasons for m in lines if m.audit in unlabelled.RESTS)
    why = unlabelled.unsure(s, "y")
    sure = np.abs(s.predict("test")["y"].probabilities[:, 1].numpy() - 0.5)
    lacks = ~s.splits["test"].column("y").is_valid().to_numpy()
    above = (sure[lacks][:, None] < sure[~lacks]).mean() + (sure[lacks][:, None] == sure[~lacks]).mean() / 2
    assert why == {"without_a_label": lacks.mean(), "less_sure_of_these": pytest.approx(above)}
    assert mannwhitneyu(sure[lacks], sure[~lacks], alternative="less").pvalue < unlabelled.ALARM


@pytest.mark.parametrize("how", ["by chance", "by person", "few"])
def test_labels_that_are_missing_otherwise_take_nothing_away(how):
    lacks = {
        "by chance": lambda rng, wrong, who: rng.random(len(wrong)) < 0.3,
        "by person": lambda rng, wrong, who: rng.random(who.max() + 1)[who] < 0.3,
        "few": lambda rng, wrong, who: wrong & (rng.random(len(wrong)) < 0.05),
    }[how]
    more = {"clusters": "who"} if how == "by person" else {}
    assert not any(unlabelled.unsure(made(lacks, seed, 1200, **more), "y") for seed in range(100, 130)), "as 1 in 1,000 would"


def test_a_number_has_no_surety():
    table = pa.table({"x": np.arange(50.0), "y": pa.array([None if i % 3 else float(i) for i in range(50)])})
    assert unlabelled.unsure(subject({"test": table}, kinds={"y": "number"}), "y") == {}
