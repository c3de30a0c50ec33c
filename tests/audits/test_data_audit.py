"""Each check against its definition or a slow loop; clean data stays silent; the report card's kinds, one draw each (slow)."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import make_classification
from sklearn.metrics import roc_auc_score

from modelwright import auditing, find
from modelwright.audits import data as data_audit
from modelwright.checks import codes, columns, copies, formats, labels, leaks, shift, units
from modelwright.data import splits
from modelwright.data.schema import Schema, infer, profile
from modelwright.registry import gate
from modelwright.subject import Subject


def subject(splits, target="y", kinds=None, **more):
    kinds, first = kinds or {}, next(iter(splits.values()))
    inputs = {n: find.make("kinds", kinds.get(n) or infer(p)) for n, p in profile(first).items() if n != target}
    schema = Schema({n: k for n, k in inputs.items() if k.place != "none"}, {target: find.make("kinds", kinds.get(target, "category"))})
    schema.fit(first)
    return Subject(None, schema, splits, **more)


def figures(subject):
    return {m.metric.removeprefix("data."): m for m in auditing.measure(subject, only=["data"])}


def clean(n=600, seed=0):
    x, y = make_classification(n, 8, n_informative=5, class_sep=1.2, flip_y=0, random_state=seed)
    table = pa.table({f"x{i}": x[:, i] for i in range(8)} | {"y": y})
    return {"train": table.slice(0, int(0.7 * n)), "test": table.slice(int(0.7 * n))}


def test_clean_data_stays_silent_and_nothing_fails():
    found = figures(subject(clean()))
    assert {n for n, m in found.items() if m.value} <= {"label_error_rate", "test_label_error_rate", "group_label_error_rate"}
    assert found["group_label_error_rate"].low == 0 and "fifth" in found["group_label_error_rate"].details["group"]
    assert found["label_error_rate"].low < 0.02 and found["label_error_rate"].value < 0.03
    assert not any(m.metric.endswith(".error") for m in found.values())


def test_without_training_rows_what_compares_splits_says_so():
    found = figures(subject({"test": clean()["test"]}))
    assert all(
        found[n].value is None and found[n].reasons == ["data.no_train"] for n in ("duplicate_rate", "near_duplicate_rate", "split_shift", "label_error_rate")
    )
    assert found["leakage"].value == 0 and found["leakage"].split == "test"


def test_a_time_is_measured_and_its_absence_is_named():
    line = figures(subject(clean()))["time_overlap"]
    assert line.value is None and line.reasons == ["data.no_time"] and "no column of both splits is a time" in line.details["why"]
    parts = clean()
    n, m = parts["train"].num_rows, parts["test"].num_rows
    days = [np.datetime64("2020-01-01") + np.arange(n), np.datetime64("2020-01-01") + np.arange(n - m // 4, n - m // 4 + m)]  # a quarter begins too early
    parts = {k: t.append_column("day", pa.array(d)) for (k, t), d in zip(parts.items(), days, strict=True)}
    line = figures(subject(parts))["time_overlap"]
    assert line.value == np.mean(days[1] <= days[0].max()) == (m // 4) / m and "data.no_time" not in line.reasons


@pytest.mark.parametrize("by", [None, "who"])
def test_rows_that_a_split_by_time_keeps_together_count_by_the_latest(by):
    """Copies, and rows of one person, go where the latest goes: honest data has no overlap for it, a split at random has it all the same."""
    rng, n = np.random.default_rng(0), 2000
    x, day, who = rng.integers(0, 600, n), rng.integers(0, 1000, n), rng.integers(0, n // 3, n)
    together = np.unique(x if by is None else who, return_inverse=True)[1]
    table = pa.table({"x": x if by is None else rng.normal(size=n), "day": np.datetime64("2020-01-01") + day, "who": who, "y": rng.integers(0, 2, n)})
    shares, early = {"test": 0.3}, []
    for time in (day, None):
        which = splits.assign(n, shares, 0, units=together, time=time)
        parts = {k: table.filter(pa.array(which == i)) for k, i in (("train", 0), ("test", 3))}
        line = figures(subject(parts, kinds={"day": "identifier", "who": "identifier", "x": "number"}, clusters=by))["time_overlap"]
        early.append(line.value)
        assert (parts["test"]["day"].to_numpy() <= parts["train"]["day"].to_numpy().max()).mean() > 0.2
    assert early[0] == 0 and early[1] > 0.95


def test_the_time_allowed_is_kept_and_named():
    found = figures(subject(clean(), seconds=0.0))
    assert all(m.value is None and m.reasons == ["data.budget"] for m in found.values())


def test_personal_data_is_counted_and_never_shown():
    parts = clean()
    note = [f"call +44 20 7946 {1000 + i}" if i % 4 == 0 else "nothing" for i in range(parts["train"].num_rows)]
    parts["train"] = parts["train"].append_column("note", pa.array(note))
    parts["test"] = parts["test"].append_column("note", pa.array(["nothing"] * parts["test"].num_rows))
    line = figures(subject(parts, kinds={"note": "text"}))["personal"]
    assert line.value == 0.25 and line.reasons == ["data.personal"] and line.details["columns"] == {"note": {"telephone": 105}}
    assert "7946" not in str(line) and figures(subject(clean()))["personal"].value == 0


def test_equal_rows_are_those_of_a_double_loop():
    rng = np.random.default_rng(0)
    a, b = (pa.table({"u": rng.integers(0, 6, 80), "v": rng.choice(["k", "l", None], 80)}) for _ in range(2))
    rows = [set(map(tuple, zip(*t.to_pydict().values(), strict=True))) for t in (a, b)]
    assert copies.equal_rows(a, b).tolist() == [r in rows[1] for r in zip(*a.to_pydict().values(), strict=True)]


@pytest.mark.parametrize("dimension", [2, 6, 12])
def test_points_lie_near_by_chance_as_rarely_as_is_said(dimension):
    """Levina and Bickel's dimension sets the distance: of independent points at most a few in a thousand lie nearer; jittered copies all do."""
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(2000, dimension)), rng.normal(size=(2000, dimension))
    assert copies._near_points(train, test).mean() <= 0.004
    close = 2e-4 if dimension == 2 else 0.01
    assert copies._near_points(train, train + close * rng.normal(size=train.shape)).mean() > 0.7


