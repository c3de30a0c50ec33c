"""The auditor's report card: planted faults that must be refused for the right reason, and clean twins that must pass.

    python -m benchmarks.auditor [--draws N] [AREA ...]

Each area is a file here with KINDS: {name: Planted}. A draw has its own seed, which jitters sizes, names and severities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelwright.subject import Subject


@dataclass(frozen=True)
class Planted:
    """A kind of fault. make(seed, faulty) gives the subject, with the fault or as its clean twin; limits are what a careful user would declare."""

    make: Callable[[int, bool], Subject]
    audit: str  # whose job it is
    limits: dict[str, str]
    expects: str  # the reason code that must be among the refusal's reasons
    costly: bool = False
