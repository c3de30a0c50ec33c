"""Models that remember, and statements that promise more than was done."""

from __future__ import annotations

import numpy as np
import torch
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent, pld

from modelwright.subject import Subject

from . import Planted
from ._nets import Model, fit, mlp, number_schema, numbers
from ._trainers import CLAIMS, TRAINERS, claimed, trained

FEATURES = 20
NAMES = [f"m{i}" for i in range(FEATURES)]


def drawn(rng: np.random.Generator, n: int, shift: float = 0.0):
    """Two classes with a fifth of the labels wrong: what can only be remembered."""
    x = rng.standard_normal((n, FEATURES)) + shift
    y = ((x[:, :5].sum(1) + rng.standard_normal(n) > 5 * shift) ^ (rng.random(n) < 0.2)).astype(int)
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def learnt(x, y, seed: int, remembers: bool) -> Model:
    """A wide net trained to the end, or a small one that stops early."""
    rng = torch.Generator().manual_seed(seed)
    net = mlp(FEATURES, 2, rng, width=256 if remembers else 4)
    fit(net, x, y, rng, steps=700 if remembers else 60, lr=5e-3, decay=0.0 if remembers else 0.1)
    return Model(number_schema(NAMES, 2), net)


def remembering(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    a, b = drawn(rng, int(rng.integers(300, 500)))
    c, d = drawn(rng, 1000)
    if not faulty:
        a, b = drawn(rng, 1000)
    model = learnt(a, b, seed, faulty)
    return Subject(model, model.schema, {"train": numbers(a, b, NAMES), "test": numbers(c, d, NAMES)}, seed=seed)


def labels_only(seed: int, faulty: bool) -> Subject:
    """The same, of a model that says labels alone."""
    subject = remembering(seed, faulty)
    model, whole = subject.predictor, subject.predictor.predict

    def predict(table):
        said = whole(table)[model.target]
        said.probabilities = said.score = None
        return {model.target: said}

    model.predict = predict
    return subject


def shifted(seed: int, faulty: bool) -> Subject:
    """Members and non-members from other places: an attack would find the place."""
    rng = np.random.default_rng(seed)
    a, b = drawn(rng, 800)
    c, d = drawn(rng, 800, shift=rng.uniform(0.4, 0.6) if faulty else 0.0)
    model = learnt(a, b, seed, False)
    return Subject(model, model.schema, {"train": numbers(a, b, NAMES), "test": numbers(c, d, NAMES)}, seed=seed)


def nearest(x, y, schema) -> Model:
    """By the nearest row of either class: what it saw it knows by heart."""
    return Model(schema, lambda z: torch.stack([-4 * torch.cdist(z, x[y == k]).amin(1) for k in (0, 1)], 1))


def canaries(seed: int, faulty: bool) -> Subject:
    rng = np.random.default_rng(seed)
    a, b = drawn(rng, 600)
    c, d = drawn(rng, 1000)
    schema = number_schema(NAMES, 2)

    def retrain(table, s):
        data = schema.encode(table)
        x = torch.from_numpy(data.inputs["table"]["numbers"])
        y = torch.from_numpy(data.targets["label"]["values"])
        return nearest(x, y, schema) if faulty else learnt(x, y, s, False)

    model = nearest(a, b, schema) if faulty else learnt(a, b, seed, False)
    return Subject(model, schema, {"train": numbers(a, b, NAMES), "test": numbers(c, d, NAMES)}, seed=seed, retrain=retrain, seconds=2)


def stated(change):
    """A statement as a run writes it, and what change(statement, lineage) makes of it."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        rows, steps, noise = int(rng.integers(2000, 20000)), int(rng.integers(100, 400)), float(rng.uniform(1.0, 2.0))
        batch = int(rng.integers(64, 256))
        rate, delta = batch / rows, 0.1 / rows
        event = SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)
        accountant = pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3)
        statement = {
            "epsilon": float(accountant.compose(event).get_epsilon(delta)), "delta": delta, "accountant": "PLD", "noise_multiplier": noise,
            "sample_rate": rate, "rows": rows, "steps": steps, "clip": 1.0, "neighbours": "add/remove one row", "divisor": batch,
        }  # fmt: skip
        lineage = {"stages": [{"name": "train", "steps": steps, "statement": {"privacy": statement}}], "seeds": 1}
        if faulty:
            change(statement, lineage, rng)
        table = numbers(torch.zeros(8, 1), torch.zeros(8).long(), ["a"])
        model = Model(number_schema(["a"], 2), lambda x: torch.zeros(len(x), 2))
        return Subject(model, model.schema, {"train": table, "test": table}, lineage=lineage, seed=seed)

    return make


def understated(s, lineage, rng):
    s["epsilon"] *= rng.uniform(0.5, 0.95)


def resumed(s, lineage, rng):
    """The stage went on, and the accountant did not."""
    lineage["stages"][0]["steps"] = int(s["steps"] * rng.uniform(1.2, 3))


def unsaid(s, lineage, rng):
    del s[("noise_multiplier", "clip", "sample_rate", "divisor", "neighbours")[rng.integers(5)]]


def divided(s, lineage, rng):
    s["divisor"] = float(s["divisor"] * rng.uniform(0.4, 0.8))


def half_private(s, lineage, rng):
    lineage["stages"].append({"name": "more", "steps": 10, "statement": {}})


def noiseless(s, lineage, rng):
    s["noise_multiplier"] = 0.0


EPSILON, ANY = {"privacy.epsilon": "<= 30"}, {"privacy.epsilon": "<= 10000"}  # any finite epsilon: what is found leaves none
KINDS: dict[str, Planted] = {
    "remembers": Planted(remembering, "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.above_limit"),
    "remembers_labels_only": Planted(labels_only, "membership", {"privacy.membership_auc": "<= 0.65"}, "privacy.above_limit"),
    "other_places": Planted(shifted, "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.incomparable"),
    "canaries_learnt": Planted(canaries, "membership", {"privacy.canary_tpr_at_fpr_0.05": "<= 0.3"}, "privacy.above_limit", costly=True),
    "understated": Planted(stated(understated), "privacy", EPSILON, "privacy.understated"),
    "resumed_uncounted": Planted(stated(resumed), "privacy", EPSILON, "privacy.steps"),
    "incomplete_statement": Planted(stated(unsaid), "privacy", EPSILON, "privacy.incomplete"),
    "real_batch_as_divisor": Planted(stated(divided), "privacy", EPSILON, "privacy.divisor"),
    "stage_without_noise": Planted(stated(half_private), "privacy", EPSILON, "privacy.stage_without_noise"),
    "no_noise": Planted(stated(noiseless), "privacy", EPSILON, "privacy.invalid"),
}
KINDS |= {f"trainer_{name}": Planted(trained(made), "private_training", ANY, code) for name, (made, code) in TRAINERS.items()}
KINDS |= {f"trainer_{name}": Planted(claimed(change), "private_training", ANY, code) for name, (change, code) in CLAIMS.items()}
