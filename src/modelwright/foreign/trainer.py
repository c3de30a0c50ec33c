"""A private training step from elsewhere, as an audit may ask it. What `file.py:factory` makes has

    sample(step) -> row indices      privatize(gradients (B, D), step) -> (D,)      restart(seed)
    n, q, sigma, clip, steps, delta, layers, expected_batch

A fresh object of the factory is asked; `restart(seed)` begins its draws anew. `layers` says how the D coordinates are cut: sizes, boundaries that begin
with 0, (start, stop) pairs, slices, shapes, or a dict of these. Gradients come as numpy's float64; where the first call fails on them, as torch's
float32 from then on. `Held` performs calls on the object, in a process of its own: `python -m modelwright.foreign.trainer FILE.py:factory`. `Trainer` asks for
them, many steps at a time, and stops asking when its time is over.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import refuse
from .process import Worker
from .worker import load, pack, send, serve, unpack

METHODS = ("sample", "privatize", "restart")
FACTS = ("n", "q", "sigma", "clip", "steps", "delta", "expected_batch")
SLICE = 1.0  # seconds that one call across the processes should take


class Held:
    """The object in its process. Letters: "R" restart, "S" sample, "P" privatize."""

    def __init__(self, made: Any):
        self.made, self.torch = made, None

    def __call__(self) -> None:
        """So that the parent finds something callable."""

    def answer(self, letter: bytes, content: bytes) -> bytes:
        if letter == b"F":
            return pack({"facts": np.frombuffer(json.dumps(self.told()).encode(), np.uint8)})
        return pack({"out": self.perform(letter, unpack(content))})

    def told(self) -> dict[str, Any]:
        """What the object says of itself, for JSON; candidates for the cuts, best first."""
        facts = {f: float(v) if isinstance(v := getattr(self.made, f, None), (int, float, np.number)) else None for f in FACTS}
        sized = next((int(v) for f in ("D", "d", "dim", "dimension") if isinstance(v := getattr(self.made, f, None), (int, np.integer))), None)
        cuts = candidates(getattr(self.made, "layers", None))
        lacks = [m for m in METHODS if not callable(getattr(self.made, m, None))]
        return facts | {"lacks": lacks, "cuts": [c for c in cuts if sized in (None, c[-1][1])] or ([[[0, sized]]] if sized else cuts)}

    def perform(self, letter: bytes, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        if letter == b"R":
            self.made.restart(int(arrays["seed"]))
            return np.zeros(0)
        steps = arrays["steps"].tolist()
        if letter == b"S":
            drawn = [rows_of(self.made.sample(t)) for t in steps]
            return np.concatenate([np.array([len(d) for d in drawn], np.int64), *drawn])
        return np.array([self._privatize(arrays["gradients"], t) for t in steps], np.float64)

    def _privatize(self, gradients: np.ndarray, step: int) -> np.ndarray:
        """On a copy: some clip in place."""
        if self.torch is None:
            try:
                out = self.made.privatize(gradients.copy(), step)
                self.torch = False
            except Exception:  # noqa: BLE001 - it may want tensors; if not, it fails again
                out, self.torch = self.made.privatize(_tensor(gradients), step), True
        else:
            out = self.made.privatize(_tensor(gradients) if self.torch else gradients.copy(), step)
        out = np.asarray(out.detach().cpu() if hasattr(out, "detach") else out, np.float64)
        if out.shape != gradients.shape[1:]:
            raise ValueError(f"privatize gave shape {out.shape} for gradients {gradients.shape}")
        return out


def _tensor(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x.astype(np.float32))


def rows_of(drawn: Any) -> np.ndarray:
    """(B,) int64 of indices, or of a mask."""
    found = np.asarray(drawn.detach().cpu() if hasattr(drawn, "detach") else list(drawn) if not isinstance(drawn, np.ndarray) else drawn)
    if found.dtype == bool:
        return np.flatnonzero(found)
    if found.size and not np.array_equal(found, found.astype(np.int64)):
        raise ValueError("sample gave row indices that are no integers")
    return found.reshape(-1).astype(np.int64)


def candidates(layers: Any) -> list[list[list[int]]]:
    """The ways to read `layers`, each as [[start, stop], ...]; the likeliest first."""
    items = list(layers.values()) if isinstance(layers, Mapping) else [layers] if isinstance(layers, (int, np.integer)) else list(layers or ())
    items = [x[1] if isinstance(x, (tuple, list)) and len(x) == 2 and isinstance(x[0], str) else x for x in items]
    items = [tuple(x[1:]) if isinstance(x, (tuple, list)) and x and isinstance(x[0], str) else x for x in items]
    items = [(x.start or 0, x.stop) if isinstance(x, slice) else tuple(x) if isinstance(x, (tuple, list, np.ndarray)) else int(x) for x in items]
    if not items:
        return [[[0, 64]]]  # nothing is said: any number should do
    if all(isinstance(x, int) for x in items):
        ends, sizes = _joined(items), _joined([0, *itertools.accumulate(items)])
        return [c for c in ([ends, sizes] if items[0] == 0 else [sizes, _joined([0, *items])]) if c]
    shapes = [(x,) if isinstance(x, int) else x for x in items]
    found = [_joined([0, *itertools.accumulate(math.prod(s) for s in shapes)])]
    if all(len(s) == 2 for s in shapes):
        ends = [0, *(b for _, b in shapes)]
        starts = [a for a, _ in shapes]
        found = [_joined(ends)] * (starts == ends[:-1]) + [_joined([*starts, sum(shapes[-1])])] * (starts[0] == 0) + found
    return [c for c in found if c]


def _joined(ends: list[int]) -> list[list[int]]:
    """Spans between boundaries that rise; else none."""
    return [[int(a), int(b)] for a, b in itertools.pairwise(ends)] if len(ends) > 1 and all(a < b for a, b in itertools.pairwise(ends)) else []


class Trainer:
    """A trainer as audits see it. ask(letter, arrays) -> array; facts: as `Held.told`. `spans`, `dimensions`: of the gradients."""

    def __init__(self, ask: Callable[[bytes, dict[str, np.ndarray]], np.ndarray], facts: dict[str, Any]):
        self.ask, self.facts, self.until, self.spans = ask, facts, math.inf, []
        if facts["lacks"]:
            what = f"the trainer has no {', '.join(facts['lacks'])}"
            raise refuse("trainer.factory", what, where="--trainer", fix="return an object with sample(step), privatize(gradients, step), restart(seed)")
        failed = None
        for spans in facts["cuts"]:
            try:
                self.restart(0)
                self.ask(b"P", {"gradients": np.full((2, spans[-1][1]), 1e-9), "steps": np.array([0])})
                self.spans = spans
                break
            except Exception as e:  # noqa: BLE001 - whatever its code raises: another reading may do
                failed = e
        if not self.spans:
            why = f"layers were read as {', '.join(str(c[-1][1]) for c in facts['cuts'])} coordinates"
            fix = "let `layers` be sizes, or boundaries from 0 to D"
            raise refuse("trainer.privatize", f"privatize fails on two small gradients: {failed}", why=why, fix=fix) from failed
        self.dimensions = self.spans[-1][1]

    @property
    def late(self) -> bool:
        return time.perf_counter() > self.until

    def restart(self, seed: int) -> None:
        self.ask(b"R", {"seed": np.array(seed)})

    def sample(self, steps: list[int]) -> list[np.ndarray]:
        """Row indices of each step; fewer where the time is over."""
        found: list[np.ndarray] = []
        for part in self._parts(steps):
            flat = self.ask(b"S", {"steps": np.array(part)}).astype(np.int64)
            found += np.split(flat[len(part) :], np.cumsum(flat[: len(part)])[:-1])
        return found

    def privatize(self, gradients: np.ndarray, steps: list[int]) -> np.ndarray:
        """(T, D) of the same gradients (B, D) at each step; fewer where the time is over."""
        found = [self.ask(b"P", {"gradients": gradients, "steps": np.array(part)}) for part in self._parts(steps)]
        return np.concatenate(found) if found else np.zeros((0, self.dimensions))

    def before_momentum(self, gain: float, b: float, c: float) -> Trainer:
        """The same before y_t = b y_{t-1} + gain u_t + c u_{t-1} was made of its releases u_t, which is for everybody to do and to undo."""
        y = u = 0.0

        def ask(letter: bytes, arrays: dict[str, np.ndarray]) -> np.ndarray:
            nonlocal y, u
            out = self.ask(letter, arrays)
            if letter == b"R":
                y = u = 0.0
            if letter != b"P":
                return out
            found = np.empty_like(out)
            for t, now in enumerate(out):
                y, u = now, (now - b * y - c * u) / gain
                found[t] = u
            return found

        return Trainer(ask, self.facts)

    def _parts(self, steps: list[int]):
        """Growing slices that take about a second each, so that a limit of time is kept."""
        start, size = 0, 1
        while start < len(steps) and not self.late:
            began = time.perf_counter()
            yield steps[start : start + size]
            took, start = time.perf_counter() - began, start + size
            size = max(1, min(8 * size, int(size * SLICE / max(took, 1e-6))))


class Theirs(Worker):
    whose = "the trainer's"

    def __init__(self, path: str):
        super().__init__(path, "modelwright.foreign.trainer")

    def answered(self, letter: bytes, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            send(self.process.stdin, letter, pack(arrays))
        except BrokenPipeError:
            raise self._ended() from None
        return unpack(self._answer(b"Y"))


def there(path: str) -> tuple[Trainer, str]:
    """Of `file.py:factory`, in a process of its own; and the digest of the file."""
    worker = Theirs(path)
    facts = json.loads(worker.answered(b"F", {})["facts"].tobytes())
    return Trainer(lambda letter, arrays: worker.answered(letter, arrays)["out"], facts), worker.digest


def here(made: Any) -> Trainer:
    """Of an object in this process: what tests and benchmarks audit."""
    held = Held(made)
    return Trainer(held.perform, held.told())


def read_statement(path: str | Path) -> dict[str, Any]:
    """The statement of a training: a JSON object. Raises a Refusal."""
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except OSError as e:
        raise refuse("trainer.statement", f"{path} cannot be read: {e.strerror}", where="--statement", fix="name a JSON file") from e
    except ValueError as e:
        raise refuse("trainer.statement", f"{path} is no JSON: {e}", where="--statement", fix="write one JSON object") from e
    if not isinstance(found, dict) or not isinstance(found.get("claim"), dict):
        fix = '{"claim": {"epsilon": 3, "delta": 1e-5, "accountant": "pld", "neighbours": "add/remove"}, "rows": ..., "sample_rate": ..., ...}'
        raise refuse("trainer.statement", f"{path} holds no claim", where="--statement", fix=fix)
    return found


if __name__ == "__main__":
    serve(lambda path: Held(load(path)), Held.answer)
