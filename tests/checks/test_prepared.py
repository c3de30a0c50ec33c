"""What was fitted on all rows is told from what was fitted on the training rows, and from raw columns."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from modelwright.checks.prepared import counted, each_alone, encoded, filled_by, prepared


@pytest.mark.parametrize("made", [StandardScaler, MinMaxScaler])
@pytest.mark.parametrize("seed", range(5))
def test_scaled_on_all_rows(made, seed):
    x = np.random.default_rng(seed).normal(5, 3, (500, 1))
    x[0], x[450] = -30, 40  # the extremes lie in different splits

    def split(y):
        return [y[:300, 0], y[300:350, 0], y[350:, 0]]

    assert prepared(split(made().fit_transform(x))) is not None
    assert prepared(split(made().fit(x[:300]).transform(x))) is None and prepared(split(x)) is None


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_filled_in_with_what_all_rows_say(strategy):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (500, 1))
    x[rng.random(500) < 0.1] = np.nan
    whole, own = SimpleImputer(strategy=strategy).fit_transform(x)[:, 0], SimpleImputer(strategy=strategy).fit(x[:300]).transform(x)[:, 0]
    assert strategy in prepared([whole[:300], whole[300:]])
    assert prepared([own[:300], own[300:]]) is None


def test_raw_columns_of_many_sorts_are_let_be():
    rng = np.random.default_rng(1)
    for make in (rng.normal, rng.random, rng.exponential, lambda size: rng.poisson(3, size), lambda size: np.round(rng.random(size), 2)):
        assert all(prepared([(x := make(size=400).astype(float))[:280], x[280:]]) is None for _ in range(200))


@pytest.mark.parametrize(
    "made", [PCA(1), RobustScaler(), MaxAbsScaler(), QuantileTransformer(), QuantileTransformer(output_distribution="normal")]
)
@pytest.mark.filterwarnings("ignore:n_quantiles")
def test_other_ways_of_preparing_on_all_rows(made):
    x = np.random.default_rng(3).normal(5, 3, (500, 1))
    x[450] = 40
    whole, own = made.fit_transform(x)[:, 0], made.fit(x[:300]).transform(x)[:, 0]
    assert prepared([whole[:300], whole[300:]]) is not None and prepared([own[:300], own[300:]]) is None


def test_categories_written_as_the_mean_of_the_target():
    rng = np.random.default_rng(0)
    town, y = rng.integers(0, 20, 600), rng.integers(0, 2, 600).astype(float)
    for rows, found in ((slice(None), True), (slice(400), False)):
        x = np.array([y[rows][town[rows] == t].mean() for t in range(20)])[town]
        assert (encoded([x[:400], x[400:]], [y[:400], y[400:]]) is not None) == found
    assert encoded([(z := rng.random(20)[town])[:400], z[400:]], [y[:400], y[400:]]) is None


@pytest.mark.parametrize("share", [False, True])
def test_a_category_written_as_its_number_of_rows(share):
    rng = np.random.default_rng(2)
    town = np.minimum(rng.geometric(0.1, 900), 30)
    whole, own = (np.bincount(town[rows], minlength=31) / (rows.stop if share else 1) for rows in (slice(0, 900), slice(0, 600)))
    assert "count" in counted([whole[town][:600], whole[town][600:]])
    assert counted([own[town][:600], own[town][600:]]) is None
    for make in (lambda: rng.poisson(9, 900) + 1, lambda: rng.permutation(900), lambda: np.ones(900), lambda: rng.random(900), lambda: rng.integers(0, 2, 900)):
        assert all(counted([(x := make().astype(float))[:600], x[600:]]) is None for _ in range(200))


def test_gaps_filled_in_with_the_mean_of_a_group():
    rng = np.random.default_rng(3)
    site, gap = rng.integers(0, 4, 900), rng.random(900) < 0.15
    x, parts = rng.normal(site, 2), (slice(0, 600), slice(600, 900))
    for fit, expected in ((np.arange(900) < 900, True), (np.arange(900) < 600, False)):
        means = np.array([x[(site == g) & ~gap & fit].mean() for g in range(4)])
        made = np.where(gap, means[site], x)
        assert (filled_by([made[p] for p in parts], [site[p] for p in parts]) is not None) == expected
    for raw in (x, np.round(x), site * 1.0, np.where(gap, 0.0, x)):
        assert filled_by([raw[p] for p in parts], [site[p] for p in parts]) is None


@pytest.mark.parametrize("made", [StandardScaler, MinMaxScaler, RobustScaler])
def test_each_split_prepared_by_its_own_rows(made):
    rng = np.random.default_rng(0)
    x = [rng.normal(5, 3, (n, 1)) for n in (300, 50, 150)]
    alone, right = ([f.transform(v)[:, 0] for f, v in zip(by, x, strict=True)] for by in ([made().fit(v) for v in x], [made().fit(x[0])] * 3))
    who = rng.integers(0, 30, 150)
    assert "in each split by itself" in each_alone(alone, [who]) and each_alone(right, []) is None and each_alone(x[:1], []) is None
    person = [np.repeat(np.arange(n // 10), 10) for n in (300, 50, 150)]
    even = [(v[:, 0] - np.bincount(p, v[:, 0])[p] / 10) for v, p in zip(x, person, strict=True)]  # of each person, of whom all rows are in one split
    assert each_alone(even, []) is not None and each_alone(even, [who, person[2]]) is None
    evenly = np.linspace(0, 7, 450) + 0.123
    assert each_alone([evenly[:300], evenly[300:]], []) is None and each_alone([rng.random(400), rng.random(90)], []) is None
