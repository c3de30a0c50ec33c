"""A right trainer passes; every way of doing it wrong is found and named; the noise's tests err as rarely as they say."""

import numpy as np
import pytest
import torch

from modelwright.audits import _noise, _sampling
from modelwright.audits._accounting import composed, epsilon_of, replacing
from modelwright.audits.private_training import ALPHA, PrivateTraining, self_test, spread
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.foreign import trainer
from modelwright.subject import Subject

EPSILON = epsilon_of(((1.1, 0.02, 100),), 1e-4)


class Right:
    n, q, sigma, clip, steps, delta, layers, expected_batch = 2000, 0.02, 1.1, 2.0, 100, 1e-4, [0, 20, 50], 40.0

    def __init__(self):
        self.restart(0)

    def restart(self, seed):
        self.rng = np.random.default_rng(seed)

    def sample(self, step):
        return np.flatnonzero(self.rng.random(self.n) < self.q)

    def clipped(self, g):
        return g * np.minimum(1, self.clip / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12))

    def noise(self, step):
        return self.sigma * self.clip * self.rng.standard_normal(50)

    def privatize(self, g, step):
        return (self.clipped(g).sum(0) + self.noise(step)) / self.expected_batch


def statement(**change):
    claim = {"epsilon": EPSILON * 1.001, "delta": 1e-4, "accountant": "pld", "neighbours": "add/remove"} | change.pop("claim", {})
    made = {"claim": claim, "rows": 2000, "sample_rate": 0.02, "noise_multiplier": 1.1, "clip": 2.0, "steps": 100, "divisor": 40.0} | change
    return {k: v for k, v in made.items() if v is not ...}


def audited(made, seconds=None, **change):
    subject = Subject(None, Schema({}, {}), {}, lineage={"statement": statement(**change)}, trainer=trainer.here(made), seconds=seconds)
    return PrivateTraining().measure(subject)


def found(made, **change):
    return audited(made, **change)[0].reasons


def wrong(**methods):
    return type("Wrong", (Right,), methods)()


def test_a_right_trainer_carries_its_claim():
    epsilon, noise, rate = audited(Right())
    assert epsilon.value == pytest.approx(EPSILON, rel=2e-3) and epsilon.reasons == [] and epsilon.details["measured"]["reproducible"]
    assert noise.low < 1.1 < noise.high and noise.high - noise.low < 0.1 and rate.low < 0.02 < rate.high
    assert epsilon.details["measured"]["divisor"]["measured"]["8"] == pytest.approx(40)


def test_with_tensors_in_single_precision():
    class Torch(Right):
        layers = {"a": (5, 4), "b": (30,)}

        def privatize(self, g, step):
            factor = (self.clip / g.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
            noise = torch.from_numpy(self.rng.standard_normal(50)).float() * self.sigma * self.clip
            return ((g * factor).sum(0) + noise) / self.expected_batch

    assert found(Torch()) == []


def test_small_rows_may_be_scaled_up_as_long_as_each_is_by_itself():
    """Automatic clipping (Bu et al. 2023); where the batch decides, it is no constant."""

    def automatic(self, g):
        return g * self.clip / (np.linalg.norm(g, axis=1, keepdims=True) + 0.01)

    def together(self, g):
        return g * self.clip / (np.linalg.norm(g, axis=1, keepdims=True).sum() + 0.01)

    made = audited(wrong(clipped=automatic))[0]
    assert made.reasons == [] and made.details["measured"]["divisor"]["measured"]["8"] == pytest.approx(40, rel=0.01)
    assert found(wrong(clipped=together)) != []


def test_momentum_after_the_noise_is_everybodys_business():
    """Of private releases; noise that falls short is still found, and so is momentum of what has no noise yet."""

    def moving(inner, share=1.0, nesterov=False):
        def privatize(self, g, t):
            u = inner(self, g, t)
            self.v = 0.9 * self.v + share * u
            return u + 0.9 * self.v if nesterov else self.v

        return privatize

    def restart(self, seed):
        Right.restart(self, seed)
        self.v = 0.0

    for made in (moving(Right.privatize), moving(Right.privatize, share=0.1), moving(Right.privatize, nesterov=True)):
        epsilon = audited(wrong(restart=restart, privatize=made))[0]
        assert epsilon.reasons == [] and epsilon.details["measured"]["momentum"] == pytest.approx(0.9)
    assert found(wrong(restart=restart, privatize=moving(Right.privatize), noise=lambda self, t: 0.8 * Right.noise(self, t))) == ["privacy.noise_below"]
    sums = moving(lambda self, g, t: self.clipped(g).sum(0) / 40)
    assert "privacy.memory" in found(wrong(restart=restart, privatize=lambda self, g, t: sums(self, g, t) + self.noise(t) / 40))


def test_noise_at_some_steps_and_noise_in_few_values():
    assert "privacy.noise_varies" in found(wrong(noise=lambda self, step: Right.noise(self, step) * (step % 10 == 0)))
    assert "privacy.noise_shape" in found(wrong(noise=lambda self, step: 0.5 * np.round(2 * Right.noise(self, step))))


def test_a_trainer_that_cannot_be_repeated_is_measured_by_means():
    def entropy(self, seed):
        self.rng = np.random.default_rng()

    assert found(wrong(restart=entropy)) == []
    assert "privacy.clipping" in found(wrong(restart=entropy, clipped=lambda self, g: g))
    assert "privacy.divisor" in found(wrong(restart=entropy, privatize=lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t)) / max(1, len(g))))


