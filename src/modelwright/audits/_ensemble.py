"""The worst case of each row over an ensemble of attacks, on as many rows as may be afforded, with reasons why a failure of them would show nothing.

A row counts where it is right and none moved it: APGD on cross-entropy and on the targeted DLR, the same without traces, random search, transfer from a
surrogate (`_attacks`), one after another on what is left. How many rows follows from the operations of a pass, never from a clock; where the time allowed
ends, whole blocks count. Before all, the attacks must find the exact worst cases of an undefended linear classifier. B rows, N in all, K classes.
"""

from __future__ import annotations

import functools
import time

import torch
from torch import Tensor

from ..operations import Counted
from . import _attacks as a
from . import _hidden as h

WORK = 2e11  # operations (a multiplication and an addition are two) of all attacks on all rows, if none falls: some 10 to 20 s of one core
LEAST, BLOCK = 32, 64  # rows that are drawn at least; rows of a block where there are no operations to count
SHARE = 0.05  # of the rows: more than this many, and a check speaks
PART = 0.15  # of the rows that were moved: more than this many that gradients left to the others, and gradients are hidden
TOLD = 256  # rows that are looked at for being special: of fewer, nothing of it is sure
TARGETS = 5  # classes, the likeliest ones first, that the margin-loss attack aims at


class Late(Exception):
    """The time allowed is spent."""


@functools.cache
def self_test(seed: int) -> bool:
    """Gradients, and random search within a tenth, must find what is known of an undefended linear classifier, in both norms."""
    rng = torch.Generator().manual_seed(seed)
    weak = a.Weak(20, 4, rng)
    x = torch.randn(128, 20, generator=rng)
    rows, y = torch.arange(128), weak.net(x, None).argmax(1)
    for norm, eps in (("linf", 0.1), ("l2", 0.4)):
        ball = a.Ball(norm, eps)
        truth = weak.survives(x, y, ball)
        left, _, reasons = attack(weak.net, x, y, rows, ball, 20, seed, torch.zeros_like(truth), torch.ones_like(truth))
        searched = a.margin(weak.net(a.square(weak.net, x, y, rows, ball, 100, rng), rows), y) > 0
        if (left != truth).float().mean() > 0.02 or reasons or (searched != truth).float().mean() > 0.1:
            return False
    return True


def affordable(logits, x: Tensor, steps: int) -> tuple[int, int]:
    """(rows, rows of a block) from the operations of one pass: what all attacks on a row that never falls cost, a pass there and back being three."""
    few = min(2, len(x))
    with Counted() as counter, torch.no_grad():
        classes = logits(x[:few], torch.arange(few)).shape[1]
    runs = 2 + min(classes - 1, TARGETS)
    each = counter.total / few * 2 * steps * (3 * runs + 5)
    if not each:
        return len(x), min(BLOCK, len(x))
    keep = int(min(len(x), max(LEAST, WORK / each)))
    return keep, int(min(keep, max(8, WORK / 8 / each)))


