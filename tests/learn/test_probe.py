import copy

import pytest
import torch
from torch import nn

from modelwright import find
from modelwright.data.schema import Schema
from modelwright.forms import Batch, Encoded, Loss, Tabular, Term
from modelwright.gradient import Plain
from modelwright.learn.loop import Assembled, Stage, divide
from modelwright.learn.probe import accumulates, check, dry_run, probe
from modelwright.model import Encoder, Model
from modelwright.objective import Learner, Objective
from modelwright.settings import Settings
from modelwright.strategy import Context, Strategy

ROWS = 8


class Net(Encoder):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x, mask=None, state=None):
        return Encoded(self.layers(x.numbers).unsqueeze(1))


class Centred(nn.Module):
    """Hand-written batch statistics."""

    def forward(self, x):
        return x - x.mean(0)


class Two:
    classes = 2


class Needy(Strategy):
    spec = {"private": {}}
    needs = frozenset({"separable", "no_buffers", "known_rows"})
    claims = frozenset({"gradient"})


class Mixing(Strategy):
    spec = {"mixing": {}}
    claims = frozenset({"gradient"})

    def batch(self, batch, learner, player, rng):
        x = batch.inputs["table"]
        return batch.but(inputs={"table": Tabular(0.7 * x.numbers + 0.3 * x.numbers[torch.randperm(len(batch), generator=rng)], x.present, x.codes)})


class Noisy(Strategy):
    spec = {"noisy": {}}
    calls = 0

    def batch(self, batch, learner, player, rng):
        self.calls += 1
        x = batch.inputs["table"]
        return batch.but(inputs={"table": Tabular(x.numbers + torch.randn(x.numbers.shape, generator=rng), x.present, x.codes)})


def model_of(*layers, width=6):
    torch.manual_seed(0)
    fusion, head = find.make("fusions", "concat"), find.make("heads", "classes")
    fusion.build({"table": width})
    head.build(Two(), width, None)
    return Model({"table": Net(*layers)}, fusion, {"y": head}, {"y": find.make("decoders", "argmax")})


def parts_of(model, objective=None):
    objective = objective or find.make("objectives", "supervised")
    return Assembled(Learner(model, objective), None, {}, {}, torch.Generator().manual_seed(3))


def batch_of(rows=True):
    g = torch.Generator().manual_seed(1)
    x = Tabular(torch.randn(ROWS, 5, generator=g), torch.ones(ROWS, 5, dtype=torch.bool), torch.zeros(ROWS, 0, dtype=torch.int64))
    return Batch({"table": x}, {"y": torch.arange(ROWS) % 2}, rows=torch.arange(ROWS) if rows else None)


def test_batch_norm_is_refuted_and_named_and_layer_norm_is_not():
    facts = probe(parts_of(model_of(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6))), batch_of())
    seen = facts.players["model"]
    assert not seen.separable and seen.where == "model.encoders.table.layers.1 (BatchNorm1d)"
    assert [b.rsplit(".")[-1] for b in seen.buffers] == ["running_mean", "running_var", "num_batches_tracked"]
    separable, buffers = check(facts, [Needy()])
    assert separable.code == buffers.code == "plan.conflict" and "BatchNorm1d" in separable.what and "group norm" in separable.fix
    facts = probe(parts_of(model_of(nn.Linear(5, 6), nn.LayerNorm(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 6))), batch_of())
    assert facts.players["model"].separable and not facts.players["model"].buffers and check(facts, [Needy()]) == []


def test_statistics_behind_a_layer_that_starts_at_zero_are_found():
    last = nn.Linear(6, 6)
    nn.init.zeros_(last.weight)
    seen = probe(parts_of(model_of(nn.Linear(5, 6), Centred(), nn.ReLU(), last)), batch_of()).players["model"]
    assert not seen.separable and "Centred" in seen.where and not seen.buffers


def test_group_norm_and_recurrent_dropout_are_not_refuted():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(1, 6, 2, batch_first=True, dropout=0.5)

        def forward(self, x):
            return self.rnn(x.unsqueeze(-1))[0][:, -1]

    model = model_of(Recurrent(), nn.GroupNorm(2, 6))
    assert probe(parts_of(model), batch_of()).players["model"].separable
    assert model.encoders["table"].layers[0].rnn.dropout == 0.5


def test_a_hook_that_mixes_rows_is_named_and_noise_is_not():
    parts = parts_of(model_of(nn.Linear(5, 6)))
    seen = probe(parts, batch_of(), [Noisy(), Mixing()]).players["model"]
    assert not seen.separable and seen.where == "strategy mixing"
    assert probe(parts, batch_of(), [Noisy()]).players["model"].separable


