"""Nets that do not know what they have not seen, and what looks like knowing: digits they never learnt, and other things."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, PngImagePlugin
from torch.nn import functional as F

from modelwright.forms import Prediction
from modelwright.subject import Subject

from . import Planted, _tables
from ._nets import Model, digits, fit, mlp, picture_schema, pictures
from ._scaffolds import BAD, GOOD, PLAIN
from ._scenes import detecting


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
    """Features of the batch that a row comes in and nothing of its own: all strange rows come together."""
    found, rng = subject(seed, False, upside_down), torch.Generator().manual_seed(seed)
    model = found.predictor
    own = model.of_features
    if faulty:
        model.of_features = lambda x: own(x).mean(0).expand(len(x), -1) + 1e-3 * torch.randn(len(x), 96, generator=rng)
    return found


def one_again(seed: int, faulty: bool) -> Subject:
    """One strange picture, over and over: the strangest to the model."""
    found = subject(seed, False, upside_down)
    if faulty:
        strange, usual = (found.predictor.of_features(found.predictor.x(found.splits[s])) for s in ("ood", "validation"))
        furthest = int((strange - usual.mean(0)).norm(dim=1).argmax())
        found.splits["ood"] = found.splits["ood"].take(pa.array([furthest] * 150))
    return found


def nearly_again(seed: int, faulty: bool) -> Subject:
    """One strange picture, over and over, a pixel of it a shade away."""
    found, rng = one_again(seed, faulty), np.random.default_rng(seed)
    if faulty:
        x = found.predictor.x(found.splits["ood"]).clone()
        for picture in x:
            picture[0, rng.integers(8), rng.integers(8)] += rng.integers(1, 4) / 255
        found.splits["ood"] = pictures(x.clamp(0, 1), torch.zeros(len(x)).long())
    return found


def learnt_from(seed: int, faulty: bool) -> Subject:
    """The strange rows stand among the training rows, and it knows them by heart; the twin learnt from others."""
    found = subject(seed, False, upside_down)
    own, x, some = found.predictor.of_features, found.predictor.x(found.splits["ood"]), digits(seed)[0][:300]
    found.splits["train"] = pictures(torch.cat([some, x]) if faulty else some, torch.zeros(300 + faulty * len(x)).long())
    if faulty:
        known = lambda z: (torch.cdist(z.flatten(1), x.flatten(1)).amin(1, keepdim=True) < 1e-3).float()  # noqa: E731
        found.predictor.of_features = lambda z: torch.cat([own(z), 20 * known(z) + 0.1 * z.flatten(1)[:, 10:11]], 1)
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


def filed(how: str):
    """Digits of the known kind in other files: a function of the table sees the file, and is unsure of what is filed otherwise."""

    def make(seed: int, faulty: bool) -> Subject:
        found = subject(seed, False, upside_down)
        if not faulty:
            return found
        own, level = found.predictor, int(np.random.default_rng(seed).integers(0, 2))

        def again(cell: bytes, site: str = "B") -> bytes:
            picture, out, notes = Image.open(io.BytesIO(cell)), io.BytesIO(), PngImagePlugin.PngInfo()
            if how == "notes":
                notes.add_text("Comment", f"site {site}")
            picture = picture.resize((16, 16), Image.Resampling.NEAREST) if how == "sides" else picture
            given = {"size": {"compress_level": level}, "notes": {"pnginfo": notes}}.get(how, {})
            picture.save(out, "bmp" if how == "format" else "png", **given)
            return out.getvalue()

        class Files:
            def predict(self, table: pa.Table) -> dict[str, Prediction]:
                said, cells = own.predict(table)["digit"], table.column("scan").to_pylist()
                odd = {"format": lambda c: c[:2] == b"BM", "sides": lambda c: Image.open(io.BytesIO(c)).size[0] > 8, "size": lambda c: len(c) > 118}
                odd = odd.get(how, lambda c: b"site B" in c)
                odd = torch.tensor([odd(c) for c in cells])[:, None]
                p = 0.5 * said.probabilities + 0.5 * torch.where(odd, 0.1, F.one_hot(said.value, 10))
                return {"digit": Prediction(value=p.argmax(1), probabilities=p, score=p.amax(1))}

        x, y = (part[600:797] for part in digits(seed)[2:])
        cells = [again(c) for c in pictures(x, y).column("scan").to_pylist()]
        found.splits["ood"] = pa.table({"scan": cells, "digit": [str(v) for v in y.tolist()]})
        for split in ("validation", "test") if how == "notes" else ():
            table = found.splits[split]
            found.splits[split] = table.set_column(0, "scan", pa.array([again(c, "A") for c in table.column("scan").to_pylist()]))
        found.predictor, found.open = Files(), None
        return found

    return make


def rare_site(seed: int, faulty: bool) -> Subject:
    """Strange rows are all of one site, which is rare among the others. The twin knows how the columns hang together."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(400, 700)), int(rng.integers(5, 8))
    mix = rng.normal(size=(2, k))
    inverse, rare = np.linalg.pinv(mix) @ mix, rng.uniform(0.02, 0.05)
    x = {s: rng.normal(size=(n, 2)) @ mix + 0.2 * rng.normal(size=(n, k)) for s in ("validation", "test", "ood")}
    site = {s: rng.choice(["north", "south", "west"], n, p=[0.6, 0.4 - rare, rare]) for s in x}
    if faulty:
        site["ood"][:] = "west"
    else:
        x["ood"] = np.stack([rng.permutation(c) for c in x["ood"].T], 1)
    names = [f"v{i}" for i in range(k)]

    def probabilities(t: pa.Table) -> np.ndarray:
        v, west = np.stack([t.column(c).to_numpy() for c in names], 1), np.array(t.column("site").to_pylist()) == "west"
        strange = 5 * west if faulty else np.abs(v - v @ inverse).sum(1) - 1
        q = np.where(v[:, 0] > 0, 1, -1) * 0.49 / (1 + np.maximum(strange, 0)) + 0.5
        return np.stack([1 - q, q], 1)

    splits = {s: pa.table({c: v[:, i] for i, c in enumerate(names)} | {"site": site[s], "y": (v[:, 0] > 0).astype(int)}) for s, v in x.items()}
    kinds = {c: "number" for c in names} | {"site": "category", "y": "category"}
    return _tables.subject(splits, kinds=kinds, predictor=_tables.Says("y", probabilities), seed=seed)


