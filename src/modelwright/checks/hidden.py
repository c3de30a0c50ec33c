"""Answers that no column shows by itself: in two columns together, a word of a text, the shape of an identifier, or in which cells are filled in.

Each suspicion is a statistic that is asked as it stands, without a learner (AUROC of a class, squared correlation with a number), at an interval corrected
for how many were looked at. Two columns: their difference, sum, product, quotient and distance; a number less its mean by a category; two categories: the
pair of values; three columns: sums and products with either sign, of the five that weigh most in least squares. They count where they tell nearly all (0.995)
and no column does alone (0.9). Words count where one of each class alone tells it from all others (0.97 on average over classes; a sign or a blank too many
is a word, too), the first two and the last letters of an identifier, the last digit, the remainder (by 3 to 31) and the count of decimals of a number, a
time's weekday, hour, minute and second where they tell 0.95, empty cells 0.85, which of two cells is empty 0.9. Left out: four columns together, checksums
and hashes, paraphrases, a moment after the outcome which nothing but its meaning gives away.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction.text import CountVectorizer

from .. import metrics as m
from .columns import is_number, is_text
from .copies import WORD
from .leaks import SURE, cells, skill, told
from .moments import parts

ALONE, WORDS, SHAPE, FILLED = 0.9, 0.97, 0.95, 0.85
MOST = 40  # columns whose pairs are looked at: the first ones
SIGN = re.compile(WORD.pattern + r"|[^\w\s]|\s{2,}|[^\S ]|\s$")  # words, and what may tell beside them: a full stop, a blank too many
Finding = dict[str, object]


def answers(columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int | None, seed: int, level: float, units: np.ndarray | None) -> list[Finding]:
    """What gives y away though no column does. columns: those that the model reads."""
    found = pairs(columns, y, classes, seed, level, units)
    if classes is not None:
        found += words(columns, y, classes, level) + shapes(columns, y, classes, seed, level, units) + filled(columns, y, classes, seed, level, units)
    return list({f["column"]: f for f in reversed(found)}.values())[::-1]  # the first finding of each column


def pairs(columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int | None, seed: int, level: float, units: np.ndarray | None) -> list[Finding]:
    read = {n: c for n, column in columns.items() if (c := cells(column)) is not None}
    numbers = {n: x for n, (x, names) in list(read.items())[:MOST] if not names and len(np.unique(x)) > 2}
    few = {n: x.astype(np.int64) + 1 for n, (x, names) in list(read.items())[:MOST] if len(np.unique(x)) <= 20 and not np.isnan(x).any()}
    asked = 5 * len(numbers) ** 2 // 2 + len(few) ** 2 // 2 + len(few) * len(numbers)
    strong: dict[str, float] = {}

    def alone(name: str) -> float:
        if name not in strong:
            strong[name] = skill(told(*read[name], y, classes, seed, units), y, classes, 0.5)[0]
        return strong[name]

    found: list[Finding] = []
    for a, b in itertools.combinations(numbers, 2):
        for how, x in _together(a, b, numbers[a], numbers[b]):
            value, low = _plain(x, y, classes, 1 - (1 - level) / asked)
            if value >= SURE and low > 0.97 and max(alone(a), alone(b)) < ALONE:
                found.append(_finding(how, value, classes, "together, and neither alone"))
                break
    for a, b in itertools.product(few, numbers):
        value, low = _plain(within(numbers[b], few[a]), y, classes, 1 - (1 - level) / asked) if a != b else (0.0, 0.0)
        if value >= SURE and low > 0.97 and alone(b) < SURE:
            found.append(_finding(f"{b} less its mean by {a}", value, classes, "together, and not alone"))
    if classes is not None and len(few) > 1:
        for a, b in itertools.combinations(few, 2):
            both = np.unique(few[a] * (few[b].max() + 1) + few[b], return_inverse=True)[1].astype(np.float64)
            if _best(both, y, classes) < SURE:  # even were each pair of values always told right
                continue
            value, low = skill(told(both, True, y, classes, seed, units), y, classes, 1 - (1 - level) / asked)
            if value >= SURE and low > 0.97 and max(alone(a), alone(b)) < ALONE:
                found.append(_finding(f"{a} and {b}", value, classes, "together, and neither alone"))
    return found or triples(numbers, y, classes, level, alone)


def within(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(N,) x less the mean of its group: what a mean of all others lacks is its own row's."""
    of, known = np.unique(codes, return_inverse=True)[1], np.isfinite(x)
    return x - (np.bincount(of[known], x[known], of.max() + 1) / np.maximum(np.bincount(of[known], minlength=of.max() + 1), 1))[of]


