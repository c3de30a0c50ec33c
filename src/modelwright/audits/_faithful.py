"""What can be asked of any attribution: does it rank as another one does, and does the model follow it.

Legend: B rows; attributions are like x (B, ...).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import find
from ..explainer import Function, Redrawn
from ..kind import Metric

PARTS, SIDE = 64, 8  # parts of a row, at most, that are taken out one by one; of a picture squares, up and across


def spearman(a: Tensor, b: Tensor, keep: Tensor, constant: float | np.ndarray = 0.0) -> np.ndarray:
    """(B,) rank correlation over the kept inputs; 0 where one of them is constant, `constant` (of all rows, or of each) where both are. Values that differ
    by less than a billionth of the row's largest are ties: their order is chance."""
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
                    total += sign * f(out.reshape(x.shape)).gather(1, classes[:, None]).sigmoid().squeeze(1).double()
        return total.numpy() / (2 * len(steps))

    ours = area(shown.flatten(1).argsort(dim=1, descending=True, stable=True))
    return ours, np.stack([area(torch.rand(flat.shape, generator=rng).argsort(1)) for _ in range(orders)])


def gap(f: Function, x: Tensor, classes: Tensor, base: Tensor, shown: Tensor) -> Metric:
    """How far attributions are from adding up to f(x) - f(base), as a share of it."""
    with torch.no_grad():
        change = (f(x) - f(base.expand_as(x))).gather(1, classes[:, None]).squeeze(1).numpy().astype(np.float64)
    short = shown.flatten(1).sum(1).numpy() - change
    return Metric(lambda i: max(1e-9, float(np.abs(short[i]).sum() / max(np.abs(change[i]).sum(), 1e-12))), better="lower")  # 0 would have no interval


def overlooked(f: Function, x: Tensor, classes: Tensor, base: Tensor, shown: Tensor) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Two rows of places in the row's order, 0 the least and 1 the largest: the model's own, by how far the log-odds move when one part alone goes to the
    baseline, and the explainer's, by |attribution|. Of each row's largest part, or of the one part (its number, else None) that is put too low in more."""
    from scipy.stats import rankdata

    part = parts(x[0]).flatten()
    k = int(part.max()) + 1
    if k < 2:
        return np.zeros(len(x)), np.zeros(len(x)), None
    with torch.no_grad():
        said = lambda x: f(x).gather(1, classes[:, None]).squeeze(1).double()  # noqa: E731
        gone = [said(torch.where(part == i, base.flatten(), x.flatten(1)).reshape(x.shape)) for i in range(k)]
        moved = (said(x)[:, None] - torch.stack(gone, 1)).abs().numpy()
    told = torch.zeros(len(x), k, dtype=torch.float64).index_add_(1, part, shown.flatten(1).double()).abs().numpy()
    own, theirs = ((rankdata(v.round(9), axis=1) - 1) / (k - 1) for v in (moved, told))
    worst, rows, top = int((own - theirs).mean(0).argmax()), np.arange(len(x)), own.argmax(1)
    found = (own[:, worst], theirs[:, worst], worst), (own[rows, top], theirs[rows, top], None)
    return max(found, key=lambda v: (v[0] - v[1]).mean())


def parts(x: Tensor) -> Tensor:
    """(...) which part each input of a row is of: itself, of more than PARTS some neighbours together; of a picture a square."""
    if x.dim() != 3:
        return torch.arange(len(x)) * min(PARTS, len(x)) // len(x)
    up, across = (torch.arange(n) * min(SIDE, n) // n for n in x.shape[1:])
    return (up[:, None] * min(SIDE, x.shape[2]) + across).expand(x.shape)


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
