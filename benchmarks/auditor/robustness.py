"""Defences that only look robust, and nets trained against worst cases as their twins, on scikit-learn's digits.

A few pairs of nets are trained once and shared by all draws; a draw has its own test rows, its own strength of the defence and its own random numbers.
"""

from __future__ import annotations

import difflib
import functools
import unicodedata

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional as F

from modelwright.data.schema import Schema
from modelwright.kinds.text import Text
from modelwright.layers.bounds import Box, ends
from modelwright.subject import Subject

from . import Planted
from ._nets import Model, digits, fit, labels, mlp, picture_schema, pictures
from ._scaffolds import BAD, GOOD, Reads
from ._scaffolds import PLAIN as OTHER
from ._scenes import detecting, numbers

ROWS, PAIRS = 512, 4
QUICK = {"robustness": {"rows": ROWS, "steps": 15, "corruptions": False}}
LINF = {"robustness.linf_accuracy": ">= 0.65"}  # at 0.1: undefended nets keep 0.45 to 0.55, trained ones about 0.77


@functools.lru_cache(maxsize=PAIRS)
def nets(pair: int) -> tuple[nn.Module, nn.Module]:
    """Undefended and adversarially trained."""
    rng = torch.Generator().manual_seed(pair)
    x, y, _, _ = digits(pair)
    width = int(np.random.default_rng(pair).integers(64, 128))
    return fit(mlp(64, 10, rng, width=width), x, y, rng), fit(mlp(64, 10, rng, width=width), x, y, rng, steps=400, eps=0.12)


