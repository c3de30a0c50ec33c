"""Permutation importance against scikit-learn's with the log loss."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from modelwright import find


def test_its_mean_is_scikit_learns():
    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x[:, :6])
    model = LogisticRegression().fit(x, y)

    def f(x):
        return torch.from_numpy(model.predict_proba(x.numpy())).logit()

    made = find.make("explainers", {"permutation_importance": {"repeats": 20}})
    ours = made.explain(f, torch.from_numpy(x), torch.from_numpy(y), torch.zeros(6), torch.Generator().manual_seed(0)).mean(0).numpy()
    theirs = permutation_importance(model, x, y, scoring="neg_log_loss", n_repeats=20, random_state=0)
    assert np.allclose(ours, theirs.importances_mean, atol=4 * theirs.importances_std.max() / 20**0.5 + 1e-3)
    assert (ours.argsort()[-2:] == theirs.importances_mean.argsort()[-2:]).all()


def test_a_column_that_is_not_read_has_none():
    f = lambda x: torch.stack([x[:, 0], -x[:, 0]], 1)  # noqa: E731
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    found = find.make("explainers", "permutation_importance").explain(f, x, (x[:, 0] < 0).long(), x.mean(0), torch.Generator().manual_seed(1))
    assert found[:, 0].mean() > 0.3 and found[:, 1:].abs().max() < 1e-6
