"""Conformal sets against their definition and their promise; slices against a brute search; calibration's floor; latency's order statistics."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import beta

from modelwright import auditing, find, metrics
from modelwright.audits import calibration, slices
from modelwright.audits.calibration import above, each_class, top_label
from modelwright.audits.conformal import class_scores, repeats, threshold
from modelwright.audits.efficiency import order_interval
from modelwright.audits.slices import candidates, columns_of, search
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.subject import Subject, rows_of


class Says:
    """Reads its probabilities, or its number, from the table."""

    def predict(self, table):
        if "p0" not in table.column_names:
            return {"y": Prediction(value=torch.tensor(table.column("said").to_numpy(), dtype=torch.float32))}
        p = torch.tensor(np.stack([table.column(f"p{k}").to_numpy() for k in range(3)], 1), dtype=torch.float32)
        return {"y": Prediction(value=p.argmax(1), probabilities=p, score=p.max(1).values)}


def table(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3) * 0.7, n)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    y = np.where(rng.random(n) < shift, rng.integers(0, 3, n), y)
    return pa.table({f"p{k}": p[:, k] for k in range(3)} | {"sex": rng.choice(["f", "m"], n), "y": y})


def subject(**splits):
    schema = Schema({"sex": find.make("kinds", "category")}, {"y": find.make("kinds", {"category": {"labels": ["0", "1", "2"]}})}, ["sex"])
    schema.fit(splits["test"])
    return Subject(Says(), schema, splits)


def figures(subject, only):
    return {m.metric: m for m in auditing.measure(subject, only=[only])}


def test_the_threshold_is_the_order_statistic_and_refuses_too_few():
    scores = np.random.default_rng(0).permutation(np.arange(99) / 99)
    assert threshold(scores, 0.9) == 89 / 99  # ceil(100 * 0.9) = 90th smallest
    assert threshold(np.zeros(8), 0.9) == np.inf and threshold(np.arange(9.0), 0.9) == 8.0


def test_adaptive_scores_are_the_mass_of_likelier_classes():
    p = np.random.default_rng(1).dirichlet(np.ones(5), 50)
    slow = [[sum(q for q in row if q >= own) for own in row] for row in p]
    assert np.allclose(class_scores(p, "aps"), slow) and (class_scores(p, "lac") == 1 - p).all()


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_coverage_is_what_was_promised_over_calibration_sets(score):
    """Mean coverage over 150 splits, against the exact Beta mean's neighbourhood; aps without randomisation may only cover more."""
    covered = []
    for seed in range(150):
        a, b = table(60, seed), table(400, 1000 + seed)
        s = [
            class_scores(np.stack([t.column(f"p{k}").to_numpy() for k in range(3)], 1), score)[np.arange(t.num_rows), t.column("y").to_numpy()] for t in (a, b)
        ]
        covered.append((s[1] <= threshold(s[0], 0.9)).mean())
    exact = beta(55, 6).mean()
    assert exact - 0.015 < np.mean(covered) < (exact + 0.015 if score == "lac" else 1)


def test_measured_coverage_size_and_groups():
    found = figures(subject(test=table(2000, 0), calibration=table(500, 1)), "conformal")
    m = found["conformal.coverage"]
    assert m.low < 0.9 < m.high and 1 < found["conformal.mean_size"].value < 3 and set(m.details["groups"]) == {"sex=f", "sex=m"}
    shifted = figures(subject(test=table(2000, 0, 0.6), calibration=table(500, 1)), "conformal")["conformal.coverage"]
    assert shifted.high < 0.88


def test_too_few_and_none_to_calibrate_are_refused_by_name():
    few = figures(subject(test=table(50, 0), calibration=table(5, 1)), "conformal")["conformal.coverage"]
    assert few.value is None and few.reasons == ["conformal.too_few"] and few.details["needed"] == 9
    assert figures(subject(test=table(50, 0)), "conformal")["conformal.coverage"].reasons == ["conformal.no_calibration"]


