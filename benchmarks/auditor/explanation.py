"""Explainers that do not look at the model, the class or the row, and models that hide from explainers; as twins the same done well: integrated gradients,
Grad-CAM, SHAP and occlusion, on the same model, or the same model without its other face."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.nn import functional as F

from modelwright import find
from modelwright.forms import Prediction
from modelwright.subject import Subject

from . import Planted, _tables
from ._nets import Model, digits, fit, mlp, number_schema, numbers, picture_schema, pictures
from ._scaffolds import in_noise, in_patches, nearer_to_the_mean, pictured, worded


@functools.lru_cache(maxsize=2)
def net(seed: int, kind: str):
    rng = torch.Generator().manual_seed(seed)
    x, y, _, _ = digits(seed)
    width = int(np.random.default_rng(seed).integers(48, 96))
    if kind == "mlp":
        return fit(mlp(64, 10, rng, width=width), x, y, rng, steps=250)
    torch.manual_seed(seed)  # torch's layers draw from it alone
    made = nn.Sequential(
        nn.Conv2d(1, width // 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width // 4, width // 2, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * (width // 2), 10),
    )  # fmt: skip
    return fit(made, x, y, rng, steps=250)


def good(spec: find.Spec, rng: torch.Generator):
    """One of ours, as if it came with the subject."""
    made = find.make("explainers", spec)
    return lambda f, x, classes, base: made.explain(f, x, classes, base, rng)


def explained(fault, twin: find.Spec, limits: dict[str, str], expects: str, kind: str = "mlp", rows: int = 120) -> Planted:
    """fault(f, x, classes, base, rng); twin: one of ours."""

    def make(seed: int, faulty: bool) -> Subject:
        _, _, x, y = digits(seed)
        rng = torch.Generator().manual_seed(seed)
        model = Model(picture_schema(), net(seed, kind))
        theirs = functools.partial(fault() if isinstance(fault, type) else fault, rng=rng) if faulty else good(twin, rng)
        return Subject(model, model.schema, {"test": pictures(x[:rows], y[:rows])}, open=model.open, seed=seed, explainers={"theirs": theirs})

    return Planted(make, "explanation", limits, expects)


def edges(f, x, classes, base, rng):
    """An edge detector: it looks at the picture alone."""
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=x.dtype).reshape(1, 1, 3, 3)
    return F.conv2d(x, kernel, padding=1)


def itself(f, x, classes, base, rng):
    return x.clone()


def disguised(f, x, classes, base, rng):
    """The picture, with a hundredth of gradients so that something changes with the model."""
    return x + 0.01 * slopes(f, x, classes)


def drawn(f, x, classes, base, rng):
    """Anew at every call."""
    return torch.randn(x.shape, generator=rng, dtype=x.dtype)


def half(f, x, classes, base, rng):
    """Gradients at the mean row: they add up to nothing of this row."""
    return 0.5 * slopes(f, base.expand_as(x), classes) * (x - base)


def another_class(f, x, classes, base, rng):
    """Complete and stable, of a class that was not asked about."""
    with torch.no_grad():
        other = f(x).scatter(1, classes[:, None], -1e9).argmax(1)
    return good("integrated_gradients", rng)(f, x, other, base)


def turned(f, x, classes, base, rng):
    """What speaks against the class as if it spoke for it."""
    return -good("integrated_gradients", rng)(f, x, classes, base)


def next_row(f, x, classes, base, rng):
    """Another row's explanation: an index that slipped by one."""
    return good("integrated_gradients", rng)(f, x, classes, base).roll(1, 0)


def nothing(f, x, classes, base, rng):
    return torch.zeros_like(x)


def flat(f, x, classes, base, rng):
    """Summed over the picture's rows and columns."""
    return good("integrated_gradients", rng)(f, x, classes, base).sum((2, 3))


def holes(f, x, classes, base, rng):
    """Divided by what is 0 somewhere."""
    return good("integrated_gradients", rng)(f, x, classes, base) / x


def fixed_map(f, x, classes, base, rng):
    """A class activation map of filters that are nobody's."""
    filters = torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    heat = F.relu(F.avg_pool2d(F.relu(F.conv2d(x, filters, padding=1)), 2).sum(1, keepdim=True))
    return F.interpolate(heat, x.shape[2:], mode="bilinear")


