"""`modelwright new`: look at a file, infer its columns, and write a commented task that runs as it is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from . import find
from .data import sources
from .data.schema import infer, profile
from .errors import did_you_mean, refuse
from .home import write
from .kind import Profile
from .preparing.columns import target_kind

# what YAML does not take, or what turns text about
UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
HINTS = re.compile(r"^(target|label|class|y|outcome|diagnosis|income|default|churn|survived|species|result|标签|类别)$", re.IGNORECASE)


def write_task(file: str, target: str | None, out: Path | None) -> Path:
    """target: a column, or COLUMN=KIND where its kind is not to be inferred. Raises `Refusal` where it is unknown or the task file exists already."""
    loaded = sources.load(file)
    profiles = profile(loaded.table)
    if target is None:
        candidates = [n for n in profiles if HINTS.match(n)]
        listed = ", ".join(candidates or list(profiles)[:12])
        raise refuse(
            "new.target", "which column should be predicted?", why=f"columns: {listed}", fix=f"--target {(candidates or list(profiles))[-1]}"
        )
    said = None
    if target not in profiles and "=" in target:
        target, _, said = target.rpartition("=")
        find.find("kinds", said, "--target")
    if target not in profiles:
        raise refuse("data.unknown_column", f"there is no column {target!r}", where=file, fix=did_you_mean(target, profiles))
    if len(profiles) == 1:
        raise refuse("new.columns", f"{target!r} is the only column", why="there is nothing to predict it from", where=file, fix="bring columns to learn from")
    kind = said or target_kind(profiles[target])
    source = file if "://" in file else os.path.relpath(file, (out or Path.cwd() / "x").parent)
    out = out or Path(re.sub(r"\W+", "-", Path(file.rstrip("/")).stem) or "task").with_suffix(".yaml")
    if out.exists():
        raise refuse("new.exists", f"{out} already exists", why="a task file is never overwritten", fix="name another with --out")
    primary, shown = find.find("kinds", kind).primary, " ".join(file.split())
    lines = [
        f"# {loaded.table.num_rows:,} rows from {shown}. The two lines that count are `source` and `target`; everything else is shown as a start.",
        *(f"# noted: {note}" for note in loaded.notes[:5]),
        "data:",
        f"  source: {_word(source)}",
        "  columns:  # inferred; change a kind, add `group: true` for fairness and slices, or write `ignore`",
    ]
    for n, p in profiles.items():
        if n != target:
            guess = "ignore" if p.distinct <= 1 and p.missing in (0, p.rows) else "identifier" if n == loaded.split else infer(p)
            lines.append(f"    {_word(n)}: {guess:<12}# {_about(p)}")
    lines += [
        "  # split: {test: 0.2, validation: 0.1, calibration: 0.1}   # by: PATIENT keeps a unit's rows together; time: COLUMN tests on the latest",
        "target:",
        f"  {_word(target)}: {kind}  # {_about(profiles[target])}",
        "# stages:  # without this: one stage of supervised learning whose settings `modelwright plan` shows",
        "#   - pretrain: {objective: masked}",
        "#   - finetune: {objective: supervised}",
        "# seeds: 3  # several runs, the best kept, with the spread between them",
        "# audit:  # what must be shown before the model may be promoted; exit status 3 where it is not",
        f'#   require: {{"{"r2" if kind == "number" else primary}": ">= 0.8"}}',
        "",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, UNPRINTABLE.sub("?", "\n".join(lines)))
    return out


def _word(text: str) -> str:
    """As YAML reads it back: plain where that is safe, else in quotes."""
    return (
        text
        if re.fullmatch(r"[^\W\d][\w./ -]*(?<! )", text) and text.lower() not in ("true", "false", "null", "~")
        else UNPRINTABLE.sub(lambda c: f"\\u{ord(c[0]):04x}", json.dumps(text, ensure_ascii=False))
    )


def _about(p: Profile) -> str:
    shown = ", ".join(re.sub(r"\s+", " ", "(bytes)" if isinstance(v, bytes) else str(v))[:18] for v in p.sample[:3])
    return f"{p.distinct} values, {p.missing} missing: {shown}"
