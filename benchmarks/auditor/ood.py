"""Nets that do not know what they have not seen, and what looks like knowing: digits they never learnt, and other things."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from modelwright.subject import Subject

from . import Planted
from ._nets import Model, digits, fit, mlp, picture_schema, pictures


def subject(seed: int, blind: bool, strange) -> Subject:
    """Trained on some digits; strange(x): what is out of distribution. blind: the features keep nothing but the picture's brightness."""
    rng = torch.Generator().manual_seed(seed)
    a, b, x, y = digits(seed)
    net = fit(mlp(64, 10, rng, width=96), a, b, rng, steps=250)
    features = (lambda x: torch.randn(len(x), 8, generator=rng)) if blind else (lambda x: F.relu(net[1](x.flatten(1))))
    model = Model(picture_schema(), net, features)
    tables = {
        "validation": pictures(x[:300], y[:300]),
        "test": pictures(x[300:600], y[300:600]),
        "ood": pictures(strange(x[600:797], seed), y[600:797]),
    }
    return Subject(model, model.schema, tables, open=model.open, seed=seed)


def noise(x, seed):
    """Far: the same pixels in no order."""
    rng = np.random.default_rng(seed)
    return torch.stack([p.flatten()[torch.from_numpy(rng.permutation(64))].reshape(p.shape) for p in x])


def bright(x, seed):
    """Told by brightness alone: a detector that does it is no better than a light meter."""
    return (x * 0.3 + 0.7).clamp(0, 1)


KINDS: dict[str, Planted] = {
    "random_features": Planted(lambda s, f: subject(s, f, noise), "ood", {"ood.auroc": ">= 0.8"}, "ood.below_limit"),
    "no_better_than_trivial": Planted(lambda s, f: subject(s, False, bright if f else noise), "ood", {"ood.gain_over_trivial": ">= 0.05"}, "ood.below_limit"),
}
