"""Paths: a file that may be opened, a folder's files in order, and paths found inside a table, which stay below the data's root.

Links are followed for the source that the user named, never inside a folder that is listed (so that links in a circle end), and only
below the root for paths that come out of a table.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from ...errors import did_you_mean, refuse

SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]+):")  # two letters at least: C:\ is a drive


def resolve(path: str, root: str | Path) -> Path:
    """The file that a table's cell names, below root; refused where it leads out (`..`, absolute, a link) or is a URL. Need not exist."""
    where = f"path {str(path)[:80]!r}"
    fix = "keep the files below the data's root and name them relative to it"
    if SCHEME.match(path):
        raise refuse("data.outside", "a path in the table is a URL", where=where, why="nothing is downloaded because a table says so", fix=fix)
    if not path.strip() or "\0" in path:
        raise refuse("data.outside", "a path in the table is empty or holds a NUL", where=where, fix=fix)
    base = os.path.realpath(root)
    full = os.path.realpath(os.path.join(base, path.replace("\\", "/")))
    if os.path.commonpath([base, full]) != base or _drive(path):
        raise refuse(
            "data.outside", f"a path in the table leads out of {root}", where=where, why="it is absolute, climbs with '..' or is a link out", fix=fix
        )
    return Path(full)


def _drive(path: str) -> bool:
    return os.name != "nt" and re.match(r"^[a-zA-Z]:[\\/]", path) is not None


def regular(path: Path, where: str) -> os.stat_result:
    """The status of a plain file with something in it that we may read; else refused. A pipe or device would never end."""
    name = path.name
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size:
            open(path, "rb").close()
    except (OSError, ValueError) as e:
        raise unreadable(path, e, where) from e
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a plain file (a pipe, socket or device)"
        raise refuse("data.not_a_file", f"{name} is {what}", where=where, fix="name a file")
    if not status.st_size:
        raise refuse("data.empty", f"{name} is empty (0 bytes)", where=where, fix="check that it was written or copied to its end")
    return status


def unreadable(path: Path, error: Exception, where: str):
    """The refusal for what the system says of a path."""
    name, code = str(path), getattr(error, "errno", None)
    if len(name) > 120:
        name = name[:117] + "..."
    if isinstance(error, UnicodeEncodeError):
        return refuse("data.missing_file", f"{name!r} has no name in this locale ({error.encoding})", where=where, fix="export PYTHONUTF8=1")
    if code == errno.ELOOP or isinstance(error, RuntimeError):
        return refuse("data.missing_file", f"{name} is a link in a circle", where=where, fix="name the file itself")
    if code in (errno.EACCES, errno.EPERM):
        return refuse("data.permission", f"{name} may not be read", where=where, why="permission denied", fix="give yourself the right to read it")
    if code in (errno.ENOENT, errno.ENOTDIR) and os.path.islink(path):
        return refuse("data.missing_file", f"{name} is a link to nothing", where=where, fix="name the file itself")
    if code in (errno.ENOENT, errno.ENOTDIR):
        return refuse("data.missing_file", f"{name} does not exist", where=where, why="paths are relative to the task file", fix=_near(path))
    return refuse("data.missing_file", f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}", where=where, fix="check the path")


def _near(path: Path) -> str:
    """A file of nearly that name beside it; a folder's whole listing is not anyone's business."""
    try:
        hint = did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        return "check the path"
    return hint if hint.startswith("did you mean") else "check the path"


def walk(folder: Path, where: str) -> tuple[list[Path], int]:
    """(files below the folder in order of their names, hidden ones left out; number of linked folders that were not entered)."""
    found, links = [], 0

    def stop(error: OSError) -> None:
        raise unreadable(Path(error.filename), error, where)

    for here, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        links += sum(os.path.islink(os.path.join(here, f)) for f in folders)
        found += [Path(here, f) for f in files if not f.startswith(".")]
    return sorted(found), links
