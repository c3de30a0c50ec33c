"""What the figures say in sentences: each rule against a figure that it is about, and one that it is not."""

import re

import pytest

from modelwright.auditing.telling import undecided
from modelwright.forms import Measurement
from modelwright.registry.gate import decide, parse
from modelwright.report import Story, card, decided, falls_short, next_steps, page

EVIL = "<script>alert(1)</script>"


def line(metric, value=0.5, low=0.4, high=0.6, limit=None, verdict=None, slice=None, n=100, **details):
    named = {"metric": metric, "target": "y", "split": "test", "slice": slice, "limit": limit, "verdict": verdict}
    return {**named, "value": value, "low": low, "high": high, "level": 0.95, "n": n, "method": "by hand", "reason_codes": [], "details": details}


def story(*lines, verdict=None, **given):
    decision = {"verdict": verdict, "reasons": []} if verdict else None
    return Story("t", primary="accuracy", evidence={"decision": decision, "evidence": [line("accuracy", n=1560), *lines]}, **given)


def steps(*lines, **given):
    return " ".join(next_steps(story(*lines, **given)))


def measured(metric, n, method="by hand", split="test", slice=None, value=0.93):
    return Measurement("made", metric, "y", split, slice, value, 0.91, 0.95, 0.999, n, method, 0, 0.0, digests={"model": "m"})


def opened(require, *measurements):
    return undecided(decide(parse(require), measurements, digests={"model": "m"}))


def test_limits_that_were_loosened_leave_no_chance_of_error():
    held = line("auroc", limit=">= 0.3", verdict="pass")
    assert "at most once in twenty" in decided(story(held, verdict="pass"))
    late = story(held, verdict="pass", loosened=["limits were edited"])
    assert "at most once in twenty" not in page.render(late) + card.render(late)
    for shown in (decided(late), page.render(late), card.render(late)):
        assert "limits were loosened after the test was opened" in shown


def test_rows_that_would_decide_a_slice_are_told_of_the_whole_test():
    of_slice = opened({"accuracy@sex=f": ">= 0.92"}, measured("accuracy", 50, slice="sex=f"))
    assert of_slice == [{"limit": "y:accuracy@sex=f >= 0.92", "of": "rows", "times": 201 / 50}]
    said = steps(undecided=of_slice)  # 50 of 1,560 are of it: 201 of it are among 6,271.2
    assert "Test on about 6,272 rows in place of 1,560: that many would decide `y:accuracy@sex=f >= 0.92`" in said
    assert "Test on about" not in steps() and "so near" not in steps()


def test_clusters_decide_and_not_rows_where_intervals_count_them():
    said = steps(undecided=opened({"accuracy": ">= 0.92"}, measured("accuracy", 500, "Korn-Graubard, 30 clusters")))
    assert "about 4 times as many clusters" in said and "not more rows of the same ones, would decide `y:accuracy >= 0.92`" in said
    assert "in place of 1,560" not in said


def test_more_test_rows_are_not_advised_where_the_figure_is_not_of_them():
    train, sample = measured("privacy.membership_auc", 500, split="train"), measured("robustness.linf_accuracy", 256)
    assert [u["of"] for u in opened({"privacy.membership_auc": "<= 0.94", "robustness.linf_accuracy": ">= 0.92"}, train, sample)] == [None, None]
    assert "Test on" not in steps(undecided=opened({"robustness.linf_accuracy": ">= 0.92"}, sample))


def test_limits_that_no_rows_decide_are_named():
    near = opened({"accuracy": ">= 0.9299", "auroc": ">= 0.93", "f1": ">= 0.92"}, *(measured(m, 1560) for m in ("accuracy", "auroc", "f1")))
    said = steps(undecided=near)
    assert "`y:accuracy >= 0.9299`, `y:auroc >= 0.93` lie so near" in said and "would decide `y:f1 >= 0.92`" in said


