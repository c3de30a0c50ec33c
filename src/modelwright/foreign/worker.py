"""The process in which code that came with a model runs: `python -m modelwright.foreign.worker FILE.py:factory`. It is given inputs and never labels.

It reads frames from standard input and answers each on standard output: one letter, eight bytes of length, the content. "T" brings a table (Arrow),
"X" a batch of arrays (npz without pickles), "D" one to be differentiated in, "C" one whose work is counted; "Y" answers with an array (npy), or several
by name (npz), "E" with the error's text, "K" says first what the factory made. "L" asks for a list of the files that it has read (JSON).
What the code prints goes to standard error. The parent is `process.Worker`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .reads import Reads, table_of

BOTH = ("probabilities", "decisions")


def send(pipe: BinaryIO, letter: bytes, content: bytes) -> None:
    pipe.write(letter + struct.pack("<Q", len(content)) + content)
    pipe.flush()


def receive(pipe: BinaryIO) -> tuple[bytes, bytes] | None:
    """(letter, content), or None at the end."""
    head = pipe.read(9)
    if len(head) < 9:
        return None
    size = struct.unpack("<Q", head[1:])[0]
    content = pipe.read(size)
    return (head[:1], content) if len(content) == size else None


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def unpack(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {k: found[k] for k in found.files}


def named(path: str) -> Any:
    """The function that `FILE.py:name` names."""
    file, _, name = path.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(Path.cwd() / Path(file).name)  # weights are looked for beside it, not beside its frozen copy
    sys.path.insert(0, str(Path(file).parent))
    spec.loader.exec_module(module)
    return getattr(module, name)


def load(path: str) -> Any:
    """What `FILE.py:factory` makes: a module in its evaluation mode, or a function."""
    made = named(path)()
    if is_module(made):
        made.eval()
    return made


def is_module(made: Any) -> bool:
    return any(c.__module__.startswith("torch.nn") for c in type(made).__mro__)


def answer(made: Any, letter: bytes, content: bytes) -> bytes:
    if letter == b"D":
        return pack(differentiated(made, unpack(content)))
    if letter == b"C":
        return pack(counted(made, unpack(content)))
    found = said(made, letter, content)
    if isinstance(found, dict):
        return pack(found)
    out = io.BytesIO()
    np.save(out, found, allow_pickle=False)
    return out.getvalue()


def said(made: Any, letter: bytes, content: bytes) -> np.ndarray | dict[str, np.ndarray]:
    """Numbers, or (B,) texts where a function gives texts; both by name, where it gives decisions beside probabilities."""
    if letter == b"T":
        out = made(table_of(content))
        if isinstance(out, dict):
            if {*out} != {*BOTH}:
                raise TypeError(f"a dict of {', '.join(map(str, out))}: it should be of {' and '.join(BOTH)}")
            decided = np.asarray(out["decisions"])
            return {"probabilities": np.asarray(out["probabilities"], np.float64), "decisions": decided.astype(str) if decided.dtype == object else decided}
        out = stacked(out)
        if out.dtype.kind == "c":
            raise TypeError("complex numbers")
        written = out.dtype.kind == "U" or (out.dtype.kind == "O" and all(isinstance(v, str) for v in out.tolist()))
        return out.astype(str if written else np.float64)
    import torch

    with torch.no_grad():
        return asked(made, unpack(content)).detach().cpu().double().numpy()


def asked(made: Any, arrays: dict[str, np.ndarray]) -> Any:
    import torch

    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    return made(next(iter(tensors.values())) if len(tensors) == 1 else tensors)


def counted(made: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{"operations": of the module's answer to these, "parameters"}"""
    import torch

    from ..operations import Counted

    with Counted() as work, torch.no_grad():
        asked(made, arrays)
    return {"operations": np.array(work.total), "parameters": np.array(sum(p.numel() for p in made.parameters()))}


def stacked(out: Any) -> np.ndarray:
    """An array; of a list of arrays (n, D), boxes say, of which some rows have more than others, padded with zeros to the longest."""
    if isinstance(out, (list, tuple)) and out and all(getattr(row, "ndim", 0) == 2 for row in out):
        rows = [np.asarray(row, np.float64) for row in out]
        whole = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]))
        for i, row in enumerate(rows):
            whole[i, : len(row)] = row
        return whole
    return np.asarray(out)


def differentiated(made: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{"answer": (B, K)} of the one input; with a "cotangent" {"gradient"} of its product with the answer; with a "draw", of redrawn weights.
    With a "count" also the "operations" of the answer."""
    import torch

    from ..explainer import Redrawn
    from ..operations import Counted

    (x,) = [torch.from_numpy(a) for name, a in arrays.items() if name.startswith("input.")]
    backwards = "cotangent" in arrays
    redrawn = Redrawn(int(arrays["draw"])) if "draw" in arrays else None
    work = Counted() if "count" in arrays else None
    with redrawn or contextlib.nullcontext(), work or contextlib.nullcontext(), torch.set_grad_enabled(backwards):
        out = made(x.requires_grad_(backwards))
    found = {"redrew": np.array(len(redrawn.weights) if redrawn else 0), "operations": np.array(work.total if work else 0)}
    if not backwards:
        return found | {"answer": out.cpu().numpy()}
    slope = None
    if out.requires_grad:
        total = (out * torch.from_numpy(arrays["cotangent"]).reshape(out.shape).to(out)).sum()
        (slope,) = torch.autograd.grad(total, x, allow_unused=True)
    return found | {"gradient": np.zeros(x.shape, np.float32) if slope is None else slope.cpu().numpy()}


def leave_with(parent: int) -> None:
    """End this process when its parent has: one that was killed could not say so, and what is at work here may never read the pipe again."""
    while os.getppid() == parent:
        time.sleep(1.0)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with whatever it started
    os._exit(1)


def serve(make: Callable[[str], Any], answer: Callable[[Any, bytes, bytes], bytes]) -> None:
    """Make what the command line names, then answer frames until the pipe ends."""
    threading.Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()
    pipe_in, pipe_out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a print in the model's code must not tear a frame
    try:
        reads = Reads(sys.argv[1].rpartition(":")[0], Path.cwd())
        made = make(sys.argv[1])
        send(pipe_out, b"K", json.dumps({"module": is_module(made), "callable": callable(made)}).encode())
    except BaseException as e:  # noqa: BLE001 - whatever the user's code raises is told to the parent
        send(pipe_out, b"E", f"{type(e).__name__}: {e}".encode(errors="backslashreplace"))
        return
    while (frame := receive(pipe_in)) is not None:
        try:
            with reads.about(*frame):
                out = json.dumps(reads.files()).encode() if frame[0] == b"L" else answer(made, *frame)
            send(pipe_out, b"Y", out)
        except BaseException as e:  # noqa: BLE001
            send(pipe_out, b"E", f"{type(e).__name__}: {e}".encode(errors="backslashreplace"))


if __name__ == "__main__":
    serve(load, answer)
