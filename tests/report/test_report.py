"""The report and the card: whole, escaped, offline, and unbroken by hostile or missing content."""

import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from PIL import Image

from modelwright.report import Story, TargetPlots, card, decided, falls_short, next_steps, page, plots, text, write

EVIL = '<script>alert("x")</script> & $\\frac{ | `</td>` \x00\ud800\u202e'


class Page(HTMLParser):
    """Collects tags, ids and text, and checks that what is opened is closed."""

    VOID = {"meta", "img", "br", "path", "use", "!doctype"}

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.ids, self.open, self.text, self.attributes = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, k, v) for k, v in attrs]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def offline(html: str) -> Page:
    """No script, no handler, nothing loaded from anywhere."""
    found = Page(html)
    assert not {"script", "iframe", "link", "object", "embed", "base", "form"} & set(found.tags)
    for tag, key, value in found.attributes:
        assert not key.startswith("on"), (tag, key)
        if key in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, key, value)
    assert "http://" not in html and "https://" not in html and "@import" not in html
    assert len(found.ids) == len(set(found.ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', html)) <= set(found.ids)
    return found


def line(metric, value, low, high, limit=None, verdict=None, target="诊断", slice=None, n=114):
    return {
        **{"audit": "metrics", "metric": metric, "target": target, "split": "test", "slice": slice, "value": value, "low": low, "high": high},
        **{
            "level": 0.95,
            "n": n,
            "limit": limit,
            "verdict": verdict,
            "reason_codes": [],
            "method": "Wilson",
            "seed": 0,
            "seconds": 0.1,
            "details": {},
        },
    }


def png(width=40, height=30) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def story(**changes) -> Story:
    x = np.linspace(0, 1, 30)
    whole = Story(
        title="乳腺癌诊断",
        primary="auroc",
        target="诊断",
        task={"data": {"source": "patients.csv"}, "target": "诊断"},
        plan={
            "rows": {"train": 364, "validation": 91, "test": 114},
            "columns": [
                {"name": "平均半径", "kind": "number", "describe": "mean 14.1", "role": "input"},
                {"name": "诊断", "kind": "category", "role": "target"},
            ],
            "components": {"encoder": "mlp", "head": "binary"},
            "trainable": 12345,
            "warnings": ["two columns agree"],
        },
        stages=[
            {
                **{"name": "微调", "objective": "supervised", "seconds": 5.1, "steps": 40},
                "history": [{"step": s, "loss": 1 / s, "auroc": 1 - 1 / s} for s in range(1, 9)],
                "train": [{"step": s, "loss": 1 / (s + 1), "lr": 0.001} for s in range(40)],
            }
        ],
        evidence={
            **{
                "schema": 1,
                "model": "sha256:" + "ab" * 32,
                "data": {"test": "sha256:" + "cd" * 32},
                "code": "1.0",
                "policy": None,
                "test_openings": 1,
            },
            "decision": {"verdict": "pass", "reasons": []},
            "evidence": [line("auroc", 0.99, 0.97, 1.0, ">= 0.95", "pass"), line("nll", 0.1, 0.05, 0.2)],
        },
        baselines={"majority": {"auroc": {"value": 0.5, "low": 0.5, "high": 0.5}}, "linear": {"auroc": {"value": 0.98, "low": 0.96, "high": 0.99}}},
        plots={
            "诊断": TargetPlots(
                "category", ["恶性", "良性"], "test", (x, x**2, x * 10), (x, x, x * 10), (x, x**0.2),
                {"car": (x, 1 - x**4 / 2), "车": (x, 1 - x)}, [[40, 2], [3, 69]],
            )  # fmt: skip
        },
        slices=[{"slice": "部位=左", "metric": "auroc", "value": 0.9, "low": 0.8, "high": 0.95, "n": 41}],
        worst=[{"scan": png(), "age": 61, "truth": "恶性", "predicted": "良性", "loss": 3.2}],
        cost=[{"stage": "微调", "seconds": 5.1, "memory_mb": 512.0}],
        lineage=["No privacy claim is made."],
    )
    return replace(whole, **changes)


def test_whole_story_has_every_section_and_every_plot():
    html = page.render(story())
    found = offline(html)
    sections = {"decision", "evidence", "learning", "predictions", "slices", "worst", "data", "plan", "cost", "provenance"}
    assert sections <= set(found.ids)
    assert found.tags.count("svg") == 1 + 2 + 4 + 1  # baselines, loss and auroc, calibration to confusion, slices
    said = " ".join(found.text)
    for shown in ("乳腺癌诊断", "0.9900", "[0.9700, 1.0000]", "恶性", "平均半径", "sha256:" + "ab" * 32, "No privacy claim", "12,345", "Wilson"):
        assert shown in said, shown
    assert "could not be drawn" not in said
    assert "data:image/png;base64," in html


@pytest.mark.parametrize(
    "name", ["plan", "stages", "evidence", "baselines", "plots", "slices", "worst", "cost", "lineage", "task", "primary", "target"]
)
def test_any_section_may_be_missing(name):
    told = story(**{"plots": {}, "slices": story().slices if name == "evidence" else [], name: getattr(Story("x"), name)})
    offline(page.render(told))
    assert yaml.safe_load(card.render(told).split("---\n")[1])["library_name"] == "modelwright"


def test_title_alone():
    found = offline(page.render(Story("x")))
    assert "No verdict" in " ".join(found.text)
    assert "Nothing was measured." in card.render(Story("x"))


def _hostile(x):
    """Every text of a story, keys included, made hostile."""
    if isinstance(x, str):
        return EVIL
    if isinstance(x, dict):
        return {(k if isinstance(k, str) and k in KEYS else f"{EVIL}{k}"): _hostile(v) if k not in KEPT else v for k, v in x.items()}
    return [_hostile(v) for v in x] if isinstance(x, list) else x


KEPT = {"verdict", "metric", "split", "target", "role"}
KEYS = {
    "rows",
    "columns",
    "warnings",
    "name",
    "kind",
    "describe",
    "role",
    "objective",
    "seconds",
    "steps",
    "history",
    "train",
    "step",
    "loss",
    "schema",
    "data",
}
KEYS |= {
    "model",
    "code",
    "policy",
    "test_openings",
    "decision",
    "verdict",
    "reasons",
    "evidence",
    "truth",
    "predicted",
    "slice",
    "metric",
    "value",
    "low",
}
KEYS |= {"high", "n", "level", "limit", "target", "split", "method", "reason_codes", "stage", "memory_mb", "auroc"}


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    told = story()
    hurt = {k: _hostile(getattr(told, k)) for k in ("task", "plan", "stages", "evidence", "baselines", "slices", "worst", "cost", "lineage")}
    drawn = {EVIL: replace(told.plots["诊断"], kind=EVIL, split=EVIL, labels=[EVIL, EVIL + "2"], pr=dict.fromkeys([EVIL, EVIL + "2"], ([0, 1], [1, 0])))}
    told = replace(told, title=EVIL, plots=drawn, ahead=next(iter(hurt["baselines"])), **hurt)
    told.evidence["decision"] = {"verdict": "fail", "reasons": [{"code": EVIL, "text": EVIL}]}
    write(tmp_path, told)
    html = (tmp_path / "report.html").read_text("utf-8")
    found = offline(html)
    assert "could not be drawn" not in html
    assert html.count("&lt;script&gt;") > 15 and "<script>alert" in "".join(found.text)
    assert "\x00" not in html and "\u202e" not in html
    markdown = (tmp_path / "card.md").read_text("utf-8")
    assert "<script" not in markdown.split("---\n", 2)[2]
    assert yaml.safe_load(markdown.split("---\n")[1])["model-index"][0]["name"].startswith("<script>")


def test_none_nan_and_infinity_everywhere():
    nan = float("nan")
    told = story(
        slices=[{"slice": "a=1", "metric": "auroc", "value": nan, "low": None, "high": nan, "n": None}, {"slice": "a=2"}],
        worst=[{"truth": None, "predicted": nan, "loss": math.inf, "scan": b"not a picture", "other": None}, {}],
        cost=[{"stage": None, "seconds": nan, "memory_mb": nan}, {}],
        stages=[{"name": "s", "history": [{"step": 1, "loss": nan}, {"step": 2, "loss": None}], "train": [{"step": 1, "loss": math.inf}]}, {}],
        baselines={"majority": {"auroc": {"value": None, "low": nan, "high": None}}, "none": {}, "odd": {"mae": {}}},
        plots={"t": TargetPlots("number", residual=([nan, 1.0], [1.0, nan]), roc=([], []), confusion=[[0, 0], [0, 0]], before=([nan], [nan], [0]))},
    )
    told.evidence["evidence"][0] |= {"value": None, "low": None, "high": nan, "level": None, "n": 0, "verdict": "fail"}
    found = offline(page.render(told))
    said = " ".join(found.text)
    assert not re.search(r"\b(nan|NaN|None)\b", said) and "13 bytes" in said
    card.render(told)


def test_a_drawing_that_fails_costs_only_itself():
    told = story(plots={"t": TargetPlots(roc="nonsense", confusion=[[1, 2], [3]], pr={"": ([0, 1], [1, 0.5])})})
    found = offline(page.render(told))
    said = " ".join(found.text)
    assert said.count("could not be drawn") == 2 and "Precision and recall" in said


def test_a_thousand_classes_and_ten_thousand_rows():
    k = 1000
    counts = np.eye(k) * 5
    counts[3, 7], counts[8, 1] = 15, 4
    labels = [f"类 {i}" for i in range(k)]
    told = story(
        plots={"t": TargetPlots("category", labels, confusion=counts)},
        slices=[{"slice": f"c={i}", "metric": "auroc", "value": 0.5 + i / 1e5, "low": 0.4, "high": 0.6, "n": i} for i in range(10_000)],
        plan={"columns": [{"name": f"c{i}", "kind": "number", "role": "input"} for i in range(10_000)], "warnings": ["w" * 10_000] * 500},
    )
    told.evidence["evidence"] += [line("auroc", 0.5, 0.4, 0.6, slice=f"c={i}") for i in range(10_000)]
    html = page.render(told)
    said = " ".join(offline(html).text)
    assert len(html) < 1_500_000
    assert "类 3" in said and "75.0 %" in said and "9,800 more rows" in said
    pairs = page.confused(counts, labels)
    assert [(p["truth"], p["predicted"], p["n"]) for p in pairs] == [("类 3", "类 7", 15), ("类 8", "类 1", 4)]
    assert math.isclose(pairs[0]["share"], 15 / 20)


def test_card_metadata_is_what_a_hub_reads():
    block = yaml.safe_load(card.render(story()).split("---\n")[1])
    assert block["pipeline_tag"] == "tabular-classification"
    [entry] = block["model-index"]
    [result] = entry["results"]
    assert result["task"]["type"] == "tabular-classification" and result["dataset"]["name"] == "patients.csv"
    assert result["metrics"][0] == {"type": "auroc", "value": 0.99, "name": "诊断: auroc"}
    body = card.render(story()).split("---\n", 2)[2]
    assert "| 诊断: auroc | test | all | 0.9900 | [0.9700, 1.0000] | 114 |" in body


def test_markdown_escapes():
    assert card.md("a|b*c_[x](http://e.org)<b>") == r"a\|b\*c\_\[x\]\(http:&#47;&#47;e.org\)&lt;b\>"
    assert card.md("line\nbreak") == "line break"


def test_decided_says_what_and_how_many():
    def told(*verdicts):
        worst = next((v for v in ("fail", "inconclusive", "pass") if v in verdicts), None)
        lines = [line("auroc", 0.9, 0.8, 1.0, ">= 0.5", v) for v in verdicts]
        return story(evidence={"decision": {"verdict": worst, "reasons": []} if worst else None, "evidence": lines})

    assert decided(told("pass", "pass")).startswith("All 2 declared limits hold")
    assert decided(told("fail", "inconclusive", "pass")).startswith("1 of 3 declared limits is violated")
    assert decided(told("inconclusive", "pass")).startswith("1 of 2 declared limits cannot be decided")
    assert decided(told()).startswith("No limit was declared")


def test_shortcomings_and_steps_come_from_the_figures():
    reason = {"code": "accuracy.underpowered", "text": "auroc >= 0.95: 0.96 [0.93, 0.98] on 114 rows spans the limit; about 1,214 rows would decide"}
    told = story(ahead="linear")
    told.evidence["decision"] = {"verdict": "inconclusive", "reasons": [reason]}
    told.undecided = [{"limit": "auroc >= 0.95", "of": "rows", "times": 1214 / 114}]
    short, steps = falls_short(told), next_steps(told)
    assert short[0] == reason["text"] and "linear is ahead" in short[1] and "部位=左" in short[2] and short[-1] == "two columns agree"
    assert "about 1,214 rows" in steps[0] and "linear baseline" in steps[1]
    assert any("longer" in s for s in steps)  # 1/8 after 1/7: still falling
    fell = [{"name": "f", "history": [{"loss": v} for v in (1, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8)]}]
    assert any("rose again after 3 of 7" in s for s in next_steps(story(stages=fell)))
    fine = story(slices=[{"slice": "a=1", "metric": "auroc", "value": 0.97, "low": 0.9, "high": 1.0, "n": 9}])  # its interval holds the whole's value
    assert not any("a=1" in s for s in falls_short(fine))


def test_a_baseline_that_chance_may_have_put_ahead_is_said_to_be():
    told = story(ahead="linear")
    told.evidence["evidence"].append(line("accuracy.gain_over_baseline", -0.01, -0.05, 0.03))
    assert any("by no more than chance may bring" in s for s in falls_short(told)) and "ahead of the model, perhaps by chance" in page.render(told)
    told.evidence["evidence"][-1]["high"] = -0.001
    assert not any("chance" in s for s in falls_short(told)) and "perhaps by chance" not in page.render(told) + card.render(told)


def test_what_was_not_measured_says_why_once():
    told = story()
    told.evidence["evidence"] += [{**line(f"{a}.error", None, None, None), "audit": a, "details": {"error": "expected 22 columns"}} for a in ("ood", "slices")]
    assert "Not measured (ood, slices): expected 22 columns" in falls_short(told)


def test_findings_in_the_data_are_told_with_their_columns_and_without_a_limit():
    told = story()
    columns = {"columns": {"血压": {"0": 0.1}, "bmi": {}}}
    codes = {**line("data.coded_missing", 2, 2, 2, target=None), "reason_codes": ["data.coded_missing"], "details": columns}
    rate = {**line("data.label_error_rate", 0.07, 0.02, 0.14, "<= 0.1", "fail"), "reason_codes": ["data.label_error_rate"]}
    budget = {**line("data.shortcut", None, None, None), "reason_codes": ["data.budget"]}
    perhaps = {**line("data.group_label_error_rate", 0.3, 0.0, 0.52), "reason_codes": ["data.group_label_error_rate"], "details": {"group": "site=b"}}
    told.evidence["evidence"] += [codes, rate, budget, perhaps]
    short = falls_short(told)
    assert any(s.startswith("Not excluded: data.group_label_error_rate") and "0.3000 [0, 0.5200] (site=b)" in s for s in short)
    assert "Found: data.coded_missing, columns where a value such as -999, 0 or N/A seems to stand for a gap: 2 (血压, bmi), no limit is on it." in short
    assert "Found: data.label_error_rate, share of training rows whose label is probably wrong: 0.0700 [0.0200, 0.1400]." in short
    assert not any("shortcut" in s for s in short)


def test_steps_say_how_to_repair_what_a_limit_refused():
    told = story(elsewhere=True, ahead="linear")
    told.evidence["evidence"] += [
        line("fairness.equalized_odds_difference", 0.5, 0.4, 0.6, "<= 0.1", "fail"),
        {**line("data.time_overlap", None, None, None, "<= 0", "fail"), "reason_codes": ["gate.missing"]},
        line("auroc", 0.2, 0.1, 0.3, target="other"),
    ]
    told.undecided = [{"limit": f"{m} >= 0.75", "of": "rows", "times": n / 114} for m, n in (("a", 613), ("b", 235067))]
    steps = " ".join(next_steps(told))
    assert "about 613 rows" in steps and "235,067" not in steps and "`b >= 0.75` lies so near" in steps and "more rows will not" in steps
    assert "group_thresholds" in steps and "without a figure" in steps and "wrong way round" in steps
    assert "Mend the data" not in steps and "worth its cost" in steps and "pre-train" not in steps


def test_no_repair_is_advised_of_what_could_not_be_measured():
    told = story(elsewhere=True)
    closed = {**line("robustness.linf_accuracy", None, None, None, ">= 0.5", "fail"), "reason_codes": ["robustness.not_a_number", "robustness.no_gradients"]}
    told.evidence["evidence"].append(closed)
    assert "without a figure" in " ".join(next_steps(told)) and "Repair robustness" not in " ".join(next_steps(told))
    refuted = {**line("privacy.epsilon", None, None, None, "<= 3", "fail"), "reason_codes": ["privacy.not_a_number", "privacy.noise"]}
    told.evidence["evidence"].append(refuted)
    assert "Repair privacy" in " ".join(next_steps(told))


def test_a_model_from_elsewhere_is_told_the_temperature_that_it_lacks():
    def steps(**repair):
        told = story(elsewhere=True)
        bad = line("calibration.ece", 0.2, 0.15, 0.25, "<= 0.1", "fail")
        told.evidence["evidence"].append({**bad, "details": {"repair": repair} if repair else {}})
        return " ".join(next_steps(told))

    found = {"temperature": 2.0, "rows": 400, "split": "calibration", "nll_before": 0.9, "nll_after": 0.5, "ece_before": 0.21, "ece_after": 0.03}
    assert "divide its logits by 2" in steps(**found) and "power of 0.5" in steps(**found)
    assert "400 calibration rows 0.2100 before and 0.0300 after" in steps(**found)
    assert "no temperature helps" in steps(**found | {"nll_after": 0.8999}) and "--data calibration=FILE" in steps()


def test_a_model_from_elsewhere_is_told_thresholds_that_make_its_groups_even():
    told = story(elsewhere=True)
    bad = line("fairness.demographic_parity_difference", 0.3, 0.25, 0.35, "<= 0.1", "fail")
    found = {"thresholds": {"sex=f": [[0.31, 1.0]], "sex=<m>": [[0.62, 1.0]]}, "split": "calibration", "rows": 1200}
    told.evidence["evidence"].append({**bad, "details": {"positive": "yes", "repair": found}})
    steps = " ".join(next_steps(told))
    assert "decide yes above a threshold of each group's own, as found on 1,200 calibration rows (sex=f: 0.3100; sex=<m>: 0.6200)" in steps
    assert '{"probabilities": p, "decisions": labels}' in steps and "mod 1" not in steps
    assert "<m>" not in page.render(told)
    found["thresholds"]["sex=f"] = [[-1.0, 0.25], [0.4, 0.75]]
    steps = " ".join(next_steps(told))
    assert "sex=f: always for 0.2500 of the rows and 0.4000 for 0.7500" in steps and "mod 1: yes where the weights" in steps


def test_an_audit_names_its_model():
    assert "Modelwright audit of mine.py:factory" in page.render(story(plan={"model": "mine.py:factory"}))


def test_weakest_slice_where_lower_is_better():
    told = story(
        primary="mae",
        slices=[{"slice": s, "metric": "mae", "value": v, "low": v - 0.1, "high": v + 0.1, "n": 9} for s, v in (("a", 1.0), ("b", 2.0), ("c", 3.0))],
    )
    told.evidence["evidence"].append(line("mae", 1.5, 1.4, 1.6))
    assert any(s.startswith("Slice c") for s in falls_short(told))


def test_write_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    (tmp_path / "report.html").write_text("old")
    write(tmp_path, story())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.md", "report.html"]
    first = (tmp_path / "report.html").read_bytes()
    write(tmp_path, story())
    assert (tmp_path / "report.html").read_bytes() == first  # the same story, the same bytes


def test_axis_leaves_out_what_would_squeeze_the_rest():
    rows = [("model", 0.99, 0.98, 1.0, True), ("linear", 0.985, 0.97, 0.99, False), ("majority", 0.5, 0.5, 0.5, False)]
    assert plots._reach(rows) == (0.97, 1.0)
    assert plots._reach(rows[:2]) == (0.97, 1.0)
    assert plots._reach([("a", 1.0, None, None, False)]) == (0.95, 1.05)


def test_huge_and_broken_pictures(monkeypatch):
    assert "data:image/png" in page.picture(png(500, 10))
    monkeypatch.setattr(page, "PIXELS", 1_000_000)
    assert page.picture(png(2000, 1000)) == "a picture of 2,000 x 1,000 pixels"
    assert page.picture(png()[:40]) == "40 bytes"
    assert page.picture("text") is None


@pytest.mark.parametrize(
    ("x", "shown"),
    [
        (0.98765, "0.9877"),
        (1140, "1,140"),
        (None, "–"),
        (float("nan"), "–"),
        (math.inf, "∞"),
        (1.2e-5, "1.20e-05"),
        (0, "0"),
        (0.0, "0"),
        (143.0, "143"),
        (True, "True"),
    ]
    + [(np.float32(0.5), "0.5000"), (np.int64(7), "7"), (475.25, "475.2"), ("x\ny", "x y")],
)
def test_numbers(x, shown):
    assert text.number(x) == shown


def test_better():
    assert all(map(text.lower_is_better, ("nll", "rmse", "calibration.ece", "fairness.equalized_odds_difference", "data.duplicate_rate")))
    assert not any(map(text.lower_is_better, ("accuracy", "auroc", "success_rate", "episode_return")))


def test_robust_accuracy_is_told_as_an_interval():
    details = {"epsilon": 0.1, "robust_accuracy": {"certified": 0.61, "attacked": 0.75}}
    line = {"metric": "robustness.certified_accuracy", "target": "digit", "value": 0.61, "details": details}
    story = Story("t", evidence={"evidence": [line, {"metric": "robustness.certified_accuracy", "details": {"why": "no rule"}}]})
    told = "Robust accuracy of digit under inputs moved by at most 0.1000 each: between 0.6100 (certified) and 0.7500 (attacked)."
    assert told in page.render(story) and card.render(story).replace("\\", "").count(told) == 1


def test_every_metric_is_explained():
    from modelwright.registry.gate import METRICS
    from modelwright.report.words import CAPTIONS, MEANING

    assert METRICS - MEANING.keys() == set()
    html = page.render(story())
    assert MEANING["auroc"] in html and CAPTIONS["ROC"] in html and html.count("<figcaption>") == 5  # baselines, and four of the target


def test_a_limit_that_was_not_measured_is_not_called_violated():
    lost = story(evidence={"decision": {"verdict": "fail", "reasons": []}, "evidence": [line("auroc", None, None, None, ">= 0.9", "fail")]})
    assert decided(lost) == "The one declared limit could not be measured. The gate refuses this model."
    assert "not measured" in page.render(lost)


@pytest.mark.parametrize(
    "metric, low, high, shown",
    [("accuracy", 0.6889, 0.8, ">= 0.68"), ("accuracy", 0.68, 0.8, ">= 0.68"), ("rmse", 20567.1, 25657.4, "<= 26000"), ("mae", 0.01, 0.0203, "<= 0.021")],
)
def test_the_example_of_a_limit_holds_for_the_figure_at_hand(metric, low, high, shown):
    told = story(primary=metric)
    told.evidence |= {"decision": None, "evidence": [line(metric, (low + high) / 2, low, high)]}
    assert any(f'{metric}: "{shown}"' in step for step in next_steps(told))


def test_who_has_pretrained_is_not_told_to():
    told = story(ahead="linear")
    assert any("or pre-train, or give" in s for s in next_steps(told))
    told.stages = [{"name": "a", "objective": "masked"}, *told.stages]
    assert any("or give the model more data" in s for s in next_steps(told)) and not any("pre-train" in s for s in next_steps(told))


def test_a_baseline_that_is_better_than_the_one_compared_with_is_named():
    figures = {"majority": {"auroc": {"value": 0.995}}, "linear": {"auroc": {"value": 0.98}}}
    assert any("(it was the best on validation; here majority is)" in s for s in falls_short(story(ahead="linear", baselines=figures)))
    assert not any("on validation" in s for s in falls_short(story(ahead="majority", baselines=figures)))
    assert falls_short(story(ahead="gone", baselines=figures)) and falls_short(story(ahead="linear", baselines={}))
