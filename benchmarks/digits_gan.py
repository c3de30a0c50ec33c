"""A GAN on scikit-learn's digits (8 x 8): `python benchmarks/digits_gan.py [SEED ...]`. Offline; about two minutes of one thread a seed.

A classifier trained by Modelwright on the same digits judges 1,000 samples: the share that it recognises (largest probability at least 0.9) beside
the same share of real test digits, how many samples each class gets, and the distance to the nearest training picture (memorised ones would be
nearer than real test digits are).
"""

from __future__ import annotations

import io
import sys
import tempfile

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

import modelwright as mw
from modelwright import planning
from modelwright.task import Task

COLUMNS = {"image": "picture", "digit": "ignore", "z": "noise"}
SAMPLES, SURE = 1000, 0.9


def gan(seed: int) -> Task:
    stage = {"objective": "gan", "strategies": ["average"], "threads": 1}
    return mw.task_of({"data": {"source": "sklearn://digits", "columns": COLUMNS}, "target": "image", "stages": [{"train": stage}], "seed": seed})


def pixels(column: pa.ChunkedArray) -> np.ndarray:
    """(N, 64) in [0, 1]"""
    return np.stack([np.asarray(Image.open(io.BytesIO(cell)), np.float32).ravel() / 255 for cell in column.to_pylist()])


def nearest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,): each row's distance to the nearest row of b"""
    return np.sqrt(np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0).min(1))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = {"source": "sklearn://digits", "columns": {"image": "picture"}}
        judge = mw.task_of({"data": data, "target": "digit", "stages": [{"train": {"steps": 800, "threads": 1}}]})
        run = mw.run(judge, f"{folder}/judge")
        classifier = mw.load(f"{folder}/judge")
        real = planning.make(judge).tables["test"]
        sure = recognised(classifier.predict(real)["digit"].probabilities)
        print(f"classifier: test accuracy {run.headline['value']:.4f}; {sure:.3f} of {real.num_rows} real test digits recognised", flush=True)
        tables = planning.make(gan(0)).tables  # the same for every seed
        train, test = pixels(tables["train"].column("image")), pixels(tables["test"].column("image"))
        print(f"distance to the nearest training picture, median: real test digits {np.median(nearest(test, train)):.2f}")
        for seed in [int(s) for s in sys.argv[1:]] or [0, 1, 2]:
            run = mw.run(gan(seed), f"{folder}/gan{seed}")
            made = mw.load(f"{folder}/gan{seed}").answer(pa.table({"row": range(SAMPLES)}), torch.Generator().manual_seed(seed))
            p = classifier.predict(made.select(["image"]))["digit"].probabilities
            count = np.bincount(p.argmax(1).numpy(), minlength=10)
            print(f"seed {seed}: {run.stages[0]['steps']} steps in {run.stages[0]['seconds']:.0f} s; recognised {recognised(p):.3f};", end=" ")
            print(f"by class {count.tolist()}, smallest share {count.min() / SAMPLES:.3f};", end=" ")
            print(f"nearest training picture: median {np.median(nearest(pixels(made.column('image')), train)):.2f}", flush=True)


def recognised(p: torch.Tensor) -> float:
    return float((p.max(1).values >= SURE).float().mean())


if __name__ == "__main__":
    main()
