"""What is wrong with the data: copies and leaks between splits, columns that give the answer away, wrong labels, codes, units, names, order, shift.

Rates are of rows and carry an interval where they rest on a sample or an estimate; the others count findings, after correction for the columns that
were looked at, and `details` names each with its evidence. Every finding has its metric's name as a reason code. The checks and their sources are
in `checks/`. Nothing is changed: a cleaning plan is the user's. The model is not asked. Large tables are sampled (`rows`, evenly by seed; equal
rows, members and moments are always compared in full). Left out: wrong numbers as labels, images that are crops or mirrors of each other.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from ..checks import codes, formats, hidden, labels, leaks, moments, order, personal, prepared, shortcuts, spelling, units
from ..checks.columns import crossings, fifths, floats, groups, is_number, is_text, tells, tenths
from ..checks.learner import features, out_of_fold
from ..forms import Measurement
from ..intervals import Interval
from ..subject import Audit, Subject
from . import _splits as splits
from ._view import SHORT, View

KEPT = 50  # columns, and names in one, that a cleaning plan can be made of
SUSPECTS = 200  # labels that are named, the likeliest wrong ones
WIDE = 500  # columns of features beyond which no plane is fitted


class Data(Audit):
    def __init__(self, rows: int = 4000):
        """rows: the most of a split that the checks with a learner look at."""
        self.rows = rows

    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.splits["test"].num_rows == 0:  # an environment: there is no table
            return []
        view, began, found = View(subject, self.rows), time.perf_counter(), []
        for name, step in STEPS.items():
            view.start = time.perf_counter()
            if subject.seconds is not None and view.start - began > subject.seconds:
                found.append(view.line(name, None, 0, {}, ["data.budget"]))
            elif name in COMPARE and view.train is None:
                found.append(view.line(name, None, 0, {"needs": "train"}, ["data.no_train"]))
            else:
                try:
                    found += step(view)
                except Exception as e:  # noqa: BLE001 - the other checks have their say
                    found.append(view.line(name, None, 0, {"why": f"{type(e).__name__}: {e}"}, ["audit.error"]))
        return found


def cells_of_columns(v: View) -> list[Measurement]:
    split, table = v.main()
    table, test = v.sample(table, 5 * v.rows), v.sample(v.test, 5 * v.rows)
    schema = v.subject.schema
    names = [n for n in v.inputs + list(schema.targets) if n in table.column_names]
    asked = [n for n in names if n not in schema.targets or is_number(table.column(n))]
    coded = {n: next((c for t in (table, test) if n in t.column_names and (c := codes.coded_missing(t.column(n)))), None) for n in asked}
    written = {n: formats.number_format(table.column(n).slice(0, 5000)) for n in table.column_names if n not in schema.truths}
    spelt = {n: spelling.misspelt(table.column(n)) for n in names}
    both = pa.concat_tables([t.select(table.column_names) for t in ((table, test) if split == "train" else (table,))], promote_options="permissive")
    of = {"split": np.repeat([0, 1], [table.num_rows, test.num_rows])} if split == "train" else {}
    grouped = groups(both, set(schema.targets), whole=True)
    of |= {n: codes_ for n, (codes_, _) in grouped.items()}
    of |= crossings(grouped)
    of |= {f"{n} ({i}0 %)": ((numbers >= i) * 1).astype(np.int64) for n, (numbers, _) in tenths(both).items() for i in range(1, 10)}
    times = {n: moments.moments(both.column(n)) for n in tenths(both)}
    like = {n: c for n, (c, _) in grouped.items()}
    like |= {f"{part} of {n}": c for n, t in times.items() for part, c in moments.calendar(t).items()}
    parts = {f"split and {n}": np.where(c < 0, c, c + of["split"] * (c.max() + 1)) for n, c in like.items()} if split == "train" else {}
    parts |= {"split": of["split"]} if split == "train" else like
    switched = {}
    for n in names:
        if is_number(both.column(n)):
            x = floats(both.column(n))
            x = np.where(np.isin(x, [float(c) for c in coded.get(n) or {}]), np.nan, x)
            since = {f"{when} (from a moment on)": units.since(x, t) for when, t in times.items() if when != n}
            switched[n] = units.unit_switch(x, of | since) or units.degrees(x, parts, like)
    n, found = table.num_rows, []
    for name, what, rules in (("coded_missing", coded, "codes"), ("number_format", written, "formats"), ("unit_switch", switched, "units"),
                              ("spelling", spelt, "spelling")):  # fmt: skip
        what = {k: dict(list(v.items())[:KEPT]) if isinstance(v, dict) else v for k, v in what.items() if v}
        details = {"columns": dict(list(what.items())[:KEPT]), "looked_at": len(names)}
        found.append(v.line(name, float(len(what)), n, details, split=split, method=f"rules (see checks/{rules}), columns counted"))
    return found


def preparation(v: View) -> list[Measurement]:
    parts, found = [v.train, *(t for n, t in v.others().items() if n != "train"), v.test], {}
    said: dict[tuple[str, int], list[np.ndarray]] = {}
    for part in parts:
        for target, y, known, classes in v.truths(part):
            for k in range(classes == 2, classes or 0):
                said.setdefault((target, k), []).append(np.where(known, y == k, np.nan))
    said = {k: y for k, y in said.items() if len(y) == len(parts) and np.isfinite(np.concatenate(y)).all()}
    grouped = by_names(parts, v.inputs)
    for n in v.inputs:
        if all(n in t.column_names and is_number(t.column(n)) for t in parts):
            x = [floats(t.column(n)) for t in parts]
            how = prepared.prepared(x) or next((h for y in said.values() if (h := prepared.encoded(x, y))), None) or prepared.counted(x)
            how = how or prepared.each_alone(x, several(v.test, n))
            how = how or next((f"by {g}: {h}" for g, of in grouped.items() if (h := prepared.filled_by(x, of))), None)
            found |= {n: how} if how else {}
    rows = sum(t.num_rows for t in parts)
    details = {"columns": dict(list(found.items())[:SHORT])}
    return [v.line("preprocessing", float(len(found)), rows, details, method="rules (see checks/prepared), columns counted")]


def several(table: pa.Table, beside: str) -> list[np.ndarray]:
    """(N,) int of each column whose values come again, three times on average."""
    found = []
    for n, column in zip(table.column_names, table.columns, strict=True):
        if n != beside and not pa.types.is_nested(column.type) and not pa.types.is_floating(column.type):
            code = column.combine_chunks().dictionary_encode(null_encoding="encode")
            found += [code.indices.to_numpy()] if 2 <= len(code.dictionary) <= len(column) / 3 else []
    return found


def by_names(parts: list[pa.Table], inputs: list[str]) -> dict[str, list[np.ndarray]]:
    """{column of a few names: of each part (N,) their numbers}"""
    found = {}
    for n in inputs:
        if all(n in t.column_names and is_text(t.column(n)) for t in parts):
            code = pa.chunked_array([c for t in parts for c in t.column(n).cast(pa.string()).chunks]).combine_chunks()
            code = code.dictionary_encode(null_encoding="encode")
            if len(code.dictionary) <= prepared.MOST:
                found[n] = np.split(code.indices.to_numpy(), np.cumsum([t.num_rows for t in parts])[:-1])
    return found


def leakage(v: View) -> list[Measurement]:
    split, whole = v.main()
    whole, found = v.sample(whole), []
    for target, y, known, classes in v.truths(whole):
        table, y = whole.filter(pa.array(known)), y[known]
        if len(y) < 40:
            found.append(v.line("leakage", None, len(y), {}, ["data.too_few"], target=target, split=split))
            continue
        of = v.units(table)
        told = set(v.subject.schema.known)
        asked = {n: table.column(n) for n in v.inputs if n not in told}

        def rest(without: tuple[str, ...], table=table, y=y, classes=classes, of=of) -> np.ndarray:
            return out_of_fold(features(v.subject.schema, table, without), y, classes, v.subject.seed, of)

        hits = leaks.leaking(asked | moments.spans(table, [*asked]), y, classes, rest, v.subject.seed, 1 - 0.9 * v.alarm, of)
        hits += hidden.answers({n: c for n, c in asked.items() if n not in {h["column"] for h in hits}}, y, classes, v.subject.seed,
                               1 - 0.1 * v.alarm, of)  # fmt: skip
        method = f"each column alone against all others, out of fold, and what columns hide; false findings at most {v.alarm:g}"
        details = {"columns": hits[:KEPT], "looked_at": len(asked), **({"declared_known": sorted(told)} if told else {})}
        found.append(v.line("leakage", float(len(hits)), len(y), details, target=target, split=split, method=method))
    return found


def row_order(v: View) -> list[Measurement]:
    split, whole = v.main()
    found = []
    for target, y, known, classes in v.truths(whole):
        of = v.units(whole)
        how = order.told_by_order(y[known], classes, 1 - v.alarm, None if of is None else of[known])
        method = f"agreement with earlier rows; false findings at most {v.alarm:g}"
        found.append(v.line("row_order", float(how is not None), int(known.sum()), {"how": how} if how else {}, target=target, split=split, method=method))
    return found


def shortcut(v: View) -> list[Measurement]:
    split, whole = v.main()
    whole, schema, found = v.sample(whole), v.subject.schema, []
    own, statistics = shortcuts.statistics(schema, whole, v.inputs)
    for target, y, known, classes in v.truths(whole):
        if known.sum() < 40:
            found.append(v.line("shortcut", None, int(known.sum()), {}, ["data.too_few"], target=target, split=split))
            continue
        of = v.units(whole)
        said = (y[known], classes, v.subject.seed, 1 - v.alarm, None if of is None else of[known])
        hits = shortcuts.telling({n: v[known] for n, v in statistics.items()}, *said)
        if any(h["statistic"].startswith("file size") for h in hits):  # it follows from what is shown, too: a star takes more bytes than a square
            beyond = {f"file size beyond what is shown ({n})": shortcuts.beyond_content(whole.column(n))[known] for n in own}
            hits = [h for h in hits if not h["statistic"].startswith("file size")] + shortcuts.telling(beyond, *said)
        details = {"statistics": hits[:SHORT], "looked_at": sorted(statistics)}
        method = f"each statistic alone, out of fold; false findings at most {v.alarm:g}"
        found.append(v.line("shortcut", float(len(hits)), int(known.sum()), details, target=target, split=split, method=method))
    return found


def wrong_labels(v: View) -> list[Measurement]:
    schema, found = v.subject.schema, []
    if not any(k.head in ("classes", "binary", "ordered") for k in schema.truths.values()):
        return []
    parts = {"train": v.sample(v.train)} if v.train is not None else {}
    parts["test"] = v.sample(v.test)
    table = pa.concat_tables([t.select(v.common(parts)) for t in parts.values()], promote_options="permissive")
    x, of, level = features(schema, table), v.units(table), v.subject.level
    side = np.repeat(list(parts), [t.num_rows for t in parts.values()])
    for target, y, known, classes in v.truths(table):
        if classes is None:
            continue
        rows = np.flatnonzero(known)
        y, of_, where = y[rows], None if of is None else of[rows], side[rows]
        p = out_of_fold(x[rows], y, classes, v.subject.seed, of_) if len(rows) >= 60 else None
        grouped = groups(table.take(rows), set(schema.targets), 50, whole=True) | tenths(table.take(rows))
        grouped = {n: g for n, g in grouped.items() if not tells(g[0], y)}  # among rows of one class, contradictions do not thin out
        ranges = fifths(table.take(rows), [n for n in v.inputs if n not in grouped and n in table.column_names])
        ranges = {n: g for n, g in ranges.items() if not tells(g[0], y)}
        worst = None if p is None else labels.worst_group(grouped | ranges, p, y, level, of_, ranges=ranges)
        worst = (labels.opposite(grouped, x[rows], y, level, of_) if worst and isinstance(x, np.ndarray) and x.shape[1] <= WIDE else None) or worst
        for split in ("train", "test"):
            name, mine = "label_error_rate" if split == "train" else "test_label_error_rate", where == split
            rate = None if p is None else labels.error_rate(p[mine], y[mine], level, None if of is None else of_[mine])
            if rate is not None and worst is not None and worst[1].value > rate[0].high:  # errors do not come alike in all groups
                rate = labels.error_rate(p[mine], y[mine], level, None if of is None else of_[mine], (grouped | ranges)[worst[0][0]][0][mine] + 1)
            if rate is None:
                lacks = "data.no_train" if split == "train" and v.train is None else "data.too_few"
                found.append(v.line(name, None, int(mine.sum()), {}, [lacks], target=target, split=split if split in parts else "test"))
                continue
            details: dict[str, Any] = {"rests_on": rate[1]}
            if split == "train":  # numbers of rows in a sample help nobody
                whole = rate[0].low > 0 and parts["train"].num_rows == v.train.num_rows
                bad, called = labels.suspects(p[mine], y[mine], SUSPECTS) if whole else [], schema.truths[target].labels_
                guess = p[mine].argmax(1)
                details["suspects"] = [f"row {rows[mine][b]}: {called[y[mine][b]]}, rather {called[guess[b]]}" for b in bad]
            found.append(_rate(v, name, rate[0], int(mine.sum()), details, target, split))
        if worst is not None:
            group, i, n, many = worst
            found.append(_rate(v, "group_label_error_rate", i, len(y), {"group": "=".join(group), "rests_on": n, "groups": many}, target, "test"))
    return found


def _rate(v: View, name: str, i: Interval, n: int, details: dict[str, Any], target: str, split: str) -> Measurement:
    return v.line(name, i.value, n, details, target=target, split=split, low=i.low, high=i.high, method=i.method, level=v.subject.level)


def personal_data(v: View) -> list[Measurement]:
    """Rows with personal data in any column; what it is and where, never the data itself."""
    split, whole = v.main()
    table, named = v.sample(whole, 5 * v.rows), {}
    hits = np.zeros(table.num_rows, bool)
    for n in table.column_names:
        for what, of in personal.found(table.column(n)).items():
            named.setdefault(n, {})[what] = int(of.sum())
            hits |= of
    if not table.num_rows:
        return []
    return [v.share("personal", hits, whole.num_rows, {"columns": named, "looked_at": table.num_rows}, split)]


STEPS = {
    "seen_rate": splits.seen_rows, "duplicate_rate": splits.duplicates, "group_overlap": splits.members, "time_overlap": splits.time_overlap,
    "coded_missing": cells_of_columns, "preprocessing": preparation, "leakage": leakage, "label_error_rate": wrong_labels, "split_shift": splits.split_shift,
    "representativeness": splits.representativeness,
    "near_duplicate_rate": splits.near, "synthetic_rate": splits.made_between, "row_order": row_order, "shortcut": shortcut,
    "contamination": splits.contamination, "personal": personal_data,
}  # fmt: skip
COMPARE = ("duplicate_rate", "near_duplicate_rate", "synthetic_rate", "split_shift", "preprocessing")
