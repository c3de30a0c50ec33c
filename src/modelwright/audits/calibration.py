"""Do probabilities mean what they say: expected, class-wise and worst-slice calibration error on the test split, less what chance alone would show.

Bins of equal mass, 15 overall (see `metrics.ece`). A perfectly calibrated model does not score 0 on a finite sample: labels are drawn 50 times from
the model's own probabilities, which gives the floor. An error e above its floor f is sqrt(e^2 - f^2), as errors and noise add in squares (after
Kumar et al. 2019, section 4), and 0 below it; the interval is the plain error's, its ends treated alike: the low end no longer lies above a
calibrated model's 0. Bins stay where they are while the jackknife leaves rows out: cut anew each time, their edges moved more than the rows did, and at
268 rows the high end of a calibrated model was 0.38 (now 0.12; below the truth in 1 of 1,200 simulated splits, where 2.5 % are stated).
`classwise_error`: the same of each class's probability against its share (Kull et al. 2019), the mean over classes. A declared slice has both for itself
(`calibration.ece@sex=f`).
- worst_slice_error: the error of each declared slice, group and crossing of groups of at least 30 rows, the worst. Of two classes it is that of the second
  one's probability, because with confidences a score that is too high throughout loses above a half what it wins below.
- worst_class_error: the error of the rows that are said to be of one class, the worst (top-label calibration, Gupta & Ramdas 2022): of two classes that
  are as much too sure as too unsure, and of one among many, the mean shows nothing.
Both have fewer bins where rows are few (one for each 100, so that below 200 it is |mean confidence - accuracy|) and the floor taken off; the low end is
corrected for their number, the high end needs no correction, for the truly worst one's own interval holds. What the temperature changed stands in the
details; of a model from elsewhere what one would change, fitted on the rows of the role calibration (else validation), under `repair`.

An error far below its own floor is no good sign: labels stray from any probabilities, unless those were fitted to these very labels, as by an isotonic
regression on the test rows (`calibration.fitted_here`, and the high end is open); nor are decisions that are better than the probabilities, which one
class's share would be by itself (`calibration.decides_by_more`, likewise). Where rows stand or fall together the floor may be higher, too: the
low end is less that of labels drawn with one random number for each cluster.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ..forms import Measurement
from ..intervals import Interval, interval
from ..kind import Metric
from ..metrics import binned, ece, equal_mass, nll
from ..subject import Audit, Elsewhere, Subject, groups_of, rows_of

DRAWS = 50
LEAST = 30  # rows of a slice
TOO_GOOD = 3.0, 0.4  # standard deviations below what chance leaves, and the share of it


class Calibration(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        found = []
        for target, kind in subject.schema.truths.items():
            began = time.perf_counter()
            prediction = subject.predict("test")[target]
            if prediction.probabilities is None:
                continue
            truth = kind.encode_target(kind.column(subject.splits["test"], target))
            known = truth["known"]
            y, p = truth["values"][known], prediction.probabilities.numpy().astype(np.float64)[known]
            if y.ndim > 1:  # label sets: no class has all the mass
                continue
            clusters = subject.clusters_of("test")
            clusters = None if clusters is None else clusters[known]
            rng = np.random.default_rng(subject.seed)
            drawn = [labels_of(p, rng, np.arange(len(p))) for _ in range(DRAWS)]
            together = drawn if clusters is None else [labels_of(p, rng, clusters) for _ in range(DRAWS)]
            temperature = repair(subject, target) if isinstance(subject.predictor, Elsewhere) else subject.lineage.get("calibration", {}).get(target, {})

            def less(error, rows, level, y=y, p=p, labels=(drawn, together), clusters=clusters) -> tuple[Interval, float]:
                units = None if clusters is None else clusters[rows]
                return debiased(error, y[rows], p[rows], [[d[rows] for d in some] for some in labels], level, units, subject.seed)

            table = subject.splits["test"]
            declared = {s: rows_of(table, s)[known] for s in subject.slices}
            start = len(found)
            for slice, rows in {None: np.ones(len(y), bool), **declared}.items():
                for name, error in (("ece", top_label), ("classwise_error", each_class)):
                    i, floor = less(error, rows, subject.level)
                    details = {"noise_floor": floor, **(temperature if name == "ece" and slice is None else {})}
                    found.append(self._line(subject, name, target, i, int(rows.sum()), began, details, [] if rows.any() else ["slice.empty"], slice))
            parts = {"worst_slice_error": declared, "worst_class_error": {f"{target}={c}": p.argmax(1) == k for k, c in enumerate(kind.labels_ or [])}}
            for columns in subject.groupings(table):
                group, names = groups_of(table, columns)
                parts["worst_slice_error"] = {n: (group == g)[known] for g, n in enumerate(names)} | parts["worst_slice_error"]
            for name, rows in parts.items():
                rows = {s: r for s, r in rows.items() if r.sum() >= LEAST}
                top = name == "worst_class_error" or p.shape[1] > 2  # else the second class's probability
                labels = (y, *drawn, *together)
                confidence, hits = (p.max(1), [p.argmax(1) == v for v in labels]) if top else (p[:, 1], [v == 1 for v in labels])
                found += [self._worst(subject, name, target, rows, confidence, hits, clusters, began)] if rows else []
            for line in found[start:] if fitted_here(y, p, rng) else ():
                line.high, line.reasons = None, [*line.reasons, "calibration.fitted_here"]
            said = prediction.value.numpy()[known]
            for line in found[start:] if surer(y, said, p, subject.level, clusters) else ():
                line.high, line.reasons = None, [*line.reasons, "calibration.decides_by_more"]
        return found

    def _worst(self, subject: Subject, name: str, target: str, parts: dict[str, np.ndarray], confidence, hits, clusters, began: float) -> Measurement:
        """confidence (N,); hits: (N,) bool, in truth and as drawn from the model's own probabilities, row by row and together."""
        wide, each = 1 - (1 - subject.level) / len(parts), {}
        for slice, r in parts.items():
            c, units = confidence[r], None if clusters is None else clusters[r]
            own, *draws = (functools.partial(binned, bins_of(c), c - h[r]) for h in hits)
            floors = np.reshape([f(np.arange(len(c))) for f in draws], (2, DRAWS)).mean(1)
            metric = Metric(own, better="higher")  # for the scale of its ends: on a logarithmic one they fly off where an error is nearly 0
            ends = [interval(metric, len(c), level=at, clusters=units, seed=subject.seed) for at in (subject.level, wide)]
            each[slice] = [less_noise(i, *floors) for i in ends]
        worst = max(each, key=lambda s: each[s][0].value)
        value, low = each[worst][0].value, max(b.low for _, b in each.values())
        method = f"worst of {len(parts)}, low end corrected for them: {each[worst][0].method}"
        i = Interval(value, min(low, value), max(a.high for a, _ in each.values()), method)
        details = {"worst": worst, "slices": {s: [a.value, b.low, a.high] for s, (a, b) in each.items()}}
        return self._line(subject, name, target, i, int(parts[worst].sum()), began, details)

    def _line(self, subject, name, target, i: Interval, n: int, began: float, details: dict[str, Any], reasons=(), slice=None) -> Measurement:
        places = (target, "test", slice, i.value, i.low, i.high, subject.level, n, i.method, subject.seed, time.perf_counter() - began)
        return Measurement("calibration", f"calibration.{name}", *places, details, list(reasons))