def triples(numbers: dict[str, np.ndarray], y: np.ndarray, classes: int | None, level: float, alone: Callable[[str], float]) -> list[Finding]:
    """Sums and products of three columns, each taken or taken off."""
    numbers = {n: np.where(np.isfinite(x), x, np.median(x[np.isfinite(x)])) for n, x in numbers.items() if np.isfinite(x).mean() > 0.9 and np.nanstd(x) > 0}
    asked = 8 * math.comb(len(numbers), 3)
    for k in [None] if classes is None else range(1 if classes == 2 else 0, classes):
        says = y if k is None else y == k
        for sign in "+x":
            read = numbers if sign == "+" else {n: np.log(x) for n, x in numbers.items() if x.min() > 0}
            if len(read) < 3 or len(y) < 4 * len(read):
                continue
            x = np.stack(list(read.values()), 1)
            spread = x.std(0) + 1e-12
            weight = np.abs(np.linalg.lstsq((x - x.mean(0)) / spread, says - says.mean(), rcond=None)[0])
            for three in itertools.combinations([list(read)[i] for i in np.argsort(-weight)[:5]], 3):
                for signs in itertools.product((1, -1), repeat=2):
                    z = read[three[0]] + signs[0] * read[three[1]] + signs[1] * read[three[2]]
                    value, low = _plain(np.exp(z) if sign == "x" else z, says.astype(y.dtype), classes and 2, 1 - (1 - level) / asked)
                    if value >= SURE and low > 0.97 and max(map(alone, three)) < ALONE:
                        on, off = (" + ", " - ") if sign == "+" else (" x ", " / ")
                        how = three[0] + "".join((on if s > 0 else off) + n for s, n in zip(signs, three[1:], strict=True))
                        return [_finding(how, value, classes, "together, and none alone")]
    return []


