"""What every encoder owes, for every form of input that it takes (scikit-learn's estimator checks are the model), and what every fusion owes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from small_data import INPUTS, forms_of, schema, spec_of, table
from torch.utils import _pytree as pytree

from modelwright import artifact, find
from modelwright.errors import Refusal
from modelwright.forms import Encoded, Ragged, Tabular

CASES = [(e, f) for e in find.names("encoders") for f in forms_of(e)]
RAGGED = [(e, f) for e, f in CASES if f in ("ids", "series")]
each = pytest.mark.parametrize("name, form", CASES, ids=["-".join(c) for c in CASES])
each_ragged = pytest.mark.parametrize("name, form", RAGGED, ids=["-".join(c) for c in RAGGED])
kept = {}


class Case:
    """An encoder in a model for a category, built with its defaults; x: six rows of its input."""

    def __init__(self, name, form):
        self.schema = schema(form, "category", name)
        (self.input,) = self.schema.encoders()
        self.parts = {"encoders": {self.input: spec_of(name, form)}, "fusion": "concat", "heads": {"y": "classes"}, "decoders": {}}
        torch.manual_seed(0)
        self.model = artifact.assemble_model(self.schema, self.parts).eval()
        self.encoder = self.model.encoders[self.input]
        self.data = self.schema.encode(table(form, "category"))
        self.batch = self.data.batch(np.arange(6), torch.Generator().manual_seed(0))
        self.x = self.batch.inputs[self.input]

    def __call__(self, x, **more):
        with torch.no_grad():
            return self.encoder(x, **more)


def case(name, form) -> Case:
    if (name, form) not in kept:
        kept[name, form] = Case(name, form)
    return kept[name, form]


def close(a: Encoded, b: Encoded, rows=slice(None), tolerance=1e-5):
    """Equal where there are tokens, and in the summary."""
    assert torch.allclose(a.pooled()[rows], b.pooled(), atol=tolerance, rtol=1e-4)
    if a.mask is None:
        return torch.allclose(a.z[rows], b.z, atol=tolerance, rtol=1e-4)
    t = min(a.z.shape[1], b.z.shape[1])
    assert not a.mask[rows, t:].any() and not b.mask[:, t:].any() and torch.equal(a.mask[rows, :t], b.mask[:, :t])
    return torch.allclose(a.z[rows, :t][b.mask[:, :t]], b.z[:, :t][b.mask[:, :t]], atol=tolerance, rtol=1e-4)


def wider(x: Ragged, by: int, junk: bool) -> Ragged:
    """Padded further, with zeros or with whatever stood in other rows."""
    more = x.values[torch.arange(len(x)).flip(0)][:, :1].expand(-1, by, *[-1] * (x.values.dim() - 2))
    values = torch.cat([x.values, more if junk else torch.zeros_like(more)], 1)
    if junk:
        inside = x.mask.view(*x.mask.shape, *[1] * (x.values.dim() - 2))
        values[:, : x.values.shape[1]] = torch.where(inside, x.values, x.values.flip(0))
    return Ragged(values, x.lengths)


@each
def test_shapes_are_those_of_the_contract(name, form):
    c = case(name, form)
    h = c(c.x)
    b, t, d = h.z.shape
    assert b == 6 and d == c.encoder.width and h.pooled().shape == (6, d) and h.z.is_floating_point()
    assert h.mask is None or (h.mask.shape == (b, t) and h.mask.dtype == torch.bool)
    assert h.grid == c.encoder.grid and (h.grid is None or h.grid[0] * h.grid[1] == t)
    assert (h.pyramid is None) == (c.encoder.levels is None)
    assert h.pyramid is None or [tuple(p.shape[1:]) for p in h.pyramid] == c.encoder.levels
    if isinstance(c.x, Ragged):
        assert t == c.x.values.shape[1] and torch.equal(h.mask, c.x.mask)


@each
def test_a_row_is_encoded_alone_as_among_others(name, form):
    c = case(name, form)
    whole, order = c(c.x), torch.tensor([4, 2, 0])
    assert close(whole, c(pytree.tree_map(lambda v: v[order], c.x)), order)
    assert close(whole, c(pytree.tree_map(lambda v: v[3:4], c.x)), slice(3, 4))


@each_ragged
def test_padding_does_not_reach_the_result(name, form):
    c = case(name, form)
    whole = c(c.x)
    for junk in (False, True):
        assert close(whole, c(wider(c.x, 3, junk)))


@each_ragged
def test_what_the_mask_hides_does_not_reach_the_result(name, form):
    c = case(name, form)
    mask = torch.ones_like(c.x.mask)
    mask[:, 1:3] = False
    changed = c.x.values.clone()
    changed[:, 1:3] = changed[:, 1:3].flip(0)
    assert not torch.equal(changed, c.x.values)
    hidden = c(c.x, mask=mask)
    assert not hidden.mask[:, 1:3].any()
    assert close(hidden, c(Ragged(changed, c.x.lengths), mask=mask))
    assert not torch.allclose(hidden.pooled(), c(c.x).pooled(), atol=1e-5), "the mask changes nothing"


@each_ragged
def test_a_row_without_tokens_is_finite(name, form):
    c = case(name, form)
    h = c(Ragged(c.x.values, c.x.lengths.clone().index_fill_(0, torch.tensor([1]), 0)))
    assert torch.isfinite(h.pooled()).all() and not h.mask[1].any()


@each
def test_what_is_missing_does_not_reach_the_result(name, form):
    c = case(name, form)
    if isinstance(c.x, Tabular):
        assert not c.x.present.all(), "the table has gaps"
        junk = torch.where(c.x.present, c.x.numbers, 7.7)
        assert close(c(c.x), c(dataclasses.replace(c.x, numbers=junk)))
        gone = pytree.tree_map(torch.zeros_like, c.x)
        assert torch.isfinite(c(gone).pooled()).all()
    else:  # content of a missing cell: what the kind's encode makes of null
        nothing = pytree.tree_map(torch.zeros_like, c.x)
        assert torch.isfinite(c(nothing).pooled()).all()


@each
def test_saved_and_loaded_it_gives_the_same_bits(name, form, tmp_path):
    c = case(name, form)
    artifact.save(tmp_path / "model", c.model, c.schema)
    model, again = artifact.load(tmp_path / "model")
    assert json.loads(json.dumps(c.encoder.spec)) == json.loads(json.dumps(model.encoders[c.input].spec))
    data = again.encode(table(form, "category").slice(0, 6)).batch(np.arange(6), torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = c.model(c.batch)["y"], model(data)["y"]
    assert torch.equal(ours, theirs) if not isinstance(c.x, Ragged) else torch.allclose(ours, theirs, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(ours, model(c.batch)["y"])


@each
def test_half_precision_is_close_to_full(name, form):
    c = case(name, form)
    whole = c(c.x).pooled()
    with torch.autocast("cpu", torch.bfloat16):
        half = c(c.x).pooled().float()
    assert torch.isfinite(half).all() and float((half - whole).norm() / whole.norm()) < 0.03


@each
def test_gradients_reach_every_parameter(name, form):
    c = case(name, form)
    h = c.encoder(c.x)
    seen = [h.z, *([] if h.vector is None else [h.vector]), *(h.pyramid or [])]
    loss = sum((v.float() * torch.randn_like(v.float())).sum() for v in seen)
    trains = {n: p for n, p in c.encoder.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trains.values()), allow_unused=True) if trains else ()
    assert [n for n, g in zip(trains, found) if g is None] == []
    assert all(torch.isfinite(g).all() for g in found)


@each
def test_evaluation_draws_nothing_and_training_is_finite(name, form):
    c = case(name, form)
    assert torch.equal(c(c.x).z, c(c.x).z)
    buffers = {k: v.clone() for k, v in c.encoder.named_buffers()}
    c.encoder.train()
    try:
        assert torch.isfinite(c(c.x).pooled()).all()
    finally:
        c.encoder.eval()
        with torch.no_grad():
            for k, v in c.encoder.named_buffers():
                v.copy_(buffers[k])


@pytest.mark.parametrize("form", list(INPUTS))
@pytest.mark.parametrize("name", find.names("encoders"))
def test_it_takes_what_it_says_and_others_are_refused_in_words(name, form):
    if form in forms_of(name):
        assert case(name, form).encoder.width >= 1
        return
    made = schema(form, "category")
    (key,) = made.encoders()
    parts = {"encoders": {key: spec_of(name, forms_of(name)[0])}, "fusion": "concat", "heads": {"y": "classes"}, "decoders": {}}
    with pytest.raises(Refusal) as refused:
        artifact.assemble_model(made, parts)
    (problem,) = refused.value.problems
    assert problem.code == "encoder.input" and name in problem.what and form in problem.what and problem.fix


# Fusions

fused = pytest.mark.parametrize("name", find.names("fusions"))


def fusion(name, widths):
    made = find.make("fusions", name)
    torch.manual_seed(0)
    made.build(widths)
    return made.eval()


@fused
def test_a_missing_input_does_not_reach_what_is_fused(name):
    made, known = fusion(name, {"a": 8, "b": 6}), torch.tensor([True, False, True])
    a, b = torch.randn(3, 4, 8), torch.randn(3, 1, 6)
    one = made({"a": Encoded(a), "b": Encoded(b)}, {"b": known})
    b[1] = torch.nan
    two = made({"a": Encoded(a), "b": Encoded(b)}, {"b": known})
    assert one.z.shape[-1] == made.width and torch.isfinite(two.pooled()).all() and torch.equal(one.pooled(), two.pooled())
    alone = made({"a": Encoded(a[1:2]), "b": Encoded(torch.zeros(1, 1, 6))}, {"b": known[1:2]})
    assert torch.allclose(one.pooled()[1:2], alone.pooled(), atol=1e-6)


@fused
def test_one_input_passes_through_whole_or_the_fusion_says_so(name):
    made = fusion(name, {"a": 8})
    h = Encoded(torch.randn(3, 4, 8), grid=(2, 2), pyramid=[torch.randn(3, 8, 2, 2)])
    assert (made({"a": h}, {}) is h) == made.tokens


@fused
def test_gradients_reach_every_parameter_of_a_fusion(name):
    made = fusion(name, {"a": 8, "b": 6})
    known = {"a": torch.tensor([True, False, False, True]), "b": torch.tensor([True, True, False, False])}
    out = made({"a": Encoded(torch.randn(4, 2, 8)), "b": Encoded(torch.randn(4, 3, 6))}, known)
    found = torch.autograd.grad((out.pooled() * torch.randn(4, made.width)).sum(), list(made.parameters()), allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in found)
