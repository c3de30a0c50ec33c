"""What an explainer is: how much each input bears on what a model says of one row; and the function that it asks.

What is explained is a class's log-odds, so that its probability alone counts: added to all logits alike, or to the logit of a class that never has a chance,
a column moves logits and no answer, and explanations of logits (of logits less their mean, too) pointed at it.

Legend: B rows, K classes; x (B, ...) is one input of B rows, a table's columns (B, F) or pictures (B, C, H, W). A function may be asked about several
copies of the rows at once, one whole copy after another (M * B, ...): what else belongs to a row (a table's other cells) is then held as in that row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import pyarrow as pa
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .predictor import Opened

Function = Callable[[Tensor], Tensor]  # x (M * B, ...) -> log-odds (M * B, K), whose sigmoid is each class's probability


class Explainer:
    is_component: ClassVar[bool] = True
    gradients: ClassVar[bool] = False  # asks for slopes: of models that open as differentiable functions alone
    takes: ClassVar[frozenset[str]] = frozenset({"table", "picture", "words"})
    complete: ClassVar[bool] = False  # claims that its attributions add up to f(x) - f(baseline)
    of: ClassVar[Literal["predicted", "true"]] = "predicted"  # the class that it explains
    spec: dict[str, Any]

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        """x (B, ...), classes (B,) int64, baseline (...) like one x: what stands for "not there" -> attributions of x's shape.

        Raises a Refusal where the function has no such thing as the method reads (a layer with a grid, attention)."""
        raise NotImplementedError


def slope(f: Function, x: Tensor, classes: Tensor) -> Tensor:
    """The gradient of each row's own class with respect to x, like x."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(f(x).gather(1, classes[:, None]).sum(), x)[0]


class Redrawn(TorchFunctionMode):
    """Within it every parameter that an operation reads is replaced by a normal draw of its spread, the same each time. of: those of a module alone."""

    now: ClassVar[Redrawn | None] = None  # the one at work, for a model whose weights are in another process (`remote`)

    def __init__(self, seed: int, of: Iterable[torch.nn.Parameter] | None = None):
        super().__init__()
        self.of = None if of is None else {id(p) for p in of}
        self.seed, self.rng, self.weights, self.elsewhere = seed, torch.Generator().manual_seed(seed), {}, 0

    def __enter__(self) -> Redrawn:
        Redrawn.now = self
        return super().__enter__()

    def __exit__(self, *how: Any) -> None:
        Redrawn.now = None
        super().__exit__(*how)

    def _new(self, a: Any) -> Any:
        if isinstance(a, torch.nn.Parameter) and (self.of is None or id(a) in self.of):
            if id(a) not in self.weights:
                with torch._C.DisableTorchFunction():
                    spread = a.detach().std() if a.numel() > 1 else a.detach().abs()
                    drawn = torch.randn(a.shape, generator=self.rng, dtype=torch.float64).to(a.dtype)
                    self.weights[id(a)] = drawn * spread.clamp(min=1e-3)
            return self.weights[id(a)]
        return type(a)(self._new(b) for b in a) if type(a) in (list, tuple) else a

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **(kwargs or {}))
        return func(*[self._new(a) for a in args], **{k: self._new(v) for k, v in (kwargs or {}).items()})


def log_odds(z: Tensor) -> Tensor:
    """Logits (B, K) -> (B, K): of each class against all others together. Exact where a class is nearly certain."""
    top = z.argmax(1, keepdim=True)
    others = z.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return z - (z.logsumexp(1, keepdim=True) + torch.log1p(-z.softmax(1).scatter(1, top, 0.0))).scatter(1, top, others)


@runtime_checkable
class Telling(Protocol):
    """A subject's own explainer that knows what it is to be asked about, in place of what the subject opens."""

    def opened(self, target: str, table: pa.Table) -> Opened: ...


@dataclass
class Asked:
    """The function that explainers ask: a class target of an opened model over chosen rows. `redrawn` gives the same of another model."""

    opened: Opened
    target: str
    table: pa.Table  # the rows, without targets
    x: Tensor = field(init=False)
    draw: int | None = None  # the seed of the redrawn weights
    weights: Redrawn | None = None
    elsewhere: int = 0  # weights that were redrawn in another process
    first: int = 0  # the number of x's first row among the opened model's

    def __post_init__(self) -> None:
        """In double precision where the model can be computed so: the last bits of single precision differ with the number of threads, and ranks of
        attributions with them."""
        self.x = self.opened.x.detach()
        with contextlib.suppress(RuntimeError), torch.no_grad():
            self.opened.logits(self.x[:1].double(), torch.zeros(1, dtype=torch.long))
            self.x = self.x.double()

    def __call__(self, x: Tensor) -> Tensor:
        rows = self.first + torch.arange(len(self.x)).repeat(-(-len(x) // len(self.x)))[: len(x)]
        with self.weights or contextlib.nullcontext():
            return log_odds(self.opened.logits(x, rows))

    def alone(self, row: int) -> Asked:
        """The same of one row alone."""
        found = replace(self, table=self.table.slice(row, 1), first=row)
        found.x = self.x[row : row + 1]
        return found

    def redrawn(self, seed: int) -> Asked:
        return replace(self, draw=seed, weights=Redrawn(seed))

    @property
    def redrew(self) -> int:
        """How many weights were seen at work since they were redrawn."""
        return max(self.elsewhere, len(self.weights.weights) + self.weights.elsewhere if self.weights else 0)
