"""Attacks against what is known exactly: linear classifiers, tiny nets by brute force; bounds against every point tried; and what the checks say."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelwright.audits import _attacks as a
from modelwright.audits import _corruptions as c
from modelwright.audits import _ensemble, _hidden, robustness
from modelwright.audits._ensemble import attack, self_test
from modelwright.audits.robustness import Robustness
from modelwright.data.schema import Schema
from modelwright.errors import refuse
from modelwright.find import make
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.layers.bounds import Box, NoBounds, ends, margins
from modelwright.registry import gate
from modelwright.subject import Subject


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def run(net, x, y, ball, steps=25, seed=0):
    right = net(x, torch.arange(len(x))).argmax(1) == y
    return attack(net, x, y, torch.arange(len(x)), ball, steps, seed, torch.zeros_like(right), right)


@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("linf", 0.15), ("l2", 0.3), ("l2", 0.6)])
def test_worst_cases_of_a_linear_classifier_are_found_exactly(norm, eps):
    weak = a.Weak(15, 5, rng(3))
    x = torch.randn(200, 15, generator=rng(4))
    y = weak.net(x, None).argmax(1)
    left, told, reasons = run(weak.net, x, y, a.Ball(norm, eps))
    truth = weak.survives(x, y, a.Ball(norm, eps))
    assert 0.1 < truth.float().mean() < 0.9
    assert (left != truth).sum() <= 2 and not (truth & ~left).any() and not reasons
    assert told["epsilon_reached"] == pytest.approx(eps, rel=1e-3)


def test_a_tiny_net_by_brute_force():
    generator = rng(5)
    w = [torch.randn(2, 16, generator=generator), torch.randn(16, generator=generator), torch.randn(16, 2, generator=generator)]
    net = lambda x, rows=None: F.relu(x @ w[0] + w[1]) @ w[2]  # noqa: E731
    x = torch.randn(80, 2, generator=generator)
    y = net(x).argmax(1)
    grid = torch.linspace(-1, 1, 61)
    points = 0.2 * torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    truth = torch.stack([(net(p + points).argmax(1) == k).all() for p, k in zip(x, y)])
    left, _, _ = run(net, x, y, a.Ball("linf", 0.2))
    assert 5 < truth.sum() < 75 and (left != truth).sum() <= 2  # a grid may miss a sliver, and an attack a corner


def test_targeted_dlr_is_its_definition():
    z, y, t = torch.randn(6, 5, generator=rng()), torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1, 2, 3, 4, 0, 3])
    for i in range(6):
        top = sorted(z[i].tolist(), reverse=True)
        expected = -(z[i, y[i]] - z[i, t[i]]) / (top[0] - (top[2] + top[3]) / 2)
        assert a.targeted_dlr(z, y, t)[i] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_stays_in_ball_and_bounds(norm):
    ball, x = a.Ball(norm, 0.3, 0.0, 1.0), torch.rand(50, 3, 4, 4, generator=rng())
    p = ball.project(x + torch.randn(x.shape, generator=rng(1)), x)
    assert ball.length(p - x).max() <= 0.3 + 1e-5 and p.min() >= 0 and p.max() <= 1


def test_self_test_holds_over_seeds():
    assert all(self_test(s) for s in range(3))


NETS = {
    "mlp": (nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
    "conv": (
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        (1, 8, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_bounds_hold_at_every_point_tried(name):
    torch.manual_seed(0)
    net, shape = NETS[name]
    net.eval()
    x, eps = torch.rand(4, *shape, generator=rng()), 0.05
    y = net(x).argmax(1)
    bound = margins(lambda x, rows: net(x), x - eps, x + eps, torch.arange(4), y)
    low, high = ends(net(Box.of(x - eps, x + eps)))
    for _ in range(200):
        corner = x + eps * (torch.randint(0, 2, x.shape, generator=rng(_)) * 2 - 1) * (1 if _ % 2 else torch.rand(x.shape, generator=rng(_)))
        z = net(corner)
        assert (z >= low - 1e-5).all() and (z <= high + 1e-5).all() and (a.margin(z, y) >= bound - 1e-5).all()


def test_bounds_of_a_linear_map_are_exact_and_of_the_unknown_there_are_none():
    w, b = torch.randn(3, 5, generator=rng()), torch.randn(3, generator=rng(1))
    x, y = torch.randn(10, 5, generator=rng(2)), torch.zeros(10, dtype=torch.long)
    bound = margins(lambda x, rows: F.linear(x, w, b), x - 0.1, x + 0.1, None, y)
    exact = torch.stack([(w[0] - w[k]) @ x.T + b[0] - b[k] - 0.1 * (w[0] - w[k]).abs().sum() for k in (1, 2)]).amin(0)
    assert torch.allclose(bound, exact, atol=1e-4)
    for strange in (lambda x, rows: torch.sin(x), lambda x, rows: F.layer_norm(x, (5,)), lambda x, rows: x.softmax(1) @ w.T):
        with pytest.raises(NoBounds):
            margins(strange, x - 0.1, x + 0.1, None, y)


def test_a_proof_that_an_attack_breaks_is_none(monkeypatch):
    """Certified rows are attacked too, some of them: bounds that promise too much are found out."""
    model = Two()
    monkeypatch.setattr("modelwright.audits.robustness.margins", lambda logits, low, high, rows, y: torch.ones(len(y)))
    found = by_name(Robustness(linf=0.5), Subject(model, model.schema, {"test": table_of(model)}, open=model.open))
    line = found["robustness.certified_accuracy"]
    assert line.value is None and "attack moved" in line.details["why"] and line.reasons == ["robustness.no_bounds"]


class Straight(torch.autograd.Function):
    """Steps forwards, and backwards as if there were none; or a slope of something else altogether."""

    @staticmethod
    def forward(ctx, x, levels):
        ctx.levels = levels
        return (x * levels).round() / levels if levels else x.clone()

    @staticmethod
    def backward(ctx, g):
        return (g if ctx.levels else g.flip(-1)), None


HIDDEN = {
    "straight_through": lambda net: lambda x, rows=None: net(Straight.apply(x, 4)),
    "another_slope": lambda net: lambda x, rows=None: net(Straight.apply(x, 0)),
    "one_hot": lambda net: lambda x, rows=None: F.one_hot(net(x).argmax(1), 5).float() + net(x).softmax(1) - net(x).softmax(1).detach(),
    "clipped": lambda net: lambda x, rows=None: net(x).clamp(-0.05, 0.05),
    "quantised": lambda net: lambda x, rows=None: net((x * 4).round() / 4),
    "shattered": lambda net: lambda x, rows=None: net(x + 0.02 * torch.sin(5000 * x)),
    "saturated": lambda net: lambda x, rows=None: torch.tanh(60 * net(x)),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_gradients_are_told(name):
    weak = a.Weak(15, 5, rng(3))
    x = torch.rand(120, 15, generator=rng(4))
    net = HIDDEN[name](lambda x: weak.net(x, None))
    y = net(x).argmax(1)
    left, _, reasons = run(net, x, y, a.Ball("linf", 0.06), steps=15)
    truth = weak.survives(x, y, a.Ball("linf", 0.06))
    assert "robustness.masked_gradients" in reasons or left.sum() <= truth.sum() + 4


class Partly(torch.autograd.Function):
    """x, and backwards the slopes of the first inputs alone: right along themselves."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * (torch.arange(g.shape[1]) < 3)


