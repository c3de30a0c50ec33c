"""What an audit is given: a model, a task, and tables by role; refused where they do not fit each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import find, home, seen
from ..artifact import located, open_model
from ..data import sources
from ..digests import NO_MODEL
from ..digests import model_digest as files_digest
from ..errors import Problem, Refusal, did_you_mean, refuse
from ..foreign.onnx import Onnx
from ..foreign.predictor import Foreign, within
from ..foreign.process import MODELS, SECONDS, Worker
from ..preparing import Prepared, look, prepare
from ..preparing.columns import columns_of, gathered, root_of
from ..registry.export import BESIDE
from ..registry.references import is_reference
from ..seen import Seen
from ..task import Task, load_task

BEGIN, REHEARSE = 30.0, 10.0  # seconds that a model's own code may take to make it, and to answer eight rows, whatever the budget
ROLES = ("train", "validation", "calibration", "test", "reference", "ood", "ood_near", "ood_far", "trusted", "planted")


@dataclass
class Case:
    """A model and what it is judged on."""

    model: Path | None  # where it lies; None: the data alone
    elsewhere: Path | None  # of a model from elsewhere, the file or folder that is read
    ours: bool
    task: Task | None
    of: Prepared
    predictor: Any
    met: Seen | None  # of the test rows, those that it was trained on
    digest: str  # of the bytes that were loaded

    def unchanged(self) -> None:
        """Refused where the model's files are others than those that were loaded: the evidence would speak of what never answered."""
        if self.model is not None and (now := model_digest(self.model, self.predictor.now() if isinstance(self.predictor, Foreign) else None)) != self.digest:
            what, why = f"{self.model} changed while it was read or asked", f"{self.digest[:19]} before, {now[:19]} now: whose answers these are is not known"
            raise refuse("model.changed", what, why=why, where=str(self.model), fix="audit a copy that nothing writes to")


def case_of(model: str | Path | None, data: Mapping[str, Any] | None = None, task: Task | None = None, budget: float | None = None) -> Case:
    """The model of an audit, its task and its tables by role, as `audit` has them. Raises a Refusal where they do not fit each other."""
    given, model = model, None if model is None else located(model)
    elsewhere = None if model is None else within(model)
    ours = model is not None and model.is_dir() and elsewhere is None
    if model is not None and not ours and not Path(str(model).rpartition(":")[0] or model).exists() and not Path(model).exists():
        raise refuse("model.missing", f"{given} does not exist", where=str(given), fix=MODELS)
    task = task or (load_task(model / "task.yaml") if model is not None and (model / "task.yaml").is_file() else None)
    if task is None and not ours:
        what = "a model from elsewhere says nothing of its columns and labels" if model else "data alone says nothing of its target"
        raise refuse("audit.task", what, where="--task", fix="write a task file: modelwright new FILE --target COLUMN")
    whole = model is not None and ((model / "model").is_dir() or ours and (model / "model.json").is_file())
    digest = model_digest(model, None) if whole else NO_MODEL  # before it is read, and compared with what is there after
    predictor = open_model(model) if ours else None
    try:
        of = _prepared(task, dict(data or {}), predictor)
    except Refusal as e:
        if data or not is_reference(str(given)):
            raise
        why, fix = "a version's task names its data as seen from the run's folder", "name the rows: --data test=FILE"
        raise Refusal(Problem(p.code, p.what, why, p.where, fix) for p in e.problems) from e
    met = unseen(of, model) if ours and data and (model / "model").is_dir() else None
    if predictor is None and model is not None:
        predictor = Foreign(str(elsewhere or model), of.schema, SECONDS if budget is None else min(SECONDS, max(BEGIN, budget)))
        of.notes += predictor.notes
        rehearse(predictor, of, budget)
        digest = digest if whole else predictor.digest
    case = Case(model, elsewhere, ours, task, of, predictor, met, digest)
    case.unchanged()
    return case


def rehearse(predictor: Foreign, of: Prepared, budget: float | None) -> None:
    """See `Foreign.rehearse`; within the time allowed. Where that is spent, every audit will say so."""
    if isinstance(predictor.runner, Worker | Onnx) and budget is not None:  # `measure` sets it anew
        predictor.runner.until = time.perf_counter() + max(REHEARSE, budget)
    try:
        predictor.rehearse(of.tables["test"])
    except Refusal as refusal:
        if any(p.code != "audit.budget" for p in refusal.problems):
            raise