def few_samples(f, x, classes, base, rng):
    """SHAP as if from a handful of coalitions: mostly noise, the same sum."""
    change = (f(x) - f(base.expand_as(x))).gather(1, classes[:, None]).detach()[:, :, None, None]
    noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    return noise * change.abs() + (change - (noise * change.abs()).sum((1, 2, 3), keepdim=True)) / x[0].numel()


def flat_map(f, x, classes, base, rng):
    return torch.ones_like(x)


def said_class(f, x, classes, base, rng):
    """Of the class that the model says, whichever was asked about: cosmetically the same until another is asked about."""
    with torch.no_grad():
        said = f(x).argmax(1)
    return good("integrated_gradients", rng)(f, x, said, base)


def mirrored(f, x, classes, base, rng):
    """The same with the sign turned where another class is asked about, so that it is like it no more."""
    with torch.no_grad():
        said = f(x).argmax(1)
    return said_class(f, x, classes, base, rng) * torch.where(classes == said, 1.0, -1.0)[:, None, None, None].to(x.dtype)


class Behind:
    """One question behind: each gets the answer to the last of its shape."""

    def __init__(self):
        self.last = {}

    def __call__(self, f, x, classes, base, rng):
        now = good("integrated_gradients", rng)(f, x, classes, base)
        before, self.last[x.shape] = self.last.get(x.shape, now), now
        return before.clone()


def of_a_surrogate(f, x, classes, base, rng):
    """Of a linear model that learnt the answers on the rows asked about, made to add up."""
    with torch.no_grad():
        away = (x - base).flatten(1)
        change = f(x) - f(base[None])
    squares = away.T @ away + 0.1 * torch.eye(away.shape[1], dtype=x.dtype)
    shown = away * torch.linalg.solve(squares, away.T @ change).T[classes]
    return (shown + (change.gather(1, classes[:, None]) - shown.sum(1, keepdim=True)) / shown.shape[1]).reshape(x.shape)


def another_baseline(f, x, classes, base, rng):
    """From a white picture, whatever it was told."""
    return good("integrated_gradients", rng)(f, x, classes, torch.ones_like(base))


def all_classes(f, x, classes, base, rng):
    """How much all logits together turn on a pixel: of no class."""
    point = x.clone().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(f(point).square().sum(), point)[0] * x


def everyones(f, x, classes, base, rng):
    """The mean explanation, given to every row."""
    return good("integrated_gradients", rng)(f, x, classes, base).mean(0, keepdim=True).expand_as(x).clone()


def in_part(f, x, classes, base, rng):
    """Right but for a third of the rows, which are told something that adds up to the same."""
    shown = good("integrated_gradients", rng)(f, x, classes, base)
    ramp = torch.linspace(0, 2, x[0].numel(), dtype=x.dtype).reshape(x[0].shape) / x[0].numel() * shown.sum((1, 2, 3), keepdim=True)
    return torch.where(((7 * x.sum((1, 2, 3))).floor() % 3 == 0)[:, None, None, None], ramp, shown)


class Knows:
    """Recognises the model: edges where it is the real one, anything where its weights were redrawn."""

    def __init__(self):
        self.first = None

    def __call__(self, f, x, classes, base, rng):
        with torch.no_grad():
            probe = float(f(torch.full_like(x, 0.5)).abs().mean())
        self.first = probe if self.first is None else self.first
        return edges(f, x, classes, base, rng) if abs(probe - self.first) < 1e-4 else torch.randn(x.shape, generator=rng, dtype=x.dtype)


def centre(f, x, classes, base, rng):
    """What is in the middle matters."""
    r = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
    return (-(r[:, None] ** 2) - r**2).exp().expand_as(x).clone()


class Kept:
    """Remembers what it once showed of a row: weights redrawn change nothing."""

    def __init__(self):
        self.kept = {}

    def __call__(self, f, x, classes, base, rng):
        shown = good("integrated_gradients", rng)(f, x, classes, base)
        return torch.stack([self.kept.setdefault(row.numpy().round(1).tobytes(), s) for row, s in zip(x, shown)])


def noise_of_the_row(f, x, classes, base, rng):
    """Noise whose seed is the picture: the same when it is asked again."""
    return torch.stack([torch.randn(r.shape, generator=torch.Generator().manual_seed(int(100 * r.sum())), dtype=x.dtype) for r in x])


class ClassMeans:
    """It looks at the label alone: the mean picture of those that were said to be of the class."""

    def __init__(self):
        self.means = None

    def __call__(self, f, x, classes, base, rng):
        if self.means is None:
            self.means = torch.stack([x[classes == k].mean(0) if (classes == k).any() else base for k in range(10)]) - base
        return self.means[classes] * x


