"""An index of the evidence by the headings of the EU AI Act's technical documentation (Annex IV) and of NIST's AI RMF 1.0: where each is, or "not
shown".

An aid for whoever writes those documents, not legal advice: a heading with evidence beside it is not thereby met. Headings are shortened from
Regulation (EU) 2024/1689, Annex IV, and NIST AI 100-1, categories of Govern, Map, Measure and Manage. What only people can say (purpose,
oversight, responsibility) is "not shown", never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Tree = Mapping[str, Any]
Where = Callable[[Tree, Tree, str], str]  # evidence, lineage, card -> where it is, or ""


def _measured(*areas: str) -> Where:
    """Figures of these areas; with none named, those without an area: how good it is."""

    def where(evidence: Tree, lineage: Tree, card: str) -> str:
        lines = [e for e in evidence.get("evidence") or [] if e.get("value") is not None and e.get("audit") not in ("gate", "seeds")]
        names = [e["metric"] for e in lines if (e["metric"].split(".")[0] in areas if areas else "." not in e["metric"])]
        return f"evidence.json: {', '.join(dict.fromkeys(names))}" if names else ""

    return where


def _slices(evidence: Tree, lineage: Tree, card: str) -> str:
    lines = [e for e in evidence.get("evidence") or [] if e.get("slice") and e.get("value") is not None]
    names = dict.fromkeys(e["slice"] for e in lines if e.get("audit") not in ("explanation", "robustness", "ood"))  # theirs are no rows
    return f"evidence.json: slices {', '.join(names)}" if names else ""


def _has(tree: str, key: str, what: str) -> Where:
    return lambda evidence, lineage, card: f"{tree}.json: {what}" if {"evidence": evidence, "lineage": lineage}[tree].get(key) else ""


def _card(heading: str) -> Where:
    return lambda evidence, lineage, card: f"card.md: {heading}" if f"\n## {heading}" in card else ""


def _statement(evidence: Tree, lineage: Tree, card: str) -> str:
    return "lineage.json: statements of the stages" if any(s.get("statement") for s in lineage.get("stages") or []) else ""


def _people(evidence: Tree, lineage: Tree, card: str) -> str:
    return ""


HEADINGS: dict[str, list[tuple[str, list[Where]]]] = {
    "EU AI Act, Annex IV": [
        ("1(a) Intended purpose, provider, version", [_has("evidence", "model", "the model's digest")]),
        ("1(c) Versions of software", [_has("lineage", "modelwright", "versions of Modelwright, torch, Python")]),
        ("1(h) Instructions for use", [_card("What it does")]),
        ("2(a) Methods and steps of development, pre-trained parts", [_has("lineage", "stages", "stages"), _has("lineage", "parents", "parents")]),
        ("2(b) Design, key choices, what is optimised for", [_card("Training")]),
        ("2(c) Architecture and computational resources", [_has("lineage", "stages", "seconds of each stage")]),
        ("2(d) Data: origin, selection, labelling, cleaning", [_has("evidence", "data", "digests of the splits"), _measured("data"), _card("Data")]),
        ("2(e) Human oversight", [_people]),
        ("2(g) Validation and testing: metrics of accuracy", [_measured(), _measured("accuracy")]),
        ("2(g) Robustness", [_measured("robustness", "ood")]),
        ("2(g) Discriminatory impact", [_measured("fairness"), _slices]),
        ("2(h) Cybersecurity", [_measured("privacy"), _statement]),
        ("3 Capabilities and limits, accuracy for groups of people", [_slices, _measured("slice"), _card("Where it falls short")]),
        ("3 Foreseeable unintended outcomes and risks", [_measured("safety"), _card("Where it falls short")]),
        ("4 Why these metrics are appropriate", [_people]),
        ("5 Risk management system", [_people]),
        ("6 Changes through the lifecycle", [_has("lineage", "parents", "parents")]),
        ("7 Harmonised standards applied", [_people]),
        ("8 EU declaration of conformity", [_people]),
        ("9 Post-market monitoring", [_people]),
    ],
    "NIST AI RMF 1.0": [
        ("Govern 1-6: policies, accountability, third parties", [_has("evidence", "policy", "digest of the declared limits")]),
        ("Map 1: context and intended use", [_people]),
        ("Map 2: the task and the limits of knowledge", [_card("What it does"), _card("Where it falls short")]),
        ("Map 4: risks of third-party data and software", [_has("lineage", "code", "digest of the code"), _has("lineage", "parents", "parents")]),
        ("Measure 1: methods and metrics, with their uncertainty", [_measured(), _has("evidence", "decision", "limits and intervals")]),
        ("Measure 2.3: performance as in deployment", [_measured(), _measured("accuracy")]),
        ("Measure 2.5: valid and reliable beyond the training data", [_measured("calibration", "conformal", "ood")]),
        ("Measure 2.6: safety", [_measured("safety")]),
        ("Measure 2.7: security and resilience", [_measured("robustness")]),
        ("Measure 2.9: explained and interpreted", [_measured("explanation")]),
        ("Measure 2.10: privacy", [_measured("privacy"), _statement]),
        ("Measure 2.11: fairness and bias", [_measured("fairness"), _slices]),
        ("Measure 2.12: environmental impact", [_measured("efficiency")]),
        ("Manage 1: go or no-go", [_has("evidence", "decision", "decision")]),
        ("Manage 4: monitoring after deployment", [_people]),
    ],
}


def render(evidence: Tree, lineage: Tree, card: str) -> str:
    """index.md"""
    out = [
        "# Where the evidence is",
        "",
        "An aid for writing technical documentation, not legal advice. A heading with evidence is not thereby met.",
        "",
    ]
    for title, headings in HEADINGS.items():
        out += [f"## {title}", "", "| heading | where |", "|---|---|"]
        for heading, places in headings:
            found = [w for w in (place(evidence, lineage, card) for place in places) if w]
            out.append(f"| {heading} | {_cell('; '.join(found)) or 'not shown'} |")
        out.append("")
    return "\n".join(out).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
