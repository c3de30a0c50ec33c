"""Somebody who wants a bad model in production: every trick is refused, flagged, or shown by `registry verify`."""

import json
import shutil
import sqlite3

import pytest
import yaml

from modelwright import evidence
from modelwright.errors import Refusal
from modelwright.registry import gate, policy, whole
from modelwright.registry.export import notices
from modelwright.registry.promotion import promote
from modelwright.registry.store import Registry
from modelwright.registry.trail import _link

AT = "2026-06-01T12:00:00Z"
GOOD, BAD = (0.93, 0.91, 0.95), (0.80, 0.75, 0.85)
WANTED = {"who": "Dr. Li", "why": "needed", "until": "2026-07-31"}


def codes(done):
    assert not done.moved and done.verdict != "pass"
    return {r["code"] for r in done.reasons}


# evidence.json, edited


def line(**but):
    return lambda found: found["evidence"][0].update(but)


EDITED = {
    "value": line(value=0.99),
    "interval": line(low=0.95, high=0.99, value=0.97),
    "n": line(n=10_000_000),
    "level": line(level=1.0),
    "seed": line(seed=7),
    "verdict": lambda found: found.update(decision={"verdict": "pass", "reasons": []}),
    "line taken out": lambda found: found["evidence"].clear(),
    "line added": lambda found: found["evidence"].append({**found["evidence"][0], "value": 0.99, "low": 0.98, "high": 1.0}),
    "metric renamed": line(metric="auroc"),
    "slice taken out": line(slice=None, details={"was": "sex=f"}),
    "model": lambda found: found.update(model="sha256:" + "0" * 64),
    "data": lambda found: found["data"].update(test="sha256:other"),
    "code": lambda found: found.update(code="sha256:other"),
    "openings": lambda found: found.update(test_openings=0),
}


@pytest.mark.parametrize("what", EDITED)
def test_an_edited_file_counts_for_nothing(runs, registry, what):
    run = runs.make(accuracy=BAD)
    found = json.loads((run / "evidence.json").read_bytes())
    EDITED[what](found)
    (run / "evidence.json").write_text(json.dumps(found), "utf-8")
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) >= {"gate.unrecorded", "accuracy.below_limit"}


@pytest.mark.parametrize("old, new", [('"value": 0.8', '"value": 0.8, "value": 0.99'), ('"high": 0.85', '"high": Infinity'), ('"low": 0.75', '"low": NaN')])
def test_text_that_json_reads_in_two_ways(runs, registry, old, new):
    run = runs.make(accuracy=BAD)
    text = (run / "evidence.json").read_text("utf-8")
    assert old in text
    (run / "evidence.json").write_text(text.replace(old, new), "utf-8")
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) >= {"gate.unrecorded", "accuracy.below_limit"}


# Limits


@pytest.mark.parametrize("require", [
    {"accuracy": ">= 0.9", " accuracy": "<= 0.8"}, {"accuracy@sex = f": ">= 0.9", "accuracy@sex=f": ">= 0.1"}, {"accuracy": ">= -inf"},
    {"accuracy": ">= nan"}, {"accuracy": ">= 0.9 or 1"}, {"аccuracy": ">= 0.9"}, {"accuracy": "> = 0"}, {"accuracy": True},
])  # fmt: skip
def test_limits_that_say_two_things_or_nothing(require):
    with pytest.raises(Refusal):
        gate.parse(require)


def test_limits_in_both_directions_are_both_judged(runs, registry, tmp_path):
    (tmp_path / "p.yaml").write_text('require: {accuracy: "<= 0.8"}', "utf-8")
    runs.register()
    assert codes(registry.promote("m", policy=str(tmp_path / "p.yaml"))) == {"accuracy.above_limit"}


@pytest.mark.parametrize("text", [
    'a: &a {accuracy: ">= 0"}\nrequire: *a', 'require: {<<: {accuracy: ">= 0"}, include: other.yaml}', "require: !include other.yaml",
])  # fmt: skip
def test_policies_without_anchors_and_includes(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text, "utf-8")
    with pytest.raises(Refusal):
        policy.read("./p.yaml", tmp_path)


