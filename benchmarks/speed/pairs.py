"""Interleaved pairs: every round runs each contender once, there and back (A B C, C B A, ...), so that whatever else the machine does falls on all.

A ratio is taken within a round, ours over theirs, then the median over rounds with the least and the most. Every time is a pair (elapsed, of this
process on the processor): other work on the machine lengthens the first, much less the second, which in turn does not see threads waiting or helpers.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable

import numpy as np


def machine(*packages: str, threads: int | None = None) -> str:
    """One line: cores, load, threads, versions."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", *packages))
    load = "/".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{len(os.sched_getaffinity(0))} cores, load {load} at the start, {threads or 'default'} threads; {versions}"


def now() -> np.ndarray:
    """(elapsed, processor) in seconds"""
    return np.array([time.perf_counter(), time.process_time()])


def interleave(contenders: dict[str, Callable[[], np.ndarray]], rounds: int, warm: int = 1) -> dict[str, np.ndarray]:
    """{name: (rounds, 2)}, each call's (elapsed, processor) times; the first `warm` rounds do not count."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for i in range(rounds + warm):
        for name in list(contenders)[:: 1 if i % 2 else -1]:
            pair = contenders[name]()
            if i >= warm:
                found[name].append(pair)
                print(f"  round {i + 1 - warm}: {name} {pair[0]:.4g}, processor {pair[1]:.4g}", file=sys.stderr, flush=True)
    return {name: np.array(pairs) for name, pairs in found.items()}


def spread(values: np.ndarray) -> str:
    """Median [least, most]"""
    return f"{np.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def report(found: dict[str, np.ndarray], ours: str, aims: dict[str, str], unit: str) -> None:
    """A line a contender, then our time over each other's: below 1 is better. aims: {contender: what was hoped for}."""
    for name, pairs in found.items():
        print(f"  {name:<24} {spread(pairs[:, 0])} {unit}; processor {spread(pairs[:, 1])}")
    for name, aim in aims.items():
        elapsed, processor = (found[ours] / found[name]).T
        print(f"  {ours} / {name}: {spread(elapsed)}; processor {spread(processor)}; {len(elapsed)} rounds ({aim})", flush=True)
