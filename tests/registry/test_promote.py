"""The gate fails closed: whatever is missing, edited, of other bytes or undecided stays out; an override is on record and lapses."""

import json

import pytest
import yaml

from modelwright import evidence
from modelwright.errors import Refusal
from modelwright.registry import gate, policy
from modelwright.registry.export import card, huggingface, overrides
from modelwright.registry.promotion import promote
from modelwright.report.index import HEADINGS, render

AT = "2026-06-01T12:00:00Z"
WANTED = {"who": "Dr. Li", "why": "the old one fails on the new scanner", "until": "2026-07-31"}


def codes(done):
    return {r["code"] for r in done.reasons}


def test_a_passing_version_is_promoted(runs, registry):
    made = runs.register()
    done = promote(registry, "m", who="ann", why="better", at=AT)
    assert done.moved and done.verdict == "pass" and not done.reasons and not done.warnings and done.override is None
    assert registry.resolve("m@production").digest == made.digest and registry.resolve("m@production").note == ""
    (event,) = [e for e in registry.history("m") if e.what == "promote"]
    assert (event.at, event.who, event.why, event.alias, event.version, event.details["verdict"]) == (AT, "ann", "better", "production", 1, "pass")


REFUSED = {
    "no limits": ({"require": {}}, {"gate.no_limits"}),
    "fails": ({"accuracy": (0.80, 0.75, 0.85)}, {"accuracy.below_limit"}),
    "inconclusive": ({"accuracy": (0.91, 0.88, 0.94)}, {"accuracy.underpowered"}),
    "missing": ({"require": {"accuracy": ">= 0.90", "fairness.equalized_odds_difference": "<= 0.05"}}, {"gate.missing"}),
    "nothing measured": ({"accuracy": None}, {"gate.missing"}),
    "NaN": ({"accuracy": (float("nan"), 0.91, 0.95)}, {"accuracy.not_a_number"}),
    "null": ({"accuracy": (None, None, None)}, {"accuracy.not_a_number"}),
    "no interval": ({"accuracy": (0.93, None, None)}, {"accuracy.no_interval"}),
    "figure of other bytes": ({"model": "sha256:other"}, {"gate.digest"}),
    "figure of other data": ({"data": "sha256:other"}, {"gate.digest"}),
    "figure of other code": ({"code": "sha256:other"}, {"gate.digest"}),
    "not recorded": ({"record": False}, {"gate.unrecorded"}),
    "limits taken out": ({"require": {"accuracy": ">= 0.90", "nll": "<= 0.5"}, "task_require": {"accuracy": ">= 0.90"}}, {"gate.policy_changed"}),
    "limits loosened": ({"require": {"accuracy": ">= 0.99"}, "task_require": {"accuracy": ">= 0.90"}}, {"gate.policy_changed"}),
    "limits not readable": ({"task_require": {"acuracy": ">= 0.90"}}, {"gate.limits", "gate.no_limits"}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_everything_else_is_refused_with_every_reason(runs, registry, why):
    settings, expected = REFUSED[why]
    runs.register(**settings)
    done = promote(registry, "m", who="ann", at=AT)
    assert not done.moved and done.verdict != "pass" and expected <= codes(done), done.reasons
    assert all(r["text"] for r in done.reasons)
    with pytest.raises(Refusal):
        registry.resolve("m@production")
    (event,) = [e for e in registry.history("m") if e.what == "refuse"]
    assert event.details["reasons"] == done.reasons and event.version == 1
    assert promote(registry, "m", override=WANTED, at=AT).moved  # on the record, whatever the reasons


def test_a_decision_in_a_file_counts_for_nothing(runs, registry):
    """An edited evidence.json: the verdict, then the figure itself. Neither is what the audit recorded."""
    for edit in ("verdict", "figure"):
        run = runs.make(accuracy=(0.80, 0.75, 0.85), weights=edit)
        found = json.loads((run / "evidence.json").read_bytes())
        if edit == "verdict":
            found["decision"] = {"verdict": "pass", "reasons": []}
        else:
            found["evidence"][0] |= {"value": 0.99, "low": 0.98, "high": 1.0, "verdict": "pass"}
        (run / "evidence.json").write_text(evidence.dumps(found), "utf-8")
        registry.register(run, "m")
        done = promote(registry, "m", who="ann", at=AT)
        assert not done.moved and codes(done) == {"gate.unrecorded", "accuracy.below_limit"}  # the second from what was truly measured


def test_every_reason_is_listed(runs, registry):
    runs.register(accuracy=(0.80, 0.75, 0.85), require={"accuracy": ">= 0.90", "nll": "<= 0.5", "brier": "<= 0.1"})
    assert sorted(r["code"] for r in promote(registry, "m", at=AT).reasons) == ["accuracy.below_limit", "gate.missing", "gate.missing"]


def test_bytes_changed_after_the_audit(runs, registry):
    """In the run's folder before it is registered, and in the store afterwards; not even an override helps the latter."""
    run = runs.make()
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) == {"gate.digest"}
    made = runs.register(weights="two")
    assert promote(registry, "m@2", at=AT).moved
    stored = made.folder / "model" / "model.safetensors"
    stored.chmod(0o644)
    stored.write_bytes(b"x" + stored.read_bytes()[1:])
    for override in (None, WANTED):
        done = promote(registry, "m@2", "staging", override=override, at=AT)
        assert not done.moved and codes(done) == {"gate.tampered"} and "model.safetensors" in done.reasons[0]["text"]


def test_no_evidence_at_all(runs, registry):
    run = runs.make(record=False)
    (run / "evidence.json").unlink()
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) == {"gate.missing"}