def test_slopes_of_some_inputs_alone_are_wrong():
    weak, x = a.Weak(15, 5, rng(3)), torch.rand(120, 15, generator=rng(4))
    y, checks = weak.net(x, None).argmax(1), {}
    for name, net in (("whole", weak.net), ("partly", lambda x, rows: weak.net(Partly.apply(x), rows))):
        checks[name] = _hidden.checked(net, x, y, torch.arange(120), a.Ball("linf", 0.06), rng())["wrong_gradients"]
    assert checks["whole"] < 0.02 and checks["partly"] > 0.9


def test_a_net_that_was_told_the_rows_is_special_about_them():
    """It keeps to its answer around them, with its own slopes or steep ones, and is the weak net everywhere else."""
    weak, x, rows = a.Weak(15, 5, rng(3)), torch.rand(200, 15, generator=rng(4)), torch.arange(200)
    y, ball = weak.net(x, None).argmax(1), a.Ball("linf", 0.1)

    def told(z, rows, smooth=False):
        away, which = torch.cdist(z if smooth else z.detach(), x, p=torch.inf).min(1)
        return weak.net(z, None) + 9.0 * F.one_hot(y[which], 5) * (torch.sigmoid((0.12 - away) * 200) if smooth else away < 0.12)[:, None]

    for net in (told, lambda z, rows: told(z, rows, smooth=True)):
        assert _hidden.special(net, x, y, rows, ball, rng()) > 0.1
        assert _hidden.special(net, x[:64], y[:64], rows[:64], ball, rng()) > 0
    strong = a.Weak(15, 5, rng(3))
    strong.weight = strong.weight * torch.tensor([1.0] * 3 + [0.02] * 12)
    for net in (weak.net, strong.net):
        for seed in range(5):
            assert not _hidden.special(net, x, net(x, None).argmax(1), rows, a.Ball("linf", (0.02, 0.05, 0.1, 0.2, 0.3)[seed]), rng(seed))


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_slopes_that_go_while_they_are_asked_for(size):
    """Right at first, then none or turned: the attacks' failure shows nothing, however right the slopes were before."""
    weak, x, asked = a.Weak(15, 5, rng(3)), torch.rand(100, 15, generator=rng(4)), 0

    class Later(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            nonlocal asked
            asked += 1
            return g if asked < 60 else size * g

    _, told, reasons = run(lambda x, rows: weak.net(Later.apply(x), rows), x, weak.net(x, None).argmax(1), a.Ball("linf", 0.03), steps=15)
    assert "robustness.masked_gradients" in reasons and max(told["zero_gradients"], told["wrong_gradients"]) > 0.9


def test_no_answer_and_a_tie_are_lost():
    """A detector that answers nothing, or the same for all classes, once a row was touched."""
    x, y = torch.rand(20, 4, generator=rng()), torch.arange(20) % 3
    right = 5 * F.one_hot(y, 3).float()
    for instead in (torch.nan, 0.0, torch.inf):

        def net(z, rows, instead=instead):
            return torch.where((z - x[rows]).abs().amax(1, keepdim=True) > 1e-3, instead, right[rows]) + 0 * z.sum(1, keepdim=True)

        left, _, _ = run(net, x, y, a.Ball("linf", 0.1), steps=5)
        assert not left.any()


def test_honest_nets_hide_nothing():
    """Also where slopes turn within epsilon, as under piecewise linear encodings of numbers, and in half precision."""
    generator = rng(7)
    bumps = 0.3 * torch.randn(8, 32, 16, generator=generator)  # about a slope that all bins of a number share
    w = [((torch.randn(8, 1, 16, generator=generator) + bumps) / 8).flatten(0, 1), torch.randn(16, 3, generator=generator)]
    edges = torch.linspace(-2, 2, 33)
    plain = lambda x, rows=None: F.relu(x.repeat(1, 32) @ w[0]) @ w[1]  # noqa: E731
    binned = lambda x, rows=None: F.relu((((x[..., None] - edges[:-1]) / (edges[1] - edges[0])).clamp(0, 1).flatten(1)) @ w[0]) @ w[1]  # noqa: E731
    half = lambda x, rows=None: (F.relu(x.repeat(1, 32).half() @ w[0].half()) @ w[1].half()).float()  # noqa: E731
    x = torch.randn(100, 8, generator=generator)
    for net in (plain, binned, half):
        checks = _hidden.checked(net, x, net(x).argmax(1), torch.arange(100), a.Ball("linf", 0.1), rng())
        assert not _hidden.hidden(checks), checks


def by_name(audit, subject, slice=None):
    return {m.metric: m for m in audit.measure(subject) if m.slice == slice}


class Two:
    """A linear classifier of two classes on three numbers, as a Predictor that opens."""

    def __init__(self, noise=0.0):
        self.w, self.noise, self.rng = torch.tensor([2.0, -1.0, 0.5]), noise, rng()
        self.kinds = {n: Number(scale=False) for n in "abc"}
        for k in self.kinds.values():
            k.fit(pa.chunked_array([[0.0, 1.0]]))
        self.label = Category(["0", "1"])
        self.label.labels_ = ["0", "1"]
        self.schema = Schema(self.kinds, {"label": self.label})

    def _x(self, table):
        return torch.from_numpy(np.stack([table.column(n).to_numpy() for n in "abc"], 1)).float()

    def logits(self, x, rows):
        s = (x @ self.w[:, None]).squeeze(1) + self.noise * torch.randn(len(x), generator=self.rng)
        return torch.stack([-s, s], 1)

    def predict(self, table):
        x = torch.nan_to_num(self._x(table))
        p = self.logits(x, None).softmax(1)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}

    def open(self, target, table):
        opened = type(self)(self.noise)
        opened.x, opened.names = self._x(table), list("abc")
        return opened

    def features(self, x, rows):
        return x


