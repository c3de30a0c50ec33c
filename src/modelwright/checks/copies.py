"""What two splits share: equal rows, nearly equal rows, members of a group, runs of words.

Equal rows are equal in every input (`digests.row_digests`). Nearly equal ones lie so close to a training row that chance would bring fewer than
one in a thousand there: the distance is the one at which a density of the data's own dimension (Levina & Bickel 2004) holds that share of nearest
neighbours, and at most a fifth of the usual distance to one. Texts are near where most of their character 5-grams are shared (cosine 0.8 of counts),
once folded: names, too, are compared without width, case, accents, blanks, punctuation, letters that only look alike and zeros in front of numbers; in
long Chinese texts the signs that simplified and traditional writing do not share stand for one another. Runs of words are 13-grams (Brown et al.
2020, appendix C), a character of a script without spaces being a word; those in more than 10 training texts are boilerplate and do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.neighbors import NearestNeighbors

from ..data.dataset import TABLE
from ..data.schema import Schema
from ..digests import row_digests
from .columns import is_text
from .cutouts import cut_out
from .learner import small
from .spelling import LOOKS

CHANCE = 1e-3  # rows that may lie this near by chance
WIDTHS, STAY = (0.009, 0.001), 0.3  # of cells, in shares of a column's distinct values; pairs that noise alone leaves
HEAPS, MANY, CUT = 50, 60, 100_000  # distinct values of a real number; pairs of rows; rows beyond which no grid is laid
LEAST, LONG = 10, 30  # pairs of equal rows that are looked into; characters of a text that nobody writes twice
SEVERAL = set(  # simplified signs that traditional writing has, too, as others; and a few of what it has for them
    "后里只台云于干系余几斗谷松制准冲游志采咸向占布板胡周升致体万与丑价党适划剂卷厂广听坛夸宁当怀怜扑担据挂无旧术机杆杰极柜气洒淀犹痒种筑胜腊舍苏苹范虫蜡表郁面须着後裡裏隻臺檯雲於幹乾係"
    "繫餘幾鬥穀鬆製準衝遊誌採鹹嚮佔佈闆鬍週昇緻體萬與醜麵著麼"
)
SHARED = 8  # Chinese signs of both writings that tell a text
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]+")
PSEUDONYM = re.compile(r"(?=.*[a-z])[0-9a-f]{12,}|\S+@\S+\.\w+", re.IGNORECASE)  # a hash or UUID, an address
ENTITY = re.compile(
    r"(patient|subject|user|customer|client|person|household|family|speaker|participant|member|account|session|device|machine|author|student|pupil|donor|employee|"
    r"worker|driver|vehicle|vin|animal|mouse|case|applicant|borrower|debtor|policyholder|guest|citizen|beneficiary|kunde[n]?|klient|"
    r"患者|病人|用户|客户|受试者|说话人|会员|学生|员工|司机|车辆|借款人|学|工|病历)"
    r"[_\- ]?(id|no|nr|num|number|code|key|name|uid|hash|编号|号|名)?",
    re.IGNORECASE,
)


def folded(text: object) -> str:
    """A name or text without what spelling varies: width (NFKC), case, accents, blanks, punctuation, look-alikes, zeros before a number. 1-23 and 12-3 stay
    apart."""
    plain = unicodedata.normalize("NFKC", "" if text is None else str(text)).casefold()
    if not plain.isascii():
        plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", plain.translate(LOOKS)))
    parts = re.findall(r"\d+|[^\W\d_]+", unicodedata.normalize("NFC", plain))
    out = ""
    for part in parts:
        number = part.isdecimal()
        out += " " * (number and out[-1:].isdecimal()) + (part.lstrip("0") or "0" if number else part)
    return out


@cache
def shared_sign(sign: str) -> str:
    """A Chinese sign that is one in simplified and traditional writing (it stands in both GB 2312 and Big5, and is not one of SEVERAL); else one for all."""
    if sign in SEVERAL:
        return "\u4e36"
    try:
        sign.encode("gb2312"), sign.encode("big5")
    except UnicodeEncodeError:
        return "\u4e36"
    return sign


def either_writing(text: str) -> str:
    """A long text by the signs that both writings share; a short one as it is."""
    shared = re.sub(r"[\u3400-\u9fff]", lambda m: shared_sign(m[0]), text)
    return shared if len(re.findall(r"[\u3400-\u9fff]", shared)) - shared.count("\u4e36") >= SHARED else text


def folded_table(table: pa.Table) -> pa.Table:
    """Every column of text folded."""
    for i, column in enumerate(table.columns):
        if is_text(column):
            spelt = column.cast(pa.string()).dictionary_encode().combine_chunks()
            words = pa.array([folded(v) for v in spelt.dictionary.to_pylist()], pa.string())
            table = table.set_column(i, table.column_names[i], words.take(spelt.indices))
    return table


def equal_rows(test: pa.Table, others: pa.Table) -> np.ndarray:
    """(N,) bool: the test rows that stand in others too. Both have the same columns."""
    return np.isin(row_digests(test), row_digests(others.cast(test.schema) if others.schema != test.schema else others))


def alike(table: pa.Table) -> np.ndarray:
    """(N,) int: the number of each row among the distinct ones."""
    return np.unique(row_digests(table), return_inverse=True)[1]


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) numbers of the clusters of which rows are that share one of either, however many steps apart."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = a - a.min(initial=0), b - b.min(initial=0) + a.max(initial=0) - a.min(initial=0) + 1
    size = int(ends[1].max(initial=0)) + 1
    return connected_components(coo_matrix((np.ones(len(a)), ends), (size, size)), directed=False)[1][ends[0]]


def by_chance(test: pa.Table, train: pa.Table) -> np.ndarray:
    """(N,) the chance that training rows equal each test row though nobody copied them, as in tables of few values: of those that agree in all columns but
    one, as many agree in it, too, as two cells of that column do among distinct training rows; by the column that says most. Both have the same columns."""
    (own, marks), (mine, others) = _marks(train), _marks(test)
    if len(marks) < 2:
        return np.zeros(test.num_rows)
    most, distinct = np.zeros(test.num_rows), np.unique(own, return_index=True)[1]
    same = _times(mine, own)
    for mark, other in zip(marks, others, strict=True):
        times = np.unique(mark[distinct], return_counts=True)[1]
        agree = float((times * (times - 1.0)).sum() / max(len(distinct) * (len(distinct) - 1.0), 1))
        chance = -np.expm1(-(_times(mine - other, own - mark) - same) * agree / max(1 - agree, 1e-9))
        most = max(most, chance, key=np.sum)
    return most


def _times(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) how often each stands in others."""
    values, counts = np.unique(others, return_counts=True)
    at = np.searchsorted(values, mine).clip(max=len(values) - 1)
    return np.where(values[at] == mine, counts[at], 0)


