"""A saved model: model.safetensors + model.json (format, schema, and a network's parts or a baseline's name). Enough to load and
predict alone; nothing is unpickled, no code is run.

Also the two ways from a schema to a Model: with chosen parts (`assemble_model`), and from what a model.json says (`load`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from . import find, home
from .baselines import Baseline
from .data import sources
from .data.schema import Schema
from .data.streams import in_order
from .errors import Problem, Refusal, Stopped, refuse
from .forms import Batch, Prediction, Tabular
from .model import Head, Model
from .operations import Counted
from .predictor import in_chunks
from .room import Room

FORMAT = 1
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError)  # what reading an edited file may end in


def assemble_model(schema: Schema, parts: dict[str, Any], times: int = 1) -> Model:
    """Components from their specs (encoders {input: spec}, fusion, heads and decoders {target: spec}, fitted {target: state}), built for this schema.

    times: as often as each part must fit into memory, else it is refused before it is made."""
    kinds = schema.encoders()
    encoders = {n: find.make("encoders", parts["encoders"][n], f"model.encoders.{n}") for n in kinds}
    for n, encoder in encoders.items():
        form = next(iter(kinds[n].values())).form
        if form not in encoder.takes:
            name, fits = find.split(parts["encoders"][n])[0], _that_take(form)
            what = f"{name} encodes {' or '.join(sorted(encoder.takes))}; {n!r} is {form}"
            raise refuse("encoder.input", what, where=f"model.encoders.{n}", fix=f"one of: {', '.join(fits)}")
        with Room(f"model.encoders.{n}", times):
            encoder.build(kinds[n])
    fusion = find.make("fusions", parts["fusion"], "model.fusion")
    with Room("model.fusion", times):
        fusion.build({n: e.width for n, e in encoders.items()})
    heads, decoders, shared = {}, {}, {}
    for target, kind in schema.targets.items():
        head = heads[target] = find.make("heads", parts["heads"][target], f"model.heads.{target}")
        name, says = find.split(parts["heads"][target])[0], kind.head and find.find("heads", kind.head).says
        if head.says != says:
            what = f"the head {name} is for {head.says}; {target!r} is {next(iter(kind.spec))}, which is {says or 'no target'}"
            raise refuse("head.target", what, where=f"model.heads.{target}", fix=f"one of: {', '.join(_that_say(says))}")
        if head.reads != "all" and head.reads not in encoders:
            raise refuse("head.reads", f"head of {target!r} reads {head.reads!r}, which is not an input", fix=f"one of: {', '.join(encoders)}")
        whole = next(iter(encoders.values())) if len(encoders) == 1 and fusion.tokens else None
        only = whole if head.reads == "all" else encoders[head.reads]
        with Room(f"model.heads.{target}", times):
            head.build(kind, fusion.width if head.reads == "all" else only.width, only)
        spec = parts["decoders"].get(target, head.decoder)
        key = json.dumps(spec, sort_keys=True)
        shared[key] = shared.get(key) or find.make("decoders", spec, f"model.decoders.{target}")
        decoders[target] = shared[key]
        takes, stepwise = decoders[target].takes, head.begin_id is not None
        if (decoders[target].steps and not stepwise) or (takes is not None and head.says not in takes):
            fits = {d: find.find("decoders", d) for d in find.names("decoders")}
            fits = [d for d, c in fits.items() if (stepwise or not c.steps) and (c.takes is None or head.says in c.takes)]
            does = "writes one token after another" if decoders[target].steps else f"is for {' or '.join(sorted(takes))}"
            what = f"the decoder {find.split(spec)[0]} {does}; the head {name} says {head.says}" + ("" if stepwise else ", all at once")
            raise refuse("decoder.head", what, where=f"model.decoders.{target}", fix=f"one of: {', '.join(fits)}")
        decoders[target].build(target, kind, schema.group_values_)
        decoders[target].load(parts.get("fitted", {}).get(target, {}))
    return Model(encoders, fusion, heads, decoders)


def _that_say(form: str) -> list[str]:
    """Names of the heads for a form of target."""
    return [name for name in find.names("heads") if find.find("heads", name).says == form]


def _that_take(form: str) -> list[str]:
    """Names of the encoders for a form of input; one whose package is missing is left out."""
    names = []
    for name in find.names("encoders"):
        with contextlib.suppress(Refusal):
            names += [name] if form in find.find("encoders", name).takes else []
    return names


def save(folder: Path, model: Model | Baseline, schema: Schema) -> None:
    """A network, or a baseline that was chosen instead."""
    body = {"format": FORMAT, "schema": schema.to_json()}
    if isinstance(model, Baseline):
        tensors = {f"{part}|{name}": np.ascontiguousarray(a) for part, arrays in model.arrays.items() for name, a in arrays.items()}
        _write(folder, {k: torch.from_numpy(a) for k, a in tensors.items()}, body | {"instead": model.name})
    else:
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
        _write(folder, tensors, body | {"parts": model.specs()})


def _write(folder: Path, tensors: dict[str, torch.Tensor], body: dict[str, Any]) -> None:
    """The folder whole, by rename; an earlier model in it is replaced only then."""
    half = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        save_file(tensors, half / "model.safetensors")
        (half / "model.json").write_text(home.sealed(dict(sorted(body.items())) | {"weights": _digest(half / "model.safetensors")}), "utf-8")
        (half / "model.safetensors").chmod((half / "model.json").stat().st_mode & 0o777)  # safetensors lets its owner alone read it
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        half.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except SafetensorError as e:  # its own word for what the disk said
        raise Stopped(Problem("disk.full", f"the model cannot be written to {folder}: {e}", fix="free some space and go on with --resume")) from e
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _digest(path: Path) -> str:
    with open(home.plain(path), "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def open_model(folder: str | Path, root: str | Path = ".") -> Loaded | Chosen:
    """The Predictor that a run folder, or its model/ folder, holds. root: the folder below which paths in the tables that it is asked about lie."""
    schema, body, tensors = _read(folder)
    schema.at(root)
    if "instead" in body:
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for key, value in tensors.items():
            part, _, name = key.rpartition("|")
            arrays.setdefault(part, {})[name] = value.numpy()
        return Chosen(Baseline(body["instead"], schema, arrays))
    return Loaded(_network(folder, schema, body, tensors), schema)


def located(model: str | Path) -> Path:
    """The folder that is named, or that a reference into the registry (name@production, name@3, name@sha256:...) names; its bytes are verified."""
    from .registry.references import NAME, is_reference
    from .registry.store import Registry

    if is_reference(str(model)):
        return Registry().resolve(str(model)).folder
    known: list[str] = []
    if NAME.fullmatch(str(model)) and not Path(model).exists():
        with contextlib.suppress(Refusal, Stopped):  # a registry that cannot be read has nothing to suggest
            known = [f"{model}@production"] * bool(Registry().moves(str(model), "production")) + [v.reference for v in Registry().versions(str(model))[-1:]]
    if known:
        what, why = f"{model} does not exist here; the registry has a model of that name", "the name alone does not say which version is meant"
        raise refuse("model.missing", what, why=why, where=str(model), fix=" or ".join(known))
    return Path(model)


def load(folder: str | Path) -> tuple[Model, Schema]:
    """The network of a run folder or its model/ folder."""
    schema, body, tensors = _read(folder)
    if "instead" in body:
        what = f"{folder} holds the baseline {body['instead']}, which is no network"
        raise refuse("model.kind", what, where=str(folder), fix="name a run that trained one")
    return _network(folder, schema, body, tensors), schema


def _read(folder: str | Path) -> tuple[Schema, dict[str, Any], dict[str, torch.Tensor]]:
    folder = located(folder)
    folder = folder / "model" if (folder / "model" / "model.json").is_file() else folder
    if not (folder / "model.json").is_file():
        what = f"{folder} does not exist" if not folder.exists() else f"{folder} holds no model (no model.json)"
        raise refuse("model.missing", what, where=str(folder), fix="give a run folder, or the model folder in it")
    try:
        body = home.unseal(folder / "model.json", "format", "schema")
        if body["format"] > FORMAT:
            raise refuse(
                "model.format", f"format {body['format']}; this version reads up to {FORMAT}", where=str(folder), fix="pip install -U modelwright"
            )
        if body.get("weights", found := _digest(folder / "model.safetensors")) != found:  # models saved by earlier versions name none
            raise ValueError("its weights are not those that were saved")
        return Schema.from_json(body["schema"]), body, load_file(folder / "model.safetensors")
    except PermissionError:  # the files may be whole
        raise
    except DAMAGED as e:
        raise refuse(
            "model.corrupt", f"the model cannot be read: {e}", where=str(folder), fix="the files were cut short or changed; take another copy"
        ) from e


def _network(folder: str | Path, schema: Schema, body: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Model:
    try:
        model = assemble_model(schema, body["parts"])
        problems = model.load_state_dict(tensors, strict=False)
    except DAMAGED as e:
        raise refuse(
            "model.corrupt", f"the model cannot be read: {e}", where=str(folder), fix="the files were cut short or changed; take another copy"
        ) from e
    if problems.missing_keys or problems.unexpected_keys:
        raise Refusal(
            [
                Problem(
                    "model.corrupt",
                    f"weights do not fit: missing {problems.missing_keys[:3]}, too many {problems.unexpected_keys[:3]}",
                    where=str(folder),
                )
            ]
        )
    return model.eval()


class Loaded:
    """A saved model as a Predictor. `features` and `gradient` for audits that need them come from `model`."""

    def __init__(self, model: Model, schema: Schema, batch_size: int = 512):
        self.model, self.schema, self.batch_size = model.eval(), schema, batch_size

    def counted(self, table: pa.Table) -> dict[str, int]:
        """See `predictor.Counting`."""
        with Counted() as work:
            self.predict(table)
        return {"operations": work.total, "parameters": sum(p.numel() for p in self.model.parameters())}

    def predict(self, table: pa.Table, rng: torch.Generator | None = None) -> dict[str, Prediction]:
        """Row after row as in the table, whatever order was fastest to compute."""
        drawn = rng or torch.Generator().manual_seed(0)  # columns that are drawn go on from chunk to chunk
        return in_chunks(table, lambda part: self._chunk(part, drawn, rng))

    def _chunk(self, table: pa.Table, drawn: torch.Generator, rng: torch.Generator | None) -> dict[str, Prediction]:
        data = self.schema.encode(table, targets=False)
        parts: dict[str, list[Prediction]] = {t: [] for t in self.schema.targets}
        order = []
        for batch in in_order(data, self.batch_size, drawn):
            order.append(batch.rows)
            for target, prediction in self.model.predict(batch, rng).items():
                parts[target].append(prediction)
        back = torch.argsort(torch.cat(order))
        return {t: Prediction.cat(p).select(back) for t, p in parts.items()}

    @torch.no_grad()
    def likelihood(self, table: pa.Table) -> dict[str, torch.Tensor]:
        """(N,) per target in the table: minus the log-likelihood of the row's own, 0 where it is missing."""
        data, order = self.schema.encode(table), []
        parts: dict[str, list[torch.Tensor]] = {t: [] for t in self.schema.truths if t in table.column_names}
        for batch in in_order(data, self.batch_size):
            order.append(batch.rows)
            for target, out in self.model(batch, list(parts)).items():
                parts[target].append(self.model.heads[target].nll(out, batch.targets[target], batch.knows(target))[0])
        back = torch.argsort(torch.cat(order))
        return {t: torch.cat(p)[back] for t, p in parts.items()}

    @torch.no_grad()
    def inward(self, target: str, table: pa.Table) -> tuple[torch.Tensor | None, torch.Tensor]:
        """See `predictor.Inward`."""
        data, classes, head, parts = self.schema.encode(table, targets=False), self.schema.targets[target].labels_, self.model.heads[target], []
        for batch in in_order(data, self.batch_size, torch.Generator().manual_seed(0)):
            read = self.model.read(batch, [target])[target]
            features = read.levels()
            parts.append((batch.rows, logits_of(head, head(read), len(classes)) if classes else features[:, :0], features))
        rows, logits, features = (torch.cat(p) for p in zip(*parts, strict=True))
        back = torch.argsort(rows)
        return logits[back] if classes else None, features[back]

    def open(self, target: str, table: pa.Table) -> Open | None:
        """With gradients: where the target is a class, and the one input a picture or a table."""
        forms = [next(iter(kinds.values())).form for kinds in self.schema.encoders().values()]
        return Open(self, target, table) if self.schema.targets[target].labels_ and forms in (["table"], ["picture"]) else None

    def answer(self, table: Any, rng: torch.Generator | None = None) -> pa.Table:
        """For people. table: anything that `data: source` may be, a frame or a file, say."""
        table = sources.load(table, where="table").table
        return shown(self.schema, self.predict(table, rng), table)


