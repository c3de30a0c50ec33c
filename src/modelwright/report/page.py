"""report.html: one file that opens offline, without scripts; a content policy in its head forbids every load from elsewhere.

This file chooses what is shown, page.html how and in which order. Nothing that a story holds may break the page: text is escaped and cut, long
tables are cut and say so, and a figure that cannot be drawn is replaced by a line that says why. Left out: sorting and filtering of tables (they need
scripts; the same figures are in evidence.json).
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from markupsafe import Markup

from . import advice, plots, text
from .story import Explained, Story
from .words import CAPTIONS, meaning

ROWS, COLUMNS, WORST, THUMB = 200, 8, 12, 224  # at most shown: rows of a table, columns of an example, examples; a thumbnail's side in pixels
SAMPLES = 40  # pictures that a model made
MOST = 500  # lines of the task
PIXELS = 60_000_000  # larger pictures are not decoded
ORDER = {"fail": 0, "inconclusive": 1, "pass": 2}
SIGNS = {"pass": "✓", "fail": "✕", "inconclusive": "?", None: "–"}

Figure = dict[str, Any]  # svg or error, title


def render(story: Story) -> str:
    folder, lenient = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.ChainableUndefined  # a key that is missing shows as nothing
    env = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=lenient)
    env.filters |= {"number": text.number, "clean": text.clean, "seconds": text.seconds, "megabytes": text.megabytes, "picture": picture}
    env.globals |= {"interval": text.interval, "sign": SIGNS.get, "word": advice.WORDS.get, "picture_of": picture}
    env.globals |= {"meaning": meaning, "caption": CAPTIONS.get, "favourable": advice.favourable}
    limits = sorted((e for e in story.lines() if e.get("limit")), key=lambda e: ORDER.get(e.get("verdict"), 3))
    others = [e for e in story.lines() if not e.get("limit")]
    explainers = [e for e in others if story.explained and str(e.get("slice")).startswith("explainer=")]
    return env.get_template("page.html").render(
        s=story,
        rows_shown=ROWS,
        verdict=advice.verdict(story),
        decided=advice.decided(story),
        short=advice.falls_short(story),
        steps=advice.next_steps(story),
        robust=advice.robust(story),
        chance=advice.by_chance(story.lines()),
        headline=story.headline(),
        compared=_figure(plots.dots, _compared(story), f"{story.primary}, {_better(story.primary)}", title="Model and baselines"),
        better=_better(story.primary) if story.primary else "",
        limits=limits,
        others=[e for e in others if e not in explainers],
        explainers=explainers,
        curves=[f for stage in story.stages for f in _curves(stage)],
        targets=[_target(name, drawn) for name, drawn in story.plots.items()],
        slices=_slices(story),
        weak=advice.found_slices(story),
        worst=_worst(story.worst),
        explained=[_explained(e) for e in story.explained],
        columns=list(story.plan.get("columns") or ()),
        facts={k: v for k, v in story.plan.items() if k not in ("rows", "columns", "warnings") and v not in (None, {}, [], "")},
        task=_yaml(story.task),
        digests={k: v for k, v in story.evidence.items() if k in ("model", "data", "code", "policy") and v},
    )


def _better(metric: str | None) -> str:
    return "lower is better" if text.lower_is_better(metric or "") else "higher is better"


def _figure(draw: Callable[..., str | None], *args: Any, title: str, **settings: Any) -> Figure | None:
    """Whatever goes wrong in a drawing must not cost the report: it is said in the figure's place."""
    try:
        svg = draw(*args, **settings)
    except Exception as e:
        return {"title": title, "error": f"{title} could not be drawn: {type(e).__name__}: {text.clean(e)}"}
    return {"title": title, "svg": Markup(svg)} if svg else None


def _compared(story: Story) -> list[tuple[str, Any, Any, Any, bool]]:
    """The model and its baselines on the primary metric, the best first."""
    ours = story.headline()
    rows = [("model", ours.get("value"), ours.get("low"), ours.get("high"), True)] if ours else []
    for name, metrics in story.baselines.items():
        m = metrics.get(story.primary or "") or {}
        rows.append((str(name), m.get("value"), m.get("low"), m.get("high"), False))
    sign = 1 if text.lower_is_better(story.primary or "") else -1
    return sorted((r for r in rows if text.finite(r[1])), key=lambda r: sign * r[1])


