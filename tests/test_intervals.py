"""Measured coverage, ends at the boundary, and closed forms.

Coverage over simulated test sets is compared with what the level states, give or take 3.5 standard errors of the simulation: missed no more often in
all, not more than twice its half on either side, and not so rarely that the interval is useless. The study behind the choice of methods is summarised
in docs/verdicts.md.
"""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from modelwright import metrics as M
from modelwright.intervals import Interval, interval, needed_n, over_seeds, paired, within
from modelwright.kind import Metric


def missed(draw, truth, level, times):
    """Share of intervals wholly above and wholly below the truth."""
    rng = np.random.default_rng(7)
    made = [draw(rng, level) for _ in range(times)]
    assert all(i.low <= i.value <= i.high for i in made)
    return np.mean([i.low > truth for i in made]), np.mean([i.high < truth for i in made])


def check(draw, truth, level, times=1000, least=0.3):
    above, below = missed(draw, truth, level, times)
    error = 1 - level
    spare = 3.5 * math.sqrt(error / times)
    assert least * error - spare <= above + below <= error + spare, (above, below)
    assert max(above, below) <= error + spare / 2**0.5, (above, below)


LEVELS = pytest.mark.parametrize("level", [0.95, 0.99])


@LEVELS
@pytest.mark.parametrize(("n", "p"), [(30, 0.8), (200, 0.93)])
def test_coverage_of_accuracy(level, n, p):
    check(lambda rng, level: interval(Metric.mean(rng.random(n) < p), n, level=level), p, level, 4000)


def clustered_rows(rng):
    cluster = np.repeat(np.arange(40), rng.poisson(9, 40) + 1)
    right = rng.random(len(cluster)) < rng.beta(0.9 * 4, 0.1 * 4, 40)[cluster]  # intra-cluster correlation 0.2
    return Metric.mean(right), len(cluster), cluster


@LEVELS
def test_coverage_of_clustered_accuracy(level):
    def draw(rng, level):
        metric, n, cluster = clustered_rows(rng)
        return interval(metric, n, level=level, clusters=cluster)

    def as_if_alone(rng, level):
        metric, n, _ = clustered_rows(rng)
        return interval(metric, n, level=level)

    check(draw, 0.9, level, 2000)
    assert sum(missed(as_if_alone, 0.9, level, 1000)) > 3 * (1 - level)


AUC = stats.norm.cdf(1.5 / 2**0.5)


@pytest.mark.parametrize(("level", "n", "positive"), [(0.95, 60, 0.5), (0.95, 120, 0.15), (0.99, 120, 0.15)])
def test_coverage_of_auroc(level, n, positive):
    def draw(rng, level):
        truth = rng.random(n) < positive
        score = rng.normal(size=n) + 1.5 * truth
        return interval(Metric(lambda i: M.auroc(truth[i], score[i])), n, level=level)

    check(draw, AUC, level, 300)


@LEVELS
def test_coverage_of_rmse(level):
    def draw(rng, level):
        error = rng.normal(size=80)
        return interval(Metric(lambda i: M.rmse(error[i], np.zeros(len(i))), better="lower"), 80, level=level)

    check(draw, 1.0, level, 800)


@LEVELS
def test_coverage_of_a_skewed_mean(level):
    check(lambda rng, level: interval(Metric.mean(rng.exponential(size=60), "lower"), 60, level=level), 1.0, level, 2000)


@LEVELS
def test_coverage_of_a_paired_difference(level):
    def draw(rng, level):
        kind = rng.choice(4, 300, p=[0.6, 0.3, 0.07, 0.03])
        a, b = (np.array(x, float)[kind] for x in ((1, 0, 1, 0), (1, 0, 0, 1)))
        return paired(Metric.mean(a), Metric.mean(b), 300, level=level)

    check(draw, 0.04, level, 2000)