def repair(subject: Subject, target: str) -> dict[str, Any]:
    """The temperature (Guo et al. 2017) that a model which we did not calibrate lacks, and what it does on the rows that it was fitted on: the
    probabilities to the power of 1 / temperature, and each row divided by its sum. {} where no rows are left for it."""
    split, kind = next((s for s in ("calibration", "validation") if s in subject.splits), None), subject.schema.targets[target]
    if split is None or target not in subject.splits[split].column_names:
        return {}
    truth, p = kind.encode_target(kind.column(subject.splits[split], target)), subject.predict(split)[target].probabilities.numpy().astype(np.float64)
    y, p = truth["values"][truth["known"]], p[truth["known"]]
    if len(y) < LEAST:
        return {}
    found = minimize_scalar(lambda t: nll(y, tempered(p, np.exp(t))), bounds=(np.log(0.05), np.log(20)), method="bounded")
    value = float(np.exp(found.x))
    figures = {f"{m.__name__}_{when}": float(m(y, q)) for when, q in (("before", p), ("after", tempered(p, value))) for m in (nll, ece)}
    return {"repair": {"temperature": value, "split": split, "rows": len(y), **figures}}


def tempered(p: np.ndarray, temperature: float) -> np.ndarray:
    """(N, K) the probabilities that logits divided by the temperature have."""
    logs = np.log(p.clip(1e-12)) / temperature
    q = np.exp(logs - logs.max(1, keepdims=True))
    return q / q.sum(1, keepdims=True)