def table_of(model, n=150):
    x = np.random.default_rng(0).standard_normal((n, 3))
    return pa.table({c: x[:, i] for i, c in enumerate("abc")} | {"label": [str(int(v > 0)) for v in x @ model.w.numpy()]})


def test_the_audit_on_a_table_gives_the_exact_share():
    model = Two()
    table = table_of(model)
    found = by_name(Robustness(linf=0.1), Subject(model, model.schema, {"test": table}, open=model.open))
    x = model._x(table)
    exact = float((x @ model.w).abs().ge(0.1 * (model.w.abs() * x.std(0, correction=0)).sum()).float().mean())
    assert found["robustness.linf_accuracy"].value == pytest.approx(exact, abs=0.01)
    certified = found["robustness.certified_accuracy"]
    assert certified.value == pytest.approx(exact, abs=0.01)  # bounds of a linear map are tight
    between = pytest.approx({"certified": certified.value, "attacked": found["robustness.linf_accuracy"].value})
    assert certified.details["robust_accuracy"] == found["robustness.linf_accuracy"].details["robust_accuracy"] == between
    assert not found["robustness.linf_accuracy"].reasons and found["robustness.corruption_accuracy"].value > 0.7


def test_epsilon_counts_in_standard_deviations_of_numbers_that_are_taken_as_they_stand():
    class Small(Two):
        def logits(self, x, rows):
            return super().logits(x * 100, rows)

    big, small = Two(), Small()
    table = table_of(big)
    tiny = pa.table({c: table.column(c).to_numpy() / 100 for c in "abc"} | {"label": table.column("label")})
    at = [by_name(Robustness(rows=60, corruptions=False), Subject(m, m.schema, {"test": t}, open=m.open)) for m, t in ((big, table), (small, tiny))]
    one, two = (found["robustness.linf_accuracy"].value for found in at)
    assert one == pytest.approx(two, abs=0.02) and 0.5 < one < 0.98


