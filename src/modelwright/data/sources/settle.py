"""A column of text as what it is: numbers, booleans, dates, or text after all.

`Guess` sees every value (batch by batch, so that a table larger than memory is judged as a whole) and strikes out what does not fit: a word in
the millionth row makes a text column, and no value is lost. Marks of missing values become null where all that remains has a type; in a text
column only the empty cell does ("None" may be a treatment, "NA" a country), and the plan says how many marks stayed. Codes with leading zeros
and digits too long for a number stay text, and so do times of day, which no kind counts with.

Amounts that all carry the same sign (12 %, $1,200) are numbers without it, so are thousands set apart by apostrophes or hard spaces; dates are read
as 2024/1/31, 2024年1月31日, 31.1.2024 and 31 Jan 2024 too. 01/02/2024 stays text: a file with other days would be read otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

MARKS = ["", "?", "-", "--", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "NONE"]

TYPES: dict[str, pa.DataType] = {  # in the order of preference
    "int": pa.int64(), "bool": pa.bool_(), "date": pa.date32(), "second": pa.timestamp("s"), "instant": pa.timestamp("ns"),
    "second_utc": pa.timestamp("s", "UTC"), "instant_utc": pa.timestamp("ns", "UTC"), "point": pa.float64(), "comma": pa.float64(),
}  # fmt: skip
IMPLIED = {"int": {"point", "comma"}, "date": {"second", "instant"}, "second": {"instant"}, "second_utc": {"instant_utc"}}
SIGNS = ("%", "％", "$", "€", "£", "¥", "￥", "₹", "元")
TYPES |= {f"number {sign}": pa.float64() for sign in SIGNS} | {"apart": pa.float64()}
APART = "['’\u00a0\u202f]"
TIME = r"(?:[ T]+(?P<h>\d{1,2}):(?P<i>\d{2})(?::(?P<s>\d{2}))?)?$"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NAMED = r"(?P<n>(?i:" + "|".join(MONTHS) + r"))(?i:[a-z]*)"
DATES = {  # RE2, with y m d (or n, a month's name) and h i s
    "year/month/day": r"^(?P<y>\d{4})[/.](?P<m>\d{1,2})[/.](?P<d>\d{1,2})" + TIME,
    "年月日": r"^(?P<y>\d{4}) ?年 ?(?P<m>\d{1,2}) ?月 ?(?P<d>\d{1,2}) ?日" + TIME,
    "day.month.year": r"^(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})" + TIME,
    "day month's name year": r"^(?P<d>\d{1,2})[ -]" + NAMED + r"\.?[ -](?P<y>\d{4})" + TIME,
    "month's name day, year": "^" + NAMED + r"\.? (?P<d>\d{1,2}),? (?P<y>\d{4})" + TIME,
}
TYPES |= dict.fromkeys(DATES, pa.timestamp("s"))
POINT = r"^[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?$"
COMMA = r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d*)?$"


class Guess:
    """What a text column can still be, after the values seen."""

    def __init__(self, zeros: bool = True) -> None:
        self.zeros = zeros  # whether to look for codes with leading zeros
        self.alive = set(TYPES)
        self.marks: Counter[str] = Counter()
        self.any = False  # a value that is not a mark was seen
        self.commas = False  # a number that is written with one
        self.why = ""  # text, though it looks like numbers

    def see(self, values: pa.Array) -> None:
        """values: text, null where the cell was empty."""
        values = values.drop_null()
        if not len(values) or self._plainly(values):
            return
        trimmed = pc.utf8_trim_whitespace(values) if self.alive else values
        is_mark = pc.is_in(trimmed, value_set=_marks())
        if pc.any(is_mark).as_py():
            self.marks.update({v["values"]: v["counts"] for v in pc.value_counts(trimmed.filter(is_mark)).to_pylist()})
            trimmed = trimmed.filter(pc.invert(is_mark))
        if not len(trimmed):
            return
        self.any = True
        if len(trimmed) > 64:  # what is no number shows soon
            self._strike(trimmed[:64])
        self._strike(trimmed)
        if self.alive & {"point", "comma"} and "int" not in self.alive:
            self.commas = self.commas or _some(trimmed, ",")

    def _plainly(self, values: pa.Array) -> bool:
        """Whether all values fit the first type that is left as they stand, without marks or spaces: the common case, and the fast one."""
        name = next((n for n in TYPES if n in self.alive), None)
        if name is None or (name == "point" and "comma" in self.alive) or (self.zeros and name in ("int", "point")):
            return False
        if _as_it_stands(values, name) is None:
            return False
        self.alive &= {name, *IMPLIED.get(name, ())}
        self.any = True
        return name != "point" or pc.max(pc.binary_length(values)).as_py() <= 18

    def _strike(self, values: pa.Array) -> None:
        for name in TYPES:
            if name not in self.alive:
                continue
            if not self._fits(values, name):
                self.alive.discard(name)
            elif name in IMPLIED:
                self.alive &= {name, *IMPLIED[name]}
                break
        if self.zeros and self.alive & {"int", "point"} and _some(values, r"^[+-]?0\d+$"):
            self.alive, self.why = set(), "codes with leading zeros"
        elif "point" in self.alive and "int" not in self.alive and pc.max(pc.binary_length(values)).as_py() > 18 and _some(values, r"^[+-]?\d{19,}$"):
            self.alive, self.why = set(), "digits too long for a number"

    def _fits(self, values: pa.Array, name: str) -> bool:
        try:
            convert(values, name)
        except pa.ArrowInvalid:
            return False
        return True

    @property
    def either(self) -> bool:
        """Numbers that could be read in both ways, as 1,234 can."""
        return {"point", "comma"} <= self.alive and "int" not in self.alive

    def result(self, mark: str) -> str:
        """A name in TYPES, "null" (nothing but marks) or "text". mark: the file's decimal mark, where the column alone could be read in both ways."""
        if not self.any:
            return "null"
        if self.either:
            return "comma" if mark == "," else "point"
        return next((name for name in TYPES if name in self.alive), "text")