def test_corrupted_inputs_are_repaired_by_corrupted_rows_and_attacks_by_attacked_ones():
    whole = line("robustness.corruption_accuracy", limit=">= 0.8", verdict="fail")
    each = [line("robustness.corruption_accuracy", value=v, slice=f"corruption={n}") for n, v in (("noise", 0.7), ("typos", 0.3), ("blur", 0.9), (EVIL, 0.5))]
    for elsewhere in (False, True):
        said = steps(whole, *each, elsewhere=elsewhere)
        assert "corrupted in the same ways" in said and "typos 0.3000, " in said and "blur" not in said.split("cost most: ")[1] and "adversarial" not in said
        attacked = steps(line("robustness.linf_accuracy", limit=">= 0.8", verdict="fail"), elsewhere=elsewhere)
        assert "adversarial" in attacked and "corrupted" not in attacked
    assert "<script" not in page.render(story(whole, *each))


def test_the_favourable_answer_is_named_beside_figures_of_fairness():
    told = story(line("fairness.demographic_parity_difference", positive=f"good {EVIL}"), line("auroc", positive="no figure of fairness"))
    for shown in (page.render(told), card.render(told)):
        assert len(re.findall("favourable: good", shown)) == 1 and "<script" not in shown
    assert "favourable" not in card.render(story())


def test_slices_that_a_search_found_are_shown_the_worst_first():
    def found(*values):
        return {s: {"value": v, "low": v - 0.05, "high": v + 0.05, "n": n} for s, v, n in zip((f"city={EVIL}", "age<=30"), values, (64, 31), strict=True)}

    told = story(line("slice.worst_accuracy", slices=found(0.8, 0.61)), line("slice.worse_than_overall", slices=found(0.1, 0.29)))
    text = page.render(told)
    section = text.split('<section id="slices">')[1].split("</section>")[0]
    assert section.index("age&lt;=30") < section.index("city=&lt;script") and "<script" not in text and 'href="#slices"' in text
    for shown in ("0.6100", "[0.5600, 0.6600]", "0.2900", "[0.2400, 0.3400]", "31", "64"):
        assert shown in section
    assert "calibration" not in section and '<section id="slices">' not in page.render(story(line("calibration.worst_slice_error", slices={"a": [0, 0, 1]})))


@pytest.mark.parametrize(
    "metric, details, shown",
    [
        ("leakage", {"columns": [{"column": "reminders", "alone": 0.99, "evidence": "AUROC 0.999 from this column alone"}]}, "reminders: AUROC 0.999 from"),
        ("leakage", {"columns": [{"column": "a", "alone": 0.9}, {"column": "b"}]}, "(a, b)"),
        ("shortcut", {"statistics": [{"statistic": "mean of scan", "evidence": "AUROC 0.98 from it alone"}]}, "(mean of scan: AUROC 0.98 from it alone)"),
        ("row_order", {"how": "rows of one class stand together"}, "(rows of one class stand together)"),
    ],
)
def test_findings_name_what_they_found(metric, details, shown):
    found = [s for s in falls_short(story(line(f"data.{metric}", 1, 1, 1, **details) | {"reason_codes": [f"data.{metric}"]})) if s.startswith("Found")]
    assert len(found) == 1 and shown in found[0] and "{" not in found[0]


def test_thresholds_for_groups_are_told_while_a_limit_on_fairness_is_open():
    repair = {"thresholds": {"sex=f": [[0.31, 1.0]], "sex=m": [[0.62, 1.0]]}, "split": "calibration", "rows": 1200}

    def said(verdict):
        return steps(line("fairness.equalized_odds_difference", limit="<= 0.1", verdict=verdict, positive="yes", repair=repair), elsewhere=True)

    assert "Repair fairness after training: decide yes above" in said("fail")
    assert "Repair fairness, which these rows leave open, after training: decide yes above" in said("inconclusive")
    assert "Repair fairness" not in said("pass") and "Repair the model itself" not in said("inconclusive")
