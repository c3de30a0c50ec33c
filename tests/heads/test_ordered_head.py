"""The ordered head against the definition of proportional odds, a slow loop and finite differences."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import modelwright as mw
from modelwright import find
from modelwright.forms import Encoded
from modelwright.heads.ordered import log_probabilities


def built(classes: int, width: int = 5):
    head = find.make("heads", "ordered")
    head.build(SimpleNamespace(classes=classes), width, None)
    return head


def outputs(n: int = 40, classes: int = 5) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.sort(torch.randn(n, classes - 1, generator=rng, dtype=torch.float64) * 2, 1).values


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_probabilities_are_differences_of_sigmoids(classes):
    out = outputs(classes=classes)
    cumulative = np.concatenate([np.zeros((40, 1)), 1 / (1 + np.exp(-out.numpy())), np.ones((40, 1))], 1)
    np.testing.assert_allclose(log_probabilities(out).exp().numpy(), np.diff(cumulative), atol=1e-12)
    assert built(classes).predict(out).probabilities.sum(1) == pytest.approx(np.ones(40))


def test_nll_is_minus_the_logarithm_and_missing_targets_count_nothing():
    out, head = outputs(), built(5)
    y = torch.arange(40) % 5
    known = torch.arange(40) % 3 > 0
    total, count = head.nll(out, y, known)
    cumulative = np.concatenate([np.zeros((40, 1)), 1 / (1 + np.exp(-out.numpy())), np.ones((40, 1))], 1)
    expected = [-np.log(cumulative[i, y[i] + 1] - cumulative[i, y[i]]) if known[i] else 0.0 for i in range(40)]
    np.testing.assert_allclose(total.numpy(), expected, atol=1e-10)
    assert count.tolist() == known.double().tolist()


def test_the_value_is_the_median_which_is_nearest_in_expectation():
    head, out = built(5), outputs(200)
    found = head.predict(out)
    p = found.probabilities.numpy()
    far = np.abs(np.arange(5)[:, None] - np.arange(5)) @ p.T  # (choice, row)
    np.testing.assert_allclose(far[found.value.numpy(), np.arange(200)], far.min(0), atol=1e-12)
    np.testing.assert_allclose(found.score.numpy(), p[np.arange(200), found.value.numpy()], atol=1e-12)


def test_cut_points_increase_and_start_at_equal_shares():
    head = built(4)
    h = Encoded(torch.zeros(1, 1, 5))
    np.testing.assert_allclose(head.predict(head(h)).probabilities.detach(), [[0.25] * 4], atol=1e-6)
    with torch.no_grad():
        for p in head.parameters():
            p.normal_(0, 5, generator=torch.Generator().manual_seed(1))
    assert (head(Encoded(torch.randn(9, 1, 5, generator=torch.Generator().manual_seed(2)))).diff(dim=1) > 0).all()


def test_far_scores_stay_finite_with_their_gradient():
    out = torch.tensor([[-300.0, -299.0, -298.0], [298.0, 299.0, 300.0], [0.0, 0.0, 0.0]], requires_grad=True)
    total, _ = built(4).nll(out, torch.tensor([1, 2, 1]), torch.ones(3, dtype=torch.bool))
    total.sum().backward()
    assert torch.isfinite(total).all() and torch.isfinite(out.grad).all()
    assert total[0].item() == pytest.approx(299 - np.log(1 - np.exp(-1)), rel=1e-5)


def test_divergence_is_the_kl_of_the_classes():
    head, a, b = built(5), outputs(), outputs().flip(0)
    p, q = log_probabilities(b / 2).exp(), log_probabilities(a / 2).exp()
    np.testing.assert_allclose(head.divergence(a, b, 2.0), 4 * (p * (p / q).log()).sum(1), atol=1e-10)
    assert head.divergence(a, a, 3.0).abs().max() == 0


def test_a_run_learns_the_order_and_reports_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    grade = np.digitize(x @ [1.0, -1.0, 0.5] + rng.logistic(size=600) * 0.3, [-1, 0, 1])
    table = {f"x{i}": x[:, i] for i in range(3)} | {"grade": np.array(["低", "中", "高", "很高"])[grade]}
    order = ["低", "中", "高", "很高"]
    task = mw.task_of({"data": {"source": table}, "target": {"grade": {"ordered": {"order": order}}}, "stages": [{"fit": {"steps": 150}}]})
    run = mw.run(task, tmp_path / "run")
    lines = {e["metric"]: e for e in run.evidence["evidence"] if e["slice"] is None}
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    assert lines["mae"]["value"] < 0.5 < run.baselines["majority"]["mae"]["value"]
    assert "calibration.ece" in lines and (tmp_path / "run" / "report.html").stat().st_size > 0
