"""The report's plots: small pure functions from numbers to the text of an <svg>, to be put into a page as it is.

One style; Okabe and Ito's colours, which colour-blind readers tell apart, and never colour alone. Text stays text (svg.fonttype none), so the
reader's browser draws it, Chinese included; a CJK font is used for the layout where one is installed. Each function returns None where nothing can be
drawn. matplotlib through its object API: no pyplot, no window, no state between calls.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .text import clean, finite, number

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, SOFT, GREY, PALE = "#1b2733", "#52606d", "#8492a0", "#e6eaee"
BLUES = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#cfe3f1", "#6caad1", "#0072B2", "#003d61"])
CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "WenQuanYi Micro Hei")
POINTS = 400  # at most, of a curve

Draw = Callable[..., "str | None"]


@functools.cache
def _style() -> dict[str, Any]:
    installed = set(font_manager.get_font_names())
    return {
        **{"svg.fonttype": "none", "svg.hashsalt": "report"},
        **{"text.parse_math": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": True},
        **{"font.family": ["DejaVu Sans", *(f for f in CJK if f in installed)], "font.size": 9, "text.color": INK},
        **{"axes.facecolor": "none"},  # on whatever paper
        **{"axes.edgecolor": "#c4ccd4", "axes.linewidth": 0.8, "axes.labelcolor": SOFT, "axes.titlesize": 9.5, "axes.titleweight": "bold"},
        **{"axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": PALE},
        **{"grid.linewidth": 0.7, "axes.axisbelow": True, "xtick.color": "#c4ccd4", "ytick.color": "#c4ccd4", "xtick.labelcolor": SOFT},
        **{"ytick.labelcolor": SOFT, "xtick.major.size": 0, "ytick.major.size": 0, "lines.linewidth": 1.8, "legend.frameon": False},
    }


def _drawn(width: float, height: float) -> Callable[[Callable[..., bool]], Draw]:
    """Turn `draw(ax, ...) -> anything was drawn` into `(...) -> svg or None`, in inches of 72 points."""

    def wrap(draw: Callable[..., bool]) -> Draw:
        @functools.wraps(draw)
        def plot(*args: Any, **settings: Any) -> str | None:
            with matplotlib.rc_context(_style()), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # the layout font lacks it, the browser's has it
                figure = Figure(figsize=(width, height), layout="constrained")
                ax = figure.add_subplot()
                if not draw(ax, *args, **settings):
                    return None
                return _svg(figure, ax.get_title(loc="left") or draw.__name__.strip("_"))

        return plot

    return wrap


def _svg(figure: Figure, title: str) -> str:
    """The bare element: no metadata, no namespaces (HTML knows them), ids that no other plot of the page has."""
    out = io.StringIO()
    figure.patch.set_alpha(0)
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)  # a style here would reach the whole page
    head, body = text.split(">", 1)
    head = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", head)
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', body))
    tag = hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:8]
    body = re.sub(r'\sid="([^"]*)"', lambda m: f' id="{tag}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{tag}-", body).replace("xlink:href", "href")
    label = clean(title).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'{head} role="img" aria-label="{label}">{body.strip()}'


def _pairs(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as floats, where both are finite, thinned to POINTS by taking every so manyth (ends kept)."""
    x, y = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int)) if len(x) else slice(0)
    return x[keep], y[keep]


def dots(rows: Sequence[tuple[str, Any, Any, Any, bool]], metric: str) -> str | None:
    """Values with intervals, one row each, the first on top: (name, value, low, high, is the model)."""
    rows = [r for r in rows if finite(r[1])][:24]
    return _drawn(5.2, 0.62 + 0.36 * len(rows))(_dots)(rows, metric) if rows else None


