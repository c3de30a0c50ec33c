"""Personal data in the cells of a table: names, e-mail and IP addresses, telephone, identity and social security numbers, payment cards, bank accounts.

What has a checksum must pass it: Chinese resident identity numbers (GB 11643-1999, with province and date of birth), cards (Luhn, ISO/IEC 7812, with the
issuers' prefixes and lengths), IBAN (ISO 13616, modulo 97, with the country's length). Bare digits are only digits until their column says more: one in
ten order numbers passes Luhn, so cards count where at least half of their likes in the column pass, or where they are written in groups or named; mobile
numbers fill their column and begin in many ways. Full-width characters are read as plain ones, and what has no width as nothing. Names are `names.py`'s.
Rules, not a proof of absence: postal addresses are not looked for, nor what is in pictures.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import unicodedata

import numpy as np
import pyarrow as pa

from . import names

PROVINCES = {11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83}
IBAN = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27,
    "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "KW": 30, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31,
    "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "TN": 24, "TR": 26, "UA": 29,
}  # fmt: skip
FILES = {"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "py", "html"}  # icon@2x.png is no address
EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]+\.)+([A-Za-z]{2,24})(?![\w-])", re.ASCII)
ABROAD = re.compile(r"(?<![\w+])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?![\w.])", re.ASCII)
LOCAL = re.compile(r"(?<![\w.-])(?:\([2-9]\d\d\) ?|[2-9]\d\d-)[2-9]\d\d-\d{4}(?![\w-])|(?<![\w-])0\d{2,3}-\d{7,8}(?![\w-])", re.ASCII)
MOBILE = re.compile(r"(?<![\w.+/-])(?:\+?86[ -]?)?(1(?:3\d|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9[0-35-9]))[ -]?\d{4}[ -]?\d{4}(?![\w.-])", re.ASCII)
RESIDENT = re.compile(r"(?<![A-Za-z0-9])[1-8]\d{16}[\dXx](?![A-Za-z0-9])", re.ASCII)
CARD = re.compile(r"(?<![\w.+-])(?:3[47]\d{2}[ -]?\d{6}[ -]?\d{5}|(?:4|5[1-5]|2[2-7]|6[0-9]|35)\d{2,3}(?:[ -]?\d{4}){3})(?![\w.-])", re.ASCII)
ACCOUNT = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])", re.ASCII)
SECURITY = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII)
V4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)", re.ASCII)
V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:){3,7}(?::?[0-9A-Fa-f]{1,4})(?![\w:])", re.ASCII)
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
NAMED = re.compile(r"card|visa|amex|卡", re.IGNORECASE)


def found(column: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """{what: (N,) bool, rows that hold it} for a column of text or whole numbers; nothing for any other."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    whole = pa.types.is_integer(kind)
    if not (whole or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return {}
    cells = ["" if c is None else plain(c) for c in column.cast(pa.string()).to_pylist()]
    digits = np.array([c.strip().isdigit() for c in cells])
    rows = {"mobile": _mobiles(cells, digits), "card": _cards(cells, digits), "resident identity": _rows(cells, RESIDENT, resident)}
    if not whole:
        rows |= {
            "e-mail": _rows(cells, EMAIL, lambda m: m[1].lower() not in FILES), "telephone": _rows(cells, ABROAD, _abroad) | _rows(cells, LOCAL),
            "IBAN": _rows(cells, ACCOUNT, iban), "US social security": _rows(cells, SECURITY),
            "IP address": _rows(cells, V4, address) | _rows(cells, V6, address), "name": names.found(cells),
        }  # fmt: skip
        rows["telephone"] |= rows["mobile"]
    else:
        rows["telephone"] = rows["mobile"]
    del rows["mobile"]
    return {what: hits for what, hits in rows.items() if hits.any()}


def plain(text: str) -> str:
    """In compatibility form (full width, circled and styled characters as plain ones), without what has no width."""
    return text if text.isascii() else UNSEEN.sub("", unicodedata.normalize("NFKC", text))


def _rows(cells: list[str], pattern: re.Pattern[str], holds=lambda m: True) -> np.ndarray:
    return np.array([any(holds(m) for m in pattern.finditer(c)) for c in cells], bool)


def _mobiles(cells: list[str], digits: np.ndarray) -> np.ndarray:
    """Chinese mobile numbers: within a text as they stand; alone in their cells where most of the column are such, of several prefixes."""
    first = [MOBILE.search(c) for c in cells]
    hits = np.array([m is not None for m in first])
    alone = hits & digits
    prefixes = {m[1] for m, a in zip(first, alone, strict=True) if a}
    if alone.sum() < 0.8 * digits.sum() or len(prefixes) < min(4, 1 + alone.sum() // 3):
        hits &= ~digits
    return hits


def _cards(cells: list[str], digits: np.ndarray) -> np.ndarray:
    matches = [[m[0] for m in CARD.finditer(c)] for c in cells]
    passed = [[luhn(m) for m in ms] for ms in matches]
    all_, right = sum(map(len, passed)), sum(map(sum, passed))
    alone = digits.sum() > 0.5 * len(cells)  # a column of numbers: most of them must be cards
    many = right >= 2 and right >= 0.5 * all_ and (not alone or right >= 0.5 * digits.sum())
    sure = (lambda c, m: True) if many else (lambda c, m: not m.isdigit() or NAMED.search(c) is not None)
    return np.array([any(p and sure(c, m) for m, p in zip(ms, ps, strict=True)) for c, ms, ps in zip(cells, matches, passed, strict=True)], bool)


def luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [2 * d - 9 * (d > 4) for d in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def resident(m: re.Match[str]) -> bool:
    """GB 11643: a province, a date, and the last digit by ISO 7064 modulo 11-2."""
    text = m[0].upper()
    try:
        born = datetime.date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    check = sum(int(c) * pow(2, 17 - i, 11) for i, c in enumerate(text[:17])) % 11
    return int(text[:2]) in PROVINCES and 1880 <= born.year <= 2050 and text[17] == "10X98765432"[check]


def iban(m: re.Match[str]) -> bool:
    text = m[0].replace(" ", "")
    text = text[: IBAN.get(text[:2], 0)]  # a word may follow
    return len(text) == IBAN.get(text[:2]) and int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def address(m: re.Match[str]) -> bool:
    """A public address; what has only small numbers is a version or a section."""
    try:
        of = ipaddress.ip_address(m[0])
    except ValueError:
        return False
    return of.is_global and (of.version == 6 or max(of.packed) >= 32)


def _abroad(m: re.Match[str]) -> bool:
    return 9 <= sum(c.isdigit() for c in m[0]) <= 15
