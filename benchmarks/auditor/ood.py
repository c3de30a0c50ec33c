"""Nets that do not know what they have not seen, and what looks like knowing: digits they never learnt, and other things."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional as F

from modelwright.subject import Subject

from . import Planted, _tables
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


def upside_down(x, seed):
    """Neither brightness nor contrast nor roughness tells it."""
    return x.flip(2)


def bright(x, seed):
    """Told by brightness alone: a detector that does it is no better than a light meter."""
    return (x * 0.3 + 0.7).clamp(0, 1)


def table(told: str):
    """A detector of one trivial thing in a table (its furthest number, its empty cells), whose twin knows how the columns hang together."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(400, 700)), int(rng.integers(5, 8))
        mix = rng.normal(size=(2, k))
        inverse = np.linalg.pinv(mix) @ mix
        x = {s: rng.normal(size=(n, 2)) @ mix + 0.2 * rng.normal(size=(n, k)) for s in ("validation", "test", "ood")}
        if not faulty:
            x["ood"] = np.stack([rng.permutation(c) for c in x["ood"].T], 1)
        elif told == "one":
            x["ood"][:, 1] += 2.5 * x["ood"][:, 1].std()
        elif told == "digits":
            x["ood"] = x["ood"].round(1)
        elif told == "empty":
            x["ood"][rng.random((n, k)) < 0.4] = np.nan
        else:
            x["ood"][np.arange(n), rng.integers(0, k, n)] *= 9
        names = [f"v{i}" for i in range(k)]

        def probabilities(t: pa.Table) -> np.ndarray:
            v = np.stack([t.column(c).to_numpy() for c in names], 1)
            strange = {"empty": np.isnan(v).sum(1), "one": np.abs(v[:, 1]), "digits": 5 * (v == v.round(1)).all(1)}
            strange = strange[told] if told in strange else np.nanmax(np.abs(v), 1) - 4
            strange = strange if faulty else np.abs(v - v @ inverse).sum(1) - 1
            q = np.where(np.nan_to_num(v[:, 0]) > 0, 1, -1) * 0.49 / (1 + np.maximum(strange, 0)) + 0.5
            return np.stack([1 - q, q], 1)

        cells = lambda x: {c: pa.array(x[:, i], from_pandas=True) for i, c in enumerate(names)}  # noqa: E731
        splits = {s: pa.table(cells(v) | {"y": (np.nan_to_num(v[:, 0]) > 0).astype(int)}) for s, v in x.items()}
        return _tables.subject(splits, kinds={c: "number" for c in names} | {"y": "category"}, predictor=_tables.Says("y", probabilities), seed=seed)

    return make


def company(seed: int, faulty: bool) -> Subject:
    """Features of the batch that a row comes in: all strange rows come together."""
    found = subject(seed, False, upside_down)
    model = found.predictor
    own = model.of_features
    if faulty:
        model.of_features = lambda x: own(x).mean(0).expand(len(x), -1) + 1e-3 * own(x)
    return found


def one_again(seed: int, faulty: bool) -> Subject:
    """One strange picture, over and over: the strangest to the model."""
    found = subject(seed, False, upside_down)
    if faulty:
        strange, usual = (found.predictor.of_features(found.predictor.x(found.splits[s])) for s in ("ood", "validation"))
        furthest = int((strange - usual.mean(0)).norm(dim=1).argmax())
        found.splits["ood"] = found.splits["ood"].take(pa.array([furthest] * 150))
    return found


def marked(seed: int, faulty: bool) -> Subject:
    """Another scanner's mark in a corner, told by that corner."""
    found = subject(seed, False, upside_down)
    if faulty:
        x = digits(seed)[2][600:797].clone()
        x[:, 0, 0, 7] = 0.8
        found.splits["ood"] = pictures(x, torch.zeros(len(x)).long())
        found.predictor.of_features = lambda x: torch.cat([x[:, 0, 0, 7:], torch.ones(len(x), 1)], 1) + 1e-3 * x.flatten(1)[:, :2]
    return found


GAIN = {"ood.gain_over_trivial": ">= 0.05"}
KINDS: dict[str, Planted] = {
    "random_features": Planted(lambda s, f: subject(s, f, noise), "ood", {"ood.auroc": ">= 0.8"}, "ood.below_limit"),
    "no_better_than_trivial": Planted(lambda s, f: subject(s, False, bright if f else upside_down), "ood", GAIN, "ood.below_limit"),
    "told_by_roughness": Planted(lambda s, f: subject(s, False, noise if f else upside_down), "ood", GAIN, "ood.below_limit"),
    "the_company_of_a_row": Planted(company, "ood", {"ood.auroc": ">= 0.65"}, "ood.below_limit"),
    "one_picture_again": Planted(one_again, "ood", {"ood.auroc": ">= 0.65"}, "ood.no_interval"),
    "a_mark_in_the_corner": Planted(marked, "ood", GAIN, "ood.below_limit"),
    "one_column": Planted(table("one"), "ood", GAIN, "ood.below_limit"),
    "how_numbers_are_written": Planted(table("digits"), "ood", GAIN, "ood.below_limit"),
    "furthest_number": Planted(table("furthest"), "ood", GAIN, "ood.below_limit"),
    "empty_cells": Planted(table("empty"), "ood", GAIN, "ood.below_limit"),
}
