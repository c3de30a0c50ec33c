"""A schema: what each column is, as an input or as a target. It turns tables into datasets, and is all that model.json needs to do so again.

The table's numbers and codes travel together as one input, `table`; every other kind (text, picture, series) is an input of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import find
from ..errors import Problem, Refusal, refuse
from ..kind import Kind, Profile, Stored
from .dataset import TABLE, Dataset

CHUNK = 65_536  # rows encoded at a time


def profile(table: pa.Table) -> dict[str, Profile]:
    """Counts of each column, over its first 100,000 rows."""
    head = table.slice(0, 100_000)
    found = {}
    for name in table.column_names:
        column = head.column(name)
        present = column.drop_null()
        try:
            distinct = pc.count_distinct(present).as_py()
        except pa.ArrowNotImplementedError:  # nested values
            distinct = len(present)
        found[name] = Profile(name, column.type, len(column), len(column) - len(present), distinct, present.slice(0, 1000).to_pylist())
    return found


def infer(column: Profile) -> str:
    """The kind that fits a column best."""
    scores = {name: find.find("kinds", name).guess(column) for name in find.names("kinds")}
    best = max(scores, key=scores.get)
    if scores[best] == 0:
        what = f"column {column.name!r} ({column.type}) looks like no kind that there is"
        raise refuse("data.column_type", what, fix=f"say what it is, or leave it out: columns: {{{column.name}: ignore}}")
    return best


@dataclass
class Schema:
    inputs: dict[str, Kind]
    targets: dict[str, Kind]
    group: list[str] = field(default_factory=list)  # columns whose combinations are the groups of fairness and slices
    group_values_: list[str] = field(default_factory=list)
    acted: list[str] = field(default_factory=list)  # targets learnt by acting: no table holds the truth of them
    immutable: list[str] = field(default_factory=list)  # columns that no counterfactual changes: declared so, or a group's
    known: list[str] = field(default_factory=list)  # columns that are declared to be there before the answer is: no leaks, however much they tell
    root: str = "."  # of the table at hand: paths in its cells lie below (see `at`); never saved

    @property
    def truths(self) -> dict[str, Kind]:
        """The targets whose truth a table can hold: what is measured on splits."""
        return {n: k for n, k in self.targets.items() if n not in self.acted}

    def __post_init__(self) -> None:
        for kind in self.targets.values():
            kind.meet(self.inputs)

    @property
    def table(self) -> list[str]:
        """The columns of the `table` input: numbers first, then codes."""
        return [n for place in ("number", "code") for n, k in self.inputs.items() if k.place == place]

    @property
    def own(self) -> list[str]:
        return [n for n, k in self.inputs.items() if k.place == "own"]

    def encoders(self) -> dict[str, dict[str, Kind]]:
        """{input: its kinds}, as `Encoder.build` takes them."""
        table = {TABLE: {n: self.inputs[n] for n in self.table}} if self.table else {}
        return table | {self.key(n): {n: self.inputs[n]} for n in self.own}

    def at(self, root: str | Path) -> Schema:
        """Itself; from now on paths in cells lie below root."""
        self.root = str(root)
        for kind in (self.inputs | self.targets).values():
            kind.at(self.root)
        return self

    def key(self, column: str) -> str:
        """An own column's name among the inputs."""
        return f"{column} (column)" if column == TABLE else column

    def contents(self, table: pa.Table) -> pa.Table:
        """The table as its rows are told apart, counted and digested: see `Kind.contents`."""
        names = set(table.column_names)
        for name, kind in (self.inputs | self.targets).items():
            if name in names and type(kind).contents is not Kind.contents:
                table = table.set_column(table.schema.get_field_index(name), name, kind.contents(table.column(name)))
        return table

    def fit(self, train: pa.Table) -> None:
        """Every fitted value comes from these rows, the training split."""
        names = set(train.column_names)  # pyarrow makes its list anew each time: thousands of columns would take minutes
        for name, kind in (self.inputs | self.targets).items():
            if name in names:
                fit(kind, train, name)
        self.group_values_ = sorted({v for v in self._group_names(train) if v is not None})

    def _group_names(self, table: pa.Table) -> list[str | None]:
        if not self.group:
            return []
        parts = [[None if v is None else f"{c}={v}" for v in table.column(c).to_pylist()] for c in self.group]
        return [None if None in row else " & ".join(row) for row in zip(*parts, strict=True)]

    def encode(self, table: pa.Table, *, targets: bool = True) -> Dataset:
        """The table as arrays. Missing input columns are a refusal that lists them all; targets are encoded where they are there."""
        names = set(table.column_names)
        missing = [n for n, k in self.inputs.items() if n not in names and k.place != "none" and not k.drawn]
        if missing:
            have = ", ".join(table.column_names[:12])
            raise Refusal(
                [
                    Problem(
                        "data.missing_column",
                        f"column {n!r} is missing",
                        why=f"the model reads it; the table has: {have}",
                        fix="add it (empty cells are allowed)",
                    )
                    for n in missing
                ]
            )
        n = table.num_rows
        stored: dict[str, Stored] = {}
        numbers = [encode(self.inputs[c], table, c) for c in self.table if self.inputs[c].place == "number"]
        codes = [encode(self.inputs[c], table, c)["values"] for c in self.table if self.inputs[c].place == "code"]
        if numbers or codes:
            flat = [s["values"].reshape(n, -1).astype(np.float32, copy=False) for s in numbers]
            stored[TABLE] = {
                "numbers": np.concatenate(flat, 1) if flat else np.zeros((n, 0), np.float32),
                "codes": np.stack(codes, 1).astype(np.int64) if codes else np.zeros((n, 0), np.int64),
            }
        for c in self.own:
            stored[self.key(c)] = {} if self.inputs[c].drawn else encode(self.inputs[c], table, c)
        truth = {c: encode(k, table, c, target=True) for c, k in self.targets.items() if targets and c in names}
        groups = None
        if self.group and all(c in names for c in self.group):
            number = {v: i for i, v in enumerate(self.group_values_)}
            groups = np.array([number.get(v, -1) for v in self._group_names(table)], np.int64)
        kinds = {self.key(c): self.inputs[c] for c in self.own}
        return Dataset(n, stored, truth, kinds, self.targets, groups)

    def to_json(self) -> dict[str, Any]:
        def some(kinds: dict[str, Kind]) -> list[dict[str, Any]]:  # a list: the order of columns is the order of weights
            return [{"name": n, "kind": k.spec, "fitted": k.state()} for n, k in kinds.items()]

        return {
            "inputs": some(self.inputs),
            "targets": some(self.targets),
            "group": self.group,
            "group_values": self.group_values_,
            "acted": self.acted,
            "immutable": self.immutable,
            "known": self.known,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Schema:
        def some(entries: list[dict[str, Any]]) -> dict[str, Kind]:
            kinds = {}
            for e in entries:
                kinds[e["name"]] = find.make("kinds", e["kind"])
                kinds[e["name"]].load(e["fitted"])
            return kinds

        roles = (data.get("acted", []), data.get("immutable", data["group"]), data.get("known", []))
        return cls(some(data["inputs"]), some(data["targets"]), data["group"], data["group_values"], *roles)


def fit(kind: Kind, table: pa.Table, name: str) -> None:
    """A column's kind learns from it. Raises a Refusal where the column is nothing that this kind can read."""
    with _readable(kind, table, name):
        kind.fit(kind.column(table, name))


def encode(kind: Kind, table: pa.Table, name: str, target: bool = False) -> Stored:
    """A column in chunks of rows, joined: what is decoded (pictures, tokens) never stands in memory twice. Raises a Refusal as `fit` does."""
    read = kind.encode_target if target else kind.encode
    with _readable(kind, table, name):
        column = kind.column(table, name)
        if len(column) <= CHUNK:
            return read(column)
        parts = [read(column.slice(start, CHUNK)) for start in range(0, len(column), CHUNK)]
    joined = {}
    for key in parts[0]:
        if key == "offsets":
            ends = np.cumsum([0] + [p["offsets"][-1] for p in parts])
            joined[key] = np.concatenate([[0]] + [p["offsets"][1:] + e for p, e in zip(parts, ends, strict=False)])
        else:
            joined[key] = np.concatenate([p[key] for p in parts])
    return joined


@contextmanager
def _readable(kind: Kind, table: pa.Table, name: str) -> Iterator[None]:
    """Arrow says what it cannot convert, a kind what it cannot read; the user hears of which column, read as what."""
    try:
        yield
    except Refusal as e:
        raise Refusal([replace(p, where=p.where or f"column {name!r}") for p in e.problems]) from e
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as e:
        what = f"column {name!r} ({table.schema.field(name).type}) cannot be read as {find.split(kind.spec)[0]}"
        raise refuse("data.column_type", what, why=str(e).split("\n")[0][:200], fix="declare the kind that it is, or correct its values") from e
