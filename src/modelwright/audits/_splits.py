"""What splits share: rows, nearly equal rows, rows made between rows, members, moments, texts; and whether they come from one source.

Each function takes a `View` and returns measurements; the ideas and their sources are in `checks/`.
"""

from __future__ import annotations

import copy

import numpy as np
import pyarrow as pa
from scipy.stats import binom, norm

from ..checks import copies, moments, shift, synthetic
from ..checks.columns import cells, floats, groups, is_number, is_text
from ..checks.learner import features, truth
from ..forms import Measurement
from ..subject import groups_of
from ._view import SHORT, View

FIFTHS = 0.8  # of the population's share: less is too few


def seen_rows(v: View) -> list[Measurement]:
    """Of the rows that were given: those that the model was trained on, which are no longer among the test rows."""
    met = v.subject.seen
    if met is None:
        return []
    if met.lacks is not None:
        return [v.line("seen_rate", None, 0, {"why": met.lacks}, ["data.no_record"])]
    details = {"left_out": int(met.rows.sum()), "equal_to_a_row_of_training": met.met, "by_chance": met.chance}
    return [v.line("seen_rate", float(met.rows.mean()), len(met.rows), details)]


def duplicates(v: View) -> list[Measurement]:
    test, others = (v.subject.schema.contents(v.test.select(v.inputs)), {n: v.subject.schema.contents(t.select(v.inputs)) for n, t in v.others().items()})
    own = {n: copies.equal_rows(test, t) for n, t in others.items()}
    details = {n: int(hits.sum()) for n, hits in own.items()}
    for n, hits in own.items():
        expected = copies.by_chance(test, others[n]) if hits.any() else np.zeros(len(hits))
        likely = expected.sum()  # rows that other people's rows equal
        if hits.sum() <= 2 * likely:
            hits[:] = False
        hits[np.argsort(np.where(hits, -expected, 1.0), kind="stable")[: int(likely)]] = False
        details |= {f"{n}, by chance": round(float(likely), 1)} if likely >= 1 else {}
    return [v.share("duplicate_rate", np.any(list(own.values()), axis=0), v.test.num_rows, details)]