def test_rows_that_differ_in_one_cell_are_those_of_a_double_loop():
    rng = np.random.default_rng(0)
    x, new = np.round(rng.normal(size=(300, 5)), 3), np.round(rng.normal(size=(40, 5)), 3)
    new[:20] = x[:20]
    for i in range(15):
        new[i, i % 5] += 1
    new[15:20, :2] += 1  # two cells
    test, train = (pa.table({f"c{i}": v[:, i] for i in range(5)}) for v in (new, x))
    slow = [((row != x).sum(1) <= 1).any() for row in new]
    assert copies.equal_but_one(test, train).tolist() == slow and sum(slow) == 15
    few = pa.table({f"c{i}": rng.integers(0, 3, 300) for i in range(5)})
    assert not copies.equal_but_one(few.slice(0, 50), few.slice(50)).any(), "people are alike in such a table"


def test_pictures_mirrored_and_turned_are_near_and_others_are_not():
    rng = np.random.default_rng(0)
    x = np.kron(rng.integers(0, 255, (200, 1, 8, 8)), np.ones((2, 2))).astype(np.uint8)
    train, copied = copies.small(x[:150], 8), np.concatenate([x[:9, :, :, ::-1], np.rot90(x[9:20], 1, (2, 3)), x[150:]])
    assert copies._near_points(train, *copies.turned(copied)).tolist() == [True] * 20 + [False] * 50


def test_hashes_and_addresses_are_persons_whatever_the_column_is_called():
    hashes, mail = [f"{i:04x}-c0ffee-{i:06x}" for i in range(50)], [f"p{i}@x.org" for i in range(50)]
    table = pa.table({"ref": hashes * 3, "contact": mail * 3, "barcode": [f"{4 * 10**12 + i}" for i in range(50)] * 3, "post": ["75001", "10115", "1010"] * 50})
    assert copies.entities([table], None, set()) == ["ref", "contact"]


