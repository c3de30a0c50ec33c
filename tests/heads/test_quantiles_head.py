"""The quantiles head against the pinball loss's definition, the quantiles of a sample, and the coverage of a run."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

import modelwright as mw
from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Encoded


def built(levels=(0.1, 0.5, 0.9), width: int = 4):
    head = find.make("heads", {"quantiles": {"levels": levels}})
    head.build(None, width, None)
    return head


def test_the_loss_is_the_mean_pinball_loss():
    rng = np.random.default_rng(0)
    y, q, levels = rng.normal(size=50), np.sort(rng.normal(size=(50, 3)), 1), [0.1, 0.5, 0.9]
    known = torch.arange(50) % 4 > 0
    head = built(levels).double()
    total, count = head.nll(torch.from_numpy(q), torch.from_numpy(y), known)
    k = known.numpy()
    expected = np.mean([mean_pinball_loss(y[k], q[k, i], alpha=level) for i, level in enumerate(levels)])
    assert (total.sum() / count.sum()).item() == pytest.approx(expected, rel=1e-6)  # levels are float32 first
    assert (total[~known] == 0).all() and count.sum() == k.sum()


def test_the_divergence_is_half_the_squared_distance_of_two_quantile_functions():
    """Of normals, W2^2 = (difference of means)^2 + (difference of deviations)^2 (Givens and Shortt 1984); at many even levels the mean is the integral."""
    levels = tuple((np.arange(999) + 0.5) / 999)
    one, two = (torch.from_numpy(norm.ppf(levels, m, s))[None] for m, s in ((0.0, 1.0), (0.7, 1.5)))
    assert built(levels).divergence(one, two, 4.0).item() == pytest.approx(0.5 * (0.7**2 + 0.5**2), rel=0.01)


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.5, 0.9), (0.05, 0.25, 0.5, 0.6, 0.7, 0.95), (0.5, 0.9)])
def test_quantiles_never_cross_and_start_at_a_normal_distributions(levels):
    head = built(levels)
    np.testing.assert_allclose(head(Encoded(torch.ones(1, 1, 4))).detach()[0], norm.ppf(levels), atol=1e-5)
    with torch.no_grad():
        head.linear.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    out = head(Encoded(torch.randn(100, 1, 4, generator=torch.Generator().manual_seed(1))))
    assert (out.diff(dim=1) >= 0).all()
    found = head.predict(out)
    assert torch.equal(found.value, out[:, levels.index(0.5)]) and found.quantiles.shape == (100, len(levels))


def test_its_least_loss_is_at_the_quantiles_of_the_sample():
    y = torch.from_numpy(np.random.default_rng(0).exponential(size=2001).astype(np.float32))
    head, h = built(), Encoded(torch.zeros(2001, 1, 4))
    solver = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        solver.zero_grad()
        total, _ = head.nll(head(h), y, torch.ones(2001, dtype=torch.bool))
        total.mean().backward()
        return total.mean()

    solver.step(loss)
    np.testing.assert_allclose(head(h)[0].detach(), np.quantile(y, [0.1, 0.5, 0.9]), atol=0.02)


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), ()])
def test_levels_that_make_no_sense_are_refused(levels):
    with pytest.raises(Refusal, match="levels"):
        find.make("heads", {"quantiles": {"levels": levels}})


def test_a_run_covers_and_its_interval_widens_with_the_noise(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1500, 2))
    table = {"a": x[:, 0], "b": x[:, 1], "y": 50 + 10 * x[:, 0] + rng.normal(size=1500) * np.where(x[:, 1] > 0, 8, 1)}
    stages = [{"fit": {"steps": 250}}]
    run = mw.run(mw.task_of({"data": {"source": table}, "target": "y", "model": {"heads": {"y": "quantiles"}}, "stages": stages}), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    lines = {e["metric"]: e for e in run.evidence["evidence"] if e["slice"] is None}
    assert 0.65 < lines["coverage"]["value"] < 0.92
    answer = mw.load(tmp_path / "run").answer(pa.table({"a": [0.0, 0.0], "b": [-0.7, 0.7]}))
    width = np.array(answer.column("y.high")) - np.array(answer.column("y.low"))
    assert width[1] > 2 * width[0] > 0
