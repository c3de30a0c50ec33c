"""What every decoder owes: with every head it either acts, row by row alike in any company, or is refused when the model is put together."""

import json

import numpy as np
import pytest
import torch
from foretold import of_decoder
from small_data import TARGETS, schema, spec_of, table
from torch.utils import _pytree as pytree

from modelwright import artifact, find
from modelwright.errors import Refusal

KINDS = [k for k in TARGETS if k != "value"]  # no table holds it
CASES = [(d, k) for d in find.names("decoders") for k in KINDS]
each = pytest.mark.parametrize("name, target", CASES, ids=["-".join(c) for c in CASES])
kept = {}


def case(name, target):
    """(model with this decoder, schema, rows)"""
    form, encoder = ("picture", "cnn") if target == "boxes" else ("table", "mlp")
    if target not in kept:
        made = schema(form, target)
        made.group, made.group_values_ = (["texture"], ["texture=rough", "texture=smooth"]) if form == "table" else ([], [])
        kept[target] = made, made.encode(table(form, target))
    made, data = kept[target]
    (key,) = made.encoders()
    parts = {"encoders": {key: spec_of(encoder, form)}, "fusion": "concat", "heads": {"y": made.targets["y"].head}, "decoders": {"y": name}}
    torch.manual_seed(0)
    code = of_decoder(name, made.targets["y"].head, made.targets["y"])
    if code is None:
        return artifact.assemble_model(made, parts).eval(), made, data
    with pytest.raises(Refusal) as refused:
        artifact.assemble_model(made, parts)
    (problem,) = refused.value.problems
    assert problem.code == code and name in problem.what and problem.fix
    pytest.skip(f"refused: {problem.what}")


@each
def test_the_kind_reads_what_it_says(name, target):
    model, made, data = case(name, target)
    batch = data.batch(np.arange(6))
    for rng in (None, torch.Generator().manual_seed(0)):
        said = model.predict(batch, rng)["y"]
        assert len(made.targets["y"].answer("y", said)["y"]) == 6
        assert all(torch.isfinite(t).all() for t in pytree.tree_leaves(said) if t.is_floating_point())


@each
def test_the_same_generator_gives_the_same_answer(name, target):
    model, _, data = case(name, target)
    batch = data.batch(np.arange(6))
    for seed in (None, 3):
        one, two = (model.predict(batch, None if seed is None else torch.Generator().manual_seed(seed)) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(pytree.tree_leaves(one["y"]), pytree.tree_leaves(two["y"])))


@each
def test_a_row_is_answered_alone_as_among_others(name, target):
    model, made, data = case(name, target)
    if name == "sampling":
        pytest.skip("it draws")
    whole = made.targets["y"].answer("y", model.predict(data.batch(np.arange(6)))["y"])["y"]
    alone = made.targets["y"].answer("y", model.predict(data.batch(np.array([4])))["y"])["y"]
    assert str(whole[4])[:4] == str(alone[0])[:4]  # in words: rounding may differ in the last digits


@each
def test_the_truth_is_not_shown(name, target):
    """With and without targets in the batch."""
    model, _, data = case(name, target)
    batch = data.batch(np.arange(6))
    one, two = model.predict(batch)["y"], model.predict(batch.but(targets={}))["y"]
    assert all(torch.equal(a, b) for a, b in zip(pytree.tree_leaves(one), pytree.tree_leaves(two)))


@each
def test_its_settings_are_saved_with_the_model(name, target, tmp_path):
    model, made, _ = case(name, target)
    artifact.save(tmp_path / "model", model, made)
    again, _ = artifact.load(tmp_path / "model")
    assert json.loads(json.dumps(again.decoders["y"].spec)) == json.loads(json.dumps(model.decoders["y"].spec))
