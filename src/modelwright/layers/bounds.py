"""Interval bound propagation through whatever a model computes: no list of layers, but each torch operation with a sound rule of its own.

Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation", equations 5 to 8. A `Box` stands for every tensor between its ends; an
operation without a rule raises `NoBounds`, so that what is not understood is never certified. The last linear layer is kept, so that differences of
logits are bounded on its differences of weights (their section 3, "elision of the last layer"). Ends are rounded in 32 bits: each product is
widened by a relative 1e-6. Both ends are differentiable in the parameters: training for certified accuracy (`strategies/certified.py`) and the audit
that measures it (`audits/robustness.py`) rest on the same bounds; the audit's guard against an error here is that no attack may move a certified row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TIGHT = 1e-6  # of the sum of magnitudes: what rounding may have moved an end


class NoBounds(Exception):
    """An operation on a box that has no rule here; its name."""


class Box(torch.Tensor):
    """Its own data is the lower end; `upper` the other. `last`: (lower, upper, weight, bias) of the linear layer that it came from."""

    upper: Tensor
    last: tuple[Tensor, Tensor, Tensor, Tensor | None] | None

    @staticmethod
    def of(lower: Tensor, upper: Tensor, last=None) -> Box:
        box = lower.as_subclass(Box)
        box.upper, box.last = upper, last
        return box

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "?")
            if name in ("shape", "device", "dtype", "ndim", "requires_grad", "is_cuda", "layout", "is_mkldnn", "is_quantized"):
                with torch._C.DisableTorchFunctionSubclass():
                    return func(*args, **kwargs)
        if name in ("dim", "size", "numel", "is_floating_point", "__len__", "stride", "is_contiguous"):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        name = name.rstrip("_") if name in ("relu_", "clamp_") else name
        if name in MOVES:
            return _moved(func, args, kwargs)
        if name not in RULES:
            raise NoBounds("arithmetic beyond torch (numpy, or another process)" if name in ("numpy", "__array__") else name)
        return RULES[name](*args, **kwargs)


def ends(x: Tensor | float) -> tuple[Tensor, Tensor]:
    """(lower, upper); of what is no box, twice itself."""
    if isinstance(x, Box):
        with torch._C.DisableTorchFunctionSubclass():
            return x.as_subclass(torch.Tensor), x.upper
    x = x if isinstance(x, Tensor) else torch.tensor(float(x))
    return x, x


def _moved(func, args, kwargs) -> Box:
    """Operations that only move, repeat, average or sum entries: the same on both ends."""

    def side(a, i):
        if isinstance(a, Box):
            return ends(a)[i]
        return type(a)(side(b, i) for b in a) if isinstance(a, (list, tuple)) else a

    return Box.of(*(func(*[side(a, i) for a in args], **{k: side(v, i) for k, v in kwargs.items()}) for i in (0, 1)))


MOVES = {
    "reshape", "view", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "__getitem__", "contiguous", "expand", "cat", "concat",
    "stack", "t", "clone", "detach", "float", "double", "to", "type_as", "mean", "sum", "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d",
    "_max_pool2d", "boolean_dispatch", "max_pool1d", "adaptive_max_pool2d", "relu", "leaky_relu", "tanh", "sigmoid", "hardtanh", "relu6", "elu",
    "softplus", "clamp", "clip", "exp", "cumsum", "flip", "roll", "movedim", "amax", "squeeze_", "repeat", "round", "floor", "ceil", "sign",
    "max_pool2d_with_indices",
}  # fmt: skip
"""Each is increasing in every entry, so its ends are the ends' images (leaky slopes and elu's scale are taken as positive, as torch has them)."""


def _product(lower: Tensor, upper: Tensor, times, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """times(x, W) over the box: W c -+ |W| r about the centre, plus what rounding may cost."""
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    middle, spread = times(centre, weight), times(radius + TIGHT * (centre.abs() + radius), weight.abs())
    if bias is not None:
        middle = middle + bias
        spread = spread + TIGHT * bias.abs()
    return middle - spread, middle + spread


def linear(x, weight, bias=None) -> Box:
    if not isinstance(x, Box) or isinstance(weight, Box):
        raise NoBounds("linear of a box's weights")
    lower, upper = ends(x)
    return Box.of(*_product(lower, upper, lambda a, w: a @ w.T, weight, bias), last=(lower, upper, weight, bias) if lower.dim() == 2 else None)


def conv(function):
    def rule(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Box:
        if not isinstance(x, Box) or isinstance(weight, Box):
            raise NoBounds("convolution of a box's weights")
        b = None if bias is None else bias.reshape((1, -1) + (1,) * (weight.dim() - 2))
        return Box.of(*_product(*ends(x), lambda a, w: function(a, w, None, stride, padding, dilation, groups), weight, b))

    return rule


def matmul(a, b) -> Box:
    if isinstance(a, Box) and not isinstance(b, Box):
        return Box.of(*_product(*ends(a), lambda x, w: x @ w, b, None))
    raise NoBounds("matmul of a box's weights")


def addmm(c, a, b, beta=1, alpha=1) -> Box:
    if beta != 1 or alpha != 1:
        raise NoBounds("addmm")
    return add(matmul(a, b), c)


def einsum(equation, *operands) -> Box:
    a, b = operands[0] if len(operands) == 1 else operands
    if not isinstance(a, Box) or isinstance(b, Box):
        raise NoBounds("einsum")
    return Box.of(*_product(*ends(a), lambda x, w: torch.einsum(equation, x, w), b, None))


def add(a, b, alpha=1) -> Box:
    (al, au), (bl, bu) = ends(a), ends(b)
    if alpha != 1:
        raise NoBounds("add with alpha")
    return Box.of(al + bl, au + bu)


def sub(a, b, alpha=1) -> Box:
    (al, au), (bl, bu) = ends(a), ends(b)
    if alpha != 1:
        raise NoBounds("sub with alpha")
    return Box.of(al - bu, au - bl)


def rsub(a, b, alpha=1) -> Box:
    return sub(b, a, alpha)


def neg(a) -> Box:
    lower, upper = ends(a)
    return Box.of(-upper, -lower)


def mul(a, b) -> Box:
    (al, au), (bl, bu) = ends(a), ends(b)
    corners = [al * bl, au * bu] + ([al * bu, au * bl] if isinstance(a, Box) and isinstance(b, Box) else [])
    lower = upper = corners[0]
    for corner in corners[1:]:
        lower, upper = torch.minimum(lower, corner), torch.maximum(upper, corner)
    return Box.of(lower, upper)


def div(a, b, rounding_mode=None) -> Box:
    if isinstance(b, Box) or rounding_mode is not None:
        raise NoBounds("division by a box")
    b = torch.as_tensor(b)
    out = mul(a, 1 / b)
    if a.last is not None and b.numel() == 1 and float(b) > 0:
        lower, upper, weight, bias = a.last
        out.last = (lower, upper, weight / b, None if bias is None else bias / b)
    return out


def dropout(x, p=0.5, training=True, inplace=False) -> Box:
    """One mask for both ends: a bound of the network that these draws leave."""
    return mul(x, F.dropout(torch.ones_like(ends(x)[0]), p)) if training and p > 0 else x


def batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Box:
    if training or mean is None:
        raise NoBounds("batch_norm of the batch's own statistics")
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    return add(mul(x, scale.reshape(shape)), shift.reshape(shape))


def where(condition, a, b) -> Box:
    if isinstance(condition, Box):
        raise NoBounds("a choice by a box")
    (al, au), (bl, bu) = ends(a), ends(b)
    return Box.of(torch.where(condition, al, bl), torch.where(condition, au, bu))


def nan_to_num(x, *args, **kwargs) -> Box:
    return x


def pad(x, pads, mode="constant", value=None) -> Box:
    lower, upper = ends(x)
    return Box.of(F.pad(lower, pads, mode, value), F.pad(upper, pads, mode, value))


RULES = {
    "linear": linear, "conv2d": conv(F.conv2d), "conv1d": conv(F.conv1d), "matmul": matmul, "__matmul__": matmul, "mm": matmul, "addmm": addmm,
    "einsum": einsum, "add": add, "__add__": add, "__radd__": add, "sub": sub, "__sub__": sub, "__rsub__": rsub, "rsub": rsub, "neg": neg,
    "__neg__": neg, "mul": mul, "__mul__": mul, "__rmul__": mul, "multiply": mul, "div": div, "__truediv__": div, "true_divide": div, "dropout":
    dropout, "batch_norm": batch_norm, "where": where, "pad": pad, "nan_to_num": nan_to_num,
}  # fmt: skip


def gaps(out: Tensor, y: Tensor) -> Tensor:
    """(B, K) for logits (B, K) that are a box: lower bounds of the true class's logit y (B,) minus each one; 0 at y itself. Raises NoBounds."""
    if not isinstance(out, Box):
        raise NoBounds("logits that do not depend on the input")
    if out.last is None:
        low, up = ends(out)
        found = low.gather(1, y[:, None]) - up
    else:
        low, up, w, b = out.last
        difference = w[y][:, None, :] - w[None]  # (B, K, D)
        centre, radius = (low + up) / 2, (up - low) / 2
        spread = (difference.abs() * (radius + TIGHT * (centre.abs() + radius))[:, None]).sum(2)
        found = (difference * centre[:, None]).sum(2) - spread + (0 if b is None else b[y][:, None] - b[None])
    return found.scatter(1, y[:, None], 0.0)


@torch.no_grad()
def margins(logits, lower: Tensor, upper: Tensor, rows: Tensor, y: Tensor) -> Tensor:
    """(B,) a lower bound, over the box, of the true class's logit minus the largest other's. Raises NoBounds."""
    return gaps(logits(Box.of(lower, upper), rows), y).scatter(1, y[:, None], torch.inf).amin(1)
