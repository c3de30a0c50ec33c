"""A plan proposes what the audit found; only accepted steps act, on another file, and do what they say."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from sklearn.datasets import make_classification

from modelwright import cleaning
from modelwright.cli import app
from modelwright.cli.exits import run
from modelwright.errors import Refusal


def dirty(n=900, seed=0):
    """Coded gaps, a city written in three ways, a column that tells the answer, wrong labels, copies of training rows among the test rows."""
    rng = np.random.default_rng(seed)
    x, y = make_classification(n, 6, n_informative=5, n_redundant=0, class_sep=3, flip_y=0, random_state=seed)
    table = {f"x{i}": x[:, i].round(4) for i in range(6)}
    table["dose"] = np.where(rng.random(n) < 0.05, -999, rng.normal(50, 9, n).round(1))
    city = rng.choice(["Berlin", "Paris", "Wien"], n)
    table["city"] = np.where((city == "Berlin") & (rng.random(n) < 0.1), "BERLIN ", city)
    table["told"] = np.where(y == 1, 7.0, 3.0) + rng.normal(0, 0.05, n).round(3)
    label = np.where(rng.random(n) < 0.06, 1 - y, y)
    table["y"] = np.where(label == 1, "yes", "no")
    whole = pa.table(table)
    return whole.slice(0, 600), pa.concat_tables([whole.slice(600), whole.slice(0, 40)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dirty")
    for name, table in zip(("train", "test"), dirty(), strict=True):
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    (folder / "task.yaml").write_text("data: {source: train.csv}\ntarget: y\n", "utf-8")
    return folder


def go(*words):
    with pytest.raises(SystemExit) as e:
        import sys

        before, sys.argv = sys.argv, ["modelwright", *map(str, words)]
        try:
            run(app)
        finally:
            sys.argv = before
    return e.value.code or 0


def test_from_an_audit_of_the_data_to_a_clean_file(folder, monkeypatch, capsys):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(folder / "home"))
    out = folder / "audit"
    data = [w for role in ("train", "test") for w in ("--data", f"{role}={folder}/{role}.csv")]
    assert go("audit", *data, "--task", folder / "task.yaml", "--out", out) == 0
    plan = yaml.safe_load((out / "cleaning.yaml").read_text("utf-8"))
    steps = {s["do"]: s for s in plan["steps"]}
    assert steps["empty"]["column"] == "dose" and float(steps["empty"]["values"][0]) == -999
    assert steps["rename"]["column"] == "city" and steps["leave_out"]["column"] == "told" and "drop_copies" in steps
    assert steps["relabel"]["column"] == "y" and not any(s["accept"] for s in plan["steps"])
    assert "cleaning.yaml, beside this report" in (out / "report.html").read_text("utf-8")

    cleaned, file = folder / "cleaned.csv", folder / "train.csv"
    before = file.read_bytes()
    assert go("clean", file, "--plan", out / "cleaning.yaml", "--out", cleaned) == 2 and not cleaned.exists()  # nothing is accepted
    assert "no step that changes something is accepted" in capsys.readouterr().err
    (folder / "accepted.yaml").write_text((out / "cleaning.yaml").read_text("utf-8").replace("accept: false", "accept: true"), "utf-8")
    assert go("clean", file, "--plan", folder / "accepted.yaml", "--out", file) == 2 and file.read_bytes() == before
    assert go("clean", file, "--plan", folder / "accepted.yaml", "--out", cleaned, "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rows"] == 600 and file.read_bytes() == before and any("empty" in t for t in told["steps"])
    table, was = pyarrow.csv.read_csv(cleaned), pyarrow.csv.read_csv(file)
    assert "told" not in table.column_names and set(table.column("city").to_pylist()) == {"Berlin", "Paris", "Wien"}
    assert table.column("dose").null_count == (was.column("dose").to_numpy() == -999).sum() > 10
    changed = [i for i, (a, b) in enumerate(zip(table.column("y").to_pylist(), was.column("y").to_pylist(), strict=True)) if a != b]
    assert sorted(steps["relabel"]["rows"]) == changed != []

    test = [s for s in plan["steps"] if s["do"] == "drop_copies"]
    (folder / "copies.yaml").write_text(yaml.safe_dump({"steps": [{**s, "accept": True} for s in test]}), "utf-8")
    assert go("clean", folder / "test.csv", "--plan", folder / "copies.yaml", "--out", folder / "t.parquet", "--beside", file, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 300


def test_steps_do_what_they_say_whatever_the_type():
    table = pa.table({
        "i": pa.array([1, 99, None, 2]), "s": ["N/A", "a", None, " N/A"], "d": pa.array(["1900-01-01", "2020-05-01", None, "2021-01-01"]).cast(pa.date32()),
        "y": [0, 1, 1, 0],
    })  # fmt: skip
    empties = [{"do": "empty", "column": c, "values": v} for c, v in (("i", ["99"]), ("s", ["N/A"]), ("d", ["1900-01-01"]))]
    relabel, look = {"do": "relabel", "column": "y", "rows": {3: {"from": "0", "to": "1"}}}, {"do": "look", "why": "data.unit_switch"}
    found, told = cleaning.cleaned(table, [*empties, relabel, look])
    assert found.column("i").to_pylist() == [1, None, None, 2] and found.column("s").to_pylist() == [None, "a", None, None]
    assert found.column("d").null_count == 2 and found.column("y").to_pylist() == [0, 1, 1, 1] and found.schema.types == table.schema.types
    assert "relabel: 1 cells of y" in told and told[-1].startswith("to be mended where the data come from: data.unit_switch")
    twice, told = cleaning.cleaned(pa.concat_tables([table, table.slice(1, 1)]), [{"do": "drop_copies"}])
    assert twice.equals(table) and told == ["dropped 1 copies"]
    both = [{"do": "empty", "column": "i", "values": ["99"]}, {"do": "drop_copies"}]
    assert cleaning.cleaned(table, both, table.slice(0, 2))[0].column("i").to_pylist() == [None, 2]  # copies are told before cells are emptied


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"do": "empty", "column": "nowhere", "values": ["0"]}, "data.missing_column"),
        ({"do": "relabel", "column": "y", "rows": {0: {"from": "1", "to": "0"}}}, "cleaning.rows"),
        ({"do": "relabel", "column": "y", "rows": {9: {"from": "1", "to": "0"}}}, "cleaning.rows"),
    ],
)
def test_a_plan_of_another_file_is_refused(step, code):
    with pytest.raises(Refusal) as e:
        cleaning.cleaned(pa.table({"y": [0, 1]}), [step])
    assert e.value.problems[0].code == code


@pytest.mark.parametrize(
    "text",
    ["- a", "steps: [{do: explode, accept: true}]", "steps: [{do: empty, accept: true}]", "steps: [{do: look, accept: maybe}]", "steps: 3",
     "steps: [{do: empty, column: a, values: abc}]", "steps: [{do: rename, column: a, names: [b]}]", "steps: [{do: relabel, column: a, rows: {x: {from: 1}}}]",
     "steps: [{do: relabel, column: a, rows: {1: b}}]", "steps: [{do: leave_out, column: [a]}]"],
)
def test_what_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "cleaning.yaml").write_text(text, "utf-8")
    with pytest.raises(Refusal) as e:
        cleaning.read(tmp_path / "cleaning.yaml")
    assert {p.code for p in e.value.problems} == {"cleaning.form"}


def test_what_is_not_surely_there_is_no_step():
    name = "data.group_label_error_rate"
    line = {"metric": name, "reason_codes": [name], "value": 0.3, "high": 0.5, "target": "y", "details": {"group": "site=b"}}
    assert cleaning.steps_of([line | {"low": 0.0}]) == []
    assert cleaning.steps_of([line | {"low": 0.1}]) == [{"accept": False, "do": "look", "why": "data.group_label_error_rate", "found": "site=b"}]
