"""Components from a user's own file: of what only helps learning. A model never names one, or whoever opens it would run somebody's code."""

import json

import numpy as np
import pyarrow as pa
import pytest

import modelwright as mw
from modelwright import find
from modelwright.errors import Refusal

MINE = """
from pathlib import Path

from modelwright.strategy import Strategy

Path(__file__).with_name("ran").touch()


class Halved(Strategy):
    def __init__(self, by: float = 2.0):
        self.by = by

    def transform(self, gradients, parameters):
        return [None if g is None else g / self.by for g in gradients]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.py").write_text(MINE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=120)
    (tmp_path / "t.csv").write_text("\n".join(["x,z,y", *(f"{a:.4f},{b:.4f},{'in' if a > 0 else 'out'}" for a, b in zip(x, rng.normal(size=120)))]))
    return tmp_path


def task(folder, **more):
    stage = {"steps": 5, "strategies": [{"mine.py:Halved": {"by": 4}}]}
    return mw.task_of({"data": "t.csv", "target": "y", "stages": [{"train": stage}], **more}, root=folder)


def test_a_strategy_from_a_file_beside_the_task(folder):
    plan = mw.plan(task(folder))
    assert plan.stages[0].strategies == [{"mine.py:Halved": {"by": 4.0}}] and (folder / "ran").exists()
    with pytest.raises(Refusal, match="no class Halve"):
        find.find("strategies", "mine.py:Halve", root=str(folder))


@pytest.mark.parametrize("part", ["encoders", "heads", "decoders", "kinds"])
def test_what_ships_is_installed(folder, part):
    name = "table" if part == "encoders" else "y"
    more = {"target": {"y": "mine.py:Halved"}} if part == "kinds" else {"model": {part: {name: "mine.py:Halved"}}}
    with pytest.raises(Refusal) as e:
        task(folder, **more, stages=[{"train": {"steps": 5}}])
    assert [p.code for p in e.value.problems] == ["component.shipped"] and f"modelwright.{part}" in e.value.problems[0].fix
    assert not (folder / "ran").exists()


def test_a_model_that_names_code_is_refused_before_it_runs(folder):
    done = mw.run(task(folder, stages=[{"train": {"steps": 5}}]), folder / "run")
    file = folder / "run" / "model" / "model.json"
    kept = json.loads(file.read_text("utf-8"))
    kept = {k: v for k, v in kept.items() if k in ("format", "schema", "parts", "weights")}  # as from before files carried their digests
    for at in (kept["parts"]["heads"], kept["parts"]["encoders"]):
        (name,) = at
        honest, at[name] = at[name], f"{folder}/mine.py:Halved"
        file.write_text(json.dumps(kept), "utf-8")
        with pytest.raises(Refusal, match="is code, and cannot be part of a model"):
            mw.load(done.folder)
        at[name] = honest
    file.write_text(json.dumps(kept), "utf-8")
    assert mw.load(done.folder).answer(pa.table({"x": [1.0], "z": [0.0]})).num_rows == 1 and not (folder / "ran").exists()
