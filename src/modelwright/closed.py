"""A model that does not open, as a function of what a table says of a row: its cells, its one picture, or the words of its one text. Needs answers alone.

So trees, ONNX files, a user's own code and text models can be explained by what explainers ask of any function. `opened` takes the model's own gradients
where there are some. The forms, x as `predictor.Opened` has it but without gradients:
- table: (N, F) float64, a column each: numbers as they stand (NaN where missing), anything else the number of its value among those of this table (-1
  missing). Columns with pictures or texts beside them are held as in their row.
- picture: (N, C, H, W) in [0, 1], asked in 8 bits.
- words: (N, W) of ones: the text's words, or runs of words so that there are at most WORDS of them; 0 takes one out.
Logits are log-probabilities less their mean, of probabilities of at least FLOOR: trees say 0, and the logarithm of that would drown all else.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from .data.schema import Schema
from .forms import Prediction
from .predictor import Opened, Predictor

FLOOR = 1e-4
WORDS = 40
WORD = re.compile(r"\s*(?:[㐀-鿿]|[^\s㐀-鿿]+)")  # with the space before it; a Chinese character is a word


class Closed:
    def __init__(self, predictor: Predictor, schema: Schema, target: str, table: pa.Table):
        self.predictor, self.schema, self.target = predictor, schema, target
        self.table = table.select([n for n in schema.inputs if n in table.column_names])
        self.names = [n for n in schema.inputs if schema.inputs[n].place in ("number", "code") and n in table.column_names]
        self.form = form(schema)
        if self.form == "table":
            self.values = [None if _is_number(table.column(n).type) else table.column(n).combine_chunks().dictionary_encode() for n in self.names]
            self.x = torch.from_numpy(np.stack([self._numbers(n, v) for n, v in zip(self.names, self.values)], 1))
        elif self.form == "picture":
            (self.own,) = schema.own
            kind = schema.inputs[self.own]
            self.x = kind.batch(kind.encode(table.column(self.own)), np.arange(table.num_rows)).float()
        else:
            (self.own,) = schema.own
            self.texts = [_runs(v) for v in table.column(self.own).to_pylist()]
            self.x = torch.zeros(len(self.texts), max([len(t) for t in self.texts], default=0), dtype=torch.float64)
            for i, text in enumerate(self.texts):
                self.x[i, : len(text)] = 1.0

    def _numbers(self, name: str, values: pa.DictionaryArray | None) -> np.ndarray:
        if values is None:
            return pc.cast(self.table.column(name), pa.float64(), safe=False).to_numpy()
        return pc.fill_null(values.indices, -1).to_numpy(zero_copy_only=False).astype(np.float64)

    def baseline(self) -> Tensor:
        """Like one x: of a number a middle value that occurs, else the most frequent value; the mean picture; no words."""
        if self.form == "picture":
            return self.x.mean(0)
        if self.form == "words":
            return torch.zeros_like(self.x[0])
        middle = []
        for j, values in enumerate(self.values):
            column = self.x[:, j].numpy()
            known = column[~np.isnan(column)]
            if values is None:
                middle.append(np.quantile(known, 0.5, method="nearest") if len(known) else np.nan)
            else:
                middle.append(np.bincount(column.astype(int) + 1).argmax() - 1)
        return torch.tensor(np.array(middle, float))

    def spread(self) -> Tensor:
        """Like one x: how far a value may move and be one of its kind still; 0 where it is not a number."""
        if self.form == "table":
            return torch.tensor([float(np.nan_to_num(np.nanstd(c))) if v is None else 0.0 for c, v in zip(self.x.T.numpy(), self.values)])
        return self.x.std(0) if self.form == "picture" else torch.zeros_like(self.x[0])

    def rows(self, x: Tensor, rows: Tensor) -> pa.Table:
        """x (B, ...) in the place of rows (B,), as the table that the predictor is given."""
        table = self.table.take(pa.array(rows.numpy()))
        if self.form == "table":
            for name, values, cells in zip(self.names, self.values, x.double().numpy().T):
                table = table.set_column(table.column_names.index(name), name, _column(table.column(name).type, values, cells))
            return table
        if self.form == "picture":
            made = self.schema.inputs[self.own].answer("x", Prediction(value=x.float()))["x"]
        else:
            made = ["".join(w for w, kept in zip(self.texts[r], keep) if kept > 0.5) for r, keep in zip(rows.tolist(), x.tolist())]
        return table.set_column(table.column_names.index(self.own), self.own, pa.array(made, table.column(self.own).type if self.form == "words" else None))

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        return centred(self.predictor.predict(self.rows(x, rows))[self.target].probabilities.double())

    def features(self, x: Tensor, rows: Tensor) -> None:
        return None


def form(schema: Schema) -> str:
    """What of a row is varied: its table's cells where it has some, else its one picture or text; "" where it is none of these."""
    forms = [next(iter(kinds.values())).form for kinds in schema.encoders().values()]
    if schema.table:
        return "table"
    return {"picture": "picture", "ids": "words"}.get(forms[0], "") if len(forms) == 1 else ""


def opened(predictor: Predictor, schema: Schema, target: str, table: pa.Table, open: Any, gradients: bool) -> Opened | None:
    """The function that is asked. Without need of gradients what shows every input is taken: a network that opens on its numbers alone is asked about
    its cells. None where neither way leads to one."""
    inside = open(target, table) if open is not None else None
    if inside is not None and (gradients or inside.x.dim() == 4 or (len(inside.names) == len(schema.inputs) and inside.x.numel())):
        return inside
    return None if gradients or not form(schema) else Closed(predictor, schema, target, table)


def centred(p: Tensor) -> Tensor:
    """Probabilities (B, K) -> logits that sum to 0."""
    logs = p.clamp(min=FLOOR).log()
    return logs - logs.mean(1, keepdim=True)


def _column(type: pa.DataType, values: pa.DictionaryArray | None, cells: np.ndarray) -> pa.Array:
    if values is None:
        whole = pa.types.is_integer(type)
        return pa.array(np.round(cells) if whole else cells, from_pandas=True).cast(type, safe=False)
    return values.dictionary.take(pa.array(cells.round().astype(np.int64), mask=cells < -0.5)).cast(type)


def _is_number(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _runs(text: Any) -> list[str]:
    """A text's words in at most WORDS runs."""
    words = WORD.findall("" if text is None else str(text))
    ends = np.linspace(0, len(words), min(WORDS, len(words)) + 1).round().astype(int)
    return ["".join(words[a:b]) for a, b in zip(ends[:-1], ends[1:])]
