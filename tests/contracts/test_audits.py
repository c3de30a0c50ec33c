"""What every audit owes, on any model and any data: measurements with finite figures or reasons, or a refusal in words; never an exception."""

import json
import math

import numpy as np
import pytest
import torch
from small_data import TARGETS, schema, spec_of, table

from modelwright import artifact, find
from modelwright.auditing import measure
from modelwright.evidence import dumps
from modelwright.forms import Measurement
from modelwright.subject import Subject

KINDS = [k for k in TARGETS if k not in ("value",)]  # no table holds it
kept = {}


def subject(target, splits=("train", "validation", "calibration", "test"), **more):
    form, encoder = ("picture", "cnn") if target == "boxes" else ("table", "mlp")
    if target not in kept:
        made = schema(form, target)
        torch.manual_seed(0)
        (key,) = made.encoders()
        parts = {"encoders": {key: spec_of(encoder, form)}, "fusion": "concat", "heads": {"y": made.targets["y"].head}, "decoders": {}}
        kept[target] = made, artifact.assemble_model(made, parts)
    made, model = kept[target]
    data = table(form, target)
    starts = {"train": 0, "validation": 60, "calibration": 100, "test": 140}
    cut = {s: data.slice(starts[s], 60 if s == "train" else 40) for s in splits}
    loaded = artifact.Loaded(model, made)
    return Subject(loaded, made, cut, open=loaded.open, seconds=1.0, **more)


def sound(lines):
    for line in lines:
        assert isinstance(line, Measurement) and line.audit and line.metric and line.method
        said = [line.value, line.low, line.high]
        assert all(x is None or isinstance(x, (int, float)) for x in said), line
        if line.value is None or not math.isfinite(line.value):
            assert line.reasons, f"{line.metric} has no value and no reason"
        elif all(x is not None and math.isfinite(x) for x in (line.low, line.high)):
            assert line.low - 1e-9 <= line.value <= line.high + 1e-9, line
        assert line.metric != f"{line.audit}.error" or line.reasons[0] not in ("audit.error",), line.details
        json.loads(dumps({"details": line.details}))


each = pytest.mark.parametrize("name", find.names("audits"))


@each
@pytest.mark.parametrize("target", KINDS)
def test_of_every_kind_of_target(name, target):
    sound(measure(subject(target), only=[name]))


@each
def test_with_a_test_split_alone(name):
    sound(measure(subject("category", ["test"]), only=[name]))
    sound(measure(subject("number", ["test"]), only=[name]))


@each
@pytest.mark.parametrize("missing", ["train", "validation", "calibration"])
def test_with_a_split_missing(name, missing):
    splits = [s for s in ("train", "validation", "calibration", "test") if s != missing]
    sound(measure(subject("category", splits), only=[name]))


@each
def test_with_few_rows_and_with_targets_that_are_missing(name):
    few = subject("category")
    few.splits["test"] = few.splits["test"].slice(0, 3)
    sound(measure(few, only=[name]))
    gaps = subject("category")
    column = gaps.splits["test"].column("y").to_pylist()
    y = gaps.splits["test"].column_names.index("y")
    gaps.splits["test"] = gaps.splits["test"].set_column(y, "y", [[None if i % 3 else v for i, v in enumerate(column)]])
    sound(measure(gaps, only=[name]))


@each
def test_with_slices_and_groups(name):
    sound(measure(subject("category", slices=["texture=rough", "mean radius>1000"]), only=[name]))


@each
def test_the_same_seed_gives_the_same_figures(name):
    if find.find("audits", name).clocked:
        pytest.skip("it reads a clock")
    one, two = (measure(subject("category"), only=[name]) for _ in range(2))
    if any("budget" in " ".join(line.reasons) for line in [*one, *two]):
        pytest.skip("it stopped when its time was over")
    assert [(a.metric, a.slice, a.n) for a in one] == [(b.metric, b.slice, b.n) for b in two]
    pairs = [(a.metric, a.value, b.value) for a, b in zip(one, two) if a.value is not None]  # ranks of attributions can turn on a last bit
    assert not [p for p in pairs if not np.isclose(p[1], p[2], rtol=0.02, atol=0.02, equal_nan=True)]


def test_where_time_is_short_what_no_limit_asks_for_comes_last():
    order = [m.audit for m in measure(subject("category"), budget=-1.0, asked={"robustness"})]
    costly = {n for n in find.names("audits") if find.find("audits", n).costly is not None}
    assert order == sorted(order, key=lambda n: n in costly and n != "robustness") and set(order[-len(costly) + 1 :]) == costly - {"robustness"}
    assert order.index("robustness") < order.index("explanation")
