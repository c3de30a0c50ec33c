"""Does a model answer made-up rows from another function than real ones: a scaffold, which shows explainers what they should see (Slack et al. 2020,
"Fooling LIME and SHAP")? Explainers ask about rows that do not exist; so does this, as they do, and needs answers alone.

Of a table: a forest learns the model's answers on perturbed rows; the gap is its agreement on other perturbed rows minus on real ones. Plain models are
near 0 or below (of 7 tables and 6 learners at most 0.12, mostly below 0.06). A forest that learnt on rows in the middle may tell real ones as well as the
scaffold does. There the gap is how much better real answers are learnt from real rows than from perturbed ones, by learners that only add columns up; and
by how much oftener a column turns answers there than on real rows, with the columns that decide real rows kept. Of pictures and texts, whose models may
say little but one class once much is gone, the gap is the lesser of two, for a scaffold has both:
- learnt: the same, of answers to other rows' perturbed pictures (a forest on at most 16 x 16 points) or texts (a logistic regression on words);
- early: by how much oftener answers turn at a share s of the perturbation than s times as often as at the whole of it. Plain models hold on at first.
Left out: a scaffold that knows perturbed rows only once half of a row is gone; and what is behind slopes, which no answer shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from ..closed import Closed, opened
from ..subject import Subject

SHARES = (0.125, 0.25, 0.5)
SIDE = 7  # patches of a picture, up and across
TOLD = {  # what the two rows of numbers are
    "learnt": ("agreement_on_perturbed", "agreement_on_real"), "taught": ("learnt_from_real", "learnt_from_perturbed"),
    "turned": ("turned_when_perturbed", "turned_on_real"), "early": ("turned", "turned_if_evenly"),
}  # fmt: skip
Gap = tuple[float, np.ndarray, np.ndarray]  # the value, and two rows of numbers whose means' difference it is


def turns(subject: Subject, target: str, table: pa.Table, rows: int) -> Iterator[tuple[str, dict[str, Gap]]]:
    """Of each way to perturb a picture or a text, {"early", "learnt"}. rows: at most, drawn at random."""
    rng = np.random.default_rng([subject.seed, 5])
    some = table.take(pa.array(np.sort(rng.permutation(table.num_rows)[:rows])))
    # what opens is asked as its explainers ask it: an answer to pictures of 8 bits says nothing of those between
    asked = opened(subject.predictor, subject.schema, target, some, subject.open, gradients=False)
    real_x = asked.x.detach()
    seen, ways = (words(asked), texts(real_x, rng)) if isinstance(asked, Closed) and asked.form == "words" else (pixels, pictures(real_x, rng))

    def said(x: Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([asked.logits(x[r], r) for r in torch.arange(len(x)).split(256)]).argmax(1).numpy()

    real, first = seen(real_x), said(real_x)
    for name, perturb in ways.items():
        away = {s: perturb(s) for s in (*SHARES, 1.0)}
        answers = {s: said(x) for s, x in away.items()}
        turned = {s: (a != first).astype(float) for s, a in answers.items()}
        s = max(SHARES, key=lambda s: (turned[s] - s * turned[1.0]).mean())
        yield name, {"early": gap(turned[s], s * turned[1.0]), "learnt": gap(*agree(real, first, seen(away[0.5]), answers[0.5]))}


def gap(a: np.ndarray, b: np.ndarray) -> Gap:
    return float(a.mean() - b.mean()), a, b


def agree(real: np.ndarray, first: np.ndarray, away: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) 0 or 1 each: does who learnt the answers to the other half's perturbed rows agree on a perturbed row, and on the real one."""
    found, half = np.zeros((2, len(first))), np.arange(len(first)) % 2 == 0
    for part in (half, ~half):
        learner = learnt(away[~part], answers[~part])
        found[:, part] = learner(away[part]) == answers[part], learner(real[part]) == first[part]
    return found[0], found[1]


