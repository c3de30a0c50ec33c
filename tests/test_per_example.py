import pytest
import torch
from torch import nn

from modelwright import find
from modelwright.forms import Batch, Encoded, Loss, Ragged, Tabular, Term
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.model import Encoder, Model
from modelwright.objective import Learner, Objective
from modelwright.per_example import choose, clipped_sum, no_dropout

B = 7


def learner_of(encoder):
    fusion, head, kind = find.make("fusions", "concat"), find.make("heads", "classes"), Category()
    kind.labels_ = ["a", "b", "c"]
    fusion.build({"x": encoder.width})
    head.build(kind, encoder.width, None)
    model = Model({"x": encoder}, fusion, {"y": head}, {"y": find.make("decoders", "argmax")})
    return Learner(model, find.make("objectives", "supervised")).train()


def table(**settings):
    kind = Category()
    kind.labels_ = list("abcd")
    encoder = find.make("encoders", {"mlp": {"width": 16, **settings}})
    encoder.build({"n": Number(), "m": Number(), "c": kind, "d": kind})
    return encoder, Tabular(torch.randn(B, 2), torch.rand(B, 2) > 0.2, torch.randint(0, 5, (B, 2)))


class Pictures(Encoder):
    width = 6

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 6, 3, stride=2, dilation=2, bias=False)
        self.grouped = nn.Conv2d(6, 6, 1, groups=3)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x, mask=None, state=None):
        z = self.grouped(self.b(self.norm(self.a(x).relu())))
        return Encoded(z.flatten(2).transpose(1, 2))


class Words(Encoder):
    """An embedding whose words repeat in a row, a padding word, and the same table once more as an output layer."""

    width = 12

    def __init__(self, tied):
        super().__init__()
        self.words = nn.Embedding(20, 12, padding_idx=0)
        self.own = nn.Linear(12, 12)
        self.mix = nn.Linear(12, 12)
        self.tied = tied

    def forward(self, x, mask=None, state=None):
        z = self.mix(self.own(self.words(x.values)).relu())
        if self.tied:
            z = z + (z @ self.words.weight.T).softmax(-1) @ self.words.weight + self.own(z)
        return Encoded(z, x.mask)


def cases():
    torch.manual_seed(0)
    encoder, x = table()
    yield "mlp", encoder, x
    yield "conv", Pictures(), torch.randn(B, 3, 9, 9)
    lengths = torch.randint(1, 9, (B,))
    values = torch.randint(1, 5, (B, 9))
    words = Ragged(values * (torch.arange(9) < lengths[:, None]), lengths)
    yield "words", Words(False), words
    yield "tied", Words(True), words


@pytest.mark.parametrize("name, encoder, x", cases(), ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("way", ["tapped", "vmap"])
@pytest.mark.parametrize("micro", [None, 3])
def test_agrees_with_one_row_at_a_time(name, encoder, x, way, micro):
    torch.manual_seed(1)
    learner = learner_of(encoder)
    batch = Batch({"x": x}, {"y": torch.arange(B) % 3}, weight=torch.linspace(0.1, 3, B))
    parameters = learner.objective.parameters_of(learner.model, "model")
    with no_dropout(learner):
        gradients = [torch.autograd.grad(learner(batch.select(slice(i, i + 1))).mean(), parameters, allow_unused=True) for i in range(B)]
        truth = torch.stack([torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(gs, parameters)]) for gs in gradients])
        norms = truth.norm(dim=1)
        clip = float(norms.median())
        sums, found, loss = clipped_sum(learner, parameters, batch, "model", clip, micro, way)
        expected = (truth * (clip / norms).clamp(max=1)[:, None]).sum(0)
        assert torch.allclose(found, norms, rtol=1e-4)
        assert (torch.cat([s.flatten() for s in sums]) - expected).norm() <= 1e-4 * expected.norm()
        assert torch.allclose(loss, learner(batch).per_row().mean(), rtol=1e-5)
    assert choose(learner, parameters, batch, "model") == ("tapped", "")


def test_frozen_parameters_and_no_rows():
    learner = learner_of(table()[0])
    learner.model.heads["y"].linear.weight.requires_grad_(False)
    parameters = learner.objective.parameters_of(learner.model, "model")
    batch = Batch({"x": table()[1]}, {"y": torch.arange(B) % 3})
    for way in ("tapped", "vmap", "loop"):
        sums, norms, loss = clipped_sum(learner, parameters, batch.select(slice(0, 0)), "model", 1.0, None, way)
        assert [s.shape for s in sums] == [p.shape for p in parameters] and not any(s.any() for s in sums) and len(norms) == 0 and loss == 0
        assert len(clipped_sum(learner, parameters, batch, "model", 1.0, None, way)[0]) == len(parameters)


@pytest.mark.parametrize("way", ["tapped", "vmap", "loop"])
def test_a_row_that_is_not_a_number_counts_nothing(way):
    torch.manual_seed(0)
    encoder, x = table(dropout=0.0)
    learner = learner_of(encoder)
    parameters = learner.objective.parameters_of(learner.model, "model")
    x.numbers[2], x.present[2] = float("nan"), True
    batch = Batch({"x": x}, {"y": torch.arange(B) % 3})
    rest = batch.select(torch.tensor([0, 1, 3, 4, 5, 6]))
    with_it, norms, _ = clipped_sum(learner, parameters, batch, "model", 1.0, None, way)
    without, _, _ = clipped_sum(learner, parameters, rest, "model", 1.0, None, way)
    assert not norms[2].isfinite()
    for a, b in zip(with_it, without):
        assert torch.allclose(a, b, atol=1e-6)


class Branching(Objective):
    """What torch cannot batch over rows: a branch on a value."""

    def loss(self, model, batch, player):
        out = model(batch)["y"]
        total, count = model.heads["y"].nll(out, batch.targets["y"], batch.knows("y"))
        return Loss({"y": Term(2 * total if float(out.detach()[0, 0]) > 0 else total, count)})


def test_falls_to_the_loop_and_says_why():
    learner = learner_of(table(dropout=0.0)[0])
    learner.objective = Branching()
    batch = Batch({"x": table()[1]}, {"y": torch.arange(B) % 3})
    rng = torch.get_rng_state()
    way, why = choose(learner, learner.objective.parameters_of(learner.model, "model"), batch, "model")
    assert way == "loop" and "tapped" in why and "vmap" in why
    assert torch.equal(rng, torch.get_rng_state())


def test_a_learner_in_bf16_has_its_gradients_in_fp32():
    torch.manual_seed(0)
    encoder, x = table(dropout=0.0)
    learner = learner_of(encoder)
    parameters = learner.objective.parameters_of(learner.model, "model")
    batch = Batch({"x": x}, {"y": torch.arange(B) % 3})
    expected = clipped_sum(learner, parameters, batch, "model", 1.0)
    learner.bf16 = True
    found = clipped_sum(learner, parameters, batch, "model", 1.0)
    assert learner.bf16 and torch.equal(found[1], expected[1])
