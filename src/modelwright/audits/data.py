"""What is wrong with the data: copies and leaks between splits, columns that give the answer away, wrong labels, codes, units, shift.

Rates are of rows and carry an interval where they rest on a sample or an estimate; the others count findings, after correction for the columns that
were looked at, and `details` names each with its evidence. Every finding has its metric's name as a reason code. The checks and their sources are
in `checks/`. Nothing is changed: a cleaning plan is the user's. The model is not asked. Large tables are sampled (`rows`, evenly by seed; equal
rows, members and moments are always compared in full). Left out: wrong numbers as labels, images that are crops or mirrors of each other, the order of
rows in a file (no model reads it, unless a column counts it).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from ..checks import columns, copies, hidden, labels, leaks, personal, prepared, shift, shortcuts
from ..checks.learner import features, out_of_fold
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import Audit, Subject

ALARM = 0.01  # the chance of a false finding, per metric
SHORT = 5  # columns or rows that details name


class Data(Audit):
    def __init__(self, rows: int = 4000):
        """rows: the most of a split that the checks with a learner look at."""
        self.rows = rows

    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.splits["test"].num_rows == 0:  # an environment: there is no table
            return []
        self.subject, self.began = subject, time.perf_counter()
        self.test, self.train = subject.splits["test"], subject.splits.get("train")
        self.alarm = min(ALARM, 1 - subject.level)
        steps: list[tuple[str, Callable[[], list[Measurement]]]] = [
            ("seen_rate", self._seen), ("duplicate_rate", self._duplicates), ("group_overlap", self._members), ("time_overlap", self._moments),
            ("coded_missing", self._columns), ("preprocessing", self._prepared), ("leakage", self._leaks), ("label_error_rate", self._labels),
            ("split_shift", self._shift), ("near_duplicate_rate", self._near), ("shortcut", self._shortcuts), ("contamination", self._contamination),
            ("personal", self._personal),
        ]  # fmt: skip
        found = []
        for name, step in steps:
            self.start = time.perf_counter()
            if subject.seconds is not None and self.start - self.began > subject.seconds:
                found.append(self._line(name, None, 0, {}, ["data.budget"]))
            elif name in ("duplicate_rate", "near_duplicate_rate", "split_shift", "preprocessing") and self.train is None:
                found.append(self._line(name, None, 0, {"needs": "train"}, ["data.no_train"]))
            else:
                found += step()
        return found

    def _line(
        self, name: str, value: float | None, n: int, details: dict[str, Any], reasons: list[str] | None = None, *, target: str | None = None,
        split: str = "test", low: float | None = None, high: float | None = None, method: str = "exact: these rows, counted", level: float = 1.0,
    ) -> Measurement:  # fmt: skip
        reasons = [f"data.{name}"] * bool(value) if reasons is None else reasons
        low, high = (value, value) if low is None and high is None else (low, high)
        seconds = time.perf_counter() - self.start
        return Measurement("data", f"data.{name}", target, split, None, value, low, high, level, n, method, self.subject.seed, seconds, details, reasons)

    def _sample(self, table: pa.Table, rows: int | None = None) -> pa.Table:
        rows = rows or self.rows
        if table.num_rows <= rows:
            return table
        return table.take(np.sort(np.random.default_rng(self.subject.seed).permutation(table.num_rows)[:rows]))

    def _units(self, table: pa.Table) -> np.ndarray | None:
        if self.subject.clusters is None or self.subject.clusters not in table.column_names:
            return None
        return table.column(self.subject.clusters).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)

    def _share(self, name: str, hits: np.ndarray, whole: int, details: dict[str, Any], split: str = "test") -> Measurement:
        """A share of rows: exact where all were looked at."""
        if len(hits) == whole:
            return self._line(name, float(hits.mean()), len(hits), details, split=split)
        i = interval(Metric.mean(hits, "lower"), len(hits), level=self.subject.level)
        return self._line(name, i.value, len(hits), details, split=split, low=i.low, high=i.high, method=i.method, level=self.subject.level)

    @property
    def _inputs(self) -> list[str]:
        return [n for n, k in self.subject.schema.inputs.items() if not k.drawn and n in self.test.column_names]

    def _others(self) -> dict[str, pa.Table]:
        return {n: t for n, t in self.subject.splits.items() if n in ("train", "validation", "calibration")}

    def _main(self) -> tuple[str, pa.Table]:
        """The split that columns are looked at in."""
        return ("test", self.test) if self.train is None else ("train", self.train)

    # What splits share

    def _seen(self) -> list[Measurement]:
        """Of the rows that were given: those that the model was trained on, which are no longer among the test rows."""
        met = self.subject.seen
        if met is None:
            return []
        if met.lacks is not None:
            return [self._line("seen_rate", None, 0, {"why": met.lacks}, ["data.no_record"])]
        details = {"left_out": int(met.rows.sum()), "equal_to_a_row_of_training": met.met, "by_chance": met.chance}
        return [self._line("seen_rate", float(met.rows.mean()), len(met.rows), details)]

    def _duplicates(self) -> list[Measurement]:
        own = {n: copies.equal_rows(self.test.select(self._inputs), t.select(self._inputs)) for n, t in self._others().items()}
        return [self._share("duplicate_rate", np.any(list(own.values()), axis=0), self.test.num_rows, {n: int(v.sum()) for n, v in own.items()})]

    def _near(self) -> list[Measurement]:
        test, train = self._sample(self.test, self.rows // 2), self._sample(self.train)
        near, (a, b) = copies.near_rows(self.subject.schema, test, train), (t.select(self._inputs) for t in (test, train))
        near = (near | copies.equal_rows(copies.folded_table(a), copies.folded_table(b))) & ~copies.equal_rows(a, b)
        whole = self.test.num_rows if train.num_rows == self.train.num_rows else -1
        details = {"compared": [test.num_rows, train.num_rows], "by_chance": copies.CHANCE}
        if whole < 0:
            details["note"] = "training rows were sampled: copies of the others are not seen"
        return [self._share("near_duplicate_rate", near, whole, details)]

    def _members(self) -> list[Measurement]:
        others = self._others()
        names = copies.entities([self.test, *others.values()], self.subject.clusters, {*self.subject.schema.targets, *self.subject.schema.group})
        names = [n for n in names if all(n in t.column_names for t in (self.test, *others.values()))]
        if not names or not others:
            return []
        hits = {n: np.any([copies.shared_members(self.test.column(n), t.column(n)) for t in others.values()], axis=0) for n in names}
        worst = max(hits, key=lambda n: hits[n].mean())
        return [self._share("group_overlap", hits[worst], self.test.num_rows, {"columns": {n: float(h.mean()) for n, h in hits.items()}})]

    def _moments(self) -> list[Measurement]:
        if self.train is None:
            return []
        hits, ends = {}, {}
        for n in self.test.column_names:
            if n in self.subject.schema.targets or n not in self.train.column_names:
                continue
            then, now = (copies.moments(t.column(n), n) for t in (self.train, self.test))
            if then is None or now is None or not np.isfinite(then).any():
                continue
            hits[n], ends[n] = now <= np.nanmax(then), str(max(v for v in self.train.column(n).to_pylist() if v is not None))
        if not hits:
            return []
        least = min(hits, key=lambda n: hits[n].mean())  # a date of birth overlaps by nature: the column that parts the splits best speaks
        details = {"columns": {n: float(h.mean()) for n, h in hits.items()}, "training_ends": ends}
        return [self._share("time_overlap", hits[least], self.test.num_rows, details)]

    def _contamination(self) -> list[Measurement]:
        schema = self.subject.schema
        names = [
            n for n, k in (schema.inputs | schema.targets).items() if k.form == "ids" and n in self.test.column_names and columns.is_text(self.test.column(n))
        ]
        if not names:
            return []
        if self.train is None:
            return [self._line("contamination", None, 0, {"needs": "train"}, ["data.no_train"])]
        test = self._sample(self.test, 2 * self.rows)
        found = {n: copies.contaminated(test.column(n), self.train.column(n)) for n in names}
        hits = np.any([h for h, _ in found.values()], axis=0)
        asked = np.any([a for _, a in found.values()], axis=0)
        details = {"columns": {n: int(h.sum()) for n, (h, _) in found.items()}, "long_enough": int(asked.sum())}
        return [self._share("contamination", hits, self.test.num_rows, details)]

    def _personal(self) -> list[Measurement]:
        """Rows with personal data in any column; what it is and where, never the data itself."""
        split, whole = self._main()
        table, named = self._sample(whole, 5 * self.rows), {}
        hits = np.zeros(table.num_rows, bool)
        for n in table.column_names:
            for what, of in personal.found(table.column(n)).items():
                named.setdefault(n, {})[what] = int(of.sum())
                hits |= of
        if not table.num_rows:
            return []
        return [self._share("personal", hits, whole.num_rows, {"columns": named, "looked_at": table.num_rows}, split)]

    # What columns say

    def _columns(self) -> list[Measurement]:
        split, table = self._main()
        table, test = self._sample(table, 5 * self.rows), self._sample(self.test, 5 * self.rows)
        schema, codes, formats, units = self.subject.schema, {}, {}, {}
        names = [n for n in self._inputs + list(schema.targets) if n in table.column_names]
        for n in names:
            code = columns.coded_missing(table.column(n)) if n not in schema.targets or columns.is_number(table.column(n)) else None
            codes |= {n: code} if code else {}
        for n in table.column_names:
            written = columns.number_format(table.column(n).slice(0, 5000)) if n not in schema.truths else None
            formats |= {n: written} if written else {}
        both = pa.concat_tables([t.select(table.column_names) for t in ((table, test) if split == "train" else (table,))], promote_options="permissive")
        groups = {}
        if split == "train":
            groups["split"] = np.repeat([0, 1], [table.num_rows, test.num_rows])
        for n in both.column_names:
            column = both.column(n)
            if n not in schema.targets and (columns.is_text(column) or pa.types.is_boolean(column.type)) and (cells := leaks.cells(column)):
                of = cells[0].astype(np.int64)
                groups |= {n: of} if 2 <= len(np.unique(of[of >= 0])) <= 20 else {}
        for n in names:
            if columns.is_number(both.column(n)):
                x = columns.floats(both.column(n))
                coded = [float(c) for c in codes.get(n, {})]
                switch = columns.unit_switch(np.where(np.isin(x, coded), np.nan, x), groups)
                units |= {n: switch} if switch else {}
        n, found = table.num_rows, []
        for name, what in (("coded_missing", codes), ("number_format", formats), ("unit_switch", units)):
            details = {"columns": dict(list(what.items())[:SHORT]), "looked_at": len(names)}
            found.append(self._line(name, float(len(what)), n, details, split=split, method="rules (see checks/columns), columns counted"))
        return found

    def _prepared(self) -> list[Measurement]:
        parts, found = [self.train, *(t for n, t in self._others().items() if n != "train"), self.test], {}
        for n in self._inputs:
            if all(n in t.column_names and columns.is_number(t.column(n)) for t in parts):
                how = prepared.prepared([columns.floats(t.column(n)) for t in parts])
                found |= {n: how} if how else {}
        rows = sum(t.num_rows for t in parts)
        details = {"columns": dict(list(found.items())[:SHORT])}
        return [self._line("preprocessing", float(len(found)), rows, details, method="rules (see checks/prepared), columns counted")]

    def _truth(self, table: pa.Table, target: str) -> tuple[np.ndarray, np.ndarray, int | None] | None:
        """y, known, classes (None: a number); None where the target is neither."""
        kind = self.subject.schema.truths[target]
        if target not in table.column_names or kind.head not in ("classes", "binary", "ordered", "regression"):
            return None
        truth = kind.encode_target(kind.column(table, target))
        return truth["values"], truth["known"], None if kind.head == "regression" else len(kind.labels_)

    def _leaks(self) -> list[Measurement]:
        split, whole = self._main()
        whole, found = self._sample(whole), []
        for target in self.subject.schema.truths:
            truth = self._truth(whole, target)
            if truth is None:
                continue
            y, known, classes = truth
            table, y = whole.filter(pa.array(known)), y[known]
            if len(y) < 40:
                found.append(self._line("leakage", None, len(y), {}, ["data.too_few"], target=target, split=split))
                continue
            units = self._units(table)
            asked = {n: table.column(n) for n in self._inputs}

            def rest(without: tuple[str, ...], table=table, y=y, classes=classes, units=units) -> np.ndarray:
                return out_of_fold(features(self.subject.schema, table, without), y, classes, self.subject.seed, units)

            hits = leaks.leaking(asked, y, classes, rest, self.subject.seed, 1 - 0.9 * self.alarm, units)
            hits += hidden.answers({n: c for n, c in asked.items() if n not in {h["column"] for h in hits}}, y, classes, self.subject.seed,
                                   1 - 0.1 * self.alarm, units)  # fmt: skip
            method = f"each column alone against all others, out of fold, and what columns hide; false findings at most {self.alarm:g}"
            details = {"columns": hits[:SHORT], "looked_at": len(asked)}
            found.append(self._line("leakage", float(len(hits)), len(y), details, target=target, split=split, method=method))
        return found

    def _shortcuts(self) -> list[Measurement]:
        split, whole = self._main()
        whole, schema, found = self._sample(whole), self.subject.schema, []
        statistics: dict[str, np.ndarray] = {}
        own = [n for n in schema.own if schema.inputs[n].form == "picture" and n in whole.column_names]
        for n in own:
            statistics |= {f"{s} ({n})" if len(own) > 1 else s: v for s, v in shortcuts.of_pictures(schema.inputs[n].encode(whole.column(n))["values"]).items()}
            statistics |= {f"{s} ({n})" if len(own) > 1 else s: v for s, v in shortcuts.of_files(whole.column(n)).items()}
        for n in self._inputs:
            if n in whole.column_names and schema.inputs[n].form == "ids" and columns.is_text(whole.column(n)):
                statistics[f"length of {n}"] = np.array([len(v or "") for v in whole.column(n).to_pylist()], np.float64)
        read = [whole.column(n).is_null().to_numpy() for n in self._inputs]
        statistics["missing cells in the row"] = np.sum(read, axis=0).astype(np.float64) if read else np.zeros(whole.num_rows)
        for target in schema.truths:
            truth = self._truth(whole, target)
            if truth is None:
                continue
            y, known, classes = truth
            if known.sum() < 40:
                found.append(self._line("shortcut", None, int(known.sum()), {}, ["data.too_few"], target=target, split=split))
                continue
            units = self._units(whole)
            units = None if units is None else units[known]
            said = (y[known], classes, self.subject.seed, 1 - self.alarm, units)
            hits = shortcuts.telling({n: v[known] for n, v in statistics.items()}, *said)
            if any(h["statistic"].startswith("file size") for h in hits):  # it follows from what is shown, too: a star takes more bytes than a square
                beyond = {f"file size beyond what is shown ({n})": shortcuts.beyond_content(whole.column(n))[known] for n in own}
                hits = [h for h in hits if not h["statistic"].startswith("file size")] + shortcuts.telling(beyond, *said)
            details = {"statistics": hits[:SHORT], "looked_at": sorted(statistics)}
            method = f"each statistic alone, out of fold; false findings at most {self.alarm:g}"
            found.append(self._line("shortcut", float(len(hits)), int(known.sum()), details, target=target, split=split, method=method))
        return found

    # What rows say

    def _labels(self) -> list[Measurement]:
        schema, found = self.subject.schema, []
        names = [n for n, k in schema.truths.items() if k.head in ("classes", "binary", "ordered")]
        if not names:
            return []
        parts = {"train": self._sample(self.train)} if self.train is not None else {}
        parts["test"] = self._sample(self.test)
        table = pa.concat_tables([t.select(self._common(parts)) for t in parts.values()], promote_options="permissive")
        x = features(schema, table)
        side = np.repeat(list(parts), [t.num_rows for t in parts.values()])
        units = self._units(table)
        for target in names:
            y, known, classes = self._truth(table, target)
            rows = np.flatnonzero(known)
            p = out_of_fold(x[rows], y[rows], classes, self.subject.seed, None if units is None else units[rows]) if len(rows) >= 60 else None
            for split in ("train", "test"):
                name = "label_error_rate" if split == "train" else "test_label_error_rate"
                mine = side[rows] == split
                clusters = None if units is None else units[rows][mine]
                rate = None if p is None else labels.error_rate(p[mine], y[rows][mine], self.subject.level, clusters)
                if rate is None:
                    lacks = "data.no_train" if split == "train" and self.train is None else "data.too_few"
                    found.append(self._line(name, None, int(mine.sum()), {}, [lacks], target=target, split=split if split in parts else "test"))
                    continue
                i, n = rate
                details: dict[str, Any] = {"rests_on": n}
                if split == "train":
                    bad = labels.suspects(p[mine], y[rows][mine], SHORT)
                    names_ = schema.truths[target].labels_
                    guess = p[mine].argmax(1)
                    details["suspects"] = [f"row {rows[mine][b]}: {names_[y[rows][mine][b]]}, rather {names_[guess[b]]}" for b in bad] if i.low > 0 else []
                    if parts["train"].num_rows < self.train.num_rows:
                        details["suspects"] = []  # numbers of rows in a sample help nobody
                method = f"surest out-of-fold predictions against labels; {i.method}"
                line = self._line(name, i.value, int(mine.sum()), details, None if i.low > 0 else [], target=target, split=split, low=i.low, high=i.high,
                                  method=method, level=self.subject.level)  # fmt: skip
                found.append(line)
            found += [] if p is None else self._by_group(table.take(rows), target, p, y[rows])
        return found

    def _by_group(self, table: pa.Table, target: str, p: np.ndarray, y: np.ndarray) -> list[Measurement]:
        """Labels that are wrong in one group above all: the group whose rate is surely highest, at a level corrected for the groups."""
        of: dict[str, np.ndarray] = {}
        for n in table.column_names:
            column = table.column(n)
            if n not in self.subject.schema.targets and (columns.is_text(column) or pa.types.is_boolean(column.type)):
                codes = column.cast(pa.string()).combine_chunks().dictionary_encode()
                values = codes.dictionary.to_pylist()
                here = {f"{n}={v}": np.asarray(codes.indices.fill_null(-1)) == i for i, v in enumerate(values)} if 2 <= len(values) <= 20 else {}
                of |= {k: v for k, v in here.items() if v.sum() >= 60}
        level, worst = 1 - (1 - self.subject.level) / max(1, len(of)), None
        units = self._units(table)
        for name, inside in of.items():
            rate = labels.error_rate(p[inside], y[inside], level, None if units is None else units[inside])
            if rate is not None and (worst is None or rate[0].low > worst[1].low):
                worst = (name, *rate)
        if worst is None:
            return []
        name, i, n = worst
        details, method = {"group": name, "rests_on": n, "groups": len(of)}, f"the worst of {len(of)} groups; {i.method}"
        return [self._line("group_label_error_rate", i.value, len(y), details, None if i.low > 0 else [], target=target, low=i.low, high=i.high,
                           method=method, level=self.subject.level)]  # fmt: skip

    def _common(self, parts: dict[str, pa.Table]) -> list[str]:
        return [n for n in self.test.column_names if all(n in t.column_names for t in parts.values())]

    def _shift(self) -> list[Measurement]:
        schema, parts = self.subject.schema, {"train": self._sample(self.train, self.rows // 2), "test": self._sample(self.test, self.rows // 2)}
        if min(t.num_rows for t in parts.values()) < 40:
            return [self._line("split_shift", None, self.test.num_rows, {}, ["data.too_few"])]
        table = pa.concat_tables([t.select(self._common(parts)) for t in parts.values()], promote_options="permissive")
        side, units = np.repeat([False, True], [t.num_rows for t in parts.values()]), self._units(table)
        alike = copy.deepcopy(schema)
        alike.fit(table)  # on both: a word or name that training lacks would else be unknown in test rows alone
        auroc, p = shift.two_sample(features(alike, table), side, self.subject.seed, units)
        each = {}
        for n in [*self._inputs, *(t for t in schema.truths if t in table.column_names)]:
            cells = leaks.cells(table.column(n))
            if cells is not None and (not cells[1] or len(np.unique(cells[0])) <= 100):
                each[n] = shift.column_p(cells[0][~side], cells[0][side], cells[1])
        named = shift.holm(each, self.alarm / 2)
        seen = p <= self.alarm / 2 or (bool(named) and units is None)
        details = {"auroc": auroc, "p": p, "columns": {n: each[n] for n in named[:SHORT]} if seen else {}}
        method = f"classifier two-sample test with 2000 permutations, and each column's own; false findings at most {self.alarm:g}"
        return [self._line("split_shift", float(max(1, len(named))) if seen else 0.0, len(side), details, method=method)]
