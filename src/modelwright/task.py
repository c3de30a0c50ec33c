"""The task file as a typed tree. YAML is only its text: no templates, no aliases, no tags; an unknown key is an error with a suggestion.

A Python task file (`task.py` with a variable `task`, a dict or a `Task`) gives the same tree where logic is wanted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from . import find, strict
from .errors import Problem, Refusal, refuse
from .safety import Safety
from .settings import Checked, Settings

FORMAT = 1
STAGE = re.compile(r"[^\W_][\w .-]{0,99}")  # a stage's name, and that of the folder of its checkpoints
ALIASES = {"image": "picture"}  # other words for a kind
Name = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) is int else v)]  # of a column: 2020 in YAML, or of a frame, is the column "2020"
Share = Annotated[float, Field(gt=0, lt=1)]
Spec = str | dict[str, Any]


class Split(Checked):
    """Shares of each split but train; rows of one unit (`by`) stay together; `time` sends later rows to later splits; `column` names the split."""

    test: Share = 0.2
    validation: Share = 0.1
    calibration: Share = 0.1
    by: Name | None = None
    time: Name | None = None
    column: Name | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Environment(Checked):
    """Of a gym:// source."""

    settings: dict[str, Any] = {}  # passed on to the environment
    observe: list[int] | None = None  # keep only these components of the observation
    history: bool = False  # a row is an episode, for policies that remember


class Data(Checked):
    source: Any = None  # a file, a folder, several, hub://NAME, sklearn://NAME, {table: file} for a query; from Python also a frame
    query: str | None = None
    columns: dict[Name, Spec] = {}  # column -> kind, {kind: ..., group: true, immutable: true, known: true, its settings}, or ignore
    split: Split = Split()
    environment: Environment = Environment()
    root: str | None = None  # paths inside the table stay below it


class Stage(Settings):
    objective: Spec = "supervised"
    data: Any = None  # another source with the same input columns (unlabelled, say), instead of the training split
    strategies: list[Spec] = []


class Parts(Checked):
    """Which component where; what is not named is chosen by the column's or the target's kind."""

    encoders: dict[str, Spec] = {}
    fusion: Spec = "concat"
    instead: Literal["majority", "linear", "trees"] | None = None  # fit, audit and serve this baseline; nothing else is trained
    heads: dict[str, Spec] = {}
    decoders: dict[str, Spec] = {}


class Audit(Checked):
    policy: str | None = None  # medical, credit, moderation, driving, or a policy file: a floor, which `require` may add to or tighten
    require: dict[str, str] = {}  # metric[@slice]: limit
    slices: list[str] = []  # column=value
    synonyms: dict[Annotated[str, Field(min_length=1)], Annotated[list[str], Field(min_length=1)]] = {}  # word or phrase of texts: [what means the same]
    secret: Annotated[str, Field(pattern=r"(?s)(#.*){3}")] = "my number is ######"  # what is planted to measure exposure; a digit is drawn for each #
    clusters: Name | None = None  # column whose rows belong together (patient): intervals resample whole clusters
    safety: Safety | None = None  # what generated text must not hold, and when it must refuse


class Task(Checked):
    format: int = FORMAT
    name: str | None = None
    data: Data
    target: Name | list[Name] | dict[Name, Spec]
    model: Parts = Parts()
    stages: Annotated[list[dict[str, Stage]], Field(min_length=1)] = [{"train": Stage()}]  # without one nothing would be learnt
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    audit: Audit = Audit()
    root: str = Field(default=".", exclude=True)  # the task file's folder
    file: str = Field(default="task", exclude=True)

    @property
    def targets(self) -> dict[str, Spec | None]:
        """{target: declared kind or None}"""
        if isinstance(self.target, dict):
            return dict(self.target)
        return dict.fromkeys([self.target] if isinstance(self.target, str) else self.target)

    def together(self, columns: Iterable[str]) -> str | None:
        """The column whose rows are no independent witnesses: that of `audit.clusters`, else of what the split keeps together, where it is at hand."""
        return self.audit.clusters or (self.data.split.by if self.data.split.by in columns else None)


def load_task(path: str | Path | dict[str, Any] | Task) -> Task:
    """Read a task file, or take a tree or a task as it is. Raises `Refusal` with every problem of it."""
    if isinstance(path, Task):
        return path
    if isinstance(path, dict):
        return task_of(path)
    path = Path(path)
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        near = sorted(str(p) for p in folder.glob("*.yaml")) if folder.is_dir() else []
        raise refuse(
            "task.missing_file",
            f"{path} is a folder" if path.is_dir() else f"{path} is no plain file" if path.exists() else f"{path} does not exist",
            where=str(path),
            fix=f"there is: {', '.join(near[:5])}" if near else "modelwright new FILE --target COLUMN writes one",
        )
    if path.suffix == ".py":
        return task_of(_run(path), root=path.parent, file=path.name)
    return task_of(strict.read(path, "task"), root=path.parent, file=path.name)


