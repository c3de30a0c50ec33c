"""A private training step done rightly, and the ways in which it is done wrongly, one method each. D coordinates, B rows."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent, pld

from modelwright.data.schema import Schema
from modelwright.foreign import trainer
from modelwright.subject import Subject


class Right:
    """Poisson sampling, rows clipped each by itself, Gaussian noise once on their sum, divided by the expected number of rows."""

    def __init__(self, rng: np.random.Generator):
        self.n, self.steps = int(rng.integers(800, 6000)), int(rng.integers(40, 400))
        self.q, self.sigma, self.clip = float(rng.uniform(0.01, 0.05)), float(rng.uniform(0.7, 2.0)), float(rng.uniform(0.2, 3.0))
        self.layers = [int(k) for k in rng.integers(3, 60, rng.integers(2, 6))]
        self.ends = np.cumsum([0, *self.layers])
        self.expected_batch, self.delta, self.severity = self.n * self.q, 0.1 / self.n, float(rng.uniform(0.3, 0.8))
        self.restart(0)

    def restart(self, seed: int) -> None:
        self.rng, self.seed, self.calls, self.last = np.random.default_rng(seed), seed, 0, None

    def sample(self, step: int) -> np.ndarray:
        return np.flatnonzero(self.rng.random(self.n) < self.q)

    def factors(self, g: np.ndarray) -> np.ndarray:
        return np.minimum(1, self.clip / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12))

    def total(self, g: np.ndarray, step: int) -> np.ndarray:
        return (g * self.factors(g)).sum(0)

    def noise(self, g: np.ndarray, step: int) -> np.ndarray:
        return self.sigma * self.clip * self.rng.standard_normal(g.shape[1])

    def privatize(self, g: np.ndarray, step: int) -> np.ndarray:
        self.calls += 1
        return (self.total(g, step) + self.noise(g, step)) / self.expected_batch


class NoNoise(Right):
    def noise(self, g, step):
        return np.zeros(g.shape[1])


class LessNoise(Right):
    def noise(self, g, step):
        return self.severity * super().noise(g, step)


class NoiseWithoutClip(Right):
    """sigma alone: short where the clip is above one."""

    def __init__(self, rng):
        super().__init__(rng)
        self.clip = float(rng.uniform(1.3, 4))

    def noise(self, g, step):
        return self.sigma * self.rng.standard_normal(g.shape[1])


class NoiseOnSome(Right):
    def noise(self, g, step):
        x = super().noise(g, step)
        x[self.ends[-2] :] = 0
        return x


class NoiseOnHead(Right):
    """Full noise on one layer, little on the others."""

    def noise(self, g, step):
        x = super().noise(g, step)
        x[: self.ends[-2]] *= self.severity
        return x


class NoiseDecays(Right):
    def noise(self, g, step):
        return super().noise(g, step) * (1 - self.severity * step / self.steps)


class NoiseReused(Right):
    """The generator is seeded anew at every step."""

    def noise(self, g, step):
        self.rng = np.random.default_rng(self.seed)
        return super().noise(g, step)


class NoiseInPairs(Right):
    """Every second step takes off what the one before put on."""

    def noise(self, g, step):
        if self.last is not None and len(self.last) == g.shape[1]:
            x, self.last = -self.last, None
            return x
        self.last = super().noise(g, step)
        return self.last


class NoiseOfStep(Right):
    """Seeded by the step's number, which everybody knows."""

    def noise(self, g, step):
        return self.sigma * self.clip * np.random.default_rng(step).standard_normal(g.shape[1])


class NoiseShared(Right):
    """One draw for all coordinates of a layer."""

    def noise(self, g, step):
        return np.repeat(self.sigma * self.clip * self.rng.standard_normal(len(self.layers)), self.layers)


class NoiseLaplace(Right):
    def noise(self, g, step):
        return self.rng.laplace(0, self.sigma * self.clip / 2**0.5, g.shape[1])


