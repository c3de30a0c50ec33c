"""A later audit of a version's bytes counts: it completes, it carries, and a bad one is never ignored. Other rows are named as such."""

import hashlib
import json
import sqlite3

import pytest

from modelwright import evidence
from modelwright.digests import model_digest
from modelwright.errors import Refusal
from modelwright.registry import gate
from modelwright.registry.promotion import promote

AT = "2026-06-01T12:00:00Z"
GOOD, BAD, OPEN = (0.95, 0.93, 0.97), (0.80, 0.75, 0.85), (0.91, 0.88, 0.94)
WANTED = {"who": "Dr. Li", "why": "we must", "until": "2026-07-31"}


def codes(told):
    return {r["code"] for r in told}


def test_a_larger_test_decides_what_the_run_could_not(runs, registry):
    made = runs.register(accuracy=OPEN)
    assert codes(promote(registry, "m", at=AT).reasons) == {"accuracy.underpowered"}
    digest = runs.audit(made.model, "audits/larger", rows="more", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert done.moved and [e["digest"] for e in done.evidence] == [digest]
    (used,) = done.evidence
    assert used["rows"] == "other" and used["source"] == "audits/larger" and used["limits"] == ["accuracy"] and used["at"]
    assert codes(done.warnings) == {"gate.other_rows", "gate.undecided"}
    (event,) = [e for e in registry.history("m") if e.what == "promote"]
    assert event.details["evidence"] == done.evidence and done.as_json()["evidence"] == done.evidence


def test_the_newest_on_the_same_rows_counts(runs, registry):
    made = runs.register()
    runs.audit(made.model, "second", accuracy=BAD)
    done = promote(registry, "m", at=AT)
    assert not done.moved and done.verdict == "fail" and codes(done.reasons) == {"accuracy.below_limit"} and "second" in done.reasons[0]["text"]
    digest = runs.audit(made.model, "third", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert done.moved and done.evidence[0]["digest"] == digest and done.evidence[0]["rows"] == "registered"
    (said,) = done.warnings
    assert said["code"] == "gate.replaced" and "second, on the same rows, said" in said["text"]
    runs.audit(made.model, "fourth", accuracy=OPEN)
    assert promote(registry, "m", at=AT).verdict == "inconclusive"


def test_a_bad_audit_on_other_rows_is_never_ignored(runs, registry):
    """Neither the run's own pass nor a pass on yet other rows heals it; a newer audit on those rows does, and an override goes on record."""
    made = runs.register()
    runs.audit(made.model, "winter", rows="winter", accuracy=BAD)
    runs.audit(made.model, "spring", rows="spring", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert not done.moved and done.verdict == "fail" and codes(done.reasons) == {"gate.audit_failed", "accuracy.below_limit"}
    assert all("winter" in r["text"] and "other test rows" in r["text"] for r in done.reasons)
    assert promote(registry, "m", "staging", override=WANTED, at=AT).moved
    runs.audit(made.model, "winter, labels mended", rows="winter", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert done.moved and done.evidence[0]["source"] == "run-1"  # the registered rows, since they decide


def test_an_audit_of_some_areas_completes_and_takes_nothing_back(runs, registry):
    both = {"accuracy": ">= 0.90", "fairness.equalized_odds_difference": "<= 0.05"}
    made = runs.register(require=both)
    assert codes(promote(registry, "m", at=AT).reasons) == {"gate.missing"}
    runs.audit(made.model, "elsewhere", rows="other", require=both, fairness__equalized_odds_difference=(0.02, 0.01, 0.03))
    assert codes(promote(registry, "m", at=AT).reasons) == {"gate.missing"}  # two halves on different rows are no whole
    runs.audit(made.model, "fairness alone", require=both, fairness__equalized_odds_difference=(0.02, 0.01, 0.03))
    done = promote(registry, "m", at=AT)
    assert done.moved and {e["source"]: e["limits"] for e in done.evidence} == {
        "run-1": ["accuracy"], "fairness alone": ["fairness.equalized_odds_difference"]
    }  # fmt: skip
    worse = runs.register(weights="worse", accuracy=BAD, rows="fresh")
    runs.audit(worse.model, "of something else", rows="fresh", nll=(0.3, 0.2, 0.4))
    runs.audit(worse.model, "of nothing", rows="fresh")
    assert codes(promote(registry, "m", at=AT).reasons) == {"accuracy.below_limit"}


def test_an_audit_that_failed_to_measure_is_said_and_proves_nothing(runs, registry):
    made = runs.register()
    runs.audit(made.model, "crashed", rows="other")
    done = promote(registry, "m", at=AT)
    assert done.moved and codes(done.warnings) == {"gate.undecided"} and "crashed" in done.warnings[0]["text"]
    runs.audit(made.model, "one class only", rows="one class", accuracy=(float("nan"), None, None))
    runs.audit(made.model, "again, without time", accuracy=(None, None, None))
    done = promote(registry, "m", at=AT)
    assert done.moved and [w["code"] for w in done.warnings] == ["gate.undecided"] * 2 and done.evidence[0]["source"] == "run-1"


def test_rows_that_it_was_trained_on_prove_nothing(runs, registry):
    made = runs.register(accuracy=OPEN)
    runs.audit(made.model, "on the training rows", rows="train", data="sha256:train", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert not done.moved and codes(done.reasons) == {"accuracy.underpowered"}
    bare = runs.make(weights="bare", record=False)
    (bare / "evidence.json").unlink()
    made = registry.register(bare, "m")
    runs.audit(made.model, "on the training rows", rows="train", data="sha256:train", accuracy=GOOD)
    assert codes(promote(registry, "m", at=AT).reasons) == {"gate.seen_rows"}


def test_only_exactly_these_bytes(runs, registry):
    made, other = runs.register(accuracy=OPEN), runs.register(name="other", weights="other")
    runs.audit(other.model, "of another", rows="more", accuracy=GOOD)
    assert not promote(registry, "m", at=AT).moved
    again = registry.register(runs.root / "run-1", "again")  # the same bytes under another name
    runs.audit(made.model, "larger", rows="more", accuracy=GOOD)
    assert again.model == made.model and promote(registry, "again", at=AT).moved


def test_an_evidence_file_of_elsewhere_counts_for_nothing_until_audited_here(runs, registry):
    run = runs.make(record=False)
    model = model_digest(run / "model")
    runs.audit(model, "before", rows="early", accuracy=GOOD)
    registry.register(run, "m")
    done = promote(registry, "m", at=AT)
    assert not done.moved and codes(done.reasons) == {"gate.unrecorded"}
    runs.audit(model, "after", rows="late", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert done.moved and done.evidence[0]["source"] == "after" and "gate.unrecorded" in codes(done.warnings)
    bare = runs.make(weights="bare", record=False)
    (bare / "evidence.json").unlink()
    made = registry.register(bare, "bare")
    assert codes(promote(registry, "bare", at=AT).reasons) == {"gate.missing"}
    runs.audit(made.model, "first", rows="first", accuracy=GOOD)
    assert promote(registry, "bare", at=AT).moved


def test_limits_are_the_registered_ones_and_the_policys(runs, registry):
    """Whatever limits the later audit had: tighter ones than are to be promoted on are a loosening; none are no excuse."""
    made = runs.register(accuracy=OPEN)
    runs.audit(made.model, "without limits", rows="more", require={}, accuracy=GOOD)
    assert promote(registry, "m", at=AT).moved
    assert codes(promote(registry, "m", extra=gate.parse({"accuracy": ">= 0.94"}), at=AT).reasons) == {"accuracy.underpowered"}
    made = runs.register(weights="two", accuracy=OPEN)
    runs.audit(made.model, "tighter", rows="most", require={"accuracy": ">= 0.92"}, accuracy=GOOD)
    done = promote(registry, "m@2", at=AT)
    assert codes(done.reasons) == {"gate.policy_changed"} and "accuracy >= 0.92 became >= 0.90" in done.reasons[0]["text"]


def test_fresh_rows_judge_a_limit_that_was_lowered(runs, registry):
    """On the rows that were opened under the tighter one it stays refused; neither do those rows stand in the way of others."""
    made = runs.register(require={"accuracy": ">= 0.95"}, task_require={"accuracy": ">= 0.90"})
    assert codes(promote(registry, "m", at=AT).reasons) == {"gate.policy_changed"}
    digest = runs.audit(made.model, "fresh", rows="fresh", accuracy=GOOD)
    done = promote(registry, "m", at=AT)
    assert done.moved and [e["digest"] for e in done.evidence] == [digest] and "gate.other_rows" in codes(done.warnings)


def test_an_audit_meanwhile_stops_the_move(runs, registry):
    made = runs.register()
    heard = max(a.id for a in registry.audits(made.model))
    runs.audit(made.model, "meanwhile", accuracy=BAD)
    with pytest.raises(Refusal) as e:
        registry.log("promote", made.folder, (made.model, heard), name="m", version=1, digest=made.digest, alias="production")
    assert e.value.problems[0].code == "registry.changed" and not [e for e in registry.history("m") if e.what == "promote"]


def test_audits_are_lines_of_the_trail_that_cannot_go_unseen(runs, registry):
    made = runs.register()
    digest = runs.audit(made.model, "bad", rows="other", accuracy=BAD)
    (line,) = [e for e in registry.history() if e.digest == digest]
    assert line.what == "audit" and line.who == "ann" and line.details == {"model": made.model, "source": "bad", "verdict": "fail"}
    runs.register(weights="two")
    db = sqlite3.connect(registry.path)
    db.execute("DROP TRIGGER event_no_DELETE")
    db.execute("DELETE FROM event WHERE id = ?", [line.id])
    db.commit()
    db.close()
    assert registry.broken_trail() is not None
    assert not promote(registry, "m@1", at=AT).moved  # the evidence itself is still there


def test_measurements_without_a_line_in_the_trail_count_for_nothing(runs, registry):
    """Put into the table by hand, in proper form: no trigger stops that, and nobody hears it."""
    made = runs.register(accuracy=OPEN)
    later = json.loads((made.folder / "evidence.json").read_bytes()) | {"test_openings": 2, "test_rows": "sha256:more"}
    later["evidence"][0] |= {"value": 0.95, "low": 0.93, "high": 0.97}
    db = sqlite3.connect(registry.path)
    body = evidence.dumps(later)
    db.execute("INSERT INTO evidence (digest, model, body) VALUES (?, ?, ?)", [f"sha256:{hashlib.sha256(body.encode()).hexdigest()}", made.model, body])
    db.commit()
    db.close()
    assert len(registry.audits(made.model)) == 1 and not promote(registry, "m", at=AT).moved
