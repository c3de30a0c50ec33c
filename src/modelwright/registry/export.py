"""What leaves the registry: a version as a Hugging Face folder, and its card and report with what happened to it since they were written.

The folder: model.safetensors and model.json, README.md (the card, whose metadata block the hub reads), evidence.json, lineage.json, and index.md where
the evidence is looked up by the headings of the law. No task.yaml, which names the places of data, and no report.html, which shows rows of it. An
override stands before anything that card, report or index claims, lapsed or not. Card and report lie in the store as the run wrote them, under its
signature; what happened since is added whenever they are shown, so that it cannot be out of date.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import refuse
from . import objects
from .base import Base
from .trail import plain
from .versions import Version

BESIDE = ("README.md", "evidence.json", "lineage.json", "index.md")  # what is added to the model's own files


def overrides(registry: Base, version: Version) -> list[dict[str, Any]]:
    """Every override of these bytes, lapsed or not: what cards, reports and services show."""
    return [
        {"alias": e.alias, "who": e.who, "why": e.why, "at": e.at, "until": e.until, "reasons": e.details["reasons"]}
        for e in registry.history()
        if e.what == "override" and e.digest == version.digest
    ]


AGAINST, SINCE = "Promoted against the evidence.", "Audited since it was registered."


def notices(registry: Base, version: Version, today: str) -> dict[str, list[str]]:
    """What happened to these bytes since card and report were written, as plain text under the headings above; nothing where nothing did."""
    lines = []
    for o in overrides(registry, version):
        state = "lapsed after" if today > o["until"] else "until"
        why = "; ".join(f"{r['code']}: {r['text']}" for r in o["reasons"])
        lines.append(f"{o['who']} overrode the gate for {o['alias']} on {o['at'][:10]}, {state} {o['until']}, because: {o['why']}. The gate said: {why}")
    later = [(a, a.evidence["decision"]) for a in registry.audits(version.model) if a.id > registry.registered_at(version)]
    audits = [f"{a.source or a.digest[:19]} on {a.at[:10]}: {decision['verdict'] if decision else 'no limits were declared'}" for a, decision in later]
    return {head: [plain(x) for x in told] for head, told in ((AGAINST, lines), (SINCE, audits)) if told}


def card(registry: Base, version: Version, today: str) -> str:
    """card.md as registered, with what happened since on top."""
    path = version.folder / "card.md"
    text = path.read_text("utf-8") if path.exists() else f"# {version.reference}\n\nNo card was registered.\n"
    notice = _quoted(notices(registry, version, today))
    head = re.match(r"---\n.*?\n---\n+", text, re.S)
    return (head[0] + notice + text[head.end() :]) if head else notice + text


def report(registry: Base, version: Version, today: str) -> str | None:
    """report.html as registered, with what happened since in its first lines; None where none was registered."""
    path = version.folder / "report.html"
    if not path.exists():
        return None
    text = path.read_text("utf-8")
    body = re.search(r"<body[^>]*>", text)
    at = body.end() if body else 0
    style = "color:#fff;padding:14px 32px;overflow-wrap:anywhere;background:"
    for head, lines in reversed(notices(registry, version, today).items()):
        said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        text = f'{text[:at]}\n<aside style="{style}{"#b84a00" if head == AGAINST else "#52606d"}"><b>{head}</b>{said}</aside>{text[at:]}'
    return text


def _quoted(told: dict[str, list[str]]) -> str:
    """As Markdown that shows the text as it is; nothing where there is none."""
    blocks = []
    for head, lines in told.items():
        shown = [re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", html.escape(line, quote=False)) for line in lines]
        blocks.append(f"> **{head}** " + "\n>\n> ".join(shown) + "\n\n")
    return "".join(blocks)


@contextmanager
def copied(registry: Base, version: Version, beside: Path) -> Iterator[Version]:
    """The version with a copy of its files as its folder, verified after it was copied: whatever happens to the store meanwhile (garbage collection,
    say) is either not in it or a refusal. beside: the copy lies next to this path, and is removed in the end."""
    half = beside.with_name(f".{beside.name[:60]}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        try:
            half.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(version.folder, half, symlinks=True, copy_function=shutil.copyfile)
            files, odd = objects.listing(half)
        except (FileNotFoundError, shutil.Error) as e:
            if version.folder.is_dir():
                raise
            raise registry.gone(version) from e
        if odd or objects.digest_of(files) != version.digest:
            if not version.folder.is_dir():
                raise registry.gone(version)
            what, fix = f"the files of {version.reference} are not those that were registered", f"modelwright registry verify {version.name} names them"
            raise refuse("registry.tampered", what, why="something wrote into the store", where=str(version.folder), fix=fix)
        yield Version(version.name, version.version, version.digest, version.model, version.lineage, half, version.note)
    finally:
        objects.remove(half)


def huggingface(registry: Base, version: Version, out: Path, today: str, index: Callable[..., str]) -> list[str]:
    """Write the folder, whole or not at all; the names of its files. index: (evidence, lineage, card) -> markdown."""
    if out.is_symlink() or out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refuse("export.exists", f"{out} is not empty", why="nothing is overwritten", where="--to hf", fix="name a folder that does not exist")
    half = out.with_name(f".{out.name[:60]}-{os.getpid()}-{os.urandom(4).hex()}.half")
    with copied(registry, version, out) as kept:
        try:
            shutil.copytree(kept.folder / "model", half, copy_function=shutil.copyfile)
            for path in [half, *(p for p in half.rglob("*") if p.is_dir())]:
                path.chmod(0o755)
            said = {}
            for name in ("evidence.json", "lineage.json"):
                if (kept.folder / name).exists():
                    shutil.copyfile(kept.folder / name, half / name)
                    said[name] = json.loads((half / name).read_bytes())
            text = card(registry, kept, today)
            (half / "README.md").write_text(text, "utf-8")
            found = index(said.get("evidence.json", {}), said.get("lineage.json", {}), text)
            (half / "index.md").write_text(_quoted(notices(registry, kept, today)) + found, "utf-8")
            half.rename(out)
        finally:
            objects.remove(half)
    return sorted(p.name for p in out.iterdir())