def test_a_made_up_target_hides_no_first_limit(runs, registry):
    """The limits of the first opening count for whatever was measured, whichever targets task.yaml names now."""
    runs.make(require={"accuracy": ">= 0.99"}, weights="first")
    run = runs.make(require={"accuracy": ">= 0.90"}, target="y", weights="second")
    tree = yaml.safe_load((run / "task.yaml").read_text("utf-8"))
    (run / "task.yaml").write_text(yaml.safe_dump(tree | {"target": ["z"]}), "utf-8")
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) == {"gate.policy_changed"}
    assert registry.first_limits("sha256:rows", ["y", "z"]) and not registry.first_limits("sha256:rows", ["z"])


def test_lineage_that_names_other_training_rows(runs, registry):
    run = runs.make()
    told = json.loads((run / "lineage.json").read_bytes())
    told["data"]["train"] = "sha256:made up"
    (run / "lineage.json").write_text(json.dumps(told), "utf-8")
    (run / "evidence.json").unlink()
    registry.register(run, "m")
    assert codes(promote(registry, "m", at=AT)) == {"gate.lineage"}


def test_a_leak_is_not_audited_away_beside_other_training_rows(runs, registry):
    """On the same test rows the newest figure counts, but not one of leakage that was taken beside another table than the violation."""
    made = runs.register(require={"accuracy": ">= 0.90", "data.leakage": "<= 0"}, accuracy=None)
    limits = {"accuracy": ">= 0.90", "data.leakage": "<= 0"}
    for source, train, value in (("first", "sha256:train", 3.0), ("nicer", "sha256:clean", 0.0)):
        runs.audit(made.model, source, data="sha256:test", train=train, require=limits, accuracy=GOOD, data__leakage=(value, value, value))
    assert "data.above_limit" in codes(promote(registry, "m", at=AT))


# The database


def hands(registry, *statements, keep=True):
    """Somebody who may write to the file: takes the triggers off, and says what is wanted."""
    db = sqlite3.connect(registry.path)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    for sql, *values in statements:
        db.execute(sql, values)
    db.commit()
    db.close()


def rewritten(registry, gone):
    """The whole trail anew without some lines, each chained to the one before."""
    db = sqlite3.connect(registry.path)
    rows = [list(r) for r in db.execute("SELECT * FROM event ORDER BY id") if r[0] not in gone]
    chain = ""
    hands(registry, ("DELETE FROM event",))
    for number, row in enumerate(rows, 1):
        row[0] = number
        row[-1] = chain = _link(chain, row[:-1])
        db.execute(f"INSERT INTO event VALUES ({', '.join('?' * len(row))})", row)
    db.commit()
    db.close()


def failing(registry):
    """The line of the trail and the digest of the audit that speaks against."""
    return next((e.id, e.digest) for e in registry.history() if e.what == "audit" and e.details["source"] == "failing")


BY_HAND = {
    "figures": lambda r, bad: hands(r, ("UPDATE evidence SET body = replace(body, '0.85', '0.99') WHERE model = ?", bad.model)),
    "the failing audit's figures taken out": lambda r, bad: hands(r, ("DELETE FROM evidence WHERE digest = ?", failing(r)[1])),
    "the failing audit made another model's": lambda r, bad: hands(r, ("UPDATE evidence SET model = 'sha256:x' WHERE digest = ?", failing(r)[1])),
    "the failing audit's line and figures taken out": lambda r, bad: hands(
        r, ("DELETE FROM evidence WHERE digest = ?", failing(r)[1]), ("DELETE FROM event WHERE digest = ?", failing(r)[1])),
    "the trail cut at its end": lambda r, bad: hands(
        r, ("DELETE FROM evidence WHERE digest = ?", failing(r)[1]), ("DELETE FROM event WHERE id >= ?", failing(r)[0])),
    "the trail written anew": lambda r, bad: (hands(r, ("DELETE FROM evidence WHERE digest = ?", failing(r)[1])), rewritten(r, {failing(r)[0]})),
    "a version's number at other bytes": lambda r, bad: hands(r, ("UPDATE version SET digest = 'sha256:0' WHERE version = 1",)),
    "a version said to be another model": lambda r, bad: hands(
        r, ("UPDATE version SET model = (SELECT model FROM version WHERE version = 1) WHERE version = 2",)),
    "openings taken out": lambda r, bad: hands(r, ("DELETE FROM test_opening",)),
    "limits of an opening taken off": lambda r, bad: hands(r, ("UPDATE test_opening SET policy = NULL",)),
    "who": lambda r, bad: hands(r, ("UPDATE event SET who = 'somebody else' WHERE id = 1",)),
    "what this home has seen is unreadable": lambda r, bad: (r.keys / whole.SEEN).write_text("{"),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_HAND)
