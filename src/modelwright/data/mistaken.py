"""Columns of text that look like numbers or dates: a stray word, a unit or a date's form made text of them, and nobody would notice."""

from __future__ import annotations

import re

import pyarrow as pa

from ..kind import Profile

NUMBER = re.compile(r"[^\w]*(?!0\d)\d[\d.,'\s]*(\s?[^\W\d]{1,4}|[^\w]*)")  # with signs, brackets or a unit
CODE = re.compile(r"(^|[_\W])(id|uuid|guid|key|code|zip|phone|编号|序号|编码|邮编|电话|手机)$", re.IGNORECASE)  # no numbers, whatever they look like
DATE = re.compile(r"\d{1,4}[-/.年]\s?\d{1,2}[-/.月]\s?\d{1,4}日?([ T].*)?")


def mistaken(p: Profile, kind: str) -> list[str]:
    """A warning, or none: a stray word, a unit or a date's form made text of a column of numbers or dates in silence."""
    if pa.types.is_integer(p.type) and kind == "number" and any(abs(v) > 2**53 for v in p.sample):
        shown = next(v for v in p.sample if abs(v) > 2**53)
        fix = f"columns: {{{p.name}: category}} or identifier"
        return [f"column {p.name!r} holds integers of more than 16 digits ({shown}), whose last ones a number does not keep: if they are codes, say so, {fix}"]
    if not (pa.types.is_string(p.type) or pa.types.is_large_string(p.type)) or kind not in ("text", "identifier", "category") or not p.sample:
        return []
    if CODE.search(p.name):
        return []
    values = [str(v).strip() for v in p.sample]
    becomes = f"it is read as {kind}" + " and left out" * (kind == "identifier")
    fix = f"declare the kind that it is (columns: {{{p.name}: ...}}) if that is meant"
    plain = [v for v in values if _plain_number(v)]
    if len(values) > len(plain) >= 0.8 * len(values):
        stray = list(dict.fromkeys(v for v in values if not _plain_number(v)))
        shown = ", ".join(repr(v[:20]) for v in stray[:3]) + (", ..." if len(stray) > 3 else "")
        return [f"column {p.name!r} holds numbers but for {shown}, so {becomes}: empty those cells to have numbers, or {fix}"]
    if len(plain) == len(values) and kind != "category":
        return [f"column {p.name!r} holds numbers written as text ({values[0][:20]!r}), so {becomes}: write them without quotes, or {fix}"]
    for what, form, write in (("dates", DATE, "2024-01-31"), ("numbers", NUMBER, "1234.5")):
        if sum(form.fullmatch(v) is not None for v in values) >= 0.9 * len(values):
            return [f"column {p.name!r} looks like {what} ({values[0][:20]!r}), but {becomes}: write them as {write}, or {fix}"]
    return []


def _plain_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None and not re.match(r"[+-]?0\d|[+-]?\d{19}", text)