FEW = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 50)))[0][:40]


def in_rounds(self, size=10):
    """Noise that is nothing after every ten steps."""
    if not getattr(self, "left", []):
        z = self.rng.standard_normal((size, 50))
        self.left = list(2.2 * (z - z.mean(0)) / (1 - 1 / size) ** 0.5)
    return self.left.pop()


def beside(noise, g):
    along = g.sum(0)
    return noise - along * (noise @ along) / (along @ along) if along @ along > 1e-20 else noise


def at_most(g, bound):
    return g * np.minimum(1, bound / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-12))


def before(self, g):
    """Half of the rows of the step before, as many as there are now."""
    kept, self.kept = getattr(self, "kept", np.zeros((1, 50))), Right.clipped(self, g)
    return np.tile(kept.mean(0) if len(kept) else np.zeros(50), (len(g), 1)) / 2


def half_kept(self, t):
    """Half of the variance comes from a table of draws that go round."""
    if not hasattr(self, "table"):
        self.table = np.random.default_rng(self.rng.integers(2**60)).standard_normal((30, 50))
    return 2.2 * (self.table[t % 30] + self.rng.standard_normal(50)) / 2**0.5


def half_known(self, seed):
    Right.restart(self, seed)
    self.known = np.random.default_rng(7)


def at_the_end(self, g, t):
    """What clipping cut off is put back in step 60."""
    self.kept = (getattr(self, "kept", 0.0) if t else 0.0) + (g - self.clipped(g)).sum(0)
    return Right.privatize(self, g, t) + (self.kept if t == 60 else 0.0)


def hard_ones(self, t):
    p = np.where(getattr(self, "hard", np.zeros(2000, bool)), 0.06, 0.02)
    self.last = np.flatnonzero(self.rng.random(2000) < p)
    return self.last


def and_remembered(self, g, t):
    if len(g) == len(getattr(self, "last", ())):
        self.hard = getattr(self, "hard", np.zeros(2000, bool))
        self.hard[self.last] |= np.linalg.norm(g, axis=1) > 2
    return Right.privatize(self, g, t)


def less(self, g):
    """Less noise where the sum is smaller than the one before."""
    size, falls = np.linalg.norm(Right.clipped(self, g).sum(0)), getattr(self, "size", 0.0)
    self.size = size
    return 0.4 if size < falls else 1.0


