"""The field's metrics as plain functions of arrays, fast enough to be resampled thousands of times.

Legend: N rows, K classes or labels, Q quantile levels, T IoU thresholds. Classes are indices 0 to K-1; the caller leaves out rows whose truth is
unknown. A metric that is undefined (no rows; one class only for auroc; a constant truth for r2) is NaN: never an exception, never a 0 that looks like
a result. The definitions are scikit-learn's, checked against it; mean average precision is COCO's (all areas, no crowds, 100 boxes a class and
picture), BLEU is sacrebleu's. Where a class does not occur in the truth, macro averages are taken over the classes that do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NAN = float("nan")
IOU = np.linspace(0.5, 0.95, 10)
RECALL = np.linspace(0, 1, 101)  # spelled as COCO does: the last bit decides where a recall is exactly 0.29
SURE = 1e-12  # a probability of 0 for what happened counts as this, so that one row's nll is at most 27.6


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if x.size else NAN


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else NAN


# Classes: truth (N,) int, value (N,) int


def accuracy(truth: np.ndarray, value: np.ndarray) -> float:
    return _mean(truth == value)


def confusion(truth: np.ndarray, value: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64: rows are the truth, columns the prediction."""
    return np.bincount(truth * classes + value, minlength=classes**2).reshape(classes, classes)