class NoisePerMicrobatch(Right):
    """Once for every eight rows, of a share that adds up to too little for few rows."""

    def noise(self, g, step):
        parts, whole = -(-len(g) // 8), max(1, round(self.expected_batch / 8))
        return sum((super(NoisePerMicrobatch, self).noise(g, step) for _ in range(parts)), np.zeros(g.shape[1])) / whole**0.5


class NoiseOfBatch(Right):
    """As large as the largest row of the batch needs, which is itself private."""

    def noise(self, g, step):
        norms = np.linalg.norm(g, axis=1)
        return super().noise(g, step) * min(1.0, max(norms, default=0.0) / self.clip)


class NotClipped(Right):
    def total(self, g, step):
        return g.sum(0)


class ClippedAtFirst(Right):
    """Only in the first half of training."""

    def total(self, g, step):
        return super().total(g, step) if step < self.steps // 2 else g.sum(0)


class ClippedByLayer(Right):
    """Each layer to the whole clip."""

    def total(self, g, step):
        return np.concatenate([super(ClippedByLayer, self).total(g[:, a:b], step) for a, b in zip(self.ends, self.ends[1:])])


class ClippedByValue(Right):
    def total(self, g, step):
        return g.clip(-self.clip, self.clip).sum(0)


class ClippedAfter(Right):
    """The mean is clipped, not the rows."""

    def total(self, g, step):
        mean = g.sum(0, keepdims=True) / self.expected_batch
        return (mean * self.factors(mean))[0] * self.expected_batch


class ClippedTogether(Right):
    """The sum is clipped: a row can turn it round."""

    def total(self, g, step):
        whole = g.sum(0, keepdims=True)
        return (whole * self.factors(whole))[0]


class DividedByDrawn(Right):
    def privatize(self, g, step):
        return (self.total(g, step) + self.noise(g, step)) / max(1, len(g))


class EmptySkipped(Right):
    def privatize(self, g, step):
        return super().privatize(g, step) if len(g) else np.zeros(g.shape[1])


class NoiseDividedTwice(Right):
    """Noise on the mean, of the size for the mean, and then divided once more."""

    def noise(self, g, step):
        return super().noise(g, step) / self.expected_batch


class NoiseSumsToNothing(Right):
    """Over every block of steps the noise adds up to zero."""

    def noise(self, g, step):
        size = max(3, round(10 * self.severity))
        if self.last is None or self.last.shape != (size, g.shape[1]):
            z = self.rng.standard_normal((size, g.shape[1]))
            self.last, self.turn = (z - z.mean(0)) / np.sqrt(1 - 1 / size), 0
        x, self.turn = self.sigma * self.clip * self.last[self.turn], self.turn + 1
        self.last = None if self.turn == size else self.last
        return x


class NoiseTelescopes(Right):
    """Each step takes off what the one before put on, and puts on as much."""

    def noise(self, g, step):
        new = self.rng.standard_normal(g.shape[1])
        before = self.last if self.last is not None and len(self.last) == len(new) else self.rng.standard_normal(g.shape[1])
        self.last = new
        return self.sigma * self.clip * (new - before) / 2**0.5


class NoiseOfFewDirections(Right):
    """Full on every coordinate, drawn in half as many directions."""

    def noise(self, g, step):
        d = g.shape[1]
        basis = np.linalg.qr(np.random.default_rng(3).standard_normal((d, d)))[0][: max(1, d // 2)]
        x = self.rng.standard_normal(len(basis)) @ basis
        return self.sigma * self.clip * x / np.sqrt((basis**2).sum(0))


class NoiseBesideTheRows(Right):
    """None along the sum, so that learning is not disturbed."""

    def noise(self, g, step):
        x, along = super().noise(g, step), self.total(g, step)
        size = float(along @ along)
        return x - along * (x @ along) / size if size > 1e-20 else x


class NoiseOfFewSeeds(Right):
    """Sixteen seeds are all that there are."""

    def restart(self, seed):
        super().restart(seed)
        self.few = np.random.default_rng(seed % 16)

    def noise(self, g, step):
        return self.sigma * self.clip * self.few.standard_normal(g.shape[1])


class ClippedAtMedian(Right):
    """At the median of the batch's norms where that is less: a bound that a row moves for all others."""

    def factors(self, g):
        norms = np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12)
        return np.minimum(1, min(self.clip, float(np.median(norms))) / norms) if len(g) else norms


class ClippedAtQuantile(Right):
    """The same at the upper quantile."""

    def factors(self, g):
        norms = np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12)
        return np.minimum(1, min(self.clip, float(np.quantile(norms, 0.6 + 0.3 * self.severity))) / norms) if len(g) else norms


class ClipFollowsRows(Right):
    """The bound is moved after every step by how many rows it clipped, and nobody counts that."""

    def restart(self, seed):
        super().restart(seed)
        self.bound = self.clip

    def total(self, g, step):
        norms = np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12)
        x = (g * np.minimum(1, self.bound / norms)).sum(0)
        if len(g):
            self.bound = min(self.clip, self.bound * float(np.exp(0.2 * (0.5 - (norms <= self.bound).mean()))))
        return x


