"""Names that are one name written in several ways: typing errors, capitals, blanks, width, a wrong encoding.

Two values of a column of few names are one where only capitals, width (NFKC), encoding (UTF-8 read as Latin-1), blanks or a joint between letters differ;
and where the rarer one (a twentieth at most) is one typing error away from the other (Damerau 1964: a letter changed, left out, added, or exchanged). Mere
nearness is no error, so some changes never count: of a digit, a sign or the first letter, within a word of less than five letters (four, for an exchange
or a doubled letter), of a numeral. In Chinese one sign makes another word, so a changed sign counts only where it sounds nearly alike, as input by pinyin
confuses them: GB 2312 orders its first 3,755 signs by sound, so they stand within 16 places; an exchange or a doubled sign counts, and one 市 or 省 at
the end. Cyrillic letters that look like Latin ones are these. Left out: Chinese signs that look alike, traditional forms, several errors in a word, synonyms.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

from .columns import is_text

RARER, LEAST = 20, 20  # how much oftener, and how often, the right name stands
SIGN = re.compile(r"[\u3400-\u9fff]")
TELLING = set("一二三四五六七八九十零百千万甲乙丙丁东南西北中上下前后左右高低大小多少男女内外正副有无本专初新旧老")  # signs that make another name


LOOKS = str.maketrans("авекмнорстухіјѕ", "abekmhopctyxijs")  # Cyrillic letters, once capitals are gone, that look like Latin ones or whose capitals do


def misspelt(column: pa.ChunkedArray) -> dict[str, str]:
    """{name as it is also written: the name}, of a column of few names; empty for any other."""
    if not is_text(column) or len(column) < 40:
        return {}
    counted = pc.value_counts(column.cast(pa.string()).drop_null())
    if not 2 <= len(counted) <= min(0.3 * len(column), 3000):
        return {}
    times = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    names = sorted(times, key=lambda v: (-times[v], v))
    plain, found, first = {v: lowered(v) for v in names}, {}, {}
    for name in names:
        if (same := bare(name)) and first.setdefault(same, name) != name:
            found[name] = first[same]
    often = [v for v in names if times[v] >= LEAST and v not in found]
    for name in names:
        near = (v for v in often if times[v] >= RARER * times[name] and abs(len(v) - len(name)) <= 4 and slip(plain[v], plain[name]))
        if name not in found and (right := next(near, None)) is not None:
            found[name] = right
    return found


def lowered(name: str) -> str:
    """Without capitals, width, needless blanks and letters that look alike; UTF-8 that was read as Latin-1 is mended."""
    with contextlib.suppress(UnicodeError):
        name = name.encode("latin-1").decode("utf-8")
    return " ".join(unicodedata.normalize("NFKC", name).casefold().translate(LOOKS).split())


def bare(name: str) -> str:
    """Without joints between letters, too."""
    text = lowered(name)
    return re.sub(r"(?<=[^\W\d_])[-_ .·'’](?=[^\W\d_])", "", text).rstrip(". ") or text


def slip(right: str, wrong: str) -> bool:
    """Whether wrong is right with one typing error. Both are lowered."""
    if right == wrong or abs(len(right) - len(wrong)) > 1:
        return False
    short, start, end = min(len(right), len(wrong)), 0, 0
    while start < short and right[start] == wrong[start]:
        start += 1
    while end < short - start and right[-1 - end] == wrong[-1 - end]:
        end += 1
    a, b = right[start : len(right) - end], wrong[start : len(wrong) - end]
    swapped, both = len(a) == 2 and a == b[::-1], a + b
    doubled = len(both) == 1 and both in (right[start - 1 : start], right[start : start + 1])
    if not both.isalpha() or not (swapped or max(len(a), len(b)) == 1) or set(both) & TELLING and not (swapped or doubled):
        return False
    if SIGN.search(both):
        return swapped or doubled and len(b) == 1 or (sounds_alike(a, b) if len(a) == len(b) else end == 0 and both in "市省")
    word = re.search(r"[^\W\d_]*$", right[:start])[0] + re.match(r"[^\W\d_]*", right[start:])[0]
    return len(word) >= (4 if swapped or doubled else 5) and len(re.search(r"[^\W\d_]*$", right[:start])[0]) > 0


def sounds_alike(a: str, b: str) -> bool:
    """Of two Chinese signs: they stand close in the part of GB 2312 that is ordered by pinyin."""
    try:
        (row, cell), (other, place) = a.encode("gb2312"), b.encode("gb2312")
    except (UnicodeEncodeError, ValueError):
        return False
    return max(row, other) <= 0xD7 and abs((row - other) * 94 + cell - place) <= 16