def test_runs_of_words_are_all_that_there_are_in_both_scripts():
    words = [f"w{i}" for i in range(20)]
    assert len(copies.runs(" ".join(words))) == 8 and copies.runs(" ".join(words[:12])) == set()
    plain, other = copies.runs("今天天气很好我们一起去公园散步吧"), copies.runs("今天天氣很好我們一起去公園散步吧")
    assert len(plain) == len(other) == 2 * (16 - 13 + 1) and len(plain & other) == 16 - 13 + 1  # as written, and in either writing
    assert len(copies.runs("伄伂仼何亐上伄丱什佊争佀乣伀伂丷乵亐")) == 18 - 13 + 1, "rare signs say nothing once they are one for all"
    test = pa.chunked_array([[" ".join(words), "short", " ".join(reversed(words))]])
    train = pa.chunked_array([["x " + " ".join(words[3:18]) + " y"]])
    hit, asked = copies.contaminated(test, train)
    assert hit.tolist() == [True, False, False] and asked.tolist() == [True, False, True]


def test_boilerplate_is_no_contamination():
    same = " ".join(f"b{i}" for i in range(15))
    train = pa.chunked_array([[same + f" own{i}" for i in range(30)]])
    assert not copies.contaminated(pa.chunked_array([[same]]), train)[0].any()


def test_the_confident_joint_is_the_papers():
    """Northcutt et al. 2021, equations 1 and 2, as a double loop."""
    rng = np.random.default_rng(2)
    p, y = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    t = [p[y == j, j].mean() for j in range(3)]
    slow = np.zeros((3, 3), int)
    for row, given in zip(p, y, strict=True):
        over = [j for j in range(3) if row[j] >= t[j]]
        if over:
            slow[given, max(over, key=lambda j: row[j])] += 1
    assert (labels.confident_joint(p, y) == slow).all()


def overlapping(rng, n, sharp, noise):
    """p(y|x) of overlapping classes as it is known to be, and labels of which a share is wrong."""
    p = 1 / (1 + np.exp(-sharp * rng.normal(size=n)))
    y = (rng.random(n) < p) ^ (rng.random(n) < noise)
    q = p * (1 - noise) + (1 - p) * noise
    return np.stack([1 - q, q], 1), y.astype(int)


@pytest.mark.parametrize("sharp", [2, 4])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.25])
def test_the_error_rate_holds_the_noise_though_classes_overlap(noise, sharp):
    """The interval (0.95 asked) holds the truth in 93 of 100 draws, though at sharp 2 a fifth of labels is not the likelier one; its value is near it."""
    rng = np.random.default_rng(3)
    found = [labels.error_rate(*overlapping(rng, 3000, sharp, noise), 0.95)[0] for _ in range(100)]
    assert sum(i.low <= noise <= i.high for i in found) >= 93
    assert abs(np.mean([i.value for i in found]) - noise) < 0.02


def test_mere_overlap_is_no_error_and_says_that_it_could_be_more():
    """Classes of which a third of the labels is not the likelier one: a count among the surest says 11 %; here 0 is inside, and the high end open."""
    rng = np.random.default_rng(4)
    found = [labels.error_rate(*overlapping(rng, 1500, 1, 0.0), 0.95)[0] for _ in range(30)]
    assert sum(i.low == 0 for i in found) >= 27 and np.median([i.value for i in found]) < 0.04 and all(i.high > 0.05 for i in found)


def test_errors_in_one_group_are_counted_in_the_whole_once_groups_are_told():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 4, 4000)
    p, y = overlapping(rng, 4000, 6, 0.0)
    hit = (group == 2) & (rng.random(4000) < 0.3)
    q = np.where((group == 2)[:, None], 0.7 * p + 0.3 * (1 - p), p)
    alone, told = (labels.error_rate(q, np.where(hit, 1 - y, y), 0.95, within=g)[0] for g in (None, group))
    assert alone.high < hit.mean() < told.high and told.low <= hit.mean() and abs(told.value - hit.mean()) < 0.03
    (column, name), i, _, many = labels.worst_group({"site": (group, list("abcd"))}, q, np.where(hit, 1 - y, y), 0.95, None)
    assert (column, name, many) == ("site", "c", 4) and i.low <= 0.3 <= i.high and i.low > 0.15