class Open:
    """A network's class target as a differentiable function of its one picture, or of its table's numbers (see `predictor.Opened`)."""

    def __init__(self, loaded: Loaded, target: str, table: pa.Table):
        self.target, self.models, self.classes = target, {torch.float32: loaded.model}, len(loaded.schema.targets[target].labels_)
        data = loaded.schema.encode(table, targets=False)
        self.batch = data.batch(np.arange(len(data))).but(rows=None, groups=None)
        (self.name,) = self.batch.inputs
        value = self.batch.inputs[self.name]
        self.x = value.numbers if isinstance(value, Tabular) else value
        self.names = [n for n in loaded.schema.table for _ in range(loaded.schema.inputs[n].numbers) if loaded.schema.inputs[n].place == "number"]

    def _model(self, dtype: torch.dtype) -> Model:
        """The network in the precision of what it is asked; a copy is made once."""
        if dtype not in self.models:
            self.models[dtype] = copy.deepcopy(self.models[torch.float32]).to(dtype)
        return self.models[dtype]

    def _given(self, x: torch.Tensor, rows: torch.Tensor) -> Batch:
        batch = self.batch.select(rows)
        value = batch.inputs[self.name]
        return batch.but(inputs={self.name: replace(value, numbers=x) if isinstance(value, Tabular) else x})

    def logits(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        model = self._model(x.dtype)
        return logits_of(model.heads[self.target], model(self._given(x, rows), [self.target])[self.target], self.classes)

    def features(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self._model(x.dtype).read(self._given(x, rows), [self.target])[self.target].levels()


def logits_of(head: Head, out: Any, classes: int) -> torch.Tensor:
    """(B, K), whose softmax is what the head says of its output."""
    if isinstance(out, torch.Tensor) and head.calibrates and (out.dim() == 1 or out.shape[1] == classes):  # else cumulative logits, say
        out = out / head.temperature
        return out if out.dim() == 2 else torch.stack([-out / 2, out / 2], 1)
    return head.predict(out).probabilities.clamp(min=1e-30).log()


class Chosen:
    """A saved baseline as a Predictor."""

    def __init__(self, baseline: Baseline):
        self.baseline, self.schema = baseline, baseline.schema

    def predict(self, table: pa.Table, rng: torch.Generator | None = None) -> dict[str, Prediction]:
        return self.baseline.predict(table)

    def answer(self, table: Any, rng: torch.Generator | None = None) -> pa.Table:
        """See `Loaded.answer`."""
        table = sources.load(table, where="table").table
        return shown(self.schema, self.predict(table), table)


def shown(schema: Schema, predictions: dict[str, Prediction], table: pa.Table) -> pa.Table:
    """Predictions as a table for people: a column of values a target, its scores beside it."""
    columns: dict[str, Any] = {}
    for target, prediction in predictions.items():
        kind = schema.targets[target]
        columns |= kind.answer(target, kind.placed(prediction, table))
        if "common" in prediction.extra:  # of a decoder with thresholds by group: rows whose group has none
            columns[f"{target}.common_threshold"] = prediction.extra["common"].numpy()
    return pa.table({k: pa.array(v) for k, v in columns.items()})


