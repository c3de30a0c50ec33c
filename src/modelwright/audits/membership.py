"""Does the model give away who was in training: membership attacks on training against test rows, shadow models, and canaries.

Each attack gives a row a score, higher for members; `membership_auc` and `membership_tpr_at_fpr_0.01` are each of the attack that does best at it.
Declared slices have theirs: what is remembered may be a rare group alone. Rows are asked about together, and alone where that is another thing.
- threshold: minus the loss (Yeom et al. 2018), of a number minus the error; of a model without probabilities, being right, and
  staying so under small noise (Choquette-Choo et al. 2021).
- learnt: of all that the model says of a row and of rows a little beside it (`_beside`), by a forest that knows who else was a member (each row is
  judged by trees that did not see it): a model may be less sure of what it saw, or say nothing but 0.9, and give its members away all the same
  (Shokri et al. 2017).
- lira: online likelihood ratios of logit-scaled confidences under normal fits (Carlini et al. 2022, algorithm 1, one variance for all rows), where
  the recipe can be run again (`retrain`) at least eight times within the time, each time on a random part of the attacked rows, as large as the share of
  members, and on the other rows of training, all of them where sixteen such models fit: a shadow model is then as large as the run. Smaller ones
  remember more than it does.
`canary_tpr_at_fpr_0.05`: of 300 test rows, those that the model is surest of, each joins training with a wrong label or not by a fair coin, one model
is trained, and the loss must tell which did: the worst case. `epsilon_lower_bound` is what the same run surely shows of epsilon (see `_one_run`); its
high end is what the same guesses could be worth at most, so that a limit is not met for want of canaries.

Training anew is bounded by the time allowed: each attempt is estimated from the last, the first from the run's own. Where shadow models or canaries
were asked for and did not fit, the figure is open to 1 or has no value (`privacy.budget`).

Ties count half in the auc, and a rate at a threshold takes all of a tie or none. Intervals of rates are exact: the threshold is an order statistic
of the non-members whose true false positive rate is Beta, the true positives binomial, the error shared between them. Two sets that a forest can
tell apart by inputs and labels alone are not comparable (`privacy.incomparable`): an attack would measure that difference. Left out: several
models' votes; variances of single rows, which want more than 64 shadow models; shadow models and canaries of numbers.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from scipy.special import betaincinv

from .. import metrics as m
from ..errors import ModelwrightError
from ..forms import Measurement, Prediction
from ..intervals import interval
from ..kind import Metric
from ..subject import NOT_TRAINED, Audit, Subject, rows_of
from . import _beside as near
from . import _one_run

SECONDS = 30.0  # for training anew, where nothing else is said: or three times what the run's own training took
ATTACKED = ("membership_auc", "membership_tpr_at_fpr_0.01")
CANARY = ("canary_tpr_at_fpr_0.05", "epsilon_lower_bound")  # of one more training
DELTA = 1e-5  # at which epsilon is bounded, where no statement says
ALONE = 16  # rows of either set that are asked about one by one
SHADOWS, ENOUGH, FEWEST, CANARIES = 32, 16, 8, 300  # of the canaries a half stays out: 86 is the fewest at which a rate of 5 % can be sure


class Membership(Audit):
    costly = "privacy"

    def __init__(self, rows: int = 1000):
        """rows: at most of either set, drawn at random."""
        self.rows = rows

    def measure(self, subject: Subject) -> list[Measurement]:
        if "train" not in subject.splits:
            return []
        found = []
        for target, kind in subject.schema.truths.items():
            truth = kind.encode_target(kind.column(subject.splits["test"], target))
            if (kind.labels_ is not None or kind.head == "regression") and np.ndim(truth["values"]) == 1:
                found += self._target(subject, target, kind)
        return found

    def _target(self, subject, target, kind) -> list[Measurement]:
        began = time.perf_counter()
        allowed = max(SECONDS, 3 * subject.retrain_seconds) if subject.seconds is None else subject.seconds
        again = None if subject.retrain is None or kind.labels_ is None else Again(subject, began + allowed)
        rng = np.random.default_rng(subject.seed)
        (members, rest), (others, _) = (self._drawn(subject.splits[s], kind, target, rng) for s in ("train", "test"))
        if min(members.num_rows, others.num_rows) < 20:
            return self._nothing(subject, target, began, "privacy.too_few", "fewer than 20 rows of a kind")
        if not self_test():
            return self._nothing(subject, target, began, "privacy.self_test", "the attack did not find the members of a model that only remembers")
        told = comparable(subject.schema, kind, target, members, others, subject.seed)
        if told["apart"]:
            why = f"a forest tells training rows from test rows without the model (auc {told['auc']:.3f}): the attack would find that, not membership"
            return self._nothing(subject, target, began, "privacy.incomparable", why)
        pool = pa.concat_tables([members, others], promote_options="permissive")
        inside = np.arange(pool.num_rows) < members.num_rows
        said, one_by_one = asked(subject, target, pool, inside)
        y = kind.encode_target(kind.column(pool, target))["values"]
        if said.probabilities is None and kind.labels_ is not None:
            attacks = {"label_only": steady(subject, target, pool, y, rng)}
        else:
            told_of = np.column_stack([said_of(said, y), beside(subject, target, pool, y, rng)])
            attacks = {"threshold": told_of[:, 0], "learnt": learnt(told_of, inside, subject.seed)}
        canaries, nothing = [], {"why": NOT_TRAINED}
        if again is not None:
            canaries = self._canaries(again, target, kind, members, others, rng)
        elif kind.labels_ is not None:
            canaries = [self._line(subject, target, f, (None,) * 3, 0, "not measured", began, nothing, ["privacy.not_trained"]) for f in CANARY]
        shadows, short = [], {}
        if again is not None and said.probabilities is not None:
            scores, shadows, short = self._lira(again, target, pool, said, members.num_rows, rest, y, rng)
            attacks |= {} if scores is None else {"lira": scores}
        reasons = ["privacy.budget" if "needed_seconds" in short else "privacy.retraining"] if short else []
        found, slices = [], {None: np.ones(len(pool), bool)} | {s: rows_of(pool, s) for s in subject.slices}
        for name, rows in slices.items():
            if min((rows & inside).sum(), (rows & ~inside).sum()) < 20:
                nothing = {"why": f"fewer than 20 rows of a kind in {name}"}
                found += [self._line(subject, target, f, (None,) * 3, 0, "not measured", began, nothing, ["privacy.too_few"], name) for f in ATTACKED]
                continue
            aucs = {a: m.auroc(inside[rows].astype(int), s[rows]) for a, s in attacks.items()}
            auc, best, tpr, surest = self._shown(attacks, aucs, inside, rows, subject)
            details = {"attack": best, "aucs": aucs, "comparable": told, "shadows": len(shadows), "one_by_one": one_by_one, **short}
            n, ends = int(rows.sum()), [(auc.value, auc.low, auc.high), tpr]
            if short:  # what a time limit kept from being tried is not shown to be harmless
                ends = [(value, low, 1.0) for value, low, _ in ends]
            how = [f"{best}; {auc.method}", f"{surest}; order statistic and Clopper-Pearson"]
            found += [self._line(subject, target, f, e, n, h, began, details, reasons, name) for f, e, h in zip(ATTACKED, ends, how)]
        return [*found, *canaries]

    def _shown(self, attacks, aucs, inside, rows, subject):
        """(auc with its interval, the attack that it is of, rate at 0.01 with its interval, the attack that that is of)"""
        best, inside = max(aucs, key=aucs.get), inside[rows]
        score, of = attacks[best][rows], inside.astype(int)
        auc = interval(Metric(lambda i: m.auroc(of[i], score[i]), of=of), len(score), level=subject.level, seed=subject.seed)
        rates = {a: rate_at(s[rows][inside], s[rows][~inside], 0.01, subject.level) for a, s in attacks.items()}
        surest = max(rates, key=lambda a: rates[a][0])
        return auc, best, rates[surest], surest

    def _drawn(self, table, kind, target, rng) -> tuple[pa.Table, pa.Table]:
        """Rows to attack, and those left over, in random order."""
        known = rng.permutation(np.flatnonzero(kind.encode_target(kind.column(table, target))["known"]))
        return table.take(pa.array(np.sort(known[: self.rows]))), table.take(pa.array(known[self.rows :]))

    def _line(self, subject, target, metric, ends, n, method, began, details, reasons=(), slice=None) -> Measurement:
        return Measurement(
            "membership", f"privacy.{metric}", target, "train", slice, *ends, subject.level, n, method, subject.seed,
            time.perf_counter() - began, details, list(reasons),
        )  # fmt: skip

    def _nothing(self, subject, target, began, code, why) -> list[Measurement]:
        kind = subject.schema.targets[target]
        names = [*ATTACKED] + [*CANARY] * (kind.labels_ is not None)
        return [self._line(subject, target, n, (None, None, None), 0, "not measured", began, {"why": why}, [code]) for n in names]

    def _lira(self, again, target, pool, said, members, rest, y, rng) -> tuple[np.ndarray | None, list[np.ndarray], dict]:
        """(N,) log likelihood ratios (None where fewer than eight shadow models fit into the time), who was in each, and what was not shown. members: how
        many of the pool are; rest: rows that every shadow model trains on, as many as leave time for `ENOUGH` models."""
        n, seen, held, part = pool.num_rows, [], [], None
        share = members / n
        parts = int(np.clip(round(1 / min(share, 1 - share)), 2, 4))  # each model lacks one of so many parts, or has one alone
        size = n // parts if share < 0.5 else n - n // parts
        room = again.rows(ENOUGH) - size
        beside = next((k for i in range(7) if (k := rest.num_rows >> i) <= room), 0)  # halves: the clock should decide little
        whole, outside = pa.concat_tables([pool, rest.slice(0, beside)], promote_options="permissive"), np.ones(beside, bool)
        while len(seen) < SHADOWS and again.fits(size + beside, max(1, FEWEST - len(seen))):
            part = rng.permutation(n) % parts if len(seen) % parts == 0 else part
            half = (part == len(seen) % parts) == (share < 0.5)
            try:
                shadow = again(whole.take(pa.array(np.flatnonzero(np.append(half, outside)))), again.subject.seed + 1 + len(seen))
            except ModelwrightError as e:
                return None, held, {"not_shown": f"shadow models: {e.problems[0].what}"}
            seen.append(scaled(shadow.predict(pool)[target].probabilities.numpy(), y))
            held.append(half)
        if len(seen) < FEWEST:
            needed = round((FEWEST - len(seen)) * again.seconds(size + beside), 1)
            return None, held, {"not_shown": f"shadow models: {FEWEST - len(seen)} more take about {needed:g} s", "needed_seconds": needed}
        return likelihood_ratio(scaled(said.probabilities.numpy(), y), np.array(seen), np.array(held)), held, {}

    def _canaries(self, again, target, kind, members, others, rng) -> list[Measurement]:
        """The test rows that the model is surest of, each with a wrong label and in training or not by a fair coin; it is trained once more."""
        began, subject = time.perf_counter(), again.subject
        k = min(CANARIES, others.num_rows)
        before = subject.predictor.predict(others)[target]
        surest = kind.encode_target(kind.column(others, target))["values"] == before.value.numpy()
        surest = surest + (0 if before.probabilities is None else before.probabilities.amax(1).numpy())
        rows = others.take(pa.array(np.argsort(-surest, kind="stable")[:k]))
        column = rows.column(target)
        y = kind.encode_target(kind.column(rows, target))["values"]
        wrong = (y + rng.integers(1, len(kind.labels_), k)) % len(kind.labels_)
        names = pa.array([kind.labels_[i] for i in wrong]).cast(column.type)
        rows = rows.set_column(rows.column_names.index(target), target, names)
        inside = rng.random(k) < 0.5
        with_them = pa.concat_tables([members, rows.filter(pa.array(inside))], promote_options="permissive")

        def lines(ends, methods, details, reasons=()):
            return [self._line(subject, target, metric, e, k, how, began, details, reasons) for metric, e, how in zip(CANARY, ends, methods, strict=True)]

        nothing = [(None, None, None)] * 2, ["not measured"] * 2
        if not again.fits(with_them.num_rows):
            seconds = round(again.seconds(with_them.num_rows), 1)
            return lines(*nothing, {"why": f"one training takes about {seconds:g} s, longer than there was", "needed_seconds": seconds}, ["privacy.budget"])
        try:
            said = again(with_them, subject.seed).predict(rows)[target]
        except ModelwrightError as e:
            return lines(*nothing, {"why": e.problems[0].what}, ["privacy.retraining"])
        score = confidence(said.probabilities.numpy(), wrong) if said.probabilities is not None else (said.value.numpy() == wrong).astype(float)
        one = _one_run.audit(score, inside, stated_delta(subject), subject.level)
        details = {"canaries": k, "auc": m.auroc(inside.astype(int), score), "one_run": one}
        ends = [rate_at(score[inside], score[~inside], 0.05, subject.level), (one["bound"], one["bound"], one["high"])]
        shown = f"one-run audit (Steinke et al. 2023) at delta {one['delta']:g}: {one['right']} of {one['guesses']} guesses right"
        methods = ["mislabelled canaries, one training run; order statistic and Clopper-Pearson"]
        return lines(ends, [*methods, f"{shown}; {k} canaries could have shown {one['ceiling']:.2f} at most"], details)


class Again:
    """Training anew, within the time: what it takes is estimated from the last time, at first from what the run itself took."""

    def __init__(self, subject: Subject, until: float):
        self.subject, self.until, self.a_row = subject, until, subject.retrain_seconds / max(1, subject.splits["train"].num_rows)

    def seconds(self, rows: int) -> float:
        return rows * self.a_row

    def rows(self, times: int) -> int:
        """How many rows so many trainings may have each."""
        return int(min(1e9, max(0.0, self.until - time.perf_counter()) / times / max(self.a_row, 1e-9)))

    def fits(self, rows: int, times: int = 1) -> bool:
        return time.perf_counter() + times * self.seconds(rows) < self.until

    def __call__(self, table: pa.Table, seed: int):
        start = time.perf_counter()
        made = self.subject.retrain(table, seed)
        self.a_row = (time.perf_counter() - start) / max(1, table.num_rows)
        return made


def stated_delta(subject: Subject) -> float:
    """Of the first private stage, or a customary one."""
    stated = [(s.get("statement") or {}).get("privacy") or {} for s in subject.lineage.get("stages", [])]
    return next((float(s["delta"]) for s in stated if isinstance(s.get("delta"), float)), DELTA)


def confidence(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) minus the loss."""
    return np.log(np.maximum(p[np.arange(len(y)), y].astype(np.float64), 1e-12))