def test_a_group_whose_codes_were_exchanged_is_told_from_one_with_other_causes():
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(1200, 5)).astype(np.float32), rng.integers(0, 4, 1200)
    risk = 2 * x[:, 0] + 1.5 * x[:, 1]
    named = {"site": (group, list("abcd"))}

    def drawn(z):
        return (z + rng.logistic(size=1200) > 0).astype(int)

    y = drawn(risk)
    (where, i, n, many) = labels.opposite(named, x, np.where(group == 2, 1 - y, y), 0.95, None)
    assert where == ("site", "c") and i.low > 2 / 3 and i.value > 0.85 and many == 4 and n < 200
    for other in (y, drawn(np.where(group == 2, 0.3 * risk, risk)), drawn(np.where(group == 2, 3 * x[:, 3], risk)), rng.integers(0, 2, 1200)):
        assert labels.opposite(named, x, other, 0.95, None) is None


def test_a_group_that_is_a_class_is_not_told_that_all_others_contradict_it():
    """A code of the target beside it, left out of the model: nobody else has such labels, so nobody can say that they are others."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 1200)
    x = rng.normal(size=(1200, 4)) + 4 * np.eye(4)[y]
    named = {"code": (y, [str(c) for c in range(4)])}
    assert labels.opposite(named, x, y, 0.95, None) is None
    mixed = np.where(rng.random(1200) < 0.1, rng.integers(0, 4, 1200), y)  # a code that nearly is it
    assert labels.opposite({"code": (mixed, named["code"][1])}, x, y, 0.95, None) is None


def test_a_column_alone_is_judged_by_auroc_as_scikit_learn_has_it():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 500)
    said = np.stack([1 - (s := y * 0.3 + rng.random(500)), s], 1)
    value, low = leaks.skill(said, y, 2, 0.99)
    assert value == pytest.approx(roc_auc_score(y, said[:, 1])) and low < value


def test_two_sample_p_values_are_uniform_or_larger_where_nothing_shifts():
    rng, p = np.random.default_rng(5), []
    for seed in range(16):
        x = rng.normal(size=(160, 3)).astype(np.float32)
        p.append(shift.two_sample(x, np.arange(160) % 3 == 0, seed, draws=200)[1])
    assert np.sum(np.array(p) <= 0.1) <= 5
    x[::3] += 1
    assert shift.two_sample(x, np.arange(160) % 3 == 0, 0)[1] < 0.01


def test_clusters_of_a_split_are_no_shift():
    """Persons with features of their own stand on one side each: rows would shout, whole persons do not."""
    rng, alarms = np.random.default_rng(6), 0
    for seed in range(8):
        person = np.repeat(np.arange(30), 8)
        x = (rng.normal(size=(30, 4))[person] + 0.1 * rng.normal(size=(240, 4))).astype(np.float32)
        alarms += shift.two_sample(x, person % 3 == 0, seed, person, draws=200)[1] < 0.05
    assert alarms <= 3


def test_holm_is_the_step_down_procedure():
    assert shift.holm({"a": 0.04, "b": 0.001, "c": 0.02, "d": 0.5}, 0.05) == ["b"]
    assert shift.holm({"a": 0.024, "b": 0.001, "c": 0.016}, 0.05) == ["b", "c", "a"]


@pytest.mark.parametrize(
    "cells, found",
    [
        ([*np.random.default_rng(0).normal(50, 9, 300), -999, -999, -999], {"-999"}),
        ([*np.random.default_rng(0).normal(50, 9, 300), 9999, 9999], {"9999"}),
        ([*np.random.default_rng(0).normal(120, 20, 300).clip(50), 0, 0, 0], {"0"}),
        ([*np.exp(np.random.default_rng(0).normal(3, 0.4, 300)), 0, 0, 0], {"0"}),
        ([*np.random.default_rng(0).gamma(2, 10, 300), 0, 0, 0], set()),
        ([*np.random.default_rng(0).poisson(3, 300).astype(float)], set()),
        ([*np.random.default_rng(0).normal(0, 1, 300), -1.0, -1.0], set()),
        ([0.0] * 200 + [*np.random.default_rng(0).gamma(2, 50, 100)], set()),
        ([*range(20, 100)] * 4, set()),
        (["red", "blue", "N/A", "green", "N/A"] * 20, {"N/A"}),
        (["有", "没有", "未知", "未知"] * 20, {"未知"}),
        (["red", "none", "no"] * 20, set()),
        (["red", "-", "n.a.", "(blank)", "blue"] * 20, {"-", "n.a.", "(blank)"}),
        (["+", "-", "+-", "unclear"] * 20, set()),
    ],
)
def test_codes_for_missing(cells, found):
    assert set(codes.coded_missing(pa.chunked_array([cells])) or {}) == found


@pytest.mark.parametrize(
    "write, found",
    [
        (lambda v: f"{v:,.2f}", True),
        (lambda v: f"{v:.2f}".replace(".", ","), True),
        (lambda v: f"${v:.2f}", True),
        (lambda v: f"{v:.0f} kg", True),
        (lambda v: f"{v / 100:.1f}%", True),
        (lambda v: f"{v:.0f}元", True),
        (lambda v: "".join(chr(ord(c) + 0xFEE0) for c in f"{v:.0f}"), True),
        (lambda v: f"{v:.2f}", False),
        (lambda v: f"2024-{int(v) % 12 + 1:02d}-{int(v) % 28 + 1:02d}", False),
        (lambda v: f"{int(v) % 90}{'abcdefgh'[int(v) % 8]}", False),
        (lambda v: ["red", "blue", "12 kg", "green", "x1", "y2", "z3", "u4", "v5"][int(v) % 9], False),
    ],
)
def test_numbers_as_text(write, found):
    cells = [write(v) for v in np.random.default_rng(0).uniform(100, 9000, 200)]
    assert (formats.number_format(pa.chunked_array([cells])) is not None) == found


def test_a_column_that_is_known_before_the_answer_is_no_leak_where_that_is_declared():
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=900))
    table = pa.table({"before": np.r_[y[0], y[:-1]], "x": rng.normal(size=900), "y": y})
    parts = {"train": table.slice(0, 600), "test": table.slice(600)}
    s = subject(parts, kinds={"y": "number"})
    assert figures(s)["leakage"].value == 1 and figures(s)["leakage"].details["columns"][0]["column"] == "before"
    s.schema.known = ["before"]
    line = figures(s)["leakage"]
    assert line.value == 0 and line.details["declared_known"] == ["before"] and Schema.from_json(s.schema.to_json()).known == ["before"]


def test_a_constant_column_and_a_check_that_fails_leave_the_others_alone(monkeypatch):
    parts = {k: t.append_column("hours", pa.array([constant] * t.num_rows)) for constant in (0, 5.0, 9) for k, t in clean().items()}
    found = figures(subject(parts, kinds={"hours": "number"}))
    assert found["coded_missing"].value == 0 and not [m for m in found.values() if "audit.error" in m.reasons]

    def breaks(view):
        raise IndexError("index -2")

    monkeypatch.setitem(data_audit.STEPS, "leakage", breaks)
    broken = figures(subject(parts, kinds={"hours": "number"}))
    assert broken["leakage"].reasons == ["audit.error"] and broken.keys() == found.keys() and broken["duplicate_rate"].value == 0


@pytest.mark.parametrize(("women", "named"), [(0.5, []), (0.3, ["sex=f in train"])])
def test_groups_that_the_rows_hold_too_few_of_are_named(women, named):
    """Against a population that is known by its groups alone; four fifths of a half are 0.4."""
    rng, parts = np.random.default_rng(0), clean(1500)
    parts["train"] = parts["train"].append_column("sex", pa.array(np.where(rng.random(parts["train"].num_rows) < women, "f", "m")))
    parts["test"] = parts["test"].append_column("sex", pa.array(rng.choice(["f", "m"], parts["test"].num_rows)))
    population = pa.table({"sex": rng.choice(["f", "m"], 5000)})
    line = figures(subject(parts | {"reference": population}, kinds={"sex": "category"}))["representativeness"]
    assert line.value == len(named) and list(line.details["columns"]) == named
    assert "representativeness" not in figures(subject(parts, kinds={"sex": "category"}))
    for told in line.details["columns"].values():
        assert told["share"] == pytest.approx(0.3, abs=0.05) and told["of the population"] == pytest.approx(0.5, abs=0.03)


def test_what_was_left_out_is_said_by_name():
    asked = {"accuracy", "data", "slice"}
    lines = auditing.measure(subject(clean()), only=["data"], asked=asked)
    assert {m.metric: m.reasons for m in lines if m.metric.endswith(".error")} == {"accuracy.error": ["audit.no_model"], "slices.error": ["audit.no_model"]}
    decided = gate.decide(gate.parse({"auroc": ">= 0.8"}), lines, digests={})
    assert [r["code"] for r in decided.reasons] == ["gate.missing", "audit.no_model"]
    assert decided.reasons[0]["text"].endswith("it was not measured: no model was given")


def test_a_name_of_the_class_beside_it_makes_no_wrong_labels():
    """Among rows of one class those that are read as another all contradict, however sure: by such groups overlap was taken for error."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 1500)
    x = rng.normal(size=(1500, 4)) + 1.6 * np.eye(4)[y]  # they overlap much
    table = pa.table({f"x{i}": x[:, i] for i in range(4)} | {"called": [f"class {c}" for c in y], "y": y})
    found = figures(subject({"train": table.slice(0, 1000), "test": table.slice(1000)}, kinds={"called": "identifier"}))
    assert [found[n].low for n in ("label_error_rate", "test_label_error_rate", "group_label_error_rate")] == [0, 0, 0]


