"""How long the command line takes to answer: `python benchmarks/speed/start.py [ROUNDS] [quick|plan]`.

Whole processes, interleaved with a bare interpreter and with `import torch`, which is most of what `plan` waits for. Best and median of 7, elapsed and
on the processor.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pairs import interleave, machine

from modelwright.cli.life import DEMO

AIMS = {"import modelwright": 0.2, "modelwright --help": 0.3, "modelwright plan, the demo": 12.0}


def process(*arguments: str) -> np.ndarray:
    """(elapsed, processor) seconds of a Python process, from start to exit."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime])


def main(rounds: int = 7, only: str = "") -> None:
    print("start:", machine())
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "demo.yaml"
        task.write_text(json.dumps(DEMO))  # JSON is YAML
        quick = {
            "a bare interpreter": ("-c", ""),
            "import modelwright": ("-c", "import modelwright"),
            "modelwright --help": ("-m", "modelwright.cli", "--help"),
        }
        slow = {"import torch": ("-c", "import torch"), "modelwright plan, the demo": ("-m", "modelwright.cli", "plan", str(task))}
        commands = {"quick": quick, "plan": slow}.get(only, quick | slow)
        found = interleave({name: lambda c=c: process(*c) for name, c in commands.items()}, rounds, warm=0)
    for name, pairs in found.items():
        (best, least), (median, middle) = pairs.min(0), np.median(pairs, 0)
        print(f"  {name:<28} best {best:.3f} s, median {median:.3f} s; processor best {least:.3f} s, median {middle:.3f} s", end="")
        print(f" (aim {AIMS[name]} s)" if name in AIMS else "")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
