"""A task file: all its problems at once, each with its place and a suggestion; nothing but plain text is read from YAML."""

import pytest

import modelwright as mw
from modelwright.errors import Refusal


def problems(tree):
    with pytest.raises(Refusal) as refused:
        mw.task_of(tree)
    return {(p.where.partition(": ")[2], p.code): p for p in refused.value.problems}


def test_all_problems_at_once_those_of_components_beside_those_of_the_tree():
    found = problems(
        {
            "data": {"source": "x.csv", "colums": {"a": "txt"}, "columns": {"a": "txt"}},
            "target": {"y": "cat"},
            "modell": 1,
            "model": {"encoders": {"table": "mpl"}},
            "stages": [{"train": {"objective": "supervisd", "epochs": "many", "strategies": ["lara", {"dp_sgd": {"epsilom": 1}}]}}],
        }
    )
    assert {
        ("data.colums", "task.unknown_key"): "did you mean 'columns'?",
        ("modell", "task.unknown_key"): "did you mean 'model'?",
        ("stages.0.train.objective", "objective.unknown"): "did you mean 'supervised'?",
        ("stages.0.train.strategies", "strategy.unknown"): "did you mean 'lora'?",
        ("stages.0.train.strategies.dp_sgd.epsilom", "task.unknown_key"): "did you mean 'epsilon'?",
        ("model.encoders.table", "encoder.unknown"): "did you mean 'mlp'?",
        ("data.columns.a", "kind.unknown"): "did you mean 'text'?",
    }.items() <= {place: p.fix for place, p in found.items()}.items()
    assert ("stages.0.train.epochs", "task.wrong_value") in found and ("target.y", "kind.unknown") in found


@pytest.mark.parametrize("tree", [{}, {"data": "x.csv"}, {"target": "y"}, {"data": "x", "target": 5.5}, {"data": "x", "target": "y", "stages": "t"}, [], "x"])
def test_odd_trees_are_refused(tree):
    with pytest.raises(Refusal):
        mw.task_of(tree)


def test_a_stage_is_one_name():
    assert ("stages.0", "task.stage") in problems({"data": "x.csv", "target": "y", "stages": [{"a": {}, "b": {}}]})


def test_a_python_task_file_gives_the_same_tree(tmp_path):
    (tmp_path / "task.yaml").write_text("data: x.csv\ntarget: y\nstages:\n  - train: {lr: 1e-3}\n")
    (tmp_path / "task.py").write_text("task = {'data': 'x.csv', 'target': 'y', 'stages': [{'train': {'lr': 10 ** -3}}]}\n")
    a, b = mw.load_task(tmp_path / "task.yaml"), mw.load_task(tmp_path / "task.py")
    assert a.model_dump() == b.model_dump() and a.stages[0]["train"].lr == 1e-3


def test_a_column_may_be_called_by_a_number():
    tree = {"data": {"source": "x.csv", "columns": {2020: "number"}, "split": {"by": 7}}, "target": {3: "category"}, "audit": {"clusters": 7}}
    task = mw.task_of(tree)
    assert list(task.data.columns) == ["2020"] and task.data.split.by == task.audit.clusters == "7" and list(task.targets) == ["3"]
    assert list(mw.task_of({"data": "x.csv", "target": 5}).targets) == ["5"] and list(mw.task_of({"data": "x.csv", "target": [5, "y"]}).targets) == ["5", "y"]
