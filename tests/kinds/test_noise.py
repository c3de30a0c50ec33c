"""Noise is drawn, never read: anew for every batch, the same for the same generator, and without a column in the table."""

import numpy as np
import pyarrow as pa
import pytest
import torch

import modelwright as mw
from modelwright import find
from modelwright.data.schema import Schema, infer, profile
from modelwright.errors import Refusal

TABLE = pa.table({"x": np.random.default_rng(0).normal(size=200), "y": np.arange(200) % 2})


def test_it_is_standard_normal_and_its_width_is_declared():
    x = find.make("kinds", {"noise": 5}).draw(40_000, torch.Generator().manual_seed(0))
    assert x.shape == (40_000, 5)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(x.T), np.eye(5), atol=0.02)
    with pytest.raises(Refusal, match="at least 1"):
        find.make("kinds", {"noise": 0})


def test_a_generator_decides_the_draw_and_none_means_seed_0():
    kind = find.make("kinds", "noise")
    rng = torch.Generator().manual_seed(0)
    first, second = kind.draw(3, rng), kind.draw(3, rng)
    assert torch.equal(first, kind.draw(3, None)) and torch.equal(first, kind.draw(3, None))
    assert not torch.equal(first, second)


def test_a_schema_encodes_a_table_without_the_column():
    schema = Schema({"z": find.make("kinds", {"noise": 4})}, {})
    data = schema.encode(pa.table({"other": range(7)}))
    batch = data.batch(np.arange(5), torch.Generator().manual_seed(1))
    assert len(data) == 7 and batch.inputs["z"].shape == (5, 4) and len(batch) == 5
    again = Schema.from_json(schema.to_json())
    assert again.inputs["z"].drawn and again.inputs["z"].width == 4


def test_a_task_declares_it_beside_the_columns_of_the_table():
    plan = mw.plan(mw.task_of({"data": {"source": TABLE, "columns": {"z": {"noise": 6}}}, "target": "y", "stages": [{"train": {"steps": 5}}]}))
    assert list(plan.schema.inputs) == ["x", "z"] and plan.data["train"].batch(np.arange(3)).inputs["z"].shape == (3, 6)
    assert {"name": "z", "kind": "noise", "role": "input", "describe": "6 standard normal numbers a row, drawn"} in plan.columns


@pytest.mark.parametrize("columns, code", [({"x": "noise"}, "data.drawn_column"), ({"z": "number"}, "data.unknown_column")])
def test_a_drawn_column_is_not_in_the_table_and_another_is(columns, code):
    with pytest.raises(Refusal) as e:
        mw.plan(mw.task_of({"data": {"source": TABLE, "columns": columns}, "target": "y"}))
    assert e.value.problems[0].code == code


def test_it_is_never_inferred():
    assert all(infer(p) != "noise" for p in profile(TABLE).values())