def test_a_net_that_bends_at_the_rows_hides_nothing():
    """As one does that embeds whole numbers in bins whose edges are values that occur."""
    x = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (64, 4))).float()
    net = lambda z, rows: torch.stack([-(s := (z + 0.9 * (z - z.round()).abs()).sum(1) + 0.5), s], 1)  # noqa: E731
    y, rows = net(x, None).argmax(1), torch.arange(64)
    assert not _hidden.hidden(_hidden.checked(net, x, y, rows, a.Ball("linf", 0.1), rng()))


def test_each_corruption_has_its_own_figure_and_the_whole_is_their_mean():
    model = Two()
    subject = Subject(model, model.schema, {"test": table_of(model)}, open=model.open)
    found = [m for m in Robustness(corruptions=True).measure(subject) if m.metric == "robustness.corruption_accuracy"]
    assert [m.slice for m in found] == [None, "corruption=noise", "corruption=rounding", "corruption=missing"]
    assert found[0].value == pytest.approx(np.mean([m.value for m in found[1:]])) and len({m.value for m in found}) > 2
    for m in found[1:]:
        assert m.value == pytest.approx(np.mean(m.details["accuracy_by_severity"]), abs=1e-4) and m.low < m.value < m.high
    policy = gate.parse({"robustness.corruption_accuracy@corruption=noise": ">= 0.5", "accuracy@sex=f": ">= 0.5"})
    assert gate.slices_of(policy) == ["sex=f"]  # the other is no slice of rows


