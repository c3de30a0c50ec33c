"""The GAN: losses against closed forms, who moves on whose turn, a distribution that is known, and the whole life of a generator."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

import modelwright as mw
from modelwright import find
from modelwright.artifact import assemble_model
from modelwright.data.dataset import Dataset
from modelwright.data.schema import Schema
from modelwright.data.streams import Rows
from modelwright.errors import Refusal
from modelwright.forms import Batch
from modelwright.learn import checkpoint, loop
from modelwright.learn.probe import probe
from modelwright.objectives.gan import Critic, sloped
from modelwright.per_example import clipped_sum
from modelwright.settings import Settings
from modelwright.strategy import Context


def stage(pictures: np.ndarray, steps=20, width=8, folder=None, lr=1e-3, batch_size=16, head=8, strategies=(), **gan):
    """pictures: (N, C, H, W) uint8"""
    kind, noise = find.make("kinds", "picture"), find.make("kinds", {"noise": 4})
    kind.size_, kind.channels_ = list(pictures.shape[2:]), pictures.shape[1]
    schema = Schema({"z": noise}, {"image": kind})
    torch.manual_seed(0)
    parts = {"encoders": {"z": "identity"}, "fusion": "concat", "heads": {"image": {"picture": {"width": head}}}, "decoders": {}}
    n = len(pictures)
    data = Dataset(n, {"z": {}}, {"image": {"values": pictures, "known": np.ones(n, bool)}}, {"z": noise}, {"image": kind})
    objective = find.make("objectives", {"gan": {"width": width, **gan}})
    s = Settings(**objective.learning(n) | {"device": "cpu", "precision": "fp32", "lr": lr, "batch_size": batch_size, "threads": 1, "keep": "last"})
    s.weight_decay = s.weight_decay or 0.0
    context = Context(schema, n, batch_size, steps, 0, data)
    made = [find.make("strategies", x) for x in strategies]
    return loop.Stage("train", assemble_model(schema, parts), objective, made, Rows(data, batch_size, 0), context, s, steps, folder=folder)


def pictures(n=64, size=8):
    return np.random.default_rng(0).integers(0, 256, (n, 1, size, size), np.uint8)


class Plane(nn.Module):
    """D(x) = w x + b, whose gradient is w everywhere."""

    def __init__(self, n):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.w, self.b = nn.Parameter(torch.randn(n, generator=g)), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return x.flatten(1) @ self.w + self.b


def ready(**gan):
    s = stage(pictures(), **gan)
    parts = loop.assemble(s)
    parts.objective.critic = Plane(64)
    batch = s.stream.data.batch(np.arange(6), torch.Generator().manual_seed(2))
    batch.known["image"][2] = False
    with torch.no_grad():
        d_real = parts.objective.critic(batch.targets["image"])
        d_fake = parts.objective.critic(parts.model.predict(batch)["image"].value)
    slope = float(parts.objective.critic.w.detach().square().sum()) / 4  # by x in [0, 1] to x in [-1, 1]
    return parts, batch, d_real.double().numpy(), d_fake.double().numpy(), slope


@pytest.mark.parametrize("form", ["relativistic", "non_saturating"])
def test_losses_are_those_of_the_papers_on_a_plane(form):
    parts, batch, d_real, d_fake, slope = ready(loss=form, penalty=0.7)
    if form == "relativistic":
        critic = np.log1p(np.exp(d_fake - d_real)) + 0.35 * 2 * slope
        model = np.log1p(np.exp(d_real - d_fake))
    else:
        critic = np.log1p(np.exp(-d_real)) + np.log1p(np.exp(d_fake)) + 0.35 * slope
        model = np.log1p(np.exp(-d_fake))
    for player, expected in (("critic", critic), ("model", model)):
        loss = parts.learner(batch, player)
        np.testing.assert_allclose(loss.per_row().detach(), expected * (np.arange(6) != 2), rtol=1e-5)
        assert float(loss.mean().detach()) == pytest.approx(expected[np.arange(6) != 2].mean(), rel=1e-5)  # the row without a picture counts nothing
        doubled = parts.learner(batch.but(weight=torch.full((6,), 2.0)), player)
        torch.testing.assert_close(doubled.per_row(), 2 * loss.per_row())


def test_the_penalty_is_the_slope_of_each_row_and_can_be_descended():
    torch.manual_seed(0)
    critic, x = Critic(2, [9, 8], 4).double(), torch.rand(3, 2, 9, 8, dtype=torch.float64)
    value, slope = sloped(critic, x)
    for i in range(3):
        row = x[i : i + 1].clone().requires_grad_()
        (g,) = torch.autograd.grad(critic(row).sum(), row)
        assert float(slope[i].detach()) == pytest.approx(float(g.square().sum()) / 4, rel=1e-9)
        assert float(value[i].detach()) == pytest.approx(float(critic(row).detach()), rel=1e-9)
    w = critic.last.weight
    (found,) = torch.autograd.grad(slope.sum(), w)
    with torch.no_grad():
        for j in (0, 17):
            ends = []
            for step in (1e-5, -1e-5):
                w[0, j] += step
                ends.append(float(sloped(critic, x)[1].sum().detach()))
                w[0, j] -= step
            assert float(found[0, j]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("player, moves", [("critic", "critic"), ("model", "model")])
def test_only_the_one_whose_turn_it_is_moves(player, moves):
    s = stage(pictures())
    parts = loop.assemble(s)
    before = {"critic": checkpoint.snapshot(parts.objective.critic), "model": checkpoint.snapshot(parts.model)}
    loop.step(s, parts, next(s.stream.batches(parts.model)), player)
    after = {"critic": checkpoint.snapshot(parts.objective.critic), "model": checkpoint.snapshot(parts.model)}
    for who in before:
        same = all(torch.equal(v, after[who][k]) for k, v in before[who].items())
        assert same == (who != moves)
    assert not parts.objective.state_dict().keys() & parts.model.state_dict().keys()


@pytest.mark.parametrize("form", ["relativistic", "non_saturating"])
def test_rows_are_not_coupled_and_no_buffer_is_written(form):
    s = stage(pictures(), loss=form)
    parts = loop.assemble(s)
    facts = probe(parts, s.stream.data.batch(np.arange(8), torch.Generator().manual_seed(0)))
    for player, f in facts.players.items():
        assert f.separable and not f.coupled and not f.buffers, f.why
        assert all(name.startswith("objective.critic" if player == "critic" else "model.") for name in f.moves)
    assert facts.players["model"].still == ["model.heads.image.log_sd"]  # of the likelihood, which nobody asks here


def test_private_gradients_of_the_critic_are_those_of_rows_alone():
    s = stage(pictures())
    parts = loop.assemble(s)
    batch = s.stream.data.batch(np.arange(4), torch.Generator().manual_seed(0))
    sums = [clipped_sum(parts.learner, parts.parameters["critic"], batch, "critic", 0.1, way=way)[0] for way in ("loop", "vmap")]
    for a, b in zip(*sums, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_generator_finds_a_normal_distribution():
    """Pictures of one pixel, N(0.55, 0.12^2): the critic must be fooled in mean and spread."""
    x = np.random.default_rng(0).normal(0.55, 0.12, 4000)
    s = stage(np.clip(x * 255, 0, 255).astype(np.uint8).reshape(-1, 1, 1, 1), steps=700, lr=2e-3, batch_size=64, width=8, head=8)
    fitted = loop.fit(s)
    made = fitted.model.predict(Batch({"z": torch.randn(4000, 4, generator=torch.Generator().manual_seed(1))}))["image"].value.flatten().numpy()
    assert made.mean() == pytest.approx(0.55, abs=0.03)
    assert made.std() == pytest.approx(0.12, abs=0.03)


def test_a_run_cut_at_a_checkpoint_goes_on_to_the_same_bits(tmp_path):
    whole = loop.fit(stage(pictures(), steps=40, strategies=["average"]))

    class Cut(Exception):
        pass

    def cut(line):
        if line["step"] == 25:
            raise Cut

    s = stage(pictures(), steps=40, strategies=["average"], folder=tmp_path)
    s.settings.checkpoint_minutes, s.log = 1e-6, cut
    with pytest.raises(Cut):
        loop.fit(s)
    resumed = loop.fit(stage(pictures(), steps=40, strategies=["average"], folder=tmp_path))
    for a, b in ((whole.model, resumed.model), (whole.objective.critic, resumed.objective.critic)):
        for k, v in a.state_dict().items():
            assert torch.equal(v, b.state_dict()[k]), k


@pytest.mark.parametrize("columns, target, code", [
    ({"image": "picture", "digit": "ignore"}, "image", "data.no_inputs"),
    ({"image": "picture", "digit": "category", "z": "noise"}, "image", "gan.inputs"),
    ({"image": "ignore", "z": "noise"}, "digit", "gan.target"),
])  # fmt: skip
def test_what_cannot_be_learned_is_refused_before_training(columns, target, code):
    data, stages = {"source": "sklearn://digits", "columns": columns}, [{"train": {"objective": "gan"}}]
    with pytest.raises(Refusal) as e:
        mw.plan(mw.task_of({"data": data, "target": target, "stages": stages}))
    assert code in [p.code for p in e.value.problems]


def test_from_a_task_to_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    columns = {"image": "picture", "digit": "ignore", "z": {"noise": 8}}
    train = {"objective": "gan", "steps": 12, "batch_size": 16, "precision": "fp32", "threads": 1}
    task = mw.task_of({"data": {"source": "sklearn://digits", "columns": columns}, "target": "image", "stages": [{"train": train}]})
    run = mw.run(task, tmp_path / "run")
    assert run.stages[0]["history"] == [] and run.headline["metric"] == "rmse"
    assert "predicted and true" in run.headline["details"]["note"]
    report = (tmp_path / "run" / "report.html").read_text()
    assert report.count("data:image/png;base64") == 40
    model, rows = mw.load(tmp_path / "run"), pa.table({"wanted": range(600)})
    a, b, c = (model.predict(rows, torch.Generator().manual_seed(seed))["image"].value for seed in (1, 1, 2))
    assert a.shape == (600, 1, 8, 8) and torch.equal(a, b) and not torch.equal(a, c)
    assert len(torch.unique(a.flatten(1), dim=0)) == 600  # no noise twice, though predicted in parts
    cells = model.answer(rows, torch.Generator().manual_seed(1)).column("image").to_pylist()
    np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(cells[7]))) / 255, a[7, 0], atol=1 / 255)