def test_a_policy_on_top_counts_the_tighter(runs, registry):
    runs.register()
    extra = gate.parse({"accuracy": ">= 0.92"})
    assert codes(promote(registry, "m", "a", extra=extra, at=AT)) == {"accuracy.underpowered"}
    assert promote(registry, "m", "b", extra=gate.parse({"accuracy": ">= 0.50"}), at=AT).moved  # looser: the task's own limit still counts
    assert codes(promote(registry, "m", "c", extra=gate.parse({"nll": "<= 0.5"}), at=AT)) == {"gate.missing"}
    runs.register(weights="bad", accuracy=(0.80, 0.75, 0.85))
    assert not promote(registry, "m", "d", extra=gate.parse({"accuracy": ">= 0.50"}), at=AT).moved


def test_more_limits_ask_for_wider_intervals(runs, registry):
    """An interval at 0.999 does for at most fifty limits."""
    runs.register()
    many = gate.parse({"accuracy": ">= 0.90"} | {f"accuracy@x={i}": ">= 0" for i in range(60)})
    assert "gate.level" in codes(promote(registry, "m", extra=many, at=AT))


def test_limits_edited_after_the_test_was_opened(runs, registry):
    """Loosened: refused. Tightened or added: said, and let through. Another target, or other rows: another test."""
    runs.register(weights="1", require={"accuracy": ">= 0.95"})
    runs.register(weights="2", require={"accuracy": ">= 0.90"})
    done = promote(registry, "m", at=AT)
    assert codes(done) == {"gate.policy_changed"} and "accuracy >= 0.95 became >= 0.90" in done.reasons[0]["text"]
    assert registry.edited_limits("sha256:rows", ["y"], gate.parse({"accuracy": ">= 0.90"}))
    assert promote(registry, "m", override=WANTED, at=AT).moved
    runs.register(weights="3", rows="other rows", require={"accuracy": ">= 0.80"})
    runs.register(weights="4", rows="other rows", require={"accuracy": ">= 0.90"})
    tighter = promote(registry, "m", at=AT)
    assert tighter.moved and [w["code"] for w in tighter.warnings] == ["gate.policy_changed"]
    runs.register(weights="5", rows="rows", target="z", require={"accuracy": ">= 0.90"}, accuracy=None)
    assert codes(promote(registry, "m", at=AT)) == {"gate.missing"}