def test_a_number_gets_intervals_in_its_own_units():
    rng = np.random.default_rng(2)
    x = rng.normal(size=3000) * 4 + 10
    y = x + rng.normal(size=3000)
    schema = Schema({"x": find.make("kinds", "number")}, {"y": find.make("kinds", "number")})
    whole = pa.table({"x": x, "y": y})
    schema.fit(whole)
    target = schema.targets["y"]
    whole = whole.append_column("said", pa.array(target.encode_target(pa.chunked_array([x]))["values"]))
    found = figures(Subject(Says(), schema, {"calibration": whole.slice(0, 1500), "test": whole.slice(1500)}), "conformal")
    assert abs(found["conformal.coverage"].value - 0.9) < 0.03
    assert found["conformal.mean_size"].value == pytest.approx(2 * 1.645, abs=0.25)


def test_calibrated_probabilities_have_no_error_left_and_others_do():
    good = figures(subject(test=table(3000, 3)), "calibration")
    bad = figures(subject(test=table(3000, 3, 0.4)), "calibration")
    for name in ("calibration.ece", "calibration.classwise_error"):
        assert good[name].value < 0.02 and good[name].low == 0 and bad[name].low > 0.05
    assert good["calibration.worst_slice_error"].low < 0.01 and bad["calibration.worst_slice_error"].low > 0.05
    assert above(0.05, 0.03) == pytest.approx(0.04) and above(0.02, 0.03) == 0


def test_classwise_error_is_its_double_loop():
    rng = np.random.default_rng(4)
    p, y = rng.dirichlet(np.ones(3), 300), rng.integers(0, 3, 300)
    slow = []
    for k in range(3):
        order = np.argsort(p[:, k])
        slow.append(sum(abs((y[b] == k).sum() - p[b, k].sum()) for b in np.array_split(order, 15)) / 300)
    assert each_class(p)(y, np.arange(300)) == pytest.approx(np.mean(slow))
    for q in (p, p.round(1)):  # equal confidences stay together
        assert top_label(q)(y, np.arange(300)) == pytest.approx(metrics.ece(y, q))


def test_few_rows_leave_a_calibrated_model_an_interval_that_decides():
    highs = [figures(subject(test=table(268, seed)), "calibration")["calibration.ece"].high for seed in range(5)]
    assert max(highs) < 0.2  # with edges that moved: above 0.3


def test_the_weakest_pair_is_found_and_confirmed():
    rng = np.random.default_rng(5)
    n = 4000
    columns = {"site": rng.choice(["n", "s", "w"], n), "age": rng.integers(20, 80, n)}
    weak = (columns["site"] == "w") & (columns["age"] > 68)
    right = (rng.random(n) < np.where(weak, 0.4, 0.9)).astype(float)
    kinds = {"site": find.make("kinds", "category"), "age": find.make("kinds", "number")}
    found = search(pa.table(columns), right, kinds, 25, 3)
    assert "site=w" in found[0] and "age>" in found[0]


def test_a_weak_slice_is_found_on_some_rows_and_confirmed_on_all(monkeypatch):
    monkeypatch.setattr(slices, "SEARCHED", 1000)
    s = subject(test=weak_women(4000, 6), validation=weak_women(4000, 7))
    found = figures(s, "slices")["slice.worst_accuracy"]
    assert found.details["worst"] == "sex=f" and found.n == (np.array(s.splits["test"].column("sex").to_pylist()) == "f").sum()


def weak_women(n, seed):
    rows = table(n, seed)
    wrong = (np.array(rows.column("sex").to_pylist()) == "f") & (np.arange(n) % 2 == 0)
    y = np.where(wrong, np.random.default_rng(seed).integers(0, 3, n), rows.column("y").to_numpy())
    return rows.set_column(rows.column_names.index("y"), "y", pa.array(y))


def test_slices_of_a_uniform_model_are_not_worse():
    found = figures(subject(test=table(2000, 6), validation=table(2000, 7)), "slices")
    assert found["slice.worse_than_overall"].low <= 0 and found["slice.worst_accuracy"].high > 0.6
    assert figures(subject(test=table(40, 6), validation=table(40, 7)), "slices")["slice.worst_accuracy"].reasons == ["slice.too_few"]


