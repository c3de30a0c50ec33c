"""What a run writes while it learns: metrics.jsonl, and tensorboard/ beside it, a folder for each stage."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .home import write

Log = Callable[[str, dict[str, Any]], None]
"""log(event, facts): stage, step, note. The command line draws progress from it."""


class Curves:
    """A resumed run drops the lines after its checkpoint: they will be written again."""

    def __init__(self, folder: Path):
        self.path = folder / "metrics.jsonl"
        self.lines: list[dict[str, Any]] = []
        if self.path.is_file():
            for line in self.path.read_text("utf-8", "replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # cut short or damaged: a point of a curve, no more
                    line = json.loads(line)
                    self.lines += [line] if line["stage"] and line["step"] >= 0 else []
        self.file = None
        self.boards: dict[str, Any] = {}  # of each stage
        self.folder = folder
        self.began = time.perf_counter()

    def writer(self, stage: str, log: Log) -> Callable[[dict[str, Any]], None]:
        def write_line(line: dict[str, Any]) -> None:
            if stage not in self.boards:
                self._open(stage, line["step"])
            line = {"stage": stage, **line, "seconds": round(time.perf_counter() - self.began, 3)}
            self.lines.append(line)
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            for k, v in line.items():
                if isinstance(v, float) and k != "seconds":
                    self.boards[stage].add_scalar(k, v, line["step"])
            log("step", line)

        return write_line

    def _open(self, stage: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self.file is None:
            self.lines = [line for line in self.lines if line["stage"] != stage or line["step"] < step]
            write(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self.boards[stage] = SummaryWriter(str(self.folder / "tensorboard" / stage), purge_step=step)  # readers forget what a cut run wrote after that

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        for board in self.boards.values():
            board.close()