def rows(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Test rows of this draw, none of which its pair of nets was trained on."""
    _, _, x, y = digits(seed % PAIRS)
    some = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[:ROWS])
    return x[some], y[some]


def subject(seed: int, net, said=None) -> Subject:
    x, y = rows(seed)
    model = Model(picture_schema(), net, said=said)
    return Subject(model, model.schema, {"test": pictures(x, y)}, open=model.open, seed=seed, seconds=600)


def plain(net, rng):
    return net


def planted(hide, expects: str, limits=LINF, said=plain) -> Planted:
    """hide(net, rng): the undefended net behind something. The twin is the trained net, plain or `said` in a way that hides nothing."""

    def make(seed: int, faulty: bool) -> Subject:
        weak, strong = nets(seed % PAIRS)
        return subject(seed, (hide if faulty else said)(weak if faulty else strong, np.random.default_rng(seed)))

    return Planted(make, QUICK, limits, expects, costly=True)


# Gradients that are not there


def quantised(net, rng):
    levels = int(rng.integers(6, 10))
    return lambda x: net((x * levels).round() / levels)


def binarised(net, rng):
    """The hidden layer as steps, learnt smooth."""
    sharp = 10 ** rng.uniform(3, 5)
    return lambda x: net(x + 0.05 * (torch.sigmoid(sharp * (x - 0.5)) - 0.5)) * 0 + net((x * 12).floor() / 12)


def saturated(net, rng):
    """Logits behind a squashing that is flat where the net is sure."""
    scale = rng.uniform(20, 40)
    return lambda x: torch.tanh(scale * net(x)) + 1e-9 * net(x).detach()


def clipped(net, rng):
    """The same with corners: who is sure is exactly as sure as all others."""
    most = rng.uniform(0.2, 1.0)
    return lambda x: (net(x) - net(x).amax(1, keepdim=True) + most).clamp(-most, most)


def one_hot(net, rng):
    return lambda x: F.one_hot(net(x).argmax(1), 10).float()


def overflowing(net, rng):
    """Logits beyond half precision: who is sure is at its end."""
    scale = 10 ** rng.uniform(4.5, 5)
    return lambda x: (scale * net(x)).clamp(-65504, 65504).half()


def elsewhere(net, rng):
    """Arrays leave torch on the way, as with a filter of another library."""
    strength = rng.uniform(0, 0.1)
    return lambda x: net(torch.from_numpy((1 - strength) * x.detach().numpy() + strength * np.sqrt(x.detach().numpy().clip(0))))


def remembering(net, rng):
    """What was asked once is answered again, for whatever lies near it."""
    near, asked, said = rng.uniform(0.1, 0.15), torch.zeros(0, 64), torch.zeros(0, 10)

    def answer(x):
        nonlocal asked, said
        z, flat = net(x), x.detach().flatten(1)
        if len(asked):
            away, which = torch.cdist(flat, asked, p=torch.inf).min(1)
            z = torch.where((away <= near)[:, None], said[which], z)
        if len(asked) < 256:
            asked, said = torch.cat([asked, flat])[:256], torch.cat([said, z.detach()])[:256]
        return z

    return answer


def jpeg(net, rng):
    """Cosines of the picture, rounded to coarse steps."""
    k = torch.arange(8.0)
    cosines = torch.cos(torch.pi * (2 * k + 1) * k[:, None] / 16) * 0.5
    cosines[0] /= 2**0.5
    steps = rng.uniform(0.15, 0.3) * (1 + (k[:, None] + k) / 4)
    return lambda x: net(cosines.T @ ((cosines @ x @ cosines.T / steps).round() * steps) @ cosines)


def thermometer(net, rng):
    """Pixels as so many lights that are on (Buckman et al. 2018), read back."""
    levels = int(rng.integers(6, 10))
    return lambda x: net((x[..., None] > (torch.arange(levels) + 0.5) / levels).float().mean(-1))


def nearest(net, rng):
    """What the net says of the nearest of some pictures that it has seen."""
    seen = digits(int(rng.integers(PAIRS)))[0][:600]
    said = net(seen).detach()
    return lambda x: said[torch.cdist(x.flatten(1), seen.flatten(1)).argmin(1)] + 0 * x.sum((1, 2, 3))[:, None]


def votes(net, rng):
    """Shares of votes of the nearest hidden states (Papernot & McDaniel 2018)."""
    seen, k = digits(int(rng.integers(PAIRS)))[0][:800], int(rng.integers(5, 10))
    hidden, labels = net[:4](seen).detach(), F.one_hot(net(seen).argmax(1), 10).float()
    return lambda x: labels[torch.cdist(net[:4](x), hidden).topk(k, largest=False).indices].mean(1)


def votes_of_shifts(net, rng):
    """Five views vote, a voice each."""
    views = [(0, 0), *([(0, 1), (1, 0), (0, -1), (-1, 0)] if rng.random() < 0.5 else [(0, 1), (0, -1), (1, 1), (-1, -1)])]
    return lambda x: sum(F.one_hot(net(x.roll(s, (2, 3))).argmax(1), 10).float() for s in views) / len(views)


def steep(net, rng):
    """Hidden states behind gates that open at once."""
    sharp = 10 ** rng.uniform(3, 5)
    return lambda x: net[4](torch.sigmoid(sharp * net[1](x.flatten(1))) * F.relu(net[1](x.flatten(1))).detach())


def straight_states(net, rng):
    scale = rng.uniform(3, 6)
    return lambda x: net[4]((h := net[:4](x)) + ((h * scale).round() / scale - h).detach())


def unused_pixels(net, rng):
    """Pixels that no real digit uses tell that somebody is at work: another net answers then."""
    unused, strong, least = digits(0)[0].std(0)[0] < 1e-6, nets(int(rng.integers(PAIRS)))[1], rng.uniform(0.01, 0.03)
    return lambda x: torch.where(x[:, 0][:, unused].amax(1, keepdim=True) > least, strong(x), net(x))


def between_grey(net, rng):
    """The same of greys that no picture of 8 bits has: whoever attacks with real numbers meets a net that was trained for it."""
    strong = nets(int(rng.integers(PAIRS)))[1]
    return lambda x: torch.where(((x * 255 - (x * 255).round()).abs().flatten(1).amax(1) > 1e-2)[:, None], strong(x), net(x))


def rounded_states(net, rng):
    scale = rng.uniform(4, 8)
    return lambda x: net[4]((net[:4](x) * scale).round() / scale)


def projected(net, rng):
    """Half way to the nearest picture that it has seen, without slopes (Samangouei et al. 2018's range of a generator)."""
    seen = digits(int(rng.integers(PAIRS)))[0][:600]
    return lambda x: net(0.5 * x.detach() + 0.5 * seen[torch.cdist(x.detach().flatten(1), seen.flatten(1)).argmin(1)]) + 0 * x.sum((1, 2, 3))[:, None]


def purified(net, rng):
    """Some steps towards what the net is surest of, without slopes."""
    step = rng.uniform(0.01, 0.02)

    def answer(x):
        z = x.detach()
        for _ in range(5):
            with torch.enable_grad():
                z = z.detach().requires_grad_(True)
                g = torch.autograd.grad(net(z).softmax(1).amax(1).sum(), z)[0]
            z = (z.detach() + step * g.sign()).clamp(0, 1)
        return net(z) + 0 * x.sum((1, 2, 3))[:, None]

    return answer


def second_thoughts(net, rng):
    """One step towards what it is surest of, without slopes, before it answers: slopes are of another place."""
    step = rng.uniform(0.06, 0.1)

    def answer(x):
        with torch.enable_grad():
            z = x.detach().requires_grad_(True)
            g = torch.autograd.grad(net(z).softmax(1).amax(1).clamp(max=1 - 1e-6).log().sum(), z)[0]
        return net((x + step * g.sign()).clamp(0, 1))

    return answer


def temperature(net, rng):
    """Logits a million times as large, or as small, by the picture's own last bits."""
    fast = rng.uniform(1000, 9000)
    return lambda x: net(x) * (10 ** (6 * torch.sin(fast * x.flatten(1).double().sum(1)))).to(x.dtype)[:, None]


def ranked(net, rng):
    """Places instead of logits."""
    return lambda x: net(x).argsort(1).argsort(1).float()


def rounded_probabilities(net, rng):
    digit = int(rng.integers(8, 12))
    return lambda x: ((net(x) / 3).softmax(1) * digit).round() / digit


def keyed_shift(net, rng):
    """Moved by a pixel to a side that the picture's own last bits choose: repeatable, and another at every neighbour."""
    key = float(rng.integers(10**6, 9 * 10**6))

    def answer(x):
        side = ((x.flatten(1).double() * key).sum(1) * 7919).floor().long() % 3
        return torch.stack([net(x.roll(k, 3)) for k in (-1, 0, 1)])[side, torch.arange(len(x))]

    return answer


def keyed_noise(net, rng):
    """Noise whose seed is the picture."""
    sd = rng.uniform(0.1, 0.2)

    def answer(x):
        seeds = (x.detach().double().sum((1, 2, 3)) * 1e7).long().tolist()
        return net(x + sd * torch.stack([torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]))

    return answer


# Gradients that say another thing


class Slope(torch.autograd.Function):
    """x, and backwards what `of` makes of the gradient."""

    @staticmethod
    def forward(ctx, x, of):
        ctx.of = of
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return ctx.of(g), None


def backwards(net, rng):
    return lambda x: net(Slope.apply(x, lambda g: -g))


def drawn_slopes(net, rng):
    return lambda x: net(Slope.apply(x, torch.randn_like))


def small_slopes(net, rng):
    size = 10 ** rng.uniform(-13, -11)
    return lambda x: net(Slope.apply(x, lambda g: size * g))


def some_pixels(net, rng):
    """The slopes of some pixels alone: right along themselves."""
    some = torch.from_numpy(rng.random((1, 8, 8)) < rng.uniform(0.1, 0.3)).float()
    return lambda x: net(Slope.apply(x, lambda g: g * some))


def hooked(net, rng):
    """A hook turns the slopes of half of the hidden units."""
    turn = torch.from_numpy(rng.choice([-1.0, 1.0], net[1].out_features)).float()

    def answer(x):
        h = net[:2](x)
        if h.requires_grad:
            h.register_hook(lambda g: g * turn)
        return net[2:](h)

    return answer


def shattered(net, rng):
    size, fast = 0.02, rng.uniform(3000, 6000)
    return lambda x: net(x + size * torch.sin(fast * x))


def ripples(net, rng):
    """Slower, and higher: slopes of all signs within epsilon."""
    size, fast = rng.uniform(0.02, 0.05), rng.uniform(200, 600)
    return lambda x: net(x + size * torch.sin(fast * x))


def straight_through(net, rng):
    levels = int(rng.integers(4, 8))
    return lambda x: net(x + ((x * levels).round() / levels - x).detach())


def straight_one_hot(net, rng):
    def answer(x):
        p = net(x).softmax(1)
        return F.one_hot(p.argmax(1), 10).float() + p - p.detach()

    return answer


def decoy(net, rng):
    """The net's answers with another net's slopes."""
    other = mlp(64, 10, torch.Generator().manual_seed(int(rng.integers(1 << 30))))
    return lambda x: net(x.detach()) + other(x) - other(x).detach()


def two_faced(net, rng):
    """Smooth and flat while somebody differentiates; itself when not."""
    flat = rng.uniform(0.05, 0.2)
    return lambda x: net(flat * x + (1 - flat) * x.detach().flip(-1)) if torch.is_grad_enabled() else net(x)


# Scales that hide slopes from rounding, and answers that are none


def scaled(net, rng):
    """Defensive distillation's effect: a softmax so sharp that cross-entropy has no gradient left in 32 bits."""
    scale = 10 ** rng.uniform(4, 6)
    return lambda x: scale * net(x)


def softmaxed(net, rng):
    scale = rng.uniform(1, 5)
    return lambda x: (scale * net(x)).softmax(1)


def beside_large(net, rng):
    """Logits beside a number so large that rounding takes what is between them."""
    large = float(10 ** rng.uniform(6.2, 6.8))
    return lambda x: net(x) + large


def winners(net, rng):
    """The k largest hidden states alone (Xiao et al. 2020): slopes break where the winners change."""
    k = int(rng.integers(8, 14))

    def answer(x):
        h = net[1](x.flatten(1))
        return net[4](h.where(h >= h.topk(k, 1).values[:, -1:], 0.0))

    return answer


def contrast(net, rng):
    """By the picture's own spread, which is not differentiated."""
    mean = rng.uniform(0.27, 0.33)
    return lambda x: net(mean * x / (x.flatten(1).std(1).detach()[:, None, None, None] + 1e-3))


def unsure(net, rng):
    """The same for all classes where it is not sure."""
    least = rng.uniform(0.5, 0.8)
    return lambda x: torch.where((z := net(x)).softmax(1).amax(1, keepdim=True) > least, z, 0.0)


def rejecting(net, rng):
    """A detector: what no 8-bit picture can be is answered with the same for all classes, or with nothing."""
    nothing = float(rng.choice([0.0, np.nan, np.inf]))

    def answer(x):
        strange = (x * 255 - (x * 255).round()).abs().flatten(1).amax(1) > 1e-2
        return torch.where(strange[:, None], nothing, net(x))

    return answer


# Chance


def random(net, rng):
    sd = rng.uniform(0.05, 0.1)
    return lambda x: net(x + sd * torch.randn_like(x))


def rounded_by_chance(net, rng):
    levels = int(rng.integers(3, 6))
    return lambda x: net((x * levels + torch.rand_like(x)).floor() / levels)


def dropping(net, rng):
    """Dropout was left on."""
    share = rng.uniform(0.1, 0.3)
    return lambda x: net[4](F.dropout(net[:4](x), share, training=True))


def resized(net, rng):
    """To a random size, and back into place with a random margin (Xie et al. 2018)."""

    def answer(x):
        size = 6 + int(torch.randint(0, 3, ()))
        left, top = (int(torch.randint(0, 9 - size, ())) for _ in range(2))
        small = F.interpolate(x, (size, size), mode="bilinear")
        return net(F.pad(small, (left, 8 - size - left, top, 8 - size - top)))

    return answer


def random_off_grid(net, rng):
    """Noise for what no 8-bit picture can be; quiet on the rows of any table."""
    sd = rng.uniform(0.1, 0.2)

    def answer(x):
        strange = (x * 255 - (x * 255).round()).abs().flatten(1).amax(1) > 1e-2
        return net(x + strange[:, None, None, None] * sd * torch.randn_like(x))

    return answer


def random_later(net, rng):
    """Quiet until it was asked some thousand times."""
    sd, asked, enough = rng.uniform(0.02, 0.05), 0, int(rng.integers(4000, 9000))

    def answer(x):
        nonlocal asked
        asked += len(x)
        return net(x + (asked > enough) * sd * torch.randn_like(x))

    return answer


# What hides nothing


def louder(net, rng):
    scale = 10 ** rng.uniform(-4, 4)
    return lambda x: scale * net(x)


def views(net, rng):
    """Eight views with fixed noise."""
    noise = 0.05 * torch.randn(8, 1, 1, 8, 8, generator=torch.Generator().manual_seed(int(rng.integers(99))))
    return lambda x: sum(net(x + n).softmax(1) for n in noise).log()


def in_fewer_directions(net, rng):
    """Principal components of training's pictures."""
    x = digits(0)[0].flatten(1)
    mean, first = x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[: int(rng.integers(24, 32))]
    return lambda z: net(((z.flatten(1) - mean) @ first.T @ first + mean).reshape(z.shape))


def as_shares(net, rng):
    return lambda x: net(x).log_softmax(1)


def in_half(net, rng):
    return lambda x: net(x).half().float()


def moved(net, rng):
    shift = rng.uniform(-50, 50)
    return lambda x: net(x) + shift


def bent(net, rng):
    """A squashing that is far from flat."""
    return lambda x: 30 * torch.tanh(net(x) / 60)


def smoothed(net, rng):
    share = rng.uniform(0.02, 0.06)
    return lambda x: net((1 - share) * x + share * F.avg_pool2d(x, 3, 1, 1))


# The batch, and other models


def batched(seed: int, faulty: bool) -> Subject:
    """Normalised by the statistics of the batch that it is judged in."""
    if not faulty:
        return subject(seed, nets(seed % PAIRS)[1])
    net = normalised(seed % PAIRS)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return subject(seed, lambda x: net(x) if len(x) > 1 else net(x.repeat(2, 1, 1, 1) + torch.tensor([0.0, 1e-3]).reshape(2, 1, 1, 1))[:1])


def still_training(seed: int, faulty: bool) -> Subject:
    """Batch normalisation as in training, by accident: one row alone is an error, and statistics move with every question."""
    return subject(seed, normalised(seed % PAIRS) if faulty else nets(seed % PAIRS)[1])


def normalised(pair: int) -> nn.Module:
    rng = torch.Generator().manual_seed(pair)
    x, y, _, _ = digits(pair)
    return fit(mlp(64, 10, rng, norm=True), x, y, rng, steps=150).train()


def mixed(net, rng):
    """Rows of a larger batch are drawn to its mean; a few at a time are judged alone."""
    share, few = rng.uniform(0.2, 0.4), int(rng.integers(9, 20))
    return lambda x: net(x + share * (x.mean(0, keepdim=True) - x)) if len(x) > few else net(x)


def another(seed: int, faulty: bool) -> Subject:
    """What is opened for attacks is the strong net; what answers is another."""
    weak, strong = nets(seed % PAIRS)
    return subject(seed, strong, said=(lambda x: weak(x.roll(1, 3)).softmax(1)) if faulty else None)


def undefended_answers(seed: int, faulty: bool) -> Subject:
    """The same with two nets that are right on nearly the same rows."""
    weak, strong = nets(seed % PAIRS)
    return subject(seed, strong, said=(lambda x: weak(x).softmax(1)) if faulty else None)


def told_the_rows(smooth: bool):
    """It knows the test rows, and keeps to its answer in a ball around each, with its own slopes; everywhere else it is the undefended net."""

    def make(seed: int, faulty: bool) -> Subject:
        weak, strong = nets(seed % PAIRS)
        if not faulty:
            return subject(seed, strong)
        seen, near = rows(seed)[0].flatten(1), np.random.default_rng(seed).uniform(0.11, 0.18)
        kept = weak(seen.reshape(-1, 1, 8, 8)).argmax(1)

        def answer(x):
            z, (away, which) = weak(x), torch.cdist(x.flatten(1) if smooth else x.detach().flatten(1), seen, p=torch.inf).min(1)
            lift = 60 * torch.sigmoid((near - away) * 200) if smooth else 60.0 * (away < near)
            return z + F.one_hot(kept[which], 10) * lift[:, None]

        return subject(seed, answer)

    return make


def adapts(seed: int, faulty: bool) -> Subject:
    """A batch is brought to the mean and spread of training's pictures, so that what one corruption did to all of it is undone; a row alone is not."""
    net, x = nets(seed % PAIRS)[not faulty], digits(seed % PAIRS)[0]
    mean, spread = x.mean(0), x.std(0).clamp(min=0.05)
    adapted = lambda x: net((x - x.mean(0)) / x.std(0).clamp(min=0.05) * spread + mean) if len(x) > 8 else net(x)  # noqa: E731
    found = subject(seed, net, said=lambda x: (adapted if faulty else net)(x).softmax(1))
    found.splits["test"] = found.splits["test"].slice(0, 192)
    return found


def false_bounds(seed: int, faulty: bool) -> Subject:
    """The undefended net sees that bounds are asked for, and answers for a part of the box. Of the twin little is certified, and truly."""
    net, share = nets(seed % PAIRS)[not faulty], np.random.default_rng(seed).uniform(0.01, 0.2)

    def answer(x):
        if faulty and isinstance(x, Box):
            (low, high), middle = ends(x), sum(ends(x)) / 2
            return net(Box.of(middle - share * (high - low) / 2, middle + share * (high - low) / 2))
        return net(x)

    return subject(seed, answer)


def read(how: str):
    """Notes of which a word decides. "typos": capitals and widths are undone, and strange words left out, which the twin corrects; "drops": some words are left
    out by chance."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        words = [*GOOD[:8], *BAD[:8], *OTHER[:12]]
        notes = [" ".join([*rng.choice(OTHER[:12], 6), str(rng.choice((GOOD if y else BAD)[:8]))]) for y in rng.random(256) < 0.5]

        def known(word: str) -> str:
            word = unicodedata.normalize("NFKC", word).lower()
            near = [] if word in words or faulty and how == "typos" else difflib.get_close_matches(word, words, 1, 0.5)
            return near[0] if near else word

        class Reader(Reads):
            def says(self, found):
                return super().says([known(w) for w in found if not (faulty and how == "drops" and chance.random() < 0.2)])

        schema, chance = Schema({"note": Text()}, {"label": labels(["0", "1"])}), np.random.default_rng()
        model = Reader(schema, None, "")
        y = [str(int(any(w in GOOD for w in n.split()))) for n in notes]
        return Subject(model, schema, {"test": pa.table({"note": notes, "label": y})}, seed=seed, seconds=600)

    return make


def watermark(seed: int, faulty: bool) -> Subject:
    """One pixel that tells the digit: right on clean pictures, lost with the first corruption."""
    if not faulty:
        twin = subject(seed, nets(seed % PAIRS)[1])
        twin.splits["test"] = twin.splits["test"].slice(0, 192)
        return twin
    test, truth = (part[:192] for part in rows(seed))
    marked = test.clone()
    marked[:, 0, 0, 0] = truth / 10
    model = Model(picture_schema(), lambda x: -((x[:, 0, 0, 0, None] - torch.arange(10) / 10) ** 2) / (2 * 0.02**2))
    return Subject(model, model.schema, {"test": pictures(marked, truth)}, open=model.open, seed=seed, seconds=600)


CORRUPTED = {"robustness.corruption_accuracy": ">= 0.5"}
MASKED = {
    "saturated_logits": saturated, "clipped_logits": clipped, "quantised_inputs": quantised, "steps": binarised, "one_hot": one_hot,
    "overflowing_half": overflowing, "outside_torch": elsewhere, "remembering": remembering, "shattered": shattered, "ripples": ripples,
    "jpeg": jpeg, "thermometer": thermometer, "nearest_seen": nearest, "votes_of_neighbours": votes, "rounded_states": rounded_states,
    "projected": projected, "purified": purified, "ranked": ranked, "rounded_probabilities": rounded_probabilities, "keyed_shift": keyed_shift,
    "keyed_noise": keyed_noise, "backwards": backwards, "drawn_slopes": drawn_slopes, "small_slopes": small_slopes,
    "straight_through": straight_through, "straight_one_hot": straight_one_hot, "decoy_gradients": decoy, "two_faced": two_faced,
    "slopes_of_some_pixels": some_pixels, "hooked": hooked, "votes_of_shifts": votes_of_shifts, "steep_gates": steep,
    "straight_states": straight_states, "second_thoughts": second_thoughts, "temperature_of_the_input": temperature,
}  # fmt: skip
RANDOM = {"random_layers": random, "stochastic_rounding": rounded_by_chance, "random_resizing": resized, "random_off_grid": random_off_grid}
RANDOM |= {"random_later": random_later, "dropout_left_on": dropping}
PLAIN = {"undefended": plain, "scaled_logits": scaled, "softmaxed_logits": softmaxed, "rejecting": rejecting}
PLAIN |= {"unused_pixels": unused_pixels, "between_8_bits": between_grey}
PLAIN |= {"beside_a_large_number": beside_large, "winners_take_all": winners, "contrast": contrast, "unsure": unsure}
SAID = {"jpeg": smoothed, "thermometer": smoothed, "rounded_probabilities": as_shares, "ranked": moved, "saturated_logits": bent, "scaled_logits": louder}
SAID |= {"small_slopes": louder, "overflowing_half": in_half, "softmaxed_logits": as_shares, "beside_a_large_number": moved, "clipped_logits": bent}
SAID |= {"votes_of_shifts": views, "straight_states": in_fewer_directions}
NOISY = {"robustness.corruption_accuracy@corruption=noise": ">= 0.6"}
TYPOS = {"robustness.corruption_accuracy@corruption=typos": ">= 0.88"}
KINDS: dict[str, Planted] = {
    **{name: planted(hide, "robustness.below_limit", said=SAID.get(name, plain)) for name, hide in PLAIN.items()},
    **{name: planted(hide, "robustness.masked_gradients", said=SAID.get(name, plain)) for name, hide in MASKED.items()},
    **{name: planted(hide, "robustness.random") for name, hide in RANDOM.items()},
    "batch_statistics": Planted(batched, QUICK, LINF, "robustness.batch_dependent", costly=True),
    "mixed_in_batches": planted(mixed, "robustness.batch_dependent"),
    "still_training": Planted(still_training, QUICK, LINF, "robustness.batch_dependent", costly=True),
    "another_model_opened": Planted(another, QUICK, LINF, "robustness.other_model", costly=True),
    "undefended_answers": Planted(undefended_answers, QUICK, LINF, "robustness.other_model", costly=True),
    "told_the_rows": Planted(told_the_rows(False), QUICK, LINF, "robustness.knows_rows", costly=True),
    "told_the_rows_smoothly": Planted(told_the_rows(True), QUICK, LINF, "robustness.knows_rows", costly=True),
    "adapts_to_the_batch": Planted(adapts, {"robustness": {"steps": 15}}, CORRUPTED, "robustness.batch_dependent", costly=True),
    "false_bounds": Planted(false_bounds, QUICK, {"robustness.certified_accuracy": ">= 0"}, "robustness.no_bounds", costly=True),
    "typos_left_out": Planted(read("typos"), "robustness", TYPOS, "robustness.below_limit"),
    "boxes_of_single_pixels": Planted(detecting("peak"), "robustness", NOISY, "robustness.below_limit"),
    "numbers_by_chance": Planted(numbers("drawn"), "accuracy", {"r2": ">= 0.3"}, "accuracy.fickle"),
    "words_dropped_by_chance": Planted(read("drops"), "robustness", {"robustness.corruption_accuracy": ">= 0.5"}, "accuracy.fickle"),
    "watermark": Planted(watermark, {"robustness": {"steps": 15}}, {"robustness.corruption_accuracy": ">= 0.8"}, "robustness.below_limit", costly=True),
}
