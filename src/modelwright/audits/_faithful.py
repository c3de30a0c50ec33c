"""What can be asked of any attribution: does it rank as another one does, does the model follow it, and is a model's answer to made-up rows the real one.

Legend: B rows; attributions are like x (B, ...).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import find
from ..explainer import Function, Redrawn
from ..subject import Subject


def spearman(a: Tensor, b: Tensor, keep: Tensor, constant: float = 0.0) -> np.ndarray:
    """(B,) rank correlation over the kept inputs; 0 where one of them is constant, `constant` where both are. Values that differ by less than a
    billionth of the row's largest are ties: their order is chance."""
    from scipy.stats import rankdata

    ranks = []
    for v in (a, b):
        v = v.flatten(1)[:, keep].numpy().astype(np.float64)
        unit = 1e-9 if a.dtype == torch.float64 else 1e-5
        ranks.append(rankdata(np.round(v / np.maximum(np.abs(v).max(1, keepdims=True, initial=0), 1e-300) / unit), axis=1))
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    both = np.all([(c == 0).all(1) for c in centred], 0)
    return np.where(size > 0, (centred[0] * centred[1]).sum(1) / np.maximum(size, 1e-12), np.where(both, constant, 0.0))


def curves(
    f: Function, x: Tensor, classes: Tensor, base: Tensor, shown: Tensor, rng: torch.Generator, points: int = 10, orders: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """((B,) insertion's mean probability minus deletion's in the order of attribution, (orders, B) the same in random ones)."""
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
    return ours, np.stack([area(torch.rand(flat.shape, generator=rng).argsort(1)) for _ in range(orders)])


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
    """A forest that learnt the model's classes on perturbed rows: does it agree, (M,) on other perturbed rows, and (M,) on real ones. Of rows in the middle
    both are less what is seen of a forest that learnt the model's answers to real rows, and hides nothing."""
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

    def learnt(x: np.ndarray, y: np.ndarray) -> RandomForestClassifier:
        return RandomForestClassifier(60, min_samples_leaf=3, random_state=subject.seed).fit(x, y)

    x, y, there, answers = seen(away), said(away), seen(real), said(real)
    if len(np.unique(y[:half])) < 2:
        return (y[half:] == y[0]).astype(float), (answers == y[0]).astype(float)
    forest = learnt(x[:half], y[:half])
    agree = (forest.predict(x[half:]) == y[half:]).astype(float), (forest.predict(there) == answers).astype(float)
    if way != "middle" or len(np.unique(answers)) < 2:
        return agree
    open_ = learnt(there, answers)  # rows of little variety teach little of real ones: what is lost by that alone is not counted
    y, answers = open_.predict(x), open_.predict(there)
    forest = learnt(x[:half], y[:half]) if len(np.unique(y[:half])) > 1 else open_
    return agree[0] - (forest.predict(x[half:]) == y[half:]), agree[1] - (forest.predict(there) == answers)


WAYS = ("noise", "between", "columns", "middle")


def perturbed(rows: pa.Table, others: pa.Table, cells: list[str], way: str, rng: np.random.Generator) -> pa.Table:
    """noise: each number moved by its own spread, categories redrawn; between: so that whole numbers are whole no more (LIME's); columns: each cell, with
    probability a half, another row's; middle: seven cells in ten the column's median, or most frequent value (SHAP's, with one row for background)."""
    n = rows.num_rows
    share = 0.7 if way == "middle" else 0.5
    for name in cells:
        column, at = rows.column(name), rows.column_names.index(name)
        number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if way in ("noise", "between") and number:
            x = column.cast(pa.float64()).to_numpy()
            x = x + np.nanstd(others.column(name).cast(pa.float64()).to_numpy()) * rng.standard_normal(n)
            whole = way == "noise" and pa.types.is_integer(column.type)
            made = pa.array(np.round(x), from_pandas=True).cast(column.type, safe=False) if whole else pa.array(x, from_pandas=True)
        else:
            swap, pool = rng.random(n) < share, others.column(name).combine_chunks()
            taken = middle(pool, number) if way == "middle" else rng.integers(0, others.num_rows, n)
            made = pa.concat_arrays([column.combine_chunks(), pool]).take(pa.array(np.where(swap, n + taken, np.arange(n))))
        rows = rows.set_column(at, name, made)
    return rows


def middle(column: pa.Array, number: bool) -> int:
    """The row of the median, or of the most frequent value."""
    if number:
        return pc.sort_indices(column)[max(len(column) - column.null_count - 1, 0) // 2].as_py()
    codes = column.dictionary_encode(null_encoding="encode").indices.to_numpy()
    return int(np.flatnonzero(codes == np.bincount(codes).argmax())[0])
