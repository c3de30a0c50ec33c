"""Modelwright: from raw data to a model that you can defend.

    import modelwright as mw
    task = mw.load_task("task.yaml")      # or a dict: mw.task_of({"data": "patients.csv", "target": "diagnosis"})
    print(mw.plan(task).as_json())
    run = mw.run(task, "runs/first")
    model = mw.load("runs/first")         # model.answer(table)

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "load_task": "task:load_task",
    "task_of": "task:task_of",
    "plan": "planning:make",
    "run": "running:run",
    "audit": "auditing:audit",
    "load": "artifact:open_model",
    "Registry": "registry.store:Registry",
}
__all__ = ["Registry", "audit", "load", "load_task", "plan", "run", "task_of"]  # noqa: F822 - see __getattr__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modelwright' has no attribute {name!r}")
    module, _, path = _HOMES[name].partition(":")
    value = importlib.import_module(f"modelwright.{module}")
    for part in path.split("."):
        value = getattr(value, part)
    globals()[name] = value
    return value