class ClippedWhereFull(Right):
    """Only as many rows as are expected are clipped; those beyond that are forgotten."""

    def factors(self, g):
        few = max(8, round(self.expected_batch))
        return np.where(np.arange(len(g))[:, None] < few, super().factors(g), 1.0)


class ClippedButDecayed(Right):
    """A little of the raw mean goes by."""

    def privatize(self, g, step):
        return super().privatize(g, step) + (0.02 * self.severity * g.mean(0) if len(g) else 0)


class MomentumBeforeNoise(Right):
    """The running mean of the sums is released: a row stays in it for many steps."""

    def restart(self, seed):
        super().restart(seed)
        self.mean = 0.0

    def total(self, g, step):
        self.mean = (1 - 0.5 * self.severity) * self.mean + 0.5 * self.severity * super().total(g, step)
        return self.mean


class BatchKept(Right):
    """Rows of the step before are gone over once more."""

    def total(self, g, step):
        before, self.kept = getattr(self, "kept", None), super().total(g, step)
        return self.kept if before is None else (self.kept + before) / 2


class OutliersStop(Right):
    """A batch with an outlier is thrown away."""

    def total(self, g, step):
        return super().total(g, step) if np.linalg.norm(g, axis=1).max(initial=0) < 50 * self.clip else np.zeros(g.shape[1])


class DrawnMoreLater(Right):
    """The rate rises through training."""

    def sample(self, step):
        return np.flatnonzero(self.rng.random(self.n) < self.q * (1 + self.severity * (2 * step / self.steps - 1)))


class DrawnToTheFull(Right):
    """Batches are cut at, and filled up to, nearly the expected size."""

    def sample(self, step):
        drawn, size = super().sample(step), max(1, round(self.expected_batch))
        return drawn[: size + 1] if len(drawn) > size else np.unique(np.concatenate([drawn, self.rng.choice(self.n, size - len(drawn), replace=False)]))


class Shuffled(Right):
    """Epochs in random order, batches of a fixed size."""

    def sample(self, step):
        size = round(self.expected_batch)
        if self.last is None or len(self.last) < size:
            self.last = self.rng.permutation(self.n)
        drawn, self.last = self.last[:size], self.last[size:]
        return drawn


class FixedSize(Right):
    def sample(self, step):
        return self.rng.choice(self.n, round(self.expected_batch), replace=False)


class WithReplacement(Right):
    def sample(self, step):
        return self.rng.integers(0, self.n, self.rng.binomial(self.n, self.q))


class DrawnMore(Right):
    def sample(self, step):
        return np.flatnonzero(self.rng.random(self.n) < self.q * (1 + self.severity))


class DrawnUnequally(Right):
    def sample(self, step):
        share = np.where(np.arange(self.n) % 2, 1 + self.severity, 1 - self.severity)
        return np.flatnonzero(self.rng.random(self.n) < self.q * share)