def labels_of(p: np.ndarray, rng: np.random.Generator, units: np.ndarray) -> np.ndarray:
    """(N,) labels drawn from p (N, K), with one random number for all rows of a unit (N,)."""
    number = np.unique(units, return_inverse=True)[1]
    return (p.cumsum(1) > rng.random(len(p))[number][:, None]).argmax(1)


def debiased(of: Any, y: np.ndarray, p: np.ndarray, drawn: list[list[np.ndarray]], level: float, clusters: Any, seed: int) -> tuple[Interval, float]:
    """An error, of(p) -> (y, rows) -> number, less its noise floor, and the floor: its mean over labels drawn from p, row by row and together."""
    error, every = of(p), np.arange(len(y))
    i = interval(Metric(lambda r: error(y, r), better="higher"), len(y), level=level, clusters=clusters, seed=seed)
    floor, together = (float(np.mean([error(d, every) for d in some])) if len(y) else 0.0 for some in drawn)
    return less_noise(i, floor, together), floor


def fitted_here(y: np.ndarray, p: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether labels are nearer to probabilities than chance allows, in bins of some 20 rows; values that many rows share are their own. By chance hits
    are as frequent as they are in 15 wide bins, not as was said: a model that is always right, and is not sure, has no chance in its errors either."""
    confidence, hit, every = p.max(1), p.argmax(1) == y, np.arange(len(y))
    fine, wide = equal_mass(confidence, max(1, len(y) // 20)), equal_mass(confidence)
    share = confidence + (np.bincount(wide, hit - confidence) / np.maximum(np.bincount(wide), 1))[wide]
    chance = [binned(fine, confidence - (rng.random(len(y)) < share), every) for _ in range(DRAWS)]
    least = min(np.mean(chance) - TOO_GOOD[0] * np.std(chance), TOO_GOOD[1] * np.mean(chance))
    return bool(binned(fine, confidence - hit, every) < least - 1e-9)


def less_noise(i: Interval, floor: float, together: float) -> Interval:
    """The low end less the floor of rows that hang together as far as they can, the rest less that of independent ones: both to the safe side."""
    return Interval(above(i.value, floor), above(i.low, max(floor, together)), above(i.high, floor), f"{i.method}, less the noise floor")


def surer(y: np.ndarray, said: np.ndarray, p: np.ndarray, level: float, clusters: np.ndarray | None) -> bool:
    """Whether decisions (N,) are surely right more often than the likeliest class by p (N, K): they rest on more than the probabilities tell, whose
    calibration then says nothing of them. Thresholds of groups, costs or quotas never gain on probabilities that are calibrated."""
    gain = (said == y) * 1.0 - (p.argmax(1) == y)
    return bool(gain.any()) and interval(Metric.mean(gain), len(y), level=level, clusters=clusters).low > 0


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """(N,) bins of equal mass, one for each 100 rows, at most 15."""
    return equal_mass(confidence, min(15, max(1, len(confidence) // 100)))


def above(error: float, floor: float) -> float:
    """What is left of an error once its noise floor is taken off, in squares; never below 0. NaN stays."""
    return error if np.isnan(error) else max(error - floor, 0.0) ** 0.5 * max(error + floor, 0.0) ** 0.5


def top_label(p: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """Expected calibration error, (y, rows) -> number: of the predicted class's probability. p (N, K); bins are those of all rows."""
    confidence, said = p.max(1), p.argmax(1)
    bins = equal_mass(confidence)
    return lambda y, rows: binned(bins, confidence - (said == y), rows)


def each_class(p: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """Mean over classes of the mean |share - probability| of a class in bins of its own probability, (y, rows) -> number. p (N, K)."""
    bins = [equal_mass(q) for q in p.T]
    return lambda y, rows: float(np.mean([binned(b, q - (y == k), rows) for k, (b, q) in enumerate(zip(bins, p.T, strict=True))]))
