"""card.md: a model card with Hugging Face's metadata block (YAML between two lines of ---), so that a hub can index it.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting", and the hub's `model-index` (a result needs a task type, a data set's type and name,
and a metric's type and value). What nobody declared (licence, intended use) is said to be missing, not guessed. All text is escaped for Markdown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from . import advice
from .story import Story
from .text import clean, interval, number, seconds

CLASSES = {"category", "boolean", "ordered", "label set"}


def render(story: Story) -> str:
    block = yaml.safe_dump(metadata(story), allow_unicode=True, sort_keys=False, width=1000)
    return f"---\n{block}---\n\n" + "\n".join(_body(story)).rstrip() + "\n"


def metadata(story: Story) -> dict[str, Any]:
    """What a hub reads. Only whole-split figures of the test split that are numbers."""
    task = _pipeline(story)
    results = [
        {"type": clean(e["metric"]), "value": e["value"], "name": clean(f"{e['target']}: {e['metric']}" if e.get("target") else e["metric"])}
        for e in story.lines()
        if e.get("split") == "test" and e.get("slice") is None and e.get("value") is not None
    ]
    unique = list({(r["name"]): r for r in results}.values())
    name = clean(story.title) or "model"
    found: dict[str, Any] = {"library_name": "modelwright", "tags": ["modelwright"]}
    if task:
        found["pipeline_tag"] = task
    if unique:
        found["metrics"] = list(dict.fromkeys(r["type"] for r in unique))
        data = {"type": "private", "name": clean(_source(story)) or "not named", "split": "test"}
        found["model-index"] = [{"name": name, "results": [{"task": {"type": task or "other"}, "dataset": data, "metrics": unique}]}]
    return found


def _source(story: Story) -> str:
    data = story.task.get("data")
    return str(data.get("source", "") if isinstance(data, Mapping) else data or "")


def _pipeline(story: Story) -> str | None:
    """The hub's name of the task, where the kinds of the columns tell it."""
    columns = [c for c in story.plan.get("columns") or () if isinstance(c, Mapping)]
    targets = [str(c.get("kind")) for c in columns if c.get("role") == "target"]
    inputs = {str(c.get("kind")) for c in columns if c.get("role") in ("input", "", None)}
    if len(targets) != 1:
        return None
    classes, number_ = targets[0] in CLASSES, targets[0] == "number"
    if inputs == {"image"}:
        return "image-classification" if classes else "object-detection" if targets[0] == "boxes" else None
    if inputs == {"text"}:
        return "text-classification" if classes else "translation" if targets[0] == "text" else None
    if inputs and not inputs & {"image", "text"}:
        return "tabular-classification" if classes else "tabular-regression" if number_ else None
    return None


def md(x: Any, longest: int = 120) -> str:
    """Text that Markdown shows as it is: no tags, links, emphasis or cells of its own."""
    text = html.escape(clean(x, longest), quote=False).replace("&gt;", ">")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$>])", r"\\\1", text).replace("://", ":&#47;&#47;")  # a bare address would become a link


def _code(x: Any) -> str:
    """A digest or a version, as code; of other text only what could be one."""
    return f"`{re.sub(r'[^A-Za-z0-9:.+_ -]', '', clean(x))}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], right: str) -> list[str]:
    """right: one character a column, r for numbers."""
    rows = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "|".join("---:" if a == "r" else "---" for a in right) + "|", *rows, ""] if rows else []


def _body(story: Story) -> list[str]:
    plan, evidence, verdict = story.plan, story.evidence, advice.verdict(story)
    columns = [c for c in plan.get("columns") or () if isinstance(c, Mapping)]
    targets = [c for c in columns if c.get("role") == "target"]
    inputs = [c for c in columns if c.get("role") in ("input", "", None)]
    out = [f"# {md(story.title)}", "", f"**{advice.WORDS.get(verdict, md(verdict))}.** {md(advice.decided(story), 600)}", ""]

    out += ["## What it does", ""]
    if targets:
        out += [f"It predicts {_names(targets)} from {_names(inputs) or 'its inputs'}.", ""]
    use = story.task.get("intended_use")
    unknown = "Its intended use was not declared. The evidence speaks of rows that are like the test split, and of nothing else."
    out += [md(use, 600) if use else unknown, ""]
    out += ["```sh", "modelwright predict RUN --data rows.csv --out predictions.csv", "```", ""]

    out += ["## Evidence", ""]
    lines = sorted(story.lines(), key=lambda e: e.get("limit") is None)
    cells = [
        [
            md(f"{e['target']}: {e.get('metric')}" if e.get("target") else e.get("metric"))
            + (f" (favourable: {md(positive, 60)})" if (positive := advice.favourable(e)) else ""),
            *(md(e.get("split") or "–"), md(e.get("slice") or "all"), number(e.get("value")), interval(e.get("low"), e.get("high"))),
            *(number(e.get("n")), md(e.get("limit") or "none"), md(e.get("verdict") or "–")),
        ]
        for e in lines[:60]
    ]
    out += _table(("metric", "split", "slice", "value", "interval", "n", "limit", "verdict"), cells, "lllrrrll") or ["Nothing was measured.", ""]
    if len(lines) > 60:
        out += [f"{len(lines) - 60:,} more figures are in evidence.json.", ""]
    out += [part for line in advice.robust(story) for part in (md(line, 300), "")]
    if (opened := evidence.get("test_openings")) is not None:
        out += [f"The test split was opened {'once' if opened == 1 else f'{opened} times'}.", ""]
    if story.baselines and story.primary:
        theirs = [(n, m.get(story.primary) or {}) for n, m in story.baselines.items()]
        note = {story.ahead: "ahead of the model" + ", perhaps by chance" * advice.by_chance(story.lines())}
        cells = [[md(n), number(m.get("value")), interval(m.get("low"), m.get("high")), note.get(n, "")] for n, m in theirs]
        out += _table(("baseline", md(story.primary), "interval", ""), cells, "lrrl")

    out += ["## Where it falls short", "", *(f"- {md(line, 400)}" for line in advice.falls_short(story)[:20]), ""]
    if not advice.falls_short(story):
        out[-1:] = ["Nothing was found in what was measured. What was not measured is not known.", ""]

    out += ["## Data", ""]
    rows = plan.get("rows") if isinstance(plan.get("rows"), Mapping) else {}
    digests = evidence.get("data") if isinstance(evidence.get("data"), Mapping) else {}
    cells = [[md(k), number(rows.get(k)), _code(digests[k]) if k in digests else "–"] for k in {**rows, **digests}]
    out += _table(("split", "rows", "digest"), cells, "lrl") or ["Not recorded.", ""]

    cells = [[md(t.get("name", "stage")), md(t.get("objective", "–")), number(t.get("steps")), seconds(t.get("seconds"))] for t in story.stages]
    out += ["## Training", "", *(_table(("stage", "objective", "steps", "time"), cells, "llrr") or ["Not recorded.", ""])]
    out += ["## Provenance", "", *(f"- {md(line, 400)}" for line in story.lineage)]
    out += [f"- {k}: {_code(evidence[k])}" for k in ("model", "code", "policy") if evidence.get(k)]
    return [*out, "- The licence was not declared." if not story.task.get("license") else f"- Licence: {md(story.task['license'])}"]


def _names(columns: list[Mapping[str, Any]], most: int = 8) -> str:
    names = ", ".join(f"{md(c.get('name'), 60)} ({md(c.get('kind'), 30)})" for c in columns[:most])
    return names + (f" and {len(columns) - most:,} more columns" if len(columns) > most else "")