def test_order_statistics_hold_the_quantile():
    rng, held = np.random.default_rng(8), 0
    for _ in range(400):
        low, high = order_interval(rng.exponential(size=500), 0.95, 0.95)
        held += low <= -np.log(0.05) <= high
    assert held >= 0.93 * 400
    assert order_interval(np.arange(100.0), 0.99, 0.95)[1] is None and order_interval(np.arange(400.0), 0.99, 0.95)[1] is not None


def test_latency_size_and_parameters_are_measured():
    s = subject(test=table(50, 0))
    s.lineage = {"size_bytes": 2_000_000}
    found = figures(s, "efficiency")
    assert found["efficiency.size_mb"].value == 2.0 and found["efficiency.parameters"].reasons == ["efficiency.not_counted"]
    assert found["efficiency.latency_p50_ms"].value <= found["efficiency.latency_p99_ms"].value


def test_coverage_of_slices_and_the_worst_of_them():
    test = table(4000, 0)
    women = np.array(test.column("sex").to_pylist()) == "f"
    y = np.where(women & (np.arange(4000) % 3 == 0), np.random.default_rng(1).integers(0, 3, 4000), test.column("y").to_numpy())
    s = subject(test=test.set_column(test.column_names.index("y"), "y", pa.array(y)), calibration=table(800, 1))
    s.slices = ["sex=f"]
    found = {(m.metric, m.slice): m for m in auditing.measure(s, only=["conformal"])}
    whole, own, worst = found["conformal.coverage", None], found["conformal.coverage", "sex=f"], found["conformal.worst_slice_coverage", None]
    assert own.value == worst.value < whole.value - 0.03 and own.n == women.sum() and worst.details["worst"] == "sex=f"
    assert worst.low <= own.low and worst.high >= own.high


def test_calibration_rows_that_are_test_rows_are_refused():
    test = table(1000, 0)
    for rows, refused in ((test.slice(0, 300), True), (pa.concat_tables([test.slice(0, 100), table(700, 5)]), True), (table(300, 5), False)):
        found = figures(subject(test=test, calibration=rows), "conformal")["conformal.coverage"]
        assert (found.reasons == ["conformal.shared_rows"]) == refused and (found.value is None) == refused


def test_errors_that_cancel_are_found_in_slices_and_classes():
    rng, n = np.random.default_rng(3), 6000
    sex, said, sure = rng.choice(["f", "m"], n), rng.integers(0, 3, n), rng.uniform(0.55, 0.8, n)
    for off, name in ((np.where(sex == "f", -0.18, 0.18), "worst_slice_error"), (np.where(said == 1, -0.18, 0.18 / 2), "worst_class_error")):
        y = np.where(rng.random(n) < sure + off, said, (said + rng.integers(1, 3, n)) % 3)
        p = np.repeat(((1 - sure) / 2)[:, None], 3, 1)
        p[np.arange(n), said] = sure
        found = figures(subject(test=pa.table({f"p{k}": p[:, k] for k in range(3)} | {"sex": sex, "y": y})), "calibration")
        assert found["calibration.ece"].high < 0.06 and found[f"calibration.{name}"].low > 0.12


def told(y, p, **more):
    """A subject whose two classes are said with probability p of the second."""
    table = pa.table({"p0": 1 - p, "p1": p, "p2": 0 * p, "sex": np.array(["f", "m"])[np.arange(len(y)) % 2], "y": y} | more)
    return subject(test=table)


def test_rows_in_the_order_of_the_truth_do_not_part_equal_probabilities():
    rng = np.random.default_rng(0)
    p = rng.choice([0.15, 0.7, 0.85], 2000)
    y = (rng.random(2000) < p).astype(int)
    found = figures(told(*(v[np.argsort(y, kind="stable")] for v in (y, p))), "calibration")
    assert all(found[f"calibration.worst_{w}_error"].high < 0.07 for w in ("slice", "class"))
    assert len(np.unique(calibration.bins_of(np.full(900, 0.7)))) == 1