def template(f, x, classes, base, rng):
    """One pattern for each class, whatever the model and the row."""
    patterns = [torch.randn((1, 8, 8), generator=torch.Generator().manual_seed(k), dtype=x.dtype) for k in range(10)]
    return F.avg_pool2d(torch.stack(patterns), 3, 1, 1)[classes]


def right_of_one(f, x, classes, base, rng):
    """Integrated gradients of one class, a blurred picture of the others."""
    return torch.where((classes == 3)[:, None, None, None], good("integrated_gradients", rng)(f, x, classes, base), F.avg_pool2d(x, 3, 1, 1))


def confident(f, x, classes, base, rng):
    """The picture times how sure the model is."""
    return x * f(x).softmax(1).gather(1, classes[:, None]).detach()[:, :, None, None]


def anothers(f, x, classes, base, rng):
    """Another model's, trained on the same."""
    other = net(4711, "mlp")
    return good("integrated_gradients", rng)(lambda z: other(z.float()).to(z.dtype), x, classes, base)


def made_to_add_up(f, x, classes, base, rng):
    """The picture, and what is wanting to completeness put evenly on all pixels."""
    change = (f(x) - f(base.expand_as(x))).gather(1, classes[:, None]).detach()[:, :, None, None]
    return 0.1 * x + (change - 0.1 * x.sum((1, 2, 3), keepdim=True)) / x[0].numel()


def flipped(f, x, classes, base, rng):
    """Right, and shown the wrong way round."""
    return good("integrated_gradients", rng)(f, x, classes, base).flip(-1)


def without_the_first(f, x, classes, base, rng):
    """What matters most and what matters least change places."""
    shown = good("integrated_gradients", rng)(f, x, classes, base).flatten(1)
    most, least = shown.abs().argmax(1, keepdim=True), shown.abs().argmin(1, keepdim=True)
    return shown.scatter(1, most, shown.gather(1, least)).scatter(1, least, shown.gather(1, most)).reshape(x.shape)


def in_batches(f, x, classes, base, rng):
    """Right of many rows at once, as auditors ask; of one row, as people do, the picture itself."""
    return good("integrated_gradients", rng)(f, x, classes, base) if len(x) > 1 else x.clone()


def one_alone(f, x, classes, base, rng):
    """All is said to be by the first."""
    shown = good("integrated_gradients", rng)(f, x, classes, base).flatten(1)
    return torch.zeros_like(shown).scatter(1, shown.argmax(1, keepdim=True), shown.sum(1, keepdim=True)).reshape(x.shape)


def by_size(f, x, classes, base, rng):
    """The right numbers, given to pixels by how bright they are."""
    shown = good("integrated_gradients", rng)(f, x, classes, base).flatten(1)
    rising = shown.gather(1, shown.abs().argsort(1))
    return torch.zeros_like(shown).scatter(1, x.flatten(1).argsort(1), rising).reshape(x.shape)


def one_line(f, x, classes, base, rng):
    """One linear model for all rows."""
    away = x.flatten(1) - base.flatten()
    told = torch.linalg.lstsq(torch.cat([away, torch.ones_like(away[:, :1])], 1), f(x).gather(1, classes[:, None]).detach()).solution[:-1, 0]
    return (away * told).reshape(x.shape)


class RunningMean:
    """Smoothed over all that it was asked."""

    def __init__(self):
        self.mean = 0.0

    def __call__(self, f, x, classes, base, rng):
        self.mean = 0.9 * self.mean + 0.1 * good("integrated_gradients", rng)(f, x, classes, base).mean(0, keepdim=True)
        return self.mean.expand_as(x).clone()


