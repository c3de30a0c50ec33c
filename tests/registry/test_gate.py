"""The gate's rules one by one, and its error rate over simulated models."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import Refusal
from modelwright.forms import Measurement
from modelwright.intervals import interval
from modelwright.kind import Metric
from modelwright.registry.gate import METRICS, NAMES, NEEDS, decide, level_for, normal_slice, parse

BYTES = {"model": "sha256:aaaa", "data": {"train": "sha256:cccc", "test": "sha256:bbbb"}, "code": "sha256:dddd"}


def measured(
    metric="accuracy", value=0.93, low=0.91, high=0.95, level=0.99, n=500, target="y", split="test", slice=None, digests=None, reasons=(), details=None
):
    own = {"model": "sha256:aaaa", "data": BYTES["data"].get(split), "code": "sha256:dddd"}
    return Measurement("made", metric, target, split, slice, value, low, high, level, n, "by hand", 0, 0.0, details or {}, list(reasons), digests or own)


def decided(require, *measurements):
    return decide(parse(require), measurements, digests=BYTES)


def codes(decision):
    return [r["code"] for r in decision.reasons]


def test_pass_fail_and_inconclusive_are_read_off_the_interval():
    assert decided({"accuracy": ">= 0.90"}, measured()).verdict == "pass"
    assert decided({"accuracy": ">= 0.96"}, measured()).verdict == "fail"
    between = decided({"accuracy": ">= 0.92"}, measured())
    assert between.verdict == "inconclusive" and codes(between) == ["accuracy.underpowered"]
    assert between.rows[0].needed_n == 2001 and "2,001 rows" in between.reasons[0]["text"]  # 0.92 is half as far as 0.91: four times the rows
    assert codes(decided({"accuracy": ">= 0.96"}, measured())) == ["accuracy.below_limit"]
    assert codes(decided({"rmse": "<= 1"}, measured("rmse", 3, 2, 4))) == ["accuracy.above_limit"]
    assert codes(decided({"fairness.equalized_odds_difference": "<= 0.05"}, measured("fairness.equalized_odds_difference", 0.05, 0.02, 0.09))) == [
        "fairness.underpowered"
    ]
    assert decided({"accuracy": ">= 0.90"}, measured()).reasons == []


def test_what_would_decide_is_said_in_what_the_interval_counts():
    def told(require, **of):
        row = decided(require, measured(**of)).rows[0]
        assert row.needed_n == 2001 and row.name + ": " == row.text[: len(row.name) + 2]
        return row.text

    assert told({"accuracy": ">= 0.92"}).endswith("on 500 rows spans the limit; about 2,001 rows would decide")
    assert "about 2,001 rows of that slice" in told({"accuracy@sex=f": ">= 0.92"}, slice="sex=f")
    found = told({"slice.worst_accuracy": ">= 0.92"}, metric="slice.worst_accuracy", details={"worst": "city=a\nb\x1b\u202e" + "c" * 200})
    assert "0.93 [0.91, 0.95] (worst: city=a b ccc" in found and "of that slice would decide" in found and "…)" in found and found.isprintable()
    assert "about 2,001 rows would" in told({"robustness.corruption_accuracy@corruption=noise": ">= 0.92"}, metric="robustness.corruption_accuracy",
                                            slice="corruption=noise")  # fmt: skip
    assert "about 2,001 train rows would" in told({"privacy.epsilon": ">= 0.92"}, metric="privacy.epsilon", split="train")
    clusters = measured()
    clusters.method = "Korn-Graubard, 30 clusters"
    assert "about 4 times as many clusters would decide, not more rows" in decided({"accuracy": ">= 0.92"}, clusters).reasons[0]["text"]
    violated = decided({"slice.worst_accuracy": ">= 0.96"}, measured("slice.worst_accuracy", details={"worst": "a=1"}))
    assert violated.reasons[0]["text"].endswith("(worst: a=1) violates it")


@pytest.mark.parametrize(
    ("op", "bound", "verdict"), [(">=", 0.91, "pass"), (">", 0.91, "inconclusive"), ("<=", 0.95, "pass"), ("<", 0.95, "inconclusive")]
)
def test_strict_and_not(op, bound, verdict):
    assert decided({"accuracy": f"{op} {bound}"}, measured()).verdict == verdict
    exact = measured("efficiency.size_mb", 4.0, 4.0, 4.0, level=1.0)
    assert decided({"efficiency.size_mb": f"{op} 4"}, exact).verdict == ("pass" if "=" in op else "fail")


@given(st.sampled_from([">=", "<=", ">", "<"]), st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_verdicts_follow_the_definition(op, bound, a, b):
    low, high = min(a, b), max(a, b)
    holds = {">=": lambda x: x >= bound, "<=": lambda x: x <= bound, ">": lambda x: x > bound, "<": lambda x: x < bound}[op]
    inside = [holds(low), holds(high)]
    expected = "pass" if all(inside) else "inconclusive" if any(inside) else "fail"
    assert decided({"mae": f"{op} {bound!r}"}, measured("mae", (low + high) / 2, low, high)).verdict == expected


def test_the_worst_limit_decides_and_every_reason_is_listed():
    require = {"accuracy": ">= 0.90", "auroc": ">= 0.99", "privacy.epsilon": "<= 3"}
    found = decided(require, measured(), measured("auroc", 0.9, 0.8, 0.95))
    assert found.verdict == "fail" and codes(found) == ["accuracy.below_limit", "gate.missing"]
    assert [r.verdict for r in found.rows] == ["pass", "fail", "fail"]


def test_a_limit_without_a_figure_says_what_was_lacking_or_what_failed():
    lacking = decided({"ood.auroc": ">= 0.9"}, measured())
    assert codes(lacking) == ["gate.missing"] and "--data ood=FILE" in lacking.reasons[0]["text"]
    late = measured("membership.error", None, None, None, split="test")
    late.audit, late.reasons, late.details = "membership", ["audit.budget"], {"error": "the time allowed was spent before it\n  fix: more"}
    found = decided({"privacy.membership_auc": "<= 0.6", "ood.auroc": ">= 0.9"}, late)
    assert codes(found) == ["gate.missing", "audit.budget", "gate.missing"] and found.verdict == "fail"
    assert found.reasons[0]["text"] == "privacy.membership_auc <= 0.6: it was not measured: the time allowed was spent before it"
    assert set(NEEDS) == {area for area in NAMES if area}


def test_no_limits_no_decision():
    assert decided({}, measured()) is None


def test_missing_and_wrong_split_fail():
    assert codes(decided({"auroc": ">= 0.5"}, measured())) == ["gate.missing"]
    on_validation = decided({"accuracy": ">= 0.5"}, measured(split="validation"))
    assert on_validation.verdict == "fail" and "validation" in on_validation.reasons[0]["text"]
    assert codes(decided({"accuracy@sex=f": ">= 0.5"}, measured(), measured(slice="sex=m"))) == ["gate.missing"]
    assert decided({"privacy.epsilon": "<= 3"}, measured("privacy.epsilon", 2.9, 2.9, 2.9, 1.0, split="train")).verdict == "pass"


@pytest.mark.parametrize("value", [None, math.nan])
def test_not_a_number_fails(value):
    found = decided({"auroc": ">= 0.5"}, measured("auroc", value, None, None, reasons=["data.one_class"]))
    assert found.verdict == "fail" and codes(found) == ["accuracy.not_a_number", "data.one_class"]


def test_without_an_end_nothing_is_proved_on_its_side():
    assert codes(decided({"auroc": ">= 0.5"}, measured("auroc", 0.9, None, None))) == ["accuracy.no_interval"]
    assert decided({"auroc": ">= 0.5"}, measured("auroc", 0.9, math.nan, math.nan)).verdict == "inconclusive"
    assert decided({"rmse": "<= 5"}, measured("rmse", 0.0, 0.0, math.inf)).verdict == "inconclusive"
    assert decided({"rmse": ">= 1"}, measured("rmse", 2.0, 1.5, math.inf)).verdict == "pass"
    assert codes(decided({"rmse": ">= 1"}, measured("rmse", 2.0, 3.0, 1.0))) == ["gate.interval"]


def test_level_is_corrected_for_the_models_that_the_same_rows_judged():
    limit = parse({"accuracy": ">= 0.5"})
    errors = [1 - level_for(limit, k) for k in range(1, 10_000)]
    assert errors[:4] == pytest.approx([0.05, 0.025, 0.05 / 6, 0.05 / 12])
    assert sum(errors[1:]) == pytest.approx(0.05, rel=1e-3)  # all later ones together, as much as the first
    for models, level, verdict in ((1, 0.95, "pass"), (2, 0.95, "inconclusive"), (2, 0.975, "pass"), (True, 0.95, "inconclusive"), ("1", 0.95, "inconclusive")):
        assert decided({"accuracy": ">= 0.5"}, measured(level=level, details={"test_models": models})).verdict == verdict, models


def test_level_is_corrected_for_the_number_of_limits():
    four = {"accuracy": ">= 0.5", "auroc": ">= 0.5", "f1": ">= 0.5", "nll": "<= 9"}
    assert level_for(parse(four)) == pytest.approx(0.9875) and level_for(parse({})) == 0.95
    found = decided(four, *(measured(m, level=0.95) for m in four))
    assert found.verdict == "inconclusive" and codes(found) == ["gate.level"] * 4
    assert decided(four, *(measured(m, level=level_for(parse(four))) for m in four)).verdict == "pass"
    assert codes(decided({"accuracy": ">= 0.99"}, measured(level=0.9))) == ["gate.level"]  # a failure has to be proved, too
    assert codes(decided({"accuracy": ">= 0.5"}, measured(level=math.nan))) == ["gate.level"]


@pytest.mark.parametrize("other", [{"model": "sha256:0"}, {"data": "sha256:0"}, {"code": "sha256:0"}, {"model": None}])
def test_evidence_of_other_bytes_fails(other):
    own = measured().digests
    found = decided({"accuracy": ">= 0.5"}, measured(digests=own | other))
    assert found.verdict == "fail" and codes(found) == ["gate.digest"]
    without = measured(digests={k: v for k, v in own.items() if k != "model"})
    assert codes(decided({"accuracy": ">= 0.5"}, without)) == ["gate.digest"]


def test_targets():
    diagnosis, severity = measured(target="diagnosis"), measured(target="severity", value=0.6, low=0.5, high=0.7)
    assert decided({"diagnosis:accuracy": ">= 0.9"}, diagnosis, severity).verdict == "pass"
    both = decided({"accuracy": ">= 0.9"}, diagnosis, severity)  # without a target: all of them
    assert both.verdict == "fail" and len(both.rows) == 2 and both.reasons[0]["text"].startswith("severity:accuracy >= 0.9")
    assert codes(decided({"other:accuracy": ">= 0.9"}, diagnosis)) == ["gate.missing"]


def test_a_second_nicer_figure_does_not_help():
    assert decided({"accuracy": ">= 0.9"}, measured(value=0.8, low=0.7, high=0.85), measured()).verdict == "fail"


def test_slices_have_one_spelling():
    assert normal_slice(" sex = f &  age>60") == normal_slice("age > 60 & sex=f") == "age>60 & sex=f"
    assert normal_slice("firm=R&D") == "firm=R&D" and normal_slice("formula=a = b") == "formula=a = b"
    found = decided({"accuracy@sex=f & age>60": ">= 0.9"}, measured(slice="age>60 & sex=f"))
    assert found.verdict == "pass"
    assert codes(decided({"accuracy@sex=f": ">= 0.99"}, measured(slice="sex=f"))) == ["slice.below_limit"]


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("accuracy", (None, "accuracy", None)),
        ("privacy.membership_tpr_at_fpr_0.01", (None, "privacy.membership_tpr_at_fpr_0.01", None)),
        ("severity:mae@sex=f", ("severity", "mae", "sex=f")),
        ("accuracy@time=12:30", (None, "accuracy", "time=12:30")),
        ("accuracy@城市=北京", (None, "accuracy", "城市=北京")),
        ("诊断:accuracy", ("诊断", "accuracy", None)),
        ("a:b:f1", ("a:b", "f1", None)),
        ("me@home:f1@x=1", ("me@home", "f1", "x=1")),
    ],
)
def test_names_are_read(key, parts):
    limit = parse({key: "<=0.5"}).limits[0]
    assert (limit.target, limit.metric, limit.slice) == parts and (limit.op, limit.bound, limit.text) == ("<=", 0.5, "<= 0.5")


def test_every_bad_limit_is_listed_with_a_suggestion():
    bad = {
        "acuracy": ">= 0.9",
        "accuracy": "at least 0.9",
        "fairness.equalised_odds_difference": "<= 0.05",
        "f1": 0.9,
        "!": "> 1",
        "y:auroc": "== 1",
        "r2": ">= nan",
    }
    with pytest.raises(Refusal) as e:
        parse(bad)
    problems = {p.where.removeprefix("audit.require."): p for p in e.value.problems}
    assert problems.keys() == bad.keys() and all(p.code == "task.limit" and p.fix for p in problems.values())
    assert "'accuracy'" in problems["acuracy"].fix and "'fairness.equalized_odds_difference'" in problems["fairness.equalised_odds_difference"].fix
    with pytest.raises(Refusal, match="two limits"):
        parse({"accuracy@a=1 & b=2": ">= 0.9", "accuracy@b=2 & a=1": ">= 0.8"})
    assert parse({"mine": ">= 1"}, known=METRICS | {"mine"}).limits[0].metric == "mine"


def test_the_policys_digest_is_of_its_meaning():
    one, two = parse({"accuracy": ">= 0.90", "f1": ">= 0.8"}), parse({"f1": " >=0.80", "accuracy": ">= .9"})
    assert one.digest == two.digest and one.digest.startswith("sha256:") and len(one.digest) == 71
    assert one.digest != parse({"accuracy": ">= 0.91", "f1": ">= 0.8"}).digest != parse({"accuracy": "> 0.90", "f1": ">= 0.8"}).digest


def test_a_model_below_a_limit_seldom_passes():
    """Three limits, each violated by a hair: any of the three claims is let through in at most 5 % of audits."""
    policy, rng, passed, inconclusive = parse({"accuracy": ">= 0.9", "f1": ">= 0.9", "auroc": ">= 0.9"}), np.random.default_rng(0), 0, 0
    for _ in range(1500):
        rows = []
        for metric in ("accuracy", "f1", "auroc"):
            i = interval(Metric.mean(rng.random(300) < 0.899), 300, level=level_for(policy))
            rows.append(measured(metric, i.value, i.low, i.high, level_for(policy), 300))
        verdicts = [r.verdict for r in decide(policy, rows, digests=BYTES).rows]
        passed += "pass" in verdicts
        inconclusive += "inconclusive" in verdicts
    assert passed / 1500 <= 0.05 and inconclusive / 1500 > 0.9


def test_every_code_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text()
    gate = ["gate.missing", "gate.digest", "gate.level", "gate.interval", "task.limit"]
    area = ["below_limit", "above_limit", "underpowered", "no_interval", "not_a_number"]
    for code in [*gate, *(f"<area>.{a}" for a in area)]:
        assert f"`{code}`" in text, code
