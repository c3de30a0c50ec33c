"""Does a model answer made-up rows from another function than real ones: a scaffold, which shows explainers what they should see (Slack et al. 2020,
"Fooling LIME and SHAP")? Explainers ask about rows that do not exist; so does this, as they do, and needs answers alone.

Of a table: a forest learns the model's answers on perturbed rows; the gap is its agreement on other perturbed rows minus on real ones. Plain models are
near 0 or below. Of pictures and texts, whose models may say little but one class once much is gone, the gap is the lesser of two, for a scaffold has both:
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
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y)) < 2:
        return lambda x: np.full(len(x), y[0])
    if x.shape[1] <= 3 * 16 * 16:
        return RandomForestClassifier(60, min_samples_leaf=2, random_state=0).fit(x, y).predict
    return LogisticRegression(max_iter=200).fit(csr_matrix(x), y).predict


def of_table(subject: Subject, target: str, table: pa.Table, way: str, rows: int = 600) -> Gap:
    """A forest that learnt the model's classes on perturbed rows: does it agree, (M,) on other perturbed rows, and (M,) on real ones. Of rows in the middle
    both are less what is seen of a forest that learnt the model's answers to real rows, and hides nothing."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng([subject.seed, len(way)])
    real = table.take(pa.array(rng.permutation(table.num_rows)[:rows]))
    start = real.take(pa.array(rng.integers(0, real.num_rows, 3 * rows)))
    cells = [n for n, k in subject.schema.inputs.items() if k.place in ("number", "code")]
    away = perturbed(start, real, cells, way, rng)
    half = away.num_rows * 2 // 3

    def seen(t: pa.Table) -> np.ndarray:
        stored = subject.schema.encode(t, targets=False).inputs["table"]
        return np.concatenate([np.nan_to_num(stored["numbers"], nan=-30.0), stored["codes"]], 1)

    def said(t: pa.Table) -> np.ndarray:
        return subject.predictor.predict(t)[target].probabilities.argmax(1).numpy()

    def learnt(x: np.ndarray, y: np.ndarray) -> RandomForestClassifier:
        return RandomForestClassifier(60, min_samples_leaf=3, random_state=subject.seed).fit(x, y)

    x, y, there, answers = seen(away), said(away), seen(real), said(real)
    if len(np.unique(y[:half])) < 2:
        return gap((y[half:] == y[0]).astype(float), (answers == y[0]).astype(float))
    forest = learnt(x[:half], y[:half])
    away_, real_ = (forest.predict(x[half:]) == y[half:]).astype(float), (forest.predict(there) == answers).astype(float)
    if way != "middle" or len(np.unique(answers)) < 2:
        return gap(away_, real_)
    open_ = learnt(there, answers)  # rows of little variety teach little of real ones: what is lost by that alone is not counted
    y, answers = open_.predict(x), open_.predict(there)
    forest = learnt(x[:half], y[:half]) if len(np.unique(y[:half])) > 1 else open_
    return gap(away_ - (forest.predict(x[half:]) == y[half:]), real_ - (forest.predict(there) == answers))


WAYS = ("noise", "between", "columns", "middle", "one")


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
