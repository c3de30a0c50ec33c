"""What goes wrong, said so that the reader can mend it: where, what, why and fix; all of it at once.

A `Problem` is one finding. Code that checks collects problems and raises one `Refusal` with all of them; the command line prints
them and leaves with `status`. A user's mistake never shows a traceback; an error of our own does, with a line that asks for a report.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    code: str  # `<area>.<what>`, lower case, stable: scripts may rely on it
    what: str  # the fact, with both values: "num_heads (7) must divide width (64)"
    why: str = ""
    where: str = ""  # "task.yaml: stages.1.finetune.lr", "patients.csv: line 7"
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class ModelwrightError(Exception):
    """Base of the errors a user can meet. `status` is the command's exit status."""

    status = 1

    def __init__(self, problems: Problem | Iterable[Problem]):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class Refusal(ModelwrightError):
    """Refused before any work: a bad task, data, model or usage, or a conflict that the plan found."""

    status = 2


class Stopped(ModelwrightError):
    """Stopped by the world: disk, memory, time limit, divergence. What was done is kept; `--resume` goes on."""

    status = 4


def refuse(code: str, what: str, *, why: str = "", where: str = "", fix: str = "") -> Refusal:
    """One problem as an exception: `raise refuse("data.missing", ...)`."""
    return Refusal(Problem(code, what, why, where, fix))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """"did you mean 'lora'?" or the list of what exists (at most 12 names)."""
    choices = sorted(choices)
    near = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f"choose one of: {shown}" if choices else ""
