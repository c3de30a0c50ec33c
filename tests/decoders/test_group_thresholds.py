"""Thresholds against brute force over all of them and their mixtures; against Hardt et al.'s conditions on the fitted rows; and after save and load."""

from itertools import combinations, product

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import artifact, find
from modelwright.data.schema import Schema
from modelwright.decoders.group_thresholds import best, draw, hull
from modelwright.errors import Refusal
from modelwright.forms import Prediction
from modelwright.learn.calibrate import calibrate

CONSTRAINTS = ["demographic_parity", "equal_opportunity", "equalized_odds"]


def made(n, seed, shift=1.0):
    """(scores (N,), labels (N,) bool): a group whose scores tell more of the label the larger the shift."""
    g = np.random.default_rng(seed)
    y = g.random(n) < 0.3 + 0.2 * (seed % 2)
    return np.round(1 / (1 + np.exp(-g.normal(shift * (2 * y - 1), 1.5))), 3), y


def corners(p, y):
    """(K, 2) every threshold's (false, true positives), by counting."""
    cuts = [2.0, *((np.unique(p)[1:] + np.unique(p)[:-1]) / 2), -1.0]
    return np.array([[((p > t) & ~y).sum(), ((p > t) & y).sum()] for t in cuts])


def rates(points, y, constraint):
    fpr, tpr, selected = points[..., 0] / (~y).sum(), points[..., 1] / y.sum(), points.sum(-1) / len(y)
    return np.stack({"demographic_parity": [selected], "equal_opportunity": [tpr], "equalized_odds": [tpr, fpr]}[constraint], -1)


def of_mix(mix, p, y):
    """(expected false, true positives) of a mix."""
    chance = sum(w * (p > t) for t, w in mix)
    return np.array([chance[~y].sum(), chance[y].sum()])


def errors(points, y):
    return points[..., 0] + y.sum() - points[..., 1]


@pytest.mark.parametrize("constraint", CONSTRAINTS[:2])
@pytest.mark.parametrize("within", [0.0, 0.1])
def test_one_rate_no_mixture_of_two_thresholds_a_group_errs_less(constraint, within):
    groups = [made(30, 0), made(24, 1, 0.4)]
    found = best([hull(p, y) for p, y in groups], constraint, within)
    ours = [of_mix(m, p, y) for m, (p, y) in zip(found, groups)]
    levels = [float(rates(o, y, constraint)[0]) for o, (_, y) in zip(ours, groups)]
    assert abs(levels[0] - levels[1]) <= within + 1e-9
    grid, least = np.linspace(0, 1, 201), []
    for p, y in groups:  # the least error of each group at every rate of the grid, over all pairs of thresholds
        points = corners(p, y)
        r, e = rates(points, y, constraint)[:, 0], errors(points, y)
        at = np.full(len(grid), np.inf)
        for i, j in product(range(len(r)), repeat=2):
            if r[i] < r[j]:
                inside = (grid >= r[i] - 1e-12) & (grid <= r[j] + 1e-12)
                share = (grid - r[i]) / (r[j] - r[i])
                at = np.where(inside, np.minimum(at, (1 - share) * e[i] + share * e[j]), at)
        least.append(at)
    brute = min(least[0][i] + least[1][j] for i, j in product(range(201), repeat=2) if abs(grid[i] - grid[j]) <= within + 1e-9)
    total = sum(errors(o, y) for o, (_, y) in zip(ours, groups))
    assert total <= brute + 1e-9 and total == pytest.approx(brute, abs=0.35)  # the grid's step