def test_one_probability_for_all_has_an_interval_that_decides():
    rng = np.random.default_rng(1)
    found = figures(told((rng.random(1500) < 0.7).astype(int), np.full(1500, 0.7)), "calibration")["calibration.ece"]
    assert found.low == 0 and found.high < 0.06


def test_probabilities_that_were_fitted_to_the_test_rows_are_too_good():
    from sklearn.isotonic import IsotonicRegression

    rng, flagged = np.random.default_rng(2), {True: 0, False: 0}
    for _ in range(10):
        z = rng.normal(size=1000) * 1.5
        y = (rng.random(1000) < 1 / (1 + np.exp(-z))).astype(int)
        for here in flagged:
            fitted = IsotonicRegression(out_of_bounds="clip").fit(z[:500] if here else z[500:], y[:500] if here else y[500:]).predict(z[:500])
            line = figures(told(y[:500], fitted), "calibration")["calibration.ece"]
            flagged[here] += line.reasons == ["calibration.fitted_here"] and line.high is None
    assert flagged == {True: 10, False: 0}
    p, hits = rng.random((300, 400)), 0
    for q in p:
        two = np.stack([1 - q, q], 1)
        hits += calibration.fitted_here(calibration.labels_of(two, rng, np.arange(400)), two, rng)
    sure = np.tile([0.01, 0.99], (5000, 1))
    assert hits == 0 and not calibration.fitted_here(np.ones(5000, int), sure, rng)  # always right, and not sure of it


def test_few_clusters_do_not_accuse_a_calibrated_model():
    rng, who = np.random.default_rng(3), np.repeat(np.arange(12), 100)
    for seed in range(5):
        p = rng.uniform(0.2, 0.8, 12)[who]
        s = told((rng.random(12)[who] < p).astype(int), p, patient=who)
        s.clusters = "patient"
        assert figures(s, "calibration")["calibration.ece"].low < 0.09, seed


def test_errors_in_bins_that_stay_are_their_double_loop():
    rng = np.random.default_rng(4)
    c, hit = rng.random(950), rng.random(950) < 0.5
    bins = calibration.bins_of(c)
    assert len(np.unique(bins)) == 9 and (np.diff(bins[np.argsort(c)]) >= 0).all() and np.bincount(bins).min() >= 105
    slow = sum(abs((c - hit)[bins == b].sum()) for b in range(9)) / 950
    assert calibration.binned(bins, c - hit, np.arange(950)) == pytest.approx(slow)


def test_the_search_sees_triples_ends_empty_cells_and_columns_beside():
    rng, n = np.random.default_rng(5), 6000
    columns = {"site": rng.choice(["n", "s", "w"], n), "sex": rng.choice(["f", "m"], n), "age": rng.integers(20, 80, n)}
    dose = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    whole = pa.table(columns | {"dose": pa.array(dose, from_pandas=True)})
    weak = {"three": (columns["site"] == "w") & (columns["sex"] == "f") & (columns["age"] > 67), "end": columns["age"] > 77, "empty": np.isnan(dose)}
    for how, expected in (("three", {"site=w", "sex=f"}), ("end", {"age>77"}), ("empty", {"dose="})):
        right = (rng.random(n) < np.where(weak[how], 0.45, 0.92)).astype(float)
        assert expected <= set(search(whole, right, whole.column_names, 60, 3)[0].split(" & ")), how


def test_the_search_sees_one_of_many_whole_numbers_and_a_narrow_band():
    """Store 17 of 40, and ages 50 to 54, within fifths that are sound."""
    rng, n = np.random.default_rng(6), 6000
    table = pa.table({"age": rng.uniform(18, 90, n), "store": rng.integers(1, 41, n), "open": rng.random(n) < 0.5})
    age, store = table.column("age").to_numpy(), table.column("store").to_numpy()
    assert {f"store={i}" for i in range(1, 41)} | {"open=true", "open=false"} <= set(candidates(table, table.column_names))
    for weak, name in ((store == 17, "store=17"), ((age > 50) & (age < 54), "age>")):
        right = (rng.random(n) < np.where(weak, 0.4, 0.93)).astype(float)
        found = search(table, right, table.column_names, 60, 3)[0]
        assert name in found and (rows_of(table, found) & weak).sum() > 0.7 * min(weak.sum(), rows_of(table, found).sum()), found