def scaled(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) log p_y - log(1 - p_y), Carlini et al. equation 6, in a stable form."""
    p = p.astype(np.float64)
    right = p[np.arange(len(y)), y]
    rest = p.sum(1) - right
    return np.log(np.maximum(right, 1e-9)) - np.log(np.maximum(rest, 1e-9))


def likelihood_ratio(score: np.ndarray, seen: np.ndarray, held: np.ndarray) -> np.ndarray:
    """log N(score; in) - log N(score; out) per row: means by row, one variance for all rows of a kind. seen, held (S, N)."""

    def fit(mask):
        count = np.maximum(mask.sum(0), 1)
        mean = (seen * mask).sum(0) / count
        spare = max(1, int((mask.sum(0) - 1).clip(0).sum()))
        return mean, max(float((((seen - mean) * mask) ** 2).sum() / spare), 1e-6)

    (a, va), (b, vb) = fit(held), fit(~held)
    return -((score - a) ** 2) / (2 * va) - math.log(va) / 2 + (score - b) ** 2 / (2 * vb) + math.log(vb) / 2


def rate_at(members: np.ndarray, others: np.ndarray, fpr: float, level: float) -> tuple[float, float, float]:
    """(share of members above the threshold that at most fpr of the others exceed, low, high); thresholds are scores of others, with their ties.

    low: at the loosest threshold whose true rate is at most fpr; high: at the strictest whose true rate is at least fpr; each with its own error."""
    error, n = (1 - level) / 4, len(others)  # two sides, and on each the threshold and the members
    falling = np.sort(others)[::-1]

    def above(r: int) -> int:
        """Members above the r-th largest of the others (0: above none of them, that is above the largest)."""
        return int((members > falling[r]).sum()) if r < n else len(members)

    hits = above(int(np.floor(fpr * n + 1e-9)))
    # the true rate above falling[r] is Beta(r + 1, n - r), or less with ties
    sure = max(r for r in range(n) if r == 0 or betaincinv(r + 1, n - r, 1 - error) <= fpr)
    low = 0.0
    if betaincinv(sure + 1, n - sure, 1 - error) <= fpr:
        k = above(sure)
        low = float(betaincinv(k, len(members) - k + 1, error)) if k else 0.0
    loose = next((r for r in range(n) if r and betaincinv(r, n - r + 1, error) >= fpr), n)
    k = above(loose) if loose < n else len(members)
    ties = int((members == falling[loose]).sum()) if loose < n else 0
    k = min(len(members), k + ties)
    high = float(betaincinv(k + 1, len(members) - k, 1 - error)) if k < len(members) else 1.0
    return hits / len(members), low, high


def self_test() -> bool:
    """A model that is sure of what it saw: the attack must find every member, and none among equals."""
    rng = np.random.default_rng(0)
    members, others = np.zeros(200), -rng.exponential(size=200) - 0.1
    auc = m.auroc(np.repeat([1, 0], 200), np.concatenate([members, others]))
    return auc > 0.99 and rate_at(members, others, 0.01, 0.95)[0] > 0.99 and rate_at(np.zeros(200), np.zeros(200), 0.01, 0.95)[0] == 0


def inputs_of(schema, table: pa.Table) -> np.ndarray:
    """(N, F) of anything: numbers and codes as they are, pictures in 8 by 8, texts as 64 hashed counts, series as their mean, spread and length."""
    data, parts = schema.encode(table, targets=False), []
    for stored in data.inputs.values():
        if "numbers" in stored:
            parts += [np.nan_to_num(stored["numbers"], nan=-30.0), stored["codes"]]
        elif "offsets" in stored:
            counts = np.diff(stored["offsets"])
            row = np.repeat(np.arange(len(data)), counts)
            values = np.asarray(stored["values"])
            bag = np.zeros((len(data), 65))
            if values.ndim == 1:
                np.add.at(bag, (row, [zlib.crc32(int(v).to_bytes(8, "little", signed=True)) % 64 for v in values]), 1)
            else:
                np.add.at(bag[:, 0], row, values.mean(1))
            bag[:, 64] = counts
            parts.append(bag)
        elif "values" in stored and np.ndim(stored["values"]) == 4:
            v = np.asarray(stored["values"], np.float32)
            step = max(1, v.shape[2] // 8), max(1, v.shape[3] // 8)
            parts.append(v[:, :, :: step[0], :: step[1]].reshape(len(v), -1))
    return np.concatenate([p.reshape(len(data), -1) for p in parts], 1) if parts else np.zeros((len(data), 1))


def comparable(schema, kind, target, members, others, seed) -> dict:
    """Two samples by a forest's out-of-bag votes on inputs and label; apart above four standard errors and 0.57."""
    from sklearn.ensemble import ExtraTreesClassifier

    few = [t.slice(0, 500) if t.num_rows <= 500 else t.take(pa.array(np.random.default_rng(seed).permutation(t.num_rows)[:500])) for t in (members, others)]
    each = [np.unique(np.column_stack([inputs_of(schema, t), kind.encode_target(kind.column(t, target))["values"]]), axis=0) for t in few]
    x, y = np.concatenate(each), np.repeat([1, 0], [len(v) for v in each])  # each row once: its copies would vote for it
    forest = ExtraTreesClassifier(60, min_samples_leaf=5, bootstrap=True, oob_score=True, random_state=seed, class_weight="balanced").fit(x, y)
    votes = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=0.5)
    auc = m.auroc(y, votes)
    null = math.sqrt((len(y) + 1) / (12 * max(1, int(y.sum()) * int((1 - y).sum()))))
    return {"auc": auc, "apart": bool(auc > max(0.57, 0.5 + 4 * null))}


