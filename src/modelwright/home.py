"""Where Modelwright keeps what is its own (registry, caches), and where data sets lie that stand in for the hub.

`MODELWRIGHT_HOME`, else the platform's user data folder; `MODELWRIGHT_DATA`, if set. Only the front door reads these: components never do.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import getpass
import hashlib
import json
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .errors import Refusal, refuse


def home() -> Path:
    """The folder itself, absolute; made when it is first asked for. Refused where it cannot be made."""
    given = os.environ.get("MODELWRIGHT_HOME")
    try:
        path = Path(os.path.abspath(Path(given).expanduser() if given else _user_data() / "modelwright"))
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as e:  # RuntimeError: a user without a home directory
        raise refuse(
            "home.unwritable", f"cannot make {given or 'the user data folder'}: {e}", where="MODELWRIGHT_HOME", fix="name a folder you may write to"
        ) from e
    return path


def cache() -> Path:
    """What can be made again: converted tables, decoded columns. Where the home cannot be written, a folder that goes with the process."""
    try:
        path = home() / "cache"
        path.mkdir(exist_ok=True)
    except (Refusal, OSError):
        return _scratch()
    return path if os.access(path, os.W_OK) else _scratch()


@functools.cache
def _scratch() -> Path:
    made = tempfile.TemporaryDirectory(prefix="modelwright-")
    atexit.register(made.cleanup)
    return Path(made.name)


def known_key() -> bytes | None:
    """See `key`; None where nobody has asked for it yet."""
    path = home() / "rows.key"
    return path.read_bytes() if path.exists() else None


def key() -> bytes:
    """The 32 random bytes of this home, for its owner's eyes: what is kept of rows is hashed with them. Made when they are first asked for."""
    path = home() / "rows.key"
    if not path.exists():
        half = path.with_name(f".rows.key.{os.getpid()}")
        try:
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
                f.write(os.urandom(32))
        except OSError as e:
            if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise refuse("home.unwritable", f"cannot write to {home()}: {e.strerror}", where="MODELWRIGHT_HOME", fix="name a folder you may write to") from e
        with contextlib.suppress(FileExistsError):  # of two at once the first one's counts
            os.link(half, path)
        half.unlink()
    return path.read_bytes()


def data() -> Path | None:
    """The folder that stands in for the data set hub, or None."""
    given = os.environ.get("MODELWRIGHT_DATA")
    return Path(os.path.abspath(Path(given).expanduser())) if given else None


def _user_data() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def write(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text, "utf-8")
        half.replace(path)
    except OSError as e:
        raise OSError(e.errno, e.strerror, str(path)) from e  # a full disk names no file by itself
    finally:
        with contextlib.suppress(OSError):
            half.unlink()


def plain(path: Path) -> Path:
    """Itself; ValueError where it is a folder, or a pipe or device, which could be read for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path.name} is no plain file")
    return path


def sealed(body: Any) -> str:
    """JSON that carries the digest of what it says."""
    body = json.loads(json.dumps(body, default=str))
    return json.dumps(body | {"sha256": _digest(body)}, indent=1, ensure_ascii=False)


def unseal(path: Path, *keys: str) -> dict[str, Any]:
    """What `sealed` wrote, with at least these keys. Raises ValueError where it is cut short or not as it was written; older files carry no digest."""
    body = json.loads(plain(path).read_text("utf-8"))
    if not isinstance(body, dict) or not body.keys() >= {*keys} or body.get("sha256", seal := _digest(body)) != seal:
        raise ValueError("it is not as it was written")
    return {k: v for k, v in body.items() if k != "sha256"}


def kept(path: Path, *keys: str) -> dict[str, Any]:
    """The same of a run's own file, refused in words."""
    try:
        return unseal(path, *keys)
    except (ValueError, RecursionError) as e:
        fix = "take another copy of it, or start a new run with another --out"
        raise refuse("run.damaged", f"{path.name} cannot be read: {e}", why="it was cut short or changed", where=str(path), fix=fix) from e


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps({k: v for k, v in body.items() if k != "sha256"}, sort_keys=True).encode()).hexdigest()


def registry_url() -> str | None:
    """MODELWRIGHT_REGISTRY_URL: a PostgreSQL database that several machines share as their registry. It may hold a password, so it is never shown."""
    return os.environ.get("MODELWRIGHT_REGISTRY_URL") or None


def now() -> str:
    """UTC, to the second, as the registry writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def user() -> str:
    """Who is at the front door: the name of the account."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return f"user {os.getuid()}"
