"""Whether an explanation says anything true of the model: completeness, randomised weights, stability, deletion and insertion, scaffolding.

The explainer under audit is the subject's own where it brings one, else `explainer`: integrated gradients (Sundararajan et al. 2017, 64 midpoints
from the mean row) or gradient x input, of the probability's logit for the predicted class. One that fails here should not be shown.
- completeness_error: sum of |attributions' sum - (f(x) - f(mean))| over sum of |f(x) - f(mean)|.
- randomization_similarity: Spearman correlation of attributions with those after every weight is redrawn (Adebayo et al. 2018, "Sanity Checks for
  Saliency Maps"), mean over three draws; inputs that never vary are masked, they agree by themselves. Near 1: the explainer does not look at the
  model.
- stability: Spearman correlation with attributions after noise of 1 % of each input's spread, asked anew (so that an explainer's own chance
  counts).
- fidelity: how much faster the probability falls when inputs go to the mean in the order of attribution than in random order, and rises when they
  come back, mean of both areas; paired by row. 0 is chance.
- offmanifold_gap: tables only, any predictor. Explainers ask about rows that do not exist, and a scaffolded model answers those from another
  function (Slack et al. 2020, "Fooling LIME and SHAP"). A forest learns the model's answers on perturbed rows; the gap is its agreement on other
  perturbed rows minus on real ones, the larger of two ways to perturb (noise as in LIME, columns of other rows as in SHAP). Plain models are near 0
  or below.
- recall_at_k: where the truth is planted (lineage "planted": names of columns), the share of it among the k largest mean |attributions|.
Before all, gradients must be complete on a known function, and an explainer that returns its input must fail the randomisation test. Grad-CAM, SHAP
and LIME themselves are left out: they come as the subject's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..forms import Measurement
from ..intervals import interval, paired
from ..kind import Metric
from ..subject import Audit, Subject

Function = Callable[[Tensor], Tensor]  # x (B, ...) -> (B, K)
Explainer = Callable[[Function, Tensor, Tensor, Tensor], Tensor]  # f, x (B, ...), classes (B,), baseline like one x -> like x


def integrated_gradients(f: Function, x: Tensor, classes: Tensor, base: Tensor, steps: int = 64) -> Tensor:
    """(x - base) times the mean gradient on the way from base to x, at midpoints."""
    total = torch.zeros_like(x)
    for i in range(steps):
        total += slope(f, base + (i + 0.5) / steps * (x - base), classes)
    return (x - base) * total / steps


def gradient_times_input(f: Function, x: Tensor, classes: Tensor, base: Tensor) -> Tensor:
    return (x - base) * slope(f, x, classes)


def slope(f: Function, x: Tensor, classes: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        out = f(x).gather(1, classes[:, None]).sum()
        return torch.autograd.grad(out, x)[0]


OWN: dict[str, Explainer] = {"integrated_gradients": integrated_gradients, "gradient_times_input": gradient_times_input}


class Explanation(Audit):
    costly = "explanation"

    def __init__(self, explainer: str = "integrated_gradients", rows: int = 128):
        """explainer: integrated_gradients or gradient_times_input. rows: at most, drawn at random."""
        if explainer not in OWN:
            raise ValueError(f"explainer ({explainer}) must be one of {', '.join(OWN)}")
        self.explainer, self.rows = explainer, rows

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            if kind.labels_ is None:
                continue
            table = subject.splits["test"]
            pick = np.sort(np.random.default_rng(subject.seed).permutation(table.num_rows)[: self.rows])
            if any(k.place == "number" for k in subject.schema.inputs.values()) and table.num_rows >= 50:
                found.append(self._scaffold(subject, target, table))
            forms = {next(iter(k.values())).form for k in subject.schema.encoders().values()}
            if forms & {"picture", "table"}:
                found += self._explained(subject, target, table.take(pa.array(pick)), pick)
        return found

    def _line(self, subject, metric, target, i, n, began, details, reasons=(), split="test") -> Measurement:
        value, low, high, method = (None, None, None, "not measured") if i is None else (i.value, i.low, i.high, i.method)
        return Measurement(
            "explanation", f"explanation.{metric}", target, split, None, value, low, high, subject.level, n, method, subject.seed,
            time.perf_counter() - began, details, list(reasons),
        )  # fmt: skip

    def _explained(self, subject, target, part, pick) -> list[Measurement]:
        began = time.perf_counter()
        names = ("completeness_error", "randomization_similarity", "stability", "fidelity")

        def nothing(code, why):
            return [self._line(subject, n, target, None, len(pick), began, {"why": why}, [code]) for n in names]

        opened = subject.open(target, part) if subject.open is not None else None
        if opened is None:
            return nothing("explanation.no_gradients", "the model cannot be opened as a differentiable function of one picture or of a table's numbers")
        x, rows = opened.x.detach().float(), torch.arange(len(opened.x))
        if not x[0].numel():
            return []
        if not self_test():
            return nothing("explanation.self_test", "integrated gradients were not complete, or a blind explainer passed")
        name, explain = next(iter(subject.explainers.items())) if subject.explainers else (self.explainer, OWN[self.explainer])

        def f(x: Tensor) -> Tensor:
            return opened.logits(x, rows[: len(x)])

        start = time.perf_counter()
        with torch.no_grad():
            classes = f(x).argmax(1)
        base = x.mean(0)
        try:
            shown = explain(f, x, classes, base).detach()
        except RuntimeError as e:
            return nothing("explanation.no_gradients", f"{type(e).__name__}: {e}"[:200])
        if shown.shape != x.shape or not torch.isfinite(shown).all():
            return nothing("explanation.shape", f"{name} gave {tuple(shown.shape)} for {tuple(x.shape)}, or values that are no numbers")
        took, rng = time.perf_counter() - start, torch.Generator().manual_seed(subject.seed)
        draws = 3 if subject.seconds is None or 6 * took < subject.seconds else 1  # without a limit of time, the same every time
        clusters = subject.clusters_of("test")
        given = {"level": subject.level, "clusters": None if clusters is None else clusters[pick], "seed": subject.seed}
        with torch.no_grad():
            change = (f(x) - f(base.expand_as(x))).gather(1, classes[:, None]).squeeze(1).numpy().astype(np.float64)
        short = shown.flatten(1).sum(1).numpy() - change
        varies = x.flatten(1).std(0) > 1e-6
        n, more = len(x), {"explainer": name}
        ratio = Metric(lambda i: float(np.abs(short[i]).sum() / max(np.abs(change[i]).sum(), 1e-12)), better="lower")
        found = [self._line(subject, names[0], target, interval(ratio, n, **given), n, began, more)]
        found.append(self._randomised(subject, target, f, explain, x, classes, base, shown, varies, draws, rng, given, more))
        moved = x + 0.01 * x.std(0) * torch.randn(x.shape, generator=rng)
        again = explain(f, moved, classes, base).detach()
        similar = spearman(shown, again, varies)
        found.append(self._line(subject, names[2], target, interval(Metric.mean(similar), n, **given), n, began, more))
        ours, random = curves(f, x, classes, base, shown, rng)
        i = paired(Metric.mean(ours), Metric.mean(random), n, **given)
        found.append(self._line(subject, names[3], target, i, n, began, {**more, "random_order": float(random.mean())}))
        planted = subject.lineage.get("planted")
        if planted:
            weight = shown.abs().flatten(1).mean(0)
            top = [opened.names[i] for i in weight.argsort(descending=True)[: len(planted)].tolist()]
            hits = np.array([p in top for p in planted], float)
            found.append(
                self._line(
                    subject,
                    "recall_at_k",
                    target,
                    interval(Metric.mean(hits), len(hits), level=subject.level),
                    len(hits),
                    began,
                    {**more, "top": top},
                )
            )
        return found

    def _randomised(self, subject, target, f, explain, x, classes, base, shown, varies, draws, rng, given, more) -> Measurement:
        began, similar = time.perf_counter(), []
        for _ in range(draws):
            with Redrawn(rng) as redrawn:
                with torch.no_grad():
                    out = f(x)
                if not redrawn.weights:
                    why = {**more, "why": "no weights were seen at work: another model cannot be drawn"}
                    return self._line(subject, "randomization_similarity", target, None, len(x), began, why, ["explanation.no_weights"])
                similar.append(spearman(shown, explain(f, x, classes, base).detach(), varies))
        assert out.shape[0] == len(x)
        i = interval(Metric.mean(np.mean(similar, 0), "lower"), len(x), **given)
        return self._line(subject, "randomization_similarity", target, i, len(x), began, {**more, "draws": draws, "weights": len(redrawn.weights)})

    def _scaffold(self, subject, target, table) -> Measurement:
        began = time.perf_counter()
        gaps = {way: scaffold_gap(subject, target, table, way) for way in ("noise", "columns")}
        worst = max(gaps, key=lambda w: gaps[w][0].mean() - gaps[w][1].mean())
        away, real = gaps[worst]
        n = min(len(away), len(real))
        i = paired(Metric.mean(away[:n]), Metric.mean(real[:n]), n, level=subject.level, seed=subject.seed)  # in no order: as independent
        details = {"perturbed_by": worst, "agreement_on_perturbed": float(away.mean()), "agreement_on_real": float(real.mean())}
        return self._line(subject, "offmanifold_gap", target, i, n, began, details)


class Redrawn(TorchFunctionMode):
    """Every parameter that an operation reads is replaced by a normal draw of its spread, the same each time."""

    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.rng, self.weights = rng, {}

    def _new(self, a):
        if isinstance(a, torch.nn.Parameter):
            if id(a) not in self.weights:
                with torch._C.DisableTorchFunction():
                    spread = a.detach().std() if a.numel() > 1 else a.detach().abs()
                    self.weights[id(a)] = torch.randn(a.shape, generator=self.rng) * spread.clamp(min=1e-3)
            return self.weights[id(a)]
        return type(a)(self._new(b) for b in a) if type(a) in (list, tuple) else a

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **(kwargs or {}))
        return func(*[self._new(a) for a in args], **{k: self._new(v) for k, v in (kwargs or {}).items()})


def spearman(a: Tensor, b: Tensor, keep: Tensor) -> np.ndarray:
    """(B,) rank correlation over the kept inputs; 0 where one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(v.flatten(1)[:, keep].numpy(), axis=1) for v in (a, b)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.where(size > 0, (centred[0] * centred[1]).sum(1) / np.maximum(size, 1e-12), 0.0)


