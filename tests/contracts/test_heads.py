"""What every head owes, for every kind of target that it fits: a likelihood, a prediction that the kind can read, and rows that stay apart."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from foretold import of_head
from small_data import TARGETS, schema, spec_of, table
from torch.utils import _pytree as pytree

from modelwright import artifact, find
from modelwright.errors import Refusal
from modelwright.forms import Encoded
from modelwright.model import Encoder

B, T, D = 7, 16, 12


def kind_spec(target):
    return find.split(TARGETS[target])[0]


def says(target):
    return find.find("heads", find.find("kinds", kind_spec(target)).head).says


PAIRS = [(h, k) for h in find.names("heads") for k in TARGETS if find.find("heads", h).says == says(k)]
OTHERS = [(h, k) for h in find.names("heads") for k in TARGETS if find.find("heads", h).says != says(k)]
each = pytest.mark.parametrize("name, target", PAIRS, ids=["-".join(p) for p in PAIRS])
kept = {}


class Case:
    """A head on what a made encoder hands on: rows of a 4 x 4 grid. Two of seven targets are unknown."""

    def __init__(self, name, target):
        self.form = "picture" if target == "boxes" else "table"
        made = schema(self.form, target) if target != "value" else None
        self.kind = made.targets["y"] if made else find.make("kinds", "value")
        encoder = Encoder()
        encoder.width, encoder.grid = D, (4, 4)
        torch.manual_seed(1)
        self.head = find.make("heads", name)
        self.refused, code = None, of_head(name, self.kind)
        if code is not None:
            with pytest.raises(Refusal) as refused:
                self.head.build(self.kind, D, encoder)
            (self.refused,) = refused.value.problems
            assert self.refused.code == code and self.refused.what and self.refused.fix
            return
        self.head.build(self.kind, D, encoder)
        with torch.no_grad():  # what starts at zero would hide what is behind it
            for p in self.head.parameters():
                p.add_(0.1 * torch.randn_like(p))
        self.head.eval()
        self.h = Encoded(torch.randn(B, T, D), grid=(4, 4))
        if made:
            self.truth = self.kind.encode_target(self.kind.column(table(self.form, target), "y"))
            self.target = self.kind.batch(self.truth, np.arange(B))
        else:
            self.truth = {"values": np.random.default_rng(0).normal(size=B).astype(np.float32), "known": np.ones(B, bool)}
            self.target = torch.from_numpy(self.truth["values"])[:, None]
        self.known = torch.tensor([True, True, False, True, True, False, True])

    def out(self, h=None, target=None):
        return self.head(self.h if h is None else h, self.target if target is None else target)


def case(name, target) -> Case:
    if (name, target) not in kept:
        kept[name, target] = Case(name, target)
    if kept[name, target].refused:
        pytest.skip(f"refused: {kept[name, target].refused.what}")
    return kept[name, target]


def select(tree, rows):
    return pytree.tree_map(lambda v: v[rows], tree)


@each
def test_the_likelihood_is_one_number_a_row_and_unknown_rows_count_nothing(name, target):
    c = case(name, target)
    total, count = c.head.nll(c.out(), c.target, c.known)
    assert total.shape == count.shape == (B,) and torch.isfinite(total).all()
    assert (count[c.known] > 0).all() and (count[~c.known] == 0).all() and (total[~c.known] == 0).all()


@each
def test_no_gradient_comes_from_unknown_rows(name, target):
    c = case(name, target)
    z = c.h.z.clone().requires_grad_()
    total, _ = c.head.nll(c.out(dataclasses.replace(c.h, z=z)), c.target, c.known)
    (slope,) = torch.autograd.grad(total.sum(), z)
    assert torch.isfinite(slope).all() and (slope[~c.known] == 0).all() and (slope[c.known].flatten(1).abs().sum(1) > 0).all()


@each
def test_gradients_reach_every_parameter(name, target):
    c = case(name, target)
    total, _ = c.head.nll(c.out(), c.target, c.known)
    found = torch.autograd.grad(total.sum(), list(c.head.parameters()), allow_unused=True)
    assert [n for (n, _), g in zip(c.head.named_parameters(), found) if g is None] == []


@each
def test_a_rows_loss_is_its_own(name, target):
    c = case(name, target)
    whole, counts = c.head.nll(c.out(), c.target, c.known)
    order = torch.tensor([6, 3, 0])
    part, count = c.head.nll(c.out(select_encoded(c.h, order), select(c.target, order)), select(c.target, order), c.known[order])
    assert torch.allclose(whole[order], part, rtol=1e-4, atol=1e-5) and torch.equal(counts[order], count)


def select_encoded(h, rows):
    return Encoded(h.z[rows], grid=h.grid)


@each
def test_the_likelihood_is_that_of_the_prediction(name, target):
    """-log of the probability that `predict` gives to the truth, where it gives probabilities of classes."""
    c = case(name, target)
    said = c.head.predict(c.out())
    if said.probabilities is None:
        pytest.skip("it predicts no distribution over classes; its own test holds it against a closed form")
    assert said.probabilities.shape == (B, c.kind.classes) and torch.allclose(said.probabilities.sum(1), torch.ones(B), atol=1e-5)
    everyone = torch.ones(B, dtype=torch.bool)
    total, _ = c.head.nll(c.out(), c.target, everyone)
    assert torch.allclose(total, -said.probabilities.gather(1, c.target[:, None])[:, 0].log(), atol=1e-4)


@each
def test_the_kind_can_read_the_prediction(name, target):
    """`metrics` and `answer` of the target's kind, which is all that audits, services and reports read."""
    c = case(name, target)
    with torch.no_grad():
        said = c.head.predict(c.head(c.h))
    rows = np.arange(B)
    if "offsets" in c.truth:
        flat = c.truth["offsets"]
        truth = {"values": c.truth["values"][: flat[B]], "offsets": flat[: B + 1], "known": c.truth["known"][:B]}
    else:
        truth = {k: v[:B] for k, v in c.truth.items()}
    found = c.kind.metrics(said.to("cpu"), truth)
    assert c.kind.primary in found and all(isinstance(m.value(rows), float) for m in found.values())
    assert np.isfinite(found[c.kind.primary].value(rows))
    columns = c.kind.answer("y", said.to("cpu"))
    assert "y" in columns and all(len(column) == B for column in columns.values())
    if said.score is not None and said.boxes is None:
        assert said.score.shape == (B,) and torch.isfinite(said.score).all()


