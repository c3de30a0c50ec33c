"""What is proved. An audit measures and never judges: verdicts come from `registry.gate.decide` alone."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import find
from .errors import did_you_mean, refuse
from .forms import Measurement, Prediction, clauses
from .kind import Metric
from .predictor import Counting as Counting
from .predictor import Elsewhere as Elsewhere
from .predictor import Inward as Inward
from .predictor import Likelihood as Likelihood
from .predictor import Opened, Predictor
from .predictor import differ as differ
from .predictor import lean as lean

if TYPE_CHECKING:
    from .data.schema import Schema
    from .seen import Seen


@dataclass
class Subject:
    """A model under audit, with the data that it is judged on."""

    predictor: Predictor
    schema: Schema
    splits: dict[str, pa.Table]  # test, and where there are any train, validation, calibration; reference, ood (ood_near, ood_far), trusted, planted
    slices: list[str] = field(default_factory=list)  # declared: "sex=f"
    level: float = 0.95  # of intervals, corrected for the number of declared limits
    clusters: str | None = None  # column whose values are resampled together
    lineage: dict[str, Any] = field(default_factory=dict)  # data, code, parents, strategies' statements
    baselines: dict[str, Predictor] = field(default_factory=dict)
    seed: int = 0
    open: Callable[[str, pa.Table], Opened | None] | None = None  # (target, table) -> the model with gradients, where it can be had
    retrain: Callable[[pa.Table, int], Predictor] | None = None  # the same recipe on other rows, with a seed
    retrain_seconds: float = 0.0  # what the same on the training rows took; 0: not known
    repeat: dict[str, dict[str, Any]] | None = None  # an evidence is reproduced: "target:metric" -> details of a line; its rows, whatever the clock says
    synonyms: dict[str, list[str]] = field(default_factory=dict)  # declared: words or phrases of texts, and what means the same
    secret: str = "my number is ######"  # of exposure: a digit for each #
    seen: Seen | None = None  # which of the rows that were given as test rows the model was trained on; those are not among the splits
    seconds: float | None = None  # an audit that could take longer stops by then, and says what was not shown
    safety: Any = None  # the declared policy of generated text (`safety.Safety`)
    reader: Callable[[str, pa.Table], Predictor] | None = None  # (model, table) -> another model, which a rule of that policy asks
    trainer: Any = None  # of a private training from elsewhere (`trainer.Trainer`); lineage["statement"] is what is said of it
    play: Callable[[str, int], np.ndarray] | None = None  # of a policy: ("model" or "random", episodes) -> returns (E,)
    explainers: dict[str, Callable[..., Any]] = field(default_factory=dict)  # explain(x -> logits, x, classes, baseline) -> like x
    _seen: dict[tuple[str, str], dict[str, Prediction]] = field(default_factory=dict)
    _copies: dict[str, np.ndarray | None] = field(default_factory=dict)

    def declare(self, audit: Any) -> None:
        """What the task's `audit` section asks of texts."""
        self.secret, self.synonyms, self.safety = audit.secret, audit.synonyms, audit.safety

    def predict(self, split: str, who: str = "model") -> dict[str, Prediction]:
        """Predictions on a split, made once. who: "model" or a baseline's name."""
        if (split, who) not in self._seen:
            predictor = self.predictor if who == "model" else self.baselines[who]
            self._seen[split, who] = predictor.predict(self.splits[split])
        return self._seen[split, who]

    def groupings(self, table: pa.Table) -> list[list[str]]:
        """The columns of groups that a table has: each by itself, and all together, where what cancels in each may not."""
        there = [c for c in self.schema.group if c in table.column_names]
        return [[c] for c in there] + [there] * (len(there) > 1)

    def clusters_of(self, split: str) -> np.ndarray | None:
        """(N,) cluster numbers, or None where every row stands alone. Copies of one row are one (`checks.copies.repeats`): one that is written down a
        hundred times is no hundred witnesses."""
        from .checks.copies import joined  # it brings scikit-learn

        copies = self.copies_of(split)
        if self.clusters is None:
            return copies
        own = self.splits[split].column(self.clusters).combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        if len(np.unique(own)) == len(own):
            return copies
        return own if copies is None else joined(own, copies)

    def copies_of(self, split: str) -> np.ndarray | None:
        """(N,) number of each row among the distinct ones, or None where rows do not come again oftener than by chance."""
        from .checks.copies import repeats  # it brings scikit-learn

        if split not in self._copies:
            table, there = self.splits[split], set(self.splits[split].column_names)
            names = [n for n in (*self.schema.inputs, *self.schema.targets) if n in there]
            others = self.schema.contents(self.splits["train"]) if split != "train" and "train" in self.splits else None
            self._copies[split] = repeats(self.schema.contents(table.select(names)), others) if names else None
        return self._copies[split]


