"""What ships: encoders per column -> fusion -> heads -> decoders. Whatever only helps learning belongs to the objective.

Legend: B batch rows, T tokens, D width. Constructors store settings, `build` makes the layers once the data is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .forms import Batch, Encoded, Prediction, Value
from .kind import Kind


class Encoder(nn.Module):
    """One input -> tokens. `build` sets `width` (D), and `grid`/`levels` where heads need to know them."""

    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    width: int
    grid: tuple[int, int] | None = None  # (H, W) of its tokens, of an encoder of pictures
    levels: list[tuple[int, int, int]] | None = None  # (C, H, W) of its pyramid, fine to coarse
    takes: ClassVar[frozenset[str]] = frozenset({"table"})  # the forms of input (Kind.form) that it encodes
    steps: bool = False  # set by `build`: its tokens are steps in time, for each of which a policy acts

    def learning(self, rows: int) -> dict[str, Any]:
        """Settings (epochs, lr, ...) that suit this encoder on so many training rows; what a task leaves open is taken from here. Under "private": those
        that suit it where noise falls on gradients."""
        return {}

    def kind_settings(self) -> dict[str, Any]:
        """What its column's kind must be set to (a checkpoint's tokenizer, a picture's size), where the task leaves it open."""
        return {}

    def build(self, kinds: dict[str, Kind]) -> None:
        """Make the layers for this input: one kind, or the table's columns in their order."""
        raise NotImplementedError

    def forward(self, x: Value, mask: Tensor | None = None, state: Any = None) -> Encoded:
        """x as in `Batch.inputs`; mask (B, T) hides tokens of a Ragged x; state goes on where an earlier call ended."""
        raise NotImplementedError


class Fusion(nn.Module):
    """{column: Encoded} -> one Encoded. `build` sets `width`. A column that is missing in a row (known is False) must not reach the result."""

    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    width: int
    tokens: ClassVar[bool] = False  # a single input passes through as it is, with its tokens, grid and pyramid

    def build(self, widths: dict[str, int]) -> None:
        raise NotImplementedError

    def forward(self, parts: dict[str, Encoded], known: dict[str, Tensor]) -> Encoded:
        raise NotImplementedError