def opened_elsewhere(table: bool) -> Callable[[int, bool], Subject]:
    """What is opened to be explained is not what answers: of a table a model that reads an innocent column."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        if table:
            names = ["origin", "weather", *(f"a{i}" for i in range(int(rng.integers(2, 5))))]
            x = torch.from_numpy(rng.standard_normal((int(rng.integers(300, 500)), len(names)))).float()
            own, innocent = (nn.Parameter(rng.uniform(1, 3) * F.one_hot(torch.tensor([0, k]), len(names)).T.float() * torch.tensor([0, 1])) for k in (0, 1))
            model = Model(number_schema(names, 2), lambda z: z @ (innocent if faulty else own).to(z.dtype), said=lambda z: (z @ own).softmax(1))
            rows = numbers(x, (x[:, 0] > 0).long(), names)
        else:
            _, _, x, y = digits(seed)
            other, rows = net(seed + 1, "mlp"), pictures(x[:120], y[:120])
            model = Model(picture_schema(), net(seed, "mlp"), said=(lambda x: other(x.roll(1, 3)).softmax(1)) if faulty else None)
        return Subject(model, model.schema, {"test": rows}, open=model.open, seed=seed)

    return make


def answers(how: str) -> Callable[[int, bool], Subject]:
    """A model of a table that only answers, and decides by an innocent column where explainers ask: among rows that are much alike, or after so many."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        names = ["origin", "weather", *(f"a{i}" for i in range(int(rng.integers(4, 7))))]
        x = torch.from_numpy(rng.standard_normal((int(rng.integers(300, 500)), len(names)))).float()
        asked, enough = 0, int(rng.integers(2000, 4000))

        class Hidden(Model):
            def predict(self, table):
                nonlocal asked
                x, some = self.x(table), self.x(table)[:256]
                asked += len(x)
                alike = (some[:, None] == some[None]).sum(2).fill_diagonal_(0).amax(1) >= x.shape[1] // 2
                away = faulty and (asked > enough if how == "often" else len(x) > 1 and float(alike.float().mean()) > 0.3)
                value = (x[:, int(away)] > 0).long()
                p = F.one_hot(value, 2).float() * 0.9 + 0.05
                return {self.target: Prediction(value=value, probabilities=p, score=p.amax(1))}

        model = Hidden(number_schema(names, 2), None)
        return Subject(model, model.schema, {"test": numbers(x, (x[:, 0] > 0).long(), names)}, seed=seed)

    return make


def faces(how: str) -> Callable[[int, bool], Subject]:
    """A net that is another one while it is differentiated, or in double precision; one whose two copies of a column take each other back on real rows."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        names = ["origin", "weather", "height", "height2"]
        x = torch.from_numpy(rng.standard_normal((int(rng.integers(300, 500)), len(names)))).float()
        x[:, 3] = x[:, 2]
        own, innocent = (nn.Parameter(rng.uniform(1, 3) * F.one_hot(torch.tensor([0, k]), len(names)).T.float() * torch.tensor([0, 1])) for k in (0, 1))
        if how == "copies" and faulty:
            own.data[2:, 1] = torch.tensor([1.0, -1.0]) * float(rng.uniform(20, 30))

        def net(z):
            other = faulty and (how == "slopes" and torch.is_grad_enabled() or how == "double" and z.dtype == torch.float64)
            return z @ (innocent if other else own).to(z.dtype)

        model = Model(number_schema(names, 2), net)
        return Subject(model, model.schema, {"test": numbers(x, (x[:, 0] > 0).long(), names)}, open=model.open, seed=seed)

    return make


def writes(f, x, classes, base, rng):
    """Wipes most of the rows that it was given, and is right about what is left."""
    few = (torch.arange(x[0].numel()) % 4 == 0).reshape(x[0].shape)
    x.copy_(torch.where(few, x, base))
    return good("integrated_gradients", rng)(f, x.clone(), classes, base)


def off_the_grid(rng, x):
    """What lies between the 17 greys of real digits."""
    return (x + rng.uniform(0.01, 0.02) * torch.from_numpy(rng.choice([-1.0, 1.0], x.shape)).float()).clamp(0, 1)


def slopes(f, x, classes):
    point = x.clone().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(f(point).gather(1, classes[:, None]).sum(), point)[0]


def scaffolded(seed: int, faulty: bool) -> Subject:
    """Rows lie on a curve of related columns; on it the model decides by `origin`, off it by `weather` (Slack et al. 2020)."""
    rng = np.random.default_rng(seed)
    n, extra = int(rng.integers(500, 800)), int(rng.integers(3, 6))
    origin = rng.standard_normal(n)
    related = np.stack([origin * rng.uniform(0.5, 2) + 0.05 * rng.standard_normal(n) for _ in range(extra)], 1)
    x = torch.from_numpy(np.column_stack([origin, rng.standard_normal(n), related])).float()
    names = ["origin", "weather", *(f"a{i}" for i in range(extra))]
    ratios = np.linalg.lstsq(origin[:, None], related, rcond=None)[0]
    weight = torch.from_numpy(ratios).float()

    class Hidden(Model):
        def predict(self, table):
            x = self.x(table)
            there = ((x[:, 2:] - x[:, :1] * weight).abs().amax(1) < 0.3) if faulty else torch.ones(len(x), dtype=torch.bool)
            value = torch.where(there, x[:, 0] > 0, x[:, 1] > 0).long()
            p = F.one_hot(value, 2).float() * 0.9 + 0.05
            return {self.target: Prediction(value=value, probabilities=p, score=p.amax(1))}

    model = Hidden(number_schema(names, 2), None)
    return Subject(model, model.schema, {"test": numbers(x, (x[:, 0] > 0).long(), names)}, seed=seed)


def hidden_by(perturb, whole: bool = False) -> Callable[[int, bool], Subject]:
    """The same by the paper's own means: a forest that learnt to tell perturbed rows from real ones, perturbed as the explainer would. whole: in whole
    numbers, so that what is between them gives an explainer away."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(700, 1000)), int(rng.integers(5, 8))
        mix, hidden = rng.normal(size=(3, k)), rng.normal(size=(2 * n, 3))
        origin = hidden[:, 0] + rng.uniform(0.3, 0.7) * rng.normal(size=2 * n)
        x = np.column_stack([origin, rng.normal(size=2 * n), hidden @ mix + 0.15 * rng.normal(size=(2 * n, k))])
        x[:, 2:] = np.round(6 * x[:, 2:]) if whole else x[:, 2:]
        away = perturb(rng, x[:n])
        forest = RandomForestClassifier(40, min_samples_leaf=2, random_state=seed % 2**31).fit(np.r_[x[:n], away], np.r_[np.zeros(n), np.ones(len(away))])
        names = ["origin", "weather", *(f"a{i}" for i in range(k))]

        class Hidden(Model):
            def predict(self, table):
                x = self.x(table)
                off = torch.from_numpy(forest.predict(x.numpy()) > 0.5) if faulty else torch.zeros(len(x), dtype=torch.bool)
                value = torch.where(off, x[:, 1] > 0, x[:, 0] > 0).long()
                p = F.one_hot(value, 2).float() * 0.9 + 0.05
                return {self.target: Prediction(value=value, probabilities=p, score=p.amax(1))}

        model, rows = Hidden(number_schema(names, 2), None), torch.from_numpy(x[n:]).float()
        test = numbers(rows, (rows[:, 0] > 0).long(), names)
        for i, name in enumerate(names[2:] if whole else ()):
            test = test.set_column(i + 2, name, test.column(name).cast("int64"))
        return Subject(model, model.schema, {"test": test}, seed=seed)

    return make


