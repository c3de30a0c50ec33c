"""The gate: declared limits and measurements in, a verdict with every reason out. A pure function; verdicts come from nowhere else.

A limit is `[target:]metric[@slice]` with an operator and a number: {"accuracy": ">= 0.90", "severity:mae@sex=f & age>60": "< 0.5"}. Without a target
it holds for every target that has the metric. Each limit is judged on an interval, never on a point:

    pass           the whole interval satisfies it           fail   all of the interval violates it
    inconclusive   anything else, with the n that would do   (and the gate refuses, as on fail)

The intervals' level must be at least 1 - 0.05 / m for m limits (Bonferroni), so that the chance that any of m false claims passes is at most 5 %. Whoever
measures one model after the other on the same test rows chooses by them: the k-th model's error is 0.05 / (k (k - 1)), which is 5 % for all later ones
together, as it is for the first. An exact figure (a size, an accounted epsilon) has low = high = value and level 1. What is not measured, not a number,
or measured on other bytes fails.
Only figures of the test split count, except in areas that do not speak of unseen rows (data, privacy, efficiency). Several figures for one limit: all
must hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Problem, Refusal, did_you_mean
from ..forms import Measurement, clauses
from ..intervals import needed_n

Verdict = Literal["pass", "fail", "inconclusive"]
ERROR = 0.05  # the chance that a model which violates one of its limits passes
COUNT = ("test", "trusted")  # unseen rows; trusted are those whose labels are surer than the test split's
ANY_SPLIT = {"data", "privacy", "efficiency"}
AREA_OF = {"ece": "calibration"}
NAMES = {  # by area; the first have none of their own
    "": "accuracy balanced_accuracy f1 auroc average_precision nll brier ece rmse mae r2 within map map_50 picture_f1 bleu rouge_l chrf exact psnr "
    "episode_return success_rate subset_accuracy micro_f1 macro_f1 quadratic_kappa quantile_loss coverage",
    "data": "duplicate_rate near_duplicate_rate leakage group_overlap time_overlap label_error_rate test_label_error_rate shortcut coded_missing "
    "unit_switch number_format split_shift contamination personal seen_rate preprocessing group_label_error_rate "
    "row_order spelling synthetic_rate representativeness",
    "accuracy": "gain_over_baseline gain_over_champion weights_moved gain_of_shuffled_labels",
    "slice": "worst_accuracy worse_than_overall",
    "calibration": "ece classwise_error worst_slice_error worst_class_error",
    "conformal": "coverage mean_size worst_slice_coverage",
    "fairness": "demographic_parity_difference equal_opportunity_difference equalized_odds_difference worst_group_accuracy",
    "ood": "auroc gain_over_trivial",
    "robustness": "linf_accuracy l2_accuracy certified_accuracy corruption_accuracy",
    "privacy": "epsilon epsilon_lower_bound noise_multiplier sample_rate membership_auc membership_tpr_at_fpr_0.01 canary_tpr_at_fpr_0.05 "
    "exposure exposure_repeated",
    "explanation": "completeness_error randomization_similarity random_logit_similarity stability fidelity unfaithful_rows overlooked "
    "offmanifold_gap recall_at_k counterfactual_validity counterfactual_cells",
    "efficiency": "latency_p50_ms latency_p95_ms latency_p99_ms size_mb memory_mb parameters operations",
    "safety": "violations refusals over_refusals",
}
SHARE = re.compile(r"(?!.*gain)(.*(accuracy|f1|auroc|auc|ece|rate|coverage|_precision|_l|_at_.*|exact|within|_error|_difference|_overlap)|map.*)")  # at most 1
SIGNED = re.compile(r"r2|quadratic_kappa|episode_return|.*(gain_|worse_than).*|explanation\..*")  # may be below 0
METRICS = frozenset(f"{area}.{name}".lstrip(".") for area, names in NAMES.items() for name in names.split())


def area_of(metric: str, slice: str | None) -> str:
    """The area of a metric's reason codes: its own prefix, else accuracy, or slice where one is named."""
    if "." in metric:
        return metric.split(".")[0]
    return AREA_OF.get(metric, "accuracy" if slice is None else "slice")