class DrawnInBlocks(Right):
    """Rows come in blocks of four."""

    def sample(self, step):
        return np.flatnonzero(np.repeat(self.rng.random(-(-self.n // 4)) < self.q, 4)[: self.n])


class DrawnTheSame(Right):
    """The sampler has a seed of its own."""

    def restart(self, seed):
        super().restart(seed)
        self.coins = np.random.default_rng(12345)

    def sample(self, step):
        return np.flatnonzero(self.coins.random(self.n) < self.q)


class NoiseWhereTouched(Right):
    """None on coordinates in which no row of the batch has an entry, as of an embedding."""

    def noise(self, g, step):
        return super().noise(g, step) * ((g != 0).any(0) if len(g) else 1)


class NoiseAsItFalls(Right):
    """Less noise where the sum is smaller than the one before: training has come far enough."""

    def noise(self, g, step):
        size = float(np.linalg.norm(self.total(g, step)))
        falls, self.last = self.last is not None and size < self.last, size
        return super().noise(g, step) * (1 - self.severity * falls)


class NoiseDropped(Right):
    """A twentieth of the coordinates gets none, and the others make up for it."""

    def noise(self, g, step):
        return super().noise(g, step) * (self.rng.random(g.shape[1]) > 0.05) / 0.95**0.5


class NoiseBeforeClip(Right):
    """On each row, which is clipped after it: most of it is clipped away."""

    def total(self, g, step):
        return super().total(g + self.sigma * self.clip * self.rng.standard_normal(g.shape), step)

    def noise(self, g, step):
        return np.zeros(g.shape[1])


class NoiseByRows(Right):
    """Each row brings a share of the noise: few rows bring too little."""

    def noise(self, g, step):
        return self.sigma * self.clip * self.rng.standard_normal(g.shape).sum(0) / self.expected_batch**0.5


class NoiseOnceAnEpoch(Right):
    def noise(self, g, step):
        return super().noise(g, step) * (step % max(2, round(1 / self.q)) == 0)


class NoiseOfEpoch(Right):
    """One draw for all steps of an epoch."""

    def noise(self, g, step):
        epoch = step // max(2, round(1 / self.q))
        if self.last is None or self.last[0] != epoch or len(self.last[1]) != g.shape[1]:
            self.last = epoch, super().noise(g, step)
        return self.last[1]


class NoiseOfRows(Right):
    """Seeded by what is in the batch: whoever guesses it can take the noise away."""

    def noise(self, g, step):
        return self.sigma * self.clip * np.random.default_rng(zlib.crc32(np.round(g, 12).tobytes())).standard_normal(g.shape[1])


class NoiseRounded(Right):
    def noise(self, g, step):
        unit = self.severity * self.sigma * self.clip
        return np.round(super().noise(g, step) / unit) * unit


class NoiseUniform(Right):
    def noise(self, g, step):
        return self.sigma * self.clip * self.rng.uniform(-(3**0.5), 3**0.5, g.shape[1])


class VarianceForDeviation(Right):
    """The generator is told sigma times clip as a variance."""

    def __init__(self, rng):
        super().__init__(rng)
        self.sigma, self.clip = float(rng.uniform(1.2, 2)), float(rng.uniform(1, 3))

    def noise(self, g, step):
        return (self.sigma * self.clip) ** 0.5 * self.rng.standard_normal(g.shape[1])


class HeadNotClipped(Right):
    """The last layer was forgotten."""

    def total(self, g, step):
        head = self.ends[-2]
        return np.concatenate([super().total(g[:, :head], step), g[:, head:].sum(0)])


class NormWithoutHead(Right):
    """All layers are scaled, by a norm that leaves out the last."""

    def factors(self, g):
        return super().factors(g[:, : self.ends[-2]])


class ClippedByLargest(Right):
    """By the largest entry, as if it were the norm."""

    def factors(self, g):
        return np.minimum(1, self.clip / np.maximum(np.abs(g).max(1, keepdims=True, initial=0), 1e-12))


class NormOfMeans(Right):
    """The root of the mean square, not of the sum."""

    def factors(self, g):
        return np.minimum(1, self.clip / np.maximum(np.sqrt((g**2).mean(1, keepdims=True)), 1e-12))


class ClippedByMicrobatch(Right):
    """Four rows are averaged, clipped once, and counted four times."""

    def total(self, g, step):
        means = [part.mean(0) for part in np.array_split(g, max(1, -(-len(g) // 4))) if len(part)]
        return 4 * super().total(np.stack(means), step) if means else np.zeros(g.shape[1])


class ClippedSometimes(Right):
    """Not at every tenth step."""

    def total(self, g, step):
        return g.sum(0) if step % 10 == 9 else super().total(g, step)


class LargeRowsTwice(Right):
    """Rows that are clipped count twice: they are thought to be rare."""

    def factors(self, g):
        return super().factors(g) * np.where(np.linalg.norm(g, axis=1, keepdims=True) > self.clip, 2, 1)


class LayerBesideNoise(Right):
    """A little of the first layer's raw sum is added after the noise."""

    def privatize(self, g, step):
        x = super().privatize(g, step)
        x[: self.ends[1]] += 0.1 * self.severity * g[:, : self.ends[1]].sum(0) / self.expected_batch
        return x


class Window(Right):
    """A window slides over the rows; half of it is drawn."""

    def sample(self, step):
        size = max(1, round(self.expected_batch))
        rows = (step * size + np.arange(2 * size)) % self.n
        return np.unique(rows[self.rng.random(len(rows)) < 0.5])


class DrawnAgain(Right):
    """Who was drawn is likelier to be drawn at the next step."""

    def sample(self, step):
        p = np.full(self.n, self.q)
        p[[] if self.last is None else self.last] += 0.3
        self.last = np.flatnonzero(self.rng.random(self.n) < p * self.q / p.mean())
        return self.last


class OnceAnEpoch(Right):
    """Each row at one random step of every epoch: sizes vary as they should, and no row comes twice."""

    def sample(self, step):
        epoch = max(2, round(1 / self.q))
        if step % epoch == 0 or self.last is None:
            self.last = self.rng.integers(0, epoch, self.n)
        return np.flatnonzero(self.last == step % epoch)


# Right in other ways


class Automatic(Right):
    """Every row to C g / (|g| + gamma): automatic clipping (Bu et al. 2023), small rows scaled up."""

    def factors(self, g):
        return self.clip / (np.linalg.norm(g, axis=1, keepdims=True) + 0.01)


class ByLayer(Right):
    """Each of L layers to C / sqrt(L)."""

    def total(self, g, step):
        most, parts = self.clip / len(self.layers) ** 0.5, [g[:, a:b] for a, b in zip(self.ends, self.ends[1:])]
        return np.concatenate([(p * np.minimum(1, most / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12))).sum(0) for p in parts])


class BySum(Right):
    """To the clip by the sum of sizes, which is never less than the norm."""

    def factors(self, g):
        return np.minimum(1, self.clip / np.maximum(np.abs(g).sum(1, keepdims=True), 1e-12))


class BySkips(Right):
    """Poisson sampling by the gaps between rows; noise of each step from a generator that the secret seed and the step make."""

    def sample(self, step):
        at = np.cumsum(self.rng.geometric(self.q, int(3 * self.expected_batch) + 60)) - 1
        return at[at < self.n]

    def noise(self, g, step):
        return self.sigma * self.clip * np.random.default_rng([self.seed, 99, step]).standard_normal(g.shape[1])


class OutliersDropped(Right):
    """A row of a hundred times the clip is thought to be broken, and left out by itself."""

    def factors(self, g):
        return super().factors(g) * (np.linalg.norm(g, axis=1, keepdims=True) < 100 * self.clip)


class FourWorkers(Right):
    """A quarter of the variance each."""

    def noise(self, g, step):
        return sum(super(FourWorkers, self).noise(g, step) for _ in range(4)) / 2


class MoreNoise(Right):
    def noise(self, g, step):
        return (1 + self.severity) * super().noise(g, step)


class Single(Right):
    """In single precision, rows in random order, norms with a little added."""

    def factors(self, g):
        return np.minimum(1, self.clip / (np.linalg.norm(g, axis=1, keepdims=True) + 1e-6))

    def privatize(self, g, step):
        return super().privatize(g.astype(np.float32), step).astype(np.float32)

    def sample(self, step):
        return self.rng.permutation(super().sample(step))


def epsilon_of(parts: list[tuple[float, float, int]], delta: float) -> float:
    made = pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3)
    for sigma, q, steps in parts:
        made.compose(SelfComposedDpEvent(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), steps))
    return float(made.get_epsilon(delta))


def statement_of(t: Right) -> dict[str, Any]:
    epsilon = epsilon_of([(t.sigma, t.q, t.steps)], t.delta)
    claim = {"epsilon": epsilon, "delta": t.delta, "accountant": "pld", "neighbours": "add/remove one row"}
    return {
        "claim": claim, "rows": t.n, "sample_rate": t.q, "noise_multiplier": t.sigma, "clip": t.clip, "steps": t.steps, "divisor": t.expected_batch,
    }  # fmt: skip


def under_audit(made: Any, statement: dict[str, Any], seed: int) -> Subject:
    return Subject(None, Schema({}, {}), {"train": None}, lineage={"statement": statement}, seed=seed, trainer=trainer.here(made))


def trained(wrong: type[Right], right: type[Right] = Right):
    """A trainer with the fault and the statement of the right one."""

    def make(seed: int, faulty: bool) -> Subject:
        made = (wrong if faulty else right)(np.random.default_rng(seed))
        return under_audit(made, statement_of(made), seed)

    return make


def claimed(change):
    """A right trainer, and change(statement, trainer, rng, faulty) of its statement."""

    def make(seed: int, faulty: bool) -> Subject:
        rng = np.random.default_rng(seed)
        made = Right(rng)
        statement = statement_of(made)
        change(statement, made, rng, faulty)
        return under_audit(made, statement, seed)

    return make


def steps_uncounted(s, t, rng, faulty):
    if faulty:
        s["steps"] = int(s["steps"] * rng.uniform(0.4, 0.8))
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, s["steps"])], t.delta)


def epochs_for_steps(s, t, rng, faulty):
    if faulty:
        s["steps"] = max(1, round(t.steps * t.q))
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, s["steps"])], t.delta)


