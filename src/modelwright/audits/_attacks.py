"""Attacks on a function of x: the worst case near every row, with gradients and without. B rows, K classes; all randomness from a torch.Generator.

APGD with cross-entropy and with the targeted difference-of-logits ratio: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks" (algorithm 1, equations 6 and 7). Random search in squares: after Andriushchenko et al. 2020, "Square
Attack". Cross-entropy reads logits divided by the row's own margin, so that a large or small scale of the logits hides no gradient. A tie of the true
class with another is lost, and so is an answer that is no number: a defence must not stand by answering nothing. Left out: FAB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Net = Callable[[Tensor, Tensor], Tensor]  # x (B, ...), rows (B,) -> logits (B, K)
TINY = 1e-12
RARE = 0.01  # of the rows: what no more of them have otherwise than the others is hardly used


@dataclass(frozen=True)
class Ball:
    """All that is within eps of x in the norm, and within the bounds of inputs (None: none)."""

    norm: str  # "linf" or "l2"
    eps: float
    low: float | None = None
    high: float | None = None

    def project(self, x: Tensor, near: Tensor) -> Tensor:
        if self.norm == "linf":
            x = torch.minimum(torch.maximum(x, near - self.eps), near + self.eps)
        else:
            d = x - near
            x = near + d * (self.eps / size(d).clamp(min=TINY)).clamp(max=1)
        return self.bounded(x)  # clipping towards a point of the cube never leaves a ball about it

    def bounded(self, x: Tensor) -> Tensor:
        return x if self.low is None else x.clamp(self.low, self.high)

    def length(self, d: Tensor) -> Tensor:
        """(B,)"""
        return d.abs().flatten(1).amax(1) if self.norm == "linf" else d.flatten(1).norm(dim=1)

    def step(self, g: Tensor) -> Tensor:
        return g.sign() if self.norm == "linf" else g / size(g).clamp(min=TINY)


def size(d: Tensor) -> Tensor:
    """L2 of each row, (B, 1, ...)"""
    return d.flatten(1).norm(dim=1).reshape(-1, *[1] * (d.dim() - 1))


def margin(z: Tensor, y: Tensor) -> Tensor:
    """(B,) the true class's logit minus the largest other's. The row is lost unless it is positive; what is no number counts as minus infinity."""
    return (z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(1)).nan_to_num(-torch.inf, torch.inf, -torch.inf)


def cross_entropy(z: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return F.cross_entropy(z / scale[:, None], y, reduction="none")


def targeted_dlr(z: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """(B,) -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2); over three classes z_1 - z_3; two have no third, and their margin stands alone (equation 7)."""
    top = z.sort(1, descending=True).values
    k = z.shape[1]
    spread = 1.0 if k == 2 else top[:, 0] - (top[:, 2] if k == 3 else (top[:, 2] + top[:, 3]) / 2)
    return -(z.gather(1, y[:, None]) - z.gather(1, other[:, None])).squeeze(1) / (spread + TINY)


def gradient(net: Net, loss: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss (B,), gradient like x, logits). A zero gradient where the loss does not depend on x."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        z = net(x, rows)
        value = loss(z)
        g = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
    return value.detach(), torch.zeros_like(x) if g is None else torch.nan_to_num(g), z.detach()


def apgd(net: Net, loss, x: Tensor, y: Tensor, rows: Tensor, ball: Ball, steps: int, rng: torch.Generator) -> Tensor:
    """The best point found of each row: a lost one where it was lost (and it costs no more passes), else where the loss is highest. loss(z, index): (B,),
    to be raised; index: places in x."""
    noise = torch.rand(x.shape, generator=rng, dtype=x.dtype) * 2 - 1
    found = ball.project(x + ball.eps * (noise if ball.norm == "linf" else noise / size(noise).clamp(min=TINY)), x)
    index, now, marks = torch.arange(len(x)), found.clone(), _checkpoints(steps)  # index: the rows that still stand
    value, g, z = gradient(net, lambda z: loss(z, index), now, rows)
    rate = torch.full((len(x),), 2 * ball.eps, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1))
    state = [now, now.clone(), g, value, now.clone(), g.clone(), value.clone(), rate, rate.clone(), value.clone(), torch.zeros_like(value)]
    for i in range(steps + 1):
        stands = margin(z, y[index]) > 0
        if not stands.all():
            found[index[~stands]] = state[0][~stands]
            index, state = index[stands], [s[stands] for s in state]
        if i == steps or not len(index):
            break
        now, before, g, value, best, best_g, top, rate, last_rate, last_top, rises = state
        ahead = ball.project(now + rate * ball.step(g), x[index])
        a = 1.0 if i == 0 else 0.75
        before, now = now, ball.project(now + a * (ahead - now) + (1 - a) * (now - before), x[index])
        earlier = value
        value, g, z = gradient(net, lambda z, index=index: loss(z, index), now, rows[index])
        rises = rises + (value > earlier)
        better = value > top
        best[better], top[better], best_g[better] = now[better], value[better], g[better]
        state = [now, before, g, value, best, best_g, top, rate, last_rate, last_top, rises]
        if i + 1 in marks:  # halve the step where the loss rose too seldom, or stood still since the last look; go on from the best point
            stuck = (rises < 0.75 * marks[i + 1]) | ((last_rate == rate).flatten(1).all(1) & (last_top == top))
            state[8:] = [rate.clone(), top.clone(), torch.zeros_like(rises)]
            rate[stuck] = rate[stuck] / 2
            turned = stuck & (margin(z, y[index]) > 0)  # a lost row stays where it was lost
            now[turned], g[turned], value[turned] = best[turned], best_g[turned], top[turned]
    found[index] = state[4]
    return found


def _checkpoints(steps: int) -> dict[int, int]:
    """{step: steps since the last look}, as in their section 3.1."""
    found, p, last = {}, [0.0, 0.22], 0
    while p[-1] < 1:
        at = int(-(-p[-1] * steps // 1))
        if at > last:
            found[at], last = at - last, at
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return found


def traceless(x: Tensor, ball: Ball) -> Callable[[Tensor, Tensor], Tensor] | None:
    """What an attacker who is watched does to x (N, ...): inputs that all but few rows have alike stay as they are, and pictures of 8 bits stay such.
    Gradients go through the rounding as if it were none (Athalye et al. 2018). (moved (B, ...), rows (B,)) -> like moved; None where that is no restriction."""
    varies = ((x - x.median(0).values).abs() > 1e-6).float().mean(0) > RARE
    whole = ball.low is not None and bool(((255 * x).round() - 255 * x).abs().max() < 1e-3)
    if bool(varies.all()) and not whole:
        return None

    def tidy(moved: Tensor, rows: Tensor) -> Tensor:
        d = torch.where(varies, moved - x[rows], 0.0)
        return x[rows] + (d + ((255 * d.abs() + 1e-3).floor() / 255 * d.sign() - d).detach() if whole else d)  # towards x: within the ball

    return tidy


def square(net: Net, x: Tensor, y: Tensor, rows: Tensor, ball: Ball, steps: int, rng: torch.Generator) -> Tensor:
    """Random search without gradients: corners of the ball, a shrinking window of entries redrawn at a time, kept where the margin falls."""
    with torch.no_grad():
        shape = x.shape[1:]
        corner = torch.randint(0, 2, x.shape[:-2] + (1, x.shape[-1]) if len(shape) == 3 else x.shape, generator=rng).to(x.dtype) * 2 - 1
        best = ball.project(x + _sized(corner.expand(x.shape), ball), x)
        low = margin(net(best, rows), y)
        clean = margin(net(x, rows), y)
        best[clean < low] = x[clean < low]
        low = torch.minimum(low, clean)
        for i in range(steps):
            left = (low > 0).nonzero().squeeze(1)
            if not len(left):
                break
            share = 0.8 * 0.5 ** (6 * i / max(1, steps))
            where = _window(len(left), shape, share, rng)
            redrawn = torch.randint(0, 2, (len(left), shape[0], *[1] * (len(shape) - 1)) if len(shape) == 3 else (len(left), *shape), generator=rng)
            redrawn = redrawn.to(x.dtype) * 2 - 1
            if ball.norm == "linf":
                move = torch.where(where, redrawn * ball.eps, best[left] - x[left])
            else:
                d = best[left] - x[left]
                bump = torch.where(where, redrawn * torch.rand(redrawn.shape, generator=rng), 0.0)
                move = d + _sized(bump.expand(d.shape), ball) * 2 * share
                move = _sized(move, ball)
            ahead = ball.project(x[left] + move, x[left])
            value = margin(net(ahead, rows[left]), y[left])
            gain = value < low[left]
            best[left[gain]], low[left[gain]] = ahead[gain], value[gain]
    return best


def _sized(d: Tensor, ball: Ball) -> Tensor:
    return ball.eps * d.sign() if ball.norm == "linf" else ball.eps * d / size(d).clamp(min=TINY)


def _window(b: int, shape: torch.Size, share: float, rng: torch.Generator) -> Tensor:
    """(B, ...) bool: a square of pixels in all channels, or a random share of a table's numbers, at least one."""
    if len(shape) != 3:
        draw = torch.rand((b, *shape), generator=rng)
        return draw <= draw.flatten(1).kthvalue(max(1, round(share * draw[0].numel())), 1).values.reshape(-1, *[1] * len(shape))
    _, h, w = shape
    side = max(1, round((share * h * w) ** 0.5))
    inside = []
    for n in (h, w):
        start = (torch.rand((b, 1), generator=rng) * (n - min(side, n) + 1)).long()
        i = torch.arange(n)
        inside.append((i >= start) & (i < start + side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def surrogate(net: Net, x: Tensor, rows: Tensor, ball: Ball, rng: torch.Generator, width: int = 384) -> Net:
    """A smooth net taught the model's own logits around these rows: what it is fooled by transfers where gradients are hidden. Of logits their direction, less
    their mean, so that no scale speaks louder. Its first layer is drawn, its second is ridge regression, so that it costs no training (random features:
    Rahimi & Recht 2008)."""
    noise = [torch.randn(x.shape, generator=rng) / (1 if ball.norm == "linf" else x[0].numel() ** 0.5) for _ in range(8)]
    draws = [x, *(ball.bounded(x + 2 * ball.eps * n) for n in noise[:4]), *(ball.bounded(x + ball.eps * ball.step(n)) for n in noise[4:])]
    with torch.no_grad():
        answers = torch.cat([net(d, rows) for d in draws]).nan_to_num(0, 0, 0)
    points, answers = torch.cat(draws).flatten(1), answers - answers.mean(1, keepdim=True)
    truth = answers / answers.norm(dim=1, keepdim=True).clamp(min=TINY)
    mean, sd = points.mean(0), points.std(0).clamp(min=1e-2)
    first, shift = torch.randn(points.shape[1], width, generator=rng) / points.shape[1] ** 0.5, torch.randn(width, generator=rng)

    def hidden(x: Tensor) -> Tensor:
        return F.silu(((x.flatten(1) - mean) / sd) @ first + shift)

    h = hidden(points)
    gram = h.T @ h
    second = torch.linalg.solve(gram + 1e-3 * gram.diagonal().mean() * torch.eye(width), h.T @ (truth - truth.mean(0)))
    return lambda x, rows: 10 * (hidden(x) @ second + truth.mean(0))


class Weak(nn.Module):
    """An undefended linear classifier whose worst cases are known exactly: margin_k - eps |w_y - w_k| in the dual norm, for every k."""

    def __init__(self, features: int, classes: int, rng: torch.Generator):
        super().__init__()
        self.weight = torch.randn(classes, features, generator=rng) / features**0.5

    def net(self, x: Tensor, rows: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T

    def survives(self, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
        """(B,) bool, exactly; without bounds of inputs."""
        difference = self.weight[y][:, None] - self.weight[None]
        size = difference.abs().sum(2) if ball.norm == "linf" else difference.norm(dim=2)
        gap = (difference * x.flatten(1)[:, None]).sum(2) - ball.eps * size
        return gap.scatter(1, y[:, None], torch.inf).amin(1) >= 0
