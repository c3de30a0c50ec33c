"""A private training step from elsewhere: does it do what its statement says, measured on what it draws and releases.

The noise (`_noise`), how far one row can move a release and what it is divided by (`_clipping`), how rows are drawn (`_sampling`), then the accounts: epsilon
of everything that the statement says was composed, and of the noise and the rate as measured (Abadi et al. 2016; Tramer et al. 2022 show why a
statement alone proves nothing). Each test errs with at most 0.0003, about thirty together with less than 0.01; what is found of noise or rows must be
found once more, with other seeds. Whatever is found leaves no finite epsilon (value null, any limit fails); the claim itself is a limit. What was tried
is in the details, with the words for each finding.

A test refutes and cannot prove: noise that can be predicted from what was not asked (the clock, a key in the file) is not seen, nor what the trainer
does only when it is not being watched; its code is yours to read.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

import numpy as np

from ..forms import Measurement
from ..subject import Audit, Subject
from . import _clipping, _noise, _sampling
from ._accounting import NEEDS, composed, epsilon_of, replacing, wrong

ALPHA = 3e-4  # of each test
SECONDS = 60.0
FLOATS = 2_000_000  # of gradients in one call
DRAWS, CALLS = 20_000, 1200  # of noise: at least so many numbers, at most so many calls
ROWS_DRAWN = 600  # batches


PERSONS = ("person", "user", "patient", "client", "customer", "household", "group", "device", "speaker", "author")
LEARNT = (
    "warm", "pretrain", "initiali", "early", "select", "teacher", "distil", "tun", "hyper", "batch_norm", "normalis", "normaliz", "statistic", "scaler",
    "continu", "trial", "search", "sweep", "grid", "resum", "previous", "prior", "before", "overlap", "ensemble", "fold", "released", "restarts", "runs",
)  # fmt: skip
SPENT = ("epsilon", "budget", "step", "epoch", "overlap", "rows")  # of which one is something, too
COMPOSED = ("segments", "tuning_runs", "tuning", "seeds", "trials", "best_of")  # see `_accounting.composed`
HARMLESS = ("public", "none", "random", "scratch", "last step", "fixed", "group", "layer")  # of what a field named so may say
DENIED = re.compile(r"\b(no|not|never|without|disjoint from|nothing of)\b[^.,;]*", re.IGNORECASE)  # "no overlap with the private rows"
NOT_PUBLIC = re.compile(r"\b(non|not|never|semi)[- ]?(only |yet |quite |all )?public", re.IGNORECASE)
HARM = re.compile(r"private|\b(same|these|our|best|search|trials?|sweeps?|tuned|validation|held)\b", re.IGNORECASE)


class PrivateTraining(Audit):
    def measure(self, subject: Subject) -> list[Measurement]:
        if subject.trainer is None:
            return []
        began, statement = time.perf_counter(), subject.lineage["statement"]
        said = {**statement, **statement.get("claim", {})}
        found, measured, late = [], {}, False
        if not self_test():
            found.append(("privacy.self_test", "the tests did not tell Gaussian noise from less of it, or Poisson sampling from shuffling"))
        found += stated(said, subject.trainer.facts)
        if not any(code in ("privacy.incomplete", "privacy.invalid") for code, _ in found):
            subject.trainer.until = began + (SECONDS if subject.seconds is None else subject.seconds)
            try:
                tried, measured = watched(subject.trainer, said, subject.seed)
                if any(code == "privacy.memory" for code, _ in tried) and (before := undone(subject.trainer, said, subject.seed)):
                    tried, measured = before
                found += tried
            except Exception as e:  # noqa: BLE001 - the trainer's own code, whatever it raises
                found.append(("privacy.code", f"the trainer's own code failed: {str(e).splitlines()[0][:200]}"))
            if late := subject.trainer.late:
                found.append(("privacy.budget", "the time was over before everything was tried"))
            short, accounts = accounted(said, measured)
            found, measured = [*found, *short], measured | {"accounts": accounts}
        reasons = list(dict.fromkeys(code for code, _ in found))
        claimed = said.get("epsilon")
        value = None if reasons else max(float(claimed), accounts["epsilon"]) if accounts["epsilon"] > 1.01 * claimed else float(claimed)
        details = {
            "claim": statement.get("claim"), "found": [f"{code}: {words}" for code, words in found], "measured": measured, "complete": not late,
            **({"why": "; ".join(words for _, words in found)} if found else {}),
        }  # fmt: skip
        method = "noise, clipping, divisor and sampling tried on the trainer itself; PLD accountant on what was stated and measured"
        rows = int(said["rows"]) if isinstance(said.get("rows"), (int, float)) else 0
        lines = [("privacy.epsilon", (value, value, value), 1.0, method, details, reasons)]
        noise, rate = measured.get("noise", {}), measured.get("sampling", {})
        if "std" in noise:
            ends = tuple(noise[k] / said["clip"] for k in ("std", "low", "high"))
            lines.append(("privacy.noise_multiplier", ends, 1 - 2 * ALPHA, f"chi square, {noise['draws']:,} numbers", {}, []))
        if "rate" in rate:
            ends = tuple(rate[k] for k in ("rate", "low", "high"))
            lines.append(("privacy.sample_rate", ends, 1 - 2 * ALPHA, f"normal approximation, {rate['batches']:,} batches", {}, []))
        seconds = time.perf_counter() - began
        return [Measurement("private_training", m, None, "train", None, *e, level, rows, how, subject.seed, seconds, d, r) for m, e, level, how, d, r in lines]


def stated(said: dict[str, Any], facts: dict[str, Any]) -> list[_noise.Finding]:
    """What the statement says of itself, and where the object says otherwise. A divisor in words is made a number in place."""
    if isinstance(said.get("divisor"), str) and "expect" in said["divisor"].lower() and "rows" in said and "sample_rate" in said:
        said["divisor"] = facts.get("expected_batch") or said["rows"] * said["sample_rate"]
    elif isinstance(said.get("divisor"), str):
        return [("privacy.divisor", f"the statement divides by {said['divisor']!r}, not by the expected number of rows")]
    plain = {**said, "neighbours": "add/remove"} if replaces(said) else said
    codes, why = wrong(plain)
    words = "; ".join(f"{field} {text}" for field, text in why.items())
    found = [(code, f"the statement: {words}") for code in codes]
    if codes and codes[0] in ("privacy.incomplete", "privacy.invalid"):
        delta = said.get("delta")
        bad = isinstance(delta, float) and isinstance(said.get("rows"), int) and delta * said["rows"] >= 1 and not any(said.get(f) is None for f in NEEDS)
        return [("privacy.delta", f"delta {delta:g} is not below 1 / rows ({1 / said['rows']:.3g})"), *found] if bad else found
    total = sum(p[2] for p in composed(said))
    for key, of, worse in (
        ("sigma", said["noise_multiplier"], -1), ("q", said["sample_rate"], 1), ("clip", said["clip"], 1), ("n", said["rows"], 0), ("steps", total, 1),
        ("delta", said["delta"], 1),
    ):  # fmt: skip
        own = facts.get(key)
        if own is None or abs(own - of) <= 0.005 * abs(of) or (worse and worse * (own - of) < 0):
            continue
        found.append(("privacy.steps" if key == "steps" else "privacy.statement", f"the trainer's own {key} is {own:g}; the statement accounts for {of:g}"))
    if said.get("rows_per_person") != 1 and any(word in str(said["neighbours"]).lower() for word in PERSONS):
        words = f"epsilon is claimed for {said['neighbours']!r}, and rows are drawn and clipped: say rows_per_person: 1 where nobody has two"
        found.append(("privacy.neighbours", words))
    for key, told in said.items():
        named = any(word in key.lower() for word in LEARNT) and key not in COMPOSED
        if named and not harmless(key, told):
            words = f"{key} ({str(told)[:80]!r}) may have looked at the rows, and nothing is accounted for it: say that it is public, or account for it"
            found.append(("privacy.selection", words))
    if facts.get("n") and said["delta"] * facts["n"] >= 1:
        found.append(("privacy.delta", f"delta {said['delta']:g} is not below 1 / n ({1 / facts['n']:.3g})"))
    return found


def harmless(key: str, told: Any) -> bool:
    """Whether what a field says cannot have cost anything: nothing, one (run, model), or something public and none of what was looked for on the rows."""
    if isinstance(told, str):
        if NOT_PUBLIC.search(told):
            return False
        told = DENIED.sub("", told)
        return not told.strip() or (any(word in told.lower() for word in HARMLESS) and HARM.search(told) is None)
    return told is None or told is False or told in (0, [], {}) or (told == 1 and told is not True and not any(w in key.lower() for w in SPENT))


def replaces(said: dict[str, Any]) -> bool:
    return any(word in str(said.get("neighbours", "")).lower() for word in ("replac", "swap", "substitut", "change"))


def watched(trainer: Any, said: dict[str, Any], seed: int) -> tuple[list[_noise.Finding], dict[str, Any]]:
    """Everything that the trainer is asked to do."""
    rng, d = np.random.default_rng([seed, 7]), trainer.dimensions
    steps, clip, sigma = max(1, int(trainer.facts.get("steps") or said["steps"])), float(said["clip"]), float(said["noise_multiplier"])
    calls = int(np.clip(DRAWS // d, 24, CALLS))
    calls = max(8, min(calls, 2 * FLOATS // d))
    plan = spread(steps, calls)
    most = max(2, min(256, FLOATS // d))
    exact, rounded = reproducible(trainer, plan[:4], clip)
    exact &= not rounded  # two roundings differ by more than rows may
    probe = _clipping.Probe(trainer, clip, sigma, few(plan, max(4, min(24, 1_000_000 // d))), exact, seed + 11)
    found, drawn, divisor = _clipping.divisor(probe, float(said["divisor"]), most, rng)
    pair = 1e-6 * clip * _clipping._unit(rng, d)
    watch = _clipping.Probe(trainer, clip, sigma, plan, exact, seed + 1)
    watch.unit = 4.0 if drawn else probe.unit
    cancelling = np.stack([pair, -pair, pair, -pair])
    z, at, run = watch.fresh(cancelling, calls)
    measured = {"reproducible": exact, "dimensions": d, "divisor": divisor}
    silent = False
    if len(z) >= 8:
        claimed = sigma * clip, trainer.spans, ALPHA, rounded
        more, measured["noise"] = _noise.check(z, at, run, *claimed)
        watch.seed += 5000  # chance does not strike twice
        if more and not trainer.late and len((other := watch.fresh(cancelling, calls))[0]) >= 8 and not _noise.check(*other, *claimed)[0]:
            more = []
        found, silent = found + more, any(code == "privacy.no_noise" for code, _ in more)
    if not any(code in ("privacy.noise_predictable", "privacy.noise_shared") for code, _ in found):
        found += seeds(trainer, np.stack([pair, -pair]), plan[:1], seed + 300, silent)
    beyond = max(8, min(4096, FLOATS // d, 2 * round(float(said["divisor"])) + 8))
    if not drawn:  # else every batch has its own unit
        if not silent:
            more, measured["noise_beside"] = _clipping.noise_beside(watch, sigma * clip, most, beyond, max(12, min(calls, 8000 // d)), ALPHA, rng)
            known = any(code.startswith("privacy.noise_") for code, _ in found)
            found += [f for f in more if not (known and (f[0] == "privacy.noise_below" or "along" in f[1]))]
        more, measured["sensitivity"] = _clipping.sensitivity(probe, plan, beyond, rng)
        found += more
        more, measured["memory"] = _clipping.memory(probe, rng, max(2, min(steps, 2 * FLOATS // d, CALLS)))
        found += more
        measured["not_numbers"] = _clipping.not_numbers(probe)
    n, q = int(trainer.facts.get("n") or said["rows"]), float(said["sample_rate"])
    batches = batches_of(trainer, steps, seed + 100)
    if batches and not trainer.late:
        more, measured["sampling"] = _sampling.check(batches, n, q, ALPHA)
        if more and not trainer.late and not _sampling.check(batches_of(trainer, steps, seed + 1000), n, q, ALPHA)[0]:
            more = []
        found += more or _sampling.follows(*after_rows(trainer, n, q, steps, clip, seed + 2000), n, q, ALPHA)
    return found, measured


def undone(trainer: Any, said: dict[str, Any], seed: int) -> tuple[list[_noise.Finding], dict[str, Any]] | None:
    """The same of what the trainer releases before momentum, where memory is that alone: whoever sees each release may add them up as he likes."""
    probe = _clipping.Probe(trainer, float(said["clip"]), float(said["noise_multiplier"]), [0], True, seed + 11)
    if (how := _clipping.momentum(probe, float(said["divisor"]))) is None:
        return None
    before = trainer.before_momentum(*how)
    before.until = trainer.until
    found, measured = watched(before, said, seed)
    kept = any(code in ("privacy.memory", "privacy.noise_reused") for code, _ in found)
    return None if kept or before.late else (found, measured | {"momentum": how[1]})


def batches_of(trainer: Any, steps: int, first: int) -> list[list[np.ndarray]]:
    """Rows of consecutive steps, per restart with a seed of its own: `ROWS_DRAWN` batches or more in sixty restarts at most, the last steps among them."""
    batches: list[list[np.ndarray]] = []
    while sum(map(len, batches)) < ROWS_DRAWN and len(batches) < 60 and not trainer.late:
        trainer.restart(first + len(batches))
        batches.append(trainer.sample(list(range(min(steps, ROWS_DRAWN)))))
    if len(batches) == 1 and not trainer.late:
        trainer.restart(first + 100)
        batches.append(trainer.sample(list(range(steps - min(steps, ROWS_DRAWN // 2), steps))))
    return batches


def after_rows(trainer: Any, n: int, q: float, steps: int, clip: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) of rows drawn at steps after the first, how many have odd numbers, and how many there are; the gradients of odd rows were far above the clip
    whenever they were drawn, those of even rows near zero."""
    u = _clipping._unit(np.random.default_rng(seed), trainer.dimensions)
    odd, all_, most = [], [], max(8, min(200, steps, int(20 * FLOATS / (n * q * trainer.dimensions + 1))))
    while sum(all_) < 4000 and len(all_) < 3 * most and steps > 1 and not trainer.late:
        trainer.restart(seed + len(all_))
        for t in range(min(steps, most)):
            (rows,) = trainer.sample([t]) or [np.zeros(0, int)]
            if t:
                odd.append(int((rows % 2).sum()))
                all_.append(len(rows))
            if trainer.late:
                break
            trainer.privatize(np.where(rows[:, None] % 2, 10.0, 1e-6) * clip * u, [t])
    return np.array(odd), np.array(all_)