def wrong_rate(s, t, rng, faulty):
    """Of a table that was larger once."""
    if faulty:
        s["sample_rate"] = t.q * rng.uniform(0.4, 0.8)
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, s["sample_rate"], t.steps)], t.delta)


def sigma_rounded_up(s, t, rng, faulty):
    if faulty:
        s["noise_multiplier"] = t.sigma * rng.uniform(1.1, 1.5)
        s["claim"]["epsilon"] = epsilon_of([(s["noise_multiplier"], t.q, t.steps)], t.delta)


def tuning_uncounted(s, t, rng, faulty):
    s["tuning_runs"] = int(rng.integers(3, 9))
    if not faulty:
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps * s["tuning_runs"])], t.delta)


def segments_uncounted(s, t, rng, faulty):
    before = {"steps": int(t.steps * rng.uniform(0.6, 2)), "noise_multiplier": float(t.sigma * rng.uniform(0.7, 1)), "sample_rate": t.q}
    s["segments"] = [before]
    if not faulty:
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps), (before["noise_multiplier"], t.q, before["steps"])], t.delta)


def understated(s, t, rng, faulty):
    s["claim"]["epsilon"] *= rng.uniform(0.6, 0.95) if faulty else 1


def delta_large(s, t, rng, faulty):
    s["claim"]["delta"] = (rng.uniform(1.1, 5) if faulty else 0.5) / t.n
    s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps)], s["claim"]["delta"])
    t.delta = s["claim"]["delta"]


