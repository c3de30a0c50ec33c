"""Low-rank adapters: train W x + (alpha / r) B A x with W frozen, then merge B A into W.

Hu et al. 2021 ("LoRA"), equation 3. A is Gaussian, B zero, so the adapted model starts as the base model exactly. The adapted layer is a subclass
that keeps its parameters' names, so strategies that go by name (freeze, prune) find them before and after. Encoders are frozen; fusion and heads
stay trainable except where `targets` adapts them. Left out: attention's packed in_proj, and layers inside nn.TransformerEncoderLayer or
nn.MultiheadAttention, whose fast paths read weights past the layer's forward and would miss the adapter.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from ..errors import refuse
from ..forms import Batch
from ..model import Model
from ..objective import Learner
from ..strategy import Context, Strategy


class LoRA(Strategy):
    def __init__(self, rank: int = 8, alpha: float | None = None, targets: str | None = None):
        """rank: r; alpha: default 2 r; targets: regular expression of Linear, Conv2d and Embedding layers, default the encoders' Linears."""
        if rank < 1:
            raise ValueError(f"rank ({rank}) must be at least 1")
        self.rank, self.alpha, self.targets = rank, 2.0 * rank if alpha is None else alpha, targets
        self.learned: list[str] = []  # parameters that required a gradient before adapt
        self.seen: Batch | None = None  # a few rows, to measure the merge on
        self.merge_change: float | None = None  # largest absolute change of an output of the model by merging

    def learning(self, suggested: dict[str, Any]) -> dict[str, Any]:
        """Adapters begin at zero change and need larger steps than the fine-tuning of every weight (Hu et al. 2021, appendix D)."""
        return {**suggested, "lr": max(suggested["lr"], 1e-3)} if "lr" in suggested else suggested

    def prepare(self, context: Context) -> None:
        if context.train is not None:  # the same rows however often the run is cut
            self.seen = context.train.batch(np.arange(min(16, len(context.train))), torch.Generator().manual_seed(0))

    def adapt(self, model: Model, rng: torch.Generator) -> Model:
        self.learned = [name for name, p in model.named_parameters() if p.requires_grad]
        fast = [m for outer in model.modules() if isinstance(outer, (nn.TransformerEncoderLayer, nn.MultiheadAttention)) for m in outer.modules()]
        kinds = ADAPTED if self.targets else {nn.Linear: ADAPTED[nn.Linear]}
        wanted = re.compile(self.targets or r"^encoders\.")
        chosen = {name: m for name, m in model.named_modules() if type(m) in kinds and m not in fast and wanted.search(name)}
        if not chosen:
            why = f"no {' or '.join(k.__name__ for k in kinds)} layer has a name that matches {wanted.pattern!r}"
            raise refuse("lora.nothing_matches", "lora finds nothing to adapt", why=why, fix="set targets to names such as encoders.table.first")
        owners: dict[nn.Parameter, set[str]] = {}
        for name, m in model.named_modules():
            for p in m.parameters(recurse=False):
                owners.setdefault(p, set()).add(name)
        model.encoders.requires_grad_(False)
        for name, m in chosen.items():
            if len(owners[m.weight]) > 1:
                other = min(owners[m.weight] - {name})
                raise refuse("lora.tied", f"{name} shares its weight with {other}", why="a merge would change both", fix="leave it out of targets")
            m.requires_grad_(False)
            put(model, name, kinds[type(m)](m, self.rank, self.alpha / self.rank, rng))
        return model

    def groups(self, model: Model) -> dict[nn.Parameter, float]:
        """Called when everything is in place: the adapters must still learn."""
        for name, p in model.named_parameters():
            if name.endswith(".lora_b") and not p.requires_grad:
                why = "a strategy after lora froze what lora added"
                raise refuse("lora.frozen", f"the adapter {name} is frozen", why=why, fix="write that strategy before lora, or leave it out")
        return {}

    def batch(self, batch: Batch, learner: Learner, player: str, rng: torch.Generator) -> Batch:
        if self.seen is None and len(batch):
            self.seen = batch.select(slice(0, 16))
        return batch

    def finish(self, model: Model) -> Model:
        before = self._outputs(model)
        for name, m in [(n, m) for n, m in model.named_modules() if isinstance(m, Adapter)]:
            put(model, name, m.merged())
        changes = [float((a - b).abs().max()) for a, b in zip(before, self._outputs(model), strict=True) if a.numel()]
        self.merge_change = max(changes, default=None)
        for name, p in model.named_parameters():
            p.requires_grad_(p.requires_grad or name in self.learned)
        return model

    @torch.no_grad()
    def _outputs(self, model: Model) -> list[Tensor]:
        if self.seen is None:
            return []
        training = model.training
        outs = pytree.tree_leaves(model.eval()(self.seen.to(next(model.parameters()).device)))
        model.train(training)
        return [o for o in outs if isinstance(o, Tensor) and o.is_floating_point()]

    def holds(self, model: Model) -> str | None:
        left = [name for name, m in model.named_modules() if isinstance(m, Adapter)]
        return f"adapters are merged, but {left[0]} still has one" if left else None

    def statement(self) -> dict[str, Any]:
        return {"lora": {"rank": self.rank, "alpha": self.alpha, "merge_change": self.merge_change}}


