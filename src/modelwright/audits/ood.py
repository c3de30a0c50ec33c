"""Does the model know what it has never seen: how well a score tells the split `ood` from the test split, beside a trivial statistic.

Scores, higher is stranger: energy, minus log sum exp of the logits (Liu et al. 2020); Mahalanobis, the distance to the nearest class mean under one
shared covariance of the features (Lee et al. 2018); neighbour, the distance to the 10th nearest of the features, normalised (Sun et al. 2022).
A model that only answers shows neither logits nor features, and one minus the largest probability (of boxes: score) stands for them (Hendrycks & Gimpel
2017), as it stands beside the features where a target is no class and has no logits; a module in its own process shows logits. The model is given
inputs and never labels; means, neighbours and the threshold come from validation rows (their predicted classes), never from `ood`. The score is the
one named, not the best on these rows.

The default is what told most: on 41 shifts of six tables (pima, cancer, digits, german, adult, credit; noise, shuffled columns, one number or all of them
further out, other people) Mahalanobis had a mean AUROC of 0.90 and never less than 0.54, neighbours 0.64 and energy 0.46. On the unit sphere lengths
are lost, and a number far out makes features longer rather than turned; energy below a half is true of nets, which are surer of what is far out (Hein
et al. 2019). Of a picture network the features are the means over the places of each level of its pyramid (Lee et al. 2018 read all layers, too): on
seven shifts of two networks on fashion_mnist 0.90 (the last level alone: 0.84), on six of a detector 0.90 (0.55). All scores stand in the details.

Strange rows are of the role `ood`, or `ood_near` and `ood_far` (near: hard to tell), whose figures have the slices `ood=near` and `ood=far`; without `ood`
the two together stand for it. Validation rows that are test or strange rows, too, are left out: means and neighbours would know them.

All rows are asked about in one shuffled table: who reads the company that a row comes in would else be told which split it is of. Equal rows, and rows
of one cluster, are no independent witnesses: one strange picture a hundred times is one.

The trivial statistic sees the input alone: how far its mean, its spread, its length, its empty cells, one of its numbers, their furthest, how many
digits they are written with is from validation's, how rare one of its categories is, of a text the share of strange letters, strange words, capitals,
digits and marks, of a picture one of its places (8 x 8 in each channel), how much neighbouring points differ, or its file (size, format, sides),
whichever tells more: a benefit of the doubt for it. Nothing is measured where no strange rows are given.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import metrics as m
from ..checks.copies import row_digests
from ..checks.shortcuts import of_files
from ..closed import WORD
from ..forms import Measurement, Prediction
from ..intervals import interval, paired
from ..kind import Metric
from ..subject import Audit, Inward, Subject

TAIL = 0.05  # of validation rows lie above the threshold
NEAR = 0.01  # of the usual distance between a test picture and the nearest other: blank scenes are within a fiftieth of it by themselves


class OOD(Audit):
    def __init__(self, score: Literal["mahalanobis", "neighbour", "energy"] = "mahalanobis", rows: int = 1000):
        """rows: of each split at most, drawn at random."""
        self.score, self.rows = score, rows

    def measure(self, subject: Subject) -> list[Measurement]:
        strange = unlearnt(subject, {r: subject.splits[r] for r in ("ood", "ood_near", "ood_far") if r in subject.splits})
        if not strange:
            return []
        found = []
        if "ood" not in strange:
            strange["ood"] = pa.concat_tables(strange.values(), promote_options="permissive")
        for target, kind in subject.schema.targets.items():
            if kind.drawn:
                continue
            began = time.perf_counter()
            rng = np.random.default_rng(subject.seed)
            known = next((r for r in ("validation", "calibration", "train") if r in subject.splits), None)
            tables = {r: self._drawn(t, rng) for r, t in ({"test": subject.splits["test"]} | strange).items()}
            if known is not None:
                met = np.isin(inputs_of(subject, subject.splits[known]), np.concatenate([inputs_of(subject, t) for t in tables.values()]))
                tables[known] = self._drawn(subject.splits[known].filter(pa.array(~met)), rng)
            else:  # a half of the test rows stands for validation, and is not judged
                order, half = rng.permutation(tables["test"].num_rows), tables["test"].num_rows // 2
                tables["validation"], tables["test"] = (tables["test"].take(pa.array(np.sort(p))) for p in (order[:half], order[half:]))
                known = "validation"
            if (few := min((t.num_rows, r) for r, t in tables.items()))[0] < 20:
                but = " are no test or strange rows" if few[1] == known else " are no training rows" if few[1] in strange else ""
                why = {"why": f"{few[0]} rows of {few[1]!r}{but}"}
                found += [self._line(subject, n, target, None, 0, began, why, ["ood.no_data"]) for n in ("auroc", "gain_over_trivial")]
                continue
            scores = scores_of(subject, target, tables, known)
            if not scores:
                why = {"why": "the model shows no features, and does not say how sure it is of an answer of this kind"}
                found += [self._line(subject, n, target, None, 0, began, why, ["ood.no_score"]) for n in ("auroc", "gain_over_trivial")]
                continue
            name = self.score if self.score in scores else next(iter(scores))
            trivial = trivial_of(subject.schema, tables, known)
            for role in strange:
                found += self._told(subject, target, role, tables, known, scores, name, trivial, began)
        return found

    def _told(self, subject, target, role, tables, known, scores, name, trivial, began) -> list[Measurement]:
        """The figures of one role's rows: scores and trivial are {name: {split: (N,)}}."""
        y = np.repeat([0, 1], [tables["test"].num_rows, tables[role].num_rows])
        unit = units_of(subject, [tables["test"], tables[role]])
        n = len(y)
        given = {"level": subject.level, "seed": subject.seed, "clusters": unit if len(np.unique(unit)) < n else None}

        def auroc(score: dict[str, np.ndarray]) -> Metric:
            both = np.concatenate([score["test"], score[role]])
            return Metric(lambda i: m.auroc(y[i], both[i]), of=y)

        best = max(trivial, key=lambda s: auroc(trivial[s]).value(np.arange(n)))
        ours, theirs = auroc(scores[name]), auroc(trivial[best])
        threshold = float(np.quantile(scores[name][known], 1 - TAIL))
        details = {
            "score": name, "trivial": best, "aurocs": {k: auroc(s).value(np.arange(n)) for k, s in scores.items()}, "threshold": threshold,
            "trivial_auroc": theirs.value(np.arange(n)), "flagged": {r: float((scores[name][r] > threshold).mean()) for r in ("test", role)},
        }  # fmt: skip
        slice = None if role == "ood" else role.replace("_", "=")
        return [
            self._line(subject, "auroc", target, interval(ours, n, **given), n, began, details, slice=slice),
            self._line(subject, "gain_over_trivial", target, paired(ours, theirs, n, **given), n, began, {"score": name, "trivial": best}, slice=slice),
        ]

    def _drawn(self, table: pa.Table, rng) -> pa.Table:
        return table.take(pa.array(np.sort(rng.permutation(table.num_rows)[: self.rows])))

    def _line(self, subject, metric, target, i, n, began, details, reasons=(), slice=None) -> Measurement:
        value, low, high, method = (None, None, None, "not measured") if i is None else (i.value, i.low, i.high, i.method)
        return Measurement(
            "ood", f"ood.{metric}", target, "test", slice, value, low, high, subject.level, n, method, subject.seed,
            time.perf_counter() - began, details, list(reasons),
        )  # fmt: skip


