"""Clipped gradients of one row each, summed: the private gradient. Rows are evaluated alone, so it is private by construction.

Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1. Three ways, in order of speed:

    tapped   vmap over rows; a linear, embedding or convolution layer adds a zero "tap" to its output. The tap's gradient d and the layer's input a
             give the row's norm and the clipped sum; no gradient is stored per row (Goodfellow 2015; Lee and Kifer 2020; Bu et al. 2023)
    vmap     vmap over rows, every gradient stored
    loop     one ordinary backward pass a row

`choose` holds the first two against the loop on a few rows, and says why when it falls. vmap shows a layer no other row, so a layer that mixes rows
gives what a row alone gives. A parameter used twice, or by another operation, has its gradients stored. Left out: taps inside nn.MultiheadAttention.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .forms import Batch
from .objective import Learner

WAYS = ("tapped", "vmap", "loop")
TAPPABLE = (F.linear, F.embedding, F.conv2d)
STORE = 4_000_000  # numbers of per-row gradients that one pass may hold
TOLERANCE = 1e-4

Clipped = tuple[list[Tensor], Tensor, Tensor]


def clipped_sum(
    learner: Learner,
    parameters: list[Tensor],
    batch: Batch,
    player: str,
    clip: float,
    micro: int | None = None,
    way: str = "tapped",
    plans: dict | None = None,
) -> Clipped:
    """(per parameter the sum over rows of g_i min(1, clip / |g_i|), |g_i| (B,), mean loss ()).

    g_i: the gradient of row i's per_row loss, evaluated alone, in fp32. micro: the most rows in one pass. An empty batch gives zeros; a row whose
    gradient is not a number counts nothing. plans: which calls to tap, kept by the caller from step to step for rows of one shape."""
    if learner.bf16:  # vmap cannot batch the backward of layers in mixed precision
        learner.bf16 = False
        try:
            return clipped_sum(learner, parameters, batch, player, clip, micro, way, plans)
        finally:
            learner.bf16 = True
    sums = [torch.zeros_like(p) for p in parameters]
    norms, losses = [], []
    if way == "loop":
        for i in range(len(batch)):
            loss = learner(batch.select(slice(i, i + 1)), player).per_row().sum()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
            for total, g in zip(sums, gradients, strict=True):
                if g is not None and bool(norm.isfinite()):
                    total.add_(g * factor(norm, clip))
            norms.append(norm[None])
            losses.append(loss.detach()[None])
    elif len(batch):
        names = _names(learner, parameters)
        plans = {} if plans is None else plans
        key = (way, player, *names, *((leaf.shape[1:], leaf.dtype) for leaf in pytree.tree_leaves(batch)))
        if key not in plans:
            plans[key] = _record(learner, parameters, names, batch.select(slice(0, 1)), player) if way == "tapped" else []
        plan = plans[key]
        tapped = {name for call in plan for name in (call.weight, call.bias) if name}
        stored = sum(p.numel() for p, name in zip(parameters, names, strict=True) if name not in tapped)
        rows = max(1, min(micro or len(batch), len(batch), STORE // max(1, stored)))
        for start in range(0, len(batch), rows):
            part, norm, loss = _pass(learner, parameters, names, plan, tapped, batch.select(slice(start, start + rows)), player, clip)
            for total, g in zip(sums, part, strict=True):
                total.add_(g)
            norms.append(norm)
            losses.append(loss)
    empty = torch.zeros(0, device=batch.device)
    losses = torch.cat(losses or [empty])
    return sums, torch.cat(norms or [empty]), losses.sum() / max(1, len(losses))


def factor(norm: Tensor, clip: float) -> Tensor:
    """min(1, clip / norm)"""
    return (clip / norm.clamp(min=1e-12)).clamp(max=1.0)


def choose(learner: Learner, parameters: list[Tensor], batch: Batch, player: str, rows: int = 4) -> tuple[str, str]:
    """(the first way that agrees with the loop on a few rows, why not the ones before it). fp32, dropout off; nothing is changed."""
    few, why = batch.select(slice(0, rows)), []
    buffers = {name: b.clone() for name, b in learner.named_buffers()}
    try:
        with no_dropout(learner), torch.random.fork_rng(devices=[]):
            truth, norms, _ = clipped_sum(learner, parameters, few, player, 1.0, way="loop")
            scale = torch.stack([t.norm() for t in truth]).norm().clamp(min=1e-12)
            for way in WAYS[:-1]:
                try:
                    found, found_norms, _ = clipped_sum(learner, parameters, few, player, 1.0, way=way)
                except Exception as e:  # whatever torch cannot batch
                    why.append(f"{way}: {type(e).__name__}: {(str(e).splitlines() or [''])[0][:200]}")
                    continue
                sums = torch.stack([(a - b).norm() for a, b in zip(found, truth, strict=True)]).norm() / scale
                error = max(float(sums), float(((found_norms - norms).abs() / norms.clamp(min=1e-12)).max()))
                if error <= TOLERANCE:
                    return way, "; ".join(why)
                why.append(f"{way}: differs from the loop by {error:.2g}")
        return "loop", "; ".join(why)
    finally:
        with torch.no_grad():
            for name, b in learner.named_buffers():
                b.copy_(buffers[name])


@contextmanager
def no_dropout(module: nn.Module):
    """Dropout is the identity, in train mode too: functions by a torch function mode, recurrent layers and attention by their setting."""
    had = [(m, m.dropout) for m in module.modules() if isinstance(m, (nn.RNNBase, nn.MultiheadAttention))]
    for m, _ in had:
        m.dropout = 0.0
    try:
        with _Still():
            yield
    finally:
        for m, p in had:
            m.dropout = p


class _Still(TorchFunctionMode):
    identity = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
    identity |= {torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.identity:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args, kwargs = args[:4] + (0.0,) + args[5:] if len(args) > 4 else args, kwargs | ({} if len(args) > 4 else {"dropout_p": 0.0})
        return func(*args, **kwargs)


def _names(learner: Learner, parameters: list[Tensor]) -> list[str]:
    names = {id(p): name for name, p in learner.named_parameters()}
    return [names[id(p)] for p in parameters]


class _Call:
    """One tapped call: which function, its weight's and bias's names, its output's shape for one row, its settings."""

    def __init__(self, func: Any, weight: str, bias: str | None, settings: dict[str, Any]):
        self.func, self.weight, self.bias, self.settings, self.shape, self.dtype = func, weight, bias, settings, None, None


