"""Every way out of a command has its exit status (see the contract): 0 done, 2 refused before work, 3 not shown to hold, 4 stopped by the world."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import sys

import typer

from ..errors import ModelwrightError, Problem, refuse

PATH_ERRORS = (errno.EPERM, errno.ENOENT, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run(app: typer.Typer) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # somebody's own stream
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fall
    with contextlib.suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is half written is removed, and nobody is left at work
    try:
        _somewhere()
        _no_empty_values(sys.argv[1:])
        status = app(standalone_mode=False)  # a raised Exit comes back as its status
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os._exit(0)
    except SystemExit as e:  # typer's own answer to a pipe that ended
        if not isinstance(e.__context__, BrokenPipeError):
            raise
        os._exit(0)
    except Exception as e:
        problems, status = _meant(e, app)
        if not problems:
            _ours(e)
        _complain(problems)
        sys.exit(status)
    if status == 130:  # typer's own answer to Ctrl-C
        exec("")  # noqa: S102 - under `python -m`, CPython leaves by the signal after a Ctrl-C inside an exec of text (a dataclass being made), till the next exec
        _complain([Problem("run.interrupted", "interrupted", fix="a run goes on with --resume" * ("run" in sys.argv[1:2]))])
    sys.exit(status if isinstance(status, int) else 0)


def _meant(e: Exception, app: typer.Typer) -> tuple[list[Problem], int]:
    """What an exception says to the user, and the exit status. Nothing said: a fault of ours."""
    if isinstance(e, ModelwrightError):
        return e.problems, e.status
    if isinstance(e, MemoryError) or isinstance(e, RuntimeError) and ("allocate memory" in str(e) or "out of memory" in str(e)):  # torch's is a RuntimeError
        return [Problem("memory.full", "out of memory", fix="a smaller batch_size or micro_batch; --resume goes on")], 4
    if isinstance(e, OSError):
        said = re.search(r"\[Errno (\d+)\]", str(e)) if e.errno is None else None  # shutil.copytree's: a list of texts
        if (int(said[1]) if said else e.errno) in DISK_ERRORS:
            what = f"{e.strerror or 'no space is left'}: {e.filename2 or e.filename or 'the disk that is written to'}"
            return [Problem("disk.full", what, fix="free some space" + ", and go on with --resume" * ("run" in sys.argv[1:2]))], 4
        if e.errno in PATH_ERRORS and e.filename is not None:
            what = f"{e.strerror}: {e.filename2 or e.filename}"
            return [Problem("path.unusable", what, fix="name a place that can be written (or a file that can be read)")], 2
    if hasattr(e, "format_message"):  # click's usage errors
        return [Problem("usage", e.format_message(), fix=_elsewhere(e.format_message(), app) or "modelwright --help")], 2
    return [], 1


def _somewhere() -> None:
    """In a folder that was deleted, numerical libraries end the process with a message of their own; in a locale of ASCII, 模型 is no word."""
    if sys.getfilesystemencoding() != "utf-8" and any("\udc80" <= c <= "\udcff" for word in sys.argv for c in word):
        raise refuse("usage", f"this locale has no letters for an argument ({sys.getfilesystemencoding()})", where="the locale", fix="export PYTHONUTF8=1")
    try:
        os.getcwd()
    except FileNotFoundError as e:
        raise refuse("path.unusable", "the folder that this was started in is gone", where="the current folder", fix="cd to one that exists") from e


def _no_empty_values(words: list[str]) -> None:
    """`--out "$OUT"` without an OUT would be the folder that one is in: what lies there would be read, or written over."""
    for option, word in zip(["", *words], words, strict=False):
        if (word == "" or re.fullmatch(r"--(?!why)[a-z-]+=", word)) and option != "--why":
            what = f"{word.rstrip('=') or (option if option.startswith('--') else 'an argument')} has an empty value"
            raise refuse("usage", what, why="a variable of the shell that is not set gives one", fix="name what is meant, or leave it out")


def _elsewhere(message: str, app: typer.Typer) -> str:
    """Where a command that does not exist here is one of a group: `verify` is `registry verify`."""
    unknown = re.match(r"No such command '(\w+)'", message)
    groups = typer.main.get_command(app).commands if unknown else {}
    found = [f"{n} {unknown[1]}" for n, group in groups.items() if unknown[1] in getattr(group, "commands", {})]
    return f"did you mean `modelwright {found[0]}`?" if found else ""


def _complain(problems: list[Problem]) -> None:
    if "--json" in sys.argv:
        try:
            return print(json.dumps({"errors": [p.as_json() for p in problems]}, ensure_ascii=False), flush=True)
        except OSError:  # what is full is where it would be said
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    head = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"modelwright: {head}\n\n" + "\n\n".join(str(p) for p in problems), file=sys.stderr)


def _ours(e: Exception) -> None:
    import traceback

    traceback.print_exception(e)
    print("\nThis is a fault of Modelwright, not yours. Please report it with the lines above.", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"errors": [{"code": "internal", "what": f"{type(e).__name__}: {e}", "why": "", "where": "", "fix": "please report it"}]}))
    sys.exit(1)