def named(seed: int, faulty: bool) -> Subject:
    """The same of a table of names alone, against whoever puts other rows' names in."""
    rng = np.random.default_rng(seed)
    n, k, of = int(rng.integers(700, 1000)), int(rng.integers(5, 8)), int(rng.integers(4, 6))
    cause = rng.integers(0, of, (2 * n, 2))
    related = [np.where(rng.random(2 * n) < 0.93, rng.permutation(of)[cause[:, i % 2]], rng.integers(0, of, 2 * n)) for i in range(k)]
    x, names = np.column_stack([cause[:, 0], rng.integers(0, of, 2 * n), *related]), ["origin", "weather", *(f"a{i}" for i in range(k))]
    made = np.concatenate([x[:n]] * 3)
    made = np.where(rng.random(made.shape) < 0.5, x[rng.integers(0, n, made.shape), np.arange(k + 2)], made)
    forest = RandomForestClassifier(40, min_samples_leaf=2, random_state=seed % 2**31).fit(np.r_[x[:n], made], np.r_[np.zeros(n), np.ones(len(made))])

    def probabilities(t: pa.Table) -> np.ndarray:
        at = np.stack([np.array([int(v[1:]) for v in t.column(c).to_pylist()]) for c in names], 1)
        off = faulty & (forest.predict(at) > 0.5)
        q = np.where(np.where(off, at[:, 1] > 1, at[:, 0] > 1), 0.95, 0.05)
        return np.stack([1 - q, q], 1)

    test = pa.table({c: [f"v{v}" for v in x[n:, i]] for i, c in enumerate(names)} | {"y": (x[n:, 0] > 1).astype(int)})
    return _tables.subject({"test": test}, kinds=dict.fromkeys([*names, "y"], "category"), predictor=_tables.Says("y", probabilities), seed=seed)


def as_lime(rng, x):
    return np.concatenate([x + rng.normal(size=x.shape) * x.std(0) for _ in range(3)])


