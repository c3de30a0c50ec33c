"""What small changes of an input do to a class: the worst case found by attacks, what bounds certify, and common corruptions.

A row counts where it is right and no attack of the ensemble moved it (APGD on cross-entropy and on the targeted DLR, random search, transfer from a
surrogate; see `_attacks`): `linf_accuracy` and `l2_accuracy` are what attackers of this strength leave. `certified_accuracy` is the share that no
attacker at all can move (interval bounds, `layers/bounds.py`). The truth lies between the two: `robust_accuracy` in the details of both. Epsilon:
pictures 8/255 in colour and 0.1 in grey (l2 0.5 and 1.0), in [0, 1]; tables 0.1 standard deviations of each number (l2 0.25), categories held.

Where a check says that gradients are hidden, that answers are random or hang on the rest of the batch, or that time ran out, an attack's failure
shows nothing: the interval's low end is then what is certified, or 0, and the reason is named. A model without gradients gives no figure. Before
all, the attacks must find the exact worst cases of an undefended linear classifier.

Corruptions, at five severities each: pictures after Hendrycks & Dietterich 2019 (noise, blur, brightness, contrast, jpeg, pixelate); tables: noise,
missing cells, rounding, within each column's range; text: typos, letter case, doubled and look-alike characters, blanks, and for Chinese
traditional forms and full width. The figure is the mean over all of them. Left out: synonyms (no lexicon here), rotations, snow and fog.
"""

from __future__ import annotations

import functools
import time

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..errors import Refusal
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..layers.bounds import NoBounds, margins
from ..subject import Audit, Subject
from . import _attacks as a
from . import _corruptions as c

SECONDS = 5.0  # for all attacks where the subject names none; corruptions take half as much again at most
SHARE = 0.05  # of the rows: more than this many, and a check speaks
TRIED = 16  # certified rows that are attacked all the same: training may use these very bounds, and a proof that an attack breaks is none
LARGE = 3.0  # standard deviations of a table's numbers: the largest epsilon


