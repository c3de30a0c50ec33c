"""Every code of a refusal is explained in docs/verdicts.md, and nothing that is explained has gone."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def codes() -> set[str]:
    """First arguments of refuse(...) and Problem(...) that are written out."""
    found = set()
    for path in (ROOT / "src" / "modelwright").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("refuse", "Problem") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and re.fullmatch(r"[a-z_]+\.[a-z_]+", first.value):
                    found.add(first.value)
    return found


def test_every_refusal_is_explained():
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    assert len(codes()) > 100
    assert not sorted(c for c in codes() if f"`{c}`" not in text)


def test_every_reason_is_explained():
    """Texts in the code that look like a reason of a figure's: an area and a word, and no metric."""
    from modelwright.registry.gate import METRICS, NAMES

    areas, found = {*NAMES, "gate", "audit"} - {""}, set()
    for path in (ROOT / "src" / "modelwright").rglob("*.py"):
        texts = [n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        found |= {t for t in texts if re.fullmatch(rf"({'|'.join(areas)})\.[a-z_]*[a-z]", t)} - METRICS
    text = (ROOT / "docs" / "verdicts.md").read_text("utf-8")
    others = {"audit.json", "audit.policy", "efficiency.no_interval"}  # a file, a place in a task, and one of every area's
    assert len(found) > 80 and not sorted(c for c in found - others if f"`{c}`" not in text)