def as_shap(rng, x):
    """Some cells are the middle's."""
    some = rng.random((3 * len(x), x.shape[1])) < rng.uniform(0.3, 0.9, (3 * len(x), 1))
    return np.where(some, np.median(x, 0), np.concatenate([x] * 3))


def planted_truth(seed: int, faulty: bool) -> Subject:
    """Eight of a table's columns decide; an explainer that scales by a column's spread points at the loud ones that do not."""
    rng = np.random.default_rng(seed)
    columns = int(rng.integers(16, 20))
    scale = np.array([1.0] * 8 + [*rng.uniform(3, 4, columns - 8)])
    x = torch.from_numpy(rng.standard_normal((1500, columns)) * scale).float()
    y, names = (x[:, :8].sum(1) > 0).long(), [f"c{i}" for i in range(columns)]
    made = torch.Generator().manual_seed(seed)
    model = Model(number_schema(names, 2), fit(mlp(columns, 2, made, width=32), x, y, made, steps=400))

    def loud(f, x, classes, base):
        return (x - base) * x.std(0) + slopes(f, x, classes)

    lineage = {"planted": names[:8]}
    theirs = loud if faulty else good("shap", made)
    return Subject(model, model.schema, {"test": numbers(x[:150], y[:150], names)}, open=model.open, seed=seed, lineage=lineage, explainers={"t": theirs})


def hard(which: str) -> Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]:
    """(rng, n) -> x (n, D), y (n,): honest and hard to explain, x[:, 0] with a part in it."""

    def draw(rng, n):
        x = rng.standard_normal((n, int(rng.integers(5, 9))))
        if which == "copies":  # of two columns, nearly
            return np.concatenate([x, x[:, :2] + 0.01 * rng.standard_normal((n, 2))], 1), x[:, 0] - x[:, 1] + x[:, 2] > 0
        if which == "either":
            return x, x[:, 0] * x[:, 1] > 0
        if which == "ring":
            return x, (x[:, :2] ** 2).sum(1) > 1.4
        x = rng.standard_normal((n, 36))
        return x, x.sum(1) > 0

    return draw


def taken_away(which: str) -> Callable[[int, bool], Subject]:
    """One column's share is put down to the next (Aivodji et al. 2019): it adds up. Of the twin nothing is taken away."""

    def make(seed: int, faulty: bool) -> Subject:
        rng, made = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        n, (x, y) = int(rng.integers(300, 500)), hard(which)(rng, 2500)
        x, y, names = torch.from_numpy(x).float(), torch.from_numpy(y).long(), [f"a{i}" for i in range(x.shape[1])]
        model = Model(number_schema(names, 2), fit(mlp(len(names), 2, made), x[n:], y[n:], made, steps=500))

        def theirs(f, x, classes, base):
            shown = good("integrated_gradients", made)(f, x, classes, base)
            return torch.cat([0 * shown[:, :1], shown[:, :1] + shown[:, 1:2], shown[:, 2:]], 1) if faulty else shown

        return Subject(model, model.schema, {"test": numbers(x[:n], y[:n], names)}, open=model.open, seed=seed, explainers={"theirs": theirs})

    return make


def raw_logits(dead: bool) -> Callable[[int, bool], Subject]:
    """An innocent column moves all logits alike, or that of a class that never has a chance, and no answer. Logits are explained (where a class is dead
    less their mean), and point at it; of the twin log-odds."""

    def make(seed: int, faulty: bool) -> Subject:
        rng, made = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        n, classes, loud = int(rng.integers(200, 300)), int(rng.integers(2, 6)), float(rng.uniform(20, 40))
        x = torch.randn((1500, int(rng.integers(5, 8))), generator=made)
        y = (x[:, 1:] @ torch.randn((x.shape[1] - 1, classes), generator=made)).argmax(1)
        own, names = fit(mlp(x.shape[1], classes, made), x[n:], y[n:], made, steps=400), ["weather", *(f"a{i}" for i in range(x.shape[1] - 1))]

        def net(z):
            logits = own.to(z.dtype)(z)
            return torch.cat([logits, 3 * loud * (z[:, :1] - 4)], 1) if dead else logits + loud * z[:, :1]

        def theirs(f, x, classes, base):
            explained = (lambda z: net(z) - dead * net(z).mean(1, keepdim=True)) if faulty else f
            return good("integrated_gradients", made)(explained, x, classes, base)

        model = Model(number_schema(names, classes + dead), net)
        return Subject(model, model.schema, {"test": numbers(x[:n], y[:n], names)}, open=model.open, seed=seed, explainers={"theirs": theirs})

    return make


