"""Whether an explanation says anything true of the model: completeness, randomised weights, stability, deletion and insertion, scaffolding.

The explainer under audit is the subject's own where it brings one, else `explainer`: integrated gradients where the model opens as a differentiable
function, Shapley values where it only answers. Its figures have no slice; those of every other explainer that fits the model have the slice
`explainer=NAME`, on fewer rows, so that a limit may name one (`explanation.fidelity@explainer=lime`) and none is ambiguous. They explain the log-odds of the
predicted class (permutation importance: of the true one), of a number the number itself (`_above`), against the mean row (`closed`: the middle one). An
explainer whose figures carry one of the codes below is not shown in the report.
- completeness_error: sum of |attributions' sum - (f(x) - f(baseline))| over sum of |f(x) - f(baseline)|, of the class explained or of another that is
  drawn, whichever is more. `explanation.incomplete` above 0.1, of explainers that claim to add up. An explainer that is told no baseline may have taken
  the mean row or zeros: the better of the two counts, here and in fidelity.
- randomization_similarity: Spearman correlation of attributions with those after every weight is redrawn (Adebayo et al. 2018, "Sanity Checks for
  Saliency Maps"), mean over three draws (one for pictures' others, and where time is limited); inputs that never vary are masked, they agree by
  themselves. Near 1: the explainer does not look at the model: `explanation.ignores_model` above 0.7.
- random_logit_similarity: Spearman correlation with attributions of another class, drawn at random (Sixt et al. 2020, "When Explanations Lie"). Of what
  speaks for a class and against the others it is low; 1 is a map that is the same whatever it is asked: `explanation.ignores_class` above 0.9. Attention
  rollout never asks, and absolute values of two classes cannot say.
- stability: Spearman correlation with attributions after noise of 1 % of each input's spread, asked anew with other random numbers (so that an
  explainer's own chance counts). `explanation.unstable` below 0.5, or where rows that are explained alone are surely explained otherwise.
- fidelity: how much faster the probability falls when inputs go to the baseline in the order of attribution than in random order, and rises when they
  come back, mean of both areas; paired by row. 0 is chance: `explanation.unfaithful` unless it is surely above.
- unfaithful_rows: the share of rows whose order is worse than the best of four random ones: an explanation may be right on average and of nothing on a
  part of the rows. (Of two or three inputs the best order is often drawn, too: who is as good is right.)
- overlooked: how much too low an input that matters is put. Inputs are taken out alone (of pictures squares), and ordered by how far the log-odds move; the
  figure is by how much lower the explainer puts each row's first, or one column in all rows, as a share of the order, whichever is more. An explanation
  from which one column was taken away (Aivodji et al. 2019, "Fairwashing") adds up and is nearly as faithful. `explanation.overlooks` above 0.5.
- offmanifold_gap: of tables, of one picture, of one text; any predictor. Explainers ask about rows that do not exist, and a scaffolded model answers those
  from another function (Slack et al. 2020, "Fooling LIME and SHAP"): see `_scaffold`. The largest of the ways to perturb as explainers do. Plain models
  are near 0 or below.
- recall_at_k: where the truth is planted (lineage "planted": names of columns, or of a picture [top, left, bottom, right] in pixels), the share of it among
  the k largest mean |attributions|.
What is opened to be explained must answer as what predicts does, else nothing is measured of it: `explanation.other_model`.
Before all, integrated gradients must be complete on a known function, and an explainer that returns its input must fail the randomisation test.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import closed, find
from ..errors import Refusal
from ..explainer import Asked, Explainer, Telling, log_odds
from ..forms import Measurement
from ..intervals import Interval, interval, paired, within
from ..kind import Metric
from ..subject import Audit, Subject
from . import _scaffold
from ._above import above
from ._faithful import curves, gap, overlooked, self_test, spearman
from ._hidden import another

FIGURES = ("completeness_error", "randomization_similarity", "random_logit_similarity", "stability", "fidelity", "unfaithful_rows", "overlooked")
ORDERS = 4  # random ones, of the explainer under audit; of the others 2
FOUND = {  # figure: (code, what is wrong with an explainer of this interval)
    "completeness_error": ("explanation.incomplete", lambda i: i.low > 0.1),
    "randomization_similarity": ("explanation.ignores_model", lambda i: i.low > 0.7),
    "random_logit_similarity": ("explanation.ignores_class", lambda i: i.low > 0.9),
    "stability": ("explanation.unstable", lambda i: i.high < 0.5),
    "fidelity": ("explanation.unfaithful", lambda i: not i.low > 0),
    "unfaithful_rows": ("explanation.unfaithful", lambda i: i.low > 0.5),
    "overlooked": ("explanation.overlooks", lambda i: i.low > 0.5),
}
MOST = 20  # columns whose mean |attribution| is kept
LEAST, PASSES = 8, 10  # where time is limited: rows that are explained all the same; what the figures of a row take, in explanations of it
ALONE = 8  # rows that a subject's own explainer explains a second time, each alone


class Explanation(Audit):
    costly = "explanation"

    def __init__(self, explainer: str | None = None, rows: int = 128, others: bool = True):
        """explainer: whose figures have no slice. rows: at most, drawn at random; half of them for pictures, texts and models that only answer. others:
        whether the other explainers are measured."""
        if explainer is not None and explainer not in find.names("explainers"):
            raise ValueError(f"explainer ({explainer}) must be one of {', '.join(find.names('explainers'))}")
        self.explainer, self.rows, self.others = explainer, rows, others

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            subject.predict("test")  # before explainers ask: `again` compares
            table, of = subject.splits["test"], subject
            if kind.labels_ is None and (kind.head != "regression" or subject.explainers):
                why = {"why": "what is explained is a class, or by our own explainers a number"}
                found += [self._line(subject, m, target, None, 0, time.perf_counter(), why, ["explanation.no_class"]) for m in FIGURES]
                continue
            if kind.labels_ is None:
                of = above(subject, target)
            if table.num_rows >= 50:
                found += self._scaffold(of, target, table)
            found += self._explained(of, target)
        return found

    def _line(self, subject, metric, target, i, n, began, details, reasons=(), slice=None) -> Measurement:
        value, low, high, method = (None, None, None, "not measured") if i is None else (i.value, i.low, i.high, i.method)
        return Measurement(
            "explanation", f"explanation.{metric}", target, "test", slice, value, low, high, subject.level, n, method, subject.seed,
            time.perf_counter() - began, details, list(reasons),
        )  # fmt: skip

    def _explained(self, subject: Subject, target: str) -> list[Measurement]:
        began = time.perf_counter()
        first, test = subject.splits["test"].slice(0, 1), subject.splits["test"]
        inside = subject.open(target, first) if subject.open is not None else None
        inside = inside if inside is not None and inside.x[0].numel() else None  # a table without numbers has no slopes
        made = {n: find.make("explainers", n) for n in find.names("explainers")}
        if subject.explainers:
            name, call = next(iter(subject.explainers.items()))
            explainer, made = Given(call, inside is not None), {}
        else:
            name = self.explainer or ("shap" if inside is None else "integrated_gradients")
            explainer = made.pop(name)

        def asked(explainer: Explainer, rows: int) -> Asked | None:
            part = test.take(pa.array(picked(subject, rows)))
            got = explainer.opened(target, part) if isinstance(explainer, Given) else None
            got = got or closed.opened(subject.predictor, subject.schema, target, part, subject.open, explainer.gradients)
            return None if got is None else Asked(got, target, part.select([n for n in subject.schema.inputs if n in part.column_names]))

        def nothing(n: int, code: str, why: str, slice: str | None = None) -> list[Measurement]:
            details = {"explainer": name if slice is None else slice.removeprefix("explainer="), "why": why}
            return [self._line(subject, m, target, None, n, began, details, [code], slice) for m in (FIGURES if slice is None else ("fidelity",))]

        try:
            what = "" if inside is None else self._another(subject, target)
        except RuntimeError as e:
            return nothing(0, "explanation.no_gradients", f"{type(e).__name__}: {e}"[:200])
        if what:
            return nothing(0, "explanation.other_model", what)
        if not self_test():
            return nothing(0, "explanation.self_test", "integrated gradients were not complete, or a blind explainer passed")
        small = inside is None or inside.x.dim() == 4
        rows = self.rows // 2 if small else self.rows
        done = (subject.repeat or {}).get(f"{target}:explanation.fidelity")
        f = asked(explainer, rows if done is None else done["rows"])
        if f is None:
            why = "the model does not open as a differentiable function of one picture or of a table's numbers"
            return nothing(0, "explanation.no_gradients", why if explainer.gradients else "a row has no cells, no one picture and no one text to be explained")
        if not f.x[0].numel():
            return []
        try:
            if what := in_company(f, subject.seed):
                return nothing(0, "explanation.other_model", what)
            if subject.seconds is not None and done is None:
                f = asked(explainer, min(rows, affordable(asked(explainer, LEAST), explainer, subject.seconds / 2, subject.seed)))
            found = self._measured(subject, target, f, name, explainer, None, 3 if subject.seconds is None else 1)
        except Refusal as e:
            found = nothing(len(f.x), e.problems[0].code, str(e))
        except RuntimeError as e:
            found = nothing(len(f.x), "explanation.no_gradients", f"{type(e).__name__}: {e}"[:200])
        for name_, other in made.items() if self.others else ():
            slice = f"explainer={name_}"
            rows = self.rows if other.of == "true" else self.rows // 8 if small else self.rows // 4  # importances need many, and ask little
            f = asked(other, rows)
            if f is None or not f.x[0].numel() or _form(f) not in other.takes:
                continue
            if subject.seconds is not None and time.perf_counter() - began > subject.seconds:
                found += nothing(0, "explanation.budget", "the time allowed was spent before it", slice)
                continue
            try:
                found += self._measured(subject, target, f, name_, other, slice, 1 if small else 3)
            except Refusal as e:
                found += nothing(len(f.x), e.problems[0].code, str(e), slice) if e.problems[0].code != "explanation.no_layer" else []
            except RuntimeError as e:
                found += nothing(len(f.x), "explanation.no_gradients", f"{type(e).__name__}: {e}"[:200], slice)
        return found

    def _another(self, subject: Subject, target: str) -> str:
        """How what is opened to be explained, as explainers ask it, differs from what predicts; "" where it does not, or where either draws its answers."""
        part = subject.splits["test"].take(pa.array(picked(subject, self.rows)))
        f = Asked(subject.open(target, part), target, part)
        with torch.no_grad():
            one, two = (f(f.x) for _ in range(2))
        said, again_ = (subject.predictor.predict(part)[target].probabilities for _ in range(2))
        if said is None or not torch.allclose(one, two) or not torch.allclose(said, again_):
            return ""
        with torch.enable_grad():
            climbed = f(f.x.clone().requires_grad_(True)).detach()
        differ = ((what, another(said, F.logsigmoid(z))) for what, z in (("what is opened", one), ("what is opened and differentiated", climbed)))
        return next((f"{what} and what predicts {how}" for what, how in differ if how), "")

    def _measured(self, subject: Subject, target: str, f: Asked, name: str, explainer: Explainer, slice: str | None, draws: int) -> list[Measurement]:
        """The figures of one explainer."""
        began, x, n = time.perf_counter(), f.x, len(f.x)
        base, spread = surroundings(f)
        rng = torch.Generator().manual_seed(subject.seed)
        with torch.no_grad():
            classes = f(x).argmax(1)
        if explainer.of == "true":
            classes = true_classes(subject, target, f, classes)

        def attributed(f: Asked, x: Tensor, classes: Tensor = classes) -> Tensor:
            return explainer.explain(f, x, classes, base, rng).detach()

        shown = attributed(f, x)
        more = {"explainer": name, "claims_completeness": explainer.complete, **({"rows": n} if slice is None and subject.seconds is not None else {})}
        if shown.shape != x.shape or not torch.isfinite(shown).all():
            why = {**more, "why": f"it gave {tuple(shown.shape)} for {tuple(x.shape)}, or values that are no numbers"}
            return [self._line(subject, m, target, None, n, began, why, ["explanation.shape"], slice) for m in FIGURES]
        if f.opened.names:
            more["importance"] = importance(f.opened.names, shown, explainer.of == "true")
        clusters = subject.clusters_of("test")
        given = {"level": subject.level, "clusters": None if clusters is None else clusters[picked(subject, n)], "seed": subject.seed}

        def line(metric: str, i: Interval | None, details: dict, reasons=()) -> Measurement:
            code, wrong = FOUND[metric]
            found = i is not None and wrong(i) and (metric != "completeness_error" or explainer.complete)
            return self._line(subject, metric, target, i, n, began, {**more, **details}, [*reasons, *([code] if found else [])], slice)

        bases = (base, *[torch.zeros_like(base)] * (isinstance(explainer, Given) and explainer.tells))
        labels, said = len(subject.schema.targets[target].labels_), [(classes, shown)]
        if slice is None and labels > 1:
            others = (classes + torch.randint(1, labels, classes.shape, generator=torch.Generator().manual_seed(subject.seed))) % labels
            said.append((others, attributed(f, x, others)))
        whole = lambda m: m.value(np.arange(n))  # noqa: E731
        gaps = [max((gap(f, x, c, b, s) for c, s in said), key=whole) for b in bases]
        found = [line("completeness_error", interval(min(gaps, key=whole), n, **given), {})]
        varies = (torch.nan_to_num(x) - torch.nan_to_num(x[:1])).abs().amax(0).flatten() > 1e-6
        varies = torch.ones_like(varies) if _form(f) == "words" else varies  # a word is there in every row, and another one
        similar, redrew = [], 0
        for draw in range(draws):
            other = f.redrawn(subject.seed + draw)
            with torch.no_grad():
                other(x)
            similar.append(spearman(shown, attributed(other, x), varies, constant=1.0))
            redrew = other.redrew
            if not redrew:
                break
        if redrew:
            i = within(np.mean(similar, 0), -1, 1, **given)
            found.append(line("randomization_similarity", i, {"draws": draws, "weights": redrew}))
        else:
            why = "no weights were seen at work: another model cannot be drawn"
            found.append(line("randomization_similarity", None, {"why": why}, ["explanation.no_weights"]))
        if len(said) > 1:
            i = within(spearman(shown, said[1][1], varies, constant=1.0), -1, 1, **given)
            found.append(line("random_logit_similarity", i, {}))
        moved = x + 0.01 * spread * torch.randn(x.shape, generator=rng, dtype=torch.float64).to(x.dtype)
        found_ = [curves(f, x, classes, b, shown, rng, orders=ORDERS if slice is None else 2) for b in bases]
        ours, random = max(found_, key=lambda c: c[0].mean() - c[1].mean())
        nothing = np.ptp(np.vstack([ours, random]), axis=0) < 1e-9  # in any order: there is nothing to explain
        steady = spearman(shown, attributed(f, moved), varies, constant=nothing)
        found.append(line("stability", within(steady, -1, 1, **given), {}))
        found.append(line("fidelity", paired(Metric.mean(ours), Metric.mean(random[:2].mean(0)), n, **given), {"random_order": float(random.mean())}))
        if slice is None:
            found.append(line("unfaithful_rows", interval(Metric.mean((ours < random.max(0) - 1e-9).astype(float)), n, **given), {}))
            own, theirs, part = overlooked(f, x, classes, base, shown)
            which = {} if part is None or not f.opened.names or part >= len(f.opened.names) else {"column": f.opened.names[part]}
            found.append(line("overlooked", paired(Metric.mean(own), Metric.mean(theirs), n, **given), which))
            if isinstance(explainer, Given) and apart(f) and n > ALONE:  # ours do not look at how many they are asked about
                tried = {j: alone(lambda j=j: attributed(f.alone(j), x[j : j + 1], classes[j : j + 1])) for j in range(ALONE)}
                rows = [j for j, one in tried.items() if one is not None]
                one = spearman(shown[rows], torch.cat([tried[j] for j in rows]), varies) if len(rows) >= ALONE / 2 else steady[rows]
                less = paired(Metric.mean(steady[rows]), Metric.mean(one), len(rows), level=0.99).low if len(rows) else 0.0
                for m in found if less > 0.1 else ():  # what was measured among others does not speak well of a row that is explained alone
                    up = m.metric.endswith((".stability", ".fidelity"))
                    m.low, m.high = (-1.0, m.high) if up else (m.low, None if m.high is None else max(1.0, m.high))
                    m.reasons.append("explanation.unstable")
                    m.details["surely_otherwise_alone"] = float(less)
        if planted := subject.lineage.get("planted"):
            hits, top = recalled(planted, f.opened.names, shown)
            i = interval(Metric.mean(hits), len(hits), level=subject.level)
            found.append(self._line(subject, "recall_at_k", target, i, len(hits), began, {**more, "top": top}, (), slice))
        return found

    def _scaffold(self, subject: Subject, target: str, table: pa.Table) -> list[Measurement]:
        began, form = time.perf_counter(), closed.form(subject.schema)
        gaps: dict[str, tuple[str, _scaffold.Gap]] = {}
        if form == "table":
            for way in _scaffold.WAYS if any(k.place == "number" for k in subject.schema.inputs.values()) else _scaffold.NAMED:
                with contextlib.suppress(*[Refusal] * (way == "between")):  # a model may insist on whole numbers
                    gaps[way] = {"middle": "taught", "column": "turned"}.get(way, "learnt"), _scaffold.of_table(subject, target, table, way)
        elif form:
            for way, two in _scaffold.turns(subject, target, table, self.rows * 2):
                gaps[way] = min(two.items(), key=lambda g: g[1][0])
                if subject.seconds is not None and time.perf_counter() - began > subject.seconds:
                    why = {"why": f"the time allowed was spent once rows had been perturbed by {way}"}
                    return [self._line(subject, "offmanifold_gap", target, None, 0, began, why, ["explanation.budget"])]
        if not gaps:
            return []
        worst = max(gaps, key=lambda w: gaps[w][1][0])
        which, (_, away, real) = gaps[worst]
        n = min(len(away), len(real))
        i = paired(Metric.mean(away[:n]), Metric.mean(real[:n]), n, level=subject.level, seed=subject.seed)  # in no order: as independent
        told = _scaffold.TOLD[which]
        details = {"perturbed_by": worst, "gap": which, told[0]: float(away.mean()), told[1]: float(real.mean())}
        return [self._line(subject, "offmanifold_gap", target, i, n, began, details)]


class Given(Explainer):
    """The subject's own explainer: a function (f, x, classes, baseline) -> like x. One that tells what it is asked about is told no baseline."""

    def __init__(self, call, gradients: bool):
        self.call, self.gradients = call, gradients
        self.tells = isinstance(call, Telling)

    def opened(self, target: str, part: pa.Table):
        return self.call.opened(target, part) if self.tells else None

    def explain(self, f, x, classes, baseline, rng):
        return self.call(f, x.clone(), classes.clone(), baseline.clone())  # what it writes into them is its own


