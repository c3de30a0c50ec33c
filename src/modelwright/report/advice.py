"""What the figures say in sentences: what was decided and how surely, where the model falls short, what to try next.

Plain rules over a Story, each from one figure that the report shows; no rule fires on a figure that is missing. The result is plain text: whoever
shows it escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .story import Story
from .text import clean, finite, interval, lower_is_better, number

WORDS = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive", None: "No verdict"}


def verdict(story: Story) -> str | None:
    """pass, fail, inconclusive, or None where no limit was declared."""
    return (story.evidence.get("decision") or {}).get("verdict")


def decided(story: Story) -> str:
    """What was decided and how surely, in a sentence or two."""
    limits = [e for e in story.lines() if e.get("limit")]
    count = {v: sum(e.get("verdict") == v for e in limits) for v in WORDS}
    of = f"of {len(limits)} declared limits" if len(limits) != 1 else "the one declared limit"
    match verdict(story):
        case "pass":
            all_of = f"All {len(limits)} declared limits hold" if len(limits) != 1 else "The one declared limit holds"
            return f"{all_of}, each with its whole interval. A model that violates a limit would get this far at most once in twenty times."
        case "fail" if count["fail"]:
            undecided = f" {count['inconclusive']} more could not be decided." if count["inconclusive"] else ""
            fails = f"{count['fail']} {of}" if len(limits) != 1 else "The one declared limit"
            return f"{fails} {'is' if count['fail'] == 1 else 'are'} violated or could not be judged.{undecided} The gate refuses this model."
        case "fail":
            return "The gate refuses this model."
        case "inconclusive":
            open_ = f"{count['inconclusive']} {of} cannot be decided" if len(limits) != 1 else "The one declared limit cannot be decided"
            return f"{open_} with this much data: the interval spans the limit. None is violated, but the gate refuses until they are proved."
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


def falls_short(story: Story) -> list[str]:
    """Where the model falls short, most serious first."""
    found = []
    for reason in (story.evidence.get("decision") or {}).get("reasons") or ():
        found.append(clean(reason.get("text", reason) if isinstance(reason, Mapping) else reason, 300))
    if story.ahead:
        theirs = (story.baselines.get(story.ahead) or {}).get(story.primary or "", {})
        ours = story.headline() or {}
        figures = f": {number(theirs.get('value'))} against {number(ours.get('value'))}" if theirs else ""
        found.append(f"The baseline {clean(story.ahead, 60)} is ahead of the model on {clean(story.primary, 60)}{figures}.")
    if (weak := weakest_slice(story)) is not None:
        spread = interval(weak.get("low"), weak.get("high"))
        found.append(f"Slice {clean(weak['slice'], 80)}: {clean(weak['metric'], 40)} {number(weak['value'])} {spread}, clearly worse than overall.")
    if (opened := story.evidence.get("test_openings") or 0) > 1:
        found.append(f"The test split has been opened {opened} times: every choice made after the first makes its figures a little too good.")
    found += [clean(w, 300) for w in story.plan.get("warnings") or ()]
    return list(dict.fromkeys(found))


def next_steps(story: Story) -> list[str]:
    """What to try next, each for a stated reason."""
    steps = []
    needed = [int(n.replace(",", "")) for r in falls_short(story) for n in re.findall(r"about ([\d,]+) rows would decide", r)]
    if needed:
        steps.append(f"Test on about {max(needed):,} rows: that many would decide the open limits, if the figures stay as they are.")
    if story.ahead:
        name = clean(story.ahead, 60)
        steps.append(f"Choose the {name} baseline (model: {{instead: {name}}} in the task), or pre-train, or give the model more data.")
    for stage in story.stages:
        steps += [s] if (s := _of_curve(stage)) else []
    if (weak := weakest_slice(story)) is not None:
        steps.append(f"Collect more rows of {clean(weak['slice'], 80)} (it has {number(weak.get('n'))}), and declare a limit for it.")
    if verdict(story) is None:
        steps.append(f"Declare what must hold, for example {_example_limit(story)}, then run again.")
    if story.worst:
        steps.append("Look through the worst validation examples below: a wrong label is often the first thing to be found there.")
    return steps


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
    example = f"{bound:.2g}" if finite(bound) else "0.90"
    return f'audit: {{require: {{{clean(story.primary or "accuracy", 40)}: "{"<=" if lower else ">="} {example}"}}}}'