def _curves(stage: Mapping[str, Any]) -> list[Figure]:
    """The loss in training and validation, then up to two more of the validation's figures."""
    name = text.clean(stage.get("name", "stage"), 40)
    train, history = stage.get("train") or (), stage.get("history") or ()

    def line(points: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Any], list[Any]]:
        seen = [(p.get("step", i), p[key]) for i, p in enumerate(points) if text.finite(p.get(key))]
        return [a for a, _ in seen], [b for _, b in seen]

    lines = {"training": line(train, "loss"), "validation": line(history, "loss")}
    found = [_figure(plots.curves, lines, f"{name}: loss", marks=["validation"], title=f"{name}: loss")]
    keys = dict.fromkeys(k for h in history for k, v in h.items() if k not in ("step", "loss", "epoch", "seconds", "lr") and text.finite(v))
    for key in list(keys)[:2]:
        found.append(_figure(plots.curves, {"validation": line(history, key)}, f"{name}: {key}", y=key, marks=["validation"], title=f"{name}: {key}"))
    return [f for f in found if f]


def _target(name: str, drawn: Any) -> dict[str, Any]:
    labels = [text.clean(n, 60) for n in drawn.labels]
    figures: list[Figure | None] = []
    if drawn.before is not None or drawn.after is not None:
        figures.append(_figure(plots.reliability, drawn.before, drawn.after, title="Calibration"))
    if drawn.roc is not None:
        figures.append(_figure(plots.roc, drawn.roc, title="ROC"))
    if drawn.pr:
        figures.append(_figure(plots.pr, drawn.pr, title="Precision and recall"))
    if drawn.confusion is not None:
        figures.append(_figure(plots.confusion, drawn.confusion, labels, title="Confusion"))
    if drawn.residual is not None:
        figures.append(_figure(plots.residual, *drawn.residual, title="Predicted against truth"))
    figures = [f for f in figures if f]
    shown = {"figures": figures, "samples": list(drawn.samples)[:SAMPLES], "confused": confused(drawn.confusion, labels)}
    return {"name": name, "kind": drawn.kind, "split": drawn.split, **shown}