@each
def test_a_divergence_is_zero_for_equal_outputs_and_never_below(name, target):
    c = case(name, target)
    torch.manual_seed(3)
    one, two = c.out(), c.out(Encoded(torch.randn(B, T, D), grid=(4, 4)))
    try:
        same, other = c.head.divergence(one, one, 2.0), c.head.divergence(two, one, 2.0)
    except NotImplementedError as none:
        assert name.replace("_", "") in str(none).lower()
        pytest.skip(str(none))
    assert same.shape == other.shape == (B,)
    assert torch.allclose(same, torch.zeros(B), atol=1e-4) and (other > -1e-5).all() and (other > 1e-6).any()


@each
def test_a_temperature_keeps_the_order(name, target):
    c = case(name, target)
    if not c.head.calibrates:
        return
    out = c.out()
    cold = c.head.predict(out)
    c.head.temperature.fill_(2.5)
    warm = c.head.predict(out)
    c.head.temperature.fill_(1.0)
    assert torch.equal(cold.value, warm.value) and not torch.allclose(cold.probabilities, warm.probabilities)


@each
def test_saved_it_says_the_same(name, target):
    c = case(name, target)
    torch.manual_seed(99)
    again = find.make("heads", json.loads(json.dumps(c.head.spec)))
    encoder = Encoder()
    encoder.width, encoder.grid = D, (4, 4)
    again.build(c.kind, D, encoder)
    again.load_state_dict(c.head.state_dict())
    ours, theirs = (pytree.tree_leaves(m.eval()(c.h, c.target)) for m in (c.head, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


@each
def test_half_precision_is_close_to_full(name, target):
    c = case(name, target)
    everyone = torch.ones(B, dtype=torch.bool)
    whole, _ = c.head.nll(c.out(), c.target, everyone)
    with torch.autocast("cpu", torch.bfloat16):
        out = c.out()
    out = pytree.tree_map(lambda x: x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16 else x, out)
    half, _ = c.head.nll(out, c.target, everyone)
    assert torch.isfinite(half).all() and float((half - whole).abs().mean() / whole.abs().mean()) < 0.05


@pytest.mark.parametrize("name, target", OTHERS, ids=["-".join(p) for p in OTHERS])
def test_a_head_for_another_target_is_refused_before_training(name, target):
    made = schema("table", "category" if target in ("value", "boxes") else target)
    if target in ("value", "boxes"):
        made.targets["y"] = find.make("kinds", TARGETS[target])
    parts = {"encoders": {"table": spec_of("mlp", "table")}, "fusion": "concat", "heads": {"y": name}, "decoders": {}}
    with pytest.raises(Refusal) as refused:
        artifact.assemble_model(made, parts)
    (problem,) = refused.value.problems
    assert problem.code == "head.target" and name in problem.what and kind_spec(target) in problem.what and problem.fix
