"""The policy decoder: one pass gives action, log-probability, value and state, and they are those of the heads."""

import numpy as np
import pyarrow as pa
import torch

from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.schema import Schema
from modelwright.forms import Batch, Ragged


def built(column, encoder, action=None):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=50), "walk": [rng.normal(size=(4, 2)).tolist() for _ in range(50)]})
    kinds = {"action": find.make("kinds", {"action": action or {"classes": 3}}), "value": find.make("kinds", "value")}
    schema = Schema({column: find.make("kinds", {"x": "number", "walk": "series"}[column])}, kinds)
    schema.fit(table)
    torch.manual_seed(0)
    key = "table" if column == "x" else column
    heads = {"action": {"action": {"gain": 1.0}}, "value": "value"}
    return schema, assemble_model(schema, {"encoders": {key: encoder}, "fusion": "concat", "heads": heads, "decoders": {}}).eval(), table


PLAIN = {"mlp": {"width": 8, "depth": 1, "bins": 0, "dropout": 0.0}}
RECURRENT = {"lstm": {"width": 8, "bidirectional": False, "dropout": 0.0}}


@torch.no_grad()
def test_a_draw_and_its_log_probability():
    schema, model, table = built("x", PLAIN)
    batch = schema.encode(table).batch(np.arange(50))
    outs = model(batch)
    found = model.predict(batch, torch.Generator().manual_seed(0))
    action = found["action"].action
    assert action.shape == (50,) and len(action.unique()) > 1
    expected = torch.distributions.Categorical(logits=outs["action"][:, 0]).log_prob(action)
    assert torch.allclose(found["action"].extra["log_probability"], expected, atol=1e-6)
    assert torch.equal(found["action"].extra["value"], found["value"].value) and torch.allclose(found["value"].value, outs["value"][:, 0])
    assert not any(k.startswith("state.") for k in found["action"].extra)


@torch.no_grad()
def test_greedy_is_the_likeliest_with_its_probabilities():
    schema, model, table = built("x", PLAIN)
    batch = schema.encode(table).batch(np.arange(50))
    found = model.predict(batch)["action"]
    assert torch.equal(found.action, model(batch)["action"][:, 0].argmax(-1)) and torch.allclose(found.probabilities.sum(1), torch.ones(50))
    assert "action" in model.predict(batch, heads=["action"])  # the value need not be asked for


@torch.no_grad()
def test_acting_step_by_step_hands_the_state_on():
    schema, model, table = built("walk", RECURRENT)
    whole = schema.encode(table).batch(np.arange(50))
    together = model(whole)["action"]
    state = None
    for t in range(4):
        step = Batch({"walk": Ragged(whole.inputs["walk"].values[:, t : t + 1], torch.ones(50, dtype=torch.int64))})
        found = model.predict(step, torch.Generator().manual_seed(t), state=state)["action"]
        state = {"walk": found.extra["state.walk"]}
        assert state["walk"].shape == (50, 1, 16)  # rows first
        expected = together[:, t].gather(1, found.action[:, None])[:, 0]
        assert torch.allclose(found.extra["log_probability"], expected, atol=1e-5)


@torch.no_grad()
def test_whole_episodes_are_answered_step_for_step():
    schema, model, table = built("walk", RECURRENT)
    found = model.predict(schema.encode(table).batch(np.arange(50)))["action"]
    assert found.value.shape == (50, 4)
    assert len(schema.targets["action"].answer("action", found)["action"][0]) == 4


@torch.no_grad()
def test_vectors():
    schema, model, table = built("x", PLAIN, {"low": [-1.0, -3.0], "high": [1.0, 3.0]})
    batch = schema.encode(table).batch(np.arange(50))
    found = model.predict(batch, torch.Generator().manual_seed(0))["action"]
    assert found.action.shape == (50, 2) and found.extra["log_probability"].shape == (50,)
    assert schema.targets["action"].answer("a", model.predict(batch)["action"])["a"][0].shape == (2,)


def test_logged_actions_can_be_imitated():
    """Supervised learning on a table of what somebody did: steps, and episodes where it depends on the step before."""
    for column, encoder in (("x", PLAIN), ("walk", RECURRENT)):
        schema, model, table = built(column, encoder)
        if column == "x":
            logged = pa.array((np.array(table.column("x")) > 0).astype(int) * 2)
        else:
            logged = pa.array([[0, *(1 if s[0] > 0 else 2 for s in row[:-1])] for row in table.column("walk").to_pylist()])
        table = table.append_column("action", logged)
        data, objective = schema.encode(table), find.make("objectives", "supervised")
        batch, optimizer = data.batch(np.arange(50)), torch.optim.AdamW(model.parameters(), lr=0.05)
        for _ in range(80):
            optimizer.zero_grad()
            objective.loss(model, batch, "model").mean().backward()
            optimizer.step()
        accuracy = schema.targets["action"].metrics(model.predict(batch)["action"], data.targets["action"])["accuracy"]
        assert accuracy.value(np.arange(50)) > 0.95