def _dots(ax: Axes, rows: Sequence[tuple[str, Any, Any, Any, bool]], metric: str) -> bool:
    left, right = _reach(rows)
    for i, (_, value, low, high, ours) in enumerate(rows):
        colour = BLUE if ours else GREY
        if not left <= value <= right:  # too far off to be worth the room: an arrow points there
            ax.plot(min(max(value, left), right), i, "<" if value < left else ">", color=colour, markersize=6)
            continue
        if finite(low) and finite(high):
            ax.plot([low, high], [i, i], color=colour, linewidth=2.6 if ours else 1.8, solid_capstyle="round", alpha=0.75)
        ax.plot(value, i, "o" if ours else "D", color=colour, markersize=7.5 if ours else 5, markeredgecolor="white")
    for i, (_, value, _, _, ours) in enumerate(rows):
        ink = INK if ours else SOFT
        ax.annotate(number(value), (1.02, i), xycoords=("axes fraction", "data"), va="center", color=ink, annotation_clip=False)
    ours = next((r[1] for r in rows if r[4]), None)
    if ours is not None:
        ax.axvline(ours, color=BLUE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
    ax.set_yticks(range(len(rows)), [clean(r[0], 28) for r in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)
    pad = 0.06 * (right - left)
    ax.set_xlim(left - pad, right + pad)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(clean(metric, 60))
    return True


def _reach(rows: Sequence[tuple[str, Any, Any, Any, bool]]) -> tuple[float, float]:
    """The ends of the axis: all rows with their intervals, without those far from the model where they would squeeze the rest to a third."""
    ends = [(min(v for v in r[1:4] if finite(v)), max(v for v in r[1:4] if finite(v))) for r in rows]
    whole = min(a for a, _ in ends), max(b for _, b in ends)
    ours = next((e for e, r in zip(ends, rows) if r[4]), None)
    if ours is not None and ours[1] > ours[0]:
        width = 2 * (ours[1] - ours[0])
        near = [(a, b) for (a, b), r in zip(ends, rows) if ours[0] - width <= r[1] <= ours[1] + width]
        core = min(a for a, _ in near), max(b for _, b in near)
        if whole[1] - whole[0] > 3 * (core[1] - core[0]):
            whole = core
    return whole if whole[1] > whole[0] else (whole[0] - 0.05 * (abs(whole[0]) or 1), whole[1] + 0.05 * (abs(whole[1]) or 1))


def bars(values: Mapping[str, Any], title: str, x: str) -> str | None:
    """Horizontal bars by name, the largest first, at most 15."""
    rows = sorted(((n, float(v)) for n, v in values.items() if finite(v)), key=lambda r: -r[1])[:15]
    return _drawn(4.9, 0.75 + 0.24 * len(rows))(_bars)(rows, title, x) if rows else None


def _bars(ax: Axes, rows: Sequence[tuple[str, float]], title: str, x: str) -> bool:
    ax.barh(range(len(rows)), [v for _, v in rows], color=[BLUE if v >= 0 else ORANGE for _, v in rows], height=0.62)
    ax.set_yticks(range(len(rows)), [clean(n, 28) for n, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(title=clean(title, 50), xlabel=clean(x, 60))
    return True


@_drawn(4.9, 2.7)
def curves(ax: Axes, lines: Mapping[str, tuple[Any, Any]], title: str, y: str = "loss", marks: Sequence[str] = ()) -> bool:
    """Lines over steps by name, thin and grey but for those in `marks`, which show their points."""
    drawn = False
    colours = iter([BLUE, ORANGE, GREEN, RED])
    for name, xy in lines.items():
        x, v = _pairs(*xy)
        colour = next(colours, BLUE) if name in marks else GREY
        if not len(x):
            continue
        drawn, marked = True, name in marks
        marker, width = ("o" if marked and len(x) <= 60 else None), (1.8 if marked else 1.1)
        if not marked and len(v) >= 60:  # of single batches: their running mean is what can be read
            ax.plot(x, v, color=colour, linewidth=0.6, alpha=0.3)
            k = len(v) // 20
            v = np.convolve(np.pad(v, (k // 2, k - 1 - k // 2), mode="edge"), np.ones(k) / k, mode="valid")
        ax.plot(x, v, color=colour, marker=marker, markersize=3.5, linewidth=width, label=clean(name, 24))
    if not drawn:
        return False
    ax.set(title=clean(title, 50), xlabel="step", ylabel=clean(y, 30))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.legend(loc="best", labelcolor=SOFT, handlelength=1.4)
    return True


@_drawn(3.2, 3.15)
def reliability(ax: Axes, before: Any, after: Any, title: str = "Calibration") -> bool:
    """Accuracy against confidence, before and after temperature scaling; dots grow with the rows in a bin."""
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    drawn = False
    for name, bins, colour, marker in (("before scaling", before, ORANGE, "s"), ("after scaling", after, BLUE, "o")):
        if bins is None:
            continue
        confidence, accuracy, count = (np.asarray(v, float).ravel() for v in bins)
        full = np.isfinite(confidence) & np.isfinite(accuracy) & (count > 0)
        if full.any():
            drawn = True
            size = 12 + 90 * np.sqrt(count[full] / count[full].max())
            ax.plot(confidence[full], accuracy[full], color=colour, linewidth=1.2, alpha=0.6)
            ax.scatter(
                confidence[full],
                accuracy[full],
                s=size,
                color=colour,
                marker=marker,
                edgecolor="white",
                label=name if before is not None and after is not None else "model",
                alpha=0.9,
            )
    ax.set(title=clean(title, 40), xlabel="confidence", ylabel="share right", xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
    legend = ax.legend(loc="upper left", labelcolor=SOFT, handletextpad=0.3) if drawn else None
    for handle in legend.legend_handles if legend else ():
        handle.set_sizes([34])
    return drawn


@_drawn(3.2, 3.15)
def roc(ax: Axes, curve: Any, title: str = "ROC") -> bool:
    """True against false positive rate."""
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    return _unit(ax, curve, title, "false positive rate", "true positive rate")


@_drawn(3.2, 3.15)
def pr(ax: Axes, curves: Mapping[str, Any], title: str = "Precision and recall") -> bool:
    """One curve, or one for each of the first four classes."""
    if len(curves) == 1:
        return _unit(ax, next(iter(curves.values())), title, "recall", "precision")
    for colour, (name, curve) in zip((BLUE, ORANGE, GREEN, RED), curves.items(), strict=False):
        ax.plot(*_pairs(*curve), color=colour, linewidth=1.4, label=clean(name, 20), clip_on=False)
    ax.set(title=clean(title, 40), xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    ax.legend(loc="lower left", labelcolor=SOFT, handlelength=1.4)
    return True


def _unit(ax: Axes, curve: Any, title: str, x: str, y: str) -> bool:
    a, b = _pairs(*curve)
    ax.plot(a, b, color=BLUE, drawstyle="default", clip_on=False)
    ax.fill_between(a, b, color=BLUE, alpha=0.07, linewidth=0)
    ax.set(title=clean(title, 40), xlabel=x, ylabel=y, xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    return len(a) > 1


def confusion(counts: Any, labels: Sequence[str]) -> str | None:
    """Rows are the truth; shade is the square root of the share of the row, the figure its count. At most 24 classes: more cannot be read."""
    counts = np.nan_to_num(np.asarray(counts, float))
    k = len(counts)
    if counts.ndim != 2 or counts.shape[1] != k or not 2 <= k <= 24 or not counts.sum():
        return None
    side = 2.5 + (0.27 if k <= 12 else 0.2) * max(0, k - 4)
    return _drawn(side + 0.7, side + 0.65)(_confusion)(counts, [clean(n, 14) for n in labels] if len(labels) == k else [str(i) for i in range(k)])


def _confusion(ax: Axes, counts: np.ndarray, labels: list[str]) -> bool:
    k = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.pcolormesh(share, cmap=BLUES, norm=PowerNorm(0.5, 0, 1), edgecolors="white", linewidth=1.5)
    for i, j in np.ndindex(k, k) if k <= 12 else ():
        if counts[i, j]:
            ink = "white" if share[i, j] > 0.25 else INK
            ax.text(j + 0.5, i + 0.5, f"{counts[i, j]:,.0f}", ha="center", va="center", color=ink, fontsize=9 if k < 8 else 7)
    ax.set_xticks(np.arange(k) + 0.5, labels, rotation=0 if k <= 4 else 90)
    ax.set_yticks(np.arange(k) + 0.5, labels)
    ax.set(title="Confusion", xlabel="predicted", ylabel="truth", aspect="equal")
    ax.invert_yaxis()
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return True


@_drawn(3.2, 3.15)
def residual(ax: Axes, truth: Any, predicted: Any, title: str = "Predicted against truth") -> bool:
    a, b = _pairs(truth, predicted)
    if not len(a):
        return False
    ends = [min(a.min(), b.min()), max(a.max(), b.max())]
    ax.plot(ends, ends, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.scatter(a, b, s=11, color=BLUE, alpha=0.45, linewidth=0)
    ax.set(title=clean(title, 40), xlabel="truth", ylabel="predicted")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    return True
