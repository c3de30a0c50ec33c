"""Do groups fare alike: demographic parity, equal opportunity and equalized odds, as the worst difference between any two groups.

Groups are the values of the columns declared `group: true` and, of several, their intersections (`subject.groups_of`: also those who left a cell empty;
a number or a time by fifths); each column alone is looked at beside them, where more rows make a difference sure. For a class c: selection rate P(said c), true
positive rate P(said c | is c), false positive rate P(said c | is not c). Two classes: c is the second one; more: each class in turn, the worst
counts. Equalized odds is the larger of the worst differences of both rates (Hardt et al. 2016; `worst_case` in fairlearn).

Intervals, without bootstrap: each group's rate has an exact interval (whole clusters where declared), a pair's difference Newcombe's (1998, method
10) of two of them. The high end is the highest of all pairs' at the level itself: whichever pair is truly worst, its own interval holds. The low
end is the highest low end after Bonferroni over pairs, since the worst of many is worst partly by chance. Measured at level 0.95 on 2,000 sets a
line, 2 to 10 groups of 8 to 400 rows, rates 0.05 to 0.5: the interval misses the true worst difference in 4.9 % (2 equal groups) or less (10 groups
of 60 and 400, all alike: 2.6 %; with rates from 0.2 to 0.5: below 0.1 %), whereas the plain worst difference of those ten equal groups is 0.145 on
average instead of 0.

A group with fewer than `least` rows that a rate needs never sets the value or the low end; its interval still bounds the high end, and the figure
says `fairness.small_group`. A group without any has an unknown rate, not zero: `fairness.no_positives`; a group of the test rows that the trusted rows
lack is one. Labels are the split `trusted`'s where there is one, for the rates that need them; where a group's errors on them are surely less than a tenth
of those on the test rows, nine in ten would be the test labels' mistakes, and the labels rather follow the model, or the rows were picked where it is
right: `fairness.copied_labels`, no interval. In the details: rates, calibration (mean probability less share) and accuracy within groups, the worst group, and
of a model from elsewhere, which no run of ours repairs, the thresholds by group that would (`repair`). The worst group's accuracy is a figure of its own.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .. import find
from ..forms import Measurement
from ..intervals import Interval, interval
from ..kind import Metric, values_as_text
from ..subject import Audit, Elsewhere, Subject, groups_of

NAMES = {
    "demographic_parity_difference": ("selection rate",),
    "equal_opportunity_difference": ("true positive rate",),
    "equalized_odds_difference": ("true positive rate", "false positive rate"),
}


class Fairness(Audit):
    def __init__(self, least: int = 20):
        """least: rows of a group below which its rate is too unsure to accuse anyone."""
        self.least = least

    def measure(self, subject: Subject) -> list[Measurement]:
        schema, found = subject.schema, []
        labelled = "trusted" if "trusted" in subject.splits else "test"
        targets = [n for n, k in schema.truths.items() if k.labels_ is not None and k.head in ("classes", "binary", "ordered")]
        for target in targets if schema.group else []:
            for name, kinds in NAMES.items():
                split = "test" if name.startswith("demographic") else labelled
                found.append(self._figure(subject, target, name, kinds, split))
            found += self._worst(subject, target, labelled)
        return found

    def _worst(self, subject: Subject, target: str, split: str) -> list[Measurement]:
        """The accuracy of the group that fares worst, of those of `least` rows or more. The truly worst is one of them, so that the least of their low ends
        holds as it is; the high end is the least of theirs at a level corrected for how many there are."""
        began, kind, table = time.perf_counter(), subject.schema.targets[target], named(subject.splits[split], subject.schema)
        if any(c not in table.column_names for c in (*subject.schema.group, target)):
            return []  # said of the differences
        truth = kind.encode_target(kind.column(table, target))
        right, clusters, rows = subject.predict(split)[target].value.numpy() == truth["values"], subject.clusters_of(split), {}
        for columns in subject.groupings(table):
            group, names = groups_of(table, columns, None, self.least)
            rows |= {name: mine for g, name in enumerate(names) if (mine := truth["known"] & (group == g)).any()}
        large, small = ({n: r for n, r in rows.items() if (r.sum() >= self.least) == many} for many in (True, False))
        if not large:
            return []

        def each(level: float) -> dict[str, Interval]:
            return {n: interval(Metric.mean(right[r]), int(r.sum()), level=level, clusters=None if clusters is None else clusters[r]) for n, r in large.items()}

        sure, wide = each(subject.level), each(1 - (1 - subject.level) / len(large))
        worst = min(sure, key=lambda n: sure[n].value)
        ends = (sure[worst].value, min(i.low for i in sure.values()), min(i.high for i in wide.values()))
        details = {"worst": worst, "groups": {n: [i.value, i.low, i.high, int(large[n].sum())] for n, i in sure.items()}, "small": [*small][:10]}
        reasons = ["fairness.small_group"] * bool(small)
        line = self._line(subject, "worst_group_accuracy", target, split, *ends, int(large[worst].sum()), began, details, reasons)
        line.method = f"the least of {len(large)} groups: {sure[worst].method}"
        return [line]

    def _figure(self, subject: Subject, target: str, name: str, kinds: tuple[str, ...], split: str) -> Measurement:
        began, kind, table = time.perf_counter(), subject.schema.targets[target], subject.splits[split]
        if any(c not in table.column_names for c in subject.schema.group):
            return self._line(subject, name, target, split, None, None, None, 0, began, {}, ["fairness.no_groups"])
        whole, columns = subject.splits["test"], subject.schema.group
        table, whole = (named(t, subject.schema) for t in (table, whole))
        like = whole if all(c in whole.column_names for c in columns) else None
        group, names = groups_of(table, columns, like, self.least)
        alone = [groups_of(table, [c], like, self.least) for c in columns] if len(columns) > 1 else []
        prediction = subject.predict(split)[target]
        said, clusters = prediction.value.numpy(), subject.clusters_of(split)
        if name.startswith("demographic") and target not in table.column_names:
            y, known = said, group >= 0
        else:
            truth = kind.encode_target(kind.column(table, target))
            y, known = truth["values"], truth["known"] & (group >= 0)
        details: dict[str, Any] = {"groups": {n: int((group == g).sum()) for g, n in enumerate(names)}, "rows_without_group": int((group < 0).sum())}
        details |= {"labels": split, "positive": kind.labels_[1] if len(kind.labels_) == 2 else "each class in turn"}
        classes = [1] if len(kind.labels_) == 2 else range(len(kind.labels_))
        values, lows, highs, reasons, lacking = [], [], [], [], []
        pairs = [len(n) * (len(n) - 1) / 2 for _, n in ((group, names), *alone)]
        looked = len(classes) * len(kinds) * sum(pairs) / max(pairs[0], 1)
        for c in classes:
            for rate in kinds:
                rows = {"selection rate": known, "true positive rate": known & (y == c), "false positive rate": known & (y != c)}[rate]
                value, low, high, rates = worst_difference(said == c, rows, group, len(names), subject.level, looked, self.least, clusters)
                counts = np.bincount(group[rows], minlength=len(names))
                lacking += [f"{names[g]} has {counts[g]} rows for its {rate}" for g in np.flatnonzero(counts < self.least)]
                if (counts == 0).any():
                    reasons.append("fairness.no_positives" if rate == "true positive rate" else "fairness.empty_group")
                small = [names[g] for g in np.flatnonzero((counts > 0) & (counts < self.least))]
                if small:
                    reasons.append("fairness.small_group")
                    details.setdefault("small", {})[rate] = small[:10]
                values, lows, highs = [*values, value], [*lows, low], [*highs, high]
                label = rate if len(classes) == 1 else f"{rate} of {kind.labels_[c]}"
                details.setdefault("rates", {})[label] = {names[g]: rates[g] for g in range(len(names))}
                for (own, called), many in zip(alone, pairs[1:]):
                    at = rows & (own >= 0)
                    v, low, _, rates = worst_difference(said == c, at, own, len(called), subject.level, looked * pairs[0] / max(many, 1), self.least, clusters)
                    values, lows = [*values, v], [*lows, low]
                    details["rates"][label] |= dict(zip(called, rates))
        details["rates"] = dict(list(details["rates"].items())[:6])
        if len(names) < 2 or all(np.isnan(values)):
            reasons = list(dict.fromkeys([*reasons, "fairness.one_group"] if len(names) < 2 else reasons))
            why = "all rows are of one group" if len(names) == 1 else "no row has a group" if not names else f"a rate needs {self.least} rows of a group"
            details["why"] = "; ".join([why, *lacking[:4]])
            return self._line(subject, name, target, split, None, None, None, int(known.sum()), began, details, reasons)
        details |= self._thresholds(subject, target, name) if isinstance(subject.predictor, Elsewhere) else {}
        if target in table.column_names:
            details |= within(said, y, prediction.probabilities, known, group, names, subject.level)
        value, low, high = float(np.nanmax(values)), float(max(lows)), float(max(highs))
        if split == "trusted" and (copied := self._copied(subject, target)):
            low = high = None
            reasons, details["copied"] = [*reasons, "fairness.copied_labels"], copied
        return self._line(subject, name, target, split, value, low, high, int(known.sum()), began, details, list(dict.fromkeys(reasons)))

    def _thresholds(self, subject: Subject, target: str, name: str) -> dict[str, Any]:
        """Of two classes, by the rows of the role calibration (else validation), the probability of the second above which each group's rate is that of
        all; for equalized odds what the decoder group_thresholds finds, [threshold, weight] of each: the repair of a model that is trained elsewhere."""
        kind, columns = subject.schema.targets[target], subject.schema.group
        split = next((s for s in ("calibration", "validation") if s in subject.splits), None)
        if split is None or len(kind.labels_) != 2 or not {*columns, target} <= {*subject.splits[split].column_names}:
            return {}
        table = named(subject.splits[split], subject.schema)
        group, names = groups_of(table, columns, named(subject.splits["test"], subject.schema), self.least)
        said, truth = subject.predict(split)[target], kind.encode_target(kind.column(table, target))
        positive = truth["values"] == 1 if name.startswith("equal_opportunity") else np.ones(len(group), bool)
        rows = np.flatnonzero((group >= 0) & (name.startswith("demographic") | truth["known"] & positive))
        if said.probabilities is None or len(names) < 2:
            return {}
        if name.startswith("equalized"):
            decoder = find.make("decoders", {"group_thresholds": {"constraint": "equalized_odds", "least": self.least}})
            decoder.build(target, kind, names)
            parts = said.select(torch.from_numpy(rows)), torch.from_numpy(truth["values"][rows]), torch.from_numpy(group[rows])
            found = decoder.fit(target, *parts)["thresholds"]
        else:
            p = said.probabilities[:, 1].double().numpy()[rows]
            own = {n: q for g, n in enumerate(names) if len(q := p[group[rows] == g]) >= self.least}
            found = {n: [[float(np.quantile(q, 1 - (p > 0.5).mean())), 1.0]] for n, q in own.items()}
        return {"repair": {"thresholds": found, "split": split, "rows": len(rows)}} if len(found) > 1 else {}

    def _copied(self, subject: Subject, target: str) -> list[str]:
        """Groups whose trusted labels leave the model surely less than a tenth of its errors on the test rows; in each class too, for one may be picked."""
        kind, columns, found = subject.schema.targets[target], subject.schema.group, {}
        tables = {s: named(subject.splits[s], subject.schema) for s in ("test", "trusted")}
        if any(c not in tables["test"].column_names for c in (*columns, target)) or target not in tables["trusted"].column_names:
            return []
        for split, table in tables.items():
            group, names = groups_of(table, columns, tables["test"], self.least)
            truth, said = kind.encode_target(kind.column(table, target)), subject.predict(split)[target].value.numpy()
            for g, name in enumerate(names):
                for c in (None, *range(len(kind.labels_))):
                    rows = truth["known"] & (group == g) & (True if c is None else truth["values"] == c)
                    found.setdefault(name if c is None else f"{name}, {kind.labels_[c]}", {})[split] = (said != truth["values"])[rows]
        level = 1 - 0.002 / max(1, len(found))  # an end is wrong in one set of 1,000
        ends = {n: [interval(Metric.mean(e[s]), len(e[s]), level=level) for s in tables] for n, e in found.items() if len(e) == 2 and all(map(len, e.values()))}
        return [n for n, (test, trusted) in ends.items() if trusted.high < 0.1 * test.low]

    def _line(self, subject, name, target, split, value, low, high, n, began, details, reasons) -> Measurement:
        over = " over clusters" * (subject.clusters_of(split) is not None)
        method = f"worst pair of groups: Newcombe on exact intervals{over}, low end corrected for the number of pairs"
        seconds = time.perf_counter() - began
        return Measurement(
            "fairness", f"fairness.{name}", target, split, None, value, low, high, subject.level, n, method, subject.seed, seconds, details, reasons
        )


def named(table: pa.Table, schema: Any) -> pa.Table:
    """Numbers that the schema reads as names (districts 1 to 40) as names, so that they do not count by fifths."""
    for i, (n, column) in enumerate(zip(table.column_names, table.columns)):
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if number and n in schema.group and n in schema.inputs and schema.inputs[n].place == "code":
            table = table.set_column(i, n, values_as_text(column))
    return table


def worst_difference(
    hit: np.ndarray, rows: np.ndarray, group: np.ndarray, groups: int, level: float, looked: float, least: int, clusters: np.ndarray | None
) -> tuple[float, float, float, list[float | None]]:
    """The largest difference between two groups' shares of hits among rows, with its interval; and each group's share.

    looked: how many such differences compete for the worst one."""
    pairs = groups * (groups - 1) / 2
    counts = np.array([(rows & (group == g)).sum() for g in range(groups)])
    share = np.array([hit[rows & (group == g)].mean() if counts[g] else np.nan for g in range(groups)])
    sure, wide = (np.zeros((groups, 2)) for _ in range(2))
    for ends, at in ((sure, level), (wide, 1 - (1 - level) / max(1, pairs * looked))):
        for g in range(groups):
            mine = rows & (group == g)
            i = interval(Metric.mean(hit[mine]), int(counts[g]), level=at, clusters=None if clusters is None else clusters[mine])
            ends[g] = (i.low, i.high) if counts[g] and np.isfinite(i.low) else (0.0, 1.0)
    value, low, high = float("nan"), 0.0, 0.0
    for g in range(groups - 1):  # against all after it
        high = max(high, float(np.abs(_newcombe(share, sure, g)).max()))
        judged = (counts[g + 1 :] >= least) & (counts[g] >= least)
        if judged.any():
            d, (a, b) = (share[g] - share[g + 1 :])[judged], _newcombe(share, wide, g)
            value, low = float(np.fmax(np.abs(d).max(), value)), max(low, float(np.where(d >= 0, a[judged], -b[judged]).max()))
    return value, min(low, value) if not np.isnan(value) else 0.0, min(max(high, 0.0), 1.0), [None if np.isnan(s) else float(s) for s in share]


def _newcombe(share: np.ndarray, ends: np.ndarray, g: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of g's share (G,) less that of each group after it; an unknown share may be anything. ends (G, 2): each share's own."""
    d, (low, high), rest = share[g] - share[g + 1 :], ends[g], ends[g + 1 :]
    a, b = d - np.hypot(share[g] - low, rest[:, 1] - share[g + 1 :]), d + np.hypot(high - share[g], share[g + 1 :] - rest[:, 0])
    return np.where(np.isnan(d), low - rest[:, 1], a), np.where(np.isnan(d), high - rest[:, 0], b)


def within(said, y, probabilities, known, group, names, level) -> dict[str, Any]:
    """Accuracy of each group, the worst with its interval, and how far mean probability and share of the predicted class are apart."""
    accuracy, calibration = {}, {}
    for g, name in enumerate(names):
        mine = known & (group == g)
        if not mine.any():
            continue
        i = interval(Metric.mean(said[mine] == y[mine]), int(mine.sum()), level=level)
        accuracy[name] = [i.value, i.low, i.high]
        if probabilities is not None:
            p = probabilities.numpy()[mine].astype(np.float64)
            truth = np.eye(p.shape[1])[y[mine]]
            calibration[name] = float(np.abs(p.mean(0) - truth.mean(0)).max())
    worst = min(accuracy, key=lambda n: accuracy[n][0])
    return {"accuracy": accuracy, "worst_group": worst, "calibration_gap": calibration}