class Spread(Objective):
    """A penalty over the batch, hidden in a row's loss or honest."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest

    def loss(self, model, batch, player):
        out = model(batch)["y"]
        nll, count = model.heads["y"].nll(out, batch.targets["y"], batch.knows("y"))
        if self.honest:
            return Loss({"y": Term(nll, count)}, coupled=out.var(0, unbiased=False).sum())
        return Loss({"y": Term(nll + out.mean(), count)})


@pytest.mark.parametrize("honest", [True, False])
def test_coupling_in_the_objective(honest):
    seen = probe(parts_of(model_of(nn.Linear(5, 6)), Spread(honest)), batch_of()).players["model"]
    assert not seen.separable and seen.coupled == honest and seen.where == "objective Spread"


def test_which_parameters_get_a_gradient():
    model = model_of(nn.Linear(5, 6))
    model.unused = nn.Parameter(torch.zeros(2))
    model.heads["y"].linear.bias.requires_grad_(False)
    seen = probe(parts_of(model), batch_of()).players["model"]
    assert seen.still == ["model.unused"]
    assert seen.moves == ["model.encoders.table.layers.0.weight", "model.encoders.table.layers.0.bias", "model.heads.y.linear.weight"]


class Aside(Objective):
    """Learns something of its own from what the encoders say."""

    def build(self, model, schema):
        self.net = nn.Linear(5, 1)

    def loss(self, model, batch, player):
        total = self.net(model.encode(batch)["table"].pooled()).square().squeeze(1)
        return Loss({"own": Term(total, torch.ones(len(batch)))})


def test_a_stage_that_teaches_the_model_nothing_is_refused():
    aside = Aside()
    aside.build(None, None)
    (found,) = check(probe(parts_of(model_of(nn.Identity(), width=5), aside), batch_of()), [])
    assert found.code == "plan.idle" and found.why and found.fix
    assert check(probe(parts_of(model_of(nn.Linear(5, 5), width=5), aside), batch_of()), []) == []


def test_nothing_is_changed():
    parts = parts_of(model_of(nn.Linear(5, 6), nn.BatchNorm1d(6)).eval())
    state, modes = copy.deepcopy(parts.learner.state_dict()), {n: m.training for n, m in parts.learner.named_modules()}
    rng, own = torch.get_rng_state(), parts.rng.get_state()
    noisy = Noisy()
    probe(parts, batch_of(), [noisy])
    assert noisy.calls == 0 and all(torch.equal(v, state[k]) for k, v in parts.learner.state_dict().items())
    assert modes == {n: m.training for n, m in parts.learner.named_modules()}
    assert torch.equal(rng, torch.get_rng_state()) and torch.equal(own, parts.rng.get_state())
    assert all(p.grad is None for p in parts.learner.parameters())


def test_rows_must_be_known():
    facts = probe(parts_of(model_of(nn.Linear(5, 6))), batch_of(rows=False))
    assert [p.code for p in check(facts, [Needy()])] == ["plan.conflict"]


class Sparse(Strategy):
    """Half the head's weights are zero, and stay so."""

    spec = {"sparse": {}}

    def adapt(self, model, rng):
        self.mask = torch.rand(model.heads["y"].linear.weight.shape, generator=rng) < 0.5
        return model

    def finish(self, model):
        with torch.no_grad():
            model.heads["y"].linear.weight.mul_(self.mask)
        return model

    def holds(self, model):
        filled = int((model.heads["y"].linear.weight[~self.mask] != 0).sum())
        return f"{filled} weights that were to be zero are not" if filled else None


class Adapter(Strategy):
    spec = {"adapter": {}}

    def adapt(self, model, rng):
        model.extra = nn.Parameter(torch.zeros_like(model.heads["y"].linear.weight))
        return model

    def finish(self, model):
        with torch.no_grad():
            model.heads["y"].linear.weight.add_(model.extra)
        del model.extra
        return model


def test_the_dry_run_refuses_what_undoes_a_promise():
    model = model_of(nn.Linear(5, 6))

    def problems(*strategies):
        context = Context(Schema({}, {}), ROWS, 4, 10, 0)
        return dry_run(Stage("t", model, find.make("objectives", "supervised"), list(strategies), None, context, Settings(), 10))

    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    (found,) = problems(Adapter(), Sparse())
    assert found.code == "plan.conflict" and found.what == "adapter undoes sparse" and "sparse before adapter" in found.fix
    assert problems(Sparse(), Adapter()) == []
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and torch.equal(rng, torch.get_rng_state())
    (seats,) = problems(Needy(), Mixing())
    assert "private and mixing" in seats.what and "gradient" in seats.what


@pytest.mark.parametrize("layer, exact", [(nn.Identity(), True), (nn.LayerNorm(6), True), (nn.BatchNorm1d(6), False), (Centred(), False)])
def test_micro_batches_are_refused_where_they_would_not_add_up(layer, exact):
    """What the probe says, and what the gradients of two halves say."""
    parts, batch = parts_of(model_of(nn.Linear(5, 6), layer)), batch_of()
    found = accumulates(probe(parts, batch))
    assert [p.code for p in found] == [] if exact else ["plan.conflict"]
    parameters = list(parts.model.parameters())
    whole, halves = (divide(Plain().estimate(parts.learner.train(), parameters, batch, "model", micro)) for micro in (None, 4))
    same = all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, halves, strict=True))
    assert same == exact
    assert exact or type(layer).__name__ in found[0].what and found[0].fix
