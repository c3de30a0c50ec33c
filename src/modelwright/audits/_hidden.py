"""Signs that an attack's failure shows nothing: answers that are random or hang on the batch, gradients that are not there, turn, or say another thing.

After Athalye, Carlini & Wagner 2018, "Obfuscated Gradients Give a False Sense of Security", and Carlini et al. 2019, "On Evaluating Adversarial
Robustness" (section 4). Every sign is looked for at the rows and away from them, where a defence may show another face. B rows, K classes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..intervals import paired
from ..kind import Metric
from . import _attacks as a

LARGE = 3.0  # standard deviations of a table's numbers: the largest epsilon


def looked_at(logits, x: Tensor, rows: Tensor, ball: a.Ball, rng: torch.Generator):
    """(the net to attack, {"random", "batch_dependent"}, points away from x, what was said of them). A random net is attacked in the mean of eight passes."""
    away = ball.project(x + ball.eps * (torch.rand(x.shape, generator=rng) * 2 - 1), x)
    seen = {"random": False, "batch_dependent": False}
    with torch.no_grad():
        first = logits(away, rows)  # asked before the rows themselves: a model that remembers what it was asked answers otherwise afterwards
        for point, one in ((x, logits(x, rows)), (away, first)):
            scale = float(one.nan_to_num(0, 0, 0).abs().amax().clamp(min=1e-6))
            seen["random"] |= changed(logits(point, rows), one)
            few = rows[:: max(1, len(rows) // 8)][:8]
            half = torch.randperm(len(x), generator=rng)[: max(1, len(x) // 2)]
            apart = far(logits(point[half], rows[half]), one[half])
            try:
                apart = max(apart, far(torch.cat([logits(point[[i]], rows[[i]]) for i in few.tolist()]), one[few]))
            except Exception:  # noqa: BLE001 - it answers many rows, and one row it does not
                apart = torch.inf
            seen["batch_dependent"] |= apart > 1e-3 * scale
    seen["batch_dependent"] &= not seen["random"]
    if seen["random"]:
        return lambda x, rows: torch.stack([logits(x, rows) for _ in range(8)]).mean(0), seen, away, first
    return logits, seen, away, first


def another(said: Tensor, logits: Tensor) -> str:
    """How probabilities (B, K) that are said differ from those of what is opened; "" where they are one model's."""
    p = logits.float().softmax(1)
    apart, agree = float((said.float() - p).abs().amax(1).nan_to_num(1.0).mean()), float((said.argmax(1) == p.argmax(1)).float().mean())
    return f"agree on {agree:.1%} of rows, and their probabilities are {apart:.2g} apart" if agree < 0.98 or apart > 0.05 else ""


def changed(again: Tensor, first: Tensor) -> bool:
    """Whether the same rows are answered otherwise."""
    return far(again, first) > 1e-4 * float(first.nan_to_num(0, 0, 0).abs().amax().clamp(min=1e-6))


def far(one: Tensor, two: Tensor) -> float:
    return float((one - two).nan_to_num(0, 0, 0).abs().max())


def checked(net, x: Tensor, y: Tensor, rows: Tensor, ball: a.Ball, rng: torch.Generator) -> dict:
    """Shares of right rows (B) whose margin has no gradient, whose gradient turns, and whose gradient is not the slope; the larger of rows and points
    away from them. And accuracy at the largest epsilon."""
    if not len(x):
        return {"zero_gradients": 0.0, "shattered_gradients": 0.0, "wrong_gradients": 0.0, "largest_epsilon": None}
    noise = torch.rand(x.shape, generator=rng) * 2 - 1
    away = ball.project(x + ball.eps * (noise if ball.norm == "linf" else noise / a.size(noise).clamp(min=a.TINY)), x)
    shares = torch.tensor([gradients_at(net, p, y, rows, ball, rng) for p in (x, away)]).amax(0).tolist()
    return dict(zip(("zero_gradients", "shattered_gradients", "wrong_gradients"), shares, strict=True)) | {
        "largest_epsilon": far_away(net, x, y, rows, ball, rng)
    }


def worse(checks: dict, shares: tuple[float, float, float]) -> dict:
    """checks with the larger of their shares and those that `gradients_at` found later."""
    return checks | {k: max(checks[k], v) for k, v in zip(("zero_gradients", "shattered_gradients", "wrong_gradients"), shares, strict=True)}


def hidden(checks: dict) -> bool:
    wide = checks.get("largest_epsilon")
    return bool(checks) and (
        checks["zero_gradients"] > 0.1 or checks["shattered_gradients"] > 0.5 or checks["wrong_gradients"] > 0.25 or (wide is not None and wide["hidden"])
    )