def task_of(tree: Any, root: str | Path = ".", file: str = "task") -> Task:
    """A Task from a dict (or itself). `data: file.csv` and stages without settings are allowed short forms."""
    if isinstance(tree, Task):
        return tree
    if not isinstance(tree, dict):
        raise refuse(
            "task.form",
            f"a task is a mapping with at least data and target, not {type(tree).__name__}",
            where=file,
            fix="data: table.csv\ntarget: column",
        )
    tree = dict(tree)
    if "data" in tree and not (isinstance(tree["data"], dict) and tree["data"].keys() & Data.model_fields.keys()):
        tree["data"] = {"source": tree["data"]}
    if isinstance(tree.get("stages"), list):
        stages = [{s: {}} if isinstance(s, str) else s for s in tree["stages"]]
        tree["stages"] = [{k: {} if v is None else v for k, v in s.items()} if isinstance(s, dict) else s for s in stages]
    fix = "what a table's paths are relative to is data.root, a file is data.source"
    problems = [Problem("task.unknown_key", f"unknown key {k!r}", where=f"{file}: {k}", fix=fix) for k in ("root", "file") if k in tree]
    try:
        task = Task.model_validate({str(k): v for k, v in tree.items()})
    except pydantic.ValidationError as e:
        found = _problems(e, file)
        forms = [p for p in found if p.where.startswith(f"{file}: target.")]
        if forms:  # one problem, not one for each form that it could have
            what = f"{tree['target']!r} names no target"
            found = [p for p in found if p not in forms]
            found.append(Problem("task.missing_key", what, where=f"{file}: target", fix="target: COLUMN, a list of columns, or {COLUMN: kind}"))
        raise Refusal(problems + found + _component_problems(tree, file, str(root))) from e
    if task.format > FORMAT:
        problems.append(
            Problem(
                "task.format", f"the file has format {task.format}, this version reads up to {FORMAT}", where=file, fix="pip install -U modelwright"
            )
        )
    task.root, task.file = str(root), file
    problems += _component_problems(tree, file, str(root))
    if problems:
        raise Refusal(problems)
    return task


def _problems(error: pydantic.ValidationError, file: str) -> list[Problem]:
    """As find.problems_of, with the keys that are known at each place."""
    found = []
    for e in error.errors():
        model: Any = Task
        for part in e["loc"][:-1]:
            if isinstance(part, str) and part in getattr(model, "model_fields", {}):
                model = {"data": Data, "split": Split, "environment": Environment, "model": Parts, "audit": Audit}.get(part, model)
            elif model is Task and isinstance(part, str):
                model = Stage
        found += find.problems_of(_One(e), "", [n for n, f in model.model_fields.items() if not f.exclude])
    return [Problem(p.code, p.what, p.why, f"{file}: {p.where}", p.fix) for p in found]


class _One:
    def __init__(self, error):
        self.error = error

    def errors(self):
        return [self.error]


def _component_problems(tree: dict[str, Any], file: str, root: str) -> list[Problem]:
    """Every named component exists and its settings fit. Reads the tree as written, so that they are found beside other problems of it."""
    problems = []
    for folder, spec, where in _named(tree):
        try:
            find.check(folder, spec, f"{file}: {where}", root)
        except Refusal as e:
            problems += e.problems
    names: set[Any] = set()
    for i, stage in enumerate(_list(tree, "stages")):
        if isinstance(stage, dict) and len(stage) != 1:
            problems.append(Problem("task.stage", "a stage is one name with its settings", where=f"{file}: stages.{i}", fix="- train: {epochs: 10}"))
        for name, entry in stage.items() if isinstance(stage, dict) else ():
            if not STAGE.fullmatch(str(name)):
                what, fix = f"{str(name)[:60]!r} cannot be a stage's name", "letters, digits, blanks, dots, dashes and underscores, a letter or digit first"
                problems.append(Problem("task.stage", what, "its checkpoints lie in a folder of that name", f"{file}: stages.{i}", fix))
            if name in names:
                why = "the second would go on from the first one's checkpoint, and learn nothing"
                problems.append(Problem("task.stage", f"two stages are called {name!r}", why, f"{file}: stages.{i}", "give each a name of its own"))
            names.add(name)
            entry = entry.model_dump() if isinstance(entry, Stage) else entry if isinstance(entry, dict) else {}
            long = [k for k in ("epochs", "steps", "minutes") if entry.get(k) is not None]
            if len(long) > 1:
                what, why = f"{' and '.join(long)} all say how long to learn", "one of them would be left out without a word"
                problems.append(Problem("task.conflict", what, why, f"{file}: stages.{i}.{name}", f"keep one: {' or '.join(long)}"))
    return problems


