"""Where does it fail: a search for groups of rows on which a class model does worse than on the rest, confirmed on other rows.

One half finds, the other confirms. Found on validation (or, without it, on half of the test split): every value of a category, every fifth of a
number, and pairs of the most suspect ones, with at least `least` rows, ranked by how surely their accuracy lies below the rest's (a z score); the
`keep` worst, and the declared slices, go to the test split. Since those rows had no part in the search, their intervals need no correction for it,
only for how many were kept: the high end of the worst accuracy is corrected for them (Bonferroni), the low end needs none, for the truly worst is
one of them. Left out: regions of pictures and texts that no column names; targets that are no classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pyarrow as pa

from ..forms import Measurement
from ..intervals import Interval, interval, paired
from ..kind import Metric
from ..subject import Audit, Subject, rows_of


class Slices(Audit):
    def __init__(self, keep: int = 5, least: int = 25):
        """keep: slices that are confirmed. least: rows that a slice needs, where it is found and where it is confirmed."""
        self.keep, self.least = keep, least

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            if kind.head in ("classes", "binary", "ordered"):
                found += self._target(subject, target)
        return found

    def _target(self, subject: Subject, target: str) -> list[Measurement]:
        began = time.perf_counter()
        split = "validation" if "validation" in subject.splits else "test"
        right, table = _right(subject, split, target), subject.splits[split]
        rest, confirm, clusters = _right(subject, "test", target), np.ones(subject.splits["test"].num_rows, bool), subject.clusters_of("test")
        if split == "test":
            units = np.arange(table.num_rows) if clusters is None else clusters
            confirm = (np.random.default_rng(subject.seed).permutation(units.max(initial=0) + 1) % 2 == 0)[units]
            table, right = table.filter(pa.array(~confirm)), right[~confirm]
        if min(np.isfinite(right).sum(), (confirm & np.isfinite(rest)).sum()) < 4 * self.least:
            return [self._line(subject, n, target, None, int(confirm.sum()), began, {}, ["slice.too_few"]) for n in ("worst_accuracy", "worse_than_overall")]
        names = search(table, right, subject.schema.inputs, self.least, self.keep)
        kept = list(dict.fromkeys([*subject.slices, *names]))
        lines, test = {}, subject.splits["test"]
        for slice in kept:
            rows = rows_of(test, slice) & confirm & np.isfinite(rest)
            if rows.sum() >= self.least:
                lines[slice] = rows
        if not lines:
            return [self._line(subject, n, target, None, int(confirm.sum()), began, {}, ["slice.too_few"]) for n in ("worst_accuracy", "worse_than_overall")]
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

    def _one(self, name: str, right: np.ndarray, rows: np.ndarray, all_: np.ndarray, clusters: np.ndarray | None, level: float) -> Interval:
        if name == "worst_accuracy":
            return interval(Metric.mean(right[rows]), int(rows.sum()), level=level, clusters=None if clusters is None else clusters[rows])
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


def _right(subject: Subject, split: str, target: str) -> np.ndarray:
    """(N,): 1 where the answer is right, NaN where there is no truth."""
    kind = subject.schema.targets[target]
    truth = kind.encode_target(kind.column(subject.splits[split], target))
    return np.where(truth["known"], subject.predict(split)[target].value.numpy() == truth["values"], np.nan)


def candidates(table: pa.Table, inputs: Iterable[str]) -> list[str]:
    """Slices of single columns: values of those with at most 50, fifths of numbers."""
    found = []
    for name in inputs:
        if name not in table.column_names or any(c in name for c in "=<>&"):
            continue
        column = table.column(name)
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_boolean(column.type)
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if not text and not number:
            continue
        values = column.drop_null().unique().to_pylist()
        if len(values) <= 10 or (text and len(values) <= 50):
            shown = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
            found += [f"{name}={v}" for v in shown if v == v.strip() and " & " not in v]
        elif number:
            x = column.drop_null().to_numpy().astype(np.float64)
            cuts = np.unique(np.quantile(x[np.isfinite(x)], [0.2, 0.4, 0.6, 0.8]))
            found += [f"{name}<={cuts[0]:.6g}", f"{name}>{cuts[-1]:.6g}"]
            found += [f"{name}>{a:.6g} & {name}<={b:.6g}" for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    return found


def search(table: pa.Table, right: np.ndarray, inputs: Iterable[str], least: int, keep: int) -> list[str]:
    """The slices whose rows are surest to be answered worse than the others, worst first; of two that hold nearly the same rows one."""
    known = np.isfinite(right)
    rows = {s: rows_of(table, s) & known for s in candidates(table, inputs)}
    score = {s: z_score(right, r, known) for s, r in rows.items() if least <= r.sum() <= known.sum() - least}
    top = sorted(score, key=score.get, reverse=True)[:12]
    for a, b in combinations(top, 2):
        both = rows[a] & rows[b]
        if least <= both.sum() < min(rows[a].sum(), rows[b].sum()):
            pair = f"{a} & {b}"
            rows[pair], score[pair] = both, z_score(right, both, known)
    kept: list[str] = []
    for s in sorted(score, key=score.get, reverse=True):
        if all((rows[s] & rows[k]).sum() < 0.8 * (rows[s] | rows[k]).sum() for k in kept):
            kept.append(s)
        if len(kept) == keep:
            break
    return kept


def z_score(right: np.ndarray, inside: np.ndarray, known: np.ndarray) -> float:
    """How many standard errors the accuracy inside lies below that of the others."""
    a, b = right[inside], right[known & ~inside]
    spread = right[known].mean() * (1 - right[known].mean()) * (1 / max(len(a), 1) + 1 / max(len(b), 1))
    return float((b.mean() - a.mean()) / max(spread, 1e-12) ** 0.5) if len(a) and len(b) else 0.0
