"""The JSON Schema that editors check task files by: what `load_task` takes it takes, and a slip is underlined."""

import json

import pyarrow as pa
import pytest

from modelwright import find
from modelwright.task import json_schema, task_of

FINE = [
    {"data": "t.csv", "target": "y"},
    {"data": ["a.csv", "b.csv"], "target": ["y", "z"], "stages": ["train", {"finetune": None}]},
    {"data": {"people": "a.csv", "visits": "b.csv"}, "target": {"y": "number"}, "seeds": 3},
    {
        "data": {"source": "t.csv", "columns": {"scan": "image", "id": "ignore", "sex": {"kind": "category", "group": True}}},
        "target": {"y": {"ordered": {"order": ["a", "b"]}}},
        "model": {"encoders": {"table": {"mlp": {"width": 32}}}, "fusion": "concat", "heads": {"y": "ordered"}},
        "stages": [{"a": {"objective": "masked"}}, {"b": {"strategies": ["average", {"lora": {"rank": 2}}, {"fairness": "equalized_odds"}]}}],
        "audit": {"require": {"accuracy": ">= 0.9"}},
    },
]
SLIPS = [
    {"sed": 1},
    {"stages": [{"train": {"epoch": 3}}]},
    {"stages": [{"train": {"strategies": ["lorra"]}}]},
    {"model": {"encoders": {"table": "mpl"}}},
    {"model": {"heads": {"y": {"ordred": {}}}}},
    {"data": {"source": "t.csv", "columns": {"a": "catgory"}}},
]


def test_it_names_what_exists():
    schema = json.loads(json_schema())
    strategies = schema["$defs"]["Stage"]["properties"]["strategies"]["items"]["anyOf"]
    assert {c["const"]: c["description"] for c in strategies if "const" in c} == {n: find.summary("strategies", n) for n in find.names("strategies")}
    assert "root" not in schema["properties"] and "file" not in schema["properties"]


@pytest.mark.parametrize("tree", FINE)
def test_what_is_taken_is_fine(tree):
    jsonschema = pytest.importorskip("jsonschema")
    task = task_of(tree)
    check = jsonschema.Draft202012Validator(json.loads(json_schema()))
    assert not list(check.iter_errors(tree)) and not list(check.iter_errors(json.loads(json.dumps(task.model_dump()))))


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip):
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(find.Refusal):
        task_of({"data": "t.csv", "target": "y", **slip})
    assert list(jsonschema.Draft202012Validator(json.loads(json_schema())).iter_errors({"data": "t.csv", "target": "y", **slip}))


def test_numbers_that_are_taken_as_they_are_are_not_cut():
    """Standardised ones are: a slip of a thousandfold would blow up a layer."""
    column = pa.chunked_array([[48_000.0, 52_000.0, 50_000.0, 5e7]])
    raw, scaled = find.make("kinds", {"number": {"scale": False}}), find.make("kinds", "number")
    raw.fit(column), scaled.fit(column.slice(0, 3))
    assert raw.encode(column)["values"][:, 0].tolist() == [48_000.0, 52_000.0, 50_000.0, 5e7]
    assert scaled.encode(column)["values"][3, 0] == 20