def sorted_table(model):
    table = table_of(model, 256)
    return table.take(pa.array(np.argsort((model._x(table) @ model.w).numpy())))  # the surest of one class first


def test_operations_say_how_many_rows_and_they_are_drawn_from_all_of_a_sorted_table(monkeypatch):
    model = Two()
    table = sorted_table(model)
    each = 2 * 3 * 2 * 30 * (3 * 3 + 5)  # a multiplication and an addition for each of three weights, there and back
    monkeypatch.setattr(_ensemble, "WORK", 64 * each)
    found = by_name(Robustness(linf=0.1), Subject(model, model.schema, {"test": table}, open=model.open))
    line = found["robustness.linf_accuracy"]
    assert line.n == line.details["attacked"] == 64 and line.details["block"] == 8
    x = model._x(table)
    exact = float((x @ model.w).abs().ge(0.1 * (model.w.abs() * x.std(0, correction=0)).sum()).float().mean())
    assert found["robustness.certified_accuracy"].low < exact < found["robustness.certified_accuracy"].high
    labels = [table.column("label")[int(i)].as_py() for i in line.details["rows"].split()]
    assert len(labels) == 64 and 0.25 < labels.count("0") / 64 < 0.75


def test_who_watches_what_no_row_uses_is_attacked_without_traces():
    """An undefended net that answers as it did wherever a column is moved that is 0 in all rows, or a picture is none of 8 bits."""
    rng = torch.Generator().manual_seed(0)
    weak, x = a.Weak(20, 4, rng), torch.randn(128, 20, generator=rng)
    x[:, -1], rows = 0.0, torch.arange(128)
    y, ball = weak.net(x, rows).argmax(1), a.Ball("linf", 0.15)

    def watches(z, rows):
        return torch.where(z[:, -1:].abs() > 1e-3, 9.0 * torch.nn.functional.one_hot(y[rows], 4), weak.net(z, rows))

    left, told, _ = _ensemble.attack(watches, x, y, rows, ball, 20, 0, torch.zeros(128, dtype=torch.bool), torch.ones(128, dtype=torch.bool))
    hold = x.clone()
    weak.weight[:, -1] = 0.0  # the column that an attacker leaves alone
    assert (left == weak.survives(hold, y, ball)).float().mean() > 0.98 and told["lost_to"]["apgd_ce_traceless"] > 10
    grey = (255 * torch.rand(6, 1, 4, 4, generator=rng)).round() / 255
    tidy, box = a.traceless(grey, a.Ball("linf", 8 / 255, 0.0, 1.0)), a.Ball("linf", 8 / 255, 0.0, 1.0)
    moved = box.project(grey + 0.1 * torch.randn(grey.shape, generator=rng), grey).requires_grad_(True)
    made = tidy(moved, torch.arange(6))
    assert (255 * made - (255 * made).round()).abs().max() < 1e-3 and (made - grey).abs().max() <= 8 / 255 + 1e-6 and (made - moved).abs().max() < 1 / 255
    made.sum().backward()
    assert (moved.grad == 1).all() and a.traceless(torch.rand(6, 5), ball) is None


