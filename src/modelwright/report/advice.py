"""What the figures say in sentences: what was decided and how surely, where the model falls short, what to try next.

Plain rules over a Story, each from one figure that the report shows; no rule fires on a figure that is missing. The result is plain text: whoever
shows it escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .story import Story
from .text import clean, finite, interval, lower_is_better, number
from .words import meaning

FAR = 20  # times the test rows: more will hardly be brought
REPAIRS = {  # of an area whose limit is violated
    "fairness": "Repair fairness: the strategy `fairness` while training, or thresholds for each group after it (model: {decoders: {TARGET: "
    "{group_thresholds: equalized_odds}}}); then audit the new model.",
    "calibration": "Repair calibration: a temperature fitted on rows of their own (a run does so on its calibration split).",
    "conformal": "Repair coverage: calibration rows that are like the test rows (--data calibration=FILE).",
    "robustness": "Repair robustness: the strategy `adversarial`, or `certified` for a bound that no attack can move.",
    "corruption": "Repair robustness to corrupted inputs: train on copies of the training rows that are corrupted in the same ways (numbers with noise or "
    "rounded, cells left empty, typing errors; pictures with noise, blurred, in other light); the lines `corruption=` name those that cost most",
    "privacy": "Repair privacy: the strategy `dp_sgd` from the first stage on, or less training on each row.",
    "data": "Mend the data first: the columns and rows that are named here; docs/verdicts.md says how, code by code.",
    "safety": "Repair safety: the lines `rule=` below name the rule that was broken; filter what is written, or train against it.",
    "missing": "A limit without a figure: give what its audit needs (a column, a split, more time, a model that opens), or leave the limit out of a copy of "
    "the policy.",
}
THEIRS = {  # the same of a model that was trained elsewhere
    "fairness": "Repair fairness where the model is trained (weights of its rows), or after it: thresholds for each group, in the FILE.py:factory that asks "
    "it. A run here does either (the strategy `fairness`, or model: {decoders: {TARGET: {group_thresholds: equalized_odds}}}). Then audit the new model.",
    "calibration": "Repair calibration: a temperature, which the audit fits where it has rows for it (--data calibration=FILE).",
    "robustness": "Repair robustness where the model is trained: on attacked rows, or with bounds that no attack can move (in a run here the strategies "
    "`adversarial` and `certified`).",
    "privacy": "Repair privacy where the model is trained: clipped and noisy gradients (in a run here the strategy `dp_sgd`), or less training on each row.",
}
WORDS = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive", None: "No verdict"}


def verdict(story: Story) -> str | None:
    """pass, fail, inconclusive, or None where no limit was declared."""
    return (story.evidence.get("decision") or {}).get("verdict")


def decided(story: Story) -> str:
    """What was decided and how surely, in a sentence or two."""
    limits = [e for e in story.lines() if e.get("limit")]
    count = {v: sum(e.get("verdict") == v for e in limits) for v in WORDS}
    blank = sum(e.get("verdict") == "fail" and e.get("value") is None for e in limits)
    of = f"of {len(limits)} declared limits" if len(limits) != 1 else "the one declared limit"
    match verdict(story):
        case "pass":
            all_of = f"All {len(limits)} declared limits hold" if len(limits) != 1 else "The one declared limit holds"
            chance = "A model that violates a limit would get this far at most once in twenty times."
            if story.loosened:
                chance = (
                    "But limits were loosened after the test was opened, so that the usual chance of error, once in twenty times, does not hold: to promote, "
                    "this needs fresh test rows or an override."
                )
            return f"{all_of}, each with its whole interval. {chance}"
        case "fail" if count["fail"]:
            undecided = f" {count['inconclusive']} more could not be decided." if count["inconclusive"] else ""
            fails = f"{count['fail']} {of}" if len(limits) != 1 else "The one declared limit"
            how = "could not be measured" if blank == count["fail"] else "violated or could not be measured" if blank else "violated"
            be = "" if blank == count["fail"] else "is " if count["fail"] == 1 else "are "
            return f"{fails} {be}{how}.{undecided} The gate refuses this model."
        case "fail":
            return "The gate refuses this model."
        case "inconclusive":
            open_ = f"{count['inconclusive']} {of} cannot be decided" if len(limits) != 1 else "The one declared limit cannot be decided"
            refuses = "None is violated, but the gate refuses until they are" if len(limits) != 1 else "It is not violated, but the gate refuses until it is"
            return f"{open_} with this much data: the interval spans the limit. {refuses} proved."
    return "No limit was declared, so nothing was proved and nothing may be promoted. The figures below are measured with intervals all the same."


def robust(story: Story) -> list[str]:
    """What no attacker can move and what attacks left, as one interval: the truth lies between them."""
    found = []
    for e in story.lines():
        details = e.get("details") or {}
        between = details.get("robust_accuracy")
        if e.get("metric") == "robustness.certified_accuracy" and isinstance(between, Mapping) and finite(details.get("epsilon")):
            low, high = number(between.get("certified")), number(between.get("attacked"))
            moved = f"inputs moved by at most {number(details['epsilon'])} each"
            found.append(f"Robust accuracy of {clean(e.get('target'), 60)} under {moved}: between {low} (certified) and {high} (attacked).")
    return found


def favourable(line: Mapping[str, Any]) -> str | None:
    """The answer that a figure of fairness takes for favourable: of two labels the last."""
    said = (line.get("details") or {}).get("positive")
    return str(said) if said is not None and str(line.get("metric")).startswith("fairness.") else None


def falls_short(story: Story) -> list[str]:
    """Where the model falls short, most serious first."""
    found = []
    reasons = list((story.evidence.get("decision") or {}).get("reasons") or ())
    reasons.sort(key=lambda r: isinstance(r, Mapping) and str(r.get("code")).endswith(("underpowered", "no_interval")))  # what is violated first
    for reason in reasons:
        found.append(clean(reason.get("text", reason) if isinstance(reason, Mapping) else reason, 300))
    found += unmeasured(story)
    if story.ahead:
        theirs = (story.baselines.get(story.ahead) or {}).get(story.primary or "", {})
        ours = story.headline() or {}
        figures = f": {number(theirs.get('value'))} against {number(ours.get('value'))}" if theirs else ""
        perhaps = ", by no more than chance may bring" if by_chance(story.lines()) else ""
        found.append(f"The baseline {clean(story.ahead, 60)} is ahead of the model on {clean(story.primary, 60)}{figures}{perhaps}{_better_still(story)}.")
    if (weak := weakest_slice(story)) is not None:
        spread = interval(weak.get("low"), weak.get("high"))
        found.append(f"Slice {clean(weak['slice'], 80)}: {clean(weak['metric'], 40)} {number(weak['value'])} {spread}, clearly worse than overall.")
    if (opened := story.evidence.get("test_openings") or 0) > 1:
        models = max((e["details"].get("test_models") or 1 for e in story.lines()), default=1)
        wider = f", and this is model number {models} that it judges, whose intervals are wider for it" * (models > 1)
        found.append(f"The test split has been opened {opened} times{wider}: every choice made after the first makes its figures a little too good.")
    found += findings(story)
    found += [clean(w, 300) for w in story.plan.get("warnings") or ()]
    return list(dict.fromkeys(found))


def _better_still(story: Story) -> str:
    """The best baseline of the test rows, where validation rows chose another to compare with."""
    sign = -1 if lower_is_better(story.primary or "") else 1
    values = {b: sign * m[story.primary]["value"] for b, m in story.baselines.items() if finite(m.get(story.primary or "", {}).get("value"))}
    top = max(values, key=values.__getitem__, default=story.ahead)
    return f" (it was the best on validation; here {clean(top, 60)} is)" if values.get(top, 0) > values.get(story.ahead, math.inf) else ""


def by_chance(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the interval of the gain over the best baseline holds 0: neither of the two is surely better."""
    gains = [e for e in lines if e.get("metric") == "accuracy.gain_over_baseline"]
    return any(finite(e.get("low")) and finite(e.get("high")) and e["low"] <= 0 <= e["high"] for e in gains)


