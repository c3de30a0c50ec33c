"""More private training steps done wrongly, by strangers who read the papers, and rightly in ways that look wrong. As in `_trainers`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._trainers import Automatic, BySkips, FourWorkers, MoreNoise, Right, Single, epsilon_of

# Noise


class NoiseFollowsRate(Right):
    """Multiplied by a cosine learning rate, and the gradient is not."""

    def noise(self, g, step):
        return super().noise(g, step) * (1 + np.cos(np.pi * step / self.steps)) / 2


class NoiseHalfKept(Right):
    """Half of its variance comes from a table of draws that go round."""

    def restart(self, seed):
        super().restart(seed)
        self.size = max(10, round(self.steps * self.severity / 8))

    def noise(self, g, step):
        if self.last is None or self.last.shape[1] != g.shape[1]:
            self.last = self.rng.standard_normal((self.size, g.shape[1]))
        return self.sigma * self.clip * (self.last[step % self.size] + self.rng.standard_normal(g.shape[1])) / 2**0.5


class NoiseOfPublicSeedInPart(Right):
    """One worker of two has its seed in the file."""

    def restart(self, seed):
        super().restart(seed)
        self.known = np.random.default_rng(7)

    def noise(self, g, step):
        return self.sigma * self.clip * (self.known.standard_normal(g.shape[1]) + self.rng.standard_normal(g.shape[1])) / 2**0.5


class Wide(Right):
    """Many parameters."""

    def __init__(self, rng):
        super().__init__(rng)
        self.layers = [int(k) for k in rng.integers(250, 450, 4)]
        self.ends, self.steps = np.cumsum([0, *self.layers]), int(rng.integers(40, 100))


class NoiseOfHalfTheDirections(Wide):
    """Full on each of thousands of coordinates, drawn in half as many directions."""

    def noise(self, g, step):
        d = g.shape[1]
        if getattr(self, "mixed", None) is None or self.mixed.shape[1] != d:
            self.mixed = np.random.default_rng(3).standard_normal((d // 2, d)).astype(np.float32) / (d // 2) ** 0.5
        return self.sigma * self.clip * self.rng.standard_normal(d // 2, np.float32) @ self.mixed


class NoiseMirrored(Wide):
    """The second half of the coordinates has the first half's noise, shuffled and with signs: half as many draws."""

    def noise(self, g, step):
        d, rng = g.shape[1], np.random.default_rng(11)
        x, signs = self.rng.standard_normal(-(-d // 2)), rng.choice([-1.0, 1.0], d)
        return self.sigma * self.clip * (np.concatenate([x, x])[:d] * signs)[rng.permutation(d)]


class NoiseCut(Right):
    """Beyond two and a half deviations it is drawn again, and scaled so that the spread is right."""

    def noise(self, g, step):
        x = self.rng.standard_normal(g.shape[1])
        while (far := np.abs(x) > 2.5).any():
            x[far] = self.rng.standard_normal(int(far.sum()))
        return self.sigma * self.clip * x / 0.9546


class NoiseStudent(Right):
    """Student's t of six degrees, of the right spread."""

    def noise(self, g, step):
        return self.sigma * self.clip * self.rng.standard_t(6, g.shape[1]) / 1.5**0.5


class NoiseForMean(Right):
    """Of a mean over two accumulated parts, once for both."""

    def noise(self, g, step):
        return super().noise(g, step) / 2


class NoiseIfMany(Right):
    """None beside batches larger than expected, whose mean is thought to be noise enough."""

    def noise(self, g, step):
        return super().noise(g, step) * (0.2 if len(g) > 1.2 * self.expected_batch + 4 else 1)


class NoiseSkipsAtTimes(Right):
    """Every thirteenth release has a tenth of it."""

    def noise(self, g, step):
        return super().noise(g, step) * (0.1 if step % 13 == 12 else 1)


class HeadFrozenLate(Right):
    """In the last half of training one layer is thought to be frozen, and gets no noise, but its gradients still flow."""

    def noise(self, g, step):
        x = super().noise(g, step)
        x[: self.ends[1]] *= step < 0.5 * self.steps
        return x


class NoiseOnASphere(Right):
    """Brought to the length that it has in the mean: what is released lies on a sphere about the sum, and any other sum is ruled out."""

    def noise(self, g, step):
        x = super().noise(g, step)
        return self.sigma * self.clip * len(x) ** 0.5 * x / np.linalg.norm(x)


# Momentum of what is released: whoever sees it may add it up


class Momentum(Right):
    """Twin: v = 0.9 v + what the step releases."""

    look_ahead, share = False, 1.0

    def restart(self, seed):
        super().restart(seed)
        self.v = 0.0

    def privatize(self, g, step):
        u = super().privatize(g, step)
        self.v = 0.9 * self.v + self.share * u
        return u + 0.9 * self.v if self.look_ahead else self.v


class Nesterov(Momentum):
    look_ahead = True


class MeanOfReleases(Momentum):
    share = 0.1


class MomentumForNoise(Momentum):
    """Less noise is drawn: momentum is thought to average it."""

    def noise(self, g, step):
        return self.severity * super().noise(g, step)


# Clipping


class FirstNotClipped(Right):
    """The loop that clips begins at the second row."""

    def factors(self, g):
        return np.where(np.arange(len(g))[:, None] > 0, super().factors(g), 1.0)


class ClippedIfMeanIsLarge(Right):
    """Rows are clipped where the batch's mean asks for it."""

    def factors(self, g):
        return super().factors(g) if len(g) and np.linalg.norm(g.mean(0)) > 0.5 * self.clip else np.ones((len(g), 1))


class Centred(Right):
    """The batch's mean is taken off each row before it is clipped."""

    def total(self, g, step):
        return super().total(g - g.mean(0), step) + 0.0 if len(g) else np.zeros(g.shape[1])


class Standardised(Right):
    """Each coordinate is divided by its spread in the batch, as batch normalisation would."""

    def total(self, g, step):
        return super().total(g / (g.std(0) + 1e-3 * self.clip) * self.clip / g.shape[1] ** 0.5, step) if len(g) > 1 else super().total(g, step)


class RunningMean(Right):
    """A running mean of raw gradients is taken off before clipping."""

    def restart(self, seed):
        super().restart(seed)
        self.mean = 0.0

    def total(self, g, step):
        x = super().total(g - self.mean, step)
        self.mean = 0.9 * self.mean + 0.1 * g.mean(0) if len(g) else self.mean
        return x


class Preconditioned(Right):
    """Divided by running root mean squares of raw gradients, as Adam would."""

    def restart(self, seed):
        super().restart(seed)
        self.square = 1.0

    def privatize(self, g, step):
        self.square = 0.95 * self.square + 0.05 * (g.mean(0) / self.clip) ** 2 if len(g) else self.square
        return super().privatize(g, step) / np.sqrt(self.square)


class ErrorFeedback(Right):
    """What clipping cut off is kept, and put back at the end of every epoch."""

    def restart(self, seed):
        super().restart(seed)
        self.kept = 0.0

    def total(self, g, step):
        x = super().total(g, step)
        self.kept = self.kept + 0.1 * (g.sum(0) - x)
        if step % max(3, round(0.3 / self.q)) or not step:
            return x
        x, self.kept = x + self.kept, 0.0
        return x


class RestoredNorm(Right):
    """The release is scaled to the raw mean's size."""

    def privatize(self, g, step):
        x = super().privatize(g, step)
        size = np.linalg.norm(g.sum(0)) / self.expected_batch if len(g) else 0.0
        return x * max(1.0, size / np.linalg.norm(x))


class DividedByWeights(Right):
    """By the sum of the clipping factors: a weighted mean."""

    def privatize(self, g, step):
        return (self.total(g, step) + self.noise(g, step)) / max(1.0, float(self.factors(g).sum()))


class ClippedByRoot(Right):
    """By the square root of the norm."""

    def factors(self, g):
        return np.minimum(1, self.clip / np.maximum(np.linalg.norm(g, axis=1, keepdims=True) ** 0.5, 1e-12))


class ClippedFewSketched(Right):
    """By a norm that is estimated from every fourth coordinate."""

    def factors(self, g):
        return np.minimum(1, self.clip / np.maximum(2 * np.linalg.norm(g[:, ::4], axis=1, keepdims=True), 1e-12))


class ClipGrows(Right):
    """The bound is doubled after a warm-up, and the noise is not."""

    def total(self, g, step):
        return (g * np.minimum(1, (1 + (step > self.steps // 3)) * self.clip / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12))).sum(0)


class AuxiliaryBeside(Right):
    """Each row is augmented twice, and both views are clipped by themselves."""

    def total(self, g, step):
        return super().total(g, step) + super().total(1.01 * g, step)


# Rows


class SeedsOfSampler(Right):
    """Batches are drawn by one of 24 seeds."""

    def restart(self, seed):
        super().restart(seed)
        self.few = np.random.default_rng(1000 + seed % 24)

    def sample(self, step):
        return np.flatnonzero(self.few.random(self.n) < self.q)


class CutAtCapacity(Right):
    """What does not fit into memory is left out."""

    def sample(self, step):
        drawn, most = super().sample(step), round(self.expected_batch + 1.8 * self.expected_batch**0.5)
        return drawn[:most]


class LastNeverDrawn(Right):
    """The rows that do not fill a last batch are never seen, and the others as often as stated: a table that was cut."""

    def sample(self, step):
        return np.flatnonzero((self.rng.random(self.n) < self.q) & (np.arange(self.n) < 0.8 * self.n))


class HardRowsMore(Right):
    """Rows whose gradient was clipped are drawn three times as often from then on."""

    def restart(self, seed):
        super().restart(seed)
        self.weight, self.drawn = np.ones(self.n), np.zeros(0, int)

    def sample(self, step):
        p = self.q * self.weight / self.weight.mean()
        self.drawn = np.flatnonzero(self.rng.random(self.n) < p)
        return self.drawn

    def privatize(self, g, step):
        if len(g) == len(self.drawn):
            self.weight[self.drawn[np.linalg.norm(g, axis=1) > self.clip]] = 3.0
        return super().privatize(g, step)


class EpochsOfCoins(Right):
    """A quarter of the rows is set aside for each epoch; coins are thrown for the others."""

    def sample(self, step):
        epoch = max(8, round(1 / self.q))
        if step % epoch == 0 or self.last is None:
            self.last = self.rng.random(self.n) < 0.75
        return np.flatnonzero(self.last & (self.rng.random(self.n) < self.q / 0.75))


class TwiceInARow(Right):
    """Each batch is used for two steps."""

    def sample(self, step):
        if step % 2 == 0 or self.last is None:
            self.last = super().sample(step)
        return self.last


# Right, and strange


class HalfPrecision(Right):
    """What is released is rounded to one of the two half precisions, after the noise."""

    def privatize(self, g, step):
        x = super().privatize(g, step).astype(np.float32)
        return x.astype(np.float16) if self.n % 2 else ((x.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


class LittleNoise(Right):
    """Next to none, and an epsilon that says so."""

    def __init__(self, rng):
        super().__init__(rng)
        self.sigma, self.steps = float(rng.uniform(0.3, 0.5)), int(rng.integers(20, 60))


class WholeTable(Right):
    """All rows at every step."""

    def __init__(self, rng):
        super().__init__(rng)
        self.n, self.q, self.sigma, self.steps = int(rng.integers(200, 500)), 1.0, float(rng.uniform(5, 20)), int(rng.integers(20, 80))
        self.expected_batch, self.delta = float(self.n), 0.1 / self.n

    def sample(self, step):
        return np.arange(self.n)


class FewRows(Right):
    """Four rows a step, and often none."""

    def __init__(self, rng):
        super().__init__(rng)
        self.n = int(rng.integers(2000, 6000))
        self.q, self.delta = float(rng.uniform(1, 4)) / self.n, 0.1 / self.n
        self.expected_batch = self.n * self.q


class OneStep(Right):
    """A single step, of a fifth of the rows."""

    def __init__(self, rng):
        super().__init__(rng)
        self.steps, self.q = 1, float(rng.uniform(0.1, 0.3))
        self.expected_batch = self.n * self.q


class Orthogonal(Right):
    """Noise is drawn in another basis, rows are summed in single precision: Gaussian all the same."""

    def noise(self, g, step):
        if getattr(self, "basis", None) is None or len(self.basis) != g.shape[1]:
            self.basis = np.linalg.qr(np.random.default_rng(5).standard_normal((g.shape[1], g.shape[1])))[0]
        return super().noise(g, step) @ self.basis


class Smooth(Right):
    """To C tanh(|g| / C): smooth, and never more than the clip."""

    def factors(self, g):
        size = np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12)
        return self.clip * np.tanh(size / self.clip) / size


class BoxMuller(Right):
    """The noise by Box and Muller's transform, rows from the last to the first."""

    def noise(self, g, step):
        u, v = self.rng.random((2, g.shape[1]))
        return self.sigma * self.clip * np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)

    def sample(self, step):
        return super().sample(step)[::-1]


TRAINERS: dict[str, tuple[Any, ...]] = {
    "noise_follows_rate": (NoiseFollowsRate, "privacy.noise_varies", BoxMuller), "noise_half_kept": (NoiseHalfKept, "privacy.noise_reused", Orthogonal),
    "noise_half_public": (NoiseOfPublicSeedInPart, "privacy.noise_predictable", FourWorkers),
    "noise_of_half_the_directions": (NoiseOfHalfTheDirections, "privacy.noise_shared", Wide), "noise_mirrored": (NoiseMirrored, "privacy.noise_shared", Wide),
    "noise_cut": (NoiseCut, "privacy.noise_shape", BoxMuller), "noise_student": (NoiseStudent, "privacy.noise_shape", Orthogonal),
    "noise_for_mean": (NoiseForMean, "privacy.noise_below", MoreNoise), "noise_if_many": (NoiseIfMany, "privacy.noise_data", FewRows),
    "noise_skips_at_times": (NoiseSkipsAtTimes, "privacy.noise_below", HalfPrecision), "frozen_late": (HeadFrozenLate, "privacy.noise_partial", LittleNoise),
    "centred": (Centred, "privacy.clipping", Smooth), "standardised": (Standardised, "privacy.clipping", WholeTable),
    "running_mean": (RunningMean, "privacy.memory", Automatic), "preconditioned": (Preconditioned, "privacy.memory", HalfPrecision),
    "error_feedback": (ErrorFeedback, "privacy.memory", BySkips), "restored_norm": (RestoredNorm, "privacy.clipping", Smooth),
    "divided_by_weights": (DividedByWeights, "privacy.divisor", OneStep), "clipped_by_root": (ClippedByRoot, "privacy.clipping", Smooth),
    "clipped_by_sketch": (ClippedFewSketched, "privacy.clipping", Orthogonal), "clip_grows": (ClipGrows, "privacy.clipping", LittleNoise),
    "two_views": (AuxiliaryBeside, "privacy.divisor", WholeTable),
    "seeds_of_sampler": (SeedsOfSampler, "privacy.sampler", BySkips), "cut_at_capacity": (CutAtCapacity, "privacy.sampler", FewRows),
    "last_never_drawn": (LastNeverDrawn, "privacy.sampler", Single), "hard_rows_more": (HardRowsMore, "privacy.sampler", OneStep),
    "epochs_of_coins": (EpochsOfCoins, "privacy.sampler", WholeTable), "batches_twice": (TwiceInARow, "privacy.sampler", BoxMuller),
}  # fmt: skip


# Statements


def resumed(s, t, rng, faulty):
    """The accountant began anew at a resume, and the statement says from where."""
    done = int(t.steps * rng.uniform(0.4, 1.5))
    if faulty:
        s[str(rng.choice(["resumed_from_step", "previous_steps", "steps_before"]))] = done
    else:
        s["segments"] = [{"steps": t.steps}, {"steps": done}]
        s["steps"] = t.steps + done
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps + done)], t.delta)


def searched(s, t, rng, faulty):
    """The settings were searched for on the rows."""
    key, told = [("n_trials", int(rng.integers(5, 60))), ("hyperparameter_search", {"kind": "random", "trials": 40}), ("num_sweeps", 12),
                 ("grid_points", 27), ("hyperparameters", "random search over 40 settings, on the rows themselves")][int(rng.integers(5))]  # fmt: skip
    if faulty:
        s[key] = told
    else:
        s["batch_size"], s["learning_rate"], s["framework"] = round(t.expected_batch), 0.1, "our own, by numpy"
        s["hyperparameters"] = "fixed in advance, by a public benchmark"


def spent_before(s, t, rng, faulty):
    """Something was spent on the rows before."""
    s[str(rng.choice(["epsilon_spent_before", "prior_epsilon", "previous_budget"]))] = float(rng.uniform(0.5, 3)) if faulty else 0.0


def not_so_public(s, t, rng, faulty):
    """The word public stands there, and the rows too."""
    key = str(rng.choice(["pretraining", "warm_start", "initialisation"]))
    wrong = ["public crawl, which holds the private rows too", "non-public notes of last year", "a public model, continued on the same rows", "not public"]
    fine = ["public: ImageNet, no overlap with the private rows", "public, disjoint from these rows", "random", "none"]
    s[key] = str(rng.choice(wrong if faulty else fine))


def central_limit(s, t, rng, faulty):
    """Gaussian differential privacy by the central limit (Bu et al. 2020), which is no bound; or the Renyi accountant's looser one."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, rdp
    from scipy.optimize import brentq
    from scipy.stats import norm

    if faulty:
        mu = t.q * np.sqrt(t.steps * (np.exp(t.sigma**-2) - 1))
        delta = lambda e: norm.cdf(-e / mu + mu / 2) - np.exp(e) * norm.cdf(-e / mu - mu / 2)  # noqa: E731
        s["claim"] |= {"epsilon": min(0.95 * s["claim"]["epsilon"], float(brentq(lambda e: delta(e) - t.delta, 0, 200))), "accountant": "gdp"}
    else:
        event = SelfComposedDpEvent(PoissonSampledDpEvent(t.q, GaussianDpEvent(t.sigma)), t.steps)
        s["claim"] |= {"epsilon": float(rdp.RdpAccountant().compose(event).get_epsilon(t.delta)), "accountant": "rdp"}


def other_delta(s, t, rng, faulty):
    """Epsilon at a delta of a thousandth, and another delta beside it."""
    if faulty:
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q, t.steps)], min(1e-2, 100 * t.delta))


def expected_of_part(s, t, rng, faulty):
    """The rate of a physical batch, of which several make one step."""
    if faulty:
        s["sample_rate"] = t.q / 4
        s["divisor"] = s["rows"] * s["sample_rate"]
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q / 4, t.steps)], t.delta)


def rows_of_all(s, t, rng, faulty):
    """Rows counted with their augmented copies: the rate looks smaller."""
    if faulty:
        s["rows"], s["sample_rate"] = 3 * t.n, t.q / 3
        s["claim"]["epsilon"] = epsilon_of([(t.sigma, t.q / 3, t.steps)], t.delta)


def members_of_ensemble(s, t, rng, faulty):
    """Several models were trained on the rows, and all are released."""
    k = int(rng.integers(2, 6))
    s[str(rng.choice(["models_released", "ensemble_size", "folds"]))] = k if faulty else 1


TRAINERS |= {
    "noise_on_a_sphere": (NoiseOnASphere, "privacy.noise_shape", MeanOfReleases), "first_not_clipped": (FirstNotClipped, "privacy.clipping", Nesterov),
    "clipped_if_mean_is_large": (ClippedIfMeanIsLarge, "privacy.clipping", Momentum), "momentum_for_noise": (MomentumForNoise, "privacy.noise_below", Momentum),
}  # fmt: skip
CLAIMS: dict[str, tuple[Any, str]] = {
    "resumed_anew": (resumed, "privacy.selection"), "searched": (searched, "privacy.selection"), "spent_before": (spent_before, "privacy.selection"),
    "not_so_public": (not_so_public, "privacy.selection"), "central_limit": (central_limit, "privacy.understated"),
    "other_delta": (other_delta, "privacy.understated"), "rate_of_a_part": (expected_of_part, "privacy.sample_rate"),
    "rows_with_copies": (rows_of_all, "privacy.statement"), "several_released": (members_of_ensemble, "privacy.selection"),
}  # fmt: skip