def _counts(truth: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class (K,): right ones, true ones, predicted ones."""
    classes = int(max(truth.max(initial=-1), value.max(initial=-1))) + 1
    return tuple(np.bincount(x, minlength=classes) for x in (truth[truth == value], truth, value))


def balanced_accuracy(truth: np.ndarray, value: np.ndarray) -> float:
    """Mean recall over the classes of the truth."""
    right, true, _ = _counts(truth, value)
    return _mean(right[true > 0] / true[true > 0])


def f1(truth: np.ndarray, value: np.ndarray) -> float:
    """Macro: the mean over the classes that occur, as truth or as prediction."""
    right, true, predicted = _counts(truth, value)
    total = true + predicted
    return _mean(2 * right[total > 0] / total[total > 0])


def quadratic_kappa(truth: np.ndarray, value: np.ndarray) -> float:
    """Cohen's kappa with squared distances, for ordered classes: 1 - E[(t - v)^2] / (the same for t and v drawn independently)."""
    t, v = np.asarray(truth, np.float64), np.asarray(value, np.float64)
    by_chance = t.var() + v.var() + (t.mean() - v.mean()) ** 2 if t.size else 0.0
    return 1 - _ratio(((t - v) ** 2).sum(), t.size * by_chance)


# Scores: truth (N,) and score (N,) for two classes; truth (N,) and score (N, K) for classes; truth (N, K) bool and score (N, K) for label sets


def _macro(of_one, truth: np.ndarray, score: np.ndarray) -> float:
    if score.ndim == 1 or (score.shape[1] == 2 and truth.ndim == 1):
        return of_one(truth > 0, score if score.ndim == 1 else score[:, 1])
    each = np.array([of_one(truth[:, k] > 0 if truth.ndim == 2 else truth == k, score[:, k]) for k in range(score.shape[1])])
    return NAN if np.isnan(score).any() else _mean(each[~np.isnan(each)])


def _auroc(positive: np.ndarray, score: np.ndarray) -> float:
    n, p = len(positive), int(positive.sum())
    if p == 0 or p == n:
        return NAN
    order = np.argsort(score)
    score, positive = score[order], positive[order]
    if np.isnan(score[-1]):  # NaN sorts last
        return NAN
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
    ends = np.append(starts[1:], n)
    rank = (starts + ends - 1) / 2  # of each distinct score: the middle of its tie
    rank_sum = np.add.reduceat(positive.astype(np.int64), starts) @ rank
    return float((rank_sum - p * (p - 1) / 2) / (p * (n - p)))


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """P(a positive scores above a negative), ties counting half (Mann-Whitney); for classes the macro one-versus-rest mean."""
    return _macro(_auroc, truth, score)


def _thresholds(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per distinct score, falling: the score, and how many positives and rows score at least it."""
    order = np.argsort(score)[::-1]
    score = score[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))[: len(score)]
    return score[last], np.cumsum(positive[order])[last], last + 1


def _average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    if not positive.any() or np.isnan(score).any():
        return NAN
    _, hits, taken = _thresholds(positive, score)
    return float(np.diff(hits, prepend=0) @ (hits / taken) / hits[-1])


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Sum over thresholds of (recall gained) * precision, no interpolation; for classes the macro one-versus-rest mean."""
    return _macro(_average_precision, truth, score)


def roc_curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rate, true positive rate, threshold, from (0, 0) at infinity to (1, 1); one point a distinct score. NaN where a class is
    missing."""
    positive = truth > 0
    score, hits, taken = _thresholds(positive, score)
    hits, alarms = np.append(0, hits), np.append(0, taken - hits)
    p, n = int(positive.sum()), int((~positive).sum())
    return alarms / n if n else alarms * NAN, hits / p if p else hits * NAN, np.append(np.inf, score)


def pr_curve(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision, threshold, the threshold falling; one point a distinct score. NaN recall without positives."""
    positive = truth > 0
    score, hits, taken = _thresholds(positive, score)
    p = int(positive.sum())
    return hits / p if p else hits * NAN, hits / taken, score


# Probabilities: truth (N,) int, probabilities (N, K), or (N,) for class 1 of two


def nll_rows(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,): minus the natural logarithm of the probability of what happened."""
    p = np.where(truth > 0, probabilities, 1 - probabilities) if probabilities.ndim == 1 else probabilities[np.arange(len(truth)), truth]
    return -np.log(np.maximum(p, SURE, dtype=np.float64))


def brier_rows(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,): the squared distance to the truth. Two classes: (p - y)^2, in 0 to 1; more: summed over the classes, in 0 to 2."""
    if probabilities.ndim == 1 or probabilities.shape[1] == 2:
        return ((probabilities if probabilities.ndim == 1 else probabilities[:, 1]) - (truth > 0)) ** 2
    return (probabilities**2).sum(1) - 2 * probabilities[np.arange(len(truth)), truth] + 1


def nll(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return _mean(nll_rows(truth, probabilities))


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return _mean(brier_rows(truth, probabilities))


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin: mean confidence in the predicted class, accuracy, rows. Equal-mass bins; rows of one confidence are never parted, so there may be
    fewer."""
    if probabilities.ndim == 1:
        value, confidence = (probabilities > 0.5).astype(np.int64), np.maximum(probabilities, 1 - probabilities)
    else:
        value, confidence = probabilities.argmax(1), probabilities.max(1)
    order = np.argsort(confidence)
    confidence, right = confidence[order].astype(np.float64), (value == truth)[order]
    n = len(confidence)
    cuts = np.arange(bins) * n // bins
    starts = np.unique(np.searchsorted(confidence, confidence[cuts])) if n else np.zeros(0, np.int64)
    count = np.diff(np.append(starts, n))
    return _sums(confidence, starts) / count, _sums(right, starts) / count, count


def _sums(x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(x.astype(np.float64), starts) if len(starts) else np.zeros(0)


def ece(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean |accuracy - confidence| of the predicted class over 15 equal-mass bins, weighted by rows. Too high on few
    rows."""
    confidence, right, count = reliability(truth, probabilities, bins)
    return _ratio(np.abs(right - confidence) @ count, count.sum())


def equal_mass(x: np.ndarray, bins: int = 15) -> np.ndarray:
    """(N,) bins of equal mass; equal values are never parted."""
    edges = np.unique(np.sort(x)[np.arange(bins) * len(x) // bins]) if len(x) else x
    return np.searchsorted(edges, x, side="right") - 1


def binned(bins: np.ndarray, gap: np.ndarray, rows: np.ndarray) -> float:
    """Mean over rows of |mean gap of the row's bin|: expected calibration error in bins that stay."""
    return float(np.abs(np.bincount(bins[rows], gap[rows])).sum() / len(rows)) if len(rows) else float("nan")


# Numbers: truth (N,) float, value (N,) float


def rmse(truth: np.ndarray, value: np.ndarray) -> float:
    return _mean((truth - value) ** 2) ** 0.5


def mae(truth: np.ndarray, value: np.ndarray) -> float:
    return _mean(np.abs(truth - value))


def r2(truth: np.ndarray, value: np.ndarray) -> float:
    """1 - squared error / variance of the truth."""
    return 1 - _ratio(((truth - value) ** 2).sum(), ((truth - _mean(truth)) ** 2).sum())


def quantile_loss_rows(truth: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(N,): pinball loss, the mean over the levels; quantiles (N, Q)."""
    over = truth[:, None] - quantiles
    return np.maximum(np.asarray(levels) * over, (np.asarray(levels) - 1) * over).mean(1)


def quantile_loss(truth: np.ndarray, quantiles: np.ndarray, levels: Sequence[float]) -> float:
    return _mean(quantile_loss_rows(truth, quantiles, levels))


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The share of rows inside their interval, ends included."""
    return _mean((low <= truth) & (truth <= high))


# Label sets: truth (N, K) bool, value (N, K) bool


def subset_accuracy(truth: np.ndarray, value: np.ndarray) -> float:
    """The share of rows with every label right."""
    return _mean((truth == value).all(1))


def micro_f1(truth: np.ndarray, value: np.ndarray) -> float:
    return _ratio(2 * (truth & value).sum(), truth.sum() + value.sum())


def macro_f1(truth: np.ndarray, value: np.ndarray) -> float:
    """The mean over the labels that occur, as truth or as prediction."""
    total = truth.sum(0) + value.sum(0)
    return _mean(2 * (truth & value).sum(0)[total > 0] / total[total > 0])


# Boxes: M predicted boxes of N pictures, flat, with offsets (N + 1,)


@dataclass
class Matches:
    """Predicted boxes matched within their pictures, sorted by falling score: all that mean average precision needs, for any choice of pictures."""

    picture: np.ndarray  # (M,) int
    label: np.ndarray  # (M,) int
    hit: np.ndarray  # (M, T) bool: found a true box that no surer one had taken
    truths: np.ndarray  # (N, K) int: true boxes by picture and class


def match_boxes(boxes, labels, scores, offsets, true_boxes, true_labels, true_offsets, thresholds: np.ndarray = IOU, most: int = 100) -> Matches:
    """boxes (M, 4) xyxy, labels (M,), scores (M,), offsets (N + 1,); the truth likewise. Surer boxes choose first: the free true box they overlap
    most."""
    n, classes = len(offsets) - 1, int(max(labels.max(initial=-1), true_labels.max(initial=-1))) + 1
    hit, kept = np.zeros((len(boxes), len(thresholds)), bool), np.zeros(len(boxes), bool)
    floor = np.minimum(thresholds, 1 - 1e-10)
    truths = np.zeros((n, classes), np.int64)
    for i in range(n):
        there, here = slice(true_offsets[i], true_offsets[i + 1]), slice(offsets[i], offsets[i + 1])
        truths[i] = np.bincount(true_labels[there], minlength=classes)
        for k in np.unique(labels[here]):
            mine = offsets[i] + np.flatnonzero(labels[here] == k)
            mine = mine[np.argsort(-scores[mine], kind="stable")][:most]
            kept[mine] = True
            overlap = _iou(boxes[mine], true_boxes[there][true_labels[there] == k])
            free = np.ones((len(thresholds), overlap.shape[1]), bool)
            for j, row in zip(mine, overlap if overlap.size else [], strict=False):
                best = np.where(free, row, -1.0)
                pick = best.shape[1] - 1 - best[:, ::-1].argmax(1)  # the last of equals, as COCO does
                hit[j] = best[np.arange(len(thresholds)), pick] >= floor
                free[hit[j], pick[hit[j]]] = False
    order = np.argsort(-scores, kind="stable")
    order = order[kept[order]]
    return Matches(np.repeat(np.arange(n), np.diff(offsets))[order], labels[order], hit[order], truths)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) intersection over union of boxes (A, 4) and (B, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(min=0).prod(2)
    size = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return both / np.maximum(size[0][:, None] + size[1] - both, 1e-300)


def mean_average_precision(matches: Matches, pictures: np.ndarray | None = None, threshold: int | None = None) -> float:
    """`map`: the mean over IoU 0.50:0.95 and over the classes of the truth of the precision interpolated at 101 recalls; threshold=0 gives map_50.

    pictures: indices, repeats allowed (None: each once). A picture drawn twice counts twice, which weights do exactly."""
    times = np.ones(len(matches.truths), np.int64) if pictures is None else np.bincount(pictures, minlength=len(matches.truths))
    true = times @ matches.truths
    hit = matches.hit if threshold is None else matches.hit[:, threshold : threshold + 1]
    weight, each = times[matches.picture], []
    for k in np.flatnonzero(true):
        mine = np.flatnonzero((matches.label == k) & (weight > 0))
        found = np.cumsum(hit[mine] * weight[mine, None], 0)
        precision = found / np.cumsum(weight[mine])[:, None]
        precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at this recall or a higher one
        for t in range(hit.shape[1]):
            reached = np.searchsorted(found[:, t] / true[k], RECALL)
            each.append(np.append(precision[:, t], 0.0)[reached].mean())
    return _mean(np.array(each))


def box_curves(matches: Matches) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{class of the truth: (recall, precision) at each box from the surest on}, where half an overlap is enough."""
    found = {}
    for k, true in enumerate(matches.truths.sum(0)):
        right = np.cumsum(matches.hit[matches.label == k, 0])
        if true and len(right):
            found[k] = right / true, right / np.arange(1, len(right) + 1)
    return found


# Text


def bleu_tokenizer(references: Sequence[str]) -> str:
    """sacrebleu's tokenizer for the script: zh for Chinese, char for others without spaces (kana, Thai, Lao, Khmer, Burmese), 13a else."""
    text = [c for r in references[:1000] for c in r if c.isalpha()]
    han = sum("\u4e00" <= c <= "\u9fff" or "\u3400" <= c <= "\u4dbf" for c in text)
    spaceless = sum("\u3040" <= c <= "\u30ff" or "\u0e00" <= c <= "\u0eff" or "\u1000" <= c <= "\u109f" or "\u1780" <= c <= "\u17ff" for c in text)
    if spaceless > 0.2 * len(text):
        return "char"
    return "zh" if han > 0.2 * len(text) else "13a"


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], tokenize: str | None = None) -> np.ndarray:
    """(N, 10) int64 per row: n-grams matched (4), n-grams (4), length, reference length. They add up over rows. One reference a row."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(tokenize=tokenize or bleu_tokenizer(references), effective_order=True)
    scores = [bleu.sentence_score(h, [r]) for h, r in zip(hypotheses, references, strict=True)]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], np.int64).reshape(-1, 10)


def bleu(statistics: np.ndarray) -> float:
    """Corpus BLEU, 0 to 100, of rows' statistics (N, 10), with sacrebleu's default (exponential) smoothing."""
    from sacrebleu.metrics import BLEU

    if not len(statistics):
        return NAN
    s = statistics.sum(0)
    return float(BLEU.compute_bleu(s[:4].tolist(), s[4:8].tolist(), int(s[8]), int(s[9]), smooth_method="exp").score)


WITHOUT_SPACES = r"\u0e00-\u0eff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Thai, Lao, kana, Chinese
WORD = re.compile(rf"[{WITHOUT_SPACES}]|[^\W{WITHOUT_SPACES}]+")


def rouge_l_rows(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L of each text (Lin 2004), in [0, 1]: F1 of the longest common subsequence of words. Two texts without words are alike: 1."""
    found = np.zeros(len(hypotheses))
    for i, (a, b) in enumerate((WORD.findall(h.lower()), WORD.findall(r.lower())) for h, r in zip(hypotheses, references, strict=True)):
        if not a or not b:
            found[i] = float(not a and not b)
            continue
        number = {w: k for k, w in enumerate(b)}
        other, row = np.array([number[w] for w in b]), np.zeros(len(b) + 1, np.int64)
        for w in a:  # row[j]: the longest of a so far and of b's first j
            extended = np.where(other == number.get(w, -1), row[:-1] + 1, row[1:])
            row[1:] = np.maximum.accumulate(extended)
        found[i] = 2 * row[-1] / (len(a) + len(b))
    return found


def chrf_rows(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) chrF of each text, 0 to 100 (Popovic 2015; characters, n-grams up to 6, beta 2), by sacrebleu. Two empty texts are alike: 100."""
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    return np.array([100.0 if h == r else chrf.sentence_score(h, [r]).score for h, r in zip(hypotheses, references, strict=True)])