def confused(counts: Any, labels: Sequence[str], most: int = 12) -> list[dict[str, Any]]:
    """The pairs of classes taken for each other most often: what can be read of a matrix of more than ten classes."""
    try:
        counts = np.nan_to_num(np.asarray(counts, float))
    except (TypeError, ValueError):
        return []
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(counts) <= 10:
        return []
    totals, wrong = counts.sum(1), counts - np.diag(np.diag(counts))
    name = dict(enumerate(labels))
    pairs = [divmod(int(i), len(counts)) for i in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    found = [(i, j) for i, j in pairs if wrong[i, j] > 0]
    return [{"truth": name.get(i, i), "predicted": name.get(j, j), "n": int(wrong[i, j]), "share": wrong[i, j] / totals[i]} for i, j in found]


def _slices(story: Story) -> dict[str, Any]:
    """A plot of the primary metric by slice, the worst first, and all of them as a table."""
    sign = -1 if text.lower_is_better(story.primary or "") else 1
    chosen = [s for s in story.slices if s.get("metric") == story.primary and text.finite(s.get("value"))] or [
        s for s in story.slices if s.get("metric") == story.slices[0].get("metric") and text.finite(s.get("value"))
    ]
    chosen = sorted(chosen, key=lambda s: sign * s["value"])
    rows = [(str(s.get("slice")), s["value"], s.get("low"), s.get("high"), False) for s in chosen]
    if (ours := story.headline()) and rows and chosen[0].get("metric") == story.primary:
        rows.insert(0, ("all rows", ours["value"], ours.get("low"), ours.get("high"), True))
    metric = str(chosen[0].get("metric")) if chosen else ""
    return {"figure": _figure(plots.dots, rows, f"{metric}, {_better(metric)}", title="Slices") if rows else None, "rows": list(story.slices)}


def _worst(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """truth, predicted and loss first, then as many columns as fit."""
    rows = list(rows)
    names = dict.fromkeys(k for r in rows[:WORST] for k in r)
    first = [k for k in ("truth", "predicted", "loss") if k in names]
    rest = [k for k in names if k not in first]
    rest.sort(key=lambda k: not any(isinstance(r.get(k), bytes | bytearray) for r in rows[:WORST]))  # pictures first
    numbers = {k for k in names if any(text.finite(r.get(k)) and not isinstance(r[k], bool) for r in rows[:WORST])}
    shown = (first + rest)[: COLUMNS + len(first)]
    return {"columns": shown, "left_out": max(0, len(rest) - COLUMNS), "rows": rows[:WORST], "first": len(first), "numbers": numbers}


def _explained(e: Explained) -> dict[str, Any]:
    """Bars by column, pictures under their heat, changes that would turn a decision."""
    unit = {"permutation_importance": "mean increase of the log loss when shuffled"}
    bars = [_figure(plots.bars, values, name.replace("_", " "), unit.get(name, "mean |attribution|"), title=name) for name, values in e.bars.items()]
    pictures = []
    for row in list(e.pictures)[:SAMPLES]:
        maps = {name: overlaid(row["picture"], m) for name, m in row["maps"].items()}
        pictures.append({**row, "picture": overlaid(row["picture"], None), "maps": maps})
    return {"target": e.target, "shown": e.shown, "hidden": e.hidden, "bars": [b for b in bars if b], "pictures": pictures, "changes": list(e.changes)}


def overlaid(picture: Any, heat: Any) -> Markup:
    """A picture (C, H, W) in grey under its map (H, W): blue speaks for the class, orange against it; as it is without a map."""
    from PIL import Image

    shades = np.clip(np.nan_to_num(np.asarray(picture, float)), 0, 1)
    rgb = np.moveaxis(np.broadcast_to(shades, (3, *shades.shape[1:])), 0, 2)
    if heat is not None:
        heat = np.nan_to_num(np.asarray(heat, float))
        strength = (np.abs(heat) / (np.abs(heat).max() or 1.0))[..., None] ** 0.7
        colour = np.where(heat[..., None] > 0, [0.0, 0.447, 0.698], [0.902, 0.624, 0.0])
        rgb = (1 - 0.85 * strength) * (0.35 + 0.5 * rgb.mean(2, keepdims=True)) + 0.85 * strength * colour
    image = Image.fromarray((rgb * 255).round().astype(np.uint8))
    side = max(image.size)
    times = max(1, 112 // side)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((THUMB, THUMB))
    out = io.BytesIO()
    image.save(out, "PNG")
    return Markup('<img alt="picture" src="data:image/png;base64,{}">').format(base64.b64encode(out.getvalue()).decode())


def picture(content: Any) -> Markup | str | None:
    """Bytes of a picture as a thumbnail within the page; a few words where they are not one; None for anything but bytes."""
    if not isinstance(content, bytes | bytearray):
        return None
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content))
            if image.width * image.height > PIXELS:
                return f"a picture of {image.width:,} x {image.height:,} pixels"
            image = image.convert("RGBA" if image.mode in ("P", "LA", "PA", "RGBA") else "RGB")
            image.thumbnail((THUMB, THUMB))
            out = io.BytesIO()
            image.save(out, "PNG")
    except Exception:  # Pillow's plug-ins raise all kinds of errors on broken bytes
        return f"{len(content):,} bytes"
    small = " class=pixels" if max(image.size) <= 48 else ""
    return Markup('<img{} alt="picture" src="data:image/png;base64,{}">').format(Markup(small), base64.b64encode(out.getvalue()).decode())


def _yaml(task: Mapping[str, Any]) -> str:
    try:
        written = yaml.safe_dump(task, allow_unicode=True, sort_keys=False, width=120) if task else ""
    except yaml.YAMLError:
        written = str(task)
    lines = [line[: len(line) - len(line.lstrip(" "))] + text.clean(line, 400) for line in written.split("\n")[:MOST]]
    return "\n".join(lines) + ("\n… (cut; task.yaml has all of it)" if written.count("\n") > MOST else "")
