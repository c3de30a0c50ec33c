"""Boosted trees as plain arrays: made from a fitted scikit-learn model, saved without pickles, evaluated here.

All trees of an ensemble stand one after another in the same arrays; a row walks down all of them at once, so an evaluation takes as many steps as the
deepest tree has levels. Checked against scikit-learn's own predictions in tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 4_096  # at a time
FIELDS = {"feature": "feature_idx", "threshold": "num_threshold", "missing_left": "missing_go_to_left", "left": "left", "right": "right",
          "leaf": "is_leaf", "value": "value", "category": "is_categorical", "bitset": "bitset_idx"}  # fmt: skip


def arrays_of(fitted: Any) -> dict[str, np.ndarray]:
    """Of a HistGradientBoostingClassifier or -Regressor: its nodes, where each tree begins, which output it adds to, and its categories."""
    trees = [(k, tree) for stage in fitted._predictors for k, tree in enumerate(stage)]
    nodes: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS}
    bitsets, roots, start, sets = [], [], 0, 0
    for _, tree in trees:
        for name, field in FIELDS.items():
            shift = start if name in ("left", "right") else sets if name == "bitset" else 0
            nodes[name].append(tree.nodes[field].astype(np.float64 if field in ("num_threshold", "value") else np.int64) + shift)
        bitsets.append(tree.raw_left_cat_bitsets)
        roots.append(start)
        start, sets = start + len(tree.nodes), sets + len(tree.raw_left_cat_bitsets)
    found = {name: np.concatenate(parts) for name, parts in nodes.items()}
    found["bitset"] *= found["category"]  # of no category, none: a last tree without categories would point past the end
    found |= {"bitsets": np.concatenate(bitsets).astype(np.int64).reshape(-1, 8), "roots": np.array(roots), "output": np.array([k for k, _ in trees])}
    found["base"] = np.asarray(fitted._baseline_prediction, np.float64).reshape(-1)
    if fitted._preprocessor is not None:  # categories come first, renumbered; what training never saw is missing
        _, encoder, chosen = fitted._preprocessor.transformers_[0]
        chosen = np.asarray(chosen)
        found["order"] = np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])
        found["known"] = np.concatenate([np.stack([np.full(len(c), i), c.astype(np.int64)], 1) for i, c in enumerate(encoder.categories_)])
    return found


def raw(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """(N, F) -> (N, outputs): the sum over trees, on the scale of the loss (logits, or the number itself)."""
    x = x.astype(np.float64)
    if "order" in arrays:
        x = x[:, arrays["order"]]
        for i in np.unique(arrays["known"][:, 0]):
            known = arrays["known"][arrays["known"][:, 0] == i, 1]
            place = np.searchsorted(known, x[:, i]).clip(max=len(known) - 1)
            x[:, i] = np.where(known[place] == x[:, i], place, np.nan)
    out = np.tile(arrays["base"], (len(x), 1))
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS]
        at = np.tile(arrays["roots"], (len(part), 1))  # (rows, trees): the node where each row stands
        rows = np.arange(len(part))[:, None]
        while not (leaf := arrays["leaf"][at] == 1).all():
            value = part[rows, arrays["feature"][at]]
            whole = np.nan_to_num(value).astype(np.int64).clip(0, 255)
            listed = (arrays["bitsets"][arrays["bitset"][at], whole // 32] >> (whole % 32)) & 1 if len(arrays["bitsets"]) else 0
            left = np.where(arrays["category"][at] == 1, listed == 1, value <= arrays["threshold"][at])
            left = np.where(np.isnan(value), arrays["missing_left"][at] == 1, left)
            at = np.where(leaf, at, np.where(left, arrays["left"][at], arrays["right"][at]))
        np.add.at(out[start : start + ROWS].T, arrays["output"], arrays["value"][at].T)
    return out