def gradients_at(net, x, y, rows, ball, rng) -> tuple[float, float, float]:
    """Shares of rows whose margin has no gradient; whose gradient turns (cosine below 0.2) within a thousandth of epsilon; and whose margin, a hundredth
    and a third of epsilon away, changes otherwise than the gradient says (of points a tenth of epsilon beside the rows: a network that embeds whole numbers
    in bins bends at the rows themselves): up and down the gradient by less than a third or more than three times of it, or
    in two random directions so that a quarter of the changes' squares is left over (a gradient of some inputs alone is right along itself)."""
    value, g, _ = a.gradient(net, lambda z: a.margin(z, y), x, rows)
    near = x + 1e-3 * ball.eps * torch.randn(x.shape, generator=rng) / (1 if ball.norm == "linf" else x[0].numel() ** 0.5)
    _, other, _ = a.gradient(net, lambda z: a.margin(z, y), near, rows)
    long, longer = g.flatten(1).norm(dim=1), other.flatten(1).norm(dim=1)
    none = long <= 1e-7 * value.abs().clamp(min=1e-30)
    cosine = (g * other).flatten(1).sum(1) / (long * longer).clamp(min=1e-30)
    x = ball.bounded(x + 0.1 * ball.eps * (torch.rand(x.shape, generator=rng) * 2 - 1) / (1 if ball.norm == "linf" else x[0].numel() ** 0.5))
    _, g, _ = a.gradient(net, lambda z: a.margin(z, y), x, rows)
    along, across = ~none, ~none
    ways = [ball.step(torch.randn(x.shape, generator=rng)) for _ in range(2)]
    for share in (0.01, 0.3):
        (change, said), *others = (slope(net, x, y, rows, g, share * ball.eps * d) for d in (ball.step(g), *ways))
        ratio = change / said.clamp(min=1e-30)
        along &= ~((ratio > 1 / 3) & (ratio < 3))
        across &= sum((c - s) ** 2 for c, s in others) > 0.25 * sum(c**2 for c, _ in others)
    return float(none.float().mean()), float(((cosine < 0.2) & ~none).float().mean()), float((along | across).float().mean())


def slope(net, x, y, rows, g, d) -> tuple[Tensor, Tensor]:
    """(B,) each: how much the margin changes from x - d to x + d, and how much g says."""
    with torch.no_grad():
        return a.margin(net(x + d, rows), y) - a.margin(net(x - d, rows), y), 2 * (g * d).flatten(1).sum(1)


def special(net, x, y, rows, ball, rng) -> float:
    """By how much more rows surely fall at the first step away from the test rows, of two epsilon, than both before it (at the rows themselves) and at the
    second step; surely: an honest net is accused in one of 1,000. A short attack everywhere. A net that was told the rows, and keeps to its answer around
    them, is a cliff: it stands at the rows and is as weak as it is everywhere else after one step. Others wear off: what falls early fell before it."""
    d, stood = 2 * ball.eps * ball.step(torch.randn(x.shape, generator=rng)), [torch.ones(len(x))]
    for k in range(3):
        at = ball.bounded(x + k * d)
        with torch.no_grad():
            scale = a.margin(net(at, rows), y).abs().clamp(1e-6, 1e30)
        found = a.apgd(net, lambda z, j, scale=scale: a.cross_entropy(z, y[j], scale[j]), at, y, rows, ball, 10, rng)
        with torch.no_grad():
            stood.append((a.margin(net(found, rows), y) > 0).float())
    before, first, second = (Metric.mean((s - t).numpy()) for s, t in zip(stood, stood[1:], strict=False))
    return max(0.0, min(float(paired(first, other, len(x), level=0.998).low) for other in (before, second)))


def far_away(net, x, y, rows, ball, rng) -> dict:
    """At the largest epsilon gradients must lose about all pictures (each can become one grey), and of a table as many rows as random corners do."""
    picture = ball.low is not None
    eps = (0.5 if picture else LARGE) * (1.0 if ball.norm == "linf" else x[0].numel() ** 0.5)
    wide = a.Ball(ball.norm, eps, ball.low, ball.high)
    with torch.no_grad():
        scale = a.margin(net(x, rows), y).abs().clamp(1e-6, 1e30)
    found = a.apgd(net, lambda z, j: a.cross_entropy(z, y[j], scale[j]), x, y, rows, wide, 15, rng)
    searched = a.square(net, x, y, rows, wide, 15, rng)
    with torch.no_grad():
        stands = a.margin(net(found, rows), y) > 0
        lost = a.margin(net(searched, rows), y) <= 0
    accuracy, chance = float(stands.float().mean()), float(torch.bincount(y).max() / len(y))
    hidden = float((lost & stands).float().mean()) > 0.1 or (picture and accuracy > chance + 0.15)
    return {"epsilon": eps, "accuracy": accuracy, "chance": chance, "hidden": hidden}