class _Tap(TorchFunctionMode):
    """Counts how each parameter is used (taps None), or adds taps to the calls of a plan and keeps their inputs."""

    def __init__(self, names: dict[int, str], plan: list[_Call] | None = None, taps: list[Tensor] | None = None):
        super().__init__()
        self.names, self.taps, self.inputs = names, taps, []
        self.uses: dict[str, int] = {}
        self.calls: list[_Call] = []
        self.order = {call.weight: i for i, call in enumerate(plan or [])}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        weight = self.names.get(id(args[1])) if func in TAPPABLE and len(args) > 1 else None
        if self.taps is None:
            if getattr(func, "__name__", "") != "__get__":
                for leaf in pytree.tree_leaves((args, kwargs)):
                    if id(leaf) in self.names:
                        self.uses[self.names[id(leaf)]] = self.uses.get(self.names[id(leaf)], 0) + 1
            call = _settings(func, weight, self.names, args, kwargs) if weight else None
            if call is not None:
                call.shape, call.dtype = y.shape, y.dtype
                self.calls.append(call)
        elif weight in self.order:
            i = self.order[weight]
            self.inputs.append((i, args[0].detach()))
            y = y + self.taps[i]
        return y


def _settings(func, weight, names, args, kwargs) -> _Call | None:
    """The call as a plan can tap it, or None."""
    keys = {F.linear: ("bias",), F.embedding: ("padding_idx", "max_norm"), F.conv2d: ("bias", "stride", "padding", "dilation", "groups")}[func]
    given = dict(zip(keys, args[2:], strict=False)) | kwargs
    bias = given.pop("bias", None)
    if bias is not None and id(bias) not in names:
        return None
    if func is F.conv2d and (given.get("groups", 1) != 1 or isinstance(given.get("padding", 0), str)):
        return None
    if func is F.embedding and given.get("max_norm") is not None:
        return None
    if func is F.conv2d:
        given["kernel"] = tuple(args[1].shape[2:])
    return _Call(func, weight, None if bias is None else names[id(bias)], given)


def _record(learner: Learner, parameters: list[Tensor], names: list[str], one: Batch, player: str) -> list[_Call]:
    """The calls whose weight (and bias) serve nothing else."""
    fixed = {name: p.detach() for name, p in zip(names, parameters, strict=True)}
    with _Tap({id(p): name for name, p in fixed.items()}) as seen, torch.no_grad(), torch.random.fork_rng(devices=[]):
        functional_call(learner, fixed, (one, player))
    return [c for c in seen.calls if seen.uses[c.weight] == 1 and (c.bias is None or seen.uses[c.bias] == 1)]