def curves(f: Function, x: Tensor, classes: Tensor, base: Tensor, shown: Tensor, rng: torch.Generator, points: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """((B,) insertion's mean probability minus deletion's in the order of attribution, the same in random order)."""
    flat, plain = x.flatten(1), base.flatten()
    d = flat.shape[1]

    def area(order: Tensor) -> np.ndarray:
        rank = order.argsort(1)  # 0: the first to go
        total = torch.zeros(len(x))
        with torch.no_grad():
            for k in np.unique(np.linspace(1, d - 1, min(points, max(d - 1, 1))).round().astype(int)):
                gone = rank < int(k)
                for sign, out in ((-1, torch.where(gone, plain, flat)), (1, torch.where(gone, flat, plain))):
                    total += sign * F.softmax(f(out.reshape(x.shape)), 1).gather(1, classes[:, None]).squeeze(1) / min(points, max(d - 1, 1))
        return total.numpy().astype(np.float64) / 2

    ours = area(shown.flatten(1).argsort(1, descending=True))
    random = np.mean([area(torch.rand(flat.shape, generator=rng).argsort(1)) for _ in range(2)], 0)
    return ours, random


def self_test() -> bool:
    """Integrated gradients of x' A x are complete; an explainer that returns its input is caught by redrawn weights, they themselves are not."""
    rng = torch.Generator().manual_seed(0)
    x, square = torch.randn(32, 12, generator=rng), torch.randn(12, 12, generator=rng)
    classes, base = torch.zeros(32, dtype=torch.long), torch.zeros(12)
    form = lambda x: ((x @ square) * x).sum(1, keepdim=True)  # noqa: E731
    gap = (integrated_gradients(form, x, classes, base).sum(1) - form(x)[:, 0]).abs().max()
    weight = torch.nn.Parameter(torch.randn(12, 2, generator=rng))
    f = lambda x: x @ weight  # noqa: E731
    keep, similar = torch.ones(12, dtype=torch.bool), {}
    for name, explain in (("gradients", integrated_gradients), ("blind", lambda f, x, classes, base: x)):
        before = explain(f, x, classes, base).detach()
        with Redrawn(rng):
            similar[name] = float(spearman(before, explain(f, x, classes, base).detach(), keep).mean())
    return float(gap) < 1e-3 * float(form(x).abs().max()) and similar["blind"] > 0.99 and similar["gradients"] < 0.9


def scaffold_gap(subject: Subject, target: str, table: pa.Table, way: str, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """A forest that learnt the model's classes on perturbed rows: does it agree, (M,) on other perturbed rows, and (M,) on real ones."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng([subject.seed, len(way)])
    real = table.take(pa.array(rng.permutation(table.num_rows)[:rows]))
    start = real.take(pa.array(rng.integers(0, real.num_rows, 3 * rows)))
    cells = [n for n, k in subject.schema.inputs.items() if k.place in ("number", "code")]
    away = perturbed(start, real, cells, way, rng)
    half = away.num_rows * 2 // 3

    def seen(t: pa.Table) -> np.ndarray:
        stored = subject.schema.encode(t, targets=False).inputs["table"]
        return np.concatenate([np.nan_to_num(stored["numbers"], nan=-30.0), stored["codes"]], 1)

    def said(t: pa.Table) -> np.ndarray:
        return subject.predictor.predict(t)[target].probabilities.argmax(1).numpy()

    x, y = seen(away), said(away)
    if len(np.unique(y[:half])) < 2:
        return (y[half:] == y[0]).astype(float), (said(real) == y[0]).astype(float)
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=subject.seed).fit(x[:half], y[:half])
    return (forest.predict(x[half:]) == y[half:]).astype(float), (forest.predict(seen(real)) == said(real)).astype(float)


def perturbed(rows: pa.Table, others: pa.Table, cells: list[str], way: str, rng: np.random.Generator) -> pa.Table:
    """noise: each number moved by its own spread, categories redrawn; columns: each cell, with probability a half, another row's."""
    n = rows.num_rows
    for name in cells:
        column, at = rows.column(name), rows.column_names.index(name)
        number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if way == "noise" and number:
            x = column.cast(pa.float64()).to_numpy()
            x = x + np.nanstd(others.column(name).cast(pa.float64()).to_numpy()) * rng.standard_normal(n)
            made = pa.array(np.round(x) if pa.types.is_integer(column.type) else x, from_pandas=True).cast(column.type, safe=False)
        else:
            swap = rng.random(n) < 0.5
            both = pa.concat_arrays([column.combine_chunks(), others.column(name).combine_chunks()])
            made = both.take(pa.array(np.where(swap, n + rng.integers(0, others.num_rows, n), np.arange(n))))
        rows = rows.set_column(at, name, made)
    return rows