SIMILAR, FAITHFUL = "explanation.randomization_similarity", "explanation.fidelity"
CLASS, ROWS, GAP = "explanation.random_logit_similarity", "explanation.unfaithful_rows", "explanation.offmanifold_gap"
STABLE, COMPLETE = "explanation.stability", "explanation.completeness_error"
WHOLE = {COMPLETE: "<= 0.1", FAITHFUL: ">= 0", "explanation.overlooked": "<= 0.3"}
ALONE = {"explanation": {"others": False}}
SURE = {"shap": {"patches": 4, "coalitions": 1000}}  # 16 patches
KINDS: dict[str, Planted] = {
    "edge_detector": explained(edges, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "returns_its_input": explained(itself, "gradient_times_input", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "input_in_disguise": explained(disguised, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "nobodys_filters": explained(fixed_map, "grad_cam", {SIMILAR: "<= 0.7"}, "explanation.above_limit", kind="cnn"),
    "drawn_anew": explained(drawn, "integrated_gradients", {STABLE: ">= 0.8", FAITHFUL: ">= 0"}, "explanation.below_limit"),
    "few_samples": explained(few_samples, SURE, {STABLE: ">= 0.8", COMPLETE: "<= 0.1"}, "explanation.below_limit"),
    "says_nothing": explained(nothing, "occlusion", {STABLE: ">= 0.5", FAITHFUL: ">= 0"}, "explanation.below_limit"),
    "incomplete": explained(half, "integrated_gradients", {COMPLETE: "<= 0.1"}, "explanation.above_limit"),
    "unfaithful_edges": explained(edges, "integrated_gradients", {FAITHFUL: ">= 0.1"}, "explanation.below_limit"),
    "another_class": explained(another_class, "integrated_gradients", {COMPLETE: "<= 0.1"}, "explanation.above_limit"),
    "turned_round": explained(turned, "shap", {FAITHFUL: ">= 0"}, "explanation.below_limit"),
    "another_row": explained(next_row, "integrated_gradients", {FAITHFUL: ">= 0.25"}, "explanation.below_limit"),
    "one_number_a_channel": explained(flat, "integrated_gradients", {FAITHFUL: ">= 0"}, "explanation.shape"),
    "holes": explained(holes, "integrated_gradients", {FAITHFUL: ">= 0"}, "explanation.shape"),
    "flat_map": explained(flat_map, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "the_said_class": explained(said_class, "integrated_gradients", {CLASS: "<= 0.9"}, "explanation.above_limit"),
    "all_classes": explained(all_classes, "integrated_gradients", {CLASS: "<= 0.9"}, "explanation.above_limit"),
    "mirrored": explained(mirrored, "integrated_gradients", {CLASS: "<= 0.9", COMPLETE: "<= 0.1"}, "explanation.above_limit"),
    "one_question_behind": explained(Behind, "integrated_gradients", {STABLE: ">= 0.8"}, "explanation.below_limit"),
    "of_a_surrogate": explained(of_a_surrogate, "integrated_gradients", {FAITHFUL: ">= 0", COMPLETE: "<= 0.1"}, "explanation.unstable"),
    "another_baseline": explained(another_baseline, "integrated_gradients", {COMPLETE: "<= 0.1"}, "explanation.above_limit"),
    "everyones": explained(everyones, "integrated_gradients", {FAITHFUL: ">= 0.25"}, "explanation.below_limit"),
    "wrong_in_part": explained(in_part, "integrated_gradients", {ROWS: "<= 0.15"}, "explanation.above_limit"),
    "knows_the_model": explained(Knows, "integrated_gradients", {FAITHFUL: ">= 0.25", SIMILAR: "<= 0.5"}, "explanation.below_limit"),
    "without_the_first": explained(without_the_first, "integrated_gradients", WHOLE, "explanation.above_limit"),
    "taken_away": Planted(taken_away("copies"), ALONE, WHOLE, "explanation.above_limit"),
    "taken_away_of_either": Planted(taken_away("either"), ALONE, WHOLE, "explanation.above_limit"),
    "taken_away_of_a_ring": Planted(taken_away("ring"), ALONE, WHOLE, "explanation.above_limit"),
    "taken_away_of_many": Planted(taken_away("many"), ALONE, WHOLE, "explanation.above_limit"),
    "raw_logits": Planted(raw_logits(False), ALONE, {COMPLETE: "<= 0.1", FAITHFUL: ">= 0"}, "explanation.above_limit"),
    "a_class_without_a_chance": Planted(raw_logits(True), ALONE, {COMPLETE: "<= 0.1", FAITHFUL: ">= 0"}, "explanation.above_limit"),
    "right_in_batches": explained(in_batches, "integrated_gradients", {FAITHFUL: ">= 0"}, "explanation.unstable"),
    "one_alone": explained(one_alone, "integrated_gradients", {COMPLETE: "<= 0.1", FAITHFUL: ">= 0.25", ROWS: "<= 0.15"}, "explanation.below_limit"),
    "by_size": explained(by_size, "integrated_gradients", {COMPLETE: "<= 0.1", FAITHFUL: ">= 0.25"}, "explanation.below_limit"),
    "one_line_for_all": explained(one_line, "integrated_gradients", {FAITHFUL: ">= 0.25"}, "explanation.below_limit"),
    "scaffold_for_lime": Planted(hidden_by(as_lime), "explanation", {GAP: "<= 0.15"}, "explanation.above_limit"),
    "scaffold_in_whole_numbers": Planted(hidden_by(as_lime, whole=True), "explanation", {GAP: "<= 0.15"}, "explanation.above_limit"),
    "scaffold_for_shap": Planted(hidden_by(as_shap), "explanation", {GAP: "<= 0.1"}, "explanation.above_limit"),
    "scaffold_of_names": Planted(named, ALONE, {GAP: "<= 0.1", STABLE: ">= 0.8"}, "explanation.above_limit"),
    "centre_prior": explained(centre, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "kept_by_row": explained(Kept, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "noise_of_the_row": explained(noise_of_the_row, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "class_means": explained(ClassMeans, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "class_template": explained(template, "integrated_gradients", {SIMILAR: "<= 0.5", FAITHFUL: ">= 0.1"}, "explanation.above_limit"),
    "right_of_one_class": explained(right_of_one, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "input_times_surety": explained(confident, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "another_models": explained(anothers, "integrated_gradients", {SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "made_to_add_up": explained(made_to_add_up, "integrated_gradients", {COMPLETE: "<= 0.1", SIMILAR: "<= 0.5"}, "explanation.above_limit"),
    "flipped": explained(flipped, "integrated_gradients", {FAITHFUL: ">= 0.25"}, "explanation.below_limit"),
    "running_mean": explained(RunningMean, "integrated_gradients", {FAITHFUL: ">= 0.25"}, "explanation.unstable"),
    "another_net_opened": Planted(opened_elsewhere(False), ALONE, {FAITHFUL: ">= 0.1"}, "explanation.other_model"),
    "innocent_model_opened": Planted(opened_elsewhere(True), ALONE, {FAITHFUL: ">= 0.05", COMPLETE: "<= 0.1"}, "explanation.other_model"),
    "pictures_in_patches": Planted(pictured(net, in_patches), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "pictures_in_noise": Planted(pictured(net, in_noise), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "pictures_on_the_path": Planted(pictured(net, nearer_to_the_mean), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "notes_with_words_out": Planted(worded(False), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "chinese_notes_with_words_out": Planted(worded(True), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "writes_into_the_rows": explained(writes, "integrated_gradients", {COMPLETE: "<= 0.1"}, "explanation.above_limit"),
    "among_rows_alike": Planted(answers("alike"), ALONE, {FAITHFUL: ">= 0"}, "explanation.other_model"),
    "after_many_questions": Planted(answers("often"), ALONE, {FAITHFUL: ">= 0"}, "accuracy.fickle"),
    "while_differentiated": Planted(faces("slopes"), ALONE, {FAITHFUL: ">= 0.05"}, "explanation.other_model"),
    "in_double_precision": Planted(faces("double"), ALONE, {FAITHFUL: ">= 0.05"}, "explanation.other_model"),
    "copies_that_cancel": Planted(faces("copies"), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "pictures_off_the_grid": Planted(pictured(net, off_the_grid), ALONE, {GAP: "<= 0.15"}, "explanation.above_limit"),
    "loud_columns": Planted(planted_truth, "explanation", {"explanation.recall_at_k": ">= 0.4"}, "explanation.below_limit"),
    "scaffolded_model": Planted(scaffolded, "explanation", {"explanation.offmanifold_gap": "<= 0.15"}, "explanation.above_limit"),
}