def test_a_switch_of_units_from_a_day_on_is_found_between_tenths_of_time():
    rng, day = np.random.default_rng(3), np.repeat(np.arange(200), 5)
    x = rng.normal(170, 10, 1000)
    switched = np.where(day >= 93, x * 2.20462, x)  # nine fixed moments leave 3 % of either unit on the other's side
    places = rng.permutation(1000)
    assert (units.since(switched[places], day[places].astype(float)) == (day >= 93)[places]).all()
    assert "2.2046" in units.unit_switch(switched, {"day": units.since(switched, day.astype(float))})
    assert units.unit_switch(x, {"day": units.since(x, day.astype(float))}) is None
    gap = np.where(day == 5, np.nan, switched)
    assert (units.since(gap, day.astype(float)) == np.where(day == 5, -1, day >= 93)).all() and (units.since(x[:9], day[:9].astype(float)) == -1).all()


def test_a_switch_of_units_is_found_and_a_natural_difference_is_not():
    rng = np.random.default_rng(7)
    x, g = rng.normal(170, 10, 600), np.repeat([0, 1], 300)
    assert "2.54" in units.unit_switch(np.where(g == 1, x / 2.54, x), {"site": g})
    assert "1.8" in units.unit_switch(np.where(g == 1, (c := rng.normal(15, 3, 600)) * 1.8 + 32, c), {"site": g})
    body = rng.normal(37, 0.7, 600)
    assert "1.8" in units.unit_switch(np.where(g == 1, body * 1.8 + 32, body + 0.3 * (rng.random(600) < 0.4)), {"site": g})
    assert units.unit_switch(np.where(g == 1, x * 1.08, x), {"sex": g}) is None
    assert units.unit_switch(rng.lognormal(3, 1, 600) * np.where(g == 1, 3, 1), {"site": g}) is None


