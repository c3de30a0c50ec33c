"""How much memory is free, and a net that would not fit: refused while its sizes are counted, before its tensors are made.

A width of 100,000,000 is a slip of the keyboard that ended in the kernel's killer, and a depth of 1,000,000 in minutes of silence.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .errors import refuse

TRAINED = 5  # as often is a net held while it learns: weights, gradients, two moments, the best so far
TENSORS = 30_000  # the most of one part: each costs a call in every step, and some kilobytes beside what it holds
MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


class Room(TorchFunctionMode):
    """Counts every tensor that is about to be made; a `Refusal` where so many bytes, `times` over, are more than is free."""

    def __init__(self, where: str, times: int = 1, fix: str = "a smaller width, depth or rank; or a machine with more memory"):
        super().__init__()
        self.where, self.times, self.fix, self.free = where, times, fix, free()
        self.bytes = self.tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in MAKERS and str(kwargs.get("device")) != "meta":
            size = kwargs.get("size", args[0] if args and isinstance(args[0], Sequence) else args)
            self.count(math.prod(size) * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize)
        return func(*args, **kwargs)

    def count(self, size: int) -> None:
        """So many bytes more, of one tensor."""
        self.bytes, self.tensors = self.bytes + size, self.tensors + 1
        if self.bytes * self.times > self.free:
            what = f"{self.where} takes {self.bytes / 1e9:.3g} GB or more, and {self.free / 1e9:.3g} GB of memory are free"
            why = "it is held five times over: weights, gradients, two moments and the best so far" if self.times > 1 else ""
            raise refuse("memory.model", what, why=why, where=self.where, fix=self.fix)
        if self.tensors > TENSORS:
            what, why = f"{self.where} has more than {TENSORS:,} tensors", "each costs calls in every step, and memory beside what it holds"
            raise refuse("memory.model", what, why=why, where=self.where, fix="a smaller depth; a greater width takes its place")


def free() -> int:
    """Bytes of memory that may still be taken: what the machine has free, and no more than this group of processes may hold."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found = min(found, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return found
