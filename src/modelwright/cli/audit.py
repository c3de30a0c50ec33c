"""`audit`: any model on data that it has not seen; a private trainer against its statement; or a report's figures again."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer

from ..errors import refuse
from .options import AsJson, decided, quiet, say


def audit(
    model: Annotated[str | None, typer.Argument(help="A run or Hugging Face folder, a file.onnx, FILE.py:factory, NAME@ALIAS; none: the data alone.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="[ROLE=]FILE: train, validation, calibration, test (default), reference, ood, ood_near, ood_far, trusted, planted.")
    ] = None,
    task: Annotated[Path | None, typer.Option(help="A task file: columns, target, labels, limits.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default audits/TIME.")] = None,
    reproduce: Annotated[Path | None, typer.Option(help="An evidence.json: measure all of it again, and say same or different.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Some audits, joined by commas or given one by one; default all.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time after which no further audit begins: 90s, 2m.")] = None,
    explainer: Annotated[str | None, typer.Option(help="FILE.py:explain, which is audited: explain(model, x, target) -> like x.")] = None,
    trainer: Annotated[str | None, typer.Option(help="FILE.py:factory, a private training step, which is audited against its --statement.")] = None,
    statement: Annotated[Path | None, typer.Option(help="A JSON file: claim, rows, sample_rate, noise_multiplier, clip, steps, divisor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure any model on data it has not seen, decide, and report."""
    quiet()
    out = out or Path("audits") / time.strftime("%Y%m%d-%H%M%S")
    if reproduce is not None:
        if model or data or task or only or budget or explainer or trainer or statement:
            fix = "audit --reproduce EVIDENCE.json --out FOLDER"
            raise refuse("usage", "--reproduce repeats what lies beside the evidence: it takes --out alone", where="--reproduce", fix=fix)
        return _again(reproduce, out, as_json)
    if (trainer is None) != (statement is None) or (trainer is not None and (model or data)):
        raise refuse("usage", "--trainer and --statement go together, without a model or data", fix="audit --trainer FILE.py:factory --statement FILE.json")
    from ..task import load_task
    from .show import Progress, show_audit

    wanted, roles, limit = load_task(task) if task else None, _roles(data or []), _seconds(budget)
    with Progress() as progress:
        if trainer is not None:
            from ..auditing.claims import audit as try_trainer

            done = try_trainer(trainer, statement, wanted, out, budget=limit, log=progress.log)
        else:
            from ..auditing import audit as measure

            some = [name for given in only for name in given.split(",")] if only else None
            done = measure(model, roles, wanted, out, budget=limit, only=some, explainer=explainer, log=progress.log)
    print(json.dumps(done.as_json(), default=str, ensure_ascii=False)) if as_json else show_audit(done)
    decided(done)
    if not as_json and done.decision and model and ".py:" not in model and not Path(model).exists():
        print(f"next:   modelwright promote {model} --alias production")


def _again(evidence: Path, out: Path, as_json: bool) -> Any:
    from ..auditing.reproducing import reproduce

    found = reproduce(evidence, out)
    said = lambda x: shorten(str(x), 100, placeholder=" ...")  # noqa: E731 - whole with --json
    words = [f"not shown: {s['figure']} was {said(s['before'])}, is {said(s['now'])}: {s['why']}" for s in found["skipped"]]
    words += [f"different: {d['figure']} was {said(d['before'])}, is {said(d['now'])}" for d in found["differences"]]
    known = "the registry recorded this very file" if found["recorded"] else "the registry has no record of this file: changed since, or measured elsewhere"
    words += [known, f"{'same' if found['same'] else 'different'}: {found['figures']} figures were measured again"]
    say(as_json, found, "\n".join(words))
    raise typer.Exit(0 if found["same"] else 3)


def _roles(given: list[str]) -> dict[str, str]:
    """{role: file} of [ROLE=]FILE"""
    roles: dict[str, str] = {}
    for text in given:
        role, equals, file = text.partition("=")
        role, file = (role, file) if equals and re.fullmatch(r"[A-Za-z_]+", role) else ("test", text)
        if role in roles:
            raise refuse("usage", f"two files for {role}", where="--data", fix="give each role once")
        roles[role] = file
    return roles


def _seconds(text: str | None) -> float | None:
    """90, 90s, 2m, 1h"""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    if not re.fullmatch(r"\d{1,9}(\.\d+)?", number):
        raise refuse("usage", f"{text!r} is no time", where="--budget", fix="write 90s, 2m or 1h")
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
