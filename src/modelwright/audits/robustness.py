"""What small changes of an input do to an answer: to a class the worst case found by attacks, and what bounds certify; to any, common corruptions.

A row counts where it is right and no attack of the ensemble moved it (APGD on cross-entropy and on the targeted DLR, the same without traces, random search,
transfer from a surrogate; see `_ensemble`): `linf_accuracy` and `l2_accuracy` are what attackers of this strength leave. `certified_accuracy` is the share
that no attacker at all can move (interval bounds, `layers/bounds.py`). The truth lies between the two: `robust_accuracy` in the details of both. Epsilon:
pictures 8/255 in colour and 0.1 in grey (l2 0.5 and 1.0), in [0, 1]; tables 0.1 standard deviations of each number (l2 0.25), categories held.

How many rows are drawn follows from the operations of a pass, never from a clock. They are attacked in blocks, each by its own random numbers; where
the time allowed ends, the rows of whole blocks count and the method says how many of how many: a clock costs rows, never strength. The evidence keeps
the rows, and `audit --reproduce` takes those (`Subject.repeat`).

Where a check says that gradients are hidden, or that answers are random or hang on the rest of the batch, an attack's failure shows nothing: the
interval's low end is then what is certified, or 0, and the reason is named (`_hidden`). A model without gradients gives no figure. Before all, the
attacks must find the exact worst cases of an undefended linear classifier.

Corruptions, at five severities each: pictures after Hendrycks & Dietterich 2019 (noise, blur, brightness, contrast, jpeg, pixelate); tables: noise,
missing cells, rounding, within each column's range; text: typos, letter case, doubled and look-alike characters, blanks, for Chinese traditional forms
and full width, and the task's own `synonyms`. How right an answer is, is the credit of the target's kind (a class: right or not; boxes in a picture: F1; see
`slices`). The figure is the mean over all of them; each alone has the slice `corruption=NAME`, for a model may stand four
and fall with the fifth. Left out: a thesaurus, rotations, snow and fog.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..errors import Refusal
from ..forms import Measurement
from ..intervals import Interval, within
from ..layers.bounds import NoBounds, margins
from ..subject import Audit, Subject, differ
from . import _attacks as a
from . import _corruptions as c
from . import _hidden as h
from ._ensemble import LEAST, SHARE, Late, affordable, attack, self_test
from ._units import in_spreads

SECONDS = 90.0  # of which attacks in either norm and corruptions take a third each, where the subject names none
TRIED_ALL = "APGD-CE, APGD-DLR targeted, both without traces, random search, transfer"
ATTACKED = ("linf_accuracy", "l2_accuracy", "certified_accuracy")
FIRST = 16  # rows that are corrupted first, in every way
ALONE = 8  # corrupted rows of each kind that are asked about one by one
TRIED = 16  # certified rows that are attacked all the same: training may use these very bounds, and a proof that an attack breaks is none


class Robustness(Audit):
    costly = "robustness"

    def __init__(self, rows: int = 256, steps: int = 30, linf: float | None = None, l2: float | None = None, corruptions: bool = True):
        """rows: at most, drawn at random. steps: of each attack. linf, l2: epsilon, None: as above. corruptions: whether they are measured, too."""
        if rows < 1 or steps < 5:
            raise ValueError(f"rows ({rows}) must be at least 1 and steps ({steps}) at least 5")
        self.rows, self.steps, self.linf, self.l2, self.corruptions = rows, steps, linf, l2, corruptions

    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            table = subject.splits["test"]
            truth = kind.encode_target(kind.column(table, target))
            drawn = np.random.default_rng(subject.seed).permutation(np.flatnonzero(truth["known"]))[: self.rows]  # a table may be in the order of its classes
            if not len(drawn):
                continue
            if kind.labels_ is not None and np.ndim(truth["values"]) == 1:
                found += self._in_time(self._attacked, subject, target, drawn, ATTACKED, torch.from_numpy(truth["values"]).long())
            else:
                found += self._nothing(subject, target, ATTACKED, len(drawn), "robustness.no_class", "attacks and bounds speak of an input's one class")
            if self.corruptions and kind.credit is None:
                why = "an answer of this kind is not more or less right on a scale from 0 to 1"
                found += self._nothing(subject, target, ["corruption_accuracy"], len(drawn), "robustness.no_credit", why)
            elif self.corruptions:
                found += self._in_time(self._corrupted, subject, target, drawn, ["corruption_accuracy"])
        return found

    def _in_time(self, measured, subject, target, drawn, names, *given) -> list[Measurement]:
        """What is measured; of a model that was ended meanwhile, that there was no time for these."""
        try:
            return measured(subject, target, *given, drawn)
        except Refusal as e:
            if not ended(e):
                raise
            return self._nothing(subject, target, names, 0, "robustness.budget", e.problems[0].what)

    def _nothing(self, subject, target, names, n: int, code: str, why: str, began: float | None = None) -> list[Measurement]:
        began = time.perf_counter() if began is None else began
        return [self._line(subject, name, target, None, n, "not measured", began, {"why": why}, [code]) for name in names]

    def _line(self, subject, metric, target, i, n, method, began, details, reasons, slice=None) -> Measurement:
        value, low, high = (None, None, None) if i is None else (i.value, i.low, i.high)
        return Measurement(
            "robustness", f"robustness.{metric}", target, "test", slice, value, low, high, subject.level, n, method, subject.seed,
            time.perf_counter() - began, details, reasons,
        )  # fmt: skip

    def _interval(self, subject, rows: np.ndarray, pick: np.ndarray):
        """rows (n,) in [0, 1]: of the first n of pick."""
        clusters = subject.clusters_of("test")
        clusters = None if clusters is None else clusters[pick[: len(rows)]]
        return within(rows, 0, 1, level=subject.level, clusters=clusters, seed=subject.seed)

    def _attacked(self, subject, target, y, drawn) -> list[Measurement]:
        began, clock = time.perf_counter(), time.monotonic()

        def nothing(code: str, why: str) -> list[Measurement]:
            return self._nothing(subject, target, ATTACKED, len(drawn), code, why, began)

        before = subject.repeat or {}
        again = {n: before[k] for n in ATTACKED if (k := f"{target}:robustness.{n}") in before}
        if again:
            drawn = taken(next(iter(again.values()))["rows"])
        table = subject.splits["test"]
        opened = None if subject.open is None else subject.open(target, table.take(pa.array(drawn)))
        if opened is None:
            return nothing("robustness.no_gradients", "the model cannot be opened as a differentiable function of one picture or of a table's numbers")
        opened = in_spreads(opened, subject.schema, table)
        x = opened.x.detach().float()
        if not x[0].numel():
            return nothing("robustness.no_gradients", "no input is a number, which could be moved by a little")
        picture = x.dim() == 4
        bounds = (0.0, 1.0) if picture else (None, None)
        grey = picture and x.shape[1] == 1
        eps = {"linf": self.linf or (0.1 if grey or not picture else 8 / 255), "l2": self.l2 or ((1.0 if grey else 0.5) if picture else 0.25)}
        if not self_test(0):
            return nothing("robustness.self_test", "the attacks did not find the known worst cases of an undefended linear classifier")
        try:
            keep, block = affordable(opened.logits, x, self.steps)
            x = x if again else x[:keep]
            near = a.Ball("linf", eps["linf"], *bounds)
            rng = torch.Generator().manual_seed(subject.seed)
            net, seen, away, first = h.looked_at(lambda x, rows: opened.logits(x, rows).float(), x, torch.arange(len(x)), near, rng)
            if seen["random"] and not again:  # eight passes for one, and the figure is open anyway
                x = x[: max(LEAST, keep // 8)]
            drawn, rows = drawn[: len(x)], torch.arange(len(x))
            y = y[drawn]
            with torch.no_grad():
                ours = net(x, rows)
        except (RuntimeError, ValueError, TypeError, Refusal) as e:  # a user's own code may do anything
            if ended(e):
                raise
            return nothing("robustness.no_gradients", f"{type(e).__name__}: {e}"[:300])
        right = ours.argmax(1) == y
        said = subject.predictor.predict(table.take(pa.array(drawn)))[target].probabilities
        with torch.no_grad():
            seen["random"] |= h.changed(net(x, rows), ours)  # by the clock, say
        if said is not None and not seen["random"]:
            if what := h.another(said, ours):
                return nothing("robustness.other_model", f"what was opened and what predicts {what}")
            seen["probabilities_differ_by"] = float((said.float() - ours.softmax(1).float()).abs().nan_to_num(1.0).max())
        certified, why = certify(opened.logits, x, rows, y, eps["linf"], bounds, seen)
        found = []
        for k, norm in enumerate(("linf", "l2"), 1):
            start, ball, done = time.perf_counter(), a.Ball(norm, eps[norm], *bounds), again.get(f"{norm}_accuracy")
            until = clock + (subject.seconds or SECONDS) * k / 3 if done is None else float("inf")
            some, steps, size = (len(x), self.steps, block) if done is None else (done["attacked"], done["steps"], done["block"])
            safe = certified if norm == "linf" and certified is not None else torch.zeros_like(right)
            tried = safe & right & ((safe & right).cumsum(0) <= TRIED)
            try:
                left, told, reasons = attack(net, x, y, rows, ball, steps, subject.seed, safe & right & ~tried, right, size, until, some)
                with torch.no_grad():  # it may begin to draw, or to remember, once it was asked often enough
                    if h.changed(net(x, rows), ours) or (not seen["random"] and h.changed(net(away, rows), first)):
                        seen["random"], certified, why = True, None, "it answers otherwise when asked again"
            except (RuntimeError, ValueError, TypeError, Refusal) as e:  # a row alone, say, which batch statistics in training cannot take
                if not ended(e):
                    code = "robustness.batch_dependent" if seen["batch_dependent"] else "robustness.no_gradients"
                    return nothing(code, f"under attack: {type(e).__name__}: {e}"[:300])
                left, told, reasons = right[:0], {}, []
            n, how = len(left), {"epsilon": eps[norm], "rows": " ".join(map(str, drawn)), "attacked": len(left), "steps": steps, "block": size}
            if not n:
                why_not = {"why": f"the time allowed was spent before the first {size} rows were attacked"}
                found.append(self._line(subject, f"{norm}_accuracy", target, None, 0, "not measured", start, why_not, ["robustness.budget"]))
                continue
            reasons = [*reasons, *(f"robustness.{k}" for k in ("random", "batch_dependent") if seen[k])]
            reasons += ["robustness.knows_rows"] * (told.get("special", 0) > 0)
            if bool((safe & right)[:n][~left].any()):  # an attack inside a proof: one of the two is wrong
                certified, why = None, "an attack moved a certified row"
            i = self._interval(subject, left.numpy().astype(float), drawn)
            if reasons:
                proved = (safe & right)[:n].numpy().astype(float)
                proved = self._interval(subject, proved, drawn).low if norm == "linf" and certified is not None else 0.0
                i = type(i)(i.value, proved, i.high, i.method)
            method = f"{i.method}; {TRIED_ALL}; {norm} {eps[norm]:.4g}, {steps} steps{cut(n, len(x))}"
            details = {**how, "accuracy": float(right[:n].float().mean()), **told, **seen}
            if norm == "linf" and certified is not None:
                details["robust_accuracy"] = {"certified": float((certified & right)[:n].double().mean()), "attacked": float(left.double().mean())}
            found.append(self._line(subject, f"{norm}_accuracy", target, i, n, method, start, details, reasons))
        if certified is None:
            code = "robustness.random" if seen["random"] else "robustness.batch_dependent" if seen["batch_dependent"] else "robustness.no_bounds"
            line = self._line(subject, "certified_accuracy", target, None, len(x), "interval bounds", began, {"why": why}, [code])
        else:
            i = self._interval(subject, (certified & right).numpy().astype(float), drawn)
            method = f"{i.method}; interval bound propagation, linf {eps['linf']:.4g}"
            details = {"epsilon": eps["linf"], "rows": " ".join(map(str, drawn))}
            details |= {k: v for m in found for k, v in m.details.items() if k == "robust_accuracy"}
            line = self._line(subject, "certified_accuracy", target, i, len(x), method, began, details, [])
        return [*found, line]

    def _corrupted(self, subject, target, drawn) -> list[Measurement]:
        kind = subject.schema.targets[target]
        began, clock = time.perf_counter(), time.monotonic()
        table, corruptions = subject.splits["test"], c.of(subject.schema, subject.splits["test"], subject.synonyms)
        if not corruptions:
            return []
        done = (subject.repeat or {}).get(f"{target}:robustness.corruption_accuracy")
        until = clock + (subject.seconds or SECONDS) / 3 if done is None else float("inf")
        drawn, block = (drawn, FIRST) if done is None else (taken(done["rows"])[: done["attacked"]], done["block"])
        hits: dict[str, list[np.ndarray]] = {}  # (severities, rows) of each block
        n, gaps, alone = 0, {}, []  # alone: whether rows of the first block are answered otherwise without the others

        def asked(pick: np.ndarray) -> dict[str, np.ndarray]:
            """{corruption: (5, rows of pick) how right they are}"""
            part, rng, found = table.take(pa.array(pick)), np.random.default_rng([subject.seed, n]), {}
            truth = kind.encode_target(kind.column(part, target))
            for name, corrupt in corruptions.items():
                for severity in range(1, 6):
                    if time.monotonic() > until:
                        raise Late
                    try:
                        made = corrupt(part, severity, rng)
                        said = subject.predictor.predict(made)[target]
                        for i in range(min(ALONE, len(pick)) if severity == 5 and not n else 0):
                            alone.append(bool(differ(subject.predictor.predict(made.slice(i, 1))[target], said.select(slice(i, i + 1)))))
                    except Refusal as e:
                        if name != "missing" or ended(e):
                            raise
                        gaps[name] = f"left out, the model takes no gaps: {e.problems[0].what}"
                        found.pop(name, None)
                        break
                    found.setdefault(name, []).append(kind.metrics(said, truth)[kind.credit].rows)
            return {name: np.stack(h) for name, h in found.items()}

        try:
            while n < len(drawn):
                for name, found in asked(drawn[n : n + max(n, block)]).items():  # as many again each time: large pictures take long, tables are many
                    hits.setdefault(name, []).append(found)
                n = min(n + max(n, block), len(drawn))
        except (Late, Refusal) as e:  # whole blocks count
            if not isinstance(e, Late) and not ended(e):
                raise
        whole = {name: np.concatenate(h, 1) for name, h in hits.items() if name not in gaps}
        if not n:
            why = {"why": f"the time allowed was spent before the first {min(block, len(drawn))} rows had been corrupted in every way"}
            return [self._line(subject, "corruption_accuracy", target, None, 0, "not measured", began, why, ["robustness.budget"])]
        i = self._interval(subject, np.mean([h.mean(0) for h in whole.values()], 0), drawn)
        told = {"accuracy_by_severity": {name: h.mean(1).round(4).tolist() for name, h in whole.items()} | gaps}
        told |= {"rows": " ".join(map(str, drawn)), "attacked": n, "block": block}
        method = f"{i.method}; mean over {len(whole)} corruptions at five severities{cut(n, len(drawn))}"
        told["otherwise_alone"] = float(np.mean(alone))
        reasons = ["robustness.batch_dependent"] * (told["otherwise_alone"] > SHARE)
        found = [self._line(subject, "corruption_accuracy", target, without_low(i, reasons), n, method, began, told, reasons)]
        for name, right in whole.items() if len(whole) > 1 else ():
            i, details = self._interval(subject, right.mean(0), drawn), {"accuracy_by_severity": right.mean(1).round(4).tolist()}
            i = without_low(i, reasons)
            found.append(self._line(subject, "corruption_accuracy", target, i, n, i.method, began, details, reasons, f"corruption={name}"))
        return found


def ended(e: Exception) -> bool:
    """Whether the model's own process was ended, since the time allowed was spent."""
    return isinstance(e, Refusal) and any(p.code == "audit.budget" for p in e.problems)


def without_low(i: Interval, reasons: list[str]) -> Interval:
    """Its low end is 0 where there is a reason to believe no more."""
    return type(i)(i.value, 0.0, i.high, i.method) if reasons else i


def taken(rows: str) -> np.ndarray:
    """Numbers of rows, as the evidence keeps them."""
    return np.array(rows.split(), int)


def cut(n: int, of: int) -> str:
    return "" if n == of else f"; {n} of the {of} rows drawn, then the time allowed was spent"


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
