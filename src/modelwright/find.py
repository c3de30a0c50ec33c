"""From a name in a task file to the component: `objective: masked` is `objectives/masked.py`. There is no registry to keep in step.

A component's settings are its constructor's keyword arguments: their annotations are the types, their defaults the defaults, and both are
checked here. Also found: an installed plug-in (entry point group `modelwright.<folder>`) and, of what only helps learning, a user's own `file.py:Class`.
What ships in a model has to be installed: a file that a model names would be somebody else's code, run by whoever opens it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import typing
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import Problem, Refusal, did_you_mean, refuse

FOLDERS = ("kinds", "encoders", "fusions", "heads", "decoders", "objectives", "strategies", "audits", "explainers")
SHIPPED = ("kinds", "encoders", "fusions", "heads", "decoders")  # what model.json names
Spec = str | dict[str, Any]  # "lora", {"lora": {"rank": 8}}, {"fairness": "equalized_odds"} (the first setting)


def names(folder: str) -> list[str]:
    """What exists in a folder, plug-ins included."""
    return sorted({*_here(folder), *(e.name for e in _plugins(folder))})


@cache
def _here(folder: str) -> tuple[str, ...]:
    """The package's own, listed once."""
    return tuple(p.stem for p in (Path(__file__).parent / folder).glob("*.py") if not p.stem.startswith("_"))


@cache
def _plugins(folder: str) -> tuple[Any, ...]:
    """Installed entry points. Cached: to list them reads the metadata of every package, and a wide table asks for every column."""
    return tuple(entry_points(group=f"modelwright.{folder}"))


def summary(folder: str, name: str) -> str:
    """A component's one line, read without importing it."""
    path = Path(__file__).parent / folder / f"{name}.py"
    if not path.exists():
        return "(plug-in)"
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


@cache
def find(folder: str, name: str, where: str = "", root: str = ".") -> type:
    """The class behind a name; `file.py:Class` is read relative to root."""
    if ".py:" in name:
        return _from_file(folder, name, where, root)
    for entry in _plugins(folder):
        if entry.name == name:
            return entry.load()
    if name not in names(folder):
        raise refuse(
            f"{_singular(folder)}.unknown", f"there is no {_singular(folder)} named {name!r}", where=where, fix=did_you_mean(name, names(folder))
        )
    try:
        return _class_in(importlib.import_module(f"modelwright.{folder}.{name}"))
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("modelwright"):
            raise
        raise refuse("extra.missing", f"{name!r} needs the package {e.name!r}", where=where, fix=f"pip install {e.name}") from e


def split(spec: Spec) -> tuple[str, Any]:
    """(name, settings as written) of a spec."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, dict) and len(spec) == 1:
        ((name, settings),) = spec.items()
        return str(name), {} if settings is None else settings
    raise refuse("component.form", f"{spec!r} is not a component", fix="write a name (lora) or one name with its settings ({lora: {rank: 8}})")


@cache
def settings_model(cls: type) -> type:
    """A pydantic model of a constructor's keyword arguments."""
    import pydantic

    from .settings import Checked  # not before it is needed: pydantic takes time

    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for p in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            fields[p.name] = (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
    return pydantic.create_model(cls.__name__, __base__=Checked, **fields)


def check(folder: str, spec: Spec, where: str = "", root: str = ".") -> tuple[type, dict[str, Any]]:
    """The class and its settings with every default filled in; all problems of the settings at once."""
    import pydantic

    name, given = split(spec)
    cls = find(folder, name, where, root)
    model = settings_model(cls)
    if not isinstance(given, dict):
        if not model.model_fields:
            raise refuse(f"{_singular(folder)}.setting", f"{name} takes no settings, got {given!r}", where=where, fix=f"write {name} alone")
        given = {next(iter(model.model_fields)): given}
    try:
        made = model(**given)
    except pydantic.ValidationError as e:
        raise Refusal(problems_of(e, f"{where}.{name}" if where else name, model.model_fields)) from e
    return cls, {k: getattr(made, k) for k in model.model_fields}


def problems_of(error: Any, where: str, known: Any) -> list[Problem]:
    """pydantic's findings in our words."""
    found = []
    for e in error.errors():
        place = ".".join([where, *(str(x) for x in e["loc"])]) if where else ".".join(str(x) for x in e["loc"])
        if e["type"] == "extra_forbidden":
            key = str(e["loc"][-1])
            found.append(Problem("task.unknown_key", f"unknown key {key!r}", where=place, fix=did_you_mean(key, known)))
        elif e["type"] == "missing":
            found.append(Problem("task.missing_key", f"{e['loc'][-1]!r} is missing", where=place, fix="add it"))
        else:
            try:
                given = repr(e["input"])
            except Exception:  # noqa: BLE001 - whatever a Python task file holds, a number of 5,000 digits say
                given = f"a {type(e['input']).__name__}"
            given = given if len(given) <= 60 else given[:57] + "..."
            found.append(Problem("task.wrong_value", f"{given}: {e['msg'][0].lower()}{e['msg'][1:]}", where=place, fix="write a value of that type"))
    return found


def make(folder: str, spec: Spec, where: str = "", root: str = ".") -> Any:
    """The component itself. It remembers its resolved spec, which is what model.json and plan.json hold."""
    cls, settings = check(folder, spec, where, root)
    try:
        component = cls(**settings)
    except ValueError as e:  # a constructor's own check of values against each other
        raise refuse(f"{_singular(folder)}.setting", str(e), where=f"{where}.{split(spec)[0]}".lstrip(".")) from e
    component.spec = {split(spec)[0]: settings}
    return component


def _singular(folder: str) -> str:
    return {"strategies": "strategy"}.get(folder, folder.removesuffix("s"))


def _class_in(module: ModuleType) -> type:
    """The component of a file: the first public class defined in it whose base is a contract."""
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__ and getattr(value, "is_component", False):
            return value
    raise AssertionError(f"{module.__name__} defines no component")


def _from_file(folder: str, name: str, where: str, root: str) -> type:
    file, _, cls = name.rpartition(":")
    if folder in SHIPPED:
        what, why = f"{name} is code, and cannot be part of a model", "a saved model opens without anybody's file: what it is made of has to be installed"
        raise refuse("component.shipped", what, why=why, where=where, fix=f"install it as a plug-in: an entry point in the group modelwright.{folder}")
    path = Path(root, file).resolve()
    if not path.is_file():
        raise refuse("component.file", f"{file} does not exist", where=where, why="paths are relative to the task file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, cls):
        raise refuse("component.file", f"{file} has no class {cls}", where=where, fix=did_you_mean(cls, [n for n in vars(module) if n[0].isupper()]))
    return getattr(module, cls)