def test_a_leak_with_wrong_cells_is_one_though_a_blurred_score_ranks_as_well():
    """Halving is of errors, row by row: a copy with 4 % wrong cells leaves a quarter of the errors of scores whose AUROC is nearly its own."""
    rng = np.random.default_rng(10)
    y = rng.integers(0, 2, 500)
    copy = np.where(rng.random(500) < 0.04, 1 - y, y) + rng.normal(size=500) * 0.1
    score = 1 / (1 + np.exp(-(2 * y - 1) - rng.normal(size=500) * 1.05))
    others = np.stack([1 - score, score], 1)
    column = {"status": pa.chunked_array([copy])}
    found = leaks.leaking(column, y, 2, lambda without: others, 0, 0.99, None)
    assert [f["column"] for f in found] == ["status"] and found[0]["alone"] - found[0]["others"] < 0.07
    blurred = {"status": pa.chunked_array([score])}
    assert leaks.leaking(blurred, y, 2, lambda without: others, 0, 0.99, None) == []


def test_losses_are_the_balanced_error_and_the_share_of_variance():
    rng = np.random.default_rng(11)
    y, said = rng.choice(3, 300, p=[0.7, 0.2, 0.1]), rng.dirichlet(np.ones(3), 300)
    guess = (said / (np.bincount(y) / 300)).argmax(1)
    assert leaks.losses(said, y, 3).mean() == pytest.approx(np.mean([(guess[y == k] != k).mean() for k in range(3)]))
    z = rng.normal(size=300)
    assert leaks.losses(0.5 * z, z, None).mean() == pytest.approx(1 - (1 - ((0.5 * z) ** 2).sum() / ((z - z.mean()) ** 2).sum()))


