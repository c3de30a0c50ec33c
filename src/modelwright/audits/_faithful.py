"""What can be asked of any attribution: does it rank as another one does, does the model follow it, and is a model's answer to made-up rows the real one.

Legend: B rows; attributions are like x (B, ...).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import find
from ..explainer import Function, Redrawn
from ..subject import Subject


def spearman(a: Tensor, b: Tensor, keep: Tensor) -> np.ndarray:
    """(B,) rank correlation over the kept inputs; 0 where one of them is constant. Values that differ by less than a billionth of the row's largest
    are ties: their order is chance."""
    from scipy.stats import rankdata

    ranks = []
    for v in (a, b):
        v = v.flatten(1)[:, keep].numpy().astype(np.float64)
        unit = 1e-9 if a.dtype == torch.float64 else 1e-5
        ranks.append(rankdata(np.round(v / np.maximum(np.abs(v).max(1, keepdims=True, initial=0), 1e-300) / unit), axis=1))
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.where(size > 0, (centred[0] * centred[1]).sum(1) / np.maximum(size, 1e-12), 0.0)


def curves(f: Function, x: Tensor, classes: Tensor, base: Tensor, shown: Tensor, rng: torch.Generator, points: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """((B,) insertion's mean probability minus deletion's in the order of attribution, the same in random order)."""
    flat, plain = x.flatten(1), base.flatten()
    d = flat.shape[1]
    steps = np.unique(np.linspace(1, d - 1, min(points, max(d - 1, 1))).round().astype(int)) if d > 1 else [1]

    def area(order: Tensor) -> np.ndarray:
        rank = order.argsort(1)  # 0: the first to go
        total = torch.zeros(len(x), dtype=torch.float64)
        with torch.no_grad():
            for k in steps:
                gone = rank < int(k)
                for sign, out in ((-1, torch.where(gone, plain, flat)), (1, torch.where(gone, flat, plain))):
                    total += sign * F.softmax(f(out.reshape(x.shape)), 1).gather(1, classes[:, None]).squeeze(1).double()
        return total.numpy() / (2 * len(steps))

    ours = area(shown.flatten(1).argsort(dim=1, descending=True, stable=True))
    random = np.mean([area(torch.rand(flat.shape, generator=rng).argsort(1)) for _ in range(2)], 0)
    return ours, random


def self_test() -> bool:
    """Integrated gradients of x' A x are complete; an explainer that returns its input is caught by redrawn weights, they themselves are not."""
    rng = torch.Generator().manual_seed(0)
    x, square = torch.randn(32, 12, generator=rng), torch.randn(12, 12, generator=rng)
    classes, base = torch.zeros(32, dtype=torch.long), torch.zeros(12)
    explain = find.make("explainers", "integrated_gradients").explain
    form = lambda x: ((x @ square) * x).sum(1, keepdim=True)  # noqa: E731
    gap = (explain(form, x, classes, base, rng).sum(1) - form(x)[:, 0]).abs().max()
    weight = torch.nn.Parameter(torch.randn(12, 2, generator=rng))
    f = lambda x: x @ weight  # noqa: E731
    keep, similar = torch.ones(12, dtype=torch.bool), {}
    for name, asked in (("gradients", explain), ("blind", lambda f, x, classes, base, rng: x)):
        before = asked(f, x, classes, base, rng).detach()
        with Redrawn(0):
            similar[name] = float(spearman(before, asked(f, x, classes, base, rng).detach(), keep).mean())
    return float(gap) < 1e-3 * float(form(x).abs().max()) and similar["blind"] > 0.99 and similar["gradients"] < 0.9


def scaffold_gap(subject: Subject, target: str, table: pa.Table, way: str, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """A forest that learnt the model's classes on perturbed rows: does it agree, (M,) on other perturbed rows, and (M,) on real ones."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng([subject.seed, len(way)])
    real = table.take(pa.array(rng.permutation(table.num_rows)[:rows]))
    start = real.take(pa.array(rng.integers(0, real.num_rows, 3 * rows)))
    cells = [n for n, k in subject.schema.inputs.items() if k.place in ("number", "code")]
    away = perturbed(start, real, cells, way, rng)
    half = away.num_rows * 2 // 3

    def seen(t: pa.Table) -> np.ndarray:
        stored = subject.schema.encode(t, targets=False).inputs["table"]
        return np.concatenate([np.nan_to_num(stored["numbers"], nan=-30.0), stored["codes"]], 1)

    def said(t: pa.Table) -> np.ndarray:
        return subject.predictor.predict(t)[target].probabilities.argmax(1).numpy()

    x, y = seen(away), said(away)
    if len(np.unique(y[:half])) < 2:
        return (y[half:] == y[0]).astype(float), (said(real) == y[0]).astype(float)
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=subject.seed).fit(x[:half], y[:half])
    return (forest.predict(x[half:]) == y[half:]).astype(float), (forest.predict(seen(real)) == said(real)).astype(float)


def perturbed(rows: pa.Table, others: pa.Table, cells: list[str], way: str, rng: np.random.Generator) -> pa.Table:
    """noise: each number moved by its own spread, categories redrawn; columns: each cell, with probability a half, another row's."""
    n = rows.num_rows
    for name in cells:
        column, at = rows.column(name), rows.column_names.index(name)
        number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if way == "noise" and number:
            x = column.cast(pa.float64()).to_numpy()
            x = x + np.nanstd(others.column(name).cast(pa.float64()).to_numpy()) * rng.standard_normal(n)
            made = pa.array(np.round(x) if pa.types.is_integer(column.type) else x, from_pandas=True).cast(column.type, safe=False)
        else:
            swap = rng.random(n) < 0.5
            both = pa.concat_arrays([column.combine_chunks(), others.column(name).combine_chunks()])
            made = both.take(pa.array(np.where(swap, n + rng.integers(0, others.num_rows, n), np.arange(n))))
        rows = rows.set_column(at, name, made)
    return rows