def test_an_override_names_who_why_and_until_and_lapses(runs, registry):
    runs.register(weights="good")
    promote(registry, "m", who="ann", at=AT)
    bad = runs.register(weights="bad", accuracy=(0.80, 0.75, 0.85))
    done = promote(registry, "m", override=WANTED, at=AT)
    assert done.moved and done.verdict == "fail" and done.override == WANTED and codes(done) == {"accuracy.below_limit"}
    on = registry.resolve("m@production", today="2026-07-31")
    assert on.version == 2 and "Dr. Li" in on.note and "2026-07-31" in on.note
    off = registry.resolve("m@production", today="2026-08-01")  # the day after its last: back to what passed
    assert off.version == 1 and "lapsed" in off.note
    (kept,) = overrides(registry, bad)
    assert kept["who"] == "Dr. Li" and kept["reasons"][0]["code"] == "accuracy.below_limit"
    for today, state in (("2026-07-01", "until 2026-07-31"), ("2027-01-01", "lapsed after 2026-07-31")):
        shown = card(registry, bad, today)
        assert shown.startswith("---\nlibrary_name") and "Promoted against the evidence" in shown and state in shown and "below\\_limit" in shown
        assert shown.index("Promoted") < shown.index("# A model")
    assert registry.rollback("m", at="2026-06-02T00:00:00Z").version == 1


def test_a_lapsed_override_with_nothing_before_it_points_nowhere(runs, registry):
    runs.register(accuracy=(0.80, 0.75, 0.85))
    promote(registry, "m", override=WANTED, at=AT)
    assert registry.resolve("m@production", today="2026-07-01").version == 1
    with pytest.raises(Refusal) as e:
        registry.resolve("m@production", today="2026-08-01")
    assert e.value.problems[0].code == "registry.lapsed" and e.value.problems[0].fix
    with pytest.raises(Refusal) as e:
        registry.rollback("m", at="2026-08-01T00:00:00Z")
    assert e.value.problems[0].code == "registry.no_rollback"
    promote(registry, "m", override=WANTED | {"until": "2026-09-30"}, at="2026-08-01T00:00:00Z")
    assert registry.resolve("m@production", today="2026-09-30").version == 1


def test_an_override_is_whole_or_refused(runs, registry):
    runs.register(accuracy=(0.80, 0.75, 0.85))
    for lacking in WANTED:
        with pytest.raises(Refusal) as e:
            promote(registry, "m", override=WANTED | {lacking: "  "}, at=AT)
        assert [p.code for p in e.value.problems] == ["override.incomplete"] and lacking in e.value.problems[0].what
    for until in ("2026-05-31", "tomorrow", "2026-02-30"):
        with pytest.raises(Refusal) as e:
            promote(registry, "m", override=WANTED | {"until": until}, at=AT)
        assert e.value.problems[0].code == "override.until"
    for alias in ("3", "sha256", "a/b", ""):
        with pytest.raises(Refusal) as e:
            promote(registry, "m", alias, at=AT)
        assert e.value.problems[0].code == "registry.alias"
    assert not [e for e in registry.history("m") if e.what != "register"]


def test_an_override_that_is_not_needed_is_no_override(runs, registry):
    made = runs.register()
    done = promote(registry, "m", override=WANTED, at=AT)
    assert done.moved and done.override is None and overrides(registry, made) == []


def test_what_people_write_is_shown_as_text(runs, registry):
    made = runs.register(accuracy=(0.80, 0.75, 0.85))
    promote(registry, "m", override=WANTED | {"why": "<script>alert(1)</script>\n# [x](http://x)"}, at=AT)
    shown = card(registry, made, "2026-06-02")
    assert "<script>" not in shown and "\n# \\[x" not in shown and "&lt;script&gt;" in shown


def test_a_hugging_face_folder(runs, registry, tmp_path):
    from huggingface_hub import ModelCard

    runs.register(accuracy=(0.80, 0.75, 0.85))
    promote(registry, "m", override=WANTED, at=AT)
    out = tmp_path / "hf"
    files = huggingface(registry, registry.resolve("m@production", "2026-06-02"), out, "2026-06-02", render)
    assert files == ["README.md", "evidence.json", "index.md", "lineage.json", "model.json", "model.safetensors", "parts"]
    loaded = ModelCard.load(out / "README.md")
    assert loaded.data.to_dict()["library_name"] == "modelwright" and "Promoted against the evidence" in loaded.text
    assert (out / "parts" / "words.txt").read_text("utf-8") == "一\n二\n" and not (out / "task.yaml").exists()
    with pytest.raises(Refusal) as e:
        huggingface(registry, registry.find("m"), out, "2026-06-02", render)
    assert e.value.problems[0].code == "export.exists"


