"""What every objective owes: a loss that is one number a row and a function of its batch, whatever is random being drawn by `prepare`."""

import copy
import json

import numpy as np
import pytest
import torch
from foretold import of_objective
from small_data import TARGETS, schema, spec_of, table

from modelwright import artifact, find
from modelwright.errors import Refusal
from modelwright.forms import Batch
from modelwright.learn.probe import DRAWS

SETTING = {  # where it could apply: (form, encoder, target)
    "table": ("mlp", "category"),
    "ids": ("lstm", "category"),
    "picture": ("cnn", "category"),
    "series": ("lstm", "category"),
    "vector": ("identity", "picture"),
}
CASES = [(o, f) for o in find.names("objectives") for f in SETTING]
each = pytest.mark.parametrize("name, form", CASES, ids=["-".join(c) for c in CASES])


def case(name, form):
    """(objective, model, batch of 8 rows): built, in evaluation mode, so that nothing but `prepare` draws."""
    encoder, target = SETTING[form]
    made = schema(form, target)
    (key,) = made.encoders()
    torch.manual_seed(0)
    parts = {"encoders": {key: spec_of(encoder, form)}, "fusion": "concat", "heads": {"y": made.targets["y"].head}, "decoders": {}}
    model = artifact.assemble_model(made, parts)
    objective = find.make("objectives", name)
    if objective.experience is not None:
        pytest.skip("it learns from rollouts: see tests/objectives and the grid")
    code = of_objective(name, encoder, form, made.targets["y"].head)
    if code is not None:
        with pytest.raises(Refusal) as refused:
            objective.build(model, made)
        (problem,) = refused.value.problems
        assert problem.code == code and problem.what and (problem.why or problem.fix)
        pytest.skip(f"refused: {problem.what}")
    objective.build(model, made)
    batch = made.encode(table(form, target)).batch(np.arange(8), torch.Generator().manual_seed(0))
    return objective.eval(), model.eval(), batch


def prepared(objective, batch, seed=0) -> Batch:
    return objective.prepare(batch, torch.Generator().manual_seed(seed))


@each
def test_the_loss_draws_nothing(name, form):
    objective, model, batch = case(name, form)
    ready = prepared(objective, batch)
    for player in objective.players:
        one, two = objective.loss(model, ready, player), objective.loss(model, ready, player)
        assert torch.equal(one.mean(), two.mean()) and torch.isfinite(one.mean())
    again = prepared(objective, batch)
    assert torch.equal(objective.loss(model, again, player).mean(), one.mean()), "prepare draws from its generator alone"


@each
def test_it_is_one_number_a_row_or_says_that_it_is_coupled(name, form):
    objective, model, batch = case(name, form)
    ready = prepared(objective, batch)
    for player in objective.players:
        loss = objective.loss(model, ready, player)
        if loss.coupled is not None:
            with pytest.raises(ValueError):
                loss.per_row()
            continue
        rows = loss.per_row()
        assert rows.shape == (8,) and all(t.total.shape == t.count.shape == (8,) for t in loss.terms.values())
        mean = sum(t.weight * t.total.sum() / t.count.sum().clamp(min=1) for t in loss.terms.values())
        assert torch.allclose(loss.mean(), mean)
        for i in (0, 7)[:DRAWS]:
            alone = objective.loss(model, ready.select(slice(i, i + 1)), player)
            assert torch.allclose(alone.per_row()[0], rows[i], rtol=1e-3, atol=1e-4), "a row's loss depends on others, and nothing says so"


@each
def test_a_rows_weight_scales_its_loss(name, form):
    objective, model, batch = case(name, form)
    ready = prepared(objective, batch)
    weight = torch.tensor([0.0, 2.0] * 4)
    for player in objective.players:
        plain = objective.loss(model, ready, player)
        if plain.coupled is None:
            assert torch.allclose(objective.loss(model, ready.but(weight=weight), player).per_row(), plain.per_row() * weight, rtol=1e-5, atol=1e-6)


@each
def test_an_unknown_target_teaches_nothing(name, form):
    objective, model, batch = case(name, form)
    if objective.heads == []:
        pytest.skip("it reads no target")
    nobody = prepared(objective, batch.but(known=batch.known | {"y": torch.zeros(8, dtype=torch.bool)}))
    for player in objective.players:
        loss = objective.loss(model, nobody, player)
        assert float(loss.mean()) == 0 and all((t.count == 0).all() for t in loss.terms.values())


@each
def test_gradients_reach_every_parameter_that_it_says_it_moves(name, form):
    objective, model, batch = case(name, form)
    ready = prepared(objective, batch)
    for player in objective.players:
        named = {id(p): n for part in (model, objective) for n, p in part.named_parameters()}
        moves = objective.parameters_of(model, player)
        found = torch.autograd.grad(objective.loss(model, ready, player).mean(), moves, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in found)
        still = [named[id(p)] for p, g in zip(moves, found) if g is None]
        assert all(n.startswith(("encoders.", "fusion.", "heads.")) for n in still), still  # the objective's own parts all move
        assert all(torch.isfinite(g).all() for g in found if g is not None)


@each
def test_it_is_saved_and_goes_on_as_it_was(name, form):
    objective, model, batch = case(name, form)
    again = find.make("objectives", json.loads(json.dumps(objective.spec)))
    again.build(model, schema(form, SETTING[form][1]))
    again.load_state_dict(copy.deepcopy(objective.state_dict()))
    again.eval()
    for player in objective.players:
        ours, theirs = (o.loss(model, prepared(o, batch), player).mean() for o in (objective, again))
        assert torch.equal(ours, theirs)


def test_every_form_is_tried():
    from small_data import INPUTS

    assert SETTING.keys() == INPUTS.keys() and all(t in TARGETS for _, t in SETTING.values())