NEEDS = {  # by area: what its audits may lack, where there is no figure for a limit
    "slice": "rows of that slice in the test split",
    "data": "columns and a target of that kind, and the rows that it compares (--data train=FILE); group_overlap the column whose rows belong together "
    "(audit: {clusters: COLUMN}), representativeness rows of the population (--data reference=FILE)",
    "accuracy": "a target that has it; a gain training rows, too (--data train=FILE), or a champion",
    "calibration": "a target of classes",
    "conformal": "calibration rows (--data calibration=FILE)",
    "fairness": "a column of groups (group: true), and a target of classes",
    "ood": "rows of another kind (--data ood=FILE)",
    "robustness": "an input that can be moved or corrupted",
    "privacy": "training rows (--data train=FILE); epsilon a private run (dp_sgd), or --trainer with its --statement",
    "explanation": "inputs that can be explained; recall_at_k rows with a planted truth (--data planted=FILE)",
    "efficiency": "a model that says its size",
    "safety": "a declared policy (audit.safety), and a target of text",
}
ALSO = {  # by area: the audits, beside the one of its name
    "privacy": ("private_training", "membership", "exposure"), "explanation": ("counterfactual",), "slice": ("slices", "accuracy"),
    "accuracy": ("episodes", "controls"),
}  # fmt: skip


@dataclass(frozen=True)
class Limit:
    target: str | None
    metric: str
    slice: str | None
    op: Literal[">=", "<=", ">", "<"]
    bound: float
    text: str  # as declared: ">= 0.90"

    @property
    def name(self) -> str:
        return f"{self.target}:" * (self.target is not None) + self.metric + f"@{self.slice}" * (self.slice is not None)

    @property
    def area(self) -> str:
        return area_of(self.metric, self.slice)

    @property
    def empty(self) -> bool:
        """Whether every value that the metric can have satisfies it."""
        least = -math.inf if SIGNED.fullmatch(self.metric) else 0.0
        most = 1.0 if SHARE.fullmatch(self.metric) else math.inf
        return self.holds(least) and self.holds(most)

    def holds(self, x: float) -> bool:
        return {">=": x >= self.bound, "<=": x <= self.bound, ">": x > self.bound, "<": x < self.bound}[self.op]


@dataclass(frozen=True)
class Policy:
    limits: tuple[Limit, ...]
    digest: str  # of the limits, in any order


@dataclass
class Row:
    """One limit against one measurement (None where there is none)."""

    limit: Limit
    measurement: Measurement | None
    verdict: Verdict
    codes: list[str]
    text: str
    needed_n: int | None = None

    @property
    def name(self) -> str:
        """The limit as reasons begin with it, its target said: severity:mae <= 3."""
        return _who(self.limit, self.measurement) + f"{self.limit.name} {self.limit.text}"


@dataclass
class Decision:
    verdict: Verdict
    reasons: list[dict[str, str]] = field(default_factory=list)  # code, text; empty on pass
    rows: list[Row] = field(default_factory=list)


def parse(require: Mapping[str, str], known: Iterable[str] = METRICS, where: str = "audit.require") -> Policy:
    """The declared limits; a Refusal that lists every one that cannot be read."""
    known, problems, limits = set(known), [], {}
    for key, text in require.items():
        place = f"{where}.{key}"
        match = re.fullmatch(r"\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", str(text))
        if match is None or math.isinf(float(match[2])):
            problems.append(
                Problem("task.limit", f"{text!r} is not a limit", where=place, fix='write an operator (>=, <=, >, <) and a number: ">= 0.90"')
            )
        named = _name(str(key), known)
        if named is None:
            fix = "write [target:]metric[@slice], as in accuracy, accuracy@sex=f, severity:mae"
            problems.append(Problem("task.limit", f"{key!r} does not name a metric", where=place, fix=fix))
        elif named[1] not in known:
            problems.append(Problem("task.limit", f"no metric named {named[1]!r}", where=place, fix=did_you_mean(named[1], known)))
        elif match is not None:
            limit = Limit(*named, match[1], float(match[2]), f"{match[1]} {match[2]}")
            if limit.name in limits:
                problems.append(Problem("task.limit", f"two limits for {limit.name}", where=place, fix="keep one of them"))
            limits[limit.name] = limit
    if problems:
        raise Refusal(problems)
    return policy_of(limits.values())


