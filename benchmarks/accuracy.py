"""Accuracy on real data, one line a task: `python benchmarks/accuracy.py [NAME ...]`. Data from MODELWRIGHT_DATA; every figure with its interval and time.

Each entry is a task as a user would write it. The table in docs/benchmarks.md is what this prints.
"""

from __future__ import annotations

import sys
import tempfile
import time

import modelwright as mw

TASKS = {
    "adult": {"data": "hub://adult", "target": "income"},
    "adult_additive": {"data": "hub://adult", "target": "income", "model": {"encoders": {"table": "additive"}}},
    "adult_dp_eps1": {
        "data": "hub://adult",
        "target": "income",
        "model": {"encoders": {"table": "additive"}},
        "stages": [{"train": {"strategies": [{"dp_sgd": {"epsilon": 1, "delta": 1e-5}}]}}],
    },
    "adult_dp_eps3": {
        "data": "hub://adult",
        "target": "income",
        "model": {"encoders": {"table": "additive"}},
        "stages": [{"train": {"strategies": [{"dp_sgd": {"epsilon": 3, "delta": 1e-5}}]}}],
    },
    "fashion_mnist": {
        "data": {
            "source": "hub://fashion_mnist",
            "columns": {"index": "ignore", "label": "ignore", "image": {"kind": "image", "augment": ["translate", "flip"]}},
            "split": {"validation": 0.03, "calibration": 0.03},
        },
        "target": "label_name",
        "model": {"heads": {"label_name": {"classes": {"smoothing": 0.1}}}},
        "stages": [{"train": {"minutes": 5.8, "validations": 4}}],
    },
    "cifar10_jpeg": {
        "data": {
            "source": "hub://cifar10_jpeg",
            "columns": {"label": "ignore", "index_in_class": "ignore", "image": {"kind": "image", "augment": ["translate", "flip"], "reach": 0.0625}},
            "split": {"validation": 0.03, "calibration": 0.03},
        },
        "target": "label_name",
        "model": {
            "encoders": {"image": {"resnet": {"width": 48, "activation": "gelu", "views": 6}}},
            "heads": {"label_name": {"classes": {"smoothing": 0.1}}},
        },
        "stages": [{"train": {"minutes": 14.8, "validations": 4}}],
    },
    "sst2_lstm": {"data": "hub://sst2", "target": {"label": "category"}},
}
METRICS = ("accuracy", "auroc", "accuracy.gain_over_baseline", "calibration.ece", "privacy.epsilon")


def main() -> None:
    for name in sys.argv[1:] or TASKS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = mw.run(mw.task_of(TASKS[name]), f"{folder}/run")
        trained = sum(s["seconds"] for s in run.stages)
        print(f"{name}: {trained:.0f} s of training, {time.perf_counter() - began:.0f} s in all, test opened {run.evidence['test_openings']} times")
        for line in run.evidence["evidence"]:
            if line["metric"] in METRICS and line["slice"] is None and line["value"] is not None:
                figures = f"{line['value']:.4f} [{line['low']:.4f}, {line['high']:.4f}] n {line['n']}"
                print(f"  {line['metric']:<28} {figures}  {line['details'].get('baseline', '')}")
        for baseline, figures in run.baselines.items():
            print(f"  baseline {baseline:<19} " + ", ".join(f"{m} {f['value']:.4f}" for m, f in figures.items()))


if __name__ == "__main__":
    main()
