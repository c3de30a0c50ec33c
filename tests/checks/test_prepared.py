"""What was fitted on all rows is told from what was fitted on the training rows, and from raw columns."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from modelwright.checks.prepared import prepared


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