def unmeasured(story: Story) -> list[str]:
    """Why whole audits have no figure: the model's own error, a budget that was spent."""
    why: dict[str, list[str]] = {}
    for e in story.lines():
        text = (e.get("details") or {}).get("error")
        if text:
            why.setdefault(str(text), []).append(str(e.get("audit")))
    return [f"Not measured ({clean(', '.join(audits), 200)}): {clean(text, 500)}" for text, audits in why.items()]


def found_slices(story: Story) -> list[dict[str, Any]]:
    """What a search for weak slices found, the worst first: target, slice, accuracy and how far it lies behind the whole ({value, low, high}), n."""
    found: dict[tuple[Any, str], dict[str, Any]] = {}
    for name, e in ((str(e.get("metric")).removeprefix("slice."), e) for e in story.lines()):
        slices = (e.get("details") or {}).get("slices")
        for slice, told in slices.items() if name in ("worst_accuracy", "worse_than_overall") and isinstance(slices, Mapping) else ():
            line = found.setdefault((e.get("target"), slice), {"target": e.get("target"), "slice": slice, "n": told.get("n")})
            line["accuracy" if name == "worst_accuracy" else "behind"] = told
    return sorted(found.values(), key=lambda s: (s.get("accuracy") or {}).get("value") or 0)