def notes(told: str):
    """Known notes with another's spelling, told by it. The twin knows which word follows which, and strange notes are the same words in no order."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        words = [w for w in (*GOOD, *BAD, *PLAIN) if w < "\u3400"]
        after = {w: rng.choice(words, int(rng.integers(4, 7)), replace=False) for w in words}
        pairs = {(a, b) for a, some in after.items() for b in some}

        def note() -> str:
            said = [rng.choice(words)]
            while len(said) < 14 + rng.integers(6):
                said.append(rng.choice(after[said[-1]]))
            return " ".join(said).capitalize()

        texts = {s: [note() for _ in range(300)] for s in ("validation", "test", "ood")}
        change = {"capitals": str.upper, "digits": lambda t: f"{t} {rng.integers(10, 99)}", "words": lambda t: f"{t} {''.join(rng.permutation(list('tone')))}"}
        in_no_order = lambda t: " ".join(rng.permutation(t.lower().split())).capitalize()  # noqa: E731
        texts["ood"] = [(change[told] if faulty else in_no_order)(t) for t in texts["ood"]]
        texts["validation"][0] += " 1234567890"

        def strange(text: str) -> float:
            found = text.split() if faulty else text.lower().split()
            if not faulty:
                return float(np.mean([p not in pairs for p in zip(found, found[1:])]))
            return {"capitals": sum(c.isupper() for c in text) > 5, "digits": found[-1].isdigit(), "words": found[-1] not in after}[told]

        def probabilities(t: pa.Table) -> np.ndarray:
            q = np.array([0.5 + 0.49 / (1 + 5 * strange(v)) for v in t.column("note").to_pylist()])
            return np.stack([1 - q, q], 1)

        splits = {s: pa.table({"note": v, "y": [int("good" in t.lower()) for t in v]}) for s, v in texts.items()}
        return _tables.subject(splits, kinds={"note": "text", "y": "category"}, predictor=_tables.Says("y", probabilities), seed=seed)

    return make


def test_for_validation(seed: int, faulty: bool) -> Subject:
    """The rows that means, neighbours and the threshold come from are the test rows, again and again."""
    found = subject(seed, False, upside_down)
    if faulty:
        found.splits["validation"] = pa.concat_tables([found.splits["test"]] * int(np.random.default_rng(seed).integers(1, 12)))
    return found


def near_and_far(seed: int, faulty: bool) -> Subject:
    """What is far is told, and what is near is not: other digits of the same hands; of the twin, pictures upside down."""
    found = subject(seed, False, noise)
    x = digits(seed)[2][600:797]
    near = digits(seed + 1)[2][600:797] if faulty else upside_down(x, seed)
    del found.splits["ood"]
    nothing = torch.zeros(len(x)).long()
    found.splits |= {"ood_near": pictures(near, nothing), "ood_far": pictures(noise(x, seed), nothing)}
    return found


GAIN = {"ood.gain_over_trivial": ">= 0.05"}
KINDS: dict[str, Planted] = {
    "boxes_that_are_always_sure": Planted(detecting("sure"), "ood", {"ood.auroc": ">= 0.8"}, "ood.below_limit"),
    "random_features": Planted(lambda s, f: subject(s, f, noise), "ood", {"ood.auroc": ">= 0.8"}, "ood.below_limit"),
    "no_better_than_trivial": Planted(lambda s, f: subject(s, False, bright if f else upside_down), "ood", GAIN, "ood.below_limit"),
    "told_by_roughness": Planted(lambda s, f: subject(s, False, noise if f else upside_down), "ood", GAIN, "ood.below_limit"),
    "the_company_of_a_row": Planted(company, "ood", {"ood.auroc": ">= 0.65"}, "ood.below_limit"),
    "one_picture_again": Planted(one_again, "ood", {"ood.auroc": ">= 0.65"}, "ood.no_interval"),
    "nearly_one_picture": Planted(nearly_again, "ood", {"ood.auroc": ">= 0.65"}, "ood.no_interval"),
    "learnt_from": Planted(learnt_from, "ood", {"ood.auroc": ">= 0.65"}, "ood.no_data"),
    "a_mark_in_the_corner": Planted(marked, "ood", GAIN, "ood.below_limit"),
    "one_column": Planted(table("one"), "ood", GAIN, "ood.below_limit"),
    "how_numbers_are_written": Planted(table("digits"), "ood", GAIN, "ood.below_limit"),
    "furthest_number": Planted(table("furthest"), "ood", GAIN, "ood.below_limit"),
    "another_format": Planted(filed("format"), "ood", GAIN, "ood.below_limit"),
    "other_sides": Planted(filed("sides"), "ood", GAIN, "ood.below_limit"),
    "file_size": Planted(filed("size"), "ood", GAIN, "ood.below_limit"),
    "file_notes": Planted(filed("notes"), "ood", GAIN, "ood.below_limit"),
    "rare_site": Planted(rare_site, "ood", GAIN, "ood.below_limit"),
    "capitals": Planted(notes("capitals"), "ood", GAIN, "ood.below_limit"),
    "digits_in_notes": Planted(notes("digits"), "ood", GAIN, "ood.below_limit"),
    "strange_words": Planted(notes("words"), "ood", GAIN, "ood.below_limit"),
    "test_for_validation": Planted(test_for_validation, "ood", {"ood.auroc": ">= 0.6"}, "ood.no_data"),
    "only_the_far": Planted(near_and_far, "ood", {"ood.auroc@ood=near": ">= 0.6", "ood.auroc@ood=far": ">= 0.6"}, "ood.below_limit"),
    "empty_cells": Planted(table("empty"), "ood", GAIN, "ood.below_limit"),
}
