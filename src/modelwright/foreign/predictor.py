"""Models from elsewhere, as Predictors: an ONNX file (`onnx.py`), a Hugging Face folder (`huggingface.py`), or a user's own `file.py:factory` in a process
that sees inputs and never labels.

What the model is given (its layout) is said by the task file: its input columns in their order. A table alone is an array (B, F) of float32: numbers as
they stand, NaN where missing; a category its index among the declared or learnt values, -1 where missing or unseen. A picture alone is (B, C, H, W) in
[0, 1]. Several inputs are a dict of these by name, the table's under "table". A function gets the table (Arrow) without the targets instead, and an ONNX
file whose inputs are named as single columns (skl2onnx's, of a data frame) gets these as they stand.
What it gives back: (B, K) in the order of the target's labels, logits or probabilities (rows within [0, 1] that sum to 1); one column for two
classes is the second one's; (B,) or (B, 1) for a number; (B, K) probabilities of a set of labels; (B, T, 6) for boxes: x1 y1 x2 y2 in shares of width
and height, score, label's index, padded with zeros (a function may give a list of B arrays (n, 6)); from a function for a text target, (B,) texts.
Whether logits or probabilities is decided once, by all rows that it is first asked about, and said in the notes; an answer that later breaks with it is
refused. A function may give {"probabilities": (B, K), "decisions": (B,) labels} where it decides otherwise than for the likeliest class, as by
thresholds for each group: accuracy and fairness are then of its decisions, calibration is of its probabilities. Anything else is refused, never guessed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..artifact import shown
from ..data.dataset import TABLE
from ..data.schema import Schema
from ..errors import Problem, Refusal, refuse
from ..forms import Prediction
from ..operations import Counted
from ..predictor import Opened
from .onnx import Onnx
from .process import SECONDS, Worker
from .remote import Remote, are_shares

ROWS = 512  # a call


class Foreign:
    """Any of them. `digest`: of the bytes of the file (and, once it is rehearsed, of those that its code reads), or of the files that are read of a folder.
    `notes`: what was taken for granted, for the report."""

    def __init__(self, path: str, schema: Schema, seconds: float = SECONDS):
        """seconds: that a factory may take to make it."""
        self.schema, self.path, self.seconds = schema, path, seconds
        self.scale: str | None = None  # "probabilities" or "logits", once it has answered about classes
        if len(schema.targets) != 1:
            raise refuse("model.targets", "a model from elsewhere answers one target", fix="name one target in the task")
        (self.target,) = schema.targets
        self.runner = self._runner(path)
        self.digest, self.notes = self.runner.digest, list(self.runner.notes)

    def now(self) -> str:
        """The digest again: of files that are read from where they lie. An ONNX file was read once."""
        if isinstance(self.runner, Worker):
            self.runner.settle()
        return self.digest if isinstance(self.runner, Onnx) else self.runner.now()

    @property
    def process_id(self) -> int | None:
        """Of the process that the model runs in, where it has one of its own."""
        return self.runner.process.pid if isinstance(self.runner, Worker) else None

    def counted(self, table: pa.Table) -> dict[str, int]:
        """See `predictor.Counting`."""
        if isinstance(self.runner, Onnx) or isinstance(self.runner, Worker) and self.runner.wants_table:
            return {}
        rows = table.select([n for n in self.schema.inputs if n in table.column_names])
        if isinstance(self.runner, Worker):
            return {k: int(v) for k, v in self.runner.counted(layout(self.schema, rows)).items()}
        with Counted() as work:
            self.predict(rows)
        return {"operations": work.total, "parameters": sum(p.numel() for p in self.runner.net.parameters())}

    def _runner(self, path: str) -> Any:
        if path.endswith(".onnx"):
            return Onnx(path)
        if Path(path).is_dir():
            if self.schema.targets[self.target].form == "ids":
                from .language import Language

                made = Language(path, self.schema)
                self.likelihood = lambda table: {self.target: made.likelihood(table)}  # see `predictor.Likelihood`
                return made
            from .huggingface import Pretrained  # it brings transformers, when it is made

            made = Pretrained(path, self.schema)
            self.inward = made.inward  # see `predictor.Inward`
            return made
        return Worker(path, seconds=self.seconds)

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        names = set(table.column_names)
        inputs = [n for n in self.schema.inputs if n in names]
        outs, decided = [], []
        for start in range(0, table.num_rows, ROWS):
            part = table.select(inputs).slice(start, ROWS)  # targets never leave this process
            whole = self.runner.wants_table or isinstance(self.runner, Onnx) and self.runner.by_columns(inputs)
            out = self.runner.table(part) if whole else self.runner.arrays(layout(self.schema, part))
            if isinstance(out, dict):
                decided.append(out["decisions"])
                out = out["probabilities"]
            if isinstance(self.runner, Onnx) and self.runner.classes:
                out = self._in_order(out, self.runner.classes)
            if (given := out.shape[:1]) != (part.num_rows,):
                what = f"the model gave {given[0] if given else 'no'} rows for {part.num_rows}"
                raise refuse("model.output", what, where=self.path, fix="one row of output a row of input")
            outs.append(out)
        if outs[0].ndim == 3:  # so many boxes at most in one call, so many in another
            most = max(out.shape[1] for out in outs)
            outs = [np.pad(out, ((0, 0), (0, most - out.shape[1]), (0, 0))) for out in outs]
        said = self.said(np.concatenate(outs))
        return {self.target: self._decided(said, np.concatenate(decided)) if decided else said}

    def _decided(self, said: Prediction, decided: np.ndarray) -> Prediction:
        """decided (B,): labels, as the target's column has them."""
        kind, p = self.schema.targets[self.target], said.probabilities
        if p is None or decided.shape != (len(p),):
            what, fix = f"decisions of shape {decided.shape} beside probabilities", "one label for each row, beside probabilities"
            raise refuse("model.output", what, where=self.path, fix=fix)
        try:
            read = kind.encode_target(pa.chunked_array([pa.array(decided)]))
        except Refusal as e:
            what, labels = f"decisions that are no labels: {e.problems[0].what}", ", ".join(map(str, kind.labels_[:8]))
            raise refuse("model.output", what, where=self.path, fix=f"one of the target's labels for each row: {labels}") from e
        value = torch.from_numpy(read["values"])
        note = "The model decides for itself: accuracy and fairness are of its decisions, calibration is of its probabilities."
        self.notes += [note] * (note not in self.notes)
        return Prediction(value=value, probabilities=p, score=p.gather(1, value[:, None]).squeeze(1))

    def _in_order(self, out: np.ndarray, names: list[str]) -> np.ndarray:
        """Columns by their names, in the order of the task's labels."""
        labels = self.schema.targets[self.target].labels_ or []
        if sorted(names) != sorted(labels):
            what = f"the model's classes are {', '.join(names[:20])}; the task's are {', '.join(labels[:20])}"
            raise refuse("model.labels", what, where=self.path, fix=f"target: {{{self.target}: {{category: {{labels: [{', '.join(names[:4])}, ...]}}}}}}")
        return out[:, [names.index(label) for label in labels]]

    def rehearse(self, table: pa.Table) -> None:
        """Ask about a few rows, and forget the answer: a model that cannot take the data, or whose answers cannot be read, is refused before a test split
        is opened for it. What it was given stands beside its error."""
        scale, notes, few = self.scale, list(self.notes), table.slice(0, 8)
        try:
            self.predict(few)
        except Refusal as e:
            columns = [n for n in self.schema.inputs if n in few.column_names]
            if self.runner.wants_table:
                given = f"an Arrow table of {len(columns)} columns"
            else:
                given = ", ".join(f"{name} {a.shape}" for name, a in layout(self.schema, few.select(columns)).items())
            named = ", ".join(columns[:40]) + ", ..." * (len(columns) > 40)
            why, fix = f"it was given {given}: {named}", "or mend the task's columns (`NAME: ignore` keeps one from the model) and its target's labels"
            raise Refusal(Problem(p.code, p.what, why, p.where, f"{p.fix or 'mend it'}; {fix}") for p in e.problems) from e
        self.scale, self.notes, self.digest = scale, notes, self.now()
        if isinstance(self.runner, Worker) and self.runner.files:
            names = [Path(f).name for f in self.runner.files]
            self.notes.append(f"The model's digest is of {self.runner.copy.name} and of what it reads: {', '.join(names[:8])}{', ...' * (len(names) > 8)}.")

    def open(self, target: str, table: pa.Table) -> Opened | None:
        """With gradients, where the runner has them."""
        if isinstance(self.runner, Worker):
            if self.runner.wants_table:
                return None
            arrays = layout(self.schema, table.select([n for n in self.schema.inputs if n in table.column_names]))
            single = len(arrays) == 1 and next(iter(arrays.values())).dtype.kind == "f" and self.schema.targets[target].labels_ is not None
            if single and self.scale is None:
                with contextlib.suppress(Refusal):  # said where its answers are asked for
                    self.predict(table)  # which decides it
            return Remote(self.runner, self.schema, target, table, arrays, self.scale) if single else None
        return self.runner.open(table)

    def answer(self, table: pa.Table) -> pa.Table:
        """For people."""
        return shown(self.schema, self.predict(table), table)

    def said(self, out: np.ndarray) -> Prediction:
        """What the model gave back for B rows, as the top of this file says."""
        kind = self.schema.targets[self.target]
        if out.dtype.kind == "U":
            return kind.read(out)
        if not np.isfinite(out).all():
            raise refuse("model.output", f"{int((~np.isfinite(out)).any(tuple(range(1, out.ndim))).sum())} rows are not numbers", where=self.path)
        if kind.labels_ is None:
            return kind.read(out)
        k = len(kind.labels_)
        one = k == 2 and (out.ndim == 1 or (out.ndim == 2 and out.shape[1] == 1))
        if not one and (out.ndim != 2 or out.shape[1] != k):
            raise refuse("model.output", f"shape {out.shape} for {k} classes ({', '.join(kind.labels_[:8])})", where=self.path, fix="one column a class")
        shares = are_shares(out)
        if self.scale is None:
            self.scale = "probabilities" if shares else "logits"
            form = f"one column, of {kind.labels_[1]}" if one else f"{k} columns: {', '.join(kind.labels_[:8])}{', ...' * (k > 8)}"
            self.notes.append(f"The model's answers ({form}) are read as {self.scale}: so they looked on the first {len(out):,} rows.")
        if self.scale == "probabilities" and not shares:
            what, why = "answers that are no probabilities", "on the rows that it was first asked about, all its answers were probabilities"
            raise refuse("model.output", what, why=why, where=self.path, fix="give logits always, or probabilities always")
        if one:
            second = out.reshape(-1)
            second = second.clip(0, 1) if self.scale == "probabilities" else 1 / (1 + np.exp(-second.clip(-700)))
            p = np.stack([1 - second, second], 1)
        elif self.scale == "probabilities":
            p = out.clip(0) / out.clip(0).sum(1, keepdims=True)
        else:
            with np.errstate(over="ignore"):  # 1e308 and -1e308 are far apart, no more
                e = np.exp(out - out.max(1, keepdims=True))
            p = e / e.sum(1, keepdims=True)
        t = torch.from_numpy(p)
        return Prediction(value=t.argmax(1), probabilities=t, score=t.max(1).values)