def near(v: View) -> list[Measurement]:
    test, train = v.sample(v.test, v.rows // 2), v.sample(v.train)
    near, (a, b) = copies.near_rows(v.subject.schema, test, train), (v.subject.schema.contents(t.select(v.inputs)) for t in (test, train))
    near = (near | copies.equal_rows(copies.folded_table(a), copies.folded_table(b)) | copies.equal_but_one(a, b)) & ~copies.equal_rows(a, b)
    whole = v.test.num_rows if train.num_rows == v.train.num_rows else -1
    details = {"compared": [test.num_rows, train.num_rows], "by_chance": copies.CHANCE}
    if whole < 0:
        details["note"] = "training rows were sampled: copies of the others are not seen"
    return [v.share("near_duplicate_rate", near, whole, details)]


def made_between(v: View) -> list[Measurement]:
    """A share of the test rows; where training rows were sampled, what was made of the others is not seen."""
    names = [n for n in v.inputs if n in v.train.column_names and is_number(v.train.column(n)) and is_number(v.test.column(n))]
    enough = int(np.log((1 - v.subject.level) / 2) / np.log1p(-0.008)) + 1  # none among as many: surely less than 0.8 %
    train, test = v.sample(v.train), v.sample(v.test, min(enough, v.rows))
    x = {n: floats(train.column(n)) for n in names}
    x = {n: v for n, v in x.items() if synthetic.real(v)}
    if not x:
        return []
    classes = [n for n, *_, k in v.truths(train) if k is not None and n in test.column_names]
    said = tuple(truth(v.subject.schema, t, classes[0])[0] for t in (train, test)) if classes else None
    hits = synthetic.between(np.stack(list(x.values()), 1), np.stack([floats(test.column(n)) for n in x], 1), said, v.subject.seed)
    return [] if hits is None else [v.share("synthetic_rate", hits, v.test.num_rows, {"columns": list(x), "compared": [train.num_rows, test.num_rows]})]


def members(v: View) -> list[Measurement]:
    others = v.others()
    names = copies.entities([v.test, *others.values()], v.subject.clusters, {*v.subject.schema.targets, *v.subject.schema.group})
    names = [n for n in names if all(n in t.column_names for t in (v.test, *others.values()))]
    if not names or not others:
        return []
    hits = {n: np.any([copies.shared_members(v.test.column(n), t.column(n)) for t in others.values()], axis=0) for n in names}
    worst = max(hits, key=lambda n: hits[n].mean())
    return [v.share("group_overlap", hits[worst], v.test.num_rows, {"columns": {n: float(h.mean()) for n, h in hits.items()}})]


def time_overlap(v: View) -> list[Measurement]:
    """Rows that are equal in every input, or of one person, count by the latest of them: a split by time keeps them together there."""
    if v.train is None:
        return []
    units, alike = v.units(v.test), copies.alike(v.subject.schema.contents(v.test.select(v.inputs))) if v.inputs else None
    together = alike if units is None else units - units.min(initial=0) if alike is None else copies.joined(units, alike)
    hits, ends = moments.overlap(v.train, v.test, set(v.subject.schema.targets), together)
    if not hits:
        why = "no column of both splits is a time: bring the one that says when a row was made, or leave the limit out of a copy of the policy"
        return [v.line("time_overlap", None, 0, {"why": why}, ["data.no_time"])]
    least = min(hits, key=lambda n: hits[n].mean())  # a date of birth overlaps by nature: the column that parts the splits best speaks
    details = {"columns": {n: float(h.mean()) for n, h in hits.items()}, "training_ends": ends}
    return [v.share("time_overlap", hits[least], v.test.num_rows, details)]


def contamination(v: View) -> list[Measurement]:
    schema = v.subject.schema
    names = [
        n for n, k in (schema.inputs | schema.targets).items() if k.form == "ids" and n in v.test.column_names and is_text(v.test.column(n))
    ]
    if not names:
        return []
    if v.train is None:
        return [v.line("contamination", None, 0, {"needs": "train"}, ["data.no_train"])]
    test = v.sample(v.test, 2 * v.rows)
    found = {n: copies.contaminated(test.column(n), v.train.column(n)) for n in names}
    hits = np.any([h for h, _ in found.values()], axis=0)
    asked = np.any([a for _, a in found.values()], axis=0)
    details = {"columns": {n: int(h.sum()) for n, (h, _) in found.items()}, "long_enough": int(asked.sum())}
    return [v.share("contamination", hits, v.test.num_rows, details)]


def representativeness(v: View) -> list[Measurement]:
    """Groups of the population (rows of the role reference) whose share of the training rows, or of the test rows, is surely below four fifths of theirs:
    as `too_few` says (persons count once), corrected for how many groups are looked at."""
    if "reference" not in v.subject.splits:
        return []
    there, asked = v.subject.splits["reference"], {}
    parts = {n: t for n, t in (("train", v.train), ("test", v.test)) if t is not None}
    known = set(there.column_names).intersection(*(t.column_names for t in parts.values()))
    declared = [c for c in v.subject.groupings(there) if known.issuperset(c)]
    for columns in declared or [[c] for c in groups(there, set()) if c in known]:
        of, names = groups_of(there, columns)
        for split, t in parts.items():
            code, own = groups_of(t, columns, there)
            for g, name in enumerate(names):
                if name in own:
                    asked[split, name] = counted(code == own.index(name), v.units(t)), counted(of == g, v.units(there))
    sizes = {split: counted(np.ones(t.num_rows, bool), v.units(t)) for split, t in (parts | {"reference": there}).items()}
    found = {}
    for (split, name), (here, all_) in asked.items():
        n, m = sizes[split], sizes["reference"]
        if all_ and too_few(here, n, all_, m) <= v.alarm / len(asked):
            found[f"{name} in {split}"] = {"share": round(here / n, 4), "of the population": round(all_ / m, 4)}
    details = {"columns": dict(list(found.items())[: 4 * SHORT]), "looked_at": len(asked)}
    method = f"counts against four fifths of the population's share, corrected for {len(asked)} groups; false findings at most {v.alarm:g}"
    return [v.line("representativeness", float(len(found)), there.num_rows, details, split="train" if v.train is not None else "test", method=method)]


def too_few(here: int, n: int, there: int, m: int) -> float:
    """The chance of so few of n, if the share were four fifths of that of there among m: normal, of counts below 20 a binomial of both counts' sum."""
    share = FIFTHS * there / m
    if share * n < 20:
        return float(binom.cdf(here, here + there, FIFTHS * n / (FIFTHS * n + m)))
    return float(norm.cdf((here / n - share) / (share * (1 - share) / n + FIFTHS**2 * there / m * (1 - there / m) / m) ** 0.5))


def counted(rows: np.ndarray, units: np.ndarray | None) -> int:
    """How many rows (N,) bool, or how many persons they are of."""
    return int(rows.sum()) if units is None else len(np.unique(units[rows]))


def split_shift(v: View) -> list[Measurement]:
    schema, parts = v.subject.schema, {"train": v.sample(v.train, v.rows // 2), "test": v.sample(v.test, v.rows // 2)}
    if min(t.num_rows for t in parts.values()) < 40:
        return [v.line("split_shift", None, v.test.num_rows, {}, ["data.too_few"])]
    table = pa.concat_tables([t.select(v.common(parts)) for t in parts.values()], promote_options="permissive")
    side, of = np.repeat([False, True], [t.num_rows for t in parts.values()]), v.units(table)
    alike = copy.deepcopy(schema)
    alike.fit(table)  # on both: a word or name that training lacks would else be unknown in test rows alone
    auroc, p = shift.two_sample(features(alike, table), side, v.subject.seed, of)
    each = {}
    for n in [*v.inputs, *(t for t in schema.truths if t in table.column_names)]:
        read = cells(table.column(n))
        if read is not None and (not read[1] or len(np.unique(read[0])) <= 100):
            each[n] = shift.column_p(read[0][~side], read[0][side], read[1])
            if not read[1] and (empty := np.isnan(read[0])).any():
                each[f"{n}: empty cells"] = shift.column_p(empty[~side], empty[side], True)
    named = shift.holm(each, v.alarm / 2)
    seen = p <= v.alarm / 2 or (bool(named) and of is None)
    details = {"auroc": auroc, "p": p, "columns": {n: each[n] for n in named[:SHORT]} if seen else {}}
    method = f"classifier two-sample test with 2000 permutations, and each column's own; false findings at most {v.alarm:g}"
    return [v.line("split_shift", float(max(1, len(named))) if seen else 0.0, len(side), details, method=method)]