def findings(story: Story, most: int = 8) -> list[str]:
    """What was found in the data, and in which columns; a limit on it or not."""
    found = []
    for e in story.lines():
        if not str(e.get("metric")).startswith("data.") or e.get("metric") not in (e.get("reason_codes") or ()) or not finite(e.get("value")):
            continue
        details = e.get("details") or {}
        of = next((details[k] for k in ("columns", "statistics", "found", "group", "how") if details.get(k)), ())
        of = ", ".join(_named(c) for c in ([of] if isinstance(of, str) else list(of)[:6]))
        spread = f" {interval(e['low'], e['high'])}" if finite(e.get("low")) and e["low"] != e.get("high") else ""
        no = "" if e.get("limit") else ", no limit is on it"
        means = f", {m}" if (m := meaning(e["metric"])) else ""
        sure = not spread or e["low"] > 0
        found.append(f"{'Found' if sure else 'Not excluded'}: {clean(e['metric'], 60)}{means}: {number(e['value'])}{spread}{f' ({of})' if of else ''}{no}.")
    return found[:most] + [f"{len(found) - most} more findings in the data stand below."] * (len(found) > most)


def _named(found: Any) -> str:
    """A column, or what was found of one with its evidence."""
    if not isinstance(found, Mapping):
        return clean(found, 40)
    name = clean(found.get("column", found.get("statistic", "")), 60)
    return f"{name}: {clean(found['evidence'], 120)}" if found.get("evidence") else name


def next_steps(story: Story) -> list[str]:
    """What to try next, each for a stated reason."""
    violated = _violated(story)
    parted = _parted(story) if story.elsewhere else {}
    known = REPAIRS | {"corruption": _corrupted(story)} | (THEIRS | _tempered(story) | parted if story.elsewhere else {})
    steps = [words for area, words in known.items() if area in violated] + [words for area, words in parted.items() if area not in violated]
    if any("." not in area for area in violated - known.keys()):
        steps.append("Repair the model itself: more or better training rows, other inputs, another model; more test rows will not make a violated limit hold.")
    if story.cleaning:
        count = "a step" if story.cleaning == 1 else f"{story.cleaning} steps"
        steps.append(f"Clean the data: cleaning.yaml, beside this report, proposes {count}; accept what is right, and `modelwright clean` writes another file.")
    steps += _more_rows(story)
    if _wrong_way_round(story):
        steps.append("It ranks the classes the wrong way round: list the target's labels in the model's order (target: {NAME: {category: {labels: [...]}}}).")
    if story.ahead and story.elsewhere:
        name = clean(story.ahead, 60)
        does = "does as well" if by_chance(story.lines()) else "is better"
        steps.append(f"Ask whether the model is worth its cost: the {name} baseline {does} (a run with model: {{instead: {name}}} saves it).")
    elif story.ahead:
        name = clean(story.ahead, 60)
        pretrain = "pre-train, or " * all(stage.get("objective") != "masked" for stage in story.stages)
        steps.append(f"Choose the {name} baseline (model: {{instead: {name}}} in the task), or {pretrain}give the model more data.")
    for stage in story.stages:
        steps += [s] if (s := _of_curve(stage)) else []
    if (weak := weakest_slice(story)) is not None:
        steps.append(f"Collect more rows of {clean(weak['slice'], 80)} (it has {number(weak.get('n'))}), and declare a limit for it.")
    if verdict(story) is None:
        steps.append(f"Declare what must hold, for example {_example_limit(story)}, then run again.")
    if story.worst:
        steps.append("Look through the worst validation examples below: a wrong label is often the first thing to be found there.")
    return steps


