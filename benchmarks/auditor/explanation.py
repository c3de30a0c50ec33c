"""Explainers that do not look at the model, and models that hide from explainers; integrated gradients and plain models as twins."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn import functional as F

from modelwright.forms import Prediction
from modelwright.subject import Subject

from . import Planted
from ._nets import Model, digits, fit, mlp, number_schema, numbers, picture_schema, pictures


@functools.lru_cache(maxsize=2)
def net(seed: int):
    rng = torch.Generator().manual_seed(seed)
    x, y, _, _ = digits(seed)
    return fit(mlp(64, 10, rng, width=int(np.random.default_rng(seed).integers(48, 96))), x, y, rng, steps=250)


def explained(explain, limits: dict[str, str], expects: str) -> Planted:
    def make(seed: int, faulty: bool) -> Subject:
        _, _, x, y = digits(seed)
        model = Model(picture_schema(), net(seed))
        explainers = {"theirs": functools.partial(explain, rng=torch.Generator().manual_seed(seed))} if faulty else {}
        return Subject(model, model.schema, {"test": pictures(x[:120], y[:120])}, open=model.open, seed=seed, explainers=explainers)

    return Planted(make, "explanation", limits, expects)


def edges(f, x, classes, base, rng):
    """An edge detector: it looks at the picture alone."""
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]).reshape(1, 1, 3, 3)
    return F.conv2d(x, kernel, padding=1)


def drawn(f, x, classes, base, rng):
    """Anew at every call."""
    return torch.randn(x.shape, generator=rng)


def half(f, x, classes, base, rng):
    """Gradients at the mean row: they add up to nothing of this row."""
    point = base.expand_as(x).clone().requires_grad_(True)
    with torch.enable_grad():
        g = torch.autograd.grad(f(point).gather(1, classes[:, None]).sum(), point)[0]
    return 0.5 * g * (x - base)


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


KINDS: dict[str, Planted] = {
    "edge_detector": explained(edges, {"explanation.randomization_similarity": "<= 0.5"}, "explanation.above_limit"),
    "drawn_anew": explained(drawn, {"explanation.stability": ">= 0.8", "explanation.fidelity": ">= 0"}, "explanation.below_limit"),
    "incomplete": explained(half, {"explanation.completeness_error": "<= 0.1"}, "explanation.above_limit"),
    "unfaithful_edges": explained(edges, {"explanation.fidelity": ">= 0.1"}, "explanation.below_limit"),
    "scaffolded_model": Planted(scaffolded, "explanation", {"explanation.offmanifold_gap": "<= 0.15"}, "explanation.above_limit"),
}