def test_clopper_pearson_inverts_the_binomial_test():
    rows = np.array([1] * 46 + [0] * 4)
    found = interval(Metric.mean(rows), 50, level=0.95)
    assert stats.binom.sf(45, 50, found.low) == pytest.approx(0.025) and stats.binom.cdf(46, 50, found.high) == pytest.approx(0.025)
    assert found.method == "Clopper-Pearson" and found.value == 0.92


def test_mean_matches_students_t_where_all_rows_bear_alike():
    rows = np.random.default_rng(0).choice([-1.0, 3.0], 400)  # Satterthwaite's degrees of freedom are then at most n - 1, and large
    found = interval(Metric.mean(rows), 400, level=0.9)
    half = stats.norm.ppf(0.95) * rows.std(ddof=1) / 20
    assert found.high - found.value == pytest.approx(half, rel=0.02) and found.value - found.low == pytest.approx(half, rel=0.02)


def test_clusters_of_identical_rows_are_one_row_each():
    rng = np.random.default_rng(1)
    one = rng.lognormal(size=50)
    alone = interval(Metric.mean(one), 50, level=0.95)
    tripled = interval(Metric.mean(np.repeat(one, 3)), 150, level=0.95, clusters=np.repeat(np.arange(50) * 7 - 3, 3))
    assert (tripled.value, tripled.low, tripled.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_mean_without_rows_gets_the_same_interval():
    x = np.random.default_rng(2).normal(5, 2, 90)
    cluster = np.arange(90) // 3
    for clusters in (None, cluster):
        closed = interval(Metric.mean(x), 90, level=0.95, clusters=clusters)
        resampled = interval(Metric(lambda i: x[i].mean()), 90, level=0.95, clusters=clusters)
        assert (closed.low, closed.high) == pytest.approx((resampled.low, resampled.high))


def test_unknown_rows_are_left_out():
    rows = np.array([1, 0, 1, np.nan, 1, np.nan])
    assert interval(Metric.mean(rows), 6, level=0.95) == interval(Metric.mean([1, 0, 1, 1]), 4, level=0.95)
    clusters = np.array([0, 0, 1, 2, 3, 3])
    assert interval(Metric.mean(rows), 6, level=0.95, clusters=clusters).method == "Korn-Graubard, 3 clusters"
    assert math.isnan(interval(Metric.mean([np.nan] * 3), 3, level=0.95).value)


def test_no_interval_has_zero_width_at_the_boundary():
    truth, score = np.arange(60) < 12, np.where(np.arange(60) < 12, 1.0, 0.0) + np.linspace(0, 0.5, 60)
    perfect = interval(Metric(lambda i: M.auroc(truth[i], score[i])), 60, level=0.95)
    assert perfect.value == perfect.high == 1 and perfect.low == pytest.approx(0.025 ** (1 / 60))
    careful = interval(Metric(lambda i: M.auroc(truth[i], score[i]), of=truth.astype(int)), 60, level=0.95)  # the smaller class decides
    assert careful.low == pytest.approx(0.025 ** (1 / 12)) and careful.low < perfect.low
    accuracy = interval(Metric.mean(np.ones(50)), 50, level=0.95)
    assert accuracy.low == pytest.approx(0.025 ** (1 / 50)) and accuracy.high == 1  # the exact bound for 0 failures
    assert interval(Metric.mean(np.zeros(50)), 50, level=0.95).high == pytest.approx(1 - 0.025 ** (1 / 50))
    clustered = interval(Metric.mean(np.ones(50)), 50, level=0.95, clusters=np.arange(50) // 10)
    assert clustered.low == pytest.approx(0.025 ** (1 / 5))
    returns = interval(Metric.mean(np.full(100, 500.0)), 100, level=0.95)
    assert 475 < returns.low < 500 < returns.high
    nothing_wrong = interval(Metric.mean(np.full(20, 0.25), "lower"), 20, level=0.95)
    assert 0 < nothing_wrong.low < 0.25 < nothing_wrong.high
    errorless = interval(Metric(lambda i: M.rmse(truth[i], truth[i] + 0.0), better="lower"), 60, level=0.95)
    assert errorless.value == 0 and errorless.high == math.inf  # nothing says how large the first error will be
    same = Metric.mean(np.random.default_rng(0).random(100) < 0.8)
    equal = paired(same, same, 100, level=0.95)
    assert equal.value == 0 and equal.high == -equal.low == pytest.approx(1 - 0.025 ** (1 / 100))


def test_too_few_rows_give_no_ends():
    truth, score = np.arange(40) == 3, np.random.default_rng(0).random(40)
    one_positive = interval(Metric(lambda i: M.auroc(truth[i], score[i])), 40, level=0.95)
    assert one_positive.value == M.auroc(truth, score) and math.isnan(one_positive.low) and math.isnan(one_positive.high)
    undefined = interval(Metric(lambda i: M.auroc(truth[i] & False, score[i])), 40, level=0.95)
    assert math.isnan(undefined.value) and math.isnan(undefined.low)
    for rows in ([2.5], []):
        assert math.isnan(interval(Metric.mean(rows), len(rows), level=0.95).low)
    assert interval(Metric.mean([1.0]), 1, level=0.95).low == pytest.approx(0.025)
    assert math.isnan(interval(Metric.mean([1.0, 0.0, 1.0]), 3, level=0.95, clusters=np.zeros(3, int)).low)
    assert math.isnan(paired(Metric.mean([np.nan]), Metric.mean([1.0]), 1, level=0.95).value)


def test_ends_stay_where_the_metric_lives_and_widen_with_the_level():
    rng = np.random.default_rng(3)
    truth = rng.random(50) < 0.3
    score = rng.normal(size=50) + 3 * truth
    made = [interval(Metric(lambda i: M.auroc(truth[i], score[i])), 50, level=level) for level in (0.9, 0.99, 0.998, 0.9999)]
    assert all(i.high < 1 for i in made) and all(a.low > b.low and a.high < b.high for a, b in pairwise(made))
    error = rng.lognormal(0, 2, 30)
    assert interval(Metric.mean(error, "lower"), 30, level=0.999).low > 0
    reward = np.random.default_rng(0).normal(0.8, 3, 40)  # a mean below 1 of rows that are not bounded by 1
    assert interval(Metric.mean(reward), 40, level=0.95).high > 1
    r2 = interval(Metric(lambda i: M.r2(error[i], error[i][::-1])), 30, level=0.95)
    assert r2.low < r2.value < r2.high


def test_large_samples_use_groups_and_a_seed():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 10_000)
    score = rng.normal(size=10_000) + truth
    metric = Metric(lambda i: M.auroc(truth[i], score[i]))
    start = time.perf_counter()
    first = interval(metric, 10_000, level=0.998, seed=1)
    assert time.perf_counter() - start < 2
    assert first == interval(metric, 10_000, level=0.998, seed=1) != interval(metric, 10_000, level=0.998, seed=2)
    positive, negative = score[truth == 1], score[truth == 0]  # DeLong's variance, the closed form for auroc
    over = (np.searchsorted(np.sort(negative), positive) / len(negative), 1 - np.searchsorted(np.sort(positive), negative) / len(positive))
    delong = sum(x.var(ddof=1) / len(x) for x in over) ** 0.5
    assert first.high - first.low == pytest.approx(2 * stats.norm.ppf(0.999) * delong, rel=0.2)
    grouped = interval(metric, 10_000, level=0.95, clusters=np.arange(10_000) // 10)
    assert "200 groups" not in grouped.method and "clusters" in grouped.method


def test_paired_is_narrower_than_apart():
    rng = np.random.default_rng(5)
    truth = rng.random(300) < 0.4
    a = rng.normal(size=300) + 1.2 * truth
    b = a + 0.3 * rng.normal(size=300)
    first, second = (Metric(lambda i, s=s: M.auroc(truth[i], s[i])) for s in (a, b))
    together = paired(first, second, 300, level=0.95)
    apart = [interval(m, 300, level=0.95) for m in (first, second)]
    assert together.value == pytest.approx(apart[0].value - apart[1].value)
    assert together.high - together.low < 0.6 * sum((i.high - i.low) for i in apart) / 2


def test_over_seeds():
    values = np.array([0.91, 0.93, 0.92, 0.90, 0.94])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    found = over_seeds(values, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((0.92, low, high))
    assert math.isnan(over_seeds([0.9]).low) and math.isnan(over_seeds([]).value)


def test_needed_n():
    assert needed_n(0.92, 0.88, 0.96, 0.90, 100) == 401  # twice as near as the end: four times the rows
    assert needed_n(0.88, 0.80, 0.92, 0.90, 100) == 401  # below the limit the upper end must come down
    assert needed_n(0.90, 0.85, 0.95, 0.90, 100) is None and needed_n(0.9, math.nan, math.nan, 0.8, 100) is None
    assert needed_n(1.0, 0.7, 1.0, 0.9, 10) > 10
    rng = np.random.default_rng(6)
    rows = rng.random(200) < 0.93
    found = interval(Metric.mean(rows), 200, level=0.95)
    n = needed_n(found.value, found.low, found.high, 0.91, 200)
    assert interval(Metric.mean(np.resize(rows, n)), n, level=0.95).low > 0.909  # rows like these, as many as it says


def test_interval_is_a_value():
    assert Interval(1, 0, 2, "x") == Interval(1, 0, 2, "x")


def test_one_row_that_differs_does_not_make_an_interval_of_anything():
    one, level = np.r_[np.ones(127), 0.8], 0.9875
    assert interval(Metric.mean(one), 128, level=level).low < 0 < 0.9 < within(one, -1, 1, level=level).low < 0.9984
    two = np.r_[np.ones(100), -np.ones(28)]  # all at the ends: Clopper-Pearson of the share, exactly
    share = interval(Metric.mean((two + 1) / 2), 128, level=level)
    found = within(two, -1, 1, level=level)
    assert (found.low, found.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1)) or found.high - found.low <= 2 * (share.high - share.low)
    spread = np.random.default_rng(0).uniform(-1, 1, 128)
    assert within(spread, -1, 1, level=level) == interval(Metric.mean(spread), 128, level=level)
    assert math.isnan(within(np.zeros(0), -1, 1, level=level).low)


def test_a_share_that_rests_on_its_rarest_class_is_never_wider_than_that_of_so_many_rows():
    """Two wrong rows of 400 leave the jackknife next to no degrees of freedom; copies of the rows in clusters narrow nothing."""
    y, said = np.arange(400) % 10 == 0, np.arange(400) % 10 == 0
    said[[10, 11]] = [False, True]
    f1 = Metric(lambda i: M.f1(y[i].astype(int), said[i].astype(int)), of=y.astype(int))
    wild, i = interval(Metric(f1.value), 400, level=0.998), interval(f1, 400, level=0.998)
    assert wild.low < 0.2 and 0.8 < i.low < i.value < i.high < 1 and "40 rows of the rarest class" in i.method
    again = Metric(lambda i: M.f1(y[i % 400].astype(int), said[i % 400].astype(int)), of=np.tile(y, 3).astype(int))
    tripled = interval(again, 1200, level=0.998, clusters=np.arange(1200) % 400)
    assert (tripled.low, tripled.high) == pytest.approx((i.low, i.high))


@pytest.mark.parametrize("name", ["auroc", "average_precision", "f1", "balanced_accuracy"])
def test_such_a_share_still_covers_near_one(name):
    rng, measure = np.random.default_rng(0), getattr(M, name)
    y = np.arange(100) < 20
    ranks = name in ("auroc", "average_precision")

    def drawn(n):
        s = rng.normal(size=n * 100) + 4 * np.tile(y, n)
        return s if ranks else (s > 2).astype(int)

    truth, missed = measure(np.tile(y, 2000).astype(int), drawn(2000)), 0
    for _ in range(150):
        s = drawn(1)
        i = interval(Metric(lambda r, s=s: measure(y[r].astype(int), s[r]), of=y.astype(int)), 100, level=0.95)
        missed += not i.low <= truth <= i.high
    assert missed <= 0.1 * 150