def _more_rows(story: Story) -> list[str]:
    """How many test rows, or clusters of them, would decide the limits that are open; and which limits no number will decide."""
    have = (story.headline() or {}).get("n") or (story.plan.get("rows") or {}).get("test") or 0
    most = FAR * max(have, 100) / max(have, 1)  # times
    far = [u for u in story.undecided if u["times"] is None or (u["of"] and u["times"] > most)]
    near = {of: [u for u in story.undecided if u["of"] == of and u not in far] for of in ("rows", "clusters")}
    same, steps = "if the figures, and how often each slice comes, stay as they are", []
    if near["rows"] and have:
        n = math.ceil(have * max(u["times"] for u in near["rows"]))
        steps.append(f"Test on about {n:,} rows in place of {have:,}: that many would decide {_limits(near['rows'])}, {same}.")
    if near["clusters"]:
        times = max(u["times"] for u in near["clusters"])
        steps.append(
            f"Test on rows of about {times:.2g} times as many clusters (persons, say, or distinct rows): these, and not more rows of the same ones, "
            f"would decide {_limits(near['clusters'])}, {same}."
        )
    if far:
        lies = "lies" if len(far) == 1 else "lie"
        steps.append(f"{_limits(far)} {lies} so near the measured value that only a better model, or another limit, will decide; more rows will not.")
    return steps


def _limits(undecided: list[Mapping[str, Any]], most: int = 4) -> str:
    """Their names, quoted."""
    names = [f"`{clean(u['limit'], 100)}`" for u in undecided]
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def _corrupted(story: Story, most: int = 3) -> str:
    """The repair of a model that corrupted inputs turn, and those that cost most."""
    lines = [e for e in story.lines() if str(e.get("slice")).startswith("corruption=") and finite(e.get("value"))]
    lowest = sorted(lines, key=lambda e: e["value"])[:most]
    named = ", ".join(f"{clean(e['slice'], 60).removeprefix('corruption=')} {number(e['value'])}" for e in lowest)
    return f"{REPAIRS['corruption']}{f': {named}' if named else ''}. Then audit the new model."


def _tempered(story: Story) -> dict[str, str]:
    """How calibration is repaired, where the audit has fitted a temperature."""
    fitted = (e["details"]["repair"] for e in story.lines() if (e.get("details") or {}).get("repair") and e.get("metric") == "calibration.ece")
    for r in fitted:
        t, n = r["temperature"], f"{r['rows']:,} {clean(r['split'], 20)} rows"
        error = f"the error on these {n} {number(r['ece_before'])} before and {number(r['ece_after'])} after"
        if r["nll_before"] - r["nll_after"] < 0.005 * r["nll_before"]:
            return {"calibration": f"Repair calibration where the model is trained, or by an isotonic fit on more rows: no temperature helps ({error})."}
        how = f"divide its logits by {number(t)} (or raise its probabilities to the power of {number(1 / t)}, and divide each row by its sum)"
        return {"calibration": f"Repair calibration: {how}; {error}. Then audit the new model."}
    return {}


def _parted(story: Story) -> dict[str, str]:
    """How decisions are made even, where the audit has found thresholds for each group on other rows."""
    for e in sorted(story.lines(), key=lambda e: e.get("verdict") != "fail"):
        r = (e.get("details") or {}).get("repair")
        if r and str(e.get("metric")).startswith("fairness.") and e.get("verdict") in ("fail", "inconclusive"):
            mixed = any(len(mix) > 1 for mix in r["thresholds"].values())
            each = "; ".join(f"{clean(g, 60)}: {_mix(mix)}" for g, mix in list(r["thresholds"].items())[:8])
            on = f"{r['rows']:,} {clean(r['split'], 20)} rows"
            yes = f"decide {clean(e['details'].get('positive'), 40)} above a threshold of each group's own, as found on {on}"
            shares = ", shares of rows by a number that stays the row's own, u = (6180.34 |log((p + 1e-9) / (1 - p + 1e-9))|) mod 1: yes where the weights of "
            shares = f"{shares}the thresholds below p add up to more than u" * mixed
            how = 'the function of the FILE.py:factory that asks it returns {"probabilities": p, "decisions": labels}'
            but = "its probabilities stay as they are, or take the temperature, and are calibrated all the same (thresholds are of p before it)"
            other = "Or repair it while it is trained, by weights of its rows."
            repair = "Repair fairness" + ", which these rows leave open," * (e["verdict"] != "fail")
            return {"fairness": f"{repair} after training: {yes} ({each}{shares}); {how}, so that {but}. {other} Then audit the new model."}
    return {}