def layout(schema: Schema, table: pa.Table) -> dict[str, np.ndarray]:
    """{input: array} as the top of this file says."""
    found: dict[str, np.ndarray] = {}
    columns = [n for n, k in schema.inputs.items() if k.place in ("number", "code")]  # in the task's own order
    if columns:
        parts = []
        for name in columns:
            kind = schema.inputs[name]
            if kind.place == "number" and kind.numbers == 1:
                x = pc.cast(table.column(name), pa.float64(), safe=False).to_numpy().astype(np.float32)
            elif kind.place == "number":
                x = kind.encode(table.column(name))["values"]
            else:
                x = kind.encode(table.column(name))["values"].astype(np.float32) - 1  # 0 was missing or unseen
            parts.append(x.reshape(table.num_rows, -1))
        found[TABLE] = np.concatenate(parts, 1)
    for name in schema.own:
        kind = schema.inputs[name]
        stored = kind.encode(table.column(name))
        if "offsets" in stored:
            found[name] = np.array(["" if v is None else str(v) for v in table.column(name).to_pylist()])
        else:
            found[name] = kind.batch(stored, np.arange(table.num_rows)).numpy()
    return found


def within(model: Path) -> Path | None:
    """The model from elsewhere that a folder holds, itself or in its model/ (as a version of the registry does): a Hugging Face folder, or one ONNX
    file. None: there is none, or it is one of our own."""
    for folder in (model / "model", model) if model.is_dir() else ():
        if (folder / "model.json").is_file():
            return None
        if (folder / "config.json").is_file():
            return folder
        files = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
        if len(files) == 1:
            return files[0]
    return None