def policy_of(limits: Iterable[Limit]) -> Policy:
    limits = tuple(limits)
    listed = sorted([x.name, x.op, x.bound] for x in limits)
    return Policy(limits, "sha256:" + hashlib.sha256(json.dumps(listed).encode()).hexdigest())


def slices_of(policy: Policy) -> list[str]:
    """The slices of rows that limits name. One on an explanation names an explainer in that place, on robustness a corruption, on strange rows near or far, one
    on safety may name a rule."""
    return [limit.slice for limit in policy.limits if limit.slice and _of_rows(limit)]


def _of_rows(limit: Limit) -> bool:
    """Whether its slice, if it has one, is of rows."""
    return limit.slice is not None and limit.area not in ("explanation", "robustness", "ood") and not limit.slice.startswith("rule=")


def _name(key: str, known: set[str]) -> tuple[str | None, str, str | None] | None:
    """target, metric, slice. A colon or an @ may stand in a slice's value or a target's name: the reading whose metric is known wins."""
    metric = r"(?P<metric>[a-zA-Z_][\w.\- ]*?)(?:@(?P<slice>.+))?"
    readings = [re.fullmatch(p, key.strip()) for p in (metric, r"(?P<target>.+?):\s*" + metric, r"(?P<target>.+):\s*" + metric)]
    found = [(m.groupdict().get("target"), m["metric"], m["slice"] and normal_slice(m["slice"])) for m in readings if m]
    return next((f for f in found if f[1] in known), found[0] if found else None)


def normal_slice(text: str) -> str:
    """One spelling of `column=value & column>value`: clauses sorted, no blanks around the first operator."""
    return " & ".join(sorted(re.sub(r"\s*(>=|<=|!=|=|>|<)\s*", r"\1", part, count=1) for part in clauses(text)))


def level_for(policy: Policy, models: int = 1) -> float:
    """The level that intervals must have for this policy. models: this one's place among those that its test rows judged, from 1."""
    return 1 - ERROR / max(1, models * (models - 1)) / max(1, len(policy.limits))


def decide(policy: Policy, measurements: Iterable[Measurement], *, digests: Mapping[str, str | Mapping[str, str]]) -> Decision | None:
    """None where no limit is declared. digests: of what is to be promoted, as in evidence.json: {"model": ..., "data": {split: ...}, "code": ...}."""
    if not policy.limits:
        return None
    measurements, rows = list(measurements), []
    for limit in policy.limits:
        named = [m for m in measurements if m.metric == limit.metric and (m.slice and normal_slice(m.slice)) == limit.slice]
        named = [m for m in named if limit.target in (None, m.target)]
        here = [m for m in named if m.split in COUNT or limit.area in ANY_SPLIT]
        rows += [_judge(limit, m, level_for(policy, _models(m)), digests) for m in here]
        if not here:
            why, codes = _missing(limit, named, measurements)
            rows.append(Row(limit, None, "fail", ["gate.missing", *codes], f"{limit.name} {limit.text}: {why}"))
    verdicts = {r.verdict for r in rows}
    verdict = next(v for v in ("fail", "inconclusive", "pass") if v in verdicts)
    return Decision(verdict, [{"code": c, "text": r.text} for r in rows if r.verdict != "pass" for c in r.codes], rows)