def seeds(trainer: Any, batch: np.ndarray, steps: list[int], first: int, silent: bool, most: int = 400) -> list[_noise.Finding]:
    """The first noise (where there is any) and the first rows after so many restarts, each with a seed of its own: two alike show that few seeds are all
    that there are. By the birthday paradox 400 restarts miss 4,096 seeds once in 10^8 times, and 17,000 once in 100. A quarter of the time left goes to
    them at most."""
    columns = np.unique(np.linspace(0, trainer.dimensions - 1, 1000).astype(int))
    noise, rows, until = [], [], time.perf_counter() + (trainer.until - time.perf_counter()) / 4
    while len(noise) < most and not trainer.late and (len(noise) < 2 or time.perf_counter() < until):
        trainer.restart(first + len(noise))
        rows += [tuple(np.sort(r)) for r in trainer.sample(steps)]
        noise.append(trainer.privatize(batch, steps)[:1, columns])
    found, whole = [], np.concatenate(noise) if noise else np.zeros((0, 1))
    if not silent and _noise.equal(whole) is not None:
        words = f"restarts with {len(noise)} different seeds give the same noise twice: there are too few of them to be a secret"
        found.append(("privacy.noise_predictable", words))
    elif not silent and _noise.related(whole, ALPHA)[0]:
        found.append(("privacy.noise_predictable", "a part of the noise is the same after restarts with other seeds: whoever has the code can take it away"))
    few = [r for r in rows if len(r) > 5]
    if len(few) > 1 and len({*few}) < len(few) and len({*few[0], *few[1]}) > len(few[0]):
        words = f"{len(few)} restarts with different seeds draw the very same batch twice: there are too few seeds to be a secret"
        found.append(("privacy.sampler", words))
    return found


