"""Interleaved pairs: every round runs each contender once, there and back (A B C, C B A, ...), so that whatever else the machine does falls on all.

A ratio is taken within a round, ours over theirs, then the median over rounds with the least and the most. `alone` runs a contender in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np


def machine(*packages: str, threads: int | None = None) -> str:
    """One line: cores, load, threads, versions."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", *packages))
    load = "/".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{len(os.sched_getaffinity(0))} cores, load {load} at the start, {threads or 'default'} threads; {versions}"


def interleave(contenders: dict[str, Callable[[], float]], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """{name: what each round returned}; warm: a first round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + warm):
        for name in list(contenders)[:: 1 if i % 2 else -1]:
            value = contenders[name]()
            if i >= warm:
                found[name].append(value)
                print(f"  round {i + 1 - warm}: {name} {value:.4g}", file=sys.stderr, flush=True)
    return found


def spread(values: list[float]) -> str:
    """Median [least, most]"""
    return f"{np.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def report(found: dict[str, list[float]], ours: str, targets: dict[str, str], unit: str) -> None:
    """A line a contender, then our time over each other's, which is better below 1. targets: {contender: what was aimed at}."""
    for name, values in found.items():
        print(f"  {name:<34} {spread(values)} {unit}")
    for name, target in targets.items():
        ratios = [a / b for a, b in zip(found[ours], found[name], strict=True)]
        print(f"  {ours} / {name}: {spread(ratios)}, {len(ratios)} rounds ({target})", flush=True)


def alone(*command: str) -> dict:
    """What a fresh process printed as JSON on its last line."""
    out = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    return json.loads(out.stdout.splitlines()[-1])