def affordable(f: Asked, explainer: Explainer, seconds: float, seed: int) -> int:
    """How many rows have their figures in so many seconds, at least LEAST: a row's take as long as some PASSES explanations of it. f: of a few."""
    began = time.perf_counter()
    with torch.no_grad():
        classes = f(f.x).argmax(1)
    explainer.explain(f, f.x, classes, surroundings(f)[0], torch.Generator().manual_seed(seed))
    return max(LEAST, int(seconds * len(f.x) / (PASSES * (time.perf_counter() - began))))


def in_company(f: Asked, seed: int, few: int = 16) -> str:
    """How rows with some inputs taken out are answered otherwise alone than among copies of themselves, as explainers ask; "" where they are not."""
    base, some, copies = surroundings(f)[0], torch.arange(min(few, len(f.x))), max(2, min(8, 10**7 // f.x.numel()))
    coin = torch.rand((copies, *f.x.shape), generator=torch.Generator().manual_seed(seed)) < 0.5
    made = torch.where(coin, base, f.x)
    with torch.no_grad():
        beside = f(made.flatten(0, 1))[: len(some)]
        alone = torch.cat([log_odds(f.opened.logits(made[0, i : i + 1], i[None])) for i in some])
        again = f(made.flatten(0, 1))[: len(some)]
    how = another(alone.sigmoid(), F.logsigmoid(beside)) if torch.allclose(beside, again) else ""
    return f"among others and alone rows' answers {how}" if how else ""


def picked(subject: Subject, rows: int) -> np.ndarray:
    """(n,) numbers of at most so many test rows, drawn at random, rising."""
    return np.sort(np.random.default_rng(subject.seed).permutation(subject.splits["test"].num_rows)[:rows])


def apart(f: Asked) -> bool:
    """Whether a row alone is asked about in the same x: words of a table's cells have their numbers among the other rows."""
    return not (isinstance(f.opened, closed.Closed) and f.opened.form == "table" and any(v is not None for v in f.opened.values))


def alone(ask: Callable[[], Tensor]) -> Tensor | None:
    """What an explainer says of one row alone; None where it says nothing: a baseline that is the mean of a batch needs a batch, and misleads nobody."""
    try:
        one = ask()
    except Refusal:
        return None
    return one if torch.isfinite(one).all() and (one - one.flatten()[0]).abs().max() > 1e-12 else None


def _form(f: Asked) -> str:
    return "picture" if f.x.dim() == 4 else "table" if f.opened.names else "words"


def surroundings(f: Asked) -> tuple[Tensor, Tensor]:
    """(baseline, spread) like one x: what stands for "not there", and how far a value may be moved."""
    if isinstance(f.opened, closed.Closed):
        return f.opened.baseline().to(f.x.dtype), f.opened.spread().to(f.x.dtype)
    return f.x.mean(0), f.x.std(0) if len(f.x) > 1 else torch.zeros_like(f.x[0])


def true_classes(subject: Subject, target: str, f: Asked, said: Tensor) -> Tensor:
    """(B,) the truth where it is known, else what the model said."""
    kind, test = subject.schema.targets[target], subject.splits["test"]
    truth = kind.encode_target(kind.column(test.take(pa.array(picked(subject, len(f.x)))), target))
    return torch.where(torch.from_numpy(truth["known"]), torch.from_numpy(truth["values"]).long(), said)


def importance(names: list[str], shown: Tensor, signed: bool) -> dict[str, float]:
    """{column: mean |attribution|, or mean}, the largest first."""
    total: dict[str, float] = {}
    for name, value in zip(names, (shown if signed else shown.abs()).mean(0).tolist()):
        total[name] = total.get(name, 0.0) + value
    return dict(sorted(total.items(), key=lambda e: -e[1])[:MOST])


def recalled(planted: list, names: list[str], shown: Tensor) -> tuple[np.ndarray, list]:
    """((k,) 0 or 1: is each planted input among the k of the largest mean |attribution|, those k)."""
    weight = shown.abs().mean(0)
    if shown.dim() == 4:
        top, left, bottom, right = planted
        inside = torch.zeros(weight.shape[1:], dtype=torch.bool)
        inside[top:bottom, left:right] = True
        best = weight.sum(0).flatten().argsort(descending=True, stable=True)[: int(inside.sum())]
        return inside.flatten()[best].numpy().astype(float), [divmod(i, weight.shape[2]) for i in best[:5].tolist()]
    best = [names[i] for i in weight.argsort(descending=True, stable=True)[: len(planted)].tolist()]
    return np.array([p in best for p in planted], float), best