def accounted(said: dict[str, Any], measured: dict[str, Any]) -> tuple[list[_noise.Finding], dict[str, Any]]:
    """epsilon of all that was composed, as stated, and with noise and rate as measured (the ends that speak for the trainer)."""
    done, delta = tuple(composed(said)), float(said["delta"])
    of = replacing if replaces(said) else epsilon_of
    epsilon = of(done, delta)
    accounts = {"composed": [list(p) for p in done], "epsilon": epsilon, "neighbours": said["neighbours"]}
    noise, rate = measured.get("noise", {}), measured.get("sampling", {})
    worse = (noise.get("high", math.inf) / said["clip"] / said["noise_multiplier"], rate.get("low", 0.0) / said["sample_rate"])
    if worse[0] < 0.99 or worse[1] > 1.01:
        less, more = min(1.0, worse[0]), max(1.0, worse[1])
        real = tuple((max(s * less, 0.0), min(1.0, q * more), t) for s, q, t in done)
        accounts["epsilon_measured"] = of(real, delta) if all(s > 0.25 for s, _, _ in real) else math.inf
    if epsilon <= 1.01 * said["epsilon"]:
        return [], accounts
    shown = f"{len(done)} parts, {sum(p[2] for p in done):,} steps" if len(done) > 1 else f"{done[0][2]:,} steps"
    words = f"epsilon {said['epsilon']:.4g} is claimed at delta {delta:g}; {shown} come to {epsilon:.4g}"
    if of is replacing and epsilon_of(done, delta) <= 1.01 * said["epsilon"]:
        return [("privacy.neighbours", f"{words} for replacing a row; the claim holds for adding or removing one")], accounts
    return [("privacy.understated", words)], accounts


