"""An ONNX file, by onnxruntime on the CPU. A call that takes longer than it may is ended, whatever it is at."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import refuse
from .process import SECONDS, spent

TYPES = {"tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


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
        how = onnxruntime.SessionOptions()
        how.log_severity_level = 3  # errors come as exceptions; converters from trees misstate the shape of labels, which it warns of at each call
        try:
            with tempfile.TemporaryDirectory(prefix="modelwright-") as nothing:  # weights in other files are no part of the digest: they are not found
                how.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
                self.session = onnxruntime.InferenceSession(content, how, providers=["CPUExecutionProvider"])
            self.options, self.path, self.until = onnxruntime.RunOptions(), path, float("inf")  # until: when a call is ended, whatever it is at
        except Exception as e:  # noqa: BLE001 - onnxruntime's errors share no base
            said, fix = str(e).splitlines()[0], "export it anew, and see that onnxruntime.InferenceSession(FILE) reads it on this machine"
            if "external" in said.lower() or "initializer" in said.lower():
                fix = "where its weights lie in a file beside it, put them into it: onnx.save_model(onnx.load(FILE), FILE)"
            raise refuse("model.corrupt", f"the ONNX file cannot be read: {said[-300:]}", where=path, fix=fix) from e

    def open(self, table: pa.Table) -> None:
        return None

    def by_columns(self, names: list[str]) -> bool:
        """Whether its inputs are single columns of the table, by their names: a pipeline of a data frame, as skl2onnx writes it."""
        return all(w.name in names and (len(w.shape) == 1 or [*w.shape[1:]] == [1]) for w in self.session.get_inputs())

    def table(self, table: pa.Table) -> np.ndarray:
        """Each column as it stands, (B, 1) or (B,), in the type that the file asks for. A missing number is NaN, a missing text empty."""
        feed = {}
        for wanted in self.session.get_inputs():
            column, shape = table.column(wanted.name), (-1, 1)[: len(wanted.shape)]
            if "string" in wanted.type:
                feed[wanted.name] = np.array(["" if v is None else str(v) for v in column.to_pylist()], object).reshape(shape)
                continue
            type, fix = TYPES.get(wanted.type, np.float32), "export it with the types that the columns have (skl2onnx: initial_types)"
            if np.dtype(type).kind != "f" and column.null_count:
                what = f"{wanted.name!r} has missing cells, and the file wants {wanted.type}, which has none"
                raise refuse("model.input", what, where=self.path, fix=fix)
            try:
                feed[wanted.name] = column.cast(pa.float64(), safe=False).to_numpy().astype(type).reshape(shape)
            except pa.ArrowException as e:
                raise refuse("model.input", f"{wanted.name!r} holds {column.type}, and the file wants {wanted.type}", where=self.path, fix=fix) from e
        return self._run(feed)

    def arrays(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        wanted = self.session.get_inputs()
        if len(wanted) == 1 and len(arrays) == 1:
            feed = {wanted[0].name: next(iter(arrays.values()))}
        elif {w.name for w in wanted} <= set(arrays):
            feed = {w.name: arrays[w.name] for w in wanted}
        else:
            what = f"the file wants {', '.join(w.name for w in wanted)}; the task gives {', '.join(arrays)}"
            raise refuse("model.input", what, fix="name the task's columns as the file's inputs")
        return self._run(feed)

    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
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
