"""An explainer that came as `file.py:explain`, in a process of its own: `explain(model, x, target)` gives attributions of x's shape.

model is a torch module from x (M, ...) to the classes' log-odds (M, K), whose sigmoid is their probability (see `explainer`): differentiable where
ours or theirs is one (the network is its submodule `net`, so that hooks find its layers), else it only answers. x (B, ...) float32 is what
the model reads: pictures (B, C, H, W) in [0, 1]; a table's numbers as our own networks take them, standardised; for a model from elsewhere its own
layout (`foreign`); for what only reads tables (trees, functions) `closed`'s columns.
target (B,) int64: the class to explain. Where other cells belong to a row (categories, gaps) the model must know which row x is of: while explain asks
about as many rows as it was given, they are those; if it asks about more or fewer, all is asked again one row at a time. The process is given
inputs and never labels, and for the randomisation test the model's weights are drawn anew in it.

The parent is `Theirs`, an explainer of a Subject; the rest runs in the process: `python -m modelwright.foreign.explainer FILE.py:explain`.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ..artifact import Chosen, Loaded, Open, open_model
from ..closed import Closed, centred
from ..data.schema import Schema
from ..errors import Refusal, refuse
from ..explainer import Asked, Redrawn, log_odds
from ..forms import Tabular
from ..predictor import Opened
from .predictor import Foreign, layout, within
from .process import Worker
from .remote import as_logits
from .worker import is_module, load, named, pack, send, serve, unpack


class Theirs(Worker):
    whose = "the explainer's"

    def __init__(self, path: str, model: str, predictor: Loaded | Chosen | Foreign):
        """model: where the process finds the same model: a folder, a file.onnx, or FILE.py:factory."""
        super().__init__(path, "modelwright.foreign.explainer")
        self.predictor = predictor
        self.model = str(Path(model).resolve())

    def opened(self, target: str, table: pa.Table) -> Opened:
        """The function that is explained, as the process has it."""
        return asked_of(self.predictor, target, table)

    def __call__(self, f: Asked, x: Tensor, classes: Tensor, baseline: Tensor) -> Tensor:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, f.table.schema) as writer:
            writer.write_table(f.table)
        head = {"model": self.model, "schema": self.predictor.schema.to_json(), "target": f.target, "draw": f.draw, "root": self.predictor.schema.root}
        head["scale"] = self.predictor.scale if isinstance(self.predictor, Foreign) else None
        arrays = {"x": x.float().numpy(), "classes": classes.numpy()}
        arrays |= {k: np.frombuffer(v, np.uint8) for k, v in (("head", json.dumps(head).encode()), ("table", sink.getvalue()))}
        try:
            send(self.process.stdin, b"A", pack(arrays))
            found = unpack(self._answer(b"Y"))
        except BrokenPipeError:
            raise self._ended() from None
        except Refusal as e:
            raise refuse("explanation.failed", e.problems[0].what, where=self.path, fix="mend it, and try again") from e
        f.elsewhere = int(found["redrew"])
        return torch.from_numpy(found["shown"]).to(x.dtype)


def asked_of(predictor: Any, target: str, table: pa.Table) -> Opened:
    inside = predictor.open(target, table) if isinstance(predictor, Loaded) else None
    if inside is not None:
        return inside
    if isinstance(predictor, Foreign) and not predictor.runner.wants_table and one_array(layout(predictor.schema, table)):
        return Laid(predictor.schema, table, lambda name, x: predictor.said(predictor.runner.arrays({name: x.detach().float().numpy()})).probabilities)
    return Closed(predictor, predictor.schema, target, table)


def one_array(arrays: dict[str, np.ndarray]) -> bool:
    return len(arrays) == 1 and next(iter(arrays.values())).dtype.kind == "f"


class Laid:
    """A model from elsewhere as a function of the one array that it reads. answer(input's name, x) -> probabilities (B, K)."""

    def __init__(self, schema: Schema, table: pa.Table, answer: Callable[[str, Tensor], Tensor]):
        ((self.input, x),) = layout(schema, table).items()
        self.answer, self.x = answer, torch.from_numpy(x)
        kinds = {n: k for n, k in schema.inputs.items() if k.place in ("number", "code")}
        self.names = [n for n, k in kinds.items() for _ in range(k.numbers if k.place == "number" else 1)]

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        return centred(self.answer(self.input, x))

    def features(self, x: Tensor, rows: Tensor) -> None:
        return None


# In the process


class Shown(nn.Module):
    """What explain is given: x -> log-odds. row: the number of the one row that it is asked about; None: as many rows as there are, copy after copy."""

    def __init__(self, opened: Opened, net: nn.Module | None, row: int | None):
        super().__init__()
        self.__dict__["opened"] = opened
        self.net, self.row, self.in_step = net, row, True

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.opened.x)
        self.in_step &= len(x) == n
        rows = torch.arange(len(x)) % n if self.row is None else torch.full((len(x),), self.row)
        return log_odds(self.opened.logits(x, rows)).to(x.dtype)


