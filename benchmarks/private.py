"""Private training on real data beside published figures: `python benchmarks/private.py NAME [--epsilon E ...]`. Data from MODELWRIGHT_DATA.

Delta is 1e-5 throughout, rows drawn by Poisson sampling, epsilon for adding or removing one row, statistics of preprocessing outside it (as in the
papers). Published, at epsilon 3 and delta 1e-5: Tramer & Boneh 2021 (arXiv 2011.11660; the table of their repository, ftramer/Handcrafted-DP):
Fashion-MNIST 86.0 % by a network trained end to end, 89.7 % by a linear model on scattering features, 89.0 % by a small network on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import modelwright as mw

PICTURES = {
    "source": "hub://fashion_mnist",
    "columns": {"index": "ignore", "label": "ignore", "image": {"kind": "image", "augment": []}},
    "split": {"validation": 0.02, "calibration": 0.02},
}
TASKS = {
    "fashion_mnist": {"data": PICTURES, "target": "label_name", "model": {"encoders": {"image": "scattering"}}},
    "fashion_mnist_cnn": {
        "data": PICTURES,
        "target": "label_name",
        "model": {"encoders": {"image": {"cnn": {"width": 16, "norm": "group"}}}},
        "settings": {"optimizer": "sgd", "lr": 2.0, "batch_size": 2048, "epochs": 15},
    },
    "adult": {"data": "hub://adult", "target": "income", "model": {"encoders": {"table": "additive"}}},
}
PUBLISHED = {"fashion_mnist": {3.0: "0.897 scattering + linear, 0.890 scattering + network"}, "fashion_mnist_cnn": {3.0: "0.860 end to end"}}
METRICS = ("accuracy", "auroc", "privacy.epsilon")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[3.0, 1.0, 8.0])
    chosen = parser.parse_args()
    task = dict(TASKS[chosen.name])
    settings = task.pop("settings", {})
    for epsilon in chosen.epsilon:
        stage = {**settings, "threads": 1, "strategies": [{"dp_sgd": {"epsilon": epsilon, "delta": 1e-5}}]}
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = mw.run(mw.task_of(task | {"stages": [{"train": stage}]}), f"{folder}/run")
        trained = sum(s["seconds"] for s in run.stages)
        published = PUBLISHED.get(chosen.name, {}).get(epsilon, "none at this epsilon")
        print(f"{chosen.name} epsilon {epsilon:g}: {trained:.0f} s of training, {time.perf_counter() - began:.0f} s in all; published: {published}", flush=True)
        for line in run.evidence["evidence"]:
            if line["metric"] in METRICS and line["slice"] is None and line["value"] is not None:
                print(f"  {line['metric']:<28} {line['value']:.4f} [{line['low']:.4f}, {line['high']:.4f}] n {line['n']}", flush=True)


if __name__ == "__main__":
    main()
