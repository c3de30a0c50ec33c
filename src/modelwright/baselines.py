"""What the model has to beat, fitted on the same training rows: the majority (or mean), a linear model, and boosted trees where there is a table.

Plain scikit-learn at its defaults. Inputs come from the encoded dataset: numbers with missing flags, one-hot codes, a tf-idf bag of a text's tokens,
a picture's pixels. A linear model sees at most 20,000 rows of dense pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge

from .data.dataset import TABLE, Dataset
from .data.schema import Schema
from .forms import Prediction


class Baseline:
    """A Predictor: one scikit-learn estimator a target."""

    def __init__(self, name: str, schema: Schema, train: Dataset, seed: int):
        self.name, self.schema = name, schema
        self.tfidf: dict[str, Any] = {}
        x = self._features(train, fit=True)
        self.fitted: dict[str, Any] = {}
        for target, truth in train.targets.items():
            known = truth["known"] if "known" in truth else np.ones(len(train), bool)
            rows = np.flatnonzero(known)
            if not sp.issparse(x) and x.shape[1] > 256 and len(rows) > 20_000:
                rows = np.random.default_rng(seed).choice(rows, 20_000, replace=False)
            self.fitted[target] = self._fit(x[rows], truth["values"][rows], schema.targets[target].head == "regression", seed)

    def _fit(self, x: Any, y: np.ndarray, numeric: bool, seed: int) -> Any:
        if self.name == "majority":
            return float(np.mean(y)) if numeric else np.bincount(y) / len(y)
        if self.name == "linear":
            return Ridge().fit(x, y) if numeric else LogisticRegression(max_iter=300).fit(x, y)
        cls = HistGradientBoostingRegressor if numeric else HistGradientBoostingClassifier
        width = x.shape[1] - self.codes
        few = [width + i for i, k in enumerate(self.sizes) if k <= 255]
        return cls(random_state=seed, categorical_features=few or None).fit(x, y)

    def _features(self, data: Dataset, fit: bool = False) -> Any:
        if self.name == "majority":
            return np.zeros((len(data), 1))
        table = data.inputs.get(TABLE)
        if self.name == "trees":
            if fit:
                self.sizes = [self.schema.inputs[c].cardinality for c in self.schema.table if self.schema.inputs[c].place == "code"]
                self.codes = len(self.sizes)
                self.unseen = np.isnan(table["numbers"]).all(0)  # scikit-learn cannot bin a column without any value
            return np.concatenate([np.where(self.unseen, 0, table["numbers"]), table["codes"].astype(np.float32)], 1)
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
            if name == TABLE:
                continue
            if "offsets" in stored:
                width = max(int(stored["values"].max(initial=0)) + 1, 1)
                if fit:
                    self.tfidf[name] = (TfidfTransformer(sublinear_tf=True), width)
                transform, width = self.tfidf[name]
                ids = np.minimum(stored["values"], width - 1)
                bag = sp.csr_matrix((np.ones(len(ids)), ids, stored["offsets"]), (len(data), width))
                bag.sum_duplicates()
                parts.append(transform.fit_transform(bag) if fit else transform.transform(bag))
            elif "values" in stored:
                flat = stored["values"].reshape(len(data), -1)
                parts.append(sp.csr_matrix(flat.astype(np.float32) / (255 if flat.dtype == np.uint8 else 1)))
        return sp.hstack(parts).tocsr()

    def predict(self, table: pa.Table) -> dict[str, Prediction]:
        data = self.schema.encode(table, targets=False)
        x = self._features(data)
        found = {}
        for target, model in self.fitted.items():
            kind = self.schema.targets[target]
            if kind.head == "regression":
                value = np.full(len(data), model) if self.name == "majority" else model.predict(x)
                found[target] = Prediction(value=torch.from_numpy(np.asarray(value, np.float32)))
                continue
            p = np.zeros((len(data), kind.classes))
            if self.name == "majority":
                p[:, : len(model)] = model
            else:
                p[:, model.classes_] = model.predict_proba(x)
            t = torch.from_numpy(p.astype(np.float32))
            found[target] = Prediction(value=t.argmax(1), probabilities=t, score=t.max(1).values)
        return found


def fit(schema: Schema, train: Dataset, seed: int) -> dict[str, Baseline]:
    """Those that apply. Targets that are neither classes nor a number have none."""
    if any(k.head not in ("classes", "binary", "ordered", "regression") for k in schema.targets.values()):
        return {}
    names = ["majority", "linear", *(["trees"] if schema.table else [])]
    return {n: Baseline(n, schema, train, seed) for n in names}