def test_equalized_odds_no_triangle_of_thresholds_errs_less():
    groups = [made(14, 0), made(12, 1, 0.4)]
    found = best([hull(p, y) for p, y in groups], "equalized_odds", 0.0)
    ours = [of_mix(m, p, y) for m, (p, y) in zip(found, groups)]
    a, b = (rates(o, y, "equalized_odds") for o, (_, y) in zip(ours, groups))
    assert np.allclose(a, b, atol=1e-9)
    axis = np.linspace(0, 1, 101)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)  # (tpr, fpr)
    reached = np.ones(len(points), bool)
    for p, y in groups:  # a point is reached where it lies in a triangle of three thresholds' points
        r = rates(corners(p, y), y, "equalized_odds")
        mine = np.zeros(len(points), bool)
        for i, j, k in combinations(range(len(r)), 3):
            m = np.stack([r[j] - r[i], r[k] - r[i]], 1)
            if abs(np.linalg.det(m)) > 1e-12:
                s = np.linalg.solve(m, (points - r[i]).T)
                mine |= (s >= -1e-9).all(0) & (s.sum(0) <= 1 + 1e-9)
        reached &= mine
    positives, negatives = sum(y.sum() for _, y in groups), sum((~y).sum() for _, y in groups)
    brute = (points[:, 1] * negatives + (1 - points[:, 0]) * positives)[reached].min()
    total = sum(errors(o, y) for o, (_, y) in zip(ours, groups))
    assert total <= brute + 1e-9 and total == pytest.approx(brute, abs=0.3)


