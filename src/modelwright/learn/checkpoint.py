"""Checkpoints: any tree of tensors, numbers, texts, lists and dicts as safetensors + JSON, written whole or not at all.

A checkpoint is a folder that appears by rename, with the digest of its tensors inside. Loading takes the newest that is whole, so that one cut short
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
    half = folder / f".half-{os.getpid()}"
    try:
        half.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        body = flatten(tree, tensors)
        save_file(tensors, half / "tensors.safetensors")
        digest = _digest(half / "tensors.safetensors")
        text = json.dumps({"format": 1, "step": step, "sha256": digest, "state": body})
        with open(half / "state.json", "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        if final.exists():
            shutil.rmtree(final)
        half.rename(final)
    except (OSError, SafetensorError) as e:
        shutil.rmtree(half, ignore_errors=True)
        if isinstance(e, SafetensorError) or e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Stopped(Problem("disk.full", f"no room for a checkpoint in {folder}", fix="free some space and go on with --resume")) from e
        raise
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint, or None."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            body = json.loads((path / "state.json").read_text("utf-8"))
            if _digest(path / "tensors.safetensors") == body["sha256"]:
                return unflatten(body["state"], load_file(path / "tensors.safetensors"))
        except (OSError, ValueError, KeyError):
            continue  # cut short: the one before it will do
    return None


def _digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's state, copied to the CPU."""
    return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