def pictures(x: Tensor, rng: np.random.Generator) -> dict[str, Callable[[float], Tensor]]:
    """x (N, C, H, W): patches are the mean picture's, noise of the spread of each pixel, the whole nearer to the mean picture."""
    n, _, h, w = x.shape
    rows, columns = min(SIDE, h), min(SIDE, w)
    patch = torch.arange(h)[:, None] * rows // h * columns + torch.arange(w) * columns // w
    coin = torch.from_numpy(rng.random((n, rows * columns)))[:, patch].unsqueeze(1)
    noise = x.std(0) * torch.from_numpy(rng.standard_normal(x.shape)).to(x.dtype)
    middle = x.mean(0)
    return {
        "patches": lambda s: torch.where(coin < s, middle, x), "noise": lambda s: (x + s * noise).clamp(0, 1), "blend": lambda s: x + s * (middle - x),
    }  # fmt: skip


def texts(x: Tensor, rng: np.random.Generator) -> dict[str, Callable[[float], Tensor]]:
    """x (N, W) of ones: words (or runs of them) are taken out."""
    coin = torch.from_numpy(rng.random(x.shape))
    return {"words": lambda s: torch.where(coin < s, 0.0, x)}


def pixels(x: Tensor) -> np.ndarray:
    return F.adaptive_avg_pool2d(x, (min(16, x.shape[2]), min(16, x.shape[3]))).flatten(1).numpy()


def words(closed: Closed) -> Callable[[Tensor], np.ndarray]:
    """x (N, W) -> (N, V): which words are there."""
    every = [[[w.strip().lower() for w in run.split()] for run in text] for text in closed.texts]
    number = {w: i for i, w in enumerate(dict.fromkeys(w for text in every for run in text for w in run))}

    def seen(x: Tensor) -> np.ndarray:
        found = np.zeros((len(every), max(1, len(number))), np.float32)
        for i, (text, keep) in enumerate(zip(every, x.tolist())):
            for run, kept in zip(text, keep):
                found[i, [number[w] for w in run]] += kept
        return np.minimum(found, 1)

    return seen


