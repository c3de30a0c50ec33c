"""Defences that only look robust, and nets trained against worst cases as their twins: ten kinds on scikit-learn's digits."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from modelwright.subject import Subject

from . import Planted
from ._nets import Model, digits, fit, mlp, picture_schema, pictures

ROWS = 192
QUICK = {"robustness": {"rows": ROWS, "steps": 15}}
LINF = {"robustness.linf_accuracy": ">= 0.65"}  # at 0.1: undefended nets keep 0.45 to 0.55, trained ones about 0.77


@functools.lru_cache(maxsize=4)
def nets(seed: int) -> tuple[nn.Module, nn.Module]:
    """Undefended and adversarially trained."""
    rng = torch.Generator().manual_seed(seed)
    x, y, _, _ = digits(seed)
    width = int(np.random.default_rng(seed).integers(64, 128))
    return fit(mlp(64, 10, rng, width=width), x, y, rng), fit(mlp(64, 10, rng, width=width), x, y, rng, steps=400, eps=0.12)


def subject(seed: int, net, said=None) -> Subject:
    _, _, x, y = digits(seed)
    model = Model(picture_schema(), net, said=said)
    return Subject(model, model.schema, {"test": pictures(x[:ROWS], y[:ROWS])}, open=model.open, seed=seed, seconds=60)


def planted(hide, expects: str, limits=LINF) -> Planted:
    """hide(net, rng): the undefended net behind something. The twin is the trained net, plain."""

    def make(seed: int, faulty: bool) -> Subject:
        weak, strong = nets(seed)
        return subject(seed, hide(weak, np.random.default_rng(seed)) if faulty else strong)

    return Planted(make, QUICK, limits, expects, costly=True)


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


def random(net, rng):
    sd = rng.uniform(0.05, 0.1)
    return lambda x: net(x + sd * torch.randn_like(x))


def shattered(net, rng):
    size, fast = 0.02, rng.uniform(3000, 6000)
    return lambda x: net(x + size * torch.sin(fast * x))


def scaled(net, rng):
    """Defensive distillation's effect: a softmax so sharp that cross-entropy has no gradient left in 32 bits."""
    scale = 10 ** rng.uniform(4, 6)
    return lambda x: scale * net(x)


def softmaxed(net, rng):
    scale = rng.uniform(1, 5)
    return lambda x: (scale * net(x)).softmax(1)


def batched(seed: int, faulty: bool) -> Subject:
    """Normalised by the statistics of the batch that it is judged in."""
    rng = torch.Generator().manual_seed(seed)
    if not faulty:
        return subject(seed, nets(seed)[1])
    x, y, _, _ = digits(seed)
    net = fit(mlp(64, 10, rng, norm=True), x, y, rng, steps=150).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return subject(seed, lambda x: net(x) if len(x) > 1 else net(x.repeat(2, 1, 1, 1) + torch.tensor([0.0, 1e-3]).reshape(2, 1, 1, 1))[:1])


def another(seed: int, faulty: bool) -> Subject:
    """What is opened for attacks is the strong net; what answers is another."""
    weak, strong = nets(seed)
    _, _, x, y = digits(seed)
    return subject(seed, strong, said=(lambda x: weak(x.roll(1, 3)).softmax(1)) if faulty else None)


def watermark(seed: int, faulty: bool) -> Subject:
    """One pixel that tells the digit: right on clean pictures, lost with the first corruption."""
    _, _, test, truth = digits(seed)
    if not faulty:
        return subject(seed, nets(seed)[1])
    marked = test.clone()
    marked[:, 0, 0, 0] = truth / 10
    model = Model(picture_schema(), lambda x: -((x[:, 0, 0, 0, None] - torch.arange(10) / 10) ** 2) / (2 * 0.02**2))
    return Subject(model, model.schema, {"test": pictures(marked[:ROWS], truth[:ROWS])}, open=model.open, seed=seed, seconds=60)


KINDS: dict[str, Planted] = {
    "undefended": planted(lambda net, rng: net, "robustness.below_limit"),
    "scaled_logits": planted(scaled, "robustness.below_limit"),
    "softmaxed_logits": planted(softmaxed, "robustness.below_limit"),
    "saturated_logits": planted(saturated, "robustness.masked_gradients"),
    "quantised_inputs": planted(quantised, "robustness.masked_gradients"),
    "steps": planted(binarised, "robustness.masked_gradients"),
    "shattered": planted(shattered, "robustness.masked_gradients"),
    "random_layers": planted(random, "robustness.random"),
    "batch_statistics": Planted(batched, QUICK, LINF, "robustness.batch_dependent", costly=True),
    "another_model_opened": Planted(another, QUICK, LINF, "robustness.other_model", costly=True),
    "watermark": Planted(watermark, QUICK, {"robustness.corruption_accuracy": ">= 0.8"}, "robustness.below_limit", costly=True),
}