def units_of(subject: Subject, tables: list[pa.Table]) -> np.ndarray:
    """(N,) numbers of the clusters that the tables' rows are of, one table after another; equal rows and nearly equal pictures are one where no clusters
    are known."""
    if subject.clusters is not None and all(subject.clusters in t.column_names for t in tables):
        found = [np.array([str(v) for v in t.column(subject.clusters).to_pylist()]) for t in tables]
    else:
        found = [inputs_of(subject, t) for t in tables]
        read = [(n, k) for n, k in subject.schema.inputs.items() if not k.drawn]
        if len(read) == 1 and read[0][1].form == "picture":
            return one_of_near([read[0][1].encode(t.column(read[0][0]))["values"] for t in tables])
    return np.unique(np.concatenate(found), return_inverse=True)[1]


def one_of_near(pictures: list[np.ndarray]) -> np.ndarray:
    """(N,) numbers of distinct ones among pictures (N, C, H, W), one list after another: nearer to each other than NEAR of what is usual in the first."""
    from scipy.sparse.csgraph import connected_components

    x = [F.adaptive_avg_pool2d(torch.from_numpy(np.asarray(p, np.float32)), [min(16, s) for s in p.shape[2:]]).flatten(1) for p in pictures]
    usual = torch.cdist(x[0], x[0]).fill_diagonal_(torch.inf).amin(1).median()
    return connected_components((torch.cdist(torch.cat(x), torch.cat(x)) <= NEAR * usual).numpy(), directed=False)[1]


