"""Numbers written as text: most cells read as one once separators, currency, percent or a unit are taken off."""

from __future__ import annotations

import re

import pyarrow as pa

from .codes import for_none
from .columns import is_text
from .moments import moments

NUMBER = re.compile(
    r"\s*([$€£¥￥]|USD|EUR|CNY|RMB)?\s*[-+−]?[\d０-９][\d０-９.,'’ \u00a0]*(e[-+]?\d+)?\s*"
    r"([%％‰]|[$€£¥￥元万]|°?[a-zA-Zµμ]{1,5}(/[a-zA-Z]{1,5})?[²³23]?)?\s*",
    re.IGNORECASE,
)


def number_format(column: pa.ChunkedArray) -> str | None:
    """How numbers are written where they are written as text; None where the column is no such."""
    if not is_text(column) or moments(column) is not None:  # 31.01.2024
        return None
    cells = [c for c in column.cast(pa.string()).drop_null().to_pylist() if c.strip() and not for_none(c)]
    if len(cells) < 20 or len(set(cells)) < 8:
        return None
    read = [NUMBER.fullmatch(c) is not None for c in cells]
    units = {m[0].lower() for c in cells if (m := re.search(r"[a-zA-Zµμ]+\W*$", c))}
    if sum(read) < 0.8 * len(cells) or len(units) > 6:  # 12a, 7b, 3c: names of things
        return None
    plain = [bool(re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", c, re.IGNORECASE | re.ASCII)) for c in cells]
    dressed = [c for c, r, p in zip(cells, read, plain, strict=True) if r and not p]
    if len(dressed) < max(2, 0.01 * len(cells)):
        return None
    kinds = {
        "a comma or point between digits": any(re.search(r"\d[,'’ \u00a0]\d", c) or c.count(".") > 1 for c in dressed),
        "a currency": any(re.search(r"[$€£¥￥元万]|USD|EUR|CNY|RMB", c) for c in dressed),
        "a percent sign": any(re.search(r"[%％‰]", c) for c in dressed),
        "a unit": any(re.search(r"\d\s*°?[a-zA-Zµμ]", c) for c in dressed),
        "wide digits": any(re.search(r"[０-９]", c) for c in dressed),
    }
    mixed = "; some cells are plain" if any(plain) else ""
    return f"{len(dressed)} of {len(cells)} cells: " + (", ".join(k for k, v in kinds.items() if v) or "written otherwise") + mixed