def asked(subject, target, pool, inside) -> tuple[Prediction, bool]:
    """What is said of the rows, and whether each was asked about alone, as an attacker may: where that is another thing for some of either set."""
    said, some = subject.predictor.predict(pool)[target], np.concatenate([np.flatnonzero(of)[:ALONE] for of in (inside, ~inside)])

    def alone(rows) -> Prediction:
        return Prediction.cat([subject.predictor.predict(pool.slice(i, 1))[target] for i in rows])

    try:
        apart = alone(some)
    except Exception:  # noqa: BLE001 - it answers many rows, and one row it does not
        return said, False
    one, among = ((p.value if p.probabilities is None else p.probabilities).numpy() for p in (apart, said))
    return (said, False) if np.allclose(one, among[some], atol=1e-3, equal_nan=True) else (alone(range(pool.num_rows)), True)


def steady(subject, target, pool, y, rng, draws: int = 4) -> np.ndarray:
    """(N,) of labels alone: right, plus the share of noised copies that are."""
    score = 2.0 * (subject.predictor.predict(pool)[target].value.numpy() == y)
    return score + sum((said.value.numpy() == y) / draws for said in noised(subject, target, pool, rng, draws))


def noised(subject, target, pool, rng, draws: int) -> Iterator[Prediction]:
    """What is said of so many copies a little beside; of none where nothing can be moved."""
    for _ in range(draws):
        if (copy := near.beside(subject.schema, pool, rng)) is not None:
            yield subject.predictor.predict(copy)[target]


