"""What masked pre-training on the training text brings on sst2: `python benchmarks/pretraining.py [SEEDS [ENCODER ...]]`. Data from MODELWRIGHT_DATA.

The same encoder with and without a masked stage before fine-tuning, every other setting the same; differences are paired over the same test sentences,
then averaged over seeds (t interval over seeds where there are several).
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np

import modelwright as mw
from modelwright.compare import compare
from modelwright.intervals import over_seeds

LEARN = {"lr": 1e-3, "weight_decay": 0.01, "batch_size": 32, "epochs": 5}
MASKED = {"objective": "masked", "lr": 1e-3, "weight_decay": 0.01, "batch_size": 64, "epochs": 12}


def main(seeds: str = "2", *encoders: str) -> None:
    for encoder in encoders or ("lstm", "transformer"):
        gains = []
        for seed in range(int(seeds)):
            with tempfile.TemporaryDirectory() as folder:
                seconds = {}
                for name, stages in (("plain", [{"train": LEARN}]), ("pretrained", [{"pretrain": MASKED}, {"train": LEARN}])):
                    task = {"data": "hub://sst2", "target": {"label": "category"}, "seed": seed, "stages": stages, "model": {"encoders": {"sentence": encoder}}}
                    run = mw.run(mw.task_of(task), f"{folder}/{name}")
                    seconds[name] = sum(s["seconds"] for s in run.stages)
                (d,) = [d for d in compare(f"{folder}/pretrained", f"{folder}/plain")["differences"] if d["metric"] == "accuracy"]
                gains.append(d["value"])
                gain = f"gain {d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}], paired over the test sentences"
                spent = f"{seconds['plain']:.0f} s -> {seconds['pretrained']:.0f} s of training"
                print(f"{encoder} seed {seed}: {d['b']:.4f} -> {d['a']:.4f}, {gain}; {spent}", flush=True)
        if len(gains) > 1:
            i = over_seeds(np.array(gains))
            print(f"{encoder}: mean gain {i.value:+.4f} [{i.low:+.4f}, {i.high:+.4f}] {i.method}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
