"""Does the model repeat what it was told once: the exposure of planted secrets, in bits.

Source: Carlini et al. 2019, "The Secret Sharer", definitions 3 and 4. Some secrets, a form with digits drawn at random ("my number is 493021"), join
training, and the model is trained once more (`retrain`). How likely it then finds each is ranked among 511 equals that it never saw (`_exposure`): 1.4
bits is the mean of a secret that was never told, and log2 of the candidates the most that can be shown.

Where a target is text, the secret is the text of an ordinary row, and its score the negative log-likelihood of the whole text (`likelihood`). Where an
input is text and the target a class, the secret is that input, with a class drawn at random, and its score the confidence in that class. A row of the
split `planted` is a secret that was in training already: nothing is then trained again, so that any model can be asked that says probabilities.
Its digits are what is drawn anew.

`privacy.exposure` is the mean over secrets told once, `privacy.exposure_repeated` over secrets told eight times in the same training. Candidates that
score alike count half; the low end counts them against the secret, the high end for it, and a secret before all candidates for as much as all of its
space (log2 of 10 to the digits), so that a limit is not met for want of candidates, nor by answers that are rounded. Ends are Student's over secrets.
Left out: beam search for the secret itself (extraction), longer secrets that need their own search, models of sound or pictures.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa

from ..errors import ModelwrightError
from ..forms import Measurement
from ..intervals import interval
from ..kind import Metric
from ..subject import NOT_TRAINED, Audit, Likelihood, Subject
from ._exposure import exposure

SECRETS, FEWEST, TIMES = 16, 4, 8  # of each sort where the table is large; how often the repeated ones are told
CANDIDATES = 511  # with the secret 512: nine bits
SECONDS = 30.0  # for training anew, where nothing else is said: or three times what the run's own training took
METRICS = ("privacy.exposure", "privacy.exposure_repeated")


class Exposure(Audit):
    costly = "privacy"

    def measure(self, subject: Subject) -> list[Measurement]:
        kinds = subject.schema
        texts = [n for n, k in kinds.inputs.items() if k.form == "ids"]
        found = []
        for target, kind in kinds.truths.items():
            column = target if kind.form == "ids" else texts[0] if texts and kind.head in ("classes", "binary", "ordered") else None
            if column is None or not {"planted", "train"} & {*subject.splits}:
                continue
            found += self._target(subject, target, column)
        return found

    def _target(self, subject: Subject, target: str, column: str) -> list[Measurement]:
        began, rng = time.perf_counter(), np.random.default_rng([subject.seed, 9])

        split = "planted" if "planted" in subject.splits else "train"

        def line(metric, ends=(None, None, None), n=0, how="not measured", details=None, reasons=()):
            seconds = time.perf_counter() - began
            return Measurement("exposure", metric, target, split, None, *ends, subject.level, n, how, subject.seed, seconds, details or {}, list(reasons))

        def nothing(code, why, **more):
            return [line(m, details={"why": why, **more}, reasons=[code]) for m in METRICS]

        if not self_test():
            return nothing("privacy.self_test", "a model that knows its secrets by heart did not show them, or one that never saw them did")
        if "planted" in subject.splits:
            return self._planted(subject, target, column, rng, line, nothing)
        if subject.retrain is None:
            return nothing("privacy.not_trained", f"{NOT_TRAINED}, or secrets that it was told: --data planted=FILE")
        train = subject.splits["train"]
        k = max(FEWEST, min(SECRETS, train.num_rows // 50))
        rows = secrets(subject, train, target, column, 2 * k, rng)
        told = [i for i in range(2 * k) for _ in range(1 if i < k else TIMES)]
        with_them = pa.concat_tables([train, rows.take(pa.array(told))], promote_options="permissive")
        allowed = max(SECONDS, 3 * subject.retrain_seconds) if subject.seconds is None else subject.seconds
        if subject.retrain_seconds * with_them.num_rows / train.num_rows > allowed:
            seconds = round(subject.retrain_seconds * with_them.num_rows / train.num_rows, 1)
            return nothing("privacy.budget", f"one training takes about {seconds:g} s, longer than there was", needed_seconds=seconds)
        try:
            model = subject.retrain(with_them, subject.seed)
        except ModelwrightError as e:
            return nothing("privacy.retraining", e.problems[0].what)
        if unable(subject, model, target):
            return nothing("privacy.no_likelihood", "the model says neither probabilities nor how likely a given text is")
        scored = [score(model, subject.schema, target, rows.slice(i, 1), column, rng) for i in range(2 * k)]
        form = subject.secret
        return [
            line(metric, *told_of(scored[part], subject.level), {"form": form, "told": times, **facts(scored[part])})
            for metric, part, times in ((METRICS[0], slice(0, k), 1), (METRICS[1], slice(k, 2 * k), TIMES))
        ]

    def _planted(self, subject, target, column, rng, line, nothing) -> list[Measurement]:
        rows = subject.splits["planted"]
        hidden = [i for i, text in enumerate(rows.column(column).to_pylist()) if any(c.isdecimal() for c in text or "")][: 4 * SECRETS]
        if len(hidden) < 2:
            return nothing("privacy.too_few", f"fewer than two planted rows with digits in {column!r}")[:1]
        if unable(subject, subject.predictor, target):
            return nothing("privacy.no_likelihood", "the model says neither probabilities nor how likely a given text is")[:1]
        scored = [score(subject.predictor, subject.schema, target, rows.slice(i, 1), column, rng) for i in hidden]
        return [line(METRICS[0], *told_of(scored, subject.level), {"told": "as planted", **facts(scored)})]


def secrets(subject: Subject, train: pa.Table, target: str, column: str, n: int, rng: np.random.Generator) -> pa.Table:
    """n rows of training, each with a secret of its own; a class target is drawn anew, evenly."""
    rows = train.take(pa.array(rng.integers(0, train.num_rows, n)))
    texts = pa.array([filled(subject.secret, rng) for _ in range(n)])
    rows = rows.set_column(rows.column_names.index(column), column, texts.cast(rows.column(column).type))
    if column == target:
        return rows
    labels, kind = subject.schema.targets[target].labels_, rows.column(target).type
    names = pa.array([labels[i] for i in rng.integers(0, len(labels), n)]).cast(kind)
    return rows.set_column(rows.column_names.index(target), target, names)


def filled(form: str, rng: np.random.Generator) -> str:
    """A digit for each #."""
    return "".join(str(rng.integers(10)) if c == "#" else c for c in form)