def settle(values: pa.Array, name: str) -> pa.Array:
    """The text values as the type that `Guess` found."""
    if name == "text":
        return values
    if name == "null":
        return pa.nulls(len(values))
    plain = _as_it_stands(values, name)
    if plain is not None:
        return plain
    trimmed = pc.utf8_trim_whitespace(values)
    return convert(pc.if_else(pc.is_in(trimmed, value_set=_marks()), None, trimmed), name)


def arrow_type(name: str) -> pa.DataType:
    return {"text": pa.string(), "null": pa.null()}.get(name) or TYPES[name]


def convert(values: pa.Array, name: str) -> pa.Array:
    """Trimmed text as one of TYPES; ArrowInvalid where a value does not fit."""
    if name == "point":
        try:
            return values.cast(pa.float64())
        except pa.ArrowInvalid:
            return _grouped(values, POINT, ",", ".")
    if name == "comma":
        return _grouped(values, COMMA, ".", ",")
    if name == "bool" and _some(values, r"^[01]$"):
        raise pa.ArrowInvalid("0 and 1 are numbers")
    if name.startswith("number "):
        return _signed(values, re.escape(name.removeprefix("number ")))
    if name == "apart":
        return _grouped(pc.replace_substring_regex(_all(values, rf"^[+-]?[1-9]\d{{0,2}}({APART}\d{{3}})*(\.\d*)?$"), APART, ""), POINT, ",", ".")
    if name in DATES:
        return _dated(values, DATES[name])
    return values.cast(TYPES[name])


def _all(values: pa.Array, pattern: str) -> pa.Array:
    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        raise pa.ArrowInvalid("another form")
    return values


def _signed(values: pa.Array, sign: str) -> pa.Array:
    """Numbers that all have a sign before or after them."""
    bare = rf"^([+-]?)({sign} ?([\d.,]+)|([\d.,]+) ?{sign})$"
    return _grouped(pc.replace_substring_regex(_all(values, bare), bare, r"\1\3\4"), POINT, ",", ".")


def _dated(values: pa.Array, pattern: str) -> pa.Array:
    """Dates, with or without a time, as seconds; ArrowInvalid where there is no such day."""
    found = pc.extract_regex(_all(values, pattern), pattern)
    part = {f.name: pc.utf8_lpad(pc.struct_field(found, f.name), 2, "0") for f in found.type}
    if "n" in part:
        month = pc.index_in(pc.utf8_lower(part["n"]), value_set=pa.array(MONTHS))
        part["m"] = pc.utf8_lpad(pc.add(month, 1).cast(pa.string()), 2, "0")
    day = pc.binary_join_element_wise(part["y"], part["m"], part["d"], "-")
    clock = pc.binary_join_element_wise(part["h"], part["i"], part["s"], ":")
    return pc.binary_join_element_wise(day, clock, " ").cast(pa.timestamp("s"))


def _as_it_stands(values: pa.Array, name: str) -> pa.Array | None:
    """The values converted, or None where one has spaces around it or is a mark."""
    try:
        made = convert(values, name)
    except pa.ArrowInvalid:
        return None
    return None if name == "point" and pc.any(pc.is_nan(made)).as_py() else made


def _grouped(values: pa.Array, pattern: str, group: str, decimal: str) -> pa.Array:
    """Numbers with marks between thousands, as 1.234,5."""
    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        raise pa.ArrowInvalid("not numbers")
    return pc.replace_substring(pc.replace_substring(values, group, ""), decimal, ".").cast(pa.float64())


@cache
def _marks() -> pa.Array:
    return pa.array(MARKS)


def _some(values: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(values, pattern)).as_py())