def _mix(mix: Iterable[Iterable[float]]) -> str:
    """Thresholds of a group: 0.31, or 0.31 for 0.70 of the rows and 0.44 for 0.30."""
    shown = [(number(t) if 0 <= t <= 1 else "always" if t < 0 else "never", w) for t, w in mix]
    return shown[0][0] if len(shown) == 1 else " and ".join(f"{t} for {number(w)} of the rows" for t, w in shown)


def _violated(story: Story) -> set[str]:
    """The areas of limits that fail; `missing` where nothing was measured for one. Corrupted inputs are repaired otherwise than attacked ones."""
    failed = [e for e in story.lines() if e.get("limit") and e.get("verdict") == "fail"]
    areas = {"robustness.corruption_accuracy": "corruption"}
    return {"missing" if _unshown(e) else areas.get(str(e.get("metric")), str(e.get("metric")).split(".")[0]) for e in failed}


def _unshown(e: Mapping[str, Any]) -> bool:
    """Whether nothing was measured for want of something. A private training's claim that comes to nothing has no value either, and is refuted."""
    codes = set(e.get("reason_codes") or ())
    lacking = not str(e.get("metric")).startswith("privacy.") or bool(codes & {"privacy.budget", "privacy.not_trained"})
    return "gate.missing" in codes or (e.get("value") is None and lacking)


def _wrong_way_round(story: Story) -> bool:
    """A model from elsewhere whose area under the curve lies surely below one half."""
    auroc = [e for e in story.lines() if e.get("metric") == "auroc" and e.get("slice") is None and finite(e.get("high"))]
    return story.elsewhere and any(e["high"] < 0.5 for e in auroc)


def weakest_slice(story: Story) -> Mapping[str, Any] | None:
    """The slice furthest behind the whole test split on the primary metric, if its interval excludes the whole's value."""
    whole = story.headline()
    if whole is None:
        return None
    sign = -1 if lower_is_better(story.primary or "") else 1
    edge = "low" if sign < 0 else "high"
    behind = [s for s in story.slices if s.get("metric") == story.primary and finite(s.get("value")) and finite(s.get(edge))]
    behind = [s for s in behind if sign * s[edge] < sign * whole["value"]]
    return min(behind, key=lambda s: sign * s["value"], default=None)


def _of_curve(stage: Mapping[str, Any]) -> str | None:
    """Still falling, or falling no more? From the validation losses (n >= 4)."""
    loss = [h["loss"] for h in stage.get("history") or () if finite(h.get("loss"))]
    name = clean(stage.get("name", "training"), 60)
    if len(loss) < 4:
        return None
    best = min(range(len(loss)), key=loss.__getitem__)
    if best == len(loss) - 1 and loss[-2] - loss[-1] > 0.01 * abs(loss[-1]):
        return f"Train {name} longer: its validation loss was still falling when it ended."
    if loss[-1] - loss[best] > 0.1 * abs(loss[best]) and best < 0.5 * len(loss):
        when = f"after {best + 1} of {len(loss)} validations"
        return f"Regularise {name} (weight decay, dropout, augmentation): its validation loss rose again {when}."
    return None


def _example_limit(story: Story) -> str:
    line = story.headline() or {}
    lower = lower_is_better(story.primary or "accuracy")
    bound = line.get("high" if lower else "low")
    example = f"{_rounded(bound, up=lower):g}" if finite(bound) else "0.90"
    return f'audit: {{require: {{{clean(story.primary or "accuracy", 40)}: "{"<=" if lower else ">="} {example}"}}}}'


def _rounded(x: float, up: bool) -> float:
    """To two digits, away from the value, so that the limit holds where nothing changes."""
    step = 10.0 ** (math.floor(math.log10(abs(x))) - 1) if x else 1.0
    return float(f"{(math.ceil if up else math.floor)(round(x / step, 6)) * step:.6g}")