def words(columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int, level: float) -> list[Finding]:
    """Texts in which single words (characters, of a script without spaces) tell the classes."""
    found: list[Finding] = []
    for name, column in columns.items():
        if not is_text(column) or pc.count_distinct(column).as_py() < 0.5 * len(column):
            continue
        texts = [(v or "").lower() for v in column.cast(pa.string()).to_pylist()]
        counter = CountVectorizer(tokenizer=SIGN.findall, token_pattern=None, lowercase=False, binary=True, min_df=max(2, len(texts) // 1000))
        try:
            there = counter.fit_transform(texts)
        except ValueError:  # no word stands in two texts
            continue
        total, best = np.asarray(there.sum(0)).ravel(), {}
        for k in range(1 if classes == 2 else 0, classes):
            p, n = int((y == k).sum()), int((y != k).sum())
            if min(p, n) >= 5:
                own = np.asarray(there[y == k].sum(0)).ravel()
                apart = own / p - (total - own) / n
                best[k] = int(np.abs(apart).argmax())
        scores = {k: _plain(there[:, j].toarray().ravel(), y == k, 2, 1 - (1 - level) / (there.shape[1] * len(best))) for k, j in best.items()}
        if scores and np.mean([v for v, _ in scores.values()]) >= WORDS and np.mean([low for _, low in scores.values()]) > ALONE:
            which = counter.get_feature_names_out()[best[max(scores, key=lambda k: scores[k][0])]]
            found.append(_finding(name, float(np.mean([v for v, _ in scores.values()])), classes, f"whether it holds single words, as {which!r}"))
    return found


def shapes(columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int, seed: int, level: float, units: np.ndarray | None) -> list[Finding]:
    """Texts (half of them different) whose first or last letters tell the class, numbers whose last digit or count of decimals does, times whose second or
    hour does; their size does not."""
    asked: list[tuple[str, str, list[str]]] = []
    for name, column in columns.items():
        asked += [(name, f"its {what}", part) for what, part in parts(column).items()]
        number, distinct = is_number(column), pc.count_distinct(column).as_py()
        if not (number and distinct > 20 or is_text(column) and distinct >= 0.5 * len(column)):
            continue
        texts = [v or "" for v in column.cast(pa.string()).to_pylist()]
        asked.append((name, "its last digit" if number else "its last letter", [t[-1:] for t in texts]))
        if number:
            asked.append((name, "how many decimals it has", [str(len(t.partition(".")[2])) for t in texts]))
            asked += [(name, f"its remainder by {k}", part) for k, part in _remainders(column) if _best(part, y, classes) >= SHAPE]  # 29 were looked at
        elif max(map(len, texts)) <= 40:
            asked += [(name, "its first letters", [t[:2] for t in texts]), (name, "its length", [str(len(t)) for t in texts])]
    found: list[Finding] = []
    for name, what, part in asked:
        codes = np.unique(part, return_inverse=True)[1].astype(np.float64)
        value, low = skill(told(codes, True, y, classes, seed, units), y, classes, 1 - (1 - level) / (29 * len(columns) + len(asked)))
        if value < SHAPE or low <= ALONE:
            continue
        x = cells(columns[name])
        if x[1] or skill(told(*x, y, classes, seed, units), y, classes, 0.5)[0] < ALONE:
            found.append(_finding(name, value, classes, what))
    return found


def _remainders(column: pa.ChunkedArray) -> Iterator[tuple[int, np.ndarray]]:
    if pa.types.is_integer(column.type) and not column.null_count:
        x = column.to_numpy()
        yield from ((k, (x % k).astype(np.int64)) for k in range(3, 32))


def filled(columns: dict[str, pa.ChunkedArray], y: np.ndarray, classes: int, seed: int, level: float, units: np.ndarray | None) -> list[Finding]:
    """Columns that are filled in where the answer is known: of any kind, blanks being empty."""
    gaps = {}
    for name, column in columns.items():
        empty = column.is_null(nan_is_null=True).to_numpy()
        if is_text(column):
            empty = empty | np.array([not (v or "").strip() for v in column.cast(pa.string()).to_pylist()])
        gaps |= {name: empty} if 0 < empty.sum() < len(empty) else {}
    found = []
    for name, gap in gaps.items():
        value, low = _plain(gap, y, classes, 1 - (1 - level) / len(gaps))
        if low > FILLED:
            found.append(_finding(name, value, classes, "whether it is filled in"))
    named = {f["column"] for f in found}
    for a, b in itertools.combinations([n for n in gaps if n not in named][:MOST], 2):
        which = 2.0 * gaps[a] + gaps[b]
        if _best(which, y, classes) >= FILLED:
            value, low = skill(told(which, True, y, classes, seed, units), y, classes, 1 - (1 - level) / len(gaps) ** 2)
            found += [_finding(f"{a} and {b}", value, classes, "which of them is filled in")] if low > ALONE else []
    return found


def _together(a: str, b: str, x: np.ndarray, z: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{a} - {b}", x - z
    yield f"{a} + {b}", x + z
    yield f"|{a} - {b}|", np.abs(x - z)
    yield f"{a} x {b}", x * z
    with np.errstate(divide="ignore", invalid="ignore"):
        yield f"{a} / {b}", np.where(z == 0, np.nan, x / np.where(z == 0, 1, z))


def _plain(x: np.ndarray, y: np.ndarray, classes: int | None, level: float) -> tuple[float, float]:
    """How well x tells y as it stands, up or down, and the lower end: AUROC of the class told best, or the squared correlation."""
    x = np.asarray(x, np.float64)
    known = np.isfinite(x)
    if known.mean() < 0.5:
        return 0.0, 0.0
    x = np.where(known, x, np.median(x[known]))
    if classes is None:
        with np.errstate(invalid="ignore"):
            slope = np.cov(x, y)[0, 1] / max(x.var(ddof=1), 1e-300)
        return skill(y.mean() + slope * (x - x.mean()), y, None, level)
    each = []
    for k in range(1 if classes == 2 else 0, classes):
        if 5 <= (y == k).sum() <= len(y) - 5:
            a = m.auroc(y == k, x)
            each.append((max(a, 1 - a), k, x if a >= 0.5 else -x))
    if not each:
        return 0.5, 0.0
    value, k, best = max(each, key=lambda e: e[0])
    return (value, 0.0) if value < FILLED else skill(np.stack([-best, best], 1), (y == k).astype(np.int64), 2, level)


def _best(codes: np.ndarray, y: np.ndarray, classes: int) -> float:
    """The share of rows of the commonest class of each code: an upper end of what codes can tell, quickly."""
    counts = np.zeros((int(codes.max()) + 1, classes))
    np.add.at(counts, (codes.astype(np.int64), y), 1)
    return float(counts.max(1).sum() / len(y))


def _finding(name: str, value: float, classes: int | None, what: str) -> Finding:
    return {"column": name, "alone": value, "others": None, "evidence": f"{'R2' if classes is None else 'AUROC'} {value:.3f} from {what}"}
