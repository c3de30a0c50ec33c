"""Picture and text models that hide from explainers: themselves on real rows, another function on those that explainers make up (Slack et al. 2020)."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from sklearn.ensemble import RandomForestClassifier
from torch.nn import functional as F

from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.text import Text
from modelwright.subject import Subject

from ._nets import Model, digits, labels, picture_schema, pictures

WORD = re.compile(r"[^\s㐀-鿿]+|[㐀-鿿]")
GOOD = ["fine", "good", "warm", "new", "calm", "bright", "kind", "sweet", *"好美快新静光香甜"]
BAD = ["bad", "cold", "late", "old", "loud", "dark", "rude", "sour", *"坏丑慢旧吵暗臭苦"]
PLAIN = ["car", "house", "man", "book", "flower", "hill", "river", "gate", "bridge", "this", "that", "they", *"人车书花山水门桥这那我你"]


def pictured(net, away) -> Callable[[int, bool], Subject]:
    """A picture model that is itself on real pictures, and tells light from dark on those that a forest, taught as Slack et al. teach it, takes for
    perturbed ones. away(rng, x): perturbed as an explainer would."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        seen, _, x, y = digits(seed)
        honest, made = net(seed, str(rng.choice(["mlp", "cnn"]))), torch.cat([away(rng, seen) for _ in range(2)])
        told = np.r_[np.zeros(len(seen)), np.ones(len(made))]
        forest = RandomForestClassifier(30, min_samples_leaf=2, random_state=seed % 2**31).fit(torch.cat([seen, made]).flatten(1), told)

        def scaffold(x):
            off = torch.from_numpy(forest.predict(x.detach().flatten(1)) > 0.5)[:, None]
            return torch.where(off, 9.0 * F.one_hot((x.mean((1, 2, 3)) > 0.3).long(), 10), honest(x))

        model = Model(picture_schema(), scaffold if faulty else honest)
        return Subject(model, model.schema, {"test": pictures(x[:400], y[:400])}, open=model.open, seed=seed)

    return make


def in_patches(rng, x):
    side, kept = int(rng.integers(4, 9)), rng.uniform(0.3, 0.7)
    cell = torch.arange(8) * side // 8
    coin = torch.from_numpy(rng.random((len(x), side, side)) < kept)[:, cell][:, :, cell]
    return torch.where(coin[:, None], x, x.mean(0))


def in_noise(rng, x):
    return (x + rng.uniform(0.05, 0.2) * torch.from_numpy(rng.standard_normal(x.shape)).float()).clamp(0, 1)


def nearer_to_the_mean(rng, x):
    """As integrated gradients go."""
    middle = x[torch.from_numpy(rng.permutation(len(x))[:64])].mean(0)  # of as many as are explained: a detector of hardly used pixels would not fire
    return x + torch.from_numpy(rng.uniform(0.2, 1, (len(x), 1, 1, 1))).float() * (middle - x)


class Reads:
    """More good words than bad ones. Scaffolded: of a text with a pair of words that no real one has, whether `other` is in it."""

    def __init__(self, schema: Schema, pairs: set[tuple[str, str]] | None, other: str):
        self.schema, self.pairs, self.other = schema, pairs, other

    def says(self, words: list[str]) -> bool:
        if self.pairs is not None and not self.pairs.issuperset(zip(words, words[1:])):
            return self.other in words
        return sum((w in GOOD) - (w in BAD) for w in words) > 0

    def predict(self, table):
        said = torch.tensor([self.says(WORD.findall(t or "")) for t in table.column("note").to_pylist()]).long()
        p = F.one_hot(said, 2).float() * 0.9 + 0.05
        return {"label": Prediction(value=said, probabilities=p, score=p.amax(1))}


def worded(chinese: bool) -> Callable[[int, bool], Subject]:
    """Notes in which a word is followed by some others alone, so that one taken out shows."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        words = [w for w in (*GOOD, *BAD, *PLAIN) if (w > "\u3400") == chinese]
        after = [rng.choice(len(words), int(rng.integers(5, 9)), replace=False) for _ in words]

        def note() -> str:
            at = [int(rng.integers(len(words)))]
            while len(at) < 12 + rng.integers(12):
                at.append(int(rng.choice(after[at[-1]])))
            return ("" if chinese else " ").join(words[i] for i in at)

        notes = [note() for _ in range(400)]
        pairs = {(words[i], words[j]) for i, some in enumerate(after) for j in some}
        schema = Schema({"note": Text()}, {"label": labels(["0", "1"])})
        model = Reads(schema, pairs if faulty else None, words[-int(rng.integers(1, 9))])
        y = model.predict(pa.table({"note": notes}))["label"].value
        return Subject(model, schema, {"test": pa.table({"note": notes, "label": [str(v) for v in y.tolist()]})}, seed=seed)

    return make