@pytest.mark.parametrize(
    "code, methods",
    [
        ("privacy.no_noise", {"noise": lambda self, t: np.zeros(50)}),
        ("privacy.noise_below", {"noise": lambda self, t: 0.8 * Right.noise(self, t)}),
        ("privacy.noise_partial", {"noise": lambda self, t: Right.noise(self, t) * (np.arange(50) < 45)}),
        ("privacy.noise_varies", {"noise": lambda self, t: Right.noise(self, t) * (1 - 0.5 * t / 100)}),
        ("privacy.noise_predictable", {"noise": lambda self, t: 2.2 * np.random.default_rng(t).standard_normal(50)}),
        ("privacy.noise_shared", {"noise": lambda self, t: 2.2 * np.tile(self.rng.standard_normal(25), 2)}),
        ("privacy.noise_shape", {"noise": lambda self, t: 2.2 * self.rng.uniform(-(3**0.5), 3**0.5, 50)}),
        ("privacy.noise_data", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t) * min(1, len(g) / 40)) / 40}),
        ("privacy.empty_batch", {"privatize": lambda self, g, t: Right.privatize(self, g, t) if len(g) else np.zeros(50)}),
        ("privacy.clipping", {"clipped": lambda self, g: g.clip(-2, 2)}),
        ("privacy.clipping", {"clipped": lambda self, g: Right.clipped(self, g.sum(0, keepdims=True))}),
        ("privacy.clipping", {"clipped": lambda self, g: np.hstack([Right.clipped(self, g[:, :20]), Right.clipped(self, g[:, 20:])])}),
        ("privacy.divisor", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t)) / max(1, len(g))}),
        ("privacy.sampler", {"sample": lambda self, t: self.rng.permutation(2000)[:40]}),
        ("privacy.sampler", {"sample": lambda self, t: self.rng.integers(0, 2000, 40)}),
        ("privacy.sample_rate", {"sample": lambda self, t: np.flatnonzero(self.rng.random(2000) < 0.025)}),
        ("privacy.code", {"sample": lambda self, t: 1 / 0}),
        ("privacy.noise_reused", {"noise": lambda self, t: in_rounds(self)}),
        ("privacy.noise_shared", {"noise": lambda self, t: 2.2 * (self.rng.standard_normal(40) @ FEW)}),
        ("privacy.noise_predictable", {"restart": lambda self, seed: Right.restart(self, seed % 16)}),
        ("privacy.noise_data", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + beside(self.noise(t), g)) / 40}),
        ("privacy.clipping", {"clipped": lambda self, g: at_most(g, min(2.0, np.median(np.linalg.norm(g, axis=1))) if len(g) else 2.0)}),
        ("privacy.clipping", {"clipped": lambda self, g: np.vstack([Right.clipped(self, g[:45]), g[45:]])}),
        ("privacy.memory", {"clipped": lambda self, g: Right.clipped(self, g) / 2 + before(self, g)}),
        ("privacy.memory", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t) * less(self, g)) / 40}),
        ("privacy.noise_data", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t) * ((g != 0).any(0) | (len(g) == 0))) / 40}),
        ("privacy.noise_shape", {"noise": lambda self, t: Right.noise(self, t) * (self.rng.random(50) > 0.05) / 0.95**0.5}),
        ("privacy.clipping", {"clipped": lambda self, g: np.vstack([g[:1], Right.clipped(self, g[1:])])}),
        ("privacy.clipping", {"clipped": lambda self, g: Right.clipped(self, g) if len(g) and np.linalg.norm(g.mean(0)) > 1 else g}),
        ("privacy.noise_shape", {"noise": lambda self, t: 2.2 * 50**0.5 * (z := self.rng.standard_normal(50)) / np.linalg.norm(z)}),
        ("privacy.noise_reused", {"noise": half_kept}),
        ("privacy.noise_predictable", {"restart": half_known, "noise": lambda self, t: (Right.noise(self, t) + 2.2 * self.known.standard_normal(50)) / 2**0.5}),
        ("privacy.noise_data", {"privatize": lambda self, g, t: (self.clipped(g).sum(0) + self.noise(t) * (0.5 if len(g) > 60 else 1)) / 40}),
        ("privacy.memory", {"privatize": at_the_end}),
        ("privacy.sampler", {"sample": hard_ones, "privatize": and_remembered}),
        ("privacy.sampler", {"sample": lambda self, t: np.flatnonzero(self.rng.random(2000) < 0.02)[:52]}),
    ],
)
def test_what_is_done_wrongly_is_named(code, methods):
    line = audited(wrong(**methods))[0]
    assert code in line.reasons and line.value is None and line.details["why"]


