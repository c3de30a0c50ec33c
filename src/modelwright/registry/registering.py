"""How a run's folder becomes a version: copied beside its place, listed and signed there, and renamed into place under the database's lock, so that a
version is whole or not there. The same content again is the version that it already is.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..errors import refuse
from ..home import unseal
from . import objects, signing, trail
from .base import Base
from .database import Session
from .versions import Version, place


def register(registry: Base, folder: Path, name: str, *, key: Path | None, who: str | None, at: str | None) -> Version:
    half = registry.objects / f".half-{hashlib.sha256(f'{folder}{name}'.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}-{_unique()}"
    try:
        files = objects.stage(folder, half)
        _as_saved(half, files, folder)
        digest, model = objects.digest_of(files), objects.model_digest(files)
        lineage = _lineage(half)
        if key is not None and not key.is_file():  # only the home's own is made on first use
            raise refuse("key.missing", f"{key} does not exist", where=str(key), fix="name a file with a key, or none: the home's own is taken")
        secret = signing.key_at(key or registry.keys / signing.DEFAULT)
        signing.trust(registry.keys, signing.public(secret))
        (half / objects.MANIFEST).write_text(signing.manifest(files, secret), "utf-8")
        objects.seal(half)

        def work(db: Session) -> int:
            _put(registry, half, digest)
            known = db("SELECT version FROM version WHERE name = ? AND digest = ?", name, digest)
            if known:
                return known[0][0]
            number = db("SELECT coalesce(max(version), 0) + 1 FROM version WHERE name = ?", name)[0][0]
            row = (name, number, digest, model, json.dumps(lineage, ensure_ascii=False, sort_keys=True))
            db("INSERT INTO version (name, version, digest, model, lineage) VALUES (?, ?, ?, ?, ?)", *row)
            details = {"model": model, "key": signing.public(secret)}
            trail.add(db, "register", who=who, at=at, name=name, version=number, digest=digest, details=details)
            return number

        number = registry.transaction(work)
    finally:
        objects.remove(half)
    return Version(name, number, digest, model, lineage, place(registry.objects, digest))


def _put(registry: Base, half: Path, digest: str) -> None:
    """Into its place by rename; bytes that are there already are kept if they are whole, and set aside if not."""
    there = place(registry.objects, digest)
    if there.exists():
        if not signing.verify(there, digest, signing.trusted(registry.keys)):
            return
        bad = there.with_name(f".bad-{there.name}-{_unique()}")
        there.chmod(0o755)
        there.rename(bad)
    half.chmod(0o755)
    half.rename(there)
    there.chmod(0o555)


def _as_saved(half: Path, files: objects.Files, source: Path) -> None:
    """A model of ours carries its own digest and that of its weights; refused where they are not these. One from elsewhere has no model.json."""
    said, fix = {f["path"]: f["sha256"] for f in files}, "take another copy of the run, or run its task again"
    if "model/model.json" not in said:
        if "plan.json" in said:
            raise refuse("registry.no_model", f"{source} holds a run without model.json", where=str(source / "model"), fix=fix)
        return
    try:
        weights = unseal(half / "model" / "model.json").get("weights")
        if weights is not None and weights != said.get("model/model.safetensors"):
            raise ValueError("its weights are not those that were saved")
    except (ValueError, RecursionError) as e:
        raise refuse("model.corrupt", f"the model cannot be read: {e}", where=str(source / "model"), fix=fix) from e


def _lineage(folder: Path) -> dict[str, Any]:
    """data, code, parents and what stages state of themselves (privacy), from lineage.json; empty where there is none."""
    path = folder / "lineage.json"
    if not path.exists():
        return {"parents": []}
    try:
        said = json.loads(path.read_bytes())
        statements = [s["statement"] for s in said.get("stages", []) if s.get("statement")]
        parents = [p if isinstance(p, str) else json.dumps(p, sort_keys=True) for p in said.get("parents", [])]
        return {"data": said.get("data", {}), "code": said.get("code"), "parents": parents, "statements": statements}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise refuse("registry.lineage", f"lineage.json cannot be read: {e}", where=str(path), fix="take the file that the run wrote") from e


def _unique() -> str:
    return f"{os.getpid()}-{os.urandom(4).hex()}"
