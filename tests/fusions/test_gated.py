"""The gated fusion against a slow loop; what is missing reaches neither the result nor a gradient; a run through a task."""

import numpy as np
import pyarrow as pa
import pytest
import torch

import modelwright as mw
from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Encoded

WIDTHS = {"a": 3, "b": 5, "c.keys": 4}
KNOWN = {"a": torch.tensor([1, 0, 1, 0, 1, 0], dtype=torch.bool), "b": torch.tensor([1, 1, 0, 0, 1, 0], dtype=torch.bool)}


def built(**settings):
    torch.manual_seed(0)
    fusion = find.make("fusions", {"gated": settings})
    fusion.build(WIDTHS)
    return fusion


def parts(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {n: torch.randn(6, 2, w, generator=rng) for n, w in WIDTHS.items()}


def fuse(fusion, z, known=KNOWN):
    return fusion({n: Encoded(x) for n, x in z.items()}, known).pooled()


def test_it_is_the_softmax_weighted_mean_of_the_projections():
    fusion, z = built(width=7), parts()
    out = fuse(fusion, z)
    assert fusion.width == 7 and out.shape == (6, 7) and built().width == 5
    for row in range(6):
        names = [n for n in WIDTHS if n not in KNOWN or KNOWN[n][row]]
        values = [fusion.project[n](z[n][row].mean(0)) for n in names]
        weights = np.exp([fusion.gate[n](v).item() for n, v in zip(names, values, strict=True)])
        expected = sum(w / weights.sum() * v.detach().numpy() for w, v in zip(weights, values, strict=True))
        np.testing.assert_allclose(out[row].detach(), expected, atol=1e-5)


@pytest.mark.parametrize("content", [1e6, float("nan"), float("inf")])
def test_a_missing_input_reaches_neither_result_nor_gradient(content):
    fusion, z, other = built(), parts(), parts()
    for name, known in KNOWN.items():
        other[name][~known] = content
    assert torch.equal(fuse(fusion, z), fuse(fusion, other))
    leaf = other["b"].clone().requires_grad_()
    fuse(fusion, other | {"b": leaf}).square().sum().backward()
    assert (leaf.grad[~KNOWN["b"]] == 0).all() and (leaf.grad[KNOWN["b"]] != 0).any()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters() if p.grad is not None)


def test_a_known_input_does_reach_it_and_rows_do_not_mix():
    fusion, z = built(), parts()
    other = {n: x.clone() for n, x in z.items()}
    other["b"][0] += 1
    moved = (fuse(fusion, z) != fuse(fusion, other)).any(1)
    assert moved.tolist() == [True] + [False] * 5


def test_a_row_without_any_input_is_the_learned_vector():
    fusion = built()
    with torch.no_grad():
        fusion.empty.fill_(0.25)
    none = {n: torch.tensor([True, False, True, True, True, True]) for n in WIDTHS}
    out = fuse(fusion, parts(), none)
    assert (out[1] == 0.25).all() and torch.isfinite(out).all()


def test_a_width_of_nothing_is_refused():
    with pytest.raises(Refusal, match="width"):
        find.make("fusions", {"gated": {"width": 0}})


def test_a_run_reads_a_table_and_a_text_that_is_sometimes_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    x, good = rng.normal(size=400), rng.random(400) < 0.5
    words = [f"{'很好 good' if g else '很坏 bad'} {rng.integers(1000)} {rng.integers(1000)}" if rng.random() < 0.8 else None for g in good]
    table = pa.table({"x": x, "words": words, "y": np.where((x > 0) & good, "yes", "no")})
    task = {"data": {"source": table, "columns": {"words": "text"}}, "target": "y", "model": {"fusion": {"gated": {"width": 64}}}}
    run = mw.run(mw.task_of(task | {"stages": [{"fit": {"steps": 60}}]}), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    assert run.headline["value"] > run.baselines["majority"]["accuracy"]["value"] + 0.05
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