class Ticking:
    """A clock that goes on by a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1
        return self.now

    perf_counter = monotonic


def test_a_clock_costs_rows_and_never_strength_and_is_not_asked_again(monkeypatch):
    """Cut by the time: the rows of whole blocks, as they would have come out anyway; reproduced without a clock: the same."""
    model = Two()
    table = sorted_table(model)
    monkeypatch.setattr(_ensemble, "WORK", 128 * 2 * 3 * 2 * 6 * 14)

    def measured(seconds, repeat=None):
        subject = Subject(model, model.schema, {"test": table}, open=model.open, seconds=seconds, repeat=repeat)
        return by_name(Robustness(rows=128, steps=6, linf=0.1, l2=0.1), subject)

    whole = measured(1e9)["robustness.linf_accuracy"]
    with monkeypatch.context() as clock:
        ticking = Ticking()
        for part in (robustness, _ensemble):
            clock.setattr(part, "time", ticking)
        cut, none = measured(600), measured(10)
    lines = {k: m for k, m in cut.items() if m.value is not None}
    assert whole.n == 128 and "rows drawn" in cut["robustness.linf_accuracy"].method
    assert cut["robustness.linf_accuracy"].n % whole.details["block"] == 0 < cut["robustness.linf_accuracy"].n < 128
    for name in ("linf_accuracy", "l2_accuracy", "corruption_accuracy"):
        line = none[f"robustness.{name}"]
        assert line.value is None and line.reasons == ["robustness.budget"] and line.method == "not measured"
    again = measured(1e-9, {f"label:{k}": m.details for k, m in lines.items()})
    for k, m in lines.items():
        assert (again[k].value, again[k].low, again[k].high, again[k].n) == (m.value, m.low, m.high, m.n)
        assert again[k].details["rows"] == m.details["rows"]


class Ended(Two):
    """In a process that is ended after so many questions, for its time is spent."""

    left = 0

    def logits(self, x, rows):
        Ended.left -= 1
        if Ended.left < 0:
            raise refuse("audit.budget", "the model's code was ended: it was still at work when the time allowed was spent")
        return super().logits(x, rows)

    def open(self, target, table):
        opened = Ended()
        opened.x, opened.names = self._x(table), list("abc")
        return opened


def test_a_model_that_is_ended_meanwhile_keeps_what_was_measured_and_names_the_rest():
    model, names = Ended(), ("linf_accuracy", "l2_accuracy", "certified_accuracy", "corruption_accuracy")

    def asked(questions):
        Ended.left = questions
        return by_name(Robustness(rows=64, steps=5, linf=0.1, l2=0.1), Subject(model, model.schema, {"test": table_of(model)}, open=model.open))

    whole = asked(10**9)
    used, seen = 10**9 - Ended.left, set()
    for questions in np.linspace(0, used - 1, 12).astype(int):
        found = asked(int(questions))
        shown = [n for n in names if found[f"robustness.{n}"].value is not None]
        seen.add(tuple(shown))
        for name in names:
            line = found[f"robustness.{name}"]
            assert line.reasons == ([] if name in shown else ["robustness.budget"]), (questions, name, line.details)
            if name in shown and name != "corruption_accuracy":
                assert (line.value, line.n) == (whole[f"robustness.{name}"].value, whole[f"robustness.{name}"].n)
    assert () in seen and any("linf_accuracy" in shown and "corruption_accuracy" not in shown for shown in seen), seen


def test_random_answers_and_closed_models_show_nothing():
    model = Two(noise=0.5)
    found = by_name(Robustness(), Subject(model, model.schema, {"test": table_of(model)}, open=model.open))
    line = found["robustness.linf_accuracy"]
    assert "robustness.random" in line.reasons and line.low == 0 and found["robustness.certified_accuracy"].value is None
    closed = by_name(Robustness(), Subject(Two(), model.schema, {"test": table_of(model)}))
    assert closed["robustness.l2_accuracy"].value is None and closed["robustness.l2_accuracy"].reasons == ["robustness.no_gradients"]
    assert closed["robustness.corruption_accuracy"].value is not None


def test_a_model_that_draws_once_it_was_asked_often_is_random():
    class Later(Two):
        asked = 0

        def logits(self, x, rows):
            Later.asked += len(x)
            self.noise = 0.3 * (Later.asked > 3000)
            return super().logits(x, rows)

        def open(self, target, table):
            self.x, self.names = self._x(table), list("abc")
            return self

    model = Later()
    found = by_name(Robustness(corruptions=False), Subject(model, model.schema, {"test": table_of(model)}, open=model.open))
    assert "robustness.random" in found["robustness.linf_accuracy"].reasons and found["robustness.linf_accuracy"].low == 0


def test_corrupted_rows_are_asked_about_alone_too():
    class Centred(Two):
        def _x(self, table):
            x = torch.nan_to_num(super()._x(table))
            return x + 8 * x.mean(0)

    for model, reasons in ((Two(), []), (Centred(), ["robustness.batch_dependent"])):
        subject = Subject(model, model.schema, {"test": table_of(model)})
        found = by_name(Robustness(), subject)["robustness.corruption_accuracy"]
        assert found.reasons == reasons and (found.low == 0) == bool(reasons)


def test_declared_synonyms_in_english_and_chinese():
    swap, g = c.Synonyms({"film": ["movie"], "feature film": ["picture"], "好评": ["称赞"], "AI": ["machine"]}), np.random.default_rng(0)
    assert swap("Film, filming a feature film; AI", 1.0, g) == "Movie, filming a picture; Machine"
    assert swap("获得好评如潮，用AI写", 1.0, g) == "获得称赞如潮，用Machine写" and swap("film 好评", 0.0, g) == "film 好评"
    some = [swap("film", 0.4, g) for _ in range(200)].count("movie")
    assert 50 < some < 110
    assert "synonyms" not in c.of(Schema({}, {}), pa.table({}), {"a": ["b"]})  # there is no text
    for type in (pa.string(), pa.large_string()):
        assert {"typos", "synonyms"} <= c.of(Schema({"t": make("kinds", "text")}, {}), pa.table({"t": pa.array(["a film"], type)}), {"a": ["b"]}).keys()


def test_corruptions_of_text_and_tables():
    g = np.random.default_rng(0)
    assert c.variants("国家图书馆 A1", 1.0, g) == "國家图書馆 Ａ１"
    assert c.case("abC", 1.0, g) == "ABc" and c.looks("ace", 1.0, g) == "асе" and c.blanks("a b", 0.0, g) == "a b"
    assert c.typos("机器学习", 0.0, g) == "机器学习" and c.typos("hello world", 0.5, g) != "hello world"
    column = pa.chunked_array([[1, 2, None, 4]])
    out = c._noise(column, 1.0, 4.0, 1.0, 0.5, g)
    assert out.type == pa.int64() and out[2].as_py() is None and all(1 <= v.as_py() <= 4 for v in out if v.is_valid)
    p = g.random((16, 16, 3)).astype(np.float32)
    for name, change in c.PICTURES.items():
        far = [float(np.abs(change(p, s, np.random.default_rng(0)) - p).mean()) for s in range(5)]
        assert far[4] > far[0] > 0, name
