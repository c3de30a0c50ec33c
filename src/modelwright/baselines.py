"""What the model has to beat, fitted on the same training rows: the majority (or mean), a linear model, and boosted trees where there is a table.

Fitted by scikit-learn at its defaults, kept as plain arrays: where one of them wins, the task file chooses it (`model: {instead: trees}`) and it is
saved, audited and served like any model. Inputs come from the encoded dataset: numbers with missing flags, one-hot codes, a tf-idf bag of a text's
tokens, a series' mean, spread, ends and extremes, a picture's pixels. A linear model sees at most VALUES values: 6,510 pictures of 3,072 pixels.
Of larger tables all learn from ROWS rows drawn by chance. Of a label set each label is learnt for itself; trees (one model a label) are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch

from . import boosted
from .data.dataset import TABLE, Dataset
from .data.schema import Schema
from .forms import Prediction
from .predictor import in_chunks

Arrays = dict[str, np.ndarray]
VALUES = 20_000_000  # some ten seconds
ROWS = 500_000  # of which features fit into memory


class Baseline:
    """A Predictor: one estimator a target. `arrays` is all that was fitted, {part: {name: array}}; parts are targets and, for features, inputs."""

    def __init__(self, name: str, schema: Schema, arrays: dict[str, Arrays]):
        self.name, self.schema, self.arrays = name, schema, arrays

    @classmethod
    def fit(cls, name: str, schema: Schema, train: Dataset, seed: int) -> Baseline:
        found, train = cls(name, schema, {}), _some(train, seed)
        found._learn_features(train)
        x = found.features(train)
        for target, truth in train.targets.items():
            known = truth["known"] if "known" in truth else np.ones(len(train), bool)
            rows = np.flatnonzero(known)
            y, times = truth["values"], truth["values"].shape[1] if truth["values"].ndim > 1 else 1
            most = max(1000, int(VALUES / times * len(train) / max(1, x.nnz if sp.issparse(x) else x.size)))
            if name == "linear" and len(rows) > most:
                rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
            found.arrays[f"target.{target}"] = found._fit(x[rows], y[rows], schema.targets[target].head == "regression", seed)
        return found

    def _fit(self, x: Any, y: np.ndarray, numeric: bool, seed: int) -> Arrays:
        if self.name == "majority":
            return {"constant": np.atleast_1d(np.mean(y, 0)) if numeric or y.ndim > 1 else np.bincount(y) / len(y)}
        if self.name == "linear":
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.linear_model import LogisticRegression, Ridge  # a plan only asks what applies, and should not wait for these

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # 300 iterations are what it gets
                if y.ndim > 1:
                    return each_label(lambda label: LogisticRegression(max_iter=300).fit(x, label), x.shape[1], y)
                made = Ridge().fit(x, y) if numeric else LogisticRegression(max_iter=300).fit(x, y)
            arrays = {"weight": np.atleast_2d(made.coef_).astype(np.float64), "bias": np.atleast_1d(made.intercept_).astype(np.float64)}
        else:
            from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

            estimator = HistGradientBoostingRegressor if numeric else HistGradientBoostingClassifier
            sizes = [self.schema.inputs[c].cardinality for c in self.schema.table if self.schema.inputs[c].place == "code"]
            few = [x.shape[1] - len(sizes) + i for i, k in enumerate(sizes) if k <= 255]
            made = estimator(random_state=seed, categorical_features=few or None).fit(x, y)
            arrays = boosted.arrays_of(made)
        return arrays if numeric else arrays | {"classes": made.classes_.astype(np.int64)}

    def _learn_features(self, train: Dataset) -> None:
        if TABLE in train.inputs:  # scikit-learn cannot bin a column without any value
            self.arrays[f"input.{TABLE}"] = {"empty": np.isnan(train.inputs[TABLE]["numbers"]).all(0)}
        for name, stored in train.inputs.items():
            if name != TABLE and train.kinds[name].form == "ids":
                counts = self._bag(stored, len(train), train.kinds[name].vocabulary_size)
                seen = np.bincount(counts.indices, minlength=counts.shape[1])
                self.arrays[f"input.{name}"] = {"idf": np.log((1 + len(train)) / (1 + seen)) + 1}

    def _bag(self, stored: Any, n: int, width: int) -> sp.csr_matrix:
        bag = sp.csr_matrix((np.ones(len(stored["values"])), np.asarray(stored["values"], np.int64), stored["offsets"]), (n, width))
        bag.sum_duplicates()
        return bag

    def features(self, data: Dataset) -> Any:
        """(N, F), dense for the trees and for pictures alone, sparse else."""
        if self.name == "majority":
            return np.zeros((len(data), 1))
        table = data.inputs.get(TABLE)
        if self.name == "trees":
            return np.concatenate([np.where(self.arrays[f"input.{TABLE}"]["empty"], 0, table["numbers"]), table["codes"].astype(np.float32)], 1)
        parts = []
        if table is not None:
            missing = np.isnan(table["numbers"])
            parts += [sp.csr_matrix(np.where(missing, 0, table["numbers"])), sp.csr_matrix(missing.astype(np.float32))]
            sizes = [self.schema.inputs[c].cardinality for c in self.schema.table if self.schema.inputs[c].place == "code"]
            parts += [
                sp.csr_matrix((np.ones(len(data)), (np.arange(len(data)), codes)), (len(data), size))
                for codes, size in zip(table["codes"].T, sizes, strict=True)
            ]
        for name, stored in data.inputs.items():
            match "table" if name == TABLE else data.kinds[name].form:
                case "ids":
                    from sklearn.preprocessing import normalize

                    idf = self.arrays[f"input.{name}"]["idf"]
                    bag = self._bag(stored, len(data), len(idf))
                    bag.data = 1 + np.log(bag.data)
                    parts.append(normalize(bag @ sp.diags(idf)))
                case "series":
                    parts.append(sp.csr_matrix(summaries(stored["values"], stored["offsets"])))
                case "picture":
                    flat = np.asarray(stored["values"]).reshape(len(data), -1)
                    flat = flat.astype(np.float32) / (255 if flat.dtype == np.uint8 else 1)
                    parts.append(flat if len(data.inputs) == 1 else sp.csr_matrix(flat))
        return parts[0] if isinstance(parts[0], np.ndarray) else sp.hstack(parts).tocsr()

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        return in_chunks(table, self._chunk)

    def _chunk(self, table: pa.Table) -> dict[str, Prediction]:
        x = self.features(self.schema.encode(table, targets=False))
        return {target: self._say(self.arrays[f"target.{target}"], x, kind) for target, kind in self.schema.targets.items()}

    def _say(self, arrays: Arrays, x: Any, kind: Any) -> Prediction:
        if "constant" in arrays:
            out = np.tile(arrays["constant"], (x.shape[0], 1))
        elif "weight" in arrays:
            out = x @ arrays["weight"].T + arrays["bias"]
        else:
            out = boosted.raw(arrays, x)
        if kind.head == "regression":
            return Prediction(value=torch.from_numpy(out[:, 0].astype(np.float32)))
        if kind.head == "label_set":
            p = torch.from_numpy(out.astype(np.float32))
            p = p if "constant" in arrays else p.sigmoid()
            return Prediction(value=p > 0.5, score=torch.maximum(p, 1 - p).prod(1), extra={"probabilities": p})
        p = np.zeros((len(out), kind.classes))
        if "constant" in arrays:
            p[:, : out.shape[1]] = out
        else:
            out = np.concatenate([-out, out], 1) / 2 if out.shape[1] == 1 else out  # one logit says both classes
            e = np.exp(out - out.max(1, keepdims=True))
            p[:, arrays["classes"]] = e / e.sum(1, keepdims=True)
        t = torch.from_numpy(p.astype(np.float32))
        return Prediction(value=t.argmax(1), probabilities=t, score=t.max(1).values)


def each_label(fit: Callable[[np.ndarray], Any], width: int, y: np.ndarray) -> Arrays:
    """{weight (K, F), bias (K,)} of y (N, K) bool: fit(y of a label) gives coef_ and intercept_; a label that all rows have, or none, is said surely."""
    weight, bias = np.zeros((y.shape[1], width)), np.where(y.all(0), 20.0, -20.0)
    for k in np.flatnonzero(y.any(0) & ~y.all(0)):
        made = fit(y[:, k])
        weight[k], bias[k] = made.coef_[0], made.intercept_[0]
    return {"weight": weight, "bias": bias}


def _some(train: Dataset, seed: int) -> Dataset:
    """At most ROWS of the rows, in their order. Those of texts and series lie on disk, and their features are sparse."""
    if len(train) <= ROWS or train.lengths() is not None:
        return train
    rows = np.sort(np.random.default_rng(seed).choice(len(train), ROWS, replace=False))
    few = [{n: {k: a[rows] for k, a in stored.items()} for n, stored in side.items()} for side in (train.inputs, train.targets)]
    return Dataset(ROWS, *few, train.kinds, train.target_kinds, None if train.groups is None else train.groups[rows])


def summaries(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N, 6 C) of series: mean, standard deviation, least, most, first and last of each channel; zeros where a series is empty."""
    rows = [np.asarray(values[a:b], np.float64) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    none = np.zeros(6 * values.shape[1])
    return np.stack([np.concatenate([r.mean(0), r.std(0), r.min(0), r.max(0), r[0], r[-1]]) if len(r) else none for r in rows])


def names_for(schema: Schema) -> list[str]:
    """Those that apply. Targets that are neither classes, nor a number, nor a set of labels have none."""
    heads = {k.head for k in schema.targets.values()}
    if not heads <= {"classes", "binary", "ordered", "regression", "label_set"}:
        return []
    own = [schema.inputs[c].form for c in schema.own]
    seen = ["linear"] if schema.table or {"ids", "series", "picture"} & set(own) else []
    return ["majority", *seen, *(["trees"] if schema.table and "label_set" not in heads else [])]


def fit(schema: Schema, train: Dataset, seed: int) -> dict[str, Baseline]:
    return {n: Baseline.fit(n, schema, train, seed) for n in names_for(schema)}
