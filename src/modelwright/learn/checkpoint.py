"""Checkpoints: any tree of tensors, numbers, texts, lists and dicts as safetensors + JSON, written whole or not at all.

A checkpoint is a folder that appears by rename, with the digest of all that it holds inside. Loading takes the newest that is whole, so that one cut short
by a full disk or a kill costs a step back, never the run. Nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import Problem, Stopped

KEEP = 2


def flatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON, its tensors moved to `tensors`."""
    if isinstance(tree, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[flatten(k, tensors), flatten(v, tensors)] for k, v in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [flatten(v, tensors) for v in tree]}
    assert tree is None or isinstance(tree, (bool, int, float, str)), f"{type(tree).__name__} cannot be checkpointed"
    return tree


def unflatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((form, value),) = node.items()
    if form == "tensor":
        return tensors[value]
    if form == "dict":
        return {unflatten(k, tensors): unflatten(v, tensors) for k, v in value}
    return (list if form == "list" else tuple)(unflatten(v, tensors) for v in value)


def save(folder: Path, step: int, tree: dict[str, Any]) -> None:
    """Write folder/step-<step>, keep the last two."""
    final = folder / f"step-{step:09d}"
    half = folder / ".half"  # one run per folder at a time: what lies there was cut short
    try:
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        body = flatten(tree, tensors)
        save_file(tensors, half / "tensors.safetensors")
        text = json.dumps({"format": 2, "step": step, "sha256": _digest(half / "tensors.safetensors", body), "state": body})
        with open(half / "state.json", "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        if final.exists():
            shutil.rmtree(final)
        half.rename(final)
    except (OSError, SafetensorError) as e:
        if isinstance(e, SafetensorError) or e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Stopped(Problem("disk.full", f"no room for a checkpoint in {folder}", fix="free some space and go on with --resume")) from e
        raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint, or None."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if (body := _whole(path)) is not None:  # else the one before it will do
            return unflatten(body, load_file(path / "tensors.safetensors"))
    return None


def damaged(folder: Path) -> list[str]:
    """Names of those that are not as they were written."""
    return [path.name for path in sorted(folder.glob("step-*")) if _whole(path) is None]


def _whole(path: Path) -> Any:
    """The state's tree without its tensors; None where it was cut short or changed."""
    state, tensors = path / "state.json", path / "tensors.safetensors"
    try:
        if not (state.is_file() and tensors.is_file()):  # a pipe or a device could be read for ever
            return None
        body = json.loads(state.read_text("utf-8"))
        return body["state"] if _digest(tensors, body["state"]) == body["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(tensors: Path, body: Any) -> str:
    with open(tensors, "rb") as f:
        found = hashlib.file_digest(f, "sha256")
    found.update(json.dumps(body).encode())
    return found.hexdigest()


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's state, copied to the CPU."""
    return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