@pytest.mark.parametrize(
    "code, change",
    [
        ("privacy.understated", {"claim": {"epsilon": 0.9 * EPSILON}}),
        ("privacy.understated", {"tuning_runs": 4}),
        ("privacy.understated", {"segments": [{"steps": 70}]}),
        ("privacy.steps", {"steps": 60}),
        ("privacy.delta", {"claim": {"delta": 1e-3}}),
        ("privacy.neighbours", {"claim": {"neighbours": "replace-one"}}),
        ("privacy.neighbours", {"claim": {"neighbours": "add or remove one patient"}}),
        ("privacy.understated", {"seeds": [0, 1, 2]}),
        ("privacy.understated", {"best_of": 5}),
        ("privacy.selection", {"early_stopping": "best validation loss"}),
        ("privacy.selection", {"warm_start": "last month's model"}),
        ("privacy.selection", {"teacher": "an ensemble of these rows"}),
        ("privacy.selection", {"normalisation": "mean and spread of all rows"}),
        ("privacy.selection", {"previous_steps": 400}),
        ("privacy.selection", {"n_trials": 40}),
        ("privacy.selection", {"hyperparameter_search": {"kind": "random", "trials": 40}}),
        ("privacy.selection", {"hyperparameters": "random search on the rows"}),
        ("privacy.selection", {"pretraining": "public crawl, which holds the private rows too"}),
        ("privacy.selection", {"warm_start": "not public"}),
        ("privacy.selection", {"prior_epsilon": 1.0}),
        ("privacy.divisor", {"divisor": "the drawn batch size"}),
        ("privacy.statement", {"noise_multiplier": 1.3, "claim": {"epsilon": epsilon_of(((1.3, 0.02, 100),), 1e-4)}}),
        ("privacy.incomplete", {"clip": ...}),
        ("privacy.invalid", {"noise_multiplier": 0}),
    ],
)
def test_a_statement_that_does_not_carry_its_claim(code, change):
    assert code in found(Right(), **change)


def test_choices_that_looked_at_nothing_private_cost_nothing():
    harmless = {"seeds": 1, "warm_start": "public: ImageNet", "early_stopping": "none", "rows_per_person": 1, "tuning": [], "normalization": "group norm"}
    assert found(Right(), **harmless, claim={"neighbours": "add or remove one patient"}) == []
    said = {"pretraining": "public: ImageNet, no overlap with the private rows", "previous_steps": 0, "ensemble_size": 1, "batch_size": 40, "lr": 0.1}
    assert found(Right(), **said, tuning_runs=1, hyperparameters="fixed in advance") == []


