"""`sklearn://NAME`: the data sets that scikit-learn carries inside itself, offline, with their classes by name."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa

from ...errors import did_you_mean, refuse
from .loaded import Context, Loaded

TARGETS = {"breast_cancer": "diagnosis", "iris": "species", "wine": "cultivar", "digits": "digit", "diabetes": "progression"}


def read_builtin(source: str, context: Context) -> Loaded:
    """Features under scikit-learn's own names and the target last; digits: image (8 x 8 PNG, 0 to 255) and digit "0" to "9"."""
    name = source.removeprefix("sklearn://")
    if name not in TARGETS:
        raise refuse("data.source", f"there is no built-in data set {name!r}", where=context.where, fix=did_you_mean(name, TARGETS))
    from sklearn import datasets

    made = getattr(datasets, f"load_{name}")()
    target = pa.array(made.target) if name == "diabetes" else pa.array([str(made.target_names[i]) for i in made.target], pa.string())
    if name == "digits":
        columns = {"image": pa.array([_png(picture) for picture in made.images], pa.binary())}
    else:
        columns = {str(n): pa.array(np.ascontiguousarray(c)) for n, c in zip(made.feature_names, made.data.T, strict=True)}
    table = pa.table({**columns, TARGETS[name]: target})
    return Loaded(table, [f"scikit-learn's {name}: the target is {TARGETS[name]!r}"], source, root=context.root)


def _png(picture: np.ndarray) -> bytes:
    """(8, 8) of 0 to 16 as a grey PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.round(picture * (255 / 16)).astype(np.uint8)).save(file, "png")
    return file.getvalue()
