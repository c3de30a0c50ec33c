"""Actions and values as targets: encoded by their declaration, judged against what was logged."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.data.schema import infer, profile
from modelwright.errors import Refusal
from modelwright.forms import Prediction


def column(rows):
    return pa.chunked_array([pa.array(rows)])


def test_indices_and_labels():
    kind = find.make("kinds", {"action": {"classes": 2, "labels": ["left", "right"]}})
    stored = kind.encode_target(column(["right", None, "left"]))
    assert stored["values"].tolist() == [1, 0, 0] and stored["known"].tolist() == [True, False, True]
    assert kind.answer("a", Prediction(value=torch.tensor([1, 0]))) == {"a": ["right", "left"]}
    with pytest.raises(Refusal, match="'up'"):
        kind.encode_target(column(["up"]))
    with pytest.raises(Refusal, match="1 actions are none, such as 3"):
        find.make("kinds", {"action": {"classes": 3}}).encode_target(column([0, 3]))


def test_episodes_are_flat_with_offsets_and_a_row_counts_once():
    kind = find.make("kinds", {"action": {"classes": 3}})
    stored = kind.encode_target(column([[0, 1, 2, 2], [1], None]))
    assert stored["values"].tolist() == [0, 1, 2, 2, 1] and stored["offsets"].tolist() == [0, 4, 5, 5]
    said = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    metric = kind.metrics(Prediction(value=said), stored)["accuracy"]
    assert metric.value(np.arange(3)) == pytest.approx((0.5 + 1.0) / 2) and np.isnan(metric.rows[2])


def test_vectors_are_scaled_to_their_bounds_and_clipped():
    kind = find.make("kinds", {"action": {"low": [-2.0, 0.0], "high": [2.0, 10.0]}})
    actions = np.array([[1.0, 7.5], [-2.0, 10.0]])
    stored = kind.encode_target(column(actions.tolist()))
    assert np.allclose(stored["values"], [[0.5, 0.5], [-1, 1]]) and np.allclose(kind.real(stored["values"]), actions)
    assert kind.real(np.array([[3.0, -2.0]])).tolist() == [[2.0, 0.0]]
    metric = kind.metrics(Prediction(value=torch.tensor([[0.0, 0.5], [-1.0, 1.0]])), stored)["rmse"]
    assert metric.value(np.arange(2)) == pytest.approx(np.sqrt(((1.0**2) / 2 + 0) / 2))
    free = find.make("kinds", {"action": {"low": [-np.inf], "high": [np.inf]}})
    assert free.real(np.array([[50.0]])).tolist() == [[50.0]]


def test_it_is_never_guessed():
    table = pa.table({"action": [0, 1, 1, 0], "value": [0.1, 0.2, 0.3, 0.4]})
    assert not {infer(p) for p in profile(table).values()} & {"action", "value"}


@pytest.mark.parametrize("settings", [{}, {"classes": 2, "low": [0.0], "high": [1.0]}, {"low": [0.0]}, {"low": [1.0], "high": [0.0]}])
def test_half_a_declaration_is_refused(settings):
    with pytest.raises(Refusal):
        find.make("kinds", {"action": settings})


def test_a_value_is_reported_in_the_units_of_rewards():
    kind = find.make("kinds", "value")
    kind.scale_ = 20.0
    assert kind.answer("v", Prediction(value=torch.tensor([1.5])))["v"] == [30.0]
    truth = {"values": np.array([1.0, 2.0]), "known": np.array([True, True])}
    assert kind.metrics(Prediction(value=torch.tensor([1.0, 1.0])), truth)["rmse"].value(np.arange(2)) == pytest.approx(20 / np.sqrt(2))
    again = find.make("kinds", "value")
    again.load(kind.state())
    assert again.scale_ == 20.0
