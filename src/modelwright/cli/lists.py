"""What there is to choose from: ready policies, components, and the schema of task files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import did_you_mean, refuse
from .options import AsJson


def policy(name: Annotated[str | None, typer.Argument(help="A ready policy; without one they are listed.")] = None) -> None:
    """A ready policy's text, to copy and tighten: modelwright policy credit > mine.yaml."""
    from ..registry import policy as policies

    if name is None:
        print("\n".join(f"{path.stem:<14} {policies.about(path)}" for path in policies.ready()))
        return
    texts = {path.stem: path for path in policies.ready()}
    if name not in texts:
        raise refuse("policy.missing", f"there is no ready policy {name!r}", where="NAME", fix=did_you_mean(name, texts))
    print(texts[name].read_text(encoding="utf-8"), end="")


def components(as_json: AsJson = False) -> None:
    """What exists, with one line each."""
    from .. import find

    found = {folder: {n: find.summary(folder, n) for n in find.names(folder)} for folder in find.FOLDERS}
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for folder, entries in found.items():
        print(folder)
        for n, line in entries.items():
            print(f"  {n:<14} {line}")


def schema() -> None:
    """The JSON Schema of task files, for completion in an editor."""
    from ..task import json_schema

    print(json_schema())
