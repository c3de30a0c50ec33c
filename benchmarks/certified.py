"""Certified accuracy by interval-bound training, one table line a task: `python benchmarks/certified.py [NAME ...]`. Data from MODELWRIGHT_DATA.

Each entry is a task as a user would write it; `digits_plain` is the same network without the strategy. Certified and attacked accuracy are the
robustness audit's, at its own epsilon of 0.1 for grey pictures, on 1,000 test rows at most (all that the attacks get through in two minutes).
"""

from __future__ import annotations

import sys
import tempfile
import time

import modelwright as mw
from modelwright import find, planning
from modelwright.subject import Subject


def task(source: str, target: str, encoder: dict, stage: dict, columns: dict | None = None) -> dict:
    data = {"source": source, "columns": {"image": {"kind": "image", "augment": []}} | (columns or {})}
    return {"data": data, "target": target, "model": {"encoders": {"image": {"cnn": {"norm": "none"} | encoder}}}, "stages": [{"train": stage}]}


DIGITS = {"epochs": 100, "lr": 1e-2, "weight_decay": 0.0}
FASHION = {"index": "ignore", "label": "ignore"}
TASKS = {
    "digits_plain": task("sklearn://digits", "digit", {"width": 32, "depth": 2}, DIGITS),
    "digits": task("sklearn://digits", "digit", {"width": 32, "depth": 2}, DIGITS | {"strategies": ["certified"]}),
    "fashion_mnist": task(
        "hub://fashion_mnist", "label_name", {"width": 16, "depth": 3},
        {"minutes": 4.5, "batch_size": 256, "precision": "fp32", "validations": 8, "strategies": ["certified"]}, FASHION,
    ),
}  # fmt: skip


def main() -> None:
    print("| task | epsilon | accuracy | attacked | certified | rows | steps | seconds of training |\n|---|---|---|---|---|---|---|---|", flush=True)
    for name in sys.argv[1:] or TASKS:
        made = mw.task_of(TASKS[name])
        with tempfile.TemporaryDirectory() as folder:
            run = mw.run(made, f"{folder}/run")
            loaded = mw.load(f"{folder}/run")
        began = time.perf_counter()
        subject = Subject(loaded, loaded.schema, {"test": planning.make(made, None).tables["test"]}, open=loaded.open, seconds=120.0)
        found = {m.metric.removeprefix("robustness."): m for m in find.make("audits", {"robustness": {"rows": 1000}}).measure(subject)}
        cells = [f"{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]" for m in (found["linf_accuracy"], found["certified_accuracy"])]
        plain = next(e for e in run.evidence["evidence"] if e["metric"] == "accuracy" and e["slice"] is None)
        first = f"{plain['value']:.4f} [{plain['low']:.4f}, {plain['high']:.4f}]"
        (stage,) = run.stages
        told = (name, f"{found['certified_accuracy'].details['epsilon']:g}", first, *cells, found["linf_accuracy"].n, stage["steps"], f"{stage['seconds']:.0f}")
        print("| " + " | ".join(map(str, told)) + " |", flush=True)
        print(f"audit: {time.perf_counter() - began:.0f} s, {found['linf_accuracy'].reasons}", file=sys.stderr)


if __name__ == "__main__":
    main()