def _pass(learner, parameters, names, plan, tapped, batch, player, clip) -> Clipped:
    """One vmap over the rows of batch: (clipped sums, norms (B,), losses (B,))."""
    fixed = {name: p.detach() for name, p in zip(names, parameters, strict=True)}
    ids = {id(fixed[name]): name for name in tapped}
    direct = {name: p for name, p in fixed.items() if name not in tapped}
    taps = [torch.zeros(c.shape, dtype=c.dtype, device=batch.device) for c in plan]

    def row_loss(free, row):
        direct, taps = free
        with _Tap(ids, plan, taps) as tap:
            loss = functional_call(learner, fixed | direct, (row.map(lambda t: t.unsqueeze(0)), player)).per_row().sum()
        assert len(tap.inputs) == len(plan), "the calls of a row differ from the first row's"
        return loss, [x for _, x in sorted(tap.inputs, key=lambda pair: pair[0])]

    (gradients, ds), (losses, inputs) = vmap(grad_and_value(row_loss, has_aux=True), in_dims=(None, 0), randomness="different")((direct, taps), batch)
    squares = sum((g.flatten(1).square().sum(1) for g in gradients.values()), torch.zeros(len(batch), device=batch.device))
    layers = [_layer(call, x, d) for call, x, d in zip(plan, inputs, ds, strict=True)]
    squares = sum((square for square, _ in layers), squares)
    norms = squares.sqrt()
    finite = norms.isfinite()
    if not bool(finite.all()):
        if not bool(finite.any()):
            return [torch.zeros_like(p) for p in parameters], norms, losses
        return _pass(learner, parameters, names, plan, tapped, batch.select(finite), player, clip)[0], norms, losses
    c = factor(norms, clip)
    found = {name: torch.tensordot(c, g, 1) for name, g in gradients.items()}
    for _, total in layers:
        found |= total(c, fixed)
    return [found[name].reshape(p.shape) for name, p in zip(names, parameters, strict=True)], norms, losses


def _layer(call: _Call, x: Tensor, d: Tensor):
    """(squared norm (B,) of a layer's gradients a row, function (c (B,), parameters) -> {name: sum of c_i gradient_i}).

    x: the layer's input, d: the gradient of its output, both with rows first."""
    rows = len(d)
    if call.func is F.embedding:
        index, d = x.reshape(rows, -1), d.float().reshape(rows, -1, d.shape[-1])
        padding = call.settings.get("padding_idx")
        if padding is not None:
            d = d * (index != padding).unsqueeze(-1)
        same = (index.unsqueeze(2) == index.unsqueeze(1)).to(d.dtype)
        square = (same * torch.bmm(d, d.transpose(1, 2))).sum((1, 2))
        index = index.flatten()
        return square, lambda c, p: {call.weight: torch.zeros_like(p[call.weight]).index_add_(0, index, (d * c[:, None, None]).flatten(0, 1))}
    if call.func is F.conv2d:
        s = call.settings
        x = F.unfold(x.flatten(0, 1).float(), s["kernel"], s.get("dilation", 1), s.get("padding", 0), s.get("stride", 1))
        x = x.transpose(1, 2)  # (B, L, C k k)
        d = d.flatten(0, 1).flatten(2).transpose(1, 2)
    a, d = x.float().reshape(rows, -1, x.shape[-1]), d.float().reshape(rows, -1, d.shape[-1])  # (B, S, in), (B, S, out)
    steps, n, m = a.shape[1], a.shape[2], d.shape[2]
    gradient = None
    if steps == 1:
        square = a.square().sum((1, 2)) * d.square().sum((1, 2))
    elif steps * (n + m) < n * m:
        square = (torch.bmm(a, a.transpose(1, 2)) * torch.bmm(d, d.transpose(1, 2))).sum((1, 2))
    else:
        gradient = torch.bmm(d.transpose(1, 2), a)  # (B, out, in)
        square = gradient.square().sum((1, 2))
    if call.bias:
        square = square + d.sum(1).square().sum(1)

    def total(c, p):
        scaled = d * c[:, None, None]
        weight = scaled.flatten(0, 1).T @ a.flatten(0, 1) if gradient is None else torch.tensordot(c, gradient, 1)
        return {call.weight: weight} | ({call.bias: scaled.sum((0, 1))} if call.bias else {})

    return square, total