def test_a_database_edited_by_hand(runs, registry, what):
    runs.register()
    bad = runs.register(weights="bad")
    runs.audit(bad.model, "failing", rows="harder", accuracy=BAD)
    assert not registry.amiss() and codes(promote(registry, "m@2", at=AT)) >= {"gate.audit_failed"}
    runs.audit(bad.model, "later", rows="third", accuracy=GOOD)
    BY_HAND[what](registry, bad)
    assert registry.amiss(), "registry verify says so"
    try:
        done = promote(registry, "m@2", override=WANTED, at=AT)
    except Refusal as e:  # its bytes have no place
        assert e.problems[0].code.startswith("registry.")
    else:
        assert codes(done) == {"gate.tampered"}


def test_limits_edited_in_the_database(runs, registry):
    runs.make(require={"accuracy": ">= 0.99"}, weights="first")
    runs.register(require={"accuracy": ">= 0.90"})
    hands(registry, ("UPDATE policy SET limits = replace(limits, '0.99', '0.1')",))
    with pytest.raises(Refusal, match="were changed in the registry"):
        promote(registry, "m", at=AT)


def test_an_older_copy_of_the_database(runs, registry, tmp_path):
    made = runs.register()
    hands(registry)
    db = sqlite3.connect(registry.path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    shutil.copyfile(registry.path, tmp_path / "older")
    promote(registry, "m", at=AT)
    runs.audit(made.model, "failing", rows="harder", accuracy=BAD)
    for file in registry.path.parent.glob("registry.sqlite-*"):
        file.unlink()
    shutil.copyfile(tmp_path / "older", registry.path)
    assert codes(promote(registry, "m", at=AT)) == {"gate.tampered"} and "older copy" in registry.amiss()[0].text


def test_an_alias_rests_on_an_unbroken_trail_and_a_number_does_not(runs, registry):
    runs.register()
    runs.register(weights="two")
    assert promote(registry, "m@1", at=AT).moved
    hands(registry, ("UPDATE event SET version = 2 WHERE what = 'promote'",))
    for ask in (lambda: registry.resolve("m@production"), lambda: registry.rollback("m")):
        with pytest.raises(Refusal) as e:
            ask()
        assert e.value.problems[0].code == "registry.tampered"
    assert registry.resolve("m@1").version == 1


# Overrides, names, clocks


@pytest.mark.parametrize("but", [
    {"who": "\u200b"}, {"why": "\u3164"}, {"who": "\u202e\u2066"}, {"why": "..."}, {"until": ""}, {"until": "tomorrow"}, {"until": "2026-02-30"},
    {"until": "2026-05-31"}, {"until": 20270131}, {"who": None},
])  # fmt: skip
def test_an_override_names_who_why_and_until_visibly(runs, registry, but):
    runs.register(accuracy=BAD)
    with pytest.raises(Refusal):
        promote(registry, "m", override=WANTED | but, at=AT)


def test_an_override_for_thousands_of_years_is_flagged(runs, registry):
    runs.register(accuracy=BAD)
    done = promote(registry, "m", override=WANTED | {"until": "9999-12-31"}, at=AT)
    assert done.moved and "override.far" in {w["code"] for w in done.warnings}
    assert "override.far" not in {w["code"] for w in promote(registry, "m", "other", override=WANTED, at=AT).warnings}


def test_what_is_written_makes_no_line_of_its_own(runs, registry, monkeypatch, capsys):
    from modelwright.cli import main

    made = runs.register(accuracy=BAD)
    promote(registry, "m", override=WANTED | {"why": "x\n2026-06-02  ann  promote  m@1\x1b[2K\u202e"}, at=AT)
    monkeypatch.setenv("MODELWRIGHT_HOME", str(registry.path.parent))
    monkeypatch.setattr("sys.argv", ["modelwright", "registry", "history", "m"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 3 and "\x1b" not in said and "\u202e" not in said and "(account " in said
    assert not {"\n", "\x1b", "\u202e"} & set("".join(sum(notices(registry, made, "2026-06-02").values(), [])))


@pytest.mark.parametrize("name", ["саncеr", "ｃancer", "cancer\u3164", "\u115fcancer", "Cancer", "cáncer", "canceR"])
def test_names_that_look_like_one_that_exists(runs, registry, name):
    run = runs.make()
    registry.register(run, "cancer")
    with pytest.raises(Refusal) as e:
        registry.register(run, name)
    assert e.value.problems[0].code == "registry.name"
    with pytest.raises(Refusal) as e:
        promote(registry, "cancer", "рroduction", at=AT)
    assert e.value.problems[0].code == "registry.alias"
    for alias in ("Production", "próduction", "productıon", "prօduction"):
        with pytest.raises(Refusal):
            promote(registry, "cancer", alias, at=AT)


@pytest.mark.parametrize("at", ["²", "①", "٣", "1 ", "+1", "-1", "0", "1e0", "sha256:", "sha256:0000"])
def test_odd_numbers_name_no_version(runs, registry, at):
    runs.register()
    with pytest.raises(Refusal):
        registry.find(f"m@{at}")


def test_a_clock_set_back_revives_no_override(runs, registry):
    runs.register()
    runs.register(weights="bad", accuracy=BAD)
    promote(registry, "m@1", at=AT)
    promote(registry, "m@2", override=WANTED | {"until": "2026-06-02"}, at=AT)
    promote(registry, "m@1", "staging", at="2026-06-09T12:00:00Z")
    assert registry.find("m@production", today="2026-06-01").version == 1
    promote(registry, "m@1", "staging", at="2026-06-01T12:00:00Z")
    assert any("a clock was wrong" in f.text for f in registry.transaction(whole.late))


def test_a_rollback_needs_the_bytes(runs, registry):
    from modelwright.registry import objects

    one = runs.register()
    runs.register(weights="two")
    promote(registry, "m@1", at=AT)
    promote(registry, "m@2", at=AT)
    objects.remove(one.folder)
    with pytest.raises(Refusal) as e:
        registry.rollback("m", at=AT)
    assert e.value.problems[0].code == "registry.no_bytes" and registry.find("m@production").version == 2


def test_a_clock_set_back_gives_an_override_no_more_time(runs, registry):
    """Whoever sets the clock back and overrides has an override that lapsed before it was written."""
    runs.register(accuracy=BAD)
    promote(registry, "m", "other", override=WANTED, at=AT)
    promote(registry, "m", override=WANTED | {"until": "2026-02-01"}, at="2026-01-15T00:00:00Z")
    with pytest.raises(Refusal) as e:
        registry.find("m@production", today="2026-01-20")
    assert e.value.problems[0].code == "registry.lapsed" and registry.transaction(whole.late)


# What was asked


def test_figures_under_another_task_carry_nothing(runs, registry):
    """Other groups, labels in another order, no clusters, a seed that was tried until it passed: figures of another question."""
    run = runs.make(record=False)
    (run / "evidence.json").unlink()
    made = registry.register(run, "m")
    asked = evidence.meaning(yaml.safe_load((run / "task.yaml").read_text("utf-8")), True)
    runs.audit(made.model, "luckier seed", rows="fresh", task="sha256:other", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert codes(done) == {"gate.other_task"} and "luckier seed" in done.reasons[0]["text"]
    runs.audit(made.model, "as registered", rows="fresh", task=asked, accuracy=BAD)
    assert codes(promote(registry, "m", at=AT)) == {"accuracy.below_limit"}
    runs.audit(made.model, "luckier seed again", rows="fresh", task="sha256:other", accuracy=GOOD)
    assert codes(promote(registry, "m", at=AT)) == {"accuracy.below_limit"}
    runs.audit(made.model, "as registered, elsewhere", rows="others", task=asked, accuracy=GOOD)
    assert "gate.audit_failed" in codes(promote(registry, "m", at=AT))


TASK = {"data": {"columns": {"sex": {"kind": "category", "group": True}}}, "target": {"y": {"category": {"labels": ["a", "b"]}}}, "seed": 0, "audit": {}}


@pytest.mark.parametrize("but, ours", [
    ({"seed": 1}, True), ({"audit": {"clusters": "patient"}}, True), ({"audit": {"safety": {"rules": []}}}, True),
    ({"data": {"columns": {"sex": "category"}}}, False), ({"target": {"y": {"category": {"labels": ["b", "a"]}}}}, False),
])  # fmt: skip
def test_what_a_task_asks_has_a_digest(but, ours):
    assert evidence.meaning(TASK | but, False) != evidence.meaning(TASK, False) == evidence.meaning(json.loads(json.dumps(TASK)), False)
    assert (evidence.meaning(TASK | but, True) != evidence.meaning(TASK, True)) == ours  # our own model carries its columns and labels itself
    assert evidence.meaning(TASK | {"audit": {"require": {"accuracy": ">= 0.9"}}, "name": "x"}, True) == evidence.meaning(TASK, True)


# Limits that look like some


@pytest.mark.parametrize("require", [
    {"accuracy": ">= 0"}, {"accuracy": "> -1", "nll": ">= 0"}, {"ece": "<= 1.0", "y:accuracy@sex=f": ">= 0"}, {"fairness.equalized_odds_difference": "<= 1"},
    {"privacy.membership_auc": "<= 1", "robustness.linf_accuracy": ">= 0.0"}, {"data.label_error_rate": "<= 2"},
])  # fmt: skip
def test_limits_that_every_model_satisfies_are_none(runs, registry, require):
    runs.register(accuracy=GOOD, require=require)
    done = promote(registry, "m", at=AT)
    assert codes(done) == {"gate.no_limits"} and "every model satisfies" in done.reasons[0]["text"]


def test_of_an_empty_limit_beside_others_it_is_said(runs, registry):
    runs.register(require={"accuracy": ">= 0.90", "y:accuracy": ">= 0"})
    done = promote(registry, "m", at=AT)
    assert done.moved and [w["code"] for w in done.warnings] == ["gate.empty_limit"]


@pytest.mark.parametrize("limit", [
    {"accuracy": ">= 0.001"}, {"accuracy": "> 0"}, {"r2": ">= 0"}, {"accuracy.gain_over_baseline": ">= 0"}, {"nll": "<= 1"}, {"privacy.epsilon": "<= 1"},
    {"slice.worse_than_overall": "<= 0"}, {"episode_return": ">= 0"}, {"data.leakage": "<= 0"}, {"explanation.fidelity": ">= 0"}, {"ood.auroc": ">= 0.5"},
    {"conformal.mean_size": "<= 1"}, {"data.shortcut": "<= 1"}, {"quadratic_kappa": ">= 0"}, {"efficiency.latency_p99_ms": "<= 1"}, {"ece": "< 1"},
    {"ood.gain_over_trivial": ">= 0"},
])  # fmt: skip
def test_limits_that_say_something_are_not_empty(limit):
    assert not gate.parse(limit).limits[0].empty


@pytest.mark.parametrize("bound", ["1e999", "-1e400", ".5e9999"])
def test_a_limit_is_a_finite_number(bound):
    with pytest.raises(Refusal):
        gate.parse({"accuracy": f"<= {bound}"})


# Folders


def test_the_evidence_of_another_model(runs, registry):
    """The good run's evidence, lineage and task beside the bad run's bytes."""
    good, bad = runs.make(weights="good"), runs.make(weights="bad", accuracy=BAD)
    for name in ("evidence.json", "lineage.json", "task.yaml"):
        shutil.copyfile(good / name, bad / name)
    registry.register(bad, "m")
    assert codes(promote(registry, "m", at=AT)) >= {"gate.digest", "accuracy.below_limit"}


def test_a_run_folder_that_is_a_link_is_kept_as_it_was(runs, registry, tmp_path):
    good, bad = runs.make(weights="good"), runs.make(weights="bad", accuracy=BAD)
    (tmp_path / "run").symlink_to(good)
    made = registry.register(tmp_path / "run", "m")
    (tmp_path / "run").unlink()
    (tmp_path / "run").symlink_to(bad)
    assert registry.verify("m") == [] and promote(registry, "m", at=AT).moved and registry.resolve("m").model == made.model
    registry.register(tmp_path / "run", "m")
    assert codes(promote(registry, "m@2", at=AT)) == {"accuracy.below_limit"}


def test_figures_of_another_home(runs, registry, tmp_path):
    """Tried there until something passed: here nobody measured it."""
    there = type(runs)(tmp_path / "there", Registry(tmp_path / "home 2" / "registry.sqlite"))
    registry.register(there.make(), "m")
    assert codes(promote(registry, "m", at=AT)) == {"gate.unrecorded"}
    shutil.copyfile(there.registry.path, registry.path)  # nor if that registry is put in place of this one, which has seen another trail
    for beside in ("-wal", "-shm"):
        registry.path.with_name(registry.path.name + beside).unlink(missing_ok=True)
    assert registry.amiss()