def replacing(s, t, rng, faulty):
    s["claim"]["neighbours"] = "replace one row"
    less = 10.0
    while not faulty and (1 + np.exp(once := epsilon_of([(t.sigma, t.q, t.steps)], t.delta / less))) > less:
        less *= 4
    if not faulty:  # group privacy: removing one and adding another
        s["claim"]["epsilon"] = 2 * once


def best_of_seeds(s, t, rng, faulty):
    """The best of several runs is published."""
    s["seeds"] = int(rng.integers(2, 9))
    if not faulty:
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps * s["seeds"])], t.delta)


def stopped_on_private(s, t, rng, faulty):
    s["early_stopping"] = str(rng.choice(["best validation accuracy", "patience 5 on held-out private rows"])) if faulty else "none"


def warm_start(s, t, rng, faulty):
    s["warm_start"] = str(rng.choice(["the model of last month, trained on these rows", "pretrained on the same data"])) if faulty else "public: ImageNet"


def learnt_beside(s, t, rng, faulty):
    """Something else was learnt from the rows."""
    key, wrong, fine = [("teacher", "an ensemble trained on these rows", "public: CLIP"), ("normalisation", "mean and spread of all rows", "fixed: 1/255"),
                        ("hyperparameters", "the best of 40 by validation accuracy", "fixed in advance"), ("batch_norm", "statistics of the rows", "none"),
                        ("continued_training", "50 steps without noise", "none")][int(rng.integers(5))]  # fmt: skip
    s[key] = wrong if faulty else fine


