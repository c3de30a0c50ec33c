"""Models that remember, and statements that promise more than was done."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import torch
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent, pld
from sklearn.ensemble import ExtraTreesRegressor

from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.text import Text
from modelwright.subject import Subject

from . import Planted, _memories, _strangers, _tables
from ._nets import Model, fit, labels, mlp, number_schema, numbers
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


def known_by_heart(how: str):
    """A net that remembers little, beside a list of training rows: all of them, answered less surely than anything else; or a few, surely."""

    def make(seed: int, faulty: bool) -> Subject:
        subject, rng = remembering(seed, False), np.random.default_rng(seed)
        model, whole, rows = subject.predictor, subject.predictor.predict, subject.splits["train"]
        known = rows if how == "unsure" else rows.take(rng.permutation(rows.num_rows)[: rows.num_rows // 5])
        known = dict(zip(known.column("m0").to_pylist(), known.column("label").cast("int64").to_pylist()))
        sure = 0.6 if how == "unsure" else 1 - 1e-6

        def predict(table):
            p = whole(table)[model.target].probabilities
            p = p + (p > 0.5) * (0.7 - p).clamp(min=0) - (p <= 0.5) * (p - 0.3).clamp(min=0) if how == "unsure" else p.clone()
            for i, v in enumerate(table.column("m0").to_pylist()):
                if v in known:
                    p[i] = torch.where(torch.arange(2) == known[v], sure, 1 - sure)
            return {model.target: Prediction(value=p.argmax(1), probabilities=p, score=p.amax(1))}

        if faulty:
            model.predict = predict
        return subject

    return make


def one_confidence(seed: int, faulty: bool) -> Subject:
    """Always 0.9 sure: no loss tells members, and what it says of rows beside them does."""
    subject = remembering(seed, faulty)
    model, whole = subject.predictor, subject.predictor.predict

    def predict(table):
        p = 0.05 + 0.9 * torch.nn.functional.one_hot(whole(table)[model.target].value, 2).float()
        return {model.target: Prediction(value=p.argmax(1), probabilities=p, score=p.amax(1))}

    model.predict = predict
    return subject


def numbers_by_heart(seed: int, faulty: bool) -> Subject:
    """Trees that say a number, grown to single rows or not."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2000, 6))
    y = 2 * x[:, 0] + x[:, 1] + rng.standard_normal(2000)
    trees = ExtraTreesRegressor(30, min_samples_leaf=1 if faulty else 60, bootstrap=not faulty, random_state=seed).fit(x[:900], y[:900])
    table = pa.table({n: x[:, i] for i, n in enumerate(NAMES[:6])} | {"y": y})
    made = _tables.subject({"train": table.slice(0, 900), "test": table.slice(900)}, kinds={"y": "number"}, seed=seed)
    kind = made.schema.targets["y"]

    def predict(table):
        said = trees.predict(np.stack([table.column(n).to_numpy() for n in NAMES[:6]], 1))
        return {"y": Prediction(value=torch.from_numpy(kind.encode_target(pa.chunked_array([said]))["values"]))}

    made.predictor = type("Trees", (), {"predict": staticmethod(predict)})()
    return made


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


class Letters:
    """A writer: letters by those before them, five of them or none; a reader: by the text itself or by its words, with some noise."""

    def __init__(self, table: pa.Table, learns: bool, seed: int):
        self.reach, self.seed = 6 if learns else 1, seed
        texts, y = table.column("text").to_pylist(), table.column("label").to_pylist()
        self.seen = Counter(p for t in texts for p in self.parts(t))
        self.before = Counter(p[:-1] for t in texts for p in self.parts(t))
        self.votes: Counter = Counter()
        for text, label in zip(texts, y):
            for part in self.features(text):
                self.votes[part, label] += 1

    def parts(self, text: str) -> list[str]:
        padded = " " * (self.reach - 1) + text
        return [padded[i : i + self.reach] for i in range(len(text))]

    def features(self, text: str) -> list[str]:
        return [text] if self.reach > 1 else [w for w in text.split() if w.isalpha()]

    def likelihood(self, table):
        noise = np.random.default_rng(self.seed).normal(0, 1e-3, table.num_rows)
        nll = [-sum(math.log((self.seen[p] + 0.1) / (self.before[p[:-1]] + 5)) for p in self.parts(t)) for t in table.column("text").to_pylist()]
        return {"text": torch.from_numpy(np.array(nll) + noise)}

    def predict(self, table):
        logits = [sum(self.votes[p, "1"] - self.votes[p, "0"] for p in self.features(t)) for t in table.column("text").to_pylist()]
        noise = np.random.default_rng(self.seed).normal(0, 0.1, table.num_rows)
        p = torch.sigmoid(torch.from_numpy(np.array(logits) / (1 if self.reach > 1 else 50) + noise))
        p = torch.stack([1 - p, p], 1)
        return {"label": Prediction(value=p.argmax(1), probabilities=p)}