def attack(net, x, y, rows, ball, steps, seed, safe, right, block=None, until=float("inf"), some=None) -> tuple[Tensor, dict, list[str]]:
    """((n,) bool: of the first n rows those that are right and stay so, what to tell, reasons why that shows nothing).

    safe (N,) bool: certified, not attacked. n: `some` (None: all), or what whole blocks had been attacked by `until` (monotonic seconds)."""
    some, block = len(x) if some is None else some, block or len(x)

    def timed(x: Tensor, rows: Tensor) -> Tensor:
        if time.monotonic() > until:
            raise Late
        return net(x, rows)

    left, lost_to, reach, searched = right & False, {}, 0.0, 0
    n, checks, special = 0, {}, 0.0
    try:
        rng = torch.Generator().manual_seed(seed)
        few = (right & ~safe).nonzero().squeeze(1)[:BLOCK]
        checks = h.checked(timed, x[few], y[few], rows[few], ball, rng)
        many = right.nonzero().squeeze(1)[:TOLD]
        special = h.special(timed, x[many], y[many], rows[many], ball, rng) if len(many) >= LEAST else 0.0
        student, tidy = a.surrogate(timed, x, rows, ball, rng), a.traceless(x, ball)
        while n < some:
            part = slice(n, min(n + block, some))
            rng = torch.Generator().manual_seed(seed + 1 + n)
            at = (right & ~safe)[part].nonzero().squeeze(1) + n
            stands, fell, far, only = ensemble(timed, student, tidy, x[at], y[at], rows[at], ball, steps, rng)
            left[part] = (right & safe)[part]
            left[at[stands]] = True
            lost_to = {k: lost_to.get(k, 0) + v for k, v in fell.items()} | {k: v for k, v in lost_to.items() if k not in fell}
            reach, searched, n = max(reach, far), searched + only, part.stop
        if len(few):  # gradients may have gone while they were asked for
            checks = h.worse(checks, h.gradients_at(timed, x[few], y[few], rows[few], ball, rng))
    except Late:
        pass
    told = {"lost_to": lost_to, "epsilon_reached": reach, "special": special, **checks}
    left, count = left[:n], max(1, int((right & ~safe)[:n].sum()))
    standing, moved = bool((left & ~safe[:n]).any()), sum(lost_to.values())
    return left, told, ["robustness.masked_gradients"] if standing and (h.hidden(checks) or searched > max(3, min(SHARE * count, PART * moved))) else []


def ensemble(net, student, tidy, x, y, rows, ball, steps, rng) -> tuple[Tensor, dict[str, int], float, int]:
    """(rows (B,) bool that no attack moves, {attack: rows that it lost}, the largest change, rows that gradients left and the others moved). All are right."""
    left, lost_to, reach = torch.ones(len(x), dtype=torch.bool), {}, 0.0
    if not len(x):
        return left, lost_to, reach, 0
    with torch.no_grad():
        z = net(x, rows)
    scale = a.margin(z, y).abs().clamp(1e-6, 1e30)
    others = z.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    targets = [others[:, k] for k in range(min(z.shape[1] - 1, TARGETS))]

    def go(name: str, find) -> None:
        nonlocal reach
        i = left.nonzero().squeeze(1)
        if len(i):
            found = find(i)
            d = ball.length(found - x[i])
            assert float(d.max()) <= ball.eps * (1 + 1e-4) + 1e-6, f"{name} left its ball"
            with torch.no_grad():
                stands = a.margin(net(found, rows[i]), y[i]) > 0
            left[i], reach = stands, max(reach, float(d.max()))
            lost_to[name] = int((~stands).sum())

    def climb(net, i: Tensor, loss, steps: int) -> Tensor:
        return a.apgd(net, lambda z, j: loss(z, i[j]), x[i], y[i], rows[i], ball, steps, rng)

    def ce(z, i):
        return a.cross_entropy(z, y[i], scale[i])

    go("apgd_ce", lambda i: climb(net, i, ce, steps))
    for k, t in enumerate(targets, 1):
        go(f"apgd_dlr_{k}", lambda i, t=t: climb(net, i, lambda z, i: a.targeted_dlr(z, y[i], t[i]), steps))
    if tidy is not None:
        tidied = lambda z, r: net(tidy(z, r), r)  # noqa: E731
        go("apgd_ce_traceless", lambda i: tidy(climb(tidied, i, ce, steps), rows[i]))
        for k, t in enumerate(targets, 1) if lost_to.get("apgd_ce_traceless") else ():  # somebody was watching
            go(f"apgd_dlr_{k}_traceless", lambda i, t=t: tidy(climb(tidied, i, lambda z, i: a.targeted_dlr(z, y[i], t[i]), steps), rows[i]))
    by_gradient = int(left.sum())
    go("transfer", lambda i: climb(student, i, lambda z, i: a.cross_entropy(z, y[i], torch.ones(len(i))), 15))
    go("square", lambda i: a.square(net, x[i], y[i], rows[i], ball, 5 * steps, rng))
    return left, lost_to, reach, by_gradient - int(left.sum())