def spread(steps: int, most: int) -> list[int]:
    """All steps, or the first half of `most` and as many evenly from there to the last."""
    if steps <= most:
        return list(range(steps))
    first = most // 2
    return [*range(first), *np.unique(np.linspace(first, steps - 1, most - first).astype(int)).tolist()]


def few(plan: list[int], most: int) -> list[int]:
    return plan if len(plan) <= most else [plan[i] for i in np.unique(np.linspace(0, len(plan) - 1, most).astype(int))]


def reproducible(trainer: Any, steps: list[int], clip: float) -> tuple[bool, bool]:
    """Whether the same seed gives the same releases, and whether they are in half precision (float16 or bfloat16)."""
    seen = []
    for _ in range(2):
        trainer.restart(5)
        seen.append(trainer.privatize(np.full((3, trainer.dimensions), 1e-3 * clip / trainer.dimensions), steps))
    same = len(seen[0]) == len(seen[1]) > 0 and bool(np.allclose(*seen, rtol=1e-6, atol=0, equal_nan=True))
    single = seen[0].astype(np.float32)
    with np.errstate(over="ignore"):
        half = np.array_equal(seen[0], single.astype(np.float16)) or (np.array_equal(seen[0], single) and not (single.view(np.uint32) & 0xFFFF).any())
    return same, bool(half and seen[0].any())


def self_test() -> bool:
    """Noise as claimed and four fifths of it; rows by coins and in turns."""
    rng = np.random.default_rng(0)
    z, at, run = rng.standard_normal((200, 50)), np.arange(200), np.zeros(200, int)
    right, less = (_noise.check(z * s, at, run, 1.0, [[0, 50]], ALPHA)[0] for s in (1.0, 0.8))
    coins = [[np.flatnonzero(rng.random(300) < 0.1) for _ in range(200)]]
    turns = [[p for _ in range(20) for p in np.split(rng.permutation(300), 10)]]
    drawn, shuffled = (_sampling.check(d, 300, 0.1, ALPHA)[0] for d in (coins, turns))
    return not right and not drawn and less[0][0] == "privacy.noise_below" and shuffled[0][0] == "privacy.sampler"