def put(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    new.train(model.training)
    setattr(model.get_submodule(parent), leaf, new)


class Adapter(nn.Module):
    """What the adapted layers share. They take over the base layer's own parameters and settings, and add lora_a and lora_b."""

    def __init__(self, base: nn.Module, shape_a: tuple[int, ...], shape_b: tuple[int, ...], scale: float, rng: torch.Generator):
        nn.Module.__init__(self)
        vars(self).update({k: v for k, v in vars(base).items() if k not in ("_parameters", "_modules", "_buffers")})
        self._parameters = dict(base._parameters)
        self.base, self.scale = type(base), scale
        fan = math.prod(shape_a[1:])
        made = torch.randn(shape_a, generator=rng) / math.sqrt(fan)
        self.lora_a = nn.Parameter(made.to(base.weight))
        self.lora_b = nn.Parameter(torch.zeros(shape_b).to(base.weight))

    def delta(self) -> Tensor:
        """The change of the weight, in its shape."""
        raise NotImplementedError

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The base layer again, with its weight moved."""
        plain = self.base.__new__(self.base)
        nn.Module.__init__(plain)
        own = ("_parameters", "_modules", "_buffers", "base", "scale")
        vars(plain).update({k: v for k, v in vars(self).items() if k not in own})
        plain._parameters = {k: p for k, p in self._parameters.items() if not k.startswith("lora_")}
        plain.weight = nn.Parameter(self.weight + self.delta().to(self.weight.dtype), requires_grad=self.weight.requires_grad)
        return plain


class LinearAdapter(Adapter, nn.Linear):
    def __init__(self, base: nn.Linear, rank: int, scale: float, rng: torch.Generator):
        super().__init__(base, (rank, base.in_features), (base.out_features, rank), scale, rng)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    def delta(self) -> Tensor:
        return self.scale * self.lora_b @ self.lora_a


class ConvAdapter(Adapter, nn.Conv2d):
    """A is a convolution of the base's shape with r channels out, B a 1 x 1 convolution."""

    def __init__(self, base: nn.Conv2d, rank: int, scale: float, rng: torch.Generator):
        if base.groups != 1:
            raise refuse("lora.groups", f"a convolution with {base.groups} groups cannot be adapted", fix="leave it out of targets")
        super().__init__(base, (rank, *base.weight.shape[1:]), (base.out_channels, rank, 1, 1), scale, rng)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight, self.bias) + self.scale * F.conv2d(self._conv_forward(x, self.lora_a, None), self.lora_b)

    def delta(self) -> Tensor:
        return self.scale * torch.einsum("or,rihw->oihw", self.lora_b[:, :, 0, 0], self.lora_a)


class EmbeddingAdapter(Adapter, nn.Embedding):
    def __init__(self, base: nn.Embedding, rank: int, scale: float, rng: torch.Generator):
        super().__init__(base, (rank, base.embedding_dim), (base.num_embeddings, rank), scale, rng)

    def forward(self, x: Tensor) -> Tensor:
        return nn.Embedding.forward(self, x) + self.scale * F.linear(F.embedding(x, self.lora_b), self.lora_a.T)

    def delta(self) -> Tensor:
        return self.scale * self.lora_b @ self.lora_a


ADAPTED = {nn.Linear: LinearAdapter, nn.Conv2d: ConvAdapter, nn.Embedding: EmbeddingAdapter}