def _named(tree: dict[str, Any]) -> Iterator[tuple[str, Spec, str]]:
    """(folder, spec, place) of every component that the tree names, whatever else is wrong with it."""
    data, model = _dict(tree, "data"), _dict(tree, "model")
    for i, entry in enumerate(_list(tree, "stages")):
        for name, stage in entry.items() if isinstance(entry, dict) else ():
            if isinstance(stage, Checked):
                stage = stage.model_dump()
            if isinstance(stage, dict):
                found = [("strategies", s, "strategies") for s in _list(stage, "strategies")]
                for folder, spec, key in [("objectives", stage.get("objective"), "objective"), *found]:
                    if isinstance(spec, (str, dict)):
                        yield folder, spec, f"stages.{i}.{name}.{key}"
    for part in ("encoders", "heads", "decoders"):
        for name, spec in _dict(model, part).items():
            if isinstance(spec, (str, dict)):
                yield part, spec, f"model.{part}.{name}"
    if isinstance(model.get("fusion"), (str, dict)):
        yield "fusions", model["fusion"], "model.fusion"
    for place, columns in (("data.columns", _dict(data, "columns")), ("target", _dict(tree, "target"))):
        for name, spec in columns.items():
            kind = column_kind(spec)[0] if isinstance(spec, (str, dict)) else None
            if kind is not None and kind != "ignore":
                yield "kinds", kind, f"{place}.{name}"


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    return tree[key] if isinstance(tree.get(key), list) else []


def _dict(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {} if not isinstance(found, Checked) else found.model_dump()


def column_kind(spec: Spec) -> tuple[Spec | None, dict[str, Any]]:
    """(kind spec or None = infer, the rest: group, immutable, known) of what `columns` says of one column."""
    if isinstance(spec, str):
        return ALIASES.get(spec, spec), {}
    rest = dict(spec)
    roles = {k: rest.pop(k) for k in ("group", "immutable", "known") if k in rest}
    if "kind" in rest:
        kind = rest.pop("kind")
        if not isinstance(kind, str):
            return kind, roles
        return {ALIASES.get(kind, kind): rest} if rest else ALIASES.get(kind, kind), roles
    if not rest:
        return None, roles
    return {ALIASES.get(k, k): v for k, v in rest.items()}, roles


def _run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("modelwright_task", path)
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as e:  # its exit status would be taken for ours
        raise refuse(
            "task.python", f"{type(e).__name__}: {e}", where=str(path), why="the Python task file failed", fix="run it with python to see where"
        ) from e
    task = vars(module).get("task")
    if not isinstance(task, (dict, Task)):
        fix = 'task = {"data": "table.csv", "target": "column"}'
        raise refuse("task.python", "the file sets no variable `task` (a dict or a Task)", where=str(path), fix=fix)
    return task


def json_schema() -> str:
    """For editors: completion and checks of task files, short forms included; what components are called, with their one line."""
    schema = Task.model_json_schema()
    parts, defs = schema["properties"], schema["$defs"]
    del parts["root"], parts["file"]
    files = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "object", "additionalProperties": {"type": "string"}}]
    parts["data"] = {"anyOf": [{"$ref": "#/$defs/Data"}, *files]}
    stage = {"anyOf": [{"$ref": "#/$defs/Stage"}, {"type": "null"}]}
    parts["stages"]["items"] = {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": stage, "minProperties": 1, "maxProperties": 1}]}
    kind = {"anyOf": [*_consts("kinds"), *({"const": n} for n in ("ignore", *ALIASES)), {"type": "object"}]}
    defs["Data"]["properties"]["columns"]["additionalProperties"] = kind
    next(form for form in parts["target"]["anyOf"] if form["type"] == "object")["additionalProperties"] = kind
    for folder in ("encoders", "heads", "decoders"):
        defs["Parts"]["properties"][folder]["additionalProperties"] = _choice(folder)
    defs["Parts"]["properties"]["fusion"] |= _choice("fusions")
    defs["Stage"]["properties"]["objective"] |= _choice("objectives")
    defs["Stage"]["properties"]["strategies"]["items"] = _choice("strategies")
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _consts(folder: str) -> list[dict[str, Any]]:
    return [{"const": n, "description": find.summary(folder, n)} for n in find.names(folder)]


def _choice(folder: str) -> dict[str, Any]:
    """A component's name, or one name with its settings; of what may be somebody's own file also that."""
    named = {c["const"]: {"description": c["description"]} for c in _consts(folder)}
    own = {} if folder in find.SHIPPED else {r"\.py:": {}}
    one = {"type": "object", "properties": named, "patternProperties": own, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
    return {"anyOf": [*_consts(folder), one, *({"type": "string", "pattern": pattern} for pattern in own)]}
