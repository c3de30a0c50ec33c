"""What a run leaves for people: report.html, self-contained, and card.md. `write(folder, Story(...))` makes both."""

from __future__ import annotations

import os
from pathlib import Path

from .advice import decided, falls_short, next_steps
from .story import Story, TargetPlots

__all__ = ["Story", "TargetPlots", "decided", "falls_short", "next_steps", "write"]


def write(folder: Path, story: Story) -> None:
    """report.html and card.md in folder, each whole or not at all."""
    from . import card, page  # they bring matplotlib, jinja2 and yaml

    files = {"report.html": page.render(story), "card.md": card.render(story)}
    for name, text in files.items():
        part = Path(folder) / f".{name}.part"
        try:
            part.write_bytes(text.encode("utf-8", "replace"))
            os.replace(part, Path(folder) / name)
        finally:
            part.unlink(missing_ok=True)
