"""Against fairlearn, a table worked by hand, and simulated groups whose true rates are known."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import auditing, find
from modelwright.audits.fairness import worst_difference
from modelwright.data.schema import Schema
from modelwright.forms import Prediction
from modelwright.intervals import interval
from modelwright.kind import Metric
from modelwright.subject import Subject


class Says:
    def predict(self, table):
        said = torch.tensor(table.column("said").to_pylist())
        p = torch.nn.functional.one_hot(said, 2).float() * 0.8 + 0.1
        return {"y": Prediction(value=said, probabilities=p, score=p.max(1).values)}


def subject(table, columns=("sex", "site"), **more):
    schema = Schema({c: find.make("kinds", "category") for c in columns}, {"y": find.make("kinds", {"category": {"labels": ["0", "1"]}})}, list(columns))
    schema.fit(table)
    return Subject(Says(), schema, {"test": table, **more})


def drawn(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"sex": rng.choice(["f", "m"], n), "site": rng.choice(["a", "b", "c"], n), "y": rng.integers(0, 2, n), "said": rng.integers(0, 2, n)})


def figures(subject):
    return {m.metric.removeprefix("fairness."): m for m in auditing.measure(subject, only=["fairness"])}


def test_values_are_fairlearns_with_intersections():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    table = drawn()
    y, said = (table.column(c).to_numpy() for c in ("y", "said"))
    features = table.select(["sex", "site"]).to_pandas()
    found = figures(subject(table))
    for name in ("demographic_parity_difference", "equalized_odds_difference", "equal_opportunity_difference"):
        assert found[name].value == pytest.approx(getattr(fairlearn, name)(y, said, sensitive_features=features), abs=1e-12)
        assert found[name].low <= found[name].value <= found[name].high


def test_by_hand():
    """Women: 100 rows, 60 positive, of which 30 said yes, of the 40 others 10. Men: 50 positive, 45 yes, 50 others, 5 yes."""
    counts = [("f", 1, 1, 30), ("f", 1, 0, 30), ("f", 0, 1, 10), ("f", 0, 0, 30), ("m", 1, 1, 45), ("m", 1, 0, 5), ("m", 0, 1, 5), ("m", 0, 0, 45)]
    rows = [(s, y, a) for s, y, a, n in counts for _ in range(n)]
    table = pa.table(dict(zip(("sex", "y", "said"), map(list, zip(*rows, strict=True)), strict=True)))
    found = figures(subject(table, ("sex",)))
    assert found["demographic_parity_difference"].value == pytest.approx(0.5 - 0.4)
    assert found["equal_opportunity_difference"].value == pytest.approx(0.9 - 0.5)
    assert found["equalized_odds_difference"].value == pytest.approx(0.4)
    worst = found["worst_group_accuracy"]
    alone, both = (interval(Metric.mean(np.repeat([1.0, 0.0], [60, 40])), 100, level=level) for level in (0.95, 0.975))
    assert (worst.details["worst"], worst.value, worst.n) == ("sex=f", 0.6, 100) and (worst.low, worst.high) == (alone.low, both.high)
    assert found["equalized_odds_difference"].details["worst_group"] == "sex=f" and found["equalized_odds_difference"].details["accuracy"]["sex=f"][0] == 0.6


def test_intervals_over_clusters_say_so():
    table = drawn(400)
    table = pa.concat_tables([table] * 4).append_column("home", pa.array(list(range(400)) * 4))  # each answer four times
    alone, together = subject(table, ("sex",)), subject(table, ("sex",))
    together.clusters, alone._copies = "home", {"test": None}
    of_rows, of_homes = (figures(s)["demographic_parity_difference"] for s in (alone, together))
    assert "clusters" in of_homes.method and "clusters" not in of_rows.method and of_homes.high - of_homes.low > 1.5 * (of_rows.high - of_rows.low)


def test_a_group_without_positives_is_unknown_not_zero():
    table = drawn()
    table = table.filter(pa.array([s == "m" or y == 0 for s, y in zip(table.column("sex").to_pylist(), table.column("y").to_pylist(), strict=True)]))
    found = figures(subject(table, ("sex",)))["equal_opportunity_difference"]
    assert found.value is None and found.reasons == ["fairness.no_positives"]
    assert figures(subject(table, ("sex", "site")))["equal_opportunity_difference"].high > 0.5


def test_a_small_group_accuses_nobody_and_clears_nobody():
    table = pa.concat_tables([drawn(400), pa.table({"sex": ["x"] * 3, "site": ["a"] * 3, "y": [1] * 3, "said": [1] * 3})])
    found = figures(subject(table, ("sex",)))["demographic_parity_difference"]
    assert found.value < 0.2 and found.high > 0.5 and found.reasons == ["fairness.small_group"]


def test_trusted_labels_are_taken_where_there_are_some():
    test, trusted = drawn(seed=1), drawn(seed=2)
    found = figures(subject(test, trusted=trusted))
    alone = figures(subject(trusted))
    assert found["equal_opportunity_difference"].split == "trusted" and found["demographic_parity_difference"].split == "test"
    assert found["equal_opportunity_difference"].value == alone["equal_opportunity_difference"].value


@pytest.mark.parametrize(
    "sizes, rates", [((200, 400), (0.5, 0.5)), ((60, 100, 200, 400), (0.5,) * 4), ((60, 400), (0.3, 0.5)), ((60,) * 4 + (300,) * 4, (0.3,) * 8)]
)
def test_the_interval_holds_the_worst_difference(sizes, rates):
    rng, missed = np.random.default_rng(0), 0
    group, true = np.repeat(np.arange(len(sizes)), sizes), max(rates) - min(rates)
    for _ in range(200):
        hit = rng.random(len(group)) < np.array(rates)[group]
        _, low, high, _ = worst_difference(hit, np.ones(len(group), bool), group, len(sizes), 0.95, 1, 20, None)
        missed += not low - 1e-12 <= true <= high + 1e-12
    assert missed <= 19  # of 200, where 5 % are allowed: 3 standard errors above


def test_a_column_alone_may_be_surer_than_the_crossings():
    """Forty sites of 50 women and 50 men: no crossing is sure, the sexes are."""
    rng = np.random.default_rng(0)
    sex, site = np.tile(["f", "m"], 2000), np.repeat([f"s{i:02}" for i in range(40)], 100)
    said = (rng.random(4000) < np.where(sex == "f", 0.35, 0.6)).astype(int)
    found = figures(subject(pa.table({"sex": sex, "site": site, "y": said, "said": said})))["demographic_parity_difference"]
    assert found.low > 0.18 and found.value > 0.25 and found.high > found.value
    assert found.details["rates"]["selection rate"]["sex=f"] == pytest.approx(said[sex == "f"].mean())


def test_those_who_left_the_cell_empty_are_a_group():
    table = drawn(2000)
    gone = np.arange(2000) % 5 == 0
    table = table.set_column(0, "sex", pa.array([None if g else v for g, v in zip(gone, table.column("sex").to_pylist())]))
    table = table.set_column(3, "said", pa.array(np.where(gone, 0, table.column("said").to_numpy())))
    found = figures(subject(table, ("sex",)))["demographic_parity_difference"]
    assert found.low > 0.4 and found.details["rates"]["selection rate"]["sex="] == 0 and found.details["rows_without_group"] == 0


def test_a_name_is_one_group_however_it_is_spelt():
    table = drawn(2000)
    plain = figures(subject(table, ("sex",)))["demographic_parity_difference"]
    spelt = [v.upper() + " " if i % 50 == 0 else v for i, v in enumerate(table.column("sex").to_pylist())]
    found = figures(subject(table.set_column(table.column_names.index("sex"), "sex", pa.array(spelt)), ("sex",)))["demographic_parity_difference"]
    assert found.details["groups"] == plain.details["groups"] and found.value == plain.value


def test_a_group_without_trusted_labels_is_not_cleared():
    test = drawn()
    trusted = test.filter(pa.array([s != "c" for s in test.column("site").to_pylist()]))
    found = figures(subject(test, ("site",), trusted=trusted))["equal_opportunity_difference"]
    assert found.reasons == ["fairness.no_positives"] and found.high > 0.4


def test_what_has_no_value_says_why():
    table = drawn(200)
    table = table.filter(pa.array([s == "m" or y == 0 for s, y in zip(table.column("sex").to_pylist(), table.column("y").to_pylist(), strict=True)]))
    found = figures(subject(table, ("sex",)))["equal_opportunity_difference"]
    assert found.value is None and "sex=f has 0 rows for its true positive rate" in found.details["why"]
    one = figures(subject(drawn(200).filter(pa.array([s == "m" for s in drawn(200).column("sex").to_pylist()])), ("sex",)))
    assert "one group" in one["demographic_parity_difference"].details["why"]


@pytest.mark.parametrize("how", ["all", "women", "picked", "honest", "noise"])
def test_trusted_labels_that_follow_the_model_are_named(how):
    """Copied from its answers, for all or for women alone; or of rows picked where it is right. Honest: drawn at random, also beside noisy ones."""
    rng = np.random.default_rng(3)
    n = 4000
    sex, y = rng.choice(["f", "m"], n), rng.integers(0, 2, n)
    said = np.where((sex == "f") & (y == 1) & (rng.random(n) < 0.35), 0, np.where(rng.random(n) < 0.9, y, 1 - y))
    trusted = np.where((how == "all") | ((how == "women") & (sex == "f")), said, y)
    own = (rng.random(n) < 0.5) & ((how != "picked") | ~((sex == "f") & (y == 1) & (said == 0)))
    y = np.where((how == "noise") & (rng.random(n) < 0.25), 1 - y, y)
    table = pa.table({"sex": sex, "y": y, "said": said})
    more = table.set_column(1, "y", pa.array(trusted)).filter(pa.array(own))
    found = figures(subject(table, ("sex",), trusted=more))
    named = "fairness.copied_labels" in found["equal_opportunity_difference"].reasons
    assert named == (how not in ("honest", "noise")) and named == (found["equal_opportunity_difference"].high is None)
    assert "fairness.copied_labels" not in found["demographic_parity_difference"].reasons


def test_numbers_that_are_names_do_not_count_by_fifths():
    """Districts 1 to 12, one of them refused: as names it is found, as numbers it is lost in a fifth."""
    rng = np.random.default_rng(4)
    district, y = rng.integers(1, 13, 6000), rng.integers(0, 2, 6000)
    table = pa.table({"district": district, "y": y, "said": np.where(district == 7, 0, y)})
    found = figures(subject(table, ("district",)))["demographic_parity_difference"]
    assert "district=7" in found.details["groups"] and found.low > 0.3
    made = subject(table, ("district",))
    made.schema.inputs["district"] = find.make("kinds", "number")
    assert any("<=" in g for g in figures(made)["demographic_parity_difference"].details["groups"])


def test_the_worst_difference_is_that_of_a_double_loop_over_pairs():
    """Newcombe 1998, method 10, of each pair of exact intervals; and a thousand groups take no minutes."""
    rng = np.random.default_rng(0)
    group = rng.choice(6, 400, p=[0.3, 0.3, 0.2, 0.1, 0.08, 0.02])
    hit = rng.random(400) < np.array([0.2, 0.5, 0.4, 0.9, 0.1, 0.5])[group]
    rates = [hit[group == g].mean() for g in range(6)]
    ends = {at: [interval(Metric.mean(hit[group == g]), int((group == g).sum()), level=at) for g in range(6)] for at in (0.95, 1 - 0.05 / 15)}
    value, low, high = 0.0, 0.0, 0.0
    for a in range(6):
        for b in range(6):
            d = rates[a] - rates[b]
            high = max(high, d + ((ends[0.95][a].high - rates[a]) ** 2 + (rates[b] - ends[0.95][b].low) ** 2) ** 0.5)
            if a != b and min((group == a).sum(), (group == b).sum()) >= 20 and d >= 0:
                wide = ends[1 - 0.05 / 15]
                value, low = max(value, d), max(low, d - ((rates[a] - wide[a].low) ** 2 + (wide[b].high - rates[b]) ** 2) ** 0.5)
    found = worst_difference(hit, np.ones(400, bool), group, 6, 0.95, 1, 20, None)
    assert found[:3] == pytest.approx((value, low, min(high, 1.0))) and found[3] == pytest.approx(rates)
    many = rng.integers(0, 1000, 5000)
    assert np.isnan(worst_difference(rng.random(5000) < 0.5, np.ones(5000, bool), many, 1000, 0.95, 1, 20, None)[0])


def test_the_thresholds_of_a_model_from_elsewhere_make_its_groups_even_on_other_rows():
    class Theirs:
        process_id = None

        def __init__(self, thresholds=None):
            self.at = thresholds or {}

        def predict(self, table):
            p = torch.tensor(table.column("p").to_numpy())
            mixes = [self.at.get(f"sex={v}", [[0.5, 1.0]]) for v in table.column("sex").to_pylist()]
            chance = torch.tensor([sum(w for t, w in mix if q > t) for q, mix in zip(p.tolist(), mixes, strict=True)])
            u = (6180.34 * torch.log((p + 1e-9) / (1 - p + 1e-9)).abs()) % 1  # as the report says
            return {"y": Prediction(value=(u < chance).long(), probabilities=torch.stack([1 - p, p], 1))}

    def rows(seed):
        rng = np.random.default_rng(seed)
        sex = rng.choice(["f", "m"], 6000)
        p = 1 / (1 + np.exp(-rng.normal(np.where(sex == "f", -1, 1), 1)))
        return pa.table({"sex": sex, "p": p, "y": (rng.random(6000) < p).astype(int)})

    def found(model, name, **more):
        made = subject(rows(0), ("sex",), **more)
        made.predictor = model
        return figures(made)[name]

    for name in ("demographic_parity_difference", "equal_opportunity_difference", "equalized_odds_difference"):
        before = found(Theirs(), name, calibration=rows(1))
        repair = before.details["repair"]
        assert before.low > 0.2 and repair["split"] == "calibration"
        assert all(f < 0.5 < m for (f, _), (m, _) in zip(repair["thresholds"]["sex=f"], repair["thresholds"]["sex=m"], strict=False))
        assert found(Theirs(repair["thresholds"]), name).value < 0.06
    assert "repair" not in found(Theirs(), name).details
