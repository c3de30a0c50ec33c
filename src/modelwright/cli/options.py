"""What commands share: options, and how an answer is said."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import refuse

if TYPE_CHECKING:
    from ..registry.store import Registry

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
UrlEnv = Annotated[str | None, typer.Option(help="The environment variable that holds a PostgreSQL URL, in place of the home's registry.")]
Who = Annotated[str | None, typer.Option(help="In whose name; default: the account.")]
Model = Annotated[str, typer.Argument(help="NAME (its newest version), NAME@3, NAME@ALIAS or NAME@sha256:...")]


def opened(url_env: str | None) -> Registry:
    from ..registry.store import Registry

    if url_env is None:
        return Registry()
    if not os.environ.get(url_env):
        raise refuse("registry.url", f"the environment has no {url_env}", where="--url-env", fix=f"export {url_env}=postgresql://...")
    return Registry(url=os.environ[url_env])


def say(as_json: bool, facts: dict[str, Any], text: str) -> None:
    print(json.dumps(facts, ensure_ascii=False, default=str) if as_json else text)


def decided(done: Any) -> None:
    """Exit status 3 unless every declared limit was shown to hold."""
    if done.decision is not None and done.decision["verdict"] != "pass":
        raise typer.Exit(3)


def quiet() -> None:
    """The accountant's remarks on orders that it leaves out, which only widens its bound, are no news for a terminal. Not before a command needs it."""
    import logging

    logging.getLogger("absl").setLevel(logging.ERROR)
