"""A name or number for the row itself (patient id, order number): never an input, because it would be learned by heart."""

from __future__ import annotations

import re

import pyarrow as pa

from ..kind import Kind, Profile

NAMED = re.compile(r"(^|[_\W])(id|uuid|guid|index|idx|key|编号|序号)$", re.IGNORECASE)


class Identifier(Kind):
    place = "none"

    @classmethod
    def guess(cls, column: Profile) -> float:
        seen = column.rows - column.missing
        if pa.types.is_null(column.type) or not seen:
            return 0.9  # nothing in it to learn from
        if column.distinct < seen or seen < 20:
            return 0.0
        named = bool(NAMED.search(column.name)) or column.name.lower() in ("id", "uuid", "index")
        if pa.types.is_integer(column.type):
            return 0.9 if named else 0.0
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return 0.9 if named else 0.7 if all(" " not in v and len(v) <= 40 and not v.isalpha() for v in column.sample) else 0.0
        return 0.0

    def describe(self) -> str:
        return "left out: it names the row"