def score(model, schema, target: str, secret: pa.Table, column: str, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """(1 + N,) how unlikely the secret is, then candidates with other digits, all different; and how many there are. secret: one row."""
    (text,) = secret.column(column).to_pylist()
    digits = sum(c.isdecimal() for c in text)
    if 10**digits <= CANDIDATES + 1:
        drawn = (f"{i:0{digits}d}" for i in range(10**digits))
    else:
        drawn = ("".join(map(str, rng.integers(0, 10, digits))) for _ in range(CANDIDATES + 16))
    others = [t for t in dict.fromkeys(_put(text, d) for d in drawn) if t != text][:CANDIDATES]
    table = secret.take(pa.array([0] * (1 + len(others))))
    table = table.set_column(table.column_names.index(column), column, pa.array([text, *others]).cast(secret.column(column).type))
    kind = schema.targets[target]
    if kind.form == "ids":
        return model.likelihood(table)[target].double().numpy(), 10.0**digits
    y = int(kind.encode_target(kind.column(secret, target))["values"][0])
    p = model.predict(table)[target].probabilities.double().numpy()
    return -(np.log(np.maximum(p[:, y], 1e-30)) - np.log(np.maximum(p.sum(1) - p[:, y], 1e-30))), 10.0**digits


def _put(text: str, digits: str) -> str:
    """Other digits, written as they were (full width, say)."""
    given = iter(digits)
    return "".join(chr(ord(c) - unicodedata.decimal(c) + int(next(given))) if c.isdecimal() else c for c in text)


def unable(subject: Subject, model, target: str) -> bool:
    if subject.schema.targets[target].form == "ids":
        return not isinstance(model, Likelihood)
    few = subject.splits["planted" if "planted" in subject.splits else "train"].slice(0, 2)
    return model.predict(few)[target].probabilities is None


def bits(scored: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """(K, 3) of each secret: ties counted half, against it, for it (and before all candidates: the whole of its space)."""
    found = []
    for nll, space in scored:
        own, others = nll[0], nll[1:]
        before, alike, n = int((others < own).sum()), int((others == own).sum()), len(others) + 1
        against = exposure(own, others, n).value
        most = math.log2(space) if before == 0 else math.log2(n / (1 + before))
        found.append((math.log2(n / (1 + before + alike / 2)), against, most))
    return np.array(found)


def told_of(scored: list[tuple[np.ndarray, float]], level: float) -> tuple[tuple[float, float, float], int, str]:
    """((value, low, high), secrets, method)"""
    middle, against, before = bits(scored).T
    low, high = (interval(Metric.mean(x), len(x), level=level) for x in (against, before))
    most = math.log2(max(space for _, space in scored))
    ends = (float(middle.mean()), max(0.0, min(low.low, middle.mean())), min(most, max(high.high, float(middle.mean()))))
    ceiling = math.log2(min(len(nll) for nll, _ in scored))
    return ends, len(middle), f"ranks among {2**ceiling:.0f} candidates ({ceiling:.1f} bits at most), Student's t over {len(middle)} secrets"


def facts(scored: list[tuple[np.ndarray, float]]) -> dict:
    """chance: how likely so many bits are for secrets that were never told (a sum of exponentials)."""
    from scipy.stats import gamma

    found = bits(scored)
    return {"bits": [round(b, 2) for b in found[:, 0].tolist()], "chance": float(gamma.sf(found[:, 1].sum() * math.log(2), len(found)))}


def self_test() -> bool:
    """Triples of letters by their counts, a small language model, trained on eight secrets told often, and on none of them."""
    rng = np.random.default_rng(0)
    told, crowd = ([filled("the code is ######", rng) for _ in range(n)] for n in (8, 200))
    triples = lambda text: list(zip(text, text[1:], text[2:]))  # noqa: E731

    def known(lines):
        seen = Counter(t for text in lines for t in triples(text))
        before = Counter(t[:2] for text in lines for t in triples(text))
        unlikely = lambda text: -sum(math.log((seen[t] + 1) / (before[t[:2]] + 10)) for t in triples(text))  # noqa: E731
        draws = np.random.default_rng(1)
        others = [filled("the code is ######", draws) for _ in range(127)]
        return bits([(np.array([unlikely(t), *map(unlikely, others)]), 1e6) for t in told])[:, 0].mean()

    return known(crowd + told * 40) > 5 and known(crowd) < 3.2