def test_the_index_says_where_and_says_not_shown(runs, registry):
    run = runs.make()
    text = render(
        json.loads((run / "evidence.json").read_bytes()), json.loads((run / "lineage.json").read_bytes()), (run / "card.md").read_text("utf-8")
    )
    rows = dict(line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "heading" not in line)
    assert len(rows) == sum(map(len, HEADINGS.values()))
    assert "accuracy" in rows["2(g) Validation and testing: metrics of accuracy"] and "statements" in rows["Measure 2.10: privacy"]
    assert rows["2(e) Human oversight"] == rows["2(g) Robustness"] == rows["Measure 2.11: fairness and bias"] == "not shown"
    empty = render({}, {}, "")
    assert empty.count("not shown") == len(rows)


def test_the_whole_way_by_the_command_line(runs, registry, monkeypatch, capsys):
    """Exit status 0, 2 and 3; one JSON object each."""
    from modelwright.cli import main

    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))

    def cli(*args):
        monkeypatch.setattr("sys.argv", ["modelwright", *map(str, args), "--json"])
        with pytest.raises(SystemExit) as e:
            main()
        return e.value.code or 0, json.loads(capsys.readouterr().out)

    good, bad = runs.make(weights="good"), runs.make(weights="bad", accuracy=(0.80, 0.75, 0.85))
    assert cli("register", good, "--name", "m")[1]["version"] == 1
    status, said = cli("promote", "m", "--alias", "production")
    assert status == 0 and said["moved"] and said["decision"]["verdict"] == "pass"
    assert cli("register", bad, "--name", "m")[1]["version"] == 2
    status, said = cli("promote", "m@2")
    assert status == 3 and not said["moved"] and said["decision"]["reasons"][0]["code"] == "accuracy.below_limit"
    assert (
        cli("promote", "m@2", "--override", "--who", "Li")[0] == 2
        and cli("promote", "n")[0] == 2
        and cli("promote", "m", "--policy", "medica")[0] == 2
    )
    status, said = cli("promote", "m@2", "--override", "--who", "Li", "--why", "needed", "--until", "2099-01-31")
    assert status == 0 and said["override"] == {"who": "Li", "why": "needed", "until": "2099-01-31"}
    assert cli("registry", "show", "m@production")[1]["overrides"][0]["who"] == "Li"
    assert cli("rollback", "m")[1]["version"] == 1
    assert [v["aliases"] for v in cli("registry", "list")[1]["versions"]] == [["production"], []]
    told = ["audit", "audit", "register", "promote", "register", "refuse", "override", "rollback"]
    assert [e["what"] for e in cli("registry", "history", "m")[1]["events"]] == told
    assert cli("registry", "verify", "m") == (0, {"verified": 2, "findings": []})
    assert [c["versions"] for c in cli("registry", "gc", "--keep", "0", "--dry-run")[1]["collected"]] == [["m@2"]]
    assert cli("export", "m@production", runs.root / "hf")[1]["files"][0] == "README.md"
    stored = registry.find("m@1").folder / "card.md"
    stored.chmod(0o644)
    stored.write_text("better")
    status, said = cli("registry", "verify")
    assert status == 3 and [(f["kind"], f["path"]) for f in said["findings"]] == [("changed", "card.md")]
    assert cli("registry", "list", "--url-env", "NOT_SET_ANYWHERE")[0] == 2


def test_a_task_file_says_the_limits_that_were_registered(runs):
    tree = yaml.safe_load((runs.make(require={"y:accuracy": ">= 0.9", "accuracy@a=1 & b>2": "> 0.5"}) / "task.yaml").read_text("utf-8"))
    again = gate.parse(tree["audit"]["require"])
    assert again.digest == gate.parse({"y:accuracy": ">= 0.9", "accuracy@b>2 & a=1": "> 0.5"}).digest
    assert policy.from_json(json.loads(json.dumps(policy.as_json(again)))) == list(again.limits)
