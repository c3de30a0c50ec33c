"""evidence.json there and back."""

import json
import math

import numpy as np
import pytest

from modelwright import evidence as E
from modelwright.errors import Refusal
from modelwright.forms import Measurement
from modelwright.registry.gate import decide, parse

BYTES = {"model": "sha256:aa", "data": {"train": "sha256:tt", "test": "sha256:bb"}, "code": "sha256:cc"}


def figure(metric, value, low, high, slice=None, split="test", **more):
    own = {"model": "sha256:aa", "data": BYTES["data"][split], "code": "sha256:cc"}
    return Measurement("metrics", metric, "y", split, slice, value, low, high, 0.99, 300, "by hand", 0, 0.1, digests=own, **more)


def made(require, *figures):
    policy = parse(require)
    return E.build(list(figures), decide(policy, figures, digests=BYTES), **BYTES, policy=policy, test_openings=1)


def test_there_and_back(tmp_path):
    figures = [
        figure("accuracy", 0.93, 0.91, 0.95, details={"confusion": np.eye(2, dtype=np.int64), "odd": math.nan, "tuple": (np.float32(0.5),), 3: True}),
        figure("accuracy", 0.8, 0.6, 0.95, slice="性别=女"),
        figure("auroc", math.nan, math.nan, math.nan, reasons=["data.one_class"]),
        figure("rmse", 0.0, 0.0, math.inf),
        figure("brier", None, None, None),
    ]
    require = {"accuracy": ">= 0.90", "accuracy@性别=女": ">= 0.9", "auroc": ">= 0.9", "privacy.epsilon": "<= 3"}
    found = made(require, *figures)
    path = tmp_path / "evidence.json"
    path.write_text(E.dumps(found), "utf-8")
    again = E.read(path)
    assert again == found and E.dumps(again) == path.read_text("utf-8") and "性别" in path.read_text("utf-8")
    accuracy, women, auroc, rmse, brier, epsilon = again["evidence"]
    assert (accuracy["limit"], accuracy["verdict"], accuracy["reason_codes"]) == (">= 0.90", "pass", [])
    assert accuracy["details"] == {"confusion": [[1, 0], [0, 1]], "odd": None, "tuple": [0.5], "3": True}
    assert (women["verdict"], women["reason_codes"]) == ("inconclusive", ["slice.underpowered"])
    assert auroc["value"] is None and auroc["verdict"] == "fail" and auroc["reason_codes"] == ["accuracy.not_a_number", "data.one_class"]
    assert rmse["limit"] is None and rmse["verdict"] is None and rmse["high"] is None and rmse["reason_codes"] == ["accuracy.no_interval"]
    assert brier["reason_codes"] == ["accuracy.not_a_number"]
    assert epsilon["metric"] == "privacy.epsilon" and epsilon["verdict"] == "fail" and epsilon["reason_codes"] == ["gate.missing"]
    assert again["decision"]["verdict"] == "fail" and again["policy"] == parse(require).digest


def test_the_decision_can_be_made_again_from_the_file():
    require = {"accuracy": ">= 0.90", "auroc": ">= 0.8", "privacy.epsilon": "<= 3"}
    figures = [figure("accuracy", 0.93, 0.91, 0.95), figure("auroc", 0.9, 0.7, 1.0)]
    found = made(require, *figures)
    again = decide(parse(require), E.measurements(json.loads(E.dumps(found))), digests=BYTES)
    assert {"verdict": again.verdict, "reasons": again.reasons} == found["decision"]
    others = decide(parse(require), E.measurements(found), digests=BYTES | {"model": "sha256:other"})
    assert [r["code"] for r in others.reasons] == ["gate.digest", "gate.digest", "gate.missing"]  # the file does not launder old figures


def test_a_figure_under_two_limits_is_measured_once():
    found = made({"accuracy": ">= 0.90", "y:accuracy": ">= 0.5"}, figure("accuracy", 0.93, 0.91, 0.95))
    assert [e["limit"] for e in found["evidence"]] == [">= 0.90", ">= 0.5"] and len(E.measurements(found)) == 1


def test_no_limits():
    found = made({}, figure("accuracy", 0.93, 0.91, 0.95))
    assert found["decision"] is None and found["policy"] is None and found["evidence"][0]["verdict"] is None


def problems(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refusal) as e:
        E.read(path)
    assert all(p.what and p.fix and str(path) in p.where for p in e.value.problems)
    return e.value.problems


def test_what_is_not_evidence_is_refused(tmp_path):
    path = tmp_path / "evidence.json"
    with pytest.raises(Refusal) as e:
        E.read(path)
    assert e.value.problems[0].code == "evidence.missing"
    good = made({"accuracy": ">= 0.90"}, figure("accuracy", 0.93, 0.91, 0.95))
    text = E.dumps(good)
    for bad in ("", text[:200], "[]", "{}", "null", '{"schema": "1"}', b"\xff\xfe\x00", "[" * 100_000):
        assert problems(path, bad)[0].code == "evidence.unreadable"
    assert problems(path, text.replace('"schema": 1', '"schema": 2'))[0].code == "evidence.newer"
    assert [p.where.rsplit(": ", 1)[1] for p in problems(path, text.replace('"value": 0.93', '"value": NaN'))] == ["evidence.0"]
    assert problems(path, text.replace('"value": 0.93', '"value": 1e999')) and problems(path, text.replace('"value": 0.93', '"value": true'))
    assert "stands twice" in problems(path, text.replace('"value": 0.93', '"value": 0.93, "value": 0.99'))[0].what
    broken = json.loads(text)
    del broken["evidence"][0]["level"]
    broken["evidence"][0]["verdict"] = broken["decision"]["verdict"] = "great"
    broken["test_openings"] = None
    found = [p.what for p in problems(path, json.dumps(broken))]
    assert len(found) == 4 and "'level' is missing" in found and found.count("verdict is 'great'") == 2