def test_columns_that_tell_the_target_are_no_slices():
    s = subject(test=table(2000, 6))
    t = s.splits["test"]
    t = t.append_column("copy", t.column("y").cast(pa.string())).append_column("scanner", pa.array(["A", "B"] * 1000))
    assert columns_of(s, t, "y") == ["sex", "scanner"]


def test_calibration_rows_that_are_nearly_test_rows_are_found():
    rng = np.random.default_rng(0)
    test = pa.table({"x": rng.normal(size=400), "z": rng.normal(size=400), "y": rng.integers(0, 2, 400)})
    near = test.slice(0, 100).set_column(0, "x", pa.array(test.column("x").to_numpy()[:100] + 1e-7))
    schema = Schema({n: find.make("kinds", "number") for n in ("x", "z")}, {"y": find.make("kinds", "category")})
    schema.fit(test)
    for rows, share in ((near, 1.0), (test.slice(0, 100).set_column(0, "x", pa.array(rng.normal(size=100))), 0.0)):
        shared, usual = repeats(Subject(None, schema, {"test": test, "calibration": rows}), "y")
        assert shared == pytest.approx(share, abs=0.02) and usual == 0


def test_the_temperature_that_a_model_from_elsewhere_lacks_is_fitted_on_calibration_rows():
    """Too sure by a factor of three: what was done to its logits is found, and undone."""
    import modelwright.audits.calibration as c

    class Elsewhere(Says):
        process_id = None

        def predict(self, table):
            said = super().predict(table)["y"].probabilities.double().numpy()
            p = torch.from_numpy(c.tempered(said, 1 / 3))
            return {"y": Prediction(value=p.argmax(1), probabilities=p, score=p.max(1).values)}

    def found(predictor, **splits):
        made = subject(**splits)
        made.predictor = predictor
        return figures(made, "calibration")["calibration.ece"].details.get("repair")

    rows = {"test": table(300, 0), "calibration": table(3000, 1), "validation": table(50, 2)}
    got = found(Elsewhere(), **rows)
    assert 2.6 < got["temperature"] < 3.4 and (got["rows"], got["split"]) == (3000, "calibration")
    assert got["ece_after"] < 0.03 < 0.1 < got["ece_before"] and got["nll_after"] < got["nll_before"]
    assert found(Elsewhere(), test=rows["test"], validation=rows["validation"])["rows"] == 50
    assert found(Elsewhere(), test=rows["test"]) is None and found(Says(), **rows) is None  # no rows for it; one of ours has been calibrated
    assert np.allclose(c.tempered(np.array([[0.2, 0.8]]), 2), [[1 / 3, 2 / 3]])


def test_decisions_that_are_better_than_the_probabilities_leave_calibration_open():
    """The probabilities are then other scores than it decides by; thresholds of groups, costs and quotas are not."""
    rng = np.random.default_rng(0)
    x, half = rng.normal(size=3000), np.full((3000, 2), 0.5)
    p = np.stack([1 / (1 + np.exp(2 * x)), 1 / (1 + np.exp(-2 * x))], 1)
    y = (rng.random(3000) < p[:, 1]).astype(int)
    assert calibration.surer(y, (x > 0).astype(int), half, 0.95, None)
    for said in (p[:, 1] > 0.3, p[:, 1] > np.where(rng.random(3000) < 0.5, 0.3, 0.7), p[:, 1] >= np.quantile(p[:, 1], 0.8), p.argmax(1)):
        assert not calibration.surer(y, np.asarray(said).astype(int), p, 0.95, None)
    few = np.repeat(np.arange(4), 750)  # of four persons nothing is sure
    assert not calibration.surer(y, (x > 0).astype(int), np.where(x[:, None] > -0.1, [[0.4, 0.6]], [[0.6, 0.4]]), 0.95, few)