def test_the_hull_has_the_corners_of_all_thresholds():
    for seed in range(6):
        p, y = made(40, seed)
        points, found = corners(p, y), hull(p, y)
        for _, fp, tp in found:
            assert ([fp, tp] == points).all(1).any()
        at = np.interp(points[:, 0], found[:, 1], np.maximum.accumulate(found[:, 2]))
        assert (points[:, 1] <= at + 1e-9).all()  # nothing lies above
        t = found[len(found) // 2, 0]
        assert found[len(found) // 2, 1:].tolist() == [((p > t) & ~y).sum(), ((p > t) & y).sum()]


def test_scores_that_need_no_mixture_get_the_thresholds_that_separate():
    y = np.array([False] * 4 + [True] * 4)
    a, b = np.linspace(0.1, 0.8, 8), np.linspace(0.3, 0.44, 8)
    found = best([hull(a, y), hull(b, y)], "equalized_odds", 0.0)
    assert [m[0][0] for m in found] == pytest.approx([0.45, 0.37]) and [len(m) for m in found] == [1, 1]


def decoder(**settings):
    d = find.make("decoders", {"group_thresholds": settings})
    kind = find.make("kinds", "boolean")
    d.build("y", kind, ["g=a", "g=b", "g=c"])
    return d


def said(p):
    p = torch.as_tensor(p, dtype=torch.float32)
    return Prediction(value=(p > 0.5).long(), probabilities=torch.stack([1 - p, p], 1))


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_decided_rates_are_equal_and_a_small_group_keeps_the_common_threshold(constraint):
    (p, y), (q, z), (r, w) = made(3000, 0), made(2000, 1, 0.5), made(15, 2)
    group = torch.tensor([0] * 3000 + [1] * 2000 + [2] * 15 + [-1] * 10)
    scores, truth = np.concatenate([p, q, r, r[:10]]), np.concatenate([y, z, w, w[:10]])
    d = decoder(constraint=constraint)
    told = d.fit("y", said(scores), torch.from_numpy(truth).long(), group)
    assert len(told["warnings"]) == 1 and "g=c" in told["warnings"][0] and list(told["thresholds"]) == ["g=a", "g=b"]
    out = d.decide("y", said(scores), group)
    value = out.value.numpy().astype(bool)
    counts = [np.array([(value[m] & ~truth[m]).sum(), (value[m] & truth[m]).sum()]) for m in (group.numpy() == 0, group.numpy() == 1)]
    a, b = (rates(c, t, constraint) for c, t in zip(counts, (y, z)))
    assert np.abs(a - b).max() < 0.02  # what draws by digits leave of an exact equality
    assert out.extra["common"].numpy().tolist() == (group.numpy() < 0).tolist()[:0] + [False] * 5000 + [True] * 25
    assert (value[5000:] == (scores[5000:] > 0.5)).all()
    assert torch.equal(out.score, out.probabilities.gather(1, out.value[:, None])[:, 0])
    nobody = d.decide("y", said(scores), None)
    assert nobody.extra["common"].all() and (nobody.value.numpy() == (scores > 0.5)).all()


@pytest.mark.parametrize("low, high", [(0.3, 0.5), (1e-7, 1e-5), (1 - 1e-4, 1 - 1e-6)])
def test_draws_are_even_and_hang_on_the_score_alone(low, high):
    """Among scores that are all but certain too: where one share of them were alike, "yes to 2 % of all" would be yes to that share."""
    p = torch.rand(20_000, generator=torch.Generator().manual_seed(0)).double() * (high - low) + low
    u = draw(p)
    assert torch.equal(u, draw(p.flip(0)).flip(0)) and ((u >= 0) & (u < 1)).all()
    assert all(abs(float((u < s).double().mean()) - s) < 0.02 for s in (0.1, 0.37, 0.8))


def table(n=400):
    g = np.random.default_rng(0)
    group, x = g.integers(0, 2, n), g.normal(size=n)
    y = x + 0.8 * group + g.normal(size=n) > 0.5
    return pa.table({"x": x, "sex": np.where(group == 1, "f", "m"), "y": y})


def model(decoder="group_thresholds"):
    schema = Schema({"x": find.make("kinds", "number"), "sex": find.make("kinds", "category")}, {"y": find.make("kinds", "boolean")}, ["sex"])
    schema.fit(table())
    torch.manual_seed(0)
    parts = {"encoders": {"table": {"mlp": {"width": 8, "bins": 0}}}, "fusion": "concat", "heads": {"y": "binary"}, "decoders": {"y": decoder}}
    return schema, artifact.assemble_model(schema, parts).eval()


def test_what_was_fitted_is_saved_and_answers_the_same(tmp_path):
    schema, net = model()
    told = calibrate(net, schema.encode(table()))
    assert set(told["y"]["decoder"]["thresholds"]) == {"sex=f", "sex=m"} and told["y"]["temperature"] > 0
    artifact.save(tmp_path / "model", net, schema)
    again = artifact.open_model(tmp_path / "model")
    rows = table(97)
    one, two = artifact.Loaded(net, schema).predict(rows)["y"], again.predict(rows)["y"]
    assert torch.equal(one.value, two.value) and again.model.decoders["y"].mixes_ == net.decoders["y"].mixes_
    assert not one.extra["common"].any() and not torch.equal(one.value, one.probabilities.argmax(1))
    alone = again.predict(rows.slice(5, 1))["y"]
    assert alone.value[0] == two.value[5]
    nobody = pa.table({"x": rows.column("x"), "sex": ["m", None, "x", *rows.column("sex").to_pylist()[3:]]})
    assert again.answer(nobody).column("y.common_threshold").to_pylist() == [False, True, True] + [False] * 94
    audited = again.predict(rows.drop_columns(["y"]))["y"]  # the truth is never looked at
    assert torch.equal(audited.value, two.value)


def test_refusals():
    d = find.make("decoders", "group_thresholds")
    kind = find.make("kinds", {"category": {"labels": ["a", "b", "c"]}})
    kind.fit(pa.chunked_array([["a", "b", "c"]]))
    with pytest.raises(Refusal, match="3 classes"):
        d.build("y", kind, ["g=a", "g=b"])
    with pytest.raises(Refusal, match="two groups"):
        d.build("y", find.make("kinds", "boolean"), [])
    with pytest.raises(Refusal):
        find.make("decoders", {"group_thresholds": "fair"})
    told = decoder(least=50).fit("y", said(np.linspace(0, 1, 40)), torch.arange(40) % 2, torch.arange(40) % 3)
    assert told["thresholds"] == {} and len(told["warnings"]) == 4