def learnt(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A forest, or of more columns than a picture's points a logistic regression."""
    from scipy.sparse import csr_matrix

    return forest(x, y, least=2) if x.shape[1] <= 3 * 16 * 16 else linear(csr_matrix(x), y)


def of_classes(make: Callable) -> Callable:
    """A learner (x (N, F), y (N,)) -> (x -> y), of one class too."""

    def learner(x: np.ndarray, y: np.ndarray, **given: int) -> Callable[[np.ndarray], np.ndarray]:
        return make(**given).fit(x, y).predict if len(np.unique(y)) > 1 else lambda x: np.full(len(x), y[0])

    return learner


@of_classes
def forest(least: int = 3):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(60, min_samples_leaf=least, random_state=0)


@of_classes
def additive():
    """Stumps that are added up: no column's part hangs on another column."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_leaf_nodes=2, max_iter=150, learning_rate=0.2, min_samples_leaf=5, early_stopping=False)


@of_classes
def linear():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=200))


def of_table(subject: Subject, target: str, table: pa.Table, way: str, rows: int = 600) -> Gap:
    """Whoever learnt the model's classes on perturbed rows: is that right of real ones? A forest: (M,) on other perturbed rows and (M,) on real ones. Of rows
    in the middle, among which a forest learns to tell real ones as well as a scaffold does: the lesser gap of two that cannot, since they only add columns up,
    and (N,) is whether they are right of real rows having learnt from other real ones, and (N,) from perturbed ones."""
    rng = np.random.default_rng([subject.seed, len(way)])
    real = table.take(pa.array(rng.permutation(table.num_rows)[:rows]))
    cells = [n for n, k in subject.schema.inputs.items() if k.place in ("number", "code")]

    def said(t: pa.Table) -> np.ndarray:
        return subject.predictor.predict(t)[target].probabilities.argmax(1).numpy()

    if way == "column":
        return by_column(real, cells, said, rng)
    away = perturbed(real.take(pa.array(rng.integers(0, real.num_rows, 3 * rows))), real, cells, way, rng)

    def seen(t: pa.Table) -> np.ndarray:
        stored = subject.schema.encode(t, targets=False).inputs["table"]
        return np.concatenate([np.nan_to_num(stored["numbers"], nan=-30.0), stored["codes"]], 1)

    x, y, there, answers, half = seen(away), said(away), seen(real), said(real), away.num_rows * 2 // 3
    if way == "middle":
        return min((as_of_real(there, answers, x, y, learner) for learner in (linear, additive)), key=lambda g: g[0])
    learner = forest(x[:half], y[:half])
    return gap((learner(x[half:]) == y[half:]).astype(float), (learner(there) == answers).astype(float))


def by_column(real: pa.Table, cells: list[str], said: Callable[[pa.Table], np.ndarray], rng: np.random.Generator) -> Gap:
    """(N,) how often the answer turns with one column that is another row's, where columns that decide real rows are kept and the others are in the middle,
    and (N,) how often on real rows; the column of the largest gap. What decides: turns at least KEPT as many answers as the first does."""

    def given(t: pa.Table, name: str) -> pa.Table:
        return t.set_column(t.column_names.index(name), name, real.column(name).take(pa.array(order)))

    order, first = rng.permutation(real.num_rows), said(real)
    turned = {n: (said(given(real, n)) != first).astype(float) for n in cells}
    most = max(t.mean() for t in turned.values())
    rest = [n for n in cells if turned[n].mean() < KEPT * most]
    gaps = [gap(turned[cells[0]], turned[cells[0]])]
    away = perturbed(real, real, rest, "middle", rng) if rest else real
    for name in rest:
        own = away.set_column(away.column_names.index(name), name, real.column(name))
        gaps.append(gap((said(own) != said(given(away, name))).astype(float), turned[name]))
    return max(gaps, key=lambda g: g[0])


def as_of_real(real: np.ndarray, answers: np.ndarray, away: np.ndarray, said: np.ndarray, learner: Callable) -> Gap:
    own, half = np.zeros(len(answers)), np.arange(len(answers)) % 2 == 0
    for part in (half, ~half):
        own[part] = learner(real[~part], answers[~part])(real[part]) == answers[part]
    return gap(own, (learner(away, said)(real) == answers).astype(float))


WAYS = ("noise", "between", "columns", "middle", "column", "one")
NAMED = WAYS[2:]  # where there are names alone
KEPT = 0.3  # of the answers that the first column turns, swapped alone: who turns so many decides


def perturbed(rows: pa.Table, others: pa.Table, cells: list[str], way: str, rng: np.random.Generator) -> pa.Table:
    """noise: each number moved by its own spread, categories redrawn; between: so that whole numbers are whole no more (LIME's); columns: each cell, with
    probability a half, another row's; middle: seven cells in ten the column's median, or most frequent value (SHAP's, with one row for background); one: one
    cell is another row's (permutation importance's)."""
    n = rows.num_rows
    share, alone = 0.7 if way == "middle" else 0.5, rng.integers(0, len(cells), n) if way == "one" else None
    for name in cells:
        column, at = rows.column(name), rows.column_names.index(name)
        number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if way in ("noise", "between") and number:
            x = column.cast(pa.float64()).to_numpy()
            x = x + np.nanstd(others.column(name).cast(pa.float64()).to_numpy()) * rng.standard_normal(n)
            whole = way == "noise" and pa.types.is_integer(column.type)
            made = pa.array(np.round(x), from_pandas=True).cast(column.type, safe=False) if whole else pa.array(x, from_pandas=True)
        else:
            swap, pool = rng.random(n) < share if alone is None else alone == cells.index(name), others.column(name).combine_chunks()
            taken = middle(pool, number) if way == "middle" else rng.integers(0, others.num_rows, n)
            made = pa.concat_arrays([column.combine_chunks(), pool]).take(pa.array(np.where(swap, n + taken, np.arange(n))))
        rows = rows.set_column(at, name, made)
    return rows


def middle(column: pa.Array, number: bool) -> int:
    """The row of the median, or of the most frequent value."""
    if number:
        return pc.sort_indices(column)[max(len(column) - column.null_count - 1, 0) // 2].as_py()
    codes = column.dictionary_encode(null_encoding="encode").indices.to_numpy()
    return int(np.flatnonzero(codes == np.bincount(codes).argmax())[0])
