"""Content-addressed folders: an object is a folder named by the digest of what is in it. Read-only, written whole or not at all, checked when read.

The digest is sha256 over the canonical list of (path, sha256, size). `manifest.json` beside the files holds that list and its signature
(`signing.py`) and is not on it. Links of either sort, pipes and devices are no content: they are refused on the way in and found on the way out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Problem, Refusal, refuse

KEPT = ("model", "evidence.json", "lineage.json", "card.md", "report.html", "task.yaml", "plan.json", "rows.safetensors")  # of a run folder
MANIFEST = "manifest.json"
Files = list[dict[str, str | int]]  # path, sha256, size; sorted by path


@dataclass(frozen=True)
class Finding:
    """One way in which a folder is not what its manifest says."""

    kind: str  # changed, added, removed, renamed, linked, manifest, signature; of the database (whole.py): trail, database
    path: str
    text: str


def digest_of(files: Files) -> str:
    return f"sha256:{hashlib.sha256(canonical(files)).hexdigest()}"


def canonical(files: Files) -> bytes:
    """What is digested and signed: one spelling, no blanks."""
    return json.dumps({"files": files, "format": 1}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def model_digest(files: Files) -> str:
    """`digests.model_digest` of the object's model/, from its list: without reading the files again, and without what that module brings."""
    lines = [f"{str(f['path']).removeprefix('model/')}\0{f['sha256']}\n" for f in files if str(f["path"]).startswith("model/")]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def listing(folder: Path) -> tuple[Files, list[Finding]]:
    """What lies in an object's folder, less its manifest, and what has no business there. Follows no link."""
    files: Files = []
    odd: list[Finding] = []
    for path, found in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(found.st_mode):
            odd.append(Finding("linked", name, f"a symbolic link to {os.readlink(path)}"))
        elif stat.S_ISDIR(found.st_mode):
            if not any(path.iterdir()):
                odd.append(Finding("added", name, "an empty folder"))
        elif not stat.S_ISREG(found.st_mode):
            odd.append(Finding("added", name, "neither a file nor a folder"))
        else:
            if found.st_nlink > 1:
                odd.append(Finding("linked", name, f"{found.st_nlink} hard links to one file: a change elsewhere would change it"))
            if name != MANIFEST:
                with open(path, "rb") as f:
                    files.append({"path": name, "sha256": hashlib.file_digest(f, "sha256").hexdigest(), "size": found.st_size})
    return sorted(files, key=lambda f: f["path"]), odd


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = folder / entry.name
        yield path, path.lstat()
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path)


def compare(said: Files, found: Files) -> list[Finding]:
    """Changed, renamed, removed, added: from what a manifest says to what is there."""
    before, after = {f["path"]: f for f in said}, {f["path"]: f for f in found}
    gone, new = [f for p, f in before.items() if p not in after], [f for p, f in after.items() if p not in before]
    out = [Finding("changed", p, "other bytes than were registered") for p, f in before.items() if p in after and after[p] != f]
    for f in gone:
        moved = next((n for n in new if n["sha256"] == f["sha256"] and n["size"] == f["size"]), None)
        if moved:
            new.remove(moved)
            out.append(Finding("renamed", f["path"], f"it is called {moved['path']} now"))
        else:
            out.append(Finding("removed", f["path"], "it is not there"))
    out += [Finding("added", f["path"], "it was not registered") for f in new]
    repeated = [p for p, k in Counter(f["path"] for f in said).items() if k > 1]
    outside = [str(p) for p in before if str(p).startswith(("/", "\\")) or ".." in Path(str(p)).parts or "\\" in str(p)]
    return out + [Finding("manifest", str(p), "a path that leaves the object, or stands twice") for p in [*repeated, *outside]]


def stage(source: Path, half: Path) -> Files:
    """Copy what is kept of a run folder to half, and list the copy (not the source, which may change meanwhile)."""
    if not (source / "model").is_dir() or not any((source / "model").iterdir()):
        what = f"{source} holds no model" if source.is_dir() else f"{source} is not a folder"
        raise refuse("registry.no_model", what, where=str(source), fix="name a run's folder: it has model/, evidence.json, lineage.json")
    links = [path for name in KEPT if (source / name).is_symlink() or (source / name).exists() for path in _links(source / name)]
    if links:
        why = "what a link points to may change after it was signed"
        raise Refusal(Problem("registry.link", f"{p.name} is a link or no plain file", why, str(p), "put the file itself there") for p in links)
    half.mkdir(parents=True)
    for name in KEPT:
        if (source / name).is_dir():
            shutil.copytree(source / name, half / name, copy_function=shutil.copyfile)
        elif (source / name).exists():
            shutil.copyfile(source / name, half / name)
    return listing(half)[0]


def _links(path: Path) -> list[Path]:
    places = [(path, path.lstat()), *(_walk(path) if path.is_dir() and not path.is_symlink() else ())]
    return [p for p, s in places if not (stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode))]


def seal(folder: Path) -> None:
    """Read-only, files and folders."""
    for path, found in [*_walk(folder), (folder, folder.lstat())]:
        path.chmod(0o555 if stat.S_ISDIR(found.st_mode) else 0o444)


def remove(folder: Path) -> None:
    """A sealed folder, or none."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        for path, found in [(folder, folder.lstat()), *_walk(folder)]:
            if stat.S_ISDIR(found.st_mode):
                path.chmod(0o755)
        shutil.rmtree(folder)