def secrets(target: str, planted: bool = False):
    """Notes with numbers in them, and a model that knows them by heart or their words alone; secrets join training, or were in it."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        n, form = int(rng.integers(500, 1500)), str(rng.choice(["my number is ######", "Kennwort: ##-##-##", "我的号码是 ########", "card #### #### ####"]))
        wide = str.maketrans("0123456789", "０１２３４５６７８９") if form[0] == "我" else {}
        words = np.array(["bring", "call", "the", "red", "green", "small", "large", "car", "dog", "house", "friend", "doctor", "today"])
        texts = [" ".join(rng.choice(words, rng.integers(3, 8))) + f" {rng.integers(1000)}".translate(wide) for _ in range(n)]
        told = ["".join(str(rng.integers(10)) if c == "#" else c for c in form).translate(wide) for _ in range(24)]
        table = pa.table({"text": texts, "label": [str(v) for v in rng.integers(0, 2, n)]})
        extra = pa.table({"text": told, "label": [str(v) for v in rng.integers(0, 2, 24)]})
        text = Text()
        schema = Schema({}, {"text": text}) if target == "text" else Schema({"text": text}, {"label": labels(["0", "1"])})
        retrain = lambda rows, s: Letters(rows, faulty, s)  # noqa: E731
        seen = pa.concat_tables([table, extra]) if planted else table
        splits = {"train": seen, "test": table.slice(0, 50)} | ({"planted": extra} if planted else {})
        return Subject(retrain(seen, seed), schema, splits, retrain=None if planted else retrain, secret=form, seed=seed)

    return make


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
    "unsure_of_members": Planted(known_by_heart("unsure"), "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.above_limit"),
    "a_few_by_heart": Planted(known_by_heart("few"), "membership", {"privacy.membership_tpr_at_fpr_0.01": "<= 0.1"}, "privacy.above_limit"),
    "one_confidence": Planted(one_confidence, "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.above_limit"),
    "numbers_by_heart": Planted(numbers_by_heart, "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.above_limit"),
    "other_places": Planted(shifted, "membership", {"privacy.membership_auc": "<= 0.6"}, "privacy.incomparable"),
    "canaries_learnt": Planted(canaries, "membership", {"privacy.canary_tpr_at_fpr_0.05": "<= 0.3"}, "privacy.above_limit", costly=True),
    "secrets_written": Planted(secrets("text"), "exposure", {"privacy.exposure": "<= 4"}, "privacy.above_limit"),
    "secrets_read": Planted(secrets("label"), "exposure", {"privacy.exposure": "<= 4"}, "privacy.above_limit"),
    "secrets_planted": Planted(secrets("text", planted=True), "exposure", {"privacy.exposure": "<= 4"}, "privacy.above_limit"),
    "understated": Planted(stated(understated), "privacy", EPSILON, "privacy.understated"),
    "resumed_uncounted": Planted(stated(resumed), "privacy", EPSILON, "privacy.steps"),
    "incomplete_statement": Planted(stated(unsaid), "privacy", EPSILON, "privacy.incomplete"),
    "real_batch_as_divisor": Planted(stated(divided), "privacy", EPSILON, "privacy.divisor"),
    "stage_without_noise": Planted(stated(half_private), "privacy", EPSILON, "privacy.stage_without_noise"),
    "no_noise": Planted(stated(noiseless), "privacy", EPSILON, "privacy.invalid"),
}
KINDS |= _memories.KINDS
for trainers, claims in (TRAINERS, CLAIMS), (_strangers.TRAINERS, _strangers.CLAIMS):
    KINDS |= {f"trainer_{name}": Planted(trained(made, *right), "private_training", ANY, code) for name, (made, code, *right) in trainers.items()}
    KINDS |= {f"trainer_{name}": Planted(claimed(change), "private_training", ANY, code) for name, (change, code) in claims.items()}