def test_words_that_training_lacks_are_no_shift():
    """Most words of real texts are rare: test rows hold many that the vocabulary of training does not, and that is no difference between them."""
    rng = np.random.default_rng(12)
    texts = [" ".join(f"w{v}" for v in rng.zipf(1.3, 12) % 5000) for _ in range(500)]
    table = pa.table({"note": texts, "y": rng.integers(0, 2, 500)})
    assert figures(subject({"train": table.slice(0, 350), "test": table.slice(350)}, kinds={"note": "text"}))["split_shift"].value == 0


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("P-0012", "p 12", True),
        ("Ｐ００１２", "P12", True),
        ("New  York.", "new york", True),
        ("张 三", "张三", True),
        ("A-1-23", "A-12-3", False),
        ("P-12", "P-120", False),
        ("张三", "张四", False),
        (None, "", True),
    ],
)
def test_names_are_folded(a, b, same):
    assert (copies.folded(a) == copies.folded(b)) == same


def test_days_that_stand_for_none():
    days = [str(np.datetime64("2019-03-01") + i) for i in range(200)]
    for cells in (days, pa.array(days).cast(pa.date32())):
        column = pa.chunked_array([cells])
        assert codes.coded_missing(column) is None
        odd = pa.chunked_array([pa.array(["1900-01-01"] * 3 + days).cast(column.type)])
        assert set(codes.coded_missing(odd)) == {"1900-01-01"}
    old = [str(np.datetime64("1969-06-01") + i) for i in range(400)]  # the day that many computers begin with, among others like it
    assert codes.coded_missing(pa.chunked_array([old + ["1970-01-01"] * 3])) is None


def test_labels_that_are_wrong_in_one_group():
    parts = clean(1500, 3)
    rng = np.random.default_rng(13)
    for name, table in parts.items():
        site = rng.choice(["a", "b", "c"], table.num_rows)
        y = table.column("y").to_numpy()
        hit = (site == "b") & (rng.random(len(y)) < 0.3)
        parts[name] = table.set_column(8, "y", pa.array(np.where(hit, 1 - y, y))).append_column("site", pa.array(site))
    line = figures(subject(parts))["group_label_error_rate"]
    assert line.details["group"] == "site=b" and 0.15 < line.value < 0.45 and line.low > 0.01


