"""Rows that a model has seen are found, whoever brings them; equal rows of different people are not held against anybody; the record alone tells nothing."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

import modelwright as mw
from modelwright import home, seen
from modelwright.errors import Refusal

KEY = bytes(range(32))


def continuous(rng, n):
    return pa.table({f"x{i}": rng.normal(size=n) for i in range(4)})


def few(rng, n):
    """300 kinds of people, some common, most rare."""
    who = rng.choice(300, n, p=(w := 1 / np.arange(1, 301)) / w.sum())
    return pa.table({"age": who % 20, "town": np.array([f"town {w // 20}" for w in who])})


def test_rows_of_training_are_found_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    train, other = continuous(rng, 500), continuous(rng, 200)
    seen.keep(tmp_path, [train.slice(0, 300), train.slice(300)], train.column_names, KEY)
    found = seen.seen(tmp_path, pa.concat_tables([other, train.slice(290, 7)]), KEY)
    assert np.flatnonzero(found.rows).tolist() == list(range(200, 207)) and found.met == 7 and found.chance == 0 and found.lacks is None
    assert not seen.seen(tmp_path, other, KEY).rows.any()


def test_equal_rows_of_other_people_are_what_chance_brings(tmp_path):
    """Good's estimate holds on average, and of 60 honest samples at most 3 lose a row in ten or more."""
    alarms, met, chance = 0, 0, 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        seen.keep(tmp_path, [few(rng, 1500)], ["age", "town"], KEY)
        found = seen.seen(tmp_path, few(rng, 500), KEY)
        alarms, met, chance = alarms + (found.rows.mean() >= 0.1), met + found.met, chance + found.chance
    assert alarms <= 3 and met == pytest.approx(chance, rel=0.02) and met > 400 * 60


@pytest.mark.parametrize("copies", [1, 2, 3, 4])
def test_rows_that_training_holds_several_times_are_found_too(tmp_path, copies):
    rng = np.random.default_rng(copies)
    train = continuous(rng, 300)
    seen.keep(tmp_path, [train] * copies, train.column_names, KEY)
    assert seen.seen(tmp_path, pa.concat_tables([continuous(rng, 80), train.slice(0, 20)]), KEY).rows.sum() == 20


def test_overlap_shows_among_common_rows(tmp_path):
    """A third of the test rows are the rare ones of training: more than chance brings, and those are left out."""
    rng = np.random.default_rng(3)
    train = few(rng, 1500)
    rare = train.filter(pa.array([int(t.split()[1]) >= 8 for t in train.column("town").to_pylist()]))
    seen.keep(tmp_path, [train], train.column_names, KEY)
    assert seen.seen(tmp_path, pa.concat_tables([few(rng, 400), rare.slice(0, 200)]), KEY).rows[400:].mean() > 0.5


def test_without_the_key_nothing_is_compared_and_that_is_said(tmp_path):
    train = continuous(np.random.default_rng(4), 60)
    assert "nothing is kept" in seen.seen(tmp_path, train, KEY).lacks
    seen.keep(tmp_path, [train], train.column_names, KEY)
    found = seen.seen(tmp_path, train, b"another key")
    assert "another MODELWRIGHT_HOME" in found.lacks and not found.rows.any()
    other = tmp_path / "other"
    other.mkdir()
    seen.keep(other, [train], train.column_names, b"another key")
    assert not np.isin(*(load_file(p / seen.FILE)["rows"] for p in (tmp_path, other))).any()


HARM = [lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b.replace(b"columns", b"colunms")]


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_record_is_told_and_takes_no_row_for_unseen(tmp_path, harm):
    train = continuous(np.random.default_rng(4), 60)
    seen.keep(tmp_path, [train], train.column_names, KEY)
    assert seen.seen(tmp_path, train, KEY).rows.all()
    (tmp_path / seen.FILE).write_bytes(harm((tmp_path / seen.FILE).read_bytes()))
    assert "damaged" in seen.seen(tmp_path, train, KEY).lacks


@pytest.mark.slow
def test_an_audit_leaves_out_what_the_run_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(5)
    x = rng.normal(size=(500, 3)).round(6)
    rows = [[*map(str, r), "yes" if r[0] + rng.normal() * 0.3 > 0 else "no"] for r in x]

    def write(name, some):
        with open(tmp_path / name, "w", newline="") as f:
            csv.writer(f).writerows([["a", "b", "c", "y"], *some])
        return str(tmp_path / name)

    write("all.csv", rows[:300])
    (tmp_path / "task.yaml").write_text("data: all.csv\ntarget: y\nstages: [{train: {steps: 10}}]\n")
    mw.run(mw.load_task(tmp_path / "task.yaml"), tmp_path / "run")
    assert (home.home() / "rows.key").stat().st_mode & 0o077 == 0
    held = json.loads((tmp_path / "run" / "plan.json").read_text())["rows"]

    def line(name):
        done = mw.audit(tmp_path / "run", {"test": write(f"{name}.csv", given)}, out=tmp_path / name, only=["accuracy", "data"])
        lines = {e["metric"]: e for e in done.evidence["evidence"]}
        return lines["data.seen_rate"], lines["accuracy"]["n"]

    given = rows[300:]
    assert line("others")[0]["value"] == 0
    given = rows[240:]  # the last 60 were dealt to train, validation, calibration and test
    rate, n = line("some")
    assert n == 260 - rate["details"]["left_out"] and 30 <= rate["details"]["left_out"] <= 60 and rate["reason_codes"] == ["data.seen_rate"]
    assert rate["details"]["left_out"] <= 300 - held["test"]
    given = rows[:300]
    with pytest.raises(Refusal) as refused:
        line("most")
    assert refused.value.problems[0].code == "audit.seen_rows"
    with pytest.raises(Refusal) as refused:  # fairness would be judged on them
        mw.audit(tmp_path / "run", {"test": str(tmp_path / "others.csv"), "trusted": str(tmp_path / "most.csv")}, out=tmp_path / "trusted", only=["fairness"])
    assert refused.value.problems[0].code == "audit.seen_rows" and refused.value.problems[0].where == "--data trusted"
    (tmp_path / "run" / seen.FILE).unlink()
    given = rows[240:]
    rate, n = line("without")
    assert rate["value"] is None and rate["reason_codes"] == ["data.no_record"] and n == 260