def unlearnt(subject: Subject, strange: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Strange rows without those that the model learnt from, where more of them than of the test rows are training rows: it would know them."""
    if "train" not in subject.splits:
        return strange
    learnt = inputs_of(subject, subject.splits["train"])
    usual = np.isin(inputs_of(subject, subject.splits["test"]), learnt).mean()
    met = {role: np.isin(inputs_of(subject, t), learnt) for role, t in strange.items()}
    return {role: t.filter(pa.array(~met[role])) if met[role].mean() > usual + TAIL else t for role, t in strange.items()}


def inputs_of(subject: Subject, table: pa.Table) -> np.ndarray:
    """(N,) a digest of what the model reads of each row."""
    return row_digests(table.select([n for n in subject.schema.inputs if n in table.column_names]))


def scores_of(subject: Subject, target: str, tables: dict[str, pa.Table], known: str) -> dict[str, dict[str, np.ndarray]]:
    """{score: {split: (N,)}}: energy of a class's logits; of features, of classes those of each class; else how unsure the answers are."""
    names = [n for n in tables[known].column_names if n not in subject.schema.targets and all(n in t.column_names for t in tables.values())]
    whole = pa.concat_tables([t.select(names) for t in tables.values()], promote_options="permissive")
    order = np.random.default_rng([subject.seed, 1]).permutation(whole.num_rows)
    whole, back = whole.take(pa.array(order)), torch.from_numpy(np.argsort(order))

    def apart(v: Tensor) -> dict[str, Tensor]:
        return dict(zip(tables, v[back].split([t.num_rows for t in tables.values()]), strict=True))

    inside, found = within(subject, target, whole), {}
    logits, features = (None if v is None else apart(v.flatten(1).double()) for v in inside or (None, None))
    if logits is None and (sure := sureness(subject.predictor.predict(whole)[target])) is not None:
        found["sureness"] = {s: 1 - p.numpy() for s, p in apart(sure.double()).items()}
    if features is not None:
        at = features[known]
        classes = torch.zeros(len(at), dtype=torch.long) if logits is None else logits[known].argmax(1)
        found["neighbour"] = {s: neighbour(f, at, same=s == known) for s, f in features.items()}
        found["mahalanobis"] = {s: mahalanobis(f, at, classes) for s, f in features.items()}
    return found if logits is None else found | {"energy": {s: -z.logsumexp(1).numpy() for s, z in logits.items()}}


def sureness(said: Prediction) -> Tensor | None:
    """(N,) of a class its probability, of boxes in a picture the largest score, else what the model says; None: nothing."""
    if said.probabilities is not None:
        return said.probabilities.amax(1)
    if said.boxes is not None:
        return F.pad(said.score * said.boxes.mask, (0, 1)).amax(1)
    return said.score


def within(subject: Subject, target: str, table: pa.Table) -> tuple[Tensor | None, Tensor | None] | None:
    """Logits (N, K) of a class and features (N, D) of a model that shows them; None of one that only answers."""
    if isinstance(subject.predictor, Inward):
        return subject.predictor.inward(target, table)
    if subject.open is None or (opened := subject.open(target, table)) is None:
        return None
    with torch.no_grad():
        parts = torch.arange(len(opened.x)).split(256)
        logits, features = zip(*((opened.logits(opened.x[p], p), opened.features(opened.x[p], p)) for p in parts), strict=True)
    return torch.cat(logits), None if features[0] is None else torch.cat(features)


def neighbour(f: Tensor, at: Tensor, k: int = 10, same: bool = False) -> np.ndarray:
    """(N,) distance to the k-th nearest of at, both on the unit sphere; same: a row is not its own neighbour."""
    f, at = (v / v.norm(dim=1, keepdim=True).clamp(min=1e-12) for v in (f, at))
    k = min(k, len(at) - same) + same
    return torch.cdist(f, at).kthvalue(k, 1).values.numpy()


def mahalanobis(f: Tensor, at: Tensor, classes: Tensor) -> np.ndarray:
    """(N,) the least (f - mean_c)' S^-1 (f - mean_c), S pooled within classes with a ridge of a thousandth of its mean variance."""
    names = classes.unique()
    means = torch.stack([at[classes == c].mean(0) for c in names])
    within = at - means[torch.searchsorted(names, classes)]
    cov = within.T @ within / len(at)
    cov = cov + 1e-3 * cov.diagonal().mean().clamp(min=1e-12) * torch.eye(len(cov), dtype=cov.dtype)
    white = torch.linalg.cholesky(torch.linalg.inv(cov))
    return torch.cdist(f @ white, means @ white).square().amin(1).numpy()


def trivial_of(schema, tables: dict[str, pa.Table], known: str) -> dict[str, dict[str, np.ndarray]]:
    """{statistic: {split: (N,)}} of the input alone: standard deviations from validation's mean, or how rare."""
    raw: dict[str, dict[str, np.ndarray]] = {}
    rare: dict[str, dict[str, Iterable]] = {}
    texts, pictures = ([n for n in schema.own if schema.inputs[n].form == form] for form in ("ids", "picture"))
    said = {n: "\n".join(str(v) for v in tables[known].column(n).drop_null().to_pylist()) for n in texts}
    usual, words = {n: set(t) for n, t in said.items()}, {n: {w.strip() for w in WORD.findall(t.lower())} for n, t in said.items()}
    for split, table in tables.items():
        for name, stored in schema.encode(table, targets=False).inputs.items():
            if "offsets" in stored:
                raw.setdefault(f"length of {name}", {})[split] = np.diff(stored["offsets"]).astype(float)
            else:
                cells = np.asarray(stored["numbers" if "numbers" in stored else "values"], np.float64)
                flat = np.nan_to_num(cells.reshape(table.num_rows, -1))
                if flat.shape[1]:
                    raw.setdefault(f"mean of {name}", {})[split] = flat.mean(1)
                    raw.setdefault(f"spread of {name}", {})[split] = flat.std(1)
                if cells.ndim == 4:  # (N, C, H, W)
                    places = F.adaptive_avg_pool2d(torch.from_numpy(cells), [min(8, side) for side in cells.shape[2:]]).flatten(1).numpy()
                    for i, place in enumerate(places.T):
                        raw.setdefault(f"place {i} of {name}", {})[split] = place
                if cells.ndim == 4 and min(cells.shape[2:]) > 1:
                    raw.setdefault(f"roughness of {name}", {})[split] = sum(np.abs(np.diff(cells, axis=a)).mean((1, 2, 3)) for a in (2, 3))
                if "numbers" in stored:
                    raw.setdefault(f"empty or unknown cells of {name}", {})[split] = np.isnan(cells).sum(1) + (stored["codes"] == 0).sum(1).astype(float)
                if "numbers" in stored and cells.shape[1]:  # as standardised on the training rows
                    raw.setdefault(f"furthest number of {name}", {})[split] = np.abs(flat).max(1)
                    for i, number in enumerate(flat.T):
                        raw.setdefault(f"number {i} of {name}", {})[split] = number
        number = [table.column(n) for n, k in schema.inputs.items() if k.place == "number" and n in table.column_names]
        number = [c for c in number if pa.types.is_floating(c.type)]
        if number:
            raw.setdefault("digits", {})[split] = sum(pc.fill_null(pc.utf8_length(c.cast(pa.string())), 0).to_numpy().astype(float) for c in number)
        for name in texts:
            cells = [str(v or "") for v in table.column(name).to_pylist()]
            raw.setdefault(f"strange words of {name}", {})[split] = share([WORD.findall(v.lower()) for v in cells], lambda w: w.strip() not in words[name])  # noqa: B023
            raw.setdefault(f"strange letters of {name}", {})[split] = share(cells, lambda c: c not in usual[name])  # noqa: B023
            for what, of in (("capitals", str.isupper), ("digits", str.isdigit), ("marks", lambda c: not (c.isalnum() or c.isspace()))):
                raw.setdefault(f"{what} of {name}", {})[split] = share(cells, of)
        for name in (n for n, k in schema.inputs.items() if k.place == "code" and n in table.column_names):
            rare.setdefault(f"rarity of {name}", {})[split] = table.column(name).to_pylist()
        for name in pictures:
            for what, value in of_files(table.column(name)).items():
                into = rare if what in ("file format", "picture mode", "file compression", "file maker", "file notes") else raw  # those are names
                into.setdefault(f"{what} of {name}", {})[split] = value
    found = {}
    for name, by in raw.items():
        if set(by) != set(tables):  # a column may be whole in one split and not in another
            continue
        middle, sd = by[known].mean(), max(by[known].std(), 1e-12)
        found[name] = {s: np.abs(v - middle) / sd for s, v in by.items()}
    for name, by in rare.items():
        if set(by) == set(tables):
            common = Counter(by[known])
            found[name] = {s: np.array([1 / (1 + common[v]) for v in values]) for s, values in by.items()}
    return found or {"nothing": {s: np.zeros(t.num_rows) for s, t in tables.items()}}


def share(cells: list, of: Callable[[str], bool]) -> np.ndarray:
    """(N,) of the letters or words of each cell."""
    return np.array([np.mean([of(c) for c in cell]) if cell else 0.0 for cell in cells])