class Robustness(Audit):
    costly = "robustness"

    def __init__(self, rows: int = 256, steps: int = 30, linf: float | None = None, l2: float | None = None):
        """rows: at most, drawn at random. steps: of each attack. linf, l2: epsilon, None: as above."""
        if rows < 1 or steps < 5:
            raise ValueError(f"rows ({rows}) must be at least 1 and steps ({steps}) at least 5")
        self.rows, self.steps, self.linf, self.l2 = rows, steps, linf, l2

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        forms = {next(iter(k.values())).form for k in subject.schema.encoders().values()}
        for target, kind in subject.schema.truths.items():
            table = subject.splits["test"]
            truth = kind.encode_target(kind.column(table, target))
            if kind.labels_ is None or np.ndim(truth["values"]) != 1:
                continue
            known = np.flatnonzero(truth["known"])
            pick = np.sort(np.random.default_rng(subject.seed).permutation(known)[: self.rows])
            if not len(pick):
                continue
            part, y = table.take(pa.array(pick)), torch.from_numpy(truth["values"][pick]).long()
            if forms & {"picture", "table"}:
                found += self._attacked(subject, target, part, y, pick)
            found += self._corrupted(subject, target, part, y, pick)
        return found

    def _line(self, subject, metric, target, i, pick, method, began, details, reasons) -> Measurement:
        value, low, high = (None, None, None) if i is None else (i.value, i.low, i.high)
        return Measurement(
            "robustness", f"robustness.{metric}", target, "test", None, value, low, high, subject.level, len(pick), method, subject.seed,
            time.perf_counter() - began, details, reasons,
        )  # fmt: skip

    def _interval(self, subject, rows, pick):
        clusters = subject.clusters_of("test")
        return interval(Metric.mean(rows), len(rows), level=subject.level, clusters=None if clusters is None else clusters[pick], seed=subject.seed)

    def _attacked(self, subject, target, part, y, pick) -> list[Measurement]:
        began = time.perf_counter()
        names = ("linf_accuracy", "l2_accuracy", "certified_accuracy")

        def nothing(code: str, why: str) -> list[Measurement]:
            return [self._line(subject, n, target, None, pick, "not measured", began, {"why": why}, [code]) for n in names]

        opened = subject.open(target, part) if subject.open is not None else None
        if opened is None:
            return nothing("robustness.no_gradients", "the model cannot be opened as a differentiable function of one picture or of a table's numbers")
        x = opened.x.detach().float()
        if not x[0].numel():
            return []
        picture = x.dim() == 4
        bounds = (0.0, 1.0) if picture else (None, None)
        grey = picture and x.shape[1] == 1
        eps = {"linf": self.linf or (0.1 if grey or not picture else 8 / 255), "l2": self.l2 or ((1.0 if grey else 0.5) if picture else 0.25)}
        rng = torch.Generator().manual_seed(subject.seed)
        if not self_test(0):
            return nothing("robustness.self_test", "the attacks did not find the known worst cases of an undefended linear classifier")
        allowed = min(subject.seconds or SECONDS, 600.0)
        rows = torch.arange(len(x))
        try:
            net, seen = looked_at(opened.logits, x, rows, rng)
        except RuntimeError as e:
            return nothing("robustness.no_gradients", f"{type(e).__name__}: {e}")
        said = subject.predictor.predict(part)[target].probabilities
        with torch.no_grad():
            ours = net(x, rows).softmax(1)
        if said is not None and not seen["random"]:
            agree = float((said.argmax(1) == ours.argmax(1)).float().mean())
            if agree < 0.98:
                return nothing("robustness.other_model", f"what was opened and what predicts agree on {agree:.0%} of rows only")
            seen["probabilities_differ_by"] = float((said.float() - ours.float()).abs().max())
        keep = fitting(net, x, rows, allowed, self.steps)
        some = np.sort(np.random.default_rng(subject.seed).permutation(len(x))[:keep])  # a table may be in the order of its classes
        x, y, rows, pick = x[some], y[some], rows[some], pick[some]
        right = net(x, rows).argmax(1) == y
        certified, why = certify(opened.logits, x, rows, y, eps["linf"], bounds, seen)
        found = []
        for norm in ("linf", "l2"):
            start = time.perf_counter()
            ball = a.Ball(norm, eps[norm], *bounds)
            until = time.monotonic() + allowed / 2
            safe = certified if norm == "linf" and certified is not None else torch.zeros_like(right)
            tried = safe & right & ((safe & right).cumsum(0) <= TRIED)
            left, told, reasons = attack(net, x, y, rows, ball, self.steps, rng, until, safe & right & ~tried, right)
            reasons = [*reasons, *(f"robustness.{k}" for k in ("random", "batch_dependent") if seen[k])]
            if bool((safe & right & ~left).any()):  # an attack inside a proof: one of the two is wrong
                certified, why = None, "an attack moved a certified row"
            i = self._interval(subject, left.numpy().astype(float), pick)
            if reasons:
                proved = self._interval(subject, (safe & right & left).numpy().astype(float), pick).low if norm == "linf" and certified is not None else 0.0
                i = type(i)(i.value, proved, i.high, i.method)
            method = f"{i.method}; APGD-CE, APGD-DLR targeted, random search, transfer; {norm} {eps[norm]:.4g}, {self.steps} steps"
            details = {"epsilon": eps[norm], "accuracy": float(right.float().mean()), **told, **seen}
            if norm == "linf" and certified is not None:
                between = {"certified": float((certified & right).double().mean()), "attacked": float(left.double().mean())}
                details["robust_accuracy"] = between
            found.append(self._line(subject, f"{norm}_accuracy", target, i, pick, method, start, details, reasons))
        if certified is None:
            code = "robustness.random" if seen["random"] else "robustness.batch_dependent" if seen["batch_dependent"] else "robustness.no_bounds"
            line = self._line(subject, "certified_accuracy", target, None, pick, "interval bounds", began, {"why": why}, [code])
        else:
            i = self._interval(subject, (certified & right).numpy().astype(float), pick)
            method = f"{i.method}; interval bound propagation, linf {eps['linf']:.4g}"
            line = self._line(subject, "certified_accuracy", target, i, pick, method, began, {"epsilon": eps["linf"], "robust_accuracy": between}, [])
        return [*found, line]

    def _corrupted(self, subject, target, part: pa.Table, y: Tensor, pick) -> list[Measurement]:
        began = time.perf_counter()
        rng = np.random.default_rng(subject.seed)
        start = time.perf_counter()
        subject.predictor.predict(part.slice(0, 32))
        each = time.perf_counter() - start
        allowed = (subject.seconds or SECONDS) / 2
        corruptions = c.of(subject.schema, subject.splits["test"])
        if not corruptions:
            return []
        keep = int(min(len(pick), max(32, 32 * allowed / max(each, 1e-4) / (5 * len(corruptions)))))
        some = np.sort(np.random.default_rng(subject.seed).permutation(len(pick))[:keep])
        part, y, pick = part.take(pa.array(some)), y[some], pick[some]
        right, told, late = [], {}, False
        for name, corrupt in corruptions.items():
            for severity in range(1, 6):
                if time.perf_counter() - began > 2 * allowed:
                    late = True
                    break
                try:
                    said = subject.predictor.predict(corrupt(part, severity, rng))[target]
                except Refusal as e:
                    if name != "missing":
                        raise
                    told[name] = f"left out, the model takes no gaps: {e.problems[0].what}"
                    break
                hit = (said.value if said.probabilities is None else said.probabilities.argmax(1)) == y
                right.append(hit.numpy().astype(float))
                told.setdefault(name, []).append(round(float(hit.float().mean()), 4))
        if late:  # what was not tried is not shown
            why = {"accuracy_by_severity": told, "why": "the time allowed was spent before the last corruption"}
            return [self._line(subject, "corruption_accuracy", target, None, pick, "not measured", began, why, ["robustness.budget"])]
        i = self._interval(subject, np.mean(right, 0), pick)
        method = f"{i.method}; mean over {len(right) // 5} corruptions at five severities"
        return [self._line(subject, "corruption_accuracy", target, i, pick, method, began, {"accuracy_by_severity": told}, [])]