def repeats(table: pa.Table, others: pa.Table | None = None) -> np.ndarray | None:
    """(N,) number of each row among the distinct ones, where rows come again oftener than by chance, as they stand (`equals`, others as there) or with a
    little noise (`jittered`); else None."""
    found = equals(table, others)
    return jittered(table) if found is None else found


def jittered(table: pa.Table) -> np.ndarray | None:
    """(N,) number of each row among the distinct ones, where many differ in the last digits of their real numbers alone; else None. Cells are cut into
    a finer and finer grid (by shares of a column's distinct values, so that its shape is none of the grid's). In cells a ninth as wide a ninth as many pairs
    of unequal rows are left where rows lie along a line, fewer in more dimensions; of copies with noise nearly all are, down to the noise. Cells are fine
    from the first, since names and whole numbers may hold real ones to a range; with fewer than three real numbers they may hold them to a point."""
    real = {n: c for n, c in zip(table.column_names, table.columns, strict=True) if pa.types.is_floating(c.type) and pc.count_distinct(c).as_py() > HEAPS}
    if len(real) < 3 or not 1 < table.num_rows <= CUT:
        return None
    names = [n for n in table.column_names if n not in real]
    rest = row_digests(table.select(names)) if names else np.zeros(table.num_rows, np.uint64)
    ranks = []
    for column in real.values():
        x = column.to_numpy()
        known = np.unique(x[np.isfinite(x)])
        share = min(64, len(known) // 20)
        tail = 0.5 ** np.arange(1, np.log2(max(2, len(known) / share / 5))) / share  # halves of the last part, to some five values
        at = np.quantile(known, np.sort(np.concatenate([np.linspace(0, 1, share + 1), tail, 1 - tail])))
        gap = 1e-3 * np.diff(np.quantile(known, [0.05, 0.95]))[0]  # noise on one value is not spread out
        at = at[np.append(True, np.diff(np.floor(at / gap)) > 0)] if gap > 0 else at[[0, -1]]
        ranks.append(np.where(np.isfinite(x), np.interp(x, at, np.linspace(0, 1, len(at))), 2.0))
    odd = np.random.default_rng(0).integers(1, 2**63, len(ranks), np.uint64) * np.uint64(2) + np.uint64(1)

    def cut(width: float, shift: float = 0.0) -> np.ndarray:
        cells = [np.floor(r / width + shift).astype(np.uint64) * of for r, of in zip(ranks, odd, strict=True)]
        return np.unique(np.sum(cells, axis=0, dtype=np.uint64) + rest, return_inverse=True)[1]

    def pairs(number: np.ndarray) -> float:
        times = np.bincount(number)
        return float((times * (times - 1.0)).sum() / 2)

    equal = pairs(cut(1e-15))
    left = [pairs(cut(w)) - equal for w in WIDTHS]
    return joined(cut(WIDTHS[0]), cut(WIDTHS[0], 0.5)) if left[0] >= MANY and left[1] > STAY * left[0] else None


def equals(table: pa.Table, others: pa.Table | None = None) -> np.ndarray | None:
    """(N,) number of each row among the distinct ones, where rows are equal oftener than by chance; else None. others: training rows, if there are any, show
    how often two people are equal: two of the table's rows are copies if they are equal more than twice as often as one of each. Without them rows may be
    equal where distinct ones are often equal in all cells but one, as in tables of few values, and in none that hold long texts."""
    digests = row_digests(table)
    _, first, number, times = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    equal, n = float((times * (times - 1.0)).sum() / 2), len(number)
    if equal == 0:
        return None
    if others is not None and others.num_rows and {*table.column_names} <= {*others.column_names}:
        theirs, counts = np.unique(row_digests(others.select(table.column_names)), return_counts=True)
        at = np.searchsorted(theirs, digests).clip(max=len(theirs) - 1)
        chance = counts[at][theirs[at] == digests].sum() / (n * others.num_rows)
        return number if equal >= LEAST and equal / (n * (n - 1) / 2) > 2 * chance else None
    whole, marks = _marks(own := table.take(pa.array(first)))
    alike = sum(len(first) - len(np.unique(whole - mark)) for mark in marks)
    rich = any(is_text(c) and (pc.mean(pc.utf8_length(c.cast(pa.string()))).as_py() or 0) > LONG for c in own.columns)
    return number if equal >= LEAST and (rich or len(marks) > 2 and alike <= CHANCE * len(first) * len(marks)) else None


def _marks(table: pa.Table) -> tuple[np.ndarray, list[np.ndarray]]:
    """(N,) uint64 of whole rows, and of each column, whose sum that is: a row without one cell is the difference."""
    marks = [row_digests(table.select([name])) for name in table.column_names]
    return np.sum(marks, axis=0, dtype=np.uint64), marks


def equal_but_one(test: pa.Table, train: pa.Table) -> np.ndarray:
    """(N,) bool: the test rows that equal a training row in all cells but one, of four or more; none where training rows are so alike by themselves, as in
    tables of few values. Both have the same columns."""
    n, hits, alike = test.num_rows, np.zeros(test.num_rows, bool), 0
    if test.num_columns < 4 or any(pa.types.is_nested(t) or pa.types.is_binary(t) for t in test.schema.types):
        return hits
    whole, marks = _marks(pa.concat_tables([test, train], promote_options="permissive"))
    own = np.unique(whole[n:], return_index=True)[1] + n  # training rows, each once
    for mark in marks:
        rest = whole - mark
        hits |= np.isin(rest[:n], rest[own])
        alike += len(own) - len(np.unique(rest[own]))
    return hits & (alike <= CHANCE * len(own))


def near_rows(schema: Schema, test: pa.Table, train: pa.Table) -> np.ndarray:
    """(N,) bool: the test rows that lie nearly on a training row, in every input. Equal rows are among them."""
    near = np.ones(test.num_rows, bool)
    first, then = schema.encode(train, targets=False), schema.encode(test, targets=False)
    looked = 0
    for name, stored in then.inputs.items():
        if name == TABLE:
            numbers = np.concatenate([first.inputs[name]["numbers"], stored["numbers"]])
            codes = np.concatenate([first.inputs[name]["codes"], stored["codes"]]).astype(np.float64) * 1e3  # another code is far away
            x = np.concatenate([np.nan_to_num(numbers, nan=1e3), codes], 1)
            near &= _near_points(x[: len(first)], x[len(first) :])
        elif then.kinds[name].form == "picture":
            there, here = first.inputs[name]["values"], stored["values"]
            near &= _near_points(small(there, 8), *turned(here)) | cut_out(here, there)
        elif then.kinds[name].form == "ids":
            near &= _near_texts(test.column(name), train.column(name))
        else:
            continue
        looked += 1
    return near & (looked > 0)


def turned(values: np.ndarray) -> list[np.ndarray]:
    """(N, F) each: pictures (N, C, H, W) made small, as they stand, mirrored and turned by right angles, as copies made to have more of them are."""
    x = small(values, 8).reshape(*values.shape[:2], min(8, values.shape[2]), -1)
    turns = range(4) if x.shape[2] == x.shape[3] else (0, 2)
    return [np.ascontiguousarray(np.rot90(y, k, (2, 3))).reshape(len(x), -1) for y in (x, x[..., ::-1]) for k in turns]


def _near_points(train: np.ndarray, *tests: np.ndarray) -> np.ndarray:
    """(N,) bool. tests: the same rows in several views, of which one may be near."""
    finder = NearestNeighbors(n_neighbors=6).fit(train)
    own = finder.kneighbors(train)[0][:, 1:]  # the nearest of a row is itself
    apart = own[(own[:, 0] > 1e-9) & (own[:, -1] < 500)]
    usual, close = np.median(apart[:, 0]) if len(apart) > 20 else 0.0, 1e-9
    if usual > 0:
        dimension = 1 / max(np.mean(np.log(apart[:, -1:] / apart[:, :-1]).mean(1)), 1e-3)
        close = usual * min(0.2, (CHANCE / len(tests) / np.log(2)) ** (1 / max(dimension, 1.0)))
    return np.any([finder.kneighbors(test, 1)[0][:, 0] <= close for test in tests], axis=0)


def _near_texts(test: pa.ChunkedArray, train: pa.ChunkedArray, cosine: float = 0.8) -> np.ndarray:
    vectors = HashingVectorizer(analyzer="char", ngram_range=(5, 5), n_features=2**18, alternate_sign=False)
    a, b = (vectors.transform([either_writing(folded(v)) for v in column.to_pylist()]) for column in (test, train))
    near = np.zeros(a.shape[0], bool)
    for start in range(0, a.shape[0], 256):
        near[start : start + 256] = np.asarray((a[start : start + 256] @ b.T).max(1).todense()).ravel() >= cosine
    return near


def entities(tables: Iterable[pa.Table], declared: str | None, leave: set[str]) -> list[str]:
    """Columns whose values are persons or things with several rows: the declared one, and those that are named or written so and repeat."""
    found, tables = [declared] if declared else [], list(tables)
    shared = set.intersection(*({*t.column_names} for t in tables))  # pyarrow makes its list anew each time
    names = [n for n in tables[0].column_names if n in shared]
    table = pa.concat_tables([t.select(names) for t in tables], promote_options="permissive")
    for name, column in zip(names, table.columns, strict=True):
        if name in leave or name in found or pa.types.is_nested(column.type):
            continue
        if not ENTITY.fullmatch(name.strip()) and not pseudonyms(column):
            continue
        distinct = pc.count_distinct(column).as_py()
        if 20 <= distinct <= 0.8 * table.num_rows:
            found.append(name)
    return found


def pseudonyms(column: pa.ChunkedArray) -> bool:
    """Whether nearly all of the first cells are hashes, UUIDs or addresses: whatever the column's name, they are somebody's."""
    some = [v.replace("-", "") for v in column.drop_null().slice(0, 200).cast(pa.string()).to_pylist()] if is_text(column) else []
    return len(some) >= 20 and np.mean([bool(PSEUDONYM.fullmatch(v)) for v in some]) > 0.9


def shared_members(test: pa.ChunkedArray, others: pa.ChunkedArray) -> np.ndarray:
    """(N,) bool: the test rows whose value stands in others, however it is spelt."""
    mine, theirs = (folded_table(pa.table({"of": c.cast(pa.string())})).column("of") for c in (test, others))
    return pc.fill_null(pc.is_in(mine, value_set=pc.unique(theirs.drop_null())), False).to_numpy()


def runs(text: str | None, n: int = 13) -> set[int]:
    """Hashes of the n-grams of words, as they are and, where at least three quarters of one are no sign of one writing alone, in either writing."""
    plain = unicodedata.normalize("NFKC", text or "").lower()
    words = WORD.findall(plain)
    found = {hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)}
    if (either := either_writing(plain)) != plain:
        words = WORD.findall(either)
        found |= {hash(run) for i in range(len(words) - n + 1) if (run := tuple(words[i : i + n])).count("\u4e36") <= n / 4}
    return found


def contaminated(test: pa.ChunkedArray, train: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool: the test texts that share a run of 13 words with a training text; and (N,) bool: those long enough to be asked."""
    wanted = [runs(t) for t in test.to_pylist()]
    every = set().union(*wanted) if wanted else set()
    counts = Counter(h for t in train.to_pylist() for h in runs(t) & every)
    rare = {h for h, times in counts.items() if times <= 10}
    return np.array([bool(r & rare) for r in wanted]), np.array([bool(r) for r in wanted])
