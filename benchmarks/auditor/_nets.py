"""Small nets on scikit-learn's digits as models under audit. N rows, K classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.kinds.category import Category
from modelwright.kinds.number import Number
from modelwright.kinds.picture import Picture


def digits(seed: int, train: int = 1000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x and y of `train` rows, then of the others, in a new order."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = torch.from_numpy(x[order] / 16).float().reshape(-1, 1, 8, 8), torch.from_numpy(y[order]).long()
    return x[:train], y[:train], x[train:], y[train:]


def pictures(x: Tensor, y: Tensor, name: str = "scan") -> pa.Table:
    return pa.table({name: Picture().answer("x", Prediction(value=x))["x"], "digit": [str(v) for v in y.tolist()]})


def picture_schema(name: str = "scan", classes: int = 10) -> Schema:
    kind = Picture(size=8, channels=1, augment=())
    kind.spec = {"picture": {"size": 8, "channels": 1, "augment": []}}
    kind.size_, kind.channels_ = [8, 8], 1
    return Schema({name: kind}, {"digit": labels([str(i) for i in range(classes)])})


def labels(names: list[str]) -> Category:
    kind = Category(names)
    kind.spec, kind.labels_ = {"category": {"labels": names}}, names
    return kind


def numbers(x: Tensor, y: Tensor, names: list[str], target: str = "label") -> pa.Table:
    return pa.table({n: x[:, i].double().numpy() for i, n in enumerate(names)} | {target: [str(v) for v in y.tolist()]})


def number_schema(names: list[str], classes: int, target: str = "label") -> Schema:
    """Numbers as they stand."""
    kinds = {}
    for n in names:
        kinds[n] = Number(scale=False)
        kinds[n].spec = {"number": {"scale": False}}
        kinds[n].log_, kinds[n].mean_, kinds[n].sd_, kinds[n].constant_ = False, 0.0, 1.0, False
    return Schema(kinds, {target: labels([str(i) for i in range(classes)])})


class Model:
    """A Predictor of one class target that opens as `net`; `said`: what it predicts with, where that is another function."""

    def __init__(self, schema: Schema, net: Callable[[Tensor], Tensor], features: Callable[[Tensor], Tensor] | None = None, said=None):
        self.schema, self.net, self.of_features, self.said = schema, net, features, said
        (self.target,) = schema.targets

    def x(self, table: pa.Table) -> Tensor:
        data = self.schema.encode(table, targets=False)
        value = next(iter(data.batch(np.arange(len(data))).inputs.values()))
        return value if isinstance(value, Tensor) else value.numbers

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        with torch.no_grad():
            x = self.x(table)
            p = self.said(x) if self.said is not None else self.net(x).softmax(1)
        return {self.target: Prediction(value=p.argmax(1), probabilities=p, score=p.amax(1))}

    def open(self, target: str, table: pa.Table) -> Opened:
        return Opened(self, self.x(table))


class Opened:
    def __init__(self, model: Model, x: Tensor):
        self.model, self.x = model, x
        self.names = model.schema.table

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        return self.model.net(x)

    def features(self, x: Tensor, rows: Tensor) -> Tensor | None:
        return None if self.model.of_features is None else self.model.of_features(x)


def mlp(inputs: int, classes: int, rng: torch.Generator, width: int = 64, norm: bool = False) -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.BatchNorm1d(width) if norm else nn.Identity(), nn.ReLU(), nn.Linear(width, classes))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=rng) * (1.4 / p.shape[-1] ** 0.5) if p.dim() > 1 else torch.zeros_like(p)
    if norm:
        net[2].weight.data.fill_(1.0)
    return net


def fit(
    net: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator, steps: int = 300, eps: float = 0.0, lr: float = 3e-3, batch: int = 128, decay=0.0
) -> nn.Module:
    """Adam; with eps, on worst cases of three signed steps (Madry et al. 2018)."""
    rule = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
    net.train()
    for i in range(steps):
        pick = torch.randint(0, len(x), (batch,), generator=rng)
        a, b = x[pick], y[pick]
        if eps:
            now = min(1.0, 2 * i / steps) * eps
            d = (torch.rand(a.shape, generator=rng) * 2 - 1) * now
            for _ in range(3):
                d.requires_grad_(True)
                g = torch.autograd.grad(F.cross_entropy(net((a + d).clamp(0, 1)), b), d)[0]
                d = (d.detach() + 0.5 * now * g.sign()).clamp(-now, now)
            a = (a + d).clamp(0, 1)
        loss = F.cross_entropy(net(a), b)
        rule.zero_grad()
        loss.backward()
        rule.step()
    return net.eval()
