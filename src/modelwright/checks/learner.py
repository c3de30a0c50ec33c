"""A quick learner for questions about data: features of any schema, and predictions for rows that it has not seen.

Not the model under audit: it asks what the data allow. Extremely randomised trees (Geurts et al. 2006) on tables and pictures (averaged down to 16
x 16); logistic regression on tf-idf where there is text. No leaf has less than three rows, so that single wrong labels are outvoted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import normalize

from ..data.dataset import TABLE
from ..data.schema import Schema

FOLDS = 3


def features(schema: Schema, table: pa.Table, without: tuple[str, ...] = ()) -> Any:
    """(N, F) of all inputs, dense float32, or sparse where a text is among them. A column of its own that is neither text nor picture nor series is
    left out."""
    data = schema.encode(table, targets=False)
    parts: list[Any] = []
    for name, stored in data.inputs.items():
        if name == TABLE:
            parts.append(_table(schema, stored, without))
        elif name in without or "values" not in stored:
            continue
        elif data.kinds[name].form == "picture":
            parts.append(small(stored["values"]))
        elif data.kinds[name].form == "ids":
            parts.append(_bag(stored, len(data)))
        elif data.kinds[name].form == "series":
            parts.append(_summary(stored))
    parts = [p for p in parts if p.shape[1]] or [np.zeros((table.num_rows, 1), np.float32)]
    if any(sp.issparse(p) for p in parts):
        dense = [p if sp.issparse(p) else sp.csr_matrix(np.nan_to_num(p - np.nanmean(p, 0)) / (np.nanstd(p, 0) + 1e-9)) for p in parts]
        return sp.hstack(dense).tocsr()
    return np.concatenate(parts, 1).astype(np.float32)


def truth(schema: Schema, table: pa.Table, target: str) -> tuple[np.ndarray, np.ndarray, int | None] | None:
    """y, known, classes (None: a number); None where the target is neither classes nor a number."""
    kind = schema.truths[target]
    if target not in table.column_names or kind.head not in ("classes", "binary", "ordered", "regression"):
        return None
    found = kind.encode_target(kind.column(table, target))
    return found["values"], found["known"], None if kind.head == "regression" else len(kind.labels_)


def _table(schema: Schema, stored: dict[str, np.ndarray], without: tuple[str, ...]) -> np.ndarray:
    """Numbers, NaN where missing, then codes; less the columns without."""
    numbers = [n for n in schema.table if schema.inputs[n].place == "number" for _ in range(schema.inputs[n].numbers)]
    keep = np.array([n not in without for n in numbers], bool)
    codes = np.array([n not in without for n in schema.table if schema.inputs[n].place == "code"], bool)
    return np.concatenate([stored["numbers"][:, keep], stored["codes"][:, codes].astype(np.float32)], 1)


def small(values: np.ndarray, side: int = 16) -> np.ndarray:
    """(N, C, H, W) uint8 -> (N, C * side * side) in [0, 1]: averaged over areas where it is larger."""
    x = torch.from_numpy(np.ascontiguousarray(values)).float() / 255
    to = [min(side, s) for s in x.shape[2:]]
    return torch.nn.functional.adaptive_avg_pool2d(x, to).flatten(1).numpy()


def _bag(stored: dict[str, np.ndarray], n: int) -> sp.csr_matrix:
    """tf-idf of tokens, rows of length 1."""
    ids = np.asarray(stored["values"], np.int64)
    bag = sp.csr_matrix((np.ones(len(ids)), ids, stored["offsets"]), (n, int(ids.max(initial=0)) + 1))
    bag.sum_duplicates()
    seen = np.bincount(bag.indices, minlength=bag.shape[1])
    bag.data = 1 + np.log(bag.data)
    return normalize(bag @ sp.diags(np.log((1 + n) / (1 + seen)) + 1))


def _summary(stored: dict[str, np.ndarray]) -> np.ndarray:
    rows = [np.asarray(stored["values"][a:b], np.float64) for a, b in zip(stored["offsets"][:-1], stored["offsets"][1:], strict=True)]
    width = stored["values"].shape[1]
    return np.stack([np.concatenate([r.mean(0), r.std(0), r[0], r[-1]]) if len(r) else np.zeros(4 * width) for r in rows])


def folds_of(n: int, units: np.ndarray | None, seed: int, folds: int = FOLDS) -> np.ndarray:
    """(n,) fold of each row; rows of one unit share theirs."""
    labels = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    count = int(labels.max(initial=-1)) + 1
    return (np.random.default_rng(seed).permutation(count) % folds)[labels]


def fit_predict(x: Any, y: np.ndarray, new: Any, classes: int | None, seed: int, trees: int = 60) -> np.ndarray:
    """What a learner of (x, y) says of new rows: (M, K) probabilities of K classes, or (M,) where classes is None."""
    if sp.issparse(x):
        made = Ridge() if classes is None else LogisticRegression(C=10.0, max_iter=200)
    else:
        x, new = (np.nan_to_num(v, nan=-9.0) for v in (x, new))
        settings = {"n_estimators": trees, "min_samples_leaf": 3, "random_state": seed}
        made = ExtraTreesRegressor(**settings, max_features=0.5) if classes is None else ExtraTreesClassifier(**settings)
    if classes is None:
        return made.fit(x, y).predict(new)
    p = np.zeros((new.shape[0], classes))
    if len(np.unique(y)) < 2:
        p[:, y[:1]] = 1.0
        return p
    made.fit(x, y)
    p[:, made.classes_] = made.predict_proba(new)
    return p


def out_of_fold(x: Any, y: np.ndarray, classes: int | None, seed: int, units: np.ndarray | None = None) -> np.ndarray:
    """(N, K) or (N,): each row as a learner of the other folds sees it."""
    fold = folds_of(x.shape[0], units, seed)
    out = np.zeros((x.shape[0], classes)) if classes else np.zeros(x.shape[0])
    for f in range(FOLDS):
        out[fold == f] = fit_predict(x[fold != f], y[fold != f], x[fold == f], classes, seed)
    return out