class Process:
    """The user's function, and the models that it was asked about."""

    def __init__(self, path: str):
        self.explain, self.models = named(path), {}

    def __call__(self) -> None:
        """So that the parent finds something callable."""

    def model(self, where: str, schema: Schema) -> Any:
        if where not in self.models:
            if ".py:" in where:
                with contextlib.chdir(Path(where).parent):
                    made = load(where)
                self.models[where] = made if is_module(made) else Foreign(where, schema)
            else:
                elsewhere = Path(where) if where.endswith(".onnx") else within(Path(where))
                self.models[where] = open_model(where, schema.root) if elsewhere is None else Foreign(str(elsewhere), schema)
        return self.models[where]

    def answer(self, letter: bytes, content: bytes) -> bytes:
        arrays = unpack(content)
        head = json.loads(arrays["head"].tobytes())
        schema, table = Schema.from_json(head["schema"]).at(head["root"]), pa.ipc.open_stream(arrays["table"].tobytes()).read_all()
        x, classes = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["classes"])
        made = self.model(head["model"], schema)
        if isinstance(made, Foreign):
            made.scale = head["scale"]
        if isinstance(made, nn.Module) and one_array(layout(schema, table)):
            kind = schema.targets[head["target"]]
            opened, net = Laid(schema, table, lambda name, x: as_logits(made(x), len(kind.labels_), head["scale"]).softmax(1)), made
        else:
            opened, net = asked_of(made, head["target"], table), made.model if isinstance(made, Loaded) else None
        redrawn = None if head["draw"] is None else Redrawn(head["draw"], () if net is None else net.parameters())  # an explainer's own net stays as it is
        with redrawn or contextlib.nullcontext():
            shown = self.asked(opened, net, x, classes)
            if redrawn:
                with torch.no_grad():
                    opened.logits(x, torch.arange(len(x)))  # an explainer that asks nothing must not look like a model without weights
        return pack({"shown": shown, "redrew": np.array(len(redrawn.weights) if redrawn else 0)})

    def asked(self, opened: Opened, net: nn.Module | None, x: Tensor, classes: Tensor) -> np.ndarray:
        model = Shown(opened, net, None)
        shown = plain(self.explain(model, x.clone(), classes.clone()))
        if model.in_step or not held(opened):
            return shown
        parts = [plain(self.explain(Shown(opened, net, i), x[i : i + 1].clone(), classes[i : i + 1].clone())) for i in range(len(x))]
        return np.concatenate(parts)


def held(opened: Opened) -> bool:
    """Whether more than x belongs to a row."""
    if not isinstance(opened, Open):
        return False
    value = opened.batch.inputs[opened.name]
    return isinstance(value, Tabular) and (value.codes.shape[1] > 0 or not bool(value.present.all()))


def plain(shown: Any) -> np.ndarray:
    if isinstance(shown, tuple | list) and len(shown) == 1:
        shown = shown[0]
    return np.asarray(shown.detach().cpu() if isinstance(shown, Tensor) else shown, np.float64)


if __name__ == "__main__":
    serve(Process, Process.answer)