@functools.cache
def self_test(seed: int) -> bool:
    """Gradients, and random search within a tenth, must find what is known of an undefended linear classifier, in both norms."""
    rng = torch.Generator().manual_seed(seed)
    weak = a.Weak(20, 4, rng)
    x = torch.randn(128, 20, generator=rng)
    rows, y = torch.arange(128), weak.net(x, None).argmax(1)
    for norm, eps in (("linf", 0.1), ("l2", 0.4)):
        ball = a.Ball(norm, eps)
        truth = weak.survives(x, y, ball)
        left, _, reasons = attack(weak.net, x, y, rows, ball, 20, rng, float("inf"), torch.zeros_like(truth), torch.ones_like(truth))
        searched = a.margin(weak.net(a.square(weak.net, x, y, rows, ball, 100, rng), rows), y) >= 0
        if (left != truth).float().mean() > 0.02 or reasons or (searched != truth).float().mean() > 0.1:
            return False
    return True


def looked_at(logits, x: Tensor, rows: Tensor, rng: torch.Generator):
    """(the net to attack, {"random", "batch_dependent"}). A random net is attacked in the mean of eight passes."""
    with torch.no_grad():
        one, two = logits(x, rows), logits(x, rows)
        scale = float(one.abs().amax().clamp(min=1e-6))
        random = bool((one - two).abs().max() > 1e-4 * scale)
        few = rows[:: max(1, len(rows) // 8)][:8]
        alone = torch.cat([logits(x[[i]], rows[[i]]) for i in few.tolist()])
        order = torch.randperm(len(x), generator=rng)
        half = order[: max(1, len(x) // 2)]
        part = logits(x[half], rows[half])
        apart = max(float((alone - one[few]).abs().max()), float((part - one[half]).abs().max()))
    seen = {"random": random, "batch_dependent": not random and apart > 1e-3 * scale}
    if random:
        return lambda x, rows: torch.stack([logits(x, rows) for _ in range(8)]).mean(0), seen
    return logits, seen


def fitting(net, x: Tensor, rows: Tensor, allowed: float, steps: int) -> int:
    """How many rows the attacks can take in the time, by passes there and back over few rows and over all (a call has a price of its own); at least 32."""
    few = min(32, len(x))
    took = []
    for n in (few, few, len(x)):  # the first one warms up
        start = time.perf_counter()
        a.gradient(net, lambda z: z.sum(1), x[:n], rows[:n])
        took.append(time.perf_counter() - start)
    _, some, whole = took
    each = max(whole - some, 0.0) / max(1, len(x) - few)
    call = max(some - few * each, 0.0)
    passes = 2 * steps * 4  # both norms; rows that are lost early make up for the targets
    return int(min(len(x), max(32, (allowed / passes - call) / max(each, 1e-9))))


def certify(logits, x, rows, y, eps, bounds, seen) -> tuple[Tensor | None, str]:
    """((N,) bool, "") or (None, why there are no bounds)."""
    if seen["random"] or seen["batch_dependent"]:
        return None, "bounds speak of a function of one row"
    low, high = x - eps, x + eps
    if bounds[0] is not None:
        low, high = low.clamp(*bounds), high.clamp(*bounds)
    try:
        gaps = [margins(logits, low[i : i + 64], high[i : i + 64], rows[i : i + 64], y[i : i + 64]) for i in range(0, len(x), 64)]
    except NoBounds as e:
        return None, f"no sound rule for {e}"
    except Exception as e:  # noqa: BLE001 - a model's code may do anything with a tensor that is none
        return None, f"{type(e).__name__}: {e}"[:200]
    return torch.cat(gaps) > 0, ""


def attack(net, x, y, rows, ball, steps, rng, until, safe, right) -> tuple[Tensor, dict, list[str]]:
    """((N,) bool rows that are right and stay so, what to tell, reasons why that shows nothing). safe (N,) bool: certified, not attacked."""
    with torch.no_grad():
        z = net(x, rows)
    clean = a.margin(z, y)
    scale = clean.abs().clamp(min=1e-6)
    left, lost_to, reach = right.clone(), {}, 0.0
    open_ = right & ~safe
    hidden, shattered = gradients_at(net, x[open_], y[open_], rows[open_], ball, rng)

    def go(name: str, find) -> None:
        nonlocal reach
        index = (left & ~safe).nonzero().squeeze(1)
        if not len(index) or time.monotonic() > until:
            return
        found = find(index)
        d = ball.length(found - x[index])
        reach = max(reach, float(d.max()))
        assert float(d.max()) <= ball.eps * (1 + 1e-4) + 1e-6, f"{name} left its ball"
        with torch.no_grad():
            lost = a.margin(net(found, rows[index]), y[index]) < 0
        left[index[lost]] = False
        lost_to[name] = int(lost.sum())

    def ce(i):
        return a.apgd(net, lambda z, j: a.cross_entropy(z, y[i][j], scale[i][j]), x[i], y[i], rows[i], ball, steps, rng, until)

    go("apgd_ce", ce)
    others = z.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    for k in range(min(z.shape[1] - 1, 5)):
        go(
            f"apgd_dlr_{k + 1}",
            lambda i, k=k: a.apgd(net, lambda z, j: a.targeted_dlr(z, y[i][j], others[i][j][:, k]), x[i], y[i], rows[i], ball, steps, rng, until),
        )
    by_gradient = left.clone()

    def transfer(i):
        student = a.surrogate(net, x, rows, ball, rng, until=until)
        one = torch.ones(len(i))
        return a.apgd(student, lambda z, j: a.cross_entropy(z, y[i][j], one[j]), x[i], y[i], rows[i], ball, 15, rng, until)

    go("transfer", transfer)
    go("square", lambda i: a.square(net, x[i], y[i], rows[i], ball, 5 * steps, rng, until))
    only_search = int((by_gradient & ~left).sum())
    count = max(1, int(open_.sum()))
    standing = int((left & ~safe).sum())
    far = far_away(net, x, y, rows, ball, rng, until) if standing else None
    told = {"lost_to": lost_to, "zero_gradients": hidden, "shattered_gradients": shattered, "epsilon_reached": reach, "largest_epsilon": far}
    reasons = []
    if standing and (hidden > 0.1 or shattered > 0.5 or only_search > max(3, SHARE * count) or (far is not None and far["hidden"])):
        reasons.append("robustness.masked_gradients")
    if standing and time.monotonic() > until:
        reasons.append("robustness.budget")
    return left, told, reasons


def gradients_at(net, x, y, rows, ball, rng) -> tuple[float, float]:
    """Shares of rows whose margin has no gradient, and whose gradient turns (cosine below 0.2) within a thousandth of epsilon."""
    if not len(x):
        return 0.0, 0.0
    value, g, _ = a.gradient(net, lambda z: a.margin(z, y), x, rows)
    near = x + 1e-3 * ball.eps * torch.randn(x.shape, generator=rng) / (1 if ball.norm == "linf" else x[0].numel() ** 0.5)
    _, h, _ = a.gradient(net, lambda z: a.margin(z, y), near, rows)
    size, other = g.flatten(1).norm(dim=1), h.flatten(1).norm(dim=1)
    none = size <= 1e-7 * value.abs().clamp(min=1e-30)
    cosine = (g * h).flatten(1).sum(1) / (size * other).clamp(min=1e-30)
    return float(none.float().mean()), float(((cosine < 0.2) & ~none).float().mean())


def far_away(net, x, y, rows, ball, rng, until) -> dict:
    """At the largest epsilon gradients must lose about all pictures (each can become one grey), and of a table as many rows as random corners do."""
    few = slice(0, 64)
    x, y, rows = x[few], y[few], rows[few]
    picture = ball.low is not None
    eps = (0.5 if picture else LARGE) * (1.0 if ball.norm == "linf" else x[0].numel() ** 0.5)
    wide = a.Ball(ball.norm, eps, ball.low, ball.high)
    with torch.no_grad():
        scale = a.margin(net(x, rows), y).abs().clamp(min=1e-6)
    found = a.apgd(net, lambda z, j: a.cross_entropy(z, y[j], scale[j]), x, y, rows, wide, 15, rng, until)
    searched = a.square(net, x, y, rows, wide, 15, rng, until)
    with torch.no_grad():
        lost = a.margin(net(found, rows), y) < 0
        random = a.margin(net(searched, rows), y) < 0
    accuracy, chance = float((~lost).float().mean()), float(torch.bincount(y).max() / len(y))
    hidden = float((random & ~lost).float().mean()) > 0.1 or (picture and accuracy > chance + 0.15)
    return {"epsilon": eps, "accuracy": accuracy, "chance": chance, "hidden": hidden and time.monotonic() < until}
