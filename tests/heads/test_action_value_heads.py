"""The policy's and the value's head against torch's distributions."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.forms import Encoded, Ragged
from modelwright.model import Encoder


def built(name, kind, width=8, **settings):
    torch.manual_seed(0)
    head = find.make("heads", {name: settings})
    head.build(find.make("kinds", kind), width, None)
    return head


def both():
    return [
        (built("action", {"action": {"classes": 3}}), lambda o: torch.distributions.Categorical(logits=o)),
        (
            built("action", {"action": {"low": [-1.0, 0.0], "high": [1.0, 4.0]}}),
            lambda o: torch.distributions.Independent(torch.distributions.Normal(o["mean"], o["log_sd"].exp()), 1),
        ),
    ]


@pytest.mark.parametrize("head, law", both())
@torch.no_grad()
def test_log_probabilities_and_entropy_are_torchs(head, law):
    torch.nn.init.normal_(head.linear.weight)
    out = head(Encoded(torch.randn(5, 4, 8)))
    action = law(out).sample()
    assert torch.allclose(head.log_probability(out, action), law(out).log_prob(action), atol=1e-5)
    assert torch.allclose(head.entropy(out), law(out).entropy(), atol=1e-5)
    other = head(Encoded(torch.randn(5, 4, 8)))
    expected = torch.distributions.kl_divergence(law(other), law(out)).mean(1)
    assert torch.allclose(head.divergence(out, other, 1.0), expected, atol=1e-5)


@pytest.mark.parametrize("head, law", both())
@torch.no_grad()
def test_draws_follow_the_distribution(head, law):
    torch.nn.init.normal_(head.linear.weight, std=0.5)
    one = torch.randn(1, 1, 8)
    out = head(Encoded(one.expand(20_000, 1, 8)))
    drawn = head.act(out, torch.Generator().manual_seed(0))
    if head.discrete:
        p = law(out).probs[0, 0]
        assert drawn.shape == (20_000, 1)
        assert torch.allclose(torch.bincount(drawn.flatten(), minlength=3) / 20_000, p, atol=4 * (0.25 / 20_000) ** 0.5)
        assert (head.act(out) == p.argmax()).all()
    else:
        assert torch.allclose(drawn.mean(0), out["mean"][0], atol=0.02) and torch.allclose(drawn.std(0), out["log_sd"][0].exp(), atol=0.02)
        assert torch.equal(head.act(out), out["mean"])
    assert torch.equal(drawn, head.act(out, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("head, law", both())
@torch.no_grad()
def test_nll_counts_the_steps_that_are_there(head, law):
    torch.nn.init.normal_(head.linear.weight)
    out = head(Encoded(torch.randn(3, 5, 8)))
    action, lengths = law(out).sample(), torch.tensor([5, 2, 3])
    known = torch.tensor([True, True, False])
    total, count = head.nll(out, Ragged(action, lengths), known)
    each = -law(out).log_prob(action)
    expected = [each[0].sum(), each[1, :2].sum(), torch.tensor(0.0)]
    assert torch.allclose(total, torch.stack(expected), atol=1e-5) and count.tolist() == [5, 2, 0]
    steps = head(Encoded(torch.randn(3, 1, 8)))  # one step a row, as a table has them
    action = law(steps).sample().squeeze(1)
    total, count = head.nll(steps, action, known)
    assert torch.allclose(total, -law(steps).log_prob(action.unsqueeze(1)).squeeze(1) * known, atol=1e-5) and count.tolist() == [1, 1, 0]


def test_a_new_policy_is_nearly_indifferent():
    head = built("action", {"action": {"classes": 4}}, width=64)
    p = head(Encoded(torch.randn(100, 1, 64))).exp()
    assert (p - 0.25).abs().max() < 0.02
    w = head.linear.weight
    assert torch.allclose(w @ w.T, 0.01**2 * torch.eye(4), atol=1e-8)  # orthogonal, gain 0.01


@torch.no_grad()
def test_value_is_half_the_squared_error():
    head = built("value", "value")
    out = head(Encoded(torch.randn(3, 4, 8)))
    target, lengths = torch.randn(3, 4), torch.tensor([4, 1, 2])
    total, count = head.nll(out, Ragged(target, lengths), torch.ones(3, dtype=torch.bool))
    by_hand = [sum(0.5 * float(out[i, t] - target[i, t]) ** 2 for t in range(n)) for i, n in enumerate([4, 1, 2])]
    assert np.allclose(total.tolist(), by_hand, atol=1e-6) and count.tolist() == [4, 1, 2]
    assert head.nll(out, target, torch.ones(3, dtype=torch.bool))[1].tolist() == [4, 4, 4]


def test_of_a_series_with_one_action_a_row_the_summary_is_read():
    """As logged beside a window of observations; a list of actions asks for one at every step."""
    encoder = Encoder()
    encoder.width, encoder.steps = 8, True
    h, read = Encoded(torch.randn(3, 5, 8)), {}
    for values in (pa.array([0, 1, 2]), pa.array([[0, 1], [2], [1]])):
        kind = find.make("kinds", {"action": {"classes": 3}})
        kind.fit(pa.chunked_array([values]))
        head = find.make("heads", "action")
        head.build(kind, 8, encoder)
        read[kind.episodes_] = head(h).shape[1]
    assert read == {False: 1, True: 5}
    vector = find.make("kinds", {"action": {"low": [0.0, 0.0], "high": [1.0, 1.0]}})
    vector.fit(pa.chunked_array([pa.array([[0.1, 0.2]])]))
    assert not vector.episodes_