def test_equal_rows_of_a_table_of_few_values_are_chance_and_copies_in_a_richer_one_are_not():
    rng = np.random.default_rng(0)

    def part(n, wide):
        return pa.table({f"q{i}": rng.integers(0, 3, n) for i in range(4)} | {"age": rng.integers(0, wide, n), "y": rng.integers(0, 2, n)})

    few = figures(subject({"train": part(700, 4), "test": part(300, 4)}, kinds={f"q{i}": "number" for i in range(4)}))["duplicate_rate"]
    assert few.value == 0 and few.details["train"] > 200 and few.details["train, by chance"] > 200
    train, test = part(700, 400), part(300, 400)
    copied = figures(subject({"train": train, "test": pa.concat_tables([train.slice(0, 60), test])}))["duplicate_rate"]
    assert 0.14 < copied.value < 0.2
    pairs = copies.by_chance(*(t.drop_columns("y") for t in (test, train)))  # 81 x 400 different rows, all as likely
    assert pairs.mean() == pytest.approx(700 / 81 / 400, rel=0.3)


def test_a_text_is_near_in_simplified_and_traditional_writing():
    simple, other = "这个病人的体温没有变化医生说今天可以出院回家休息三天以后再来看一次", "我们明天早上八点在学校门口见面一起坐车去山上看日出然后回来吃饭"
    full = simple.translate(str.maketrans("这个体没变医说后来", "這個體沒變醫說後來"))
    assert copies._near_texts(pa.chunked_array([[full, other]]), pa.chunked_array([[simple]])).tolist() == [True, False]
    assert copies.either_writing("学习") == "学习" and copies.contaminated(pa.chunked_array([[full]]), pa.chunked_array([[simple]]))[0].all()
    assert copies.folded("Ｃafé № 007 — Résumé") == copies.folded("c\u0430fe no 7 resume")


def test_a_unit_by_a_crossing_is_found_and_accounts_that_mingle_are_no_unit():
    rng = np.random.default_rng(0)
    a, b, x = rng.integers(0, 3, 2000), rng.integers(0, 3, 2000), rng.normal(170, 8, 2000)
    crossed = columns.crossings({"a": (a, list("uvw")), "b": (b, list("pqr"))})
    assert (crossed["a and b"] == 3 * a + b).all()
    assert units.unit_switch(np.where((a == 1) & (b == 2), x / 2.54, x), crossed) == "by a and b: / 2.54 (inch, cm)"
    bills = np.exp(rng.normal(np.where(a == 1, 7.6, 10), 1.6))
    assert units.unit_switch(bills, {"a": a}) is None


def test_the_nine_beyond_answers_is_a_code_and_rare_large_families_are_none():
    rng = np.random.default_rng(0)
    answers = rng.integers(1, 6, 600)
    assert codes.coded_missing(pa.chunked_array([np.where(rng.random(600) < 0.05, 9, answers)])) == {"9": pytest.approx(0.05, abs=0.03)}
    children = np.minimum(rng.poisson(0.9, 600), 5)
    children[:3] = 9
    assert codes.coded_missing(pa.chunked_array([children])) is None
    assert codes.coded_missing(pa.chunked_array([rng.integers(1, 10, 600)])) is None


def test_what_no_input_foretells_is_not_claimed_to_be_wrong_labels():
    """Rows of one kind, a tenth of which turn out otherwise, among much overlap, as of clients that fall ill: no interval that leaves out 0."""
    rng = np.random.default_rng(6)
    q = np.where(rng.random(6000) < 0.5, rng.normal(0.1, 0.01, 6000).clip(0.05), rng.uniform(0.25, 0.5, 6000))
    p, y = np.stack([1 - q, q], 1), (rng.random(6000) < q).astype(int)
    found, sure = (labels.error_rate(p, y, 0.95, blind=blind)[0] for blind in (True, False))
    assert found.low == 0 < sure.low and found.high == sure.high >= 0.08 and found.value == sure.value


def test_days_are_no_numbers_written_as_text():
    days = [d.strftime("%d.%m.%Y") for d in (np.datetime64("2024-01-01") + np.arange(60)).astype(object)]
    assert formats.number_format(pa.chunked_array([days])) is None
    assert formats.number_format(pa.chunked_array([[f"1.{i:03}.000" for i in range(60)]])) is not None
