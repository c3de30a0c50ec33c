"""Our worst case beside AutoAttack's standard set, net by net: does the audit leave attackers of this strength more than the field's own measure does?

    python -m benchmarks.attacks [--rows N] [--epsilons K] [--threads T] [--json FILE]

Nets of our own recipe, plain and `adversarial` (Madry et al. 2018): an MLP on scikit-learn's digits, a small CNN on fashion_mnist (MODELWRIGHT_DATA). The
rival is torchattacks' AutoAttack (Croce & Hein 2020): APGD-CE, targeted APGD-DLR, targeted FAB and Square with its 5,000 queries, one after another on
what is left; ours is the audit's ensemble at its default of 30 steps. Rows and epsilons are the same; the interval is of our figure, and rows that only
one of the two lost are counted. pip install --no-deps torchattacks (its pins are old).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn

from modelwright.audits import _attacks as a
from modelwright.audits._ensemble import attack
from modelwright.intervals import interval
from modelwright.kind import Metric

from .auditor._nets import digits, fit, mlp


def fashion(seed: int) -> tuple[torch.Tensor, ...] | None:
    """x and y of 4,000 training rows, then of test rows; None without the data."""
    place = pathlib.Path(os.environ.get("MODELWRIGHT_DATA", ""), "fashion_mnist", "data.parquet")
    if not os.environ.get("MODELWRIGHT_DATA") or not place.is_file():
        return None
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(place)
    pick = np.random.default_rng(seed).permutation(table.num_rows)[:5000]
    table = table.take(pick)
    image, label = (next(n for n in table.column_names if n in names) for names in (("image", "picture"), ("label", "class", "target")))
    cells = (v["bytes"] if isinstance(v, dict) else v for v in table.column(image).to_pylist())
    x = torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(c)).convert("L"), np.float32) / 255 for c in cells]))[:, None]
    _, y = np.unique(np.array(table.column(label).to_pylist()), return_inverse=True)
    y = torch.from_numpy(y).long()
    return x[:4000], y[:4000], x[4000:], y[4000:]


def cnn(rng: torch.Generator) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=rng) * (1.4 / p[0].numel() ** 0.5) if p.dim() > 1 else torch.zeros_like(p)
    return net


def ours(net: nn.Module, x, y, norm: str, eps: float, seed: int) -> tuple[torch.Tensor, list[str], float]:
    """((N,) bool what stands, reasons, seconds)"""
    began, ask = time.perf_counter(), lambda x, rows: net(x)
    with torch.no_grad():
        right = net(x).argmax(1) == y
    left, _, reasons = attack(ask, x, y, torch.arange(len(x)), a.Ball(norm, eps, 0.0, 1.0), 30, seed, torch.zeros_like(right), right)
    return left, reasons, time.perf_counter() - began


def theirs(torchattacks, net: nn.Module, x, y, norm: str, eps: float, seed: int) -> tuple[torch.Tensor, float]:
    began, named = time.perf_counter(), {"linf": "Linf", "l2": "L2"}[norm]
    found = torchattacks.AutoAttack(net, norm=named, eps=eps, version="standard", n_classes=10, seed=seed, verbose=False)(x, y).detach()
    d = a.Ball(norm, eps).length(found - x)
    assert float(d.max()) <= eps * (1 + 1e-3), "the rival left the ball"
    with torch.no_grad():
        return a.margin(net(found), y) > 0, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--epsilons", type=int, default=2, help="of each norm and net")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        import torchattacks
    except ModuleNotFoundError as e:
        sys.exit(f"{e.name} is not here. AutoAttack is the rival of this benchmark, and no dependency: pip install --no-deps torchattacks")
    lines, data = [], {"digits": digits(args.seed), "fashion_mnist": fashion(args.seed)}
    for name, rows in data.items():
        if rows is None:
            print(f"{name}: left out, MODELWRIGHT_DATA is not set", flush=True)
            continue
        x, y, test, truth = rows
        test, truth = test[: args.rows], truth[: args.rows]
        for recipe, eps in (("plain", 0.0), ("adversarial", 0.1)):
            rng = torch.Generator().manual_seed(args.seed)
            net = fit(mlp(64, 10, rng) if name == "digits" else cnn(rng), x, y, rng, steps=500, eps=eps)
            for norm, radii in (("linf", (0.1, 0.05, 0.15)), ("l2", (1.0, 0.5, 1.5))):
                for radius in radii[: args.epsilons]:
                    mine, reasons, seconds = ours(net, test, truth, norm, radius, args.seed)
                    rival, their_seconds = theirs(torchattacks, net, test, truth, norm, radius, args.seed)
                    i = interval(Metric.mean(mine.numpy().astype(float)), len(mine), level=0.95)
                    line = {
                        "net": f"{name} {recipe}", "norm": norm, "epsilon": radius, "rows": len(mine), "ours": i.value, "low": i.low, "high": i.high,
                        "autoattack": float(rival.double().mean()), "lost by ours alone": int((rival & ~mine).sum()),
                        "lost by theirs alone": int((mine & ~rival).sum()), "seconds": round(seconds, 1), "their seconds": round(their_seconds, 1),
                        "reasons": reasons,
                    }  # fmt: skip
                    lines.append(line)
                    within = "within" if i.low <= line["autoattack"] <= i.high else "OUTSIDE"
                    print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items()), f" {within} our interval", flush=True)
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
