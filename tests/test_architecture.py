"""Who may import whom, read from the imports themselves. The table is docs/architecture.md's."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "modelwright"
IMPLEMENTATIONS = ("kinds", "encoders", "fusions", "heads", "decoders", "objectives", "strategies", "audits", "explainers")


def imports(path):
    """Modules of this package that a file imports, as dotted paths below modelwright."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            stem = [*base, *(node.module or "").split(".")] if node.module else list(base)
            yield ".".join(stem)
            yield from (".".join([*stem, a.name]) for a in node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (n.removeprefix("modelwright.") for n in names if n and n.startswith("modelwright."))


def table():
    """{part: parts it may import} from the table in docs/architecture.md."""
    rows = re.findall(r"^\| `(\w+)/` \| (.+?) \|", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.M)
    return {part: set(re.findall(r"`(\w+)`", allowed)) for part, allowed in rows}


@pytest.mark.parametrize("part", sorted(table()))
def test_imports_follow_the_table(part):
    allowed = table()[part] | {part}
    for path in (PACKAGE / part).rglob("*.py"):
        for name in filter(None, imports(path)):
            first = name.split(".")[0]
            exists = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
            assert not exists or first in allowed, f"{path.relative_to(PACKAGE)} imports {name}"


def test_nobody_imports_an_implementation_or_a_sibling():
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0]
        for name in imports(path):
            pieces = name.split(".")
            own = len(pieces) > 1 and pieces[1].startswith("_") and pieces[0] == part  # what components of one folder share is none itself
            if pieces[0] in IMPLEMENTATIONS and len(pieces) > 1 and not own and (PACKAGE / pieces[0] / f"{pieces[1]}.py").exists():
                raise AssertionError(f"{path.relative_to(PACKAGE)} (in {part}) imports {name}: components are found by name")


def test_the_registrys_imports_go_one_way():
    """No file of it, and not evidence.json's, imports one that leads back to it: not even lazily, nor for its types alone."""
    files = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    graph = {name: {i for i in imports(path) if i in files} for name, path in files.items()}
    for start in [name for name in files if name.startswith("registry.") or name in ("evidence", "digests")]:
        reached, todo = set(), set(graph[start])
        while todo:
            reached |= todo
            todo = {i for name in todo for i in graph[name]} - reached
        assert start not in reached, start


def test_nobody_imports_the_command_line():
    assert not [p for p in PACKAGE.rglob("*.py") if p.parent.name != "cli" and p.name != "__main__.py" and any(i.split(".")[0] == "cli" for i in imports(p))]


def test_it_runs_as_a_module():
    said = subprocess.run([sys.executable, "-m", "modelwright", "--help"], capture_output=True, text=True, check=True).stdout
    assert "audit" in said and "promote" in said


def test_no_pickles():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) pickle|torch\.load\(|joblib", path.read_text("utf-8"), re.M), path


@pytest.mark.parametrize(
    "code, limit", [("import modelwright", 0.2), ("import sys; sys.argv = ['modelwright', '--help']\nfrom modelwright.cli import main\nmain()", 0.3)]
)
def test_start_up_is_quick(code, limit):
    """Against a bare interpreter, best of five: the noise of a shared machine is not ours."""

    def best(text):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", text], stdout=subprocess.DEVNULL, check=True)
            taken.append(time.perf_counter() - start)
        return min(taken)

    assert best(code) - best("pass") < 2 * limit  # twice the target: a guard against a heavy import, not a benchmark