def of_persons(s, t, rng, faulty):
    """A row's epsilon is called a person's, who has several rows."""
    s["claim"]["neighbours"] = str(rng.choice(["add/remove one person", "user-level, add or remove one user"]))
    if not faulty:
        s["rows_per_person"] = 1


TRAINERS = {
    "no_noise": (NoNoise, "privacy.no_noise"), "less_noise": (LessNoise, "privacy.noise_below"),
    "noise_without_clip": (NoiseWithoutClip, "privacy.noise_below"),
    "noise_on_some_layers": (NoiseOnSome, "privacy.noise_partial"), "less_noise_on_layers": (NoiseOnHead, "privacy.noise_partial"),
    "noise_decays": (NoiseDecays, "privacy.noise_varies"), "noise_reused": (NoiseReused, "privacy.noise_reused"),
    "noise_in_pairs": (NoiseInPairs, "privacy.noise_reused"), "noise_of_the_step": (NoiseOfStep, "privacy.noise_predictable"),
    "noise_shared": (NoiseShared, "privacy.noise_shared"), "laplace_noise": (NoiseLaplace, "privacy.noise_shape"),
    "noise_a_microbatch": (NoisePerMicrobatch, "privacy.empty_batch"), "noise_of_the_batch": (NoiseOfBatch, "privacy.noise_data"),
    "not_clipped": (NotClipped, "privacy.clipping"), "clipped_at_first": (ClippedAtFirst, "privacy.clipping"),
    "clipped_by_layer": (ClippedByLayer, "privacy.clipping"), "clipped_by_value": (ClippedByValue, "privacy.clipping"),
    "clipped_after_averaging": (ClippedAfter, "privacy.clipping"), "clipped_together": (ClippedTogether, "privacy.clipping"),
    "divided_by_drawn": (DividedByDrawn, "privacy.divisor"), "empty_batch_skipped": (EmptySkipped, "privacy.empty_batch"),
    "shuffled": (Shuffled, "privacy.sampler"), "fixed_size": (FixedSize, "privacy.sampler"), "with_replacement": (WithReplacement, "privacy.sampler"),
    "drawn_more": (DrawnMore, "privacy.sample_rate"), "drawn_unequally": (DrawnUnequally, "privacy.sampler"),
    "noise_divided_twice": (NoiseDividedTwice, "privacy.noise_below"), "noise_sums_to_nothing": (NoiseSumsToNothing, "privacy.noise_reused"),
    "noise_telescopes": (NoiseTelescopes, "privacy.noise_reused"), "noise_of_few_directions": (NoiseOfFewDirections, "privacy.noise_shared"),
    "noise_beside_the_rows": (NoiseBesideTheRows, "privacy.noise_data"), "noise_of_few_seeds": (NoiseOfFewSeeds, "privacy.noise_predictable"),
    "clipped_at_median": (ClippedAtMedian, "privacy.clipping"), "clipped_at_quantile": (ClippedAtQuantile, "privacy.clipping"),
    "clip_follows_rows": (ClipFollowsRows, "privacy.memory"), "clipped_where_full": (ClippedWhereFull, "privacy.clipping"),
    "clipped_but_decayed": (ClippedButDecayed, "privacy.clipping"), "momentum_before_noise": (MomentumBeforeNoise, "privacy.memory"),
    "batch_kept": (BatchKept, "privacy.memory"), "outliers_stop": (OutliersStop, "privacy.clipping"),
    "drawn_more_later": (DrawnMoreLater, "privacy.sampler"), "drawn_to_the_full": (DrawnToTheFull, "privacy.sampler"),
    "noise_before_clip": (NoiseBeforeClip, "privacy.noise_data", Single), "noise_by_rows": (NoiseByRows, "privacy.empty_batch", FourWorkers),
    "noise_once_an_epoch": (NoiseOnceAnEpoch, "privacy.noise_varies", MoreNoise), "noise_of_the_epoch": (NoiseOfEpoch, "privacy.noise_reused", FourWorkers),
    "noise_of_the_rows": (NoiseOfRows, "privacy.noise_predictable", Automatic), "noise_rounded": (NoiseRounded, "privacy.noise_shape", Single),
    "noise_uniform": (NoiseUniform, "privacy.noise_shape", MoreNoise), "variance_for_deviation": (VarianceForDeviation, "privacy.noise_below", MoreNoise),
    "head_not_clipped": (HeadNotClipped, "privacy.clipping", ByLayer), "norm_without_head": (NormWithoutHead, "privacy.clipping", ByLayer),
    "clipped_by_largest": (ClippedByLargest, "privacy.clipping", Automatic), "norm_of_means": (NormOfMeans, "privacy.clipping", Automatic),
    "clipped_by_microbatch": (ClippedByMicrobatch, "privacy.clipping", OutliersDropped), "clipped_sometimes": (ClippedSometimes, "privacy.clipping", Single),
    "large_rows_twice": (LargeRowsTwice, "privacy.clipping", OutliersDropped), "layer_beside_noise": (LayerBesideNoise, "privacy.clipping", ByLayer),
    "window": (Window, "privacy.sampler", Single), "drawn_again": (DrawnAgain, "privacy.sampler"), "once_an_epoch": (OnceAnEpoch, "privacy.sampler"),
    "noise_where_touched": (NoiseWhereTouched, "privacy.noise_data", BySkips), "noise_as_it_falls": (NoiseAsItFalls, "privacy.memory", BySum),
    "noise_dropped": (NoiseDropped, "privacy.noise_shape", BySkips),
    "drawn_in_blocks": (DrawnInBlocks, "privacy.sampler"), "drawn_the_same": (DrawnTheSame, "privacy.sampler"),
}  # fmt: skip
CLAIMS = {
    "steps_uncounted": (steps_uncounted, "privacy.steps"), "tuning_uncounted": (tuning_uncounted, "privacy.understated"),
    "segments_uncounted": (segments_uncounted, "privacy.understated"), "claim_understated": (understated, "privacy.understated"),
    "delta_above_one_row": (delta_large, "privacy.delta"), "replacing_claimed": (replacing, "privacy.neighbours"),
    "epochs_for_steps": (epochs_for_steps, "privacy.steps"), "wrong_rate": (wrong_rate, "privacy.sample_rate"),
    "sigma_rounded_up": (sigma_rounded_up, "privacy.noise_below"),
    "best_of_seeds": (best_of_seeds, "privacy.understated"), "stopped_on_private": (stopped_on_private, "privacy.selection"),
    "warm_start": (warm_start, "privacy.selection"), "learnt_beside": (learnt_beside, "privacy.selection"), "of_persons": (of_persons, "privacy.neighbours"),
}  # fmt: skip
