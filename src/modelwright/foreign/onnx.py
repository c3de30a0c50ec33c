"""An ONNX file, by onnxruntime on the CPU. A call that takes longer than it may is ended, whatever it is at."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import refuse
from .process import SECONDS, spent


class Onnx:
    wants_table = False
    notes: list[str] = []
    classes: list[str] | None = None  # as the file names them, where its answers do

    def __init__(self, path: str):
        try:
            import onnxruntime
        except ModuleNotFoundError as e:
            raise refuse("extra.missing", "ONNX files need the package 'onnxruntime'", where=path, fix="pip install 'modelwright[onnx]'") from e
        if not Path(path).is_file():
            raise refuse("model.missing", f"{path} does not exist", where=path)
        content = Path(path).read_bytes()
        self.digest = "sha256:" + hashlib.sha256(content).hexdigest()
        try:
            self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            self.options, self.path, self.until = onnxruntime.RunOptions(), path, float("inf")  # until: when a call is ended, whatever it is at
        except Exception as e:  # noqa: BLE001 - onnxruntime's errors share no base
            raise refuse("model.corrupt", f"the ONNX file cannot be read: {str(e).splitlines()[0][:200]}", where=path) from e

    def open(self, table: pa.Table) -> None:
        return None

    def arrays(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        wanted = self.session.get_inputs()
        if len(wanted) == 1 and len(arrays) == 1:
            feed = {wanted[0].name: next(iter(arrays.values()))}
        elif {w.name for w in wanted} <= set(arrays):
            feed = {w.name: arrays[w.name] for w in wanted}
        else:
            what = f"the file wants {', '.join(w.name for w in wanted)}; the task gives {', '.join(arrays)}"
            raise refuse("model.input", what, fix="name the task's columns as the file's inputs")
        self.options.log_severity_level = 4  # being ended is said by us
        timer = threading.Timer(max(0.0, min(SECONDS, self.until - time.perf_counter())), setattr, (self.options, "terminate", True))
        timer.start()
        try:
            outs = self.session.run(None, feed, self.options)
        except Exception as e:  # noqa: BLE001
            if self.options.terminate:
                raise spent("the model", self.path) from e
            raise refuse("model.input", f"the model cannot take the data: {str(e).splitlines()[0][:300]}", fix="check columns and layout") from e
        finally:
            timer.cancel()
        maps = [o for o in outs if isinstance(o, list) and o and isinstance(o[0], dict)]
        if maps:  # skl2onnx's zipmap: a row is {class: probability}
            self.classes = [str(c) for c in maps[-1][0]]
            return np.array([list(row.values()) for row in maps[-1]], np.float64)
        arrays_out = [o for o in outs if isinstance(o, np.ndarray) and o.dtype.kind == "f"]
        if not arrays_out:
            raise refuse("model.output", "the file has no output of floating-point numbers", fix="export it with probabilities or numbers as an output")
        return arrays_out[-1].astype(np.float64)
