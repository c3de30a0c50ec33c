"""Absurd sizes are refused while they are counted: at once, in words, and before their memory is taken."""

import resource
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import modelwright as mw
from modelwright import room
from modelwright.errors import Refusal

rng = np.random.default_rng(0)
TABLE = pa.table({"x": rng.normal(size=200), "z": rng.normal(size=200), "y": np.where(rng.random(200) < 0.5, "a", "b")})


def test_what_is_counted_is_what_torch_makes(monkeypatch):
    net = nn.Sequential(nn.Embedding(10, 6), nn.LSTM(6, 4, 2), nn.Conv2d(3, 5, 3), nn.LayerNorm(7), nn.Linear(3, 2, dtype=torch.float64), nn.BatchNorm1d(4))
    held = [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]
    with room.Room("here") as counted:
        nn.Sequential(nn.Embedding(10, 6), nn.LSTM(6, 4, 2), nn.Conv2d(3, 5, 3), nn.LayerNorm(7), nn.Linear(3, 2, dtype=torch.float64), nn.BatchNorm1d(4))
        nn.Linear(10**9, 10**9, device="meta")  # which takes no room
    assert counted.bytes == sum(t.numel() * t.element_size() for t in held) and counted.tensors == len(held)
    monkeypatch.setattr(room, "free", lambda: 4 * 1000 * 3)
    with room.Room("here", times=3):
        torch.zeros(10, 100)
    with pytest.raises(Refusal, match="here takes 4.4e-06 GB or more"), room.Room("here", times=3):
        torch.zeros(10, 100), torch.empty(size=(100,))


def test_free_memory_is_a_machines():
    assert 10**8 < room.free() < 10**14


@pytest.mark.parametrize(
    "tree, where",
    [
        ({"model": {"encoders": {"table": {"mlp": {"width": 100_000_000}}}}}, "model.encoders.table"),
        ({"model": {"encoders": {"table": {"mlp": {"width": 10**30}}}}}, "model.encoders.table"),
        ({"model": {"encoders": {"table": {"mlp": {"depth": 1_000_000, "width": 1}}}}}, "model.encoders.table"),
        ({"model": {"fusion": {"gated": {"width": 10**10}}}}, "model.fusion"),
        ({"stages": [{"fit": {"strategies": [{"lora": {"rank": 10**10}}]}}]}, "stages.0.fit"),
        ({"data": "gym://CartPole-v1", "target": "action", "stages": [{"fit": {"objective": {"clipped_policy": {"copies": 10**9}}}}]}, "objective"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_absurd_sizes_are_refused_at_once(tree, where):
    if "gym" in str(tree):
        pytest.importorskip("gymnasium")
    held, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(Refusal) as refused:
        mw.plan(mw.task_of({"data": {"source": TABLE}, "target": "y"} | tree))
    (problem,) = refused.value.problems
    assert problem.code == "memory.model" and problem.where == where and problem.what.startswith(where) and problem.fix
    assert time.process_time() - began < 20 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 2_000_000  # kB


@pytest.mark.parametrize(
    "encoder",
    [{"transformer": {"width": 0}}, {"transformer": {"num_heads": 0}}, {"transformer": {"depth": -1}}, {"lstm": {"depth": 0}}, {"lstm": {"width": -2}}],
)
def test_sizes_below_one_are_refused(encoder):
    with pytest.raises(Refusal, match="greater than or equal to 1"):
        mw.task_of({"data": {"source": TABLE}, "target": "y", "model": {"encoders": {"x": encoder}}})
