"""Where does it fail: a search for groups of rows that a model answers worse than the rest, confirmed on other rows.

How right an answer is, in [0, 1], is the credit of the target's kind: of a class whether it is the right one, of a set of labels whether it is the whole
set, of boxes in a picture their F1, of a text ROUGE-L, of a number whether it is within a declared tolerance. The accuracy of a slice is its rows' mean
credit.

One half finds, the other confirms. Found on validation (or on half of the test split: without it, or where the model does so much better on it, z over
4, that it must have learnt it): every value of a category (the 200 most frequent) or of a column of up to 200 whole numbers, every fifth and twentieth
of a number or a time (a text's length, a time's hour), empty cells, what lists hold, then pairs and triples of the most suspect ones, with at least
`least` rows, ranked by how surely their accuracy lies below the rest's (a binomial tail). Columns are the inputs, the groups, and others of few values
that came with the rows and do not tell the target: a scanner that the model is not told of. The `keep` worst, and the declared slices, go to the test
split. Since those rows had no part in the search, their intervals need no correction for it, only for how many were kept: the high end of the worst
accuracy is corrected for them (Bonferroni), the low end needs none, for the truly worst is one of them. Left out: regions of pictures and texts that no
column names.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binom

from ..checks.columns import is_text, tells
from ..forms import Measurement
from ..intervals import Interval, paired, within
from ..kind import Metric
from ..subject import OF, Audit, Subject, is_list, is_time, metrics_of, numbers, rows_of, written


class Slices(Audit):
    def __init__(self, keep: int = 5, least: int = 25):
        """keep: slices that are confirmed. least: rows that a declared slice needs; a slice that is found needs up to twice as many, where there are 1,000 rows
        to find it on: of fewer, even a sound one would not be shown to be sound."""
        self.keep, self.least = keep, least

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            if kind.credit is not None:
                found += self._target(subject, target)
            else:
                why = "an answer of this kind is not more or less right on a scale from 0 to 1"
                found += self._nothing(subject, target, np.zeros(0, bool), time.perf_counter(), why, "slice.no_credit")
        return found

    def _target(self, subject: Subject, target: str) -> list[Measurement]:
        began = time.perf_counter()
        rest, confirm, clusters = _right(subject, "test", target), np.ones(subject.splits["test"].num_rows, bool), subject.clusters_of("test")
        split = "validation" if "validation" in subject.splits else "test"
        right, table = _right(subject, split, target), subject.splits[split]
        if split == "validation" and (both := np.r_[rest, right]).size and z_score(both, np.arange(len(both)) < len(rest), np.isfinite(both)) > LEARNT:
            split, right, table = "test", rest, subject.splits["test"]
        if split == "test":
            units = np.arange(table.num_rows) if clusters is None else clusters
            confirm = (np.random.default_rng(subject.seed).permutation(units.max(initial=0) + 1) % 2 == 0)[units]
            table, right = table.filter(pa.array(~confirm)), right[~confirm]
        if min(np.isfinite(right).sum(), (confirm & np.isfinite(rest)).sum()) < 4 * self.least:
            return self._nothing(subject, target, confirm, began, f"fewer than {4 * self.least} rows to find slices on, or to confirm them on")
        if table.num_rows > SEARCHED:
            few = np.sort(np.random.default_rng(subject.seed).choice(table.num_rows, SEARCHED, replace=False))
            table, right = table.take(pa.array(few)), right[few]
        enough = max(self.least, min(2 * self.least, table.num_rows // 20))
        names = search(table, right, columns_of(subject, table, target), enough, self.keep)
        kept = list(dict.fromkeys([*subject.slices, *names]))
        lines, test = {}, subject.splits["test"]
        for slice in kept:
            rows = rows_of(test, slice) & confirm & np.isfinite(rest)
            if rows.sum() >= (self.least if slice in subject.slices else enough):
                lines[slice] = rows
        if not lines:
            why = f"no slice of at least {self.least} rows: no column of few values, no number, no text" if not kept else f"no slice has {self.least} test rows"
            return self._nothing(subject, target, confirm, began, why)
        corrected = 1 - (1 - subject.level) / len(lines)
        found = []
        for name in ("worst_accuracy", "worse_than_overall"):
            each = {}
            for slice, rows in lines.items():
                at = [self._one(name, rest, rows, confirm & np.isfinite(rest), clusters, level) for level in (subject.level, corrected)]
                each[slice] = at
            pick = min if name == "worst_accuracy" else max
            worst = pick(each, key=lambda s: each[s][0].value)
            sure, wide = [e[0] for e in each.values()], [e[1] for e in each.values()]
            ends = (min(i.low for i in sure), min(i.high for i in wide)) if pick is min else (max(i.low for i in wide), max(i.high for i in sure))
            i = Interval(
                each[worst][0].value, *ends, f"{len(lines)} slices found on {'validation' if split != 'test' else 'half of test'}: {each[worst][0].method}"
            )
            details = {
                "worst": worst,
                "slices": {s: {"value": e[1].value, "low": e[1].low, "high": e[1].high, "n": int(lines[s].sum())} for s, e in each.items()},
            }
            found.append(self._line(subject, name, target, i, int(lines[worst].sum()), began, details, []))
        return found

    def _nothing(self, subject, target: str, confirm: np.ndarray, began: float, why: str, code: str = "slice.too_few") -> list[Measurement]:
        n = int(confirm.sum())
        return [self._line(subject, name, target, None, n, began, {"why": why}, [code]) for name in ("worst_accuracy", "worse_than_overall")]

    def _one(self, name: str, right: np.ndarray, rows: np.ndarray, all_: np.ndarray, clusters: np.ndarray | None, level: float) -> Interval:
        if name == "worst_accuracy":
            return within(right[rows], 0, 1, level=level, clusters=None if clusters is None else clusters[rows], seed=0)
        n = np.flatnonzero(all_)  # overall less slice, on the same rows, each the mean of its own part
        x, inside = right[n], rows[n]
        if inside.all():
            return Interval(0.0, 0.0, 0.0, "the slice is all rows")
        part = Metric(lambda index: float(x[index].mean()) if len(index) else float("nan"))
        own = Metric(lambda index: float(x[index][inside[index]].mean()) if inside[index].any() else float("nan"))
        return paired(part, own, len(n), level=level, clusters=None if clusters is None else clusters[n])

    def _line(self, subject, name, target, i, n, began, details, reasons) -> Measurement:
        value, low, high, method = (None, None, None, "none") if i is None else (i.value, i.low, i.high, i.method)
        seconds = time.perf_counter() - began
        return Measurement("slices", f"slice.{name}", target, "test", None, value, low, high, subject.level, n, method, subject.seed, seconds, details, reasons)


LEARNT = 4.0  # standard errors by which validation may be better
SEARCHED = 100_000  # rows that are searched: a slice that these do not show is small or mild; all test rows confirm
FEW, MOST = 50, 200  # values of a column beside the inputs; of an input, the most frequent


def columns_of(subject: Subject, table: pa.Table, target: str) -> list[str]:
    """The columns that slices are made of."""
    schema, kind = subject.schema, subject.schema.targets[target]
    truth = kind.encode_target(kind.column(table, target))
    classes = truth["values"].ndim == 1 and truth["values"].dtype.kind == "i"
    y, beside = truth["values"][truth["known"]] if classes else np.zeros(int(truth["known"].sum()), np.int64), []
    for name in table.column_names:
        column = table.column(name)
        if is_list(column) and name in kind.beside:  # the labels of its boxes
            beside.append(name)
        few = (is_text(column) or pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)) and len(column.unique()) <= FEW
        if name in (*schema.inputs, *schema.group, *schema.targets) or not few or not len(y):
            continue
        codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()[truth["known"]]
        if not tells(codes, y):
            beside.append(name)
    return list(dict.fromkeys([*schema.inputs, *schema.group, *beside]))


def _right(subject: Subject, split: str, target: str) -> np.ndarray:
    """(N,): the credit of each answer, of a class 1 where it is right; NaN where there is no truth."""
    return metrics_of(subject, split, target)[subject.schema.targets[target].credit].rows


def candidates(table: pa.Table, inputs: Iterable[str]) -> list[str]:
    """Slices of single columns: values, and what lists hold, the most frequent; fifths and twentieths of numbers, times, texts' lengths and times' hours;
    empty cells."""
    found = []
    for name in inputs:
        if name not in table.column_names or any(c in name for c in "=<>&"):
            continue
        column, of = table.column(name), []
        if is_text(column) and len(column.unique()) > 0.5 * len(column):
            of = ["len"]
        elif is_time(column):
            of = ["hour", "weekday"] if pa.types.is_timestamp(column.type) else ["weekday"]
            found += ranges(name, column) if column.null_count < len(column) else []
        found += [s for f in of for s in of_column(f"{f}({name})", OF[f](column))] if of else of_column(name, column)
    return found


def of_column(name: str, column: pa.ChunkedArray) -> list[str]:
    if is_list(column):
        held = [v for row in column.to_pylist() for v in set(row or ())]
        return [f"{name}={v}" for v, _ in Counter(held).most_common(MOST) if isinstance(v, str) and v and v == v.strip() and " & " not in v]
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_boolean(column.type)
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    counted = column.drop_null().value_counts() if text or number else pa.array([], pa.struct({"values": pa.string(), "counts": pa.int64()}))
    found = [f"{name}="] if len(counted) and column.null_count else []
    if text or len(counted) <= 10:
        values, counts = counted.field("values"), counted.field("counts")
        names = pc.cast(values, pa.string())  # as booleans are written too: true, false
        order = pc.sort_indices(pa.table({"n": counts, "name": names}), [("n", "descending"), ("name", "ascending")])[:MOST]
        shown = (names if text else values).take(order).to_pylist()
        return found + [f"{name}={v}" for v in map(str, shown) if v and v == v.strip() and " & " not in v]
    if pa.types.is_integer(column.type) and len(counted) <= MOST:  # numbers of stores, say
        found += [f"{name}={v}" for v in counted.field("values").to_pylist()]
    return found + ranges(name, column)


def ranges(name: str, column: pa.ChunkedArray) -> list[str]:
    """Fifths and twentieths of a number or a time."""
    x, found = numbers(column.drop_null()).to_numpy(), []
    for parts in (5, 20):
        cuts = list(dict.fromkeys(written(c, column) for c in np.quantile(x[np.isfinite(x)], np.arange(1, parts) / parts)))
        found += [f"{name}<={cuts[0]}", f"{name}>{cuts[-1]}"]
        found += [f"{name}>{a} & {name}<={b}" for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    return found


def search(table: pa.Table, right: np.ndarray, inputs: Iterable[str], least: int, keep: int) -> list[str]:
    """The slices whose rows are surest to be answered worse than the others, worst first; of two that hold nearly the same rows one."""
    known = np.isfinite(right)
    rows = {s: rows_of(table, s) & known for s in candidates(table, inputs)}
    score = {s: surely_worse(right, r, known) for s, r in rows.items() if least <= r.sum() <= known.sum() - least}
    top = sorted(score, key=score.get, reverse=True)[:12]

    def joined(pairs: Iterable[tuple[str, str]]) -> list[str]:
        made = []
        for a, b in pairs:
            both = rows[a] & rows[b]
            if least <= both.sum() < min(rows[a].sum(), rows[b].sum()):
                made.append(f"{a} & {b}")
                rows[made[-1]], score[made[-1]] = both, surely_worse(right, both, known)
        return sorted(made, key=score.get, reverse=True)

    joined((pair, one) for pair in joined(combinations(top, 2))[:6] for one in top)
    kept: list[str] = []
    for s in sorted(score, key=score.get, reverse=True):
        if all((rows[s] & rows[k]).sum() < 0.8 * (rows[s] | rows[k]).sum() for k in kept):
            kept.append(s)
        if len(kept) == keep:
            break
    return kept


def surely_worse(right: np.ndarray, inside: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """-log of the chance that so many inside are wrong if they were as the others are (a z score favours small slices), then the z score."""
    a, b = right[inside], right[known & ~inside]
    wrong = (1 - b.mean()) if len(b) else 1.0
    lost = np.floor((1 - a).sum() + 1e-9)
    return -float(binom.logsf(lost - 1, len(a), min(max(wrong, 1 / (len(b) + 2)), 1.0))), z_score(right, inside, known)


def z_score(right: np.ndarray, inside: np.ndarray, known: np.ndarray) -> float:
    """How many standard errors the mean credit inside lies below that of the others."""
    a, b = right[inside], right[known & ~inside]
    spread = right[known].var() * (1 / max(len(a), 1) + 1 / max(len(b), 1))
    return float((b.mean() - a.mean()) / max(spread, 1e-12) ** 0.5) if len(a) and len(b) else 0.0