NOT_TRAINED = "nothing was trained anew: that needs the folder of a run with its rows, and a limit on this figure, --budget or --only with this audit's name"


class Audit:
    is_component: ClassVar[bool] = True
    clocked: ClassVar[tuple[str, ...]] = ()  # its metrics that are readings of a clock or of a process's memory, which no two runs share
    costly: ClassVar[str | None] = None  # its area, if it takes seconds: a run then measures it only where a limit is of that area, an audit always
    spec: dict[str, Any]

    def measure(self, subject: Subject) -> list[Measurement]:
        raise NotImplementedError


def due(areas: set[str]) -> list[str]:
    """The audits of a run: all but the costly ones whose area no limit is of."""
    costly = {name: find.find("audits", name).costly for name in find.names("audits")}
    return [name for name, area in costly.items() if area is None or area in areas]


def metrics_of(subject: Subject, split: str, target: str, who: str = "model") -> dict[str, Metric]:
    """The target kind's metrics of a predictor on a split."""
    kind = subject.schema.targets[target]
    truth = kind.encode_target(kind.column(subject.splits[split], target))
    return kind.metrics(subject.predict(split, who)[target], truth)


OF = {"len": pc.utf8_length, "hour": pc.hour, "weekday": pc.day_of_week}  # what else of a column makes slices


def rows_of(table: pa.Table, slice: str) -> np.ndarray:
    """(N,) bool: the rows of a slice: `column=value` or `column>value` (also >=, <, <=), joined by ` & `. A missing value is in no slice but `column=`; a list
    is in that of each value that it holds;
    `len(column)` is a text's length in characters, `hour(column)` and `weekday(column)` (0: Monday) are a time's; a time is compared with a day or a
    moment as ISO 8601 writes it."""
    inside, names = np.ones(table.num_rows, bool), set(table.column_names)
    for part in clauses(slice):
        readings = [(part[: m.start()].strip(), m[0], part[m.end() :].strip()) for m in re.finditer("[<>]=?|=", part)]
        named = [(r, None) for r in readings if r[0] in names]
        named += [(r, of) for r in readings if (of := re.fullmatch(rf"({'|'.join(OF)})\((.+)\)", r[0])) and of[2] in names]
        if not named:
            fix = did_you_mean(readings[0][0], table.column_names) if readings else "write column=value"
            raise refuse("slice.form", f"{part!r} names no slice of this table", where="audit", fix=fix)
        (name, op, value), of = max(named, key=lambda n: len(n[0][0]))  # a column may be called a=b
        column = OF[of[1]](table.column(of[2])) if of else table.column(name)
        if op == "=" and not value:
            found = pa.chunked_array([[v in (None, "") or v != v for v in column.to_pylist()]], pa.bool_())
        elif op == "=" and is_list(column):
            found = pa.chunked_array([[value in map(str, v or ()) for v in column.to_pylist()]], pa.bool_())
        elif op == "=":
            found = pc.equal(column.cast(pa.string()), value)
            if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
                found = pc.equal(numbers(column), _number(value, part, column))
        else:
            compare = {">": pc.greater, ">=": pc.greater_equal, "<": pc.less, "<=": pc.less_equal}[op]
            found = compare(numbers(column), _number(value, part, column))
        inside &= pc.fill_null(found, False).to_numpy()
    return inside


