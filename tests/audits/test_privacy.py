"""Epsilon computed again against the Gaussian mechanism's closed form, and every way in which a statement does not carry its claim."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.audits.privacy import Privacy, epsilon_of, parts
from modelwright.data.schema import Schema
from modelwright.subject import Subject


def test_one_gaussian_is_its_closed_form():
    """Balle and Wang 2018, theorem 8: delta(eps) = Phi(1/2s - eps s) - e^eps Phi(-1/2s - eps s)."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    for noise in (0.8, 2.0):
        exact = brentq(lambda e, s=noise: norm.cdf(0.5 / s - e * s) - np.exp(e) * norm.cdf(-0.5 / s - e * s) - 1e-5, 1e-3, 50)
        assert epsilon_of(((noise, 1.0, 1),), 1e-5) == pytest.approx(exact, rel=2e-3)
        assert epsilon_of(((noise, 1.0, 4),), 1e-5) == pytest.approx(epsilon_of(((noise / 2, 1.0, 1),), 1e-5), rel=2e-3)
        assert epsilon_of(((noise, 1.0, 1),), 1e-5, "rdp") >= exact


GOOD = {"epsilon": 0.0, "delta": 1e-5, "accountant": "PLD", "noise_multiplier": 1.1, "sample_rate": 0.01, "rows": 5000, "steps": 200, "clip": 1.0,
        "neighbours": "add/remove one row", "divisor": 50}  # fmt: skip
GOOD["epsilon"] = epsilon_of(((1.1, 0.01, 200),), 1e-5)


def measured(change=None, stages=1, taken=200, **lineage):
    statement = {**GOOD, **(change or {})}
    statement = {k: v for k, v in statement.items() if v is not ...}
    told = [{"name": f"s{i}", "steps": taken, "statement": {"privacy": statement}} for i in range(stages)]
    table = pa.table({"a": [1.0] * 10})
    (line,) = Privacy().measure(Subject(None, Schema({}, {}), {"train": table, "test": table}, lineage={"stages": told, **lineage}))
    return line


def test_composition_over_stages_seeds_segments_and_tuning():
    assert measured().value == pytest.approx(GOOD["epsilon"]) and measured().reasons == []
    assert measured(stages=2).value == pytest.approx(2 * GOOD["epsilon"]) and measured(stages=2).details["delta"] == pytest.approx(2e-5)
    assert measured(seeds=3).value == pytest.approx(3 * GOOD["epsilon"])
    halves = measured({"segments": [{"steps": 100}, {"steps": 100}]})
    assert halves.value == pytest.approx(GOOD["epsilon"]) and not halves.reasons
    assert parts({**GOOD, "segments": [{"steps": 10}, {"steps": 5, "noise_multiplier": 2}]}) == [(1.1, 0.01, 10), (2.0, 0.01, 5)]


@pytest.mark.parametrize(
    "code, change",
    [
        ("privacy.understated", {"epsilon": 0.9 * GOOD["epsilon"]}),
        ("privacy.incomplete", {"clip": ...}),
        ("privacy.incomplete", {"noise_multiplier": None}),
        ("privacy.invalid", {"noise_multiplier": 0.0}),
        ("privacy.invalid", {"epsilon": float("nan")}),
        ("privacy.invalid", {"delta": 0.5}),
        ("privacy.sampler", {"neighbours": "replace one row"}),
        ("privacy.sampler", {"sampler": "shuffled batches"}),
        ("privacy.divisor", {"divisor": 20}),
        ("privacy.understated", {"tuning_runs": 5}),
    ],
)
def test_a_statement_that_does_not_carry_its_claim(code, change):
    line = measured(change)
    assert line.value is None and code in line.reasons


def test_steps_that_were_not_counted_and_stages_without_noise():
    assert measured(taken=201).reasons == ["privacy.steps"]
    table = pa.table({"a": [1.0]})
    stages = [{"statement": {"privacy": GOOD}, "steps": 200}, {"statement": {}, "steps": 5}]
    (line,) = Privacy().measure(Subject(None, Schema({}, {}), {"train": table}, lineage={"stages": stages}))
    assert line.value is None and line.reasons == ["privacy.stage_without_noise"]
    assert Privacy().measure(Subject(None, Schema({}, {}), {"train": table}, lineage={"stages": [{"statement": {}}]})) == []