@pytest.mark.parametrize("kind", [np.float16, "bfloat16"])
def test_what_is_released_may_be_rounded_after_the_noise(kind):
    def privatize(self, g, t):
        x = Right.privatize(self, g, t).astype(np.float32)
        return x.astype(kind) if kind is np.float16 else (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    assert found(wrong(privatize=privatize)) == []
    assert "privacy.clipping" in found(wrong(privatize=privatize, clipped=lambda self, g: g))
    assert "privacy.noise_below" in found(wrong(privatize=privatize, noise=lambda self, t: 0.8 * Right.noise(self, t)))


def test_few_seeds_of_the_sampler_alone_are_found():
    def restart(self, seed):
        Right.restart(self, seed)
        self.coins = np.random.default_rng(seed % 64)

    assert found(wrong(restart=restart, sample=lambda self, t: np.flatnonzero(self.coins.random(2000) < 0.02))) == ["privacy.sampler"]


def test_noise_that_is_related_as_a_whole():
    """The sum of squared cosines errs as rarely as it says, for few and many directions, and finds half as many directions, and a part that comes again."""
    rng, alarms = np.random.default_rng(3), 0
    for k in range(300):
        m, d = [(24, 800), (200, 50), (400, 4), (60, 12)][k % 4]
        alarms += _noise.related(rng.standard_normal((m, d)), 0.01)[0]
    assert alarms <= 10
    uneven = np.where((np.arange(200)[:, None] < 100) | (np.arange(60) < 30), 1.0, 0.0) * np.arange(1, 61)
    assert not any(_noise.related(uneven * rng.standard_normal((200, 60)), 0.001)[0] for _ in range(20)), "sizes that differ are another matter"
    half = rng.standard_normal((24, 400)) @ rng.standard_normal((400, 800))
    assert _noise.related(half, ALPHA) == (True, True)
    table = np.tile(rng.standard_normal((20, 60)), (10, 1)) + rng.standard_normal((200, 60))
    assert _noise.related(table, ALPHA) == (True, False)


def test_time_that_is_over_and_objects_that_are_no_trainers():
    assert "privacy.budget" in audited(Right(), seconds=0.0)[0].reasons
    with pytest.raises(Refusal, match="has no privatize"):
        trainer.here(type("Half", (), {"sample": print, "restart": print})())
    with pytest.raises(Refusal, match="two small gradients"):
        trainer.here(wrong(privatize=lambda self, g, t: g))


@pytest.mark.parametrize(
    "layers, dimensions",
    [([0, 20, 50], 50), ([20, 30], 50), ([(0, 20), (20, 50)], 50), ([slice(0, 20), slice(20, 50)], 50), ({"w": (5, 4), "b": 30}, 50), (None, 64), (50, 50)],
)
def test_layers_are_read_in_many_ways(layers, dimensions):
    assert trainer.candidates(layers)[0][-1][1] == dimensions


def test_tests_of_noise_and_rows_err_as_rarely_as_they_say():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(150):
        d, m = int(rng.integers(2, 60)), 120
        z = 0.7 * rng.standard_normal((m, d))
        alarms += bool(_noise.check(z, np.arange(m), np.arange(m) // 60, 0.7, [[0, d // 2], [d // 2, d]], 0.01)[0])
        n, q = int(rng.integers(200, 900)), float(rng.uniform(0.01, 0.2))
        drawn = [[np.flatnonzero(rng.random(n) < q) for _ in range(60)] for _ in range(2)]
        alarms += bool(_sampling.check(drawn, n, q, 0.01)[0])
    assert alarms <= 0.01 * 12 * 150 + 10, "about six tests each at one in a hundred"


def test_composition_and_replacement():
    said = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10}
    assert composed({**said, "segments": [{"steps": 4}, {"steps": 6}]}) == [(1.0, 0.1, 4), (1.0, 0.1, 6)]
    assert composed({**said, "segments": [{"steps": 5}]}) == [(1.0, 0.1, 10), (1.0, 0.1, 5)]
    assert composed({**said, "tuning_runs": [{"steps": 3}]}) == [(1.0, 0.1, 10), (1.0, 0.1, 3)]
    once = ((2.0, 0.05, 50),)
    half = replacing(once, 1e-5) / 2
    assert (1 + np.exp(half)) * 1e-5 / (1 + np.exp(half)) == pytest.approx(1e-5) and half >= epsilon_of(once, 1e-5)
    assert epsilon_of(once, 1e-5 / (1 + np.exp(half)) * 0.99) >= half * 0.97, "no larger than group privacy asks"
    assert spread(10, 20) == list(range(10)) and spread(1000, 20)[-1] == 999 and len(spread(1000, 20)) <= 20


def test_the_self_test_holds():
    assert self_test() and 0 < ALPHA < 1e-3


def test_4096_secrets_are_too_few():
    """The seed of the noise is one of so many: nobody sees it, and whoever has the code tries them all."""

    def restart(self, seed):
        Right.restart(self, seed)
        self.rng = np.random.default_rng(int(np.random.default_rng(seed).integers(4096)))

    assert "privacy.noise_predictable" in found(wrong(restart=restart))
    assert not found(Right())
