"""A process of its own for code that came with a model, as its parent sees it: it is started, asked and, when its time is spent, ended.

The other end, and what goes to and fro, is `worker.py`. The code runs from a frozen copy of its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Refusal, refuse
from .worker import pack, receive, send, unpack

SECONDS = 600  # the most that one call may take
MODELS = "a run folder, a Hugging Face folder, a file.onnx, FILE.py:factory, or NAME@ALIAS of the registry"
WRAP = "a model of another library is asked by FILE.py: def factory(): model = ...; return lambda table: model.predict_proba(table.to_pandas())"


class Worker:
    """The user's code, run from a frozen copy of its file in a process of its own."""

    notes: list[str] = []
    whose = "the model's"
    late = False  # it was ended because its time was spent

    def __init__(self, path: str, module: str = "modelwright.foreign.worker", seconds: float = SECONDS):
        """module: what the process runs, `python -m module FILE.py:name`. seconds: that it may take to begin."""
        self.until = time.perf_counter() + seconds  # when the process is ended, whatever it is at; each call has SECONDS at most
        file, _, self.name = path.rpartition(":") if ":" in path else (path, "", "")
        if not file.endswith(".py"):
            there, fix = Path(file).exists(), f"{MODELS}; {WRAP}" if type(self) is Worker else "FILE.py:NAME"
            what, why = (f"{file} cannot be asked", "pickles and files of answers are not read") if there else (f"{path} does not exist", "")
            raise refuse("model.missing", what, why=why, where=path, fix=fix)
        if not self.name:
            what = f"{path} names no function" if Path(path).exists() else f"{path} does not exist"
            raise refuse("model.missing", what, where=path, fix=f"{path}:factory, where `factory` is the function that makes it")
        if not Path(file).is_file():
            raise refuse("model.missing", f"{file} does not exist", where=path, fix="name FILE.py:factory")
        self.folder = Path(tempfile.mkdtemp(prefix="modelwright-"))
        self.copy = self.folder / Path(file).name
        shutil.copyfile(file, self.copy)
        self.copy.chmod(0o400)
        self.path, self.files = path, list[str]()
        self.digest = self.now()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(file).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
        command = [sys.executable, "-m", module, f"{self.copy}:{self.name}"]
        pipes, place = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}, Path(file).resolve().parent
        self.process = subprocess.Popen(command, **pipes, env=environment, cwd=place, start_new_session=True)  # what it starts can be ended with it
        kind = json.loads(self._answer(b"K"))
        self.until = float("inf")
        if not kind["callable"]:
            raise refuse("model.factory", f"{self.name} made something that cannot be called", where=path, fix="return a torch module or a function")
        self.wants_table = not kind["module"]

    def now(self) -> str:
        """The digest of its text, and of the files that it is known to have read, as they are."""
        lines = [f"{Path(self.copy).name}\0{hashlib.sha256(self.copy.read_bytes()).hexdigest()}"]
        for file in self.files:
            with contextlib.suppress(OSError), open(file, "rb") as f:  # one that is gone is missing in it
                lines.append(f"{os.path.relpath(file, Path(self.path.rpartition(':')[0]).parent)}\0{hashlib.file_digest(f, 'sha256').hexdigest()}")
        one = lines[0].rpartition("\0")[2]
        return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest() if self.files else one}"

    def settle(self) -> list[str]:
        """Asks which files it has read by now; the digest is of these from then on."""
        with contextlib.suppress(Refusal):  # it was ended
            self.files = json.loads(self._ask(b"L", b""))
        return self.files

    def differentiate(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `worker.differentiated`."""
        return unpack(self._ask(b"D", pack(arrays)))

    def counted(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `worker.counted`."""
        return unpack(self._ask(b"C", pack(arrays)))

    def table(self, table: pa.Table) -> np.ndarray | dict[str, np.ndarray]:
        """See `worker.said`."""
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return self._array(self._ask(b"T", sink.getvalue()))

    def arrays(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        return self._array(self._ask(b"X", pack(arrays)))

    def _array(self, content: bytes) -> np.ndarray | dict[str, np.ndarray]:
        try:
            found = np.load(io.BytesIO(content), allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {k: found[k] for k in found.files}
        except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile) as e:
            raise self._torn() from e

    def _ask(self, letter: bytes, content: bytes) -> bytes:
        try:
            send(self.process.stdin, letter, content)
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer(b"Y")

    def _answer(self, expected: bytes) -> bytes:
        allowed = min(SECONDS, self.until - time.perf_counter())
        timer = threading.Timer(max(0.0, allowed), self._end)
        timer.start()
        try:
            frame = receive(self.process.stdout)
        except (OverflowError, MemoryError) as e:  # of a length that it never wrote
            raise self._torn() from e
        finally:
            timer.cancel()
        if frame is None:
            raise self._ended()
        letter, content = frame
        if letter == b"E":
            what = f"{self.whose} own code failed: {content.decode('utf-8', 'replace')[:400]}"
            raise refuse("model.code", what, where=self.path, fix="mend it, and try again")
        if letter != expected:
            raise self._torn()
        return content

    def _ended(self) -> Exception:
        code = self.process.wait()
        self.late = self.late or time.perf_counter() >= self.until
        if self.late:
            return spent(f"{self.whose} code", self.path)
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        return refuse("model.code", f"{self.whose} process ended {how}, or took over {SECONDS} s", where=self.path, fix="let its code return an answer")

    def _torn(self) -> Exception:
        self._end()
        fix = "let its code write to none but its own files and to standard output"
        return refuse("model.code", f"{self.whose} code wrote into the pipe that its answers come by", where=self.path, fix=fix)

    def _end(self) -> None:
        """It, and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __del__(self):
        process: Any = self.__dict__.get("process")
        if process is not None:
            self._end()
            process.wait()
        shutil.rmtree(self.__dict__.get("folder", ""), ignore_errors=True)


def spent(whose: str, path: str) -> Refusal:
    what = f"{whose} was ended: it was still at work when the time allowed was spent"
    return refuse("audit.budget", what, where=path, fix="allow more time (--budget), or make it faster")