class Head(nn.Module):
    """One target's likelihood. `out` is the head's own affair (a tensor or a dict of tensors, rows first)."""

    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    reads: str = "all"  # "all": the fusion's result; else the input whose Encoded it reads (tokens, grid)
    says: ClassVar[str] = "number"  # the form of target that it is a likelihood of; it fits every kind whose own default head says the same
    decoder: ClassVar[str] = "argmax"  # default
    passes: ClassVar[float] = 1.0  # of a table's rows, times those that its encoder suggests
    calibrates: ClassVar[bool] = False  # has a buffer `temperature` () that divides its outputs in `predict`
    acts: ClassVar[bool] = False  # is a policy: has `act`, `log_probability` and `entropy`
    begin_id: int | None = None  # of a head that says one token after another, set by `build`: what stands before the first token,
    end_id: int | None = None  # what says that a text is over,
    max_tokens: int | None = None  # and the most tokens before it

    def build(self, kind: Kind, width: int, encoder: Encoder | None) -> None:
        """width: of what it reads; encoder: whose tokens it reads: that which `reads` names, or the only one where the fusion lets it through."""
        raise NotImplementedError

    def forward(self, h: Encoded, target: Value | None = None) -> Any:
        """target: the true one, for teacher forcing; None when predicting."""
        raise NotImplementedError

    def nll(self, out: Any, target: Value, known: Tensor) -> tuple[Tensor, Tensor]:
        """(total (B,), count (B,)) of the negative log-likelihood in nats; count 0 where the target is missing."""
        raise NotImplementedError

    def predict(self, out: Any) -> Prediction:
        """The distribution, not the act: acting is the decoder's."""
        raise NotImplementedError

    def start(self, h: Encoded) -> Any:
        """Of a head that says one token after another: the state before the first, tensors with rows first."""
        raise NotImplementedError(f"{type(self).__name__} says everything at once")

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The last tokens (B,) -> (log-probabilities of the next (B, V), new state)."""
        raise NotImplementedError(f"{type(self).__name__} says everything at once")

    def act(self, out: Any, rng: torch.Generator | None = None) -> Tensor:
        """Of a policy: actions (B, T) or (B, T, A), drawn, or the likeliest without rng."""
        raise NotImplementedError(f"{type(self).__name__} does not act")

    def log_probability(self, out: Any, action: Tensor) -> Tensor:
        """Of a policy: (B, T) in nats."""
        raise NotImplementedError(f"{type(self).__name__} does not act")

    def entropy(self, out: Any) -> Tensor:
        """Of a policy: (B, T) in nats."""
        raise NotImplementedError(f"{type(self).__name__} does not act")

    def divergence(self, student: Any, teacher: Any, temperature: float) -> Tensor:
        """(B,) KL(teacher || student) at a temperature, for distillation. Hinton et al. 2015, times T^2 as there."""
        raise NotImplementedError(f"{type(self).__name__} has no divergence")


class Decoder:
    """Acting: from the model to predictions. It may call the model again (beam search, tree search). Saved in model.json."""

    is_component: ClassVar[bool] = True
    spec: dict[str, Any]
    takes: ClassVar[frozenset[str] | None] = None  # what its heads must say (Head.says), None: anything; `assemble_model` refuses others
    steps: ClassVar[bool] = False  # its heads must say one token after another (`Head.step`); `assemble_model` refuses others
    fits: ClassVar[bool] = False  # it learns how to act after training, on the calibration split (`fit`); fitted values end in `_` and are saved

    def build(self, target: str, kind: Kind, groups: list[str]) -> None:
        """Once the data is known. groups: their names, in the order of `Batch.groups`. Raise a `Refusal` where it could not act on this target."""

    def fit(self, target: str, said: Prediction, truth: Tensor, groups: Tensor | None) -> dict[str, Any]:
        """Of a decoder that `fits`: from what the head predicts of held-out rows (N,) whose target is known. Returns what was found, as JSON;
        its "warnings" are shown."""
        raise NotImplementedError(f"{type(self).__name__} fits nothing")

    def state(self) -> dict[str, Any]:
        """What was fitted, as JSON."""
        return {k: v for k, v in vars(self).items() if k.endswith("_")}

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def run(self, model: Model, targets: list[str], batch: Batch, rng: torch.Generator | None = None, state: Any = None) -> dict[str, Prediction]:
        raise NotImplementedError


class Named(nn.Module):
    """Modules under any name. (ModuleDict refuses names with dots and names such as `keys`, which columns do have.)"""

    def __init__(self, parts: dict[str, nn.Module]):
        super().__init__()
        self._key = {}
        for name, part in parts.items():
            key = re.sub(r"\W", "_", name) or "_"
            while hasattr(self, key):
                key += "_"
            self._key[name] = key
            self.add_module(key, part)

    def __getitem__(self, name: str) -> Any:
        return self._modules[self._key[name]]

    def __contains__(self, name: str) -> bool:
        return name in self._key

    def __iter__(self) -> Iterator[str]:
        return iter(self._key)

    def __len__(self) -> int:
        return len(self._key)

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self._modules[key]) for name, key in self._key.items()]


class Model(nn.Module):
    """`model(batch)` gives {target: out}; `model.predict(batch)` gives {target: Prediction}."""

    def __init__(self, encoders: dict[str, Encoder], fusion: Fusion, heads: dict[str, Head], decoders: dict[str, Decoder]):
        super().__init__()
        self.encoders = Named(encoders)
        self.fusion = fusion
        self.heads = Named(heads)
        self.decoders = decoders  # {target: decoder}; targets that share a decoder share its instance

    def encode(self, batch: Batch, state: dict[str, Any] | None = None, only: set[str] | None = None) -> dict[str, Encoded]:
        """{input: Encoded} for every encoder, or for those named."""
        return {
            name: encoder(batch.inputs[name], state=None if state is None else state.get(name))
            for name, encoder in self.encoders.items()
            if only is None or name in only
        }

    def read(self, batch: Batch, heads: list[str], state: dict[str, Any] | None = None) -> dict[str, Encoded]:
        """{target: what its head reads}; only the encoders that these heads need are run."""
        reads = {self.heads[t].reads for t in heads}
        parts = self.encode(batch, state, None if "all" in reads else reads)
        fused = self.fusion(parts, batch.known) if "all" in reads else None
        return {t: fused if self.heads[t].reads == "all" else parts[self.heads[t].reads] for t in heads}

    def forward(self, batch: Batch, heads: list[str] | None = None, state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Only the heads asked for. Outputs are float32, whatever the precision inside."""
        read = self.read(batch, list(self.heads) if heads is None else heads, state)
        outs = {t: self.heads[t](h, batch.targets.get(t)) for t, h in read.items()}
        return pytree.tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.dtype in (torch.bfloat16, torch.float16) else x, outs)

    @torch.no_grad()
    def predict(self, batch: Batch, rng: torch.Generator | None = None, heads: list[str] | None = None, state: Any = None) -> dict[str, Prediction]:
        """Through the decoders. Targets in the batch are not shown to the heads."""
        blind = batch.but(targets={})
        by_decoder: dict[int, tuple[Decoder, list[str]]] = {}
        for t in list(self.heads) if heads is None else heads:
            by_decoder.setdefault(id(self.decoders[t]), (self.decoders[t], []))[1].append(t)
        found: dict[str, Prediction] = {}
        for decoder, targets in by_decoder.values():
            found.update(decoder.run(self, targets, blind, rng, state))
        return found

    def specs(self) -> dict[str, Any]:
        """Names and settings of every part, and what decoders fitted: enough, with the schema, to build the same architecture again."""
        fitted = {n: state for n, d in self.decoders.items() if (state := d.state())}
        return {
            "encoders": {n: e.spec for n, e in self.encoders.items()},
            "fusion": self.fusion.spec,
            "heads": {n: h.spec for n, h in self.heads.items()},
            "decoders": {n: d.spec for n, d in self.decoders.items()},
            **({"fitted": fitted} if fitted else {}),
        }