def _prepared(task: Task | None, data: dict[str, Any], predictor: Any) -> Prepared:
    """Tables by role and the schema: the model's own, else the task's, fitted on the training rows where there are some."""
    if not data:
        if task is None:
            raise refuse("audit.data", "no data to audit on", where="--data", fix="--data test=FILE")
        found = prepare(task)
        if predictor is not None:
            found.schema = predictor.schema.at(found.schema.root)
        return found
    problems = [Problem("audit.role", f"there is no role {r!r}", where="--data", fix=did_you_mean(r, ROLES)) for r in data if r not in ROLES]
    if "test" not in data:
        problems.append(Problem("audit.data", "no test rows", "a model is judged on rows that it has not seen", "--data", "--data test=FILE"))
    if problems:
        raise Refusal(problems)
    loaded = {role: sources.load(source, root=".", where=f"--data {role}") for role, source in data.items()}
    tables, notes, warnings = {r: x.table for r, x in loaded.items()}, [n for x in loaded.values() for n in x.notes], []
    first = loaded.get("train", loaded["test"])
    if predictor is None:
        schema, columns = columns_of(task, first.table, first, warnings)
        schema.fit(first.table)
        if first is loaded["test"]:
            warnings.append("no training rows were given: what is read off the data (labels, ranges) is read off the test rows")
        look(schema, {"train": first.table}, columns, warnings)
    else:
        schema = predictor.schema
        columns = [{"name": n, "kind": find.split(k.spec)[0], "role": "input", "describe": k.describe()} for n, k in schema.inputs.items()]
        columns += [{"name": n, "kind": find.split(k.spec)[0], "role": "target", "describe": k.describe()} for n, k in schema.targets.items()]
    numbers = {n for n, k in schema.inputs.items() if k.place == "number"}
    tables = {r: alike(t, list(tables.values()), numbers) for r, t in tables.items()}
    roots = {r: root_of(task, x) if task else x.root for r, x in loaded.items()}
    schema.at(gathered(schema, tables, roots))
    for role, table in tables.items():
        names = set(table.column_names)
        missing = [n for n in schema.truths if n not in names and role in ("train", "validation", "calibration", "test", "planted")]
        problems += [Problem("data.missing_column", f"column {n!r} is missing", "the truth is in it", f"--data {role}") for n in missing]
        problems += [
            Problem("data.missing_column", f"column {n!r} is missing", "the model reads it", f"--data {role}")
            for n, kind in schema.inputs.items()
            if n not in names and not kind.drawn and role != "reference"  # a population may be known by its groups alone
        ]
    if problems:
        raise Refusal(problems)
    return Prepared(task or Task(data={"source": None}, target=list(schema.truths)), schema, tables, columns, notes, warnings)


def alike(table: pa.Table, tables: list[pa.Table], numbers: set[str]) -> pa.Table:
    """The table with its columns as text that are so in another one, but for those that are read as numbers: codes that are digits alone in one file
    are names all the same, and audits lay rows of several files together."""
    for i, name in enumerate(table.column_names):
        own, types = table.schema.field(name).type, {t.schema.field(name).type for t in tables if name in t.column_names}
        text = next((t for t in types if pa.types.is_string(t) or pa.types.is_large_string(t)), None)
        if text is not None and name not in numbers and (pa.types.is_primitive(own) or pa.types.is_null(own)):
            table = table.set_column(i, name, table.column(name).cast(text))
    return table


def unseen(of: Prepared, folder: Path) -> Seen:
    """Leave out the test and trusted rows that a run was trained or calibrated on, as its record has them. Refused where those are most of them."""
    for role in ("trusted", "test"):  # fairness is judged on trusted rows where there are some
        if role not in of.tables:
            continue
        table = of.tables[role]
        found = seen.seen(folder, table, home.key())
        told = f"{int(found.rows.sum()):,} of {table.num_rows:,} {role} rows are rows that the model was trained or calibrated on"
        if 2 * found.rows.sum() > table.num_rows:
            why, fix = "a model is judged on rows that it has not seen", "give rows that no split of the run held"
            raise refuse("audit.seen_rows", told, why=why, where=f"--data {role}", fix=fix)
        if found.rows.any():
            of.tables[role] = table.filter(pa.array(~found.rows))
            of.warnings.append(f"{told}: they are left out of every figure")
    return found


def model_folder(folder: Path) -> Path:
    return folder / "model" if (folder / "model" / "model.json").is_file() else folder


def model_digest(model: Path, elsewhere: str | None) -> str:
    """Of a folder with a model/ (a run, a version) that; of an exported folder what was that; of a model from elsewhere by itself what is given."""
    if (model / "model").is_dir():
        return files_digest(model / "model")
    if elsewhere is not None:
        return elsewhere
    paths = (p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    return files_digest(model, [p for p in paths if p not in BESIDE and not p.startswith(".")])


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files below a folder; None where there is neither."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) or None
