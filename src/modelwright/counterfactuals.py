"""Counterfactuals of a table's rows: the nearest change of few cells after which the model decides otherwise. Needs answers alone.

NICE (Brughmans, Leyman and Martens 2023, "NICE: an algorithm for nearest instance counterfactual explanations", section 3): cells are copied, the one that
moves the model most first, from a real row near by that the model decides otherwise, until the decision flips. So every new value is one that
occurs, and new values come together from one row; here from each of the nearest few, and the result with the fewest cells wins, then the nearest.
Cells that turn out not to be needed are put back. Columns that are immutable (`Schema.immutable`) stay as they are, also where neighbours are sought.
Distance: |difference| over the column's spread (its interquartile range, else its standard deviation), 1 for another category or a gap; summed.
Left out: diversity, causal order of columns, costs of a change that are not symmetric.

Legend: N rows to explain, P rows to copy from, F columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .closed import Closed
from .data.schema import Schema
from .predictor import Predictor

MOST, NEAREST, TRIED, POOL = 4, 5, 20, 500  # cells changed, rows copied from, rows tried near and far, rows searched


@dataclass(frozen=True)
class Counterfactual:
    row: int
    cells: dict[str, tuple[Any, Any]]  # column: (as it is, as it would have to be)
    before: int  # class
    after: int
    distance: float


def counterfactuals(predictor: Predictor, schema: Schema, target: str, rows: pa.Table, pool: pa.Table, seed: int = 0) -> list[Counterfactual | None]:
    """One for each of the rows; None where no change of at most MOST cells was found."""
    names = [n for n in schema.inputs if n in rows.column_names]
    pool = pool.take(pa.array(np.sort(np.random.default_rng(seed).permutation(pool.num_rows)[:POOL])))
    closed = Closed(predictor, schema, target, pa.concat_tables([rows.select(names), pool.select(names)], promote_options="permissive"))
    n, x = rows.num_rows, closed.x.numpy()
    mutable = np.array([name not in schema.immutable for name in closed.names])
    said = predictor.predict(closed.table)[target].value.numpy()
    apart = distances(x[:n], x[n:], [v is None for v in closed.values], mutable)
    apart[said[:n, None] == said[None, n:]] = np.inf
    searches = near(closed, x, said, apart, mutable)
    found: dict[int, tuple[int, float, np.ndarray, int]] = {}
    for (i, j), changed in zip(searches, flips(closed, x, said, searches, mutable)):
        if changed is not None:
            cells, after = changed
            far = float(distances(x[i : i + 1], np.where(cells, x[j], x[i])[None], [v is None for v in closed.values], mutable, x).item())
            rank = (int(cells.sum()), far)
            if i not in found or rank < found[i][:2]:
                found[i] = (*rank, np.where(cells, x[j], x[i]), after)
    return [None if i not in found else _told(closed, x, said, i, found[i]) for i in range(n)]


def near(closed: Closed, x: np.ndarray, said: np.ndarray, apart: np.ndarray, mutable: np.ndarray) -> list[tuple[int, int]]:
    """(row, row to copy from): of each row the nearest ones whose cells, all that may change together, flip its decision. Where some may not, near ones
    can be of no use: as many are tried from further off."""
    n, tries = len(apart), []
    for i in range(n):
        order = [int(j) for j in np.argsort(apart[i], kind="stable") if np.isfinite(apart[i, j])]
        further = np.unique(np.linspace(TRIED, len(order) - 1, TRIED).astype(int)) if len(order) > TRIED else []
        tries += [(i, n + j) for j in [*order[:TRIED], *(order[k] for k in further)]]
    if not tries:
        return []
    value, _ = ask(closed, x, said, tries, np.broadcast_to(mutable, (len(tries), x.shape[1])))
    kept: dict[int, list[tuple[int, int]]] = {}
    for (i, j), v in zip(tries, value):
        if v != said[i] and len(kept.setdefault(i, [])) < NEAREST:
            kept[i].append((i, j))
    return [pair for pairs in kept.values() for pair in pairs]


def flips(closed: Closed, x: np.ndarray, said: np.ndarray, searches: list[tuple[int, int]], mutable: np.ndarray) -> list[tuple[np.ndarray, int] | None]:
    """For each (row, row to copy from): ((F,) bool cells that flip the row's decision when copied, the new class), or None. All searches go a step
    together, so that the model is asked a handful of times."""
    copied = [np.zeros(x.shape[1], bool) for _ in searches]
    done: list[int | None] = [None] * len(searches)
    for _ in range(MOST):
        tries = [(s, c) for s, (i, j) in enumerate(searches) if done[s] is None for c in np.flatnonzero(mutable & ~copied[s] & differs(x[i], x[j]))]
        if not tries:
            break
        masks = np.stack([copied[s] | (np.arange(x.shape[1]) == c) for s, c in tries])
        value, kept = ask(closed, x, said, [searches[s] for s, _ in tries], masks)
        for s in {s for s, _ in tries}:
            mine = np.array([k for k, (other, _) in enumerate(tries) if other == s])
            i = searches[s][0]
            best = mine[np.lexsort((kept[mine], value[mine] == said[i]))[0]]  # a flip first, then what leaves the old class least
            copied[s] = masks[best]
            done[s] = int(value[best]) if value[best] != said[i] else None
    for s, (i, j) in enumerate(searches):  # what is not needed goes back
        if done[s] is not None and copied[s].sum() > 1:
            fewer = np.stack([copied[s] & (np.arange(x.shape[1]) != c) for c in np.flatnonzero(copied[s])])
            value, _ = ask(closed, x, said, [(i, j)] * len(fewer), fewer)
            still = np.flatnonzero(value != said[i])
            if len(still):
                copied[s], done[s] = fewer[still[0]], int(value[still[0]])
    return [None if d is None else (c, d) for c, d in zip(copied, done)]


def ask(closed: Closed, x: np.ndarray, said: np.ndarray, pairs: list[tuple[int, int]], masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(decision, probability of the old decision) of each row with the masked cells copied."""
    i, j = (np.array(k) for k in zip(*pairs))
    table = closed.rows(torch.from_numpy(np.where(masks, x[j], x[i])), torch.from_numpy(i))
    prediction = closed.predictor.predict(table)[closed.target]
    return prediction.value.numpy(), prediction.probabilities.numpy()[np.arange(len(i)), said[i]]


def distances(a: np.ndarray, b: np.ndarray, is_number: list[bool], mutable: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """(N, P): summed over columns that may change; of: the rows whose spread is the unit."""
    total, of = np.zeros((len(a), len(b))), np.concatenate([a, b]) if of is None else of
    for c in np.flatnonzero(mutable):
        apart = differs(a[:, None, c], b[None, :, c]).astype(float)
        if is_number[c]:
            known = of[:, c][~np.isnan(of[:, c])]
            low, high = np.quantile(known, [0.25, 0.75]) if len(known) else (0.0, 0.0)
            unit = (high - low) or (known.std() if len(known) else 0.0) or 1.0
            apart = np.where(np.isnan(a[:, None, c] - b[None, :, c]), apart, np.abs(a[:, None, c] - b[None, :, c]) / unit)
        total += apart
    return total


def differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two cells are not the same; two gaps are."""
    return (a != b) & ~(np.isnan(a) & np.isnan(b))


def _told(closed: Closed, x: np.ndarray, said: np.ndarray, i: int, found: tuple[int, float, np.ndarray, int]) -> Counterfactual:
    _, far, row, after = found
    made = closed.rows(torch.from_numpy(row[None]), torch.tensor([i]))
    changed = [n for n, moved in zip(closed.names, differs(x[i], row)) if moved]
    cells = {n: (closed.table.column(n)[i].as_py(), made.column(n)[0].as_py()) for n in changed}
    return Counterfactual(i, cells, int(said[i]), after, far)