def said_of(said: Prediction, y: np.ndarray) -> np.ndarray:
    """(N, 4): the log-probabilities of the true and of the likeliest class, how far they are apart from the next, and the entropy; of a number (N, 2): minus
    the error, and the number."""
    if said.probabilities is None:
        value = said.value.numpy().astype(np.float64)
        return np.column_stack([-np.abs(value - y), value])
    p = said.probabilities.numpy()
    logs = np.log(np.maximum(p.astype(np.float64), 1e-12))
    top = np.sort(logs, 1)
    return np.column_stack([confidence(p, y), top[:, -1], top[:, -1] - top[:, -2], -(p * logs).sum(1)])


def beside(subject, target, pool, y, rng, draws: int = 2) -> np.ndarray:
    """(N, 0, 2 or 4): the mean of the same over noised copies."""
    found = [said_of(said, y) for said in noised(subject, target, pool, rng, draws)]
    return np.mean(found, 0) if found else np.zeros((len(y), 0))


def learnt(features: np.ndarray, inside: np.ndarray, seed: int) -> np.ndarray:
    """(N,) out-of-bag votes that a row was a member."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(100, min_samples_leaf=10, bootstrap=True, oob_score=True, random_state=seed, class_weight="balanced").fit(features, inside)
    return np.nan_to_num(forest.oob_decision_function_[:, 1], nan=0.5)
