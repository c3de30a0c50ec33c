"""What leaves the registry: a version as a Hugging Face folder, and its card with what happened to it since it was written.

The folder: model.safetensors and model.json, README.md (the card, whose metadata block the hub reads), evidence.json, lineage.json, and index.md
where the evidence is looked up by the headings of the law. No task.yaml: it names the places of data. An override is in the card's first lines,
before anything that the card claims.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import refuse
from . import promotion
from .store import Registry, Version


def card(registry: Registry, version: Version, today: str) -> str:
    """card.md as registered, with every override of these bytes on top."""
    path = version.folder / "card.md"
    text = path.read_text("utf-8") if path.exists() else f"# {version.reference}\n\nNo card was registered.\n"
    lines = [_line(o, today) for o in promotion.overrides(registry, version)]
    if not lines:
        return text
    notice = "> **Promoted against the evidence.** " + "\n>\n> ".join(lines) + "\n"
    head = re.match(r"---\n.*?\n---\n+", text, re.S)
    return (head[0] + notice + "\n" + text[head.end() :]) if head else f"{notice}\n{text}"


def _line(o: dict[str, Any], today: str) -> str:
    state = "lapsed after" if today > o["until"] else "until"
    why = "; ".join(f"{r['code']}: {r['text']}" for r in o["reasons"])
    return _plain(f"{o['who']} overrode the gate for {o['alias']} on {o['at'][:10]}, {state} {o['until']}, because: {o['why']}. The gate said: {why}")


def _plain(text: str) -> str:
    """One line that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def huggingface(registry: Registry, version: Version, out: Path, today: str, index: Callable[..., str]) -> list[str]:
    """Write the folder; the names of its files. version: from `resolve`. index: (evidence, lineage, card) -> markdown."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise refuse("export.exists", f"{out} is not empty", why="nothing is overwritten", where="--to hf", fix="name a folder that does not exist")
    out.mkdir(parents=True, exist_ok=True)
    model = version.folder / "model"
    for path in sorted(p for p in model.rglob("*") if p.is_file()):
        place = out / path.relative_to(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    said = {}
    for name in ("evidence.json", "lineage.json"):
        if (version.folder / name).exists():
            shutil.copyfile(version.folder / name, out / name)
            said[name] = json.loads((out / name).read_bytes())
    text = card(registry, version, today)
    (out / "README.md").write_text(text, "utf-8")
    (out / "index.md").write_text(index(said.get("evidence.json", {}), said.get("lineage.json", {}), text), "utf-8")
    return sorted(p.name for p in out.iterdir())