def groups_of(table: pa.Table, columns: list[str], like: pa.Table | None = None, least: int = 20) -> tuple[np.ndarray, list[str]]:
    """(N,) number of each row's group, -1 in none, and the groups' names: the columns' values together, as they occur here or in `like`, whatever their
    capitals, width and blanks. A number or a time of more than ten values counts by fifths (of like). Those who left a cell empty are a group, `sex=`,
    where they are `least` or more, else in none."""
    like = table if like is None else like

    def names(t: pa.Table) -> list[str]:
        return [" & ".join(r) for r in zip(*(_values(t.column(c), c, like.column(c)) for c in columns), strict=True)]

    mine = names(table)
    all_ = mine if like is table else names(like)
    rare = {r for r, n in Counter(all_).items() if n < least}
    mine = [None if r in rare and "= &" in f"{r} &" else r for r in mine]
    found = sorted({r for r in (*mine, *all_) if r is not None and not (r in rare and "= &" in f"{r} &")})
    number = {n: i for i, n in enumerate(found)}
    return np.array([-1 if r is None else number[r] for r in mine], np.int64), found


def numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As float64; a time in seconds since 1970."""
    column = pc.cast(pc.cast(column, pa.timestamp("s"), safe=False), pa.int64()) if is_time(column) else column
    return pc.cast(column, pa.float64(), safe=False)


def is_time(column: pa.ChunkedArray) -> bool:
    return pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)


def is_list(column: pa.ChunkedArray) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_large_list(column.type)


def written(x: float, column: pa.ChunkedArray) -> str:
    """A bound of a slice of this column: a number, or a moment as ISO 8601."""
    return str(np.datetime64(int(x), "s")).removesuffix("T00:00:00") if is_time(column) else f"{x:.6g}"


def _values(column: pa.ChunkedArray, name: str, like: pa.ChunkedArray) -> list[str]:
    values = column.to_pylist()
    if (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or is_time(column)) and len(like.drop_null().unique()) > 10:
        x, own = numbers(like.drop_null()).to_numpy(), numbers(column).to_numpy()
        cuts = np.unique(np.quantile(x[np.isfinite(x)], [0.2, 0.4, 0.6, 0.8]))
        cuts = np.floor(cuts) if is_time(column) else cuts
        low, high = [None, *(shown := [written(c, column) for c in cuts])], [*shown, None]
        spelt = [f"{name}<={b}" if a is None else f"{name}>{a}" if b is None else f"{name}>{a} & {name}<={b}" for a, b in zip(low, high)]
        return [f"{name}=" if v != v else spelt[int(np.searchsorted(cuts, v))] for v in own]
    shown: dict[str, Any] = {}  # one group, however its name is spelt: the commonest way
    for v, _ in Counter(like.drop_null().to_pylist()).most_common():
        shown.setdefault(_plain(v), v)
    called = {v: f"{name}={shown.get(p, v) if (p := _plain(v)) else ''}" for v in set(values) if v is not None and v == v}
    return [called.get(v, f"{name}=") for v in values]


def _plain(value: Any) -> str:
    """Without capitals, width and needless blanks."""
    return " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split())


def _number(text: str, part: str, column: pa.ChunkedArray) -> float:
    try:
        return float(np.datetime64(text, "s").astype(int)) if is_time(column) else float(text)
    except ValueError as e:
        kind, fix = ("time", "2024-01-31, say") if is_time(column) else ("number", "compare a number column with a number")
        raise refuse("slice.form", f"{part!r}: {text!r} is not a {kind}", where="audit", fix=fix) from e
