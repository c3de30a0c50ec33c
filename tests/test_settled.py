"""What a task leaves open is suggested whole: an lr goes with its optimizer, and private training has suggestions of its own."""

import numpy as np
import pyarrow as pa
import pytest

import modelwright as mw
from modelwright.errors import Refusal


def settings(stage, encoder="additive"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    table = pa.table({"x": x, "z": rng.normal(size=400), "y": np.where(x > 0, "yes", "no")})
    task = {"data": {"source": table}, "target": "y", "model": {"encoders": {"table": encoder}}, "stages": [{"train": stage}]}
    (planned,) = mw.plan(mw.task_of(task)).stages
    return planned.settings


@pytest.mark.parametrize(
    "stage, optimizer, lr",
    [({}, "adamw", 0.02), ({"strategies": ["dp_sgd"]}, "sgd", 3.0),
     ({"strategies": ["dp_sgd"], "lr": 0.01}, "adamw", 0.01), ({"optimizer": "sgd"}, "sgd", 0.1)],  # fmt: skip
)
def test_an_lr_goes_with_its_optimizer(stage, optimizer, lr):
    if "strategies" in stage:
        pytest.importorskip("dp_accounting")
    s = settings(stage)
    assert (s.optimizer, s.lr) == (optimizer, lr)


def test_how_long_a_stage_learns_is_said_once():
    assert settings({"epochs": 2}).minutes is None
    with pytest.raises(Refusal, match="epochs and minutes all say how long"):
        settings({"epochs": 2, "minutes": 5})


@pytest.mark.parametrize("targets, epochs", [("number", 40), ("class", 10), (["number", "class"], 10)])
def test_numbers_take_more_passes_than_classes(targets, epochs):
    x = np.random.default_rng(0).normal(size=3000)
    table = pa.table({"x": x, "number": x + 1, "class": np.where(x > 0, "yes", "no")})
    assert mw.plan(mw.task_of({"data": {"source": table}, "target": targets})).stages[0].settings.epochs == epochs