def _missing(limit: Limit, named: list[Measurement], measurements: list[Measurement]) -> tuple[str, list[str]]:
    """(why there is no figure that counts, codes): it is of other rows; its audit failed, or had no time; or it lacked something."""
    if named:
        return f"it was measured on {', '.join(sorted({m.split for m in named}))}, and only the test split counts", []
    audits = (limit.area, *ALSO.get(limit.area, ()))
    failed = [m for m in measurements if m.value is None and m.audit in audits and m.metric == f"{m.audit}.error"]
    if failed:
        said = "; ".join(dict.fromkeys(str(m.details.get("error")).splitlines()[0] for m in failed))
        return f"it was not measured: {said}", list(dict.fromkeys(c for m in failed for c in m.reasons))
    return f"it was not measured; it takes {NEEDS.get(limit.area, 'an audit that measures it')}", []


def _judge(limit: Limit, m: Measurement, level: float, digests: Mapping[str, str | Mapping[str, str]]) -> Row:
    def row(verdict: Verdict, code: str, text: str, n: int | None = None) -> Row:
        return Row(limit, m, verdict, [code, *m.reasons] if code else [], f"{_who(limit, m)}{limit.name} {limit.text}: {text}", n)

    for key, bound in digests.items():
        want = bound.get(m.split) if isinstance(bound, Mapping) else bound
        if m.digests.get(key) != want:
            return row("fail", "gate.digest", f"measured on other {key} ({_short(m.digests.get(key))}) than is to be promoted ({_short(want)})")
    if m.value is None or math.isnan(m.value):
        why = m.details.get("why") or ", ".join(m.reasons)
        return row("fail", f"{limit.area}.not_a_number", f"there is no value: {why}" if why and isinstance(why, str) else "the value is not a number")
    low = -math.inf if m.low is None or math.isnan(m.low) else m.low
    high = math.inf if m.high is None or math.isnan(m.high) else m.high
    if low > high:
        return row("fail", "gate.interval", f"[{low:.4g}, {high:.4g}] is not an interval")
    worst = m.details.get("worst")
    shown = f"{m.value:.4g} [{low:.4g}, {high:.4g}]" + (f" (worst: {_line(worst)})" if isinstance(worst, str) else "")
    if m.level is None or not m.level >= level - 1e-9:
        asks = f"the number of limits, and of models on these test rows, asks for {level:.6g}"
        return row("inconclusive", "gate.level", f"{shown} is an interval at {m.level}, and {asks}")
    if limit.holds(low) and limit.holds(high):
        return row("pass", "", f"{shown} satisfies it")
    rising = limit.op in (">=", ">")
    if not limit.holds(low) and not limit.holds(high):
        return row("fail", f"{limit.area}.{'below' if rising else 'above'}_limit", f"{shown} violates it")
    if math.isinf(low if m.value >= limit.bound else high):
        few = "readings in the time that they may take" if limit.area == "efficiency" else "rows of some kind"
        return row("inconclusive", f"{limit.area}.no_interval", f"{shown}: too few {few} for an interval on the side of the limit")
    n = needed_n(m.value, low, high, limit.bound, m.n)
    of = "readings" if limit.area == "efficiency" else "rows" if m.split in COUNT else f"{m.split} rows"
    does = f"about {n:,} {of}{' of that slice' * (isinstance(worst, str) or _of_rows(limit))} would decide" if n else ""
    if n and clustered(m):
        does = f"about {n / max(m.n, 1):.2g} times as many clusters would decide, not more rows of the same"
    does = does or f"the value is the limit itself, so no number of {of} will decide"
    return row("inconclusive", f"{limit.area}.underpowered", f"{shown} on {m.n:,} {of} spans the limit; {does}", n)


def clustered(m: Measurement) -> bool:
    """Whether its interval rests on how many clusters there are: rows that belong together, or copies of one."""
    return "clusters" in m.method


def _who(limit: Limit, m: Measurement | None) -> str:
    return f"{m.target}:" if m is not None and m.target is not None and limit.target is None else ""


def _line(text: str, longest: int = 80) -> str:
    """A slice that a search found holds cells: on one line, and cut."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _models(m: Measurement) -> int:
    """Its place among the models that its rows judged; where that is no number, later than any interval is for."""
    said = m.details.get("test_models", 1)
    return said if type(said) is int and said > 0 else 10**9


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:19]
