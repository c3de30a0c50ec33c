"""Boxes: every form they are written in, sizes, what is malformed, augmentation by hand, metrics by hand, answers, and whole runs."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import modelwright as mw
from modelwright import find
from modelwright.data.schema import Schema, infer, profile
from modelwright.errors import Refusal
from modelwright.forms import Prediction, Ragged
from modelwright.kinds import picture as pictures
from modelwright.kinds.picture import Picture


def png(array: np.ndarray, **settings) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **settings)
    return file.getvalue()


PICTURE = png(np.zeros((50, 100), np.uint8))  # 100 wide, 50 high


def fitted(table: pa.Table, **settings):
    kind = find.make("kinds", {"boxes": settings})
    inputs = {"image": Picture(size=32)} if "image" in table.column_names else {}
    Schema(inputs, {"boxes": kind}).fit(table)
    return kind


def encoded(kind, table: pa.Table):
    return kind.encode_target(kind.column(table, "boxes"))


COCO = [
    [{"bbox": [10, 5, 40, 20], "category": "b"}, {"bbox": [0, 0, 100, 50], "category": "a"}],
    [],
    None,
    [{"bbox": [50, 25, 10, 5], "category": "b"}],
]
VALUES = [[0.1, 0.1, 0.5, 0.5, 1], [0, 0, 1, 1, 0], [0.5, 0.5, 0.6, 0.6, 1]]
CORNERS = [[[10, 5, 50, 25], [0, 0, 100, 50]], [], None, [[50, 25, 60, 30]]]
FORMS = {
    "coco": (COCO, {}),
    "json": ([None if r is None else json.dumps(r) for r in COCO], {}),
    "lists": ([None if r is None else {"bbox": [o["bbox"] for o in r], "category": [o["category"] for o in r]} for r in COCO], {}),
    "named": (
        [
            None if r is None else [dict(zip(("xmin", "ymin", "xmax", "ymax"), b), name=o["category"]) for b, o in zip(r, c)]
            for r, c in zip(CORNERS, COCO)
        ],
        {},
    ),
    "sized": ([None if r is None else [dict(zip("xywh", o["bbox"]), label=o["category"]) for o in r] for r in COCO], {}),
    "corners": (CORNERS, {"label_column": "names"}),
    "shares": (
        [None if r is None else [[v / 100 if i % 2 == 0 else v / 50 for i, v in enumerate(b)] for b in r] for r in CORNERS],
        {"label_column": "names"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", ["header", "columns"])
def test_every_form_means_the_same(form, size):
    rows, settings = FORMS[form]
    names = [None if r is None else [o["category"] for o in r] for r in COCO]
    table = pa.table({"boxes": rows, "names": names, "wide": [100] * 4, "high": [50] * 4, "image": [PICTURE] * 4})
    if size == "columns":
        table, settings = table.drop(["image"]), settings | {"size_columns": ("wide", "high")}
    kind = fitted(table, **settings)
    assert kind.names_ == ["a", "b"] and kind.beside == tuple(c for c in ("names", "wide", "high") if c in str(settings))
    stored = encoded(kind, table)
    np.testing.assert_allclose(stored["values"], VALUES, atol=1e-6)
    assert stored["offsets"].tolist() == [0, 2, 2, 2, 3] and stored["known"].tolist() == [True, True, False, True]
    batch = kind.batch(stored, np.array([3, 1, 0]))
    assert batch.lengths.tolist() == [1, 0, 2] and batch.values.shape == (3, 2, 5)
    again = find.make("kinds", kind.spec)
    again.load(json.loads(json.dumps(kind.state())))
    if size == "columns":
        np.testing.assert_array_equal(encoded(again, table)["values"], stored["values"])


def test_a_turned_picture_is_measured_upright():
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    table = pa.table({"boxes": [[[0.0, 0.0, 25.0, 50.0]]], "image": [png(np.zeros((50, 100), np.uint8), exif=exif)]})
    np.testing.assert_allclose(encoded(fitted(table), table)["values"], [[0, 0, 0.5, 0.5, 0]])  # upright it is 50 wide and 100 high


def test_what_is_malformed_is_clipped_left_out_and_counted():
    good = [[float(i), 5, i + 20, 25] for i in range(60)]
    bad = [[-10, 10, 50, 60], [30, 10, 30, 20], [50, 20, 40, 30], [float("nan"), 0, 10, 10], [120, 0, 140, 20]]
    table = pa.table({"boxes": [good, bad], "image": [PICTURE] * 2})
    kind = fitted(table)
    assert (kind.clipped_, kind.dropped_) == (1, 4) and "4 without area" in kind.describe() and "1 clipped" in kind.describe()
    stored = encoded(kind, table.slice(1))
    np.testing.assert_allclose(stored["values"], [[0, 0.2, 0.5, 1, 0]], atol=1e-6)
    with pytest.raises(Refusal, match="60 of 60 boxes have no area"):  # x y width height read as corners
        fitted(pa.table({"boxes": [[[50.0, 20, 10, 5]] * 60], "image": [PICTURE]}))
    with pytest.raises(Refusal, match="60 reach beyond it"):  # corners read as x y width height, since COCO's bbox is that
        fitted(pa.table({"boxes": [[{"bbox": [50.0, 20, 80, 45]}] * 60], "image": [PICTURE]}))
    with pytest.raises(Refusal, match="no training row has a box"):
        fitted(pa.table({"boxes": pa.array([[]], pa.list_(pa.list_(pa.float64()))), "image": [PICTURE]}))


@pytest.mark.parametrize(
    ("cell", "labels", "words"),
    [
        ([[1.0, 2.0, 3.0]], ["a"], "3 numbers, not 4"),
        ([[1.0, 2.0, 30.0, 40.0]], ["a", "b"], "1 boxes and 2 labels"),
        ([[1.0, 2.0, 30.0, 40.0]], None, "1 boxes and no labels"),
        ([[1.0, 2.0, 30.0, 40.0]], ["z"], "'z'"),
        ("[[1, 2", ["a"], "row 0"),
        ('{"a": 1}', ["a"], "no box among a"),
        ('{"bbox": [[1, 2, 3, 4]], "id": [1, 2]}', ["a"], "different lengths"),
    ],
)
def test_what_cannot_be_read_is_refused_by_row(cell, labels, words):
    kind = find.make("kinds", {"boxes": {"label_column": "names", "labels": ["a", "b"], "size_columns": ("w", "h")}})
    kind.load({"relative_": False, "names_": ["a", "b"], "of_": None})
    table = pa.table({"boxes": [cell], "names": [labels], "w": [100], "h": [50]})
    with pytest.raises(Refusal, match=words):
        encoded(kind, table)


def test_sizes_that_are_missing():
    kind = find.make("kinds", {"boxes": {"size_columns": ("w", "h")}})
    kind.load({"relative_": False, "names_": ["object"], "of_": None})
    table = pa.table({"boxes": [[[1.0, 2, 30, 40]], [[1.0, 2, 30, 40]], []], "w": [100, None, None], "h": [50, 50, None]}, pa.schema(
        [("boxes", pa.list_(pa.list_(pa.float64()))), ("w", pa.int64()), ("h", pa.int64())]))  # fmt: skip
    assert encoded(kind, table)["known"].tolist() == [True, False, True]
    with pytest.raises(Refusal, match="'w'"):
        kind.column(table.drop(["w"]), "boxes")
    with pytest.raises(Refusal, match="size of the pictures"):
        fitted(pa.table({"boxes": [[[1.0, 2, 30, 40]]]}))


def test_which_picture():
    with pytest.raises(Refusal, match="no picture among the inputs"):
        Schema({"image": Picture()}, {"b": find.make("kinds", {"boxes": {"of": "scan"}})})
    with pytest.raises(Refusal, match="one of the pictures left, right"):
        Schema({"left": Picture(), "right": Picture()}, {"b": find.make("kinds", "boxes")})
    kind = find.make("kinds", {"boxes": {"of": "right"}})
    Schema({"left": Picture(), "right": Picture()}, {"b": kind})
    assert kind.of_ == "right"


def test_only_clear_boxes_are_guessed():
    table = pa.table({"coco": COCO, "corners": CORNERS, "tags": [["a"]] * 4, "text": ["a"] * 4})
    assert [find.find("kinds", "boxes").guess(p) > 0 for p in profile(table).values()] == [True, False, False, False]
    assert infer(profile(table)["coco"]) == "boxes"


# Augmentation


def lying_in(height: int, width: int):
    kind, image = find.make("kinds", "boxes"), Picture()
    image.load({"size_": [height, width], "channels_": 1})
    Schema({"image": image}, {"boxes": kind})
    return kind


def test_boxes_follow_a_move_by_hand():
    kind = lying_in(50, 100)
    value = Ragged(
        torch.tensor([[[0.1, 0.2, 0.5, 0.6, 2.0], [0.8, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]]]).repeat(4, 1, 1), torch.tensor([2] * 4)
    )
    flip = [[-1.0, 0, 100], [0, 1, 0]]
    right = [[1.0, 0, 10], [0, 1, -5]]  # 0.1 to the right, 0.1 up: 15/20 * 45/50 of the second box stays
    far = [[1.0, 0, 90], [0, 1, 0]]  # the first box is left with nothing, the second too
    grow = [[2.0, 0, 0], [0, 2, 0]]
    found = kind.follow(value, {"image": torch.tensor([flip, right, far, grow])})
    assert found.lengths.tolist() == [2, 2, 0, 1]
    expected = torch.zeros(4, 3, 5)
    expected[0, :2] = torch.tensor([[0.5, 0.2, 0.9, 0.6, 2], [0.0, 0.0, 0.2, 1.0, 1]])
    expected[1, :2] = torch.tensor([[0.2, 0.1, 0.6, 0.5, 2], [0.9, 0.0, 1.0, 0.9, 1]])
    expected[3, :1] = torch.tensor([[0.2, 0.4, 1.0, 1.0, 2]])
    torch.testing.assert_close(found.values, expected)
    assert kind.follow(value, {"another": torch.zeros(4, 2, 3)}) is value
    twice = kind.follow(kind.follow(value, {"image": torch.tensor([flip] * 4)}), {"image": torch.tensor([flip] * 4)})
    torch.testing.assert_close(twice.values, value.values)


def test_boxes_track_a_bright_rectangle_through_the_pictures_augmentation():
    height, width, rng = 24, 40, torch.Generator().manual_seed(0)
    kind, image = lying_in(height, width), Picture(augment=("translate", "flip"))
    x, boxes = torch.zeros(64, 1, height, width), torch.zeros(64, 1, 5)
    for i in range(64):
        left, top = (int(torch.randint(6, n - 14, (), generator=rng)) for n in (width, height))
        x[i, :, top : top + 7, left : left + 8] = 1
        boxes[i, 0, :4] = torch.tensor([left / width, top / height, (left + 8) / width, (top + 7) / height])
    moved, moves = image.augment(x, torch.Generator().manual_seed(1))
    found = kind.follow(Ragged(boxes, torch.ones(64, dtype=torch.int64)), {"image": moves})
    assert (found.lengths == 1).all() and (found.values[..., :4] - boxes[..., :4]).abs().max() > 0.1
    for picture, box in zip(moved, found.values[:, 0], strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box[:4] * torch.tensor([width, height, width, height]))
        inside = picture[0, y1:y2, x1:x2]
        assert inside.min() == 1 and inside.numel() == 56


# Metrics and answers


def said(*rows) -> Prediction:
    """rows of (box, label, score)"""
    longest = max(len(r) for r in rows)
    boxes, labels, score = torch.zeros(len(rows), longest, 4), torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest)
    for i, row in enumerate(rows):
        for j, (box, label, sure) in enumerate(row):
            boxes[i, j], labels[i, j], score[i, j] = torch.tensor(box), label, sure
    return Prediction(boxes=Ragged(boxes, torch.tensor([len(r) for r in rows])), labels=labels, score=score)


A, B, FAR = [0.0, 0.0, 0.4, 0.5], [0.5, 0.5, 0.9, 1.0], [0.6, 0.0, 0.9, 0.3]
TRUTH = {
    "values": np.array([[*A, 0], [*B, 1], [*A, 0], [*A, 0]], np.float32),
    "offsets": np.array([0, 2, 3, 3, 4]),
    "known": np.array([True, True, True, False]),
}


def metrics(prediction):
    kind = find.make("kinds", "boxes")
    kind.load({"names_": ["a", "b"]})
    return kind.metrics(prediction, TRUTH)


def test_metrics_by_hand():
    every = np.arange(4)
    perfect = metrics(said([(A, 0, 0.9), (B, 1, 0.8)], [(A, 0, 0.7)], [], [(FAR, 1, 0.99)]))  # the last row is unknown: it counts nothing
    assert [perfect[k].value(every) for k in ("map", "map_50", "picture_f1")] == [1, 1, 1]
    # class a: hit 0.9, miss 0.8, hit 0.7 -> precision 1 up to recall 1/2 (51 of 101 recalls), then 2/3; class b: never found
    half = metrics(said([(A, 0, 0.9)], [(A, 0, 0.7)], [(FAR, 0, 0.8)], []))
    assert half["map_50"].value(every) == pytest.approx((51 + 50 * 2 / 3) / 101 / 2)
    assert half["picture_f1"].rows[:3].tolist() == [2 / 3, 1, 0] and np.isnan(half["picture_f1"].rows[3])
    # IoU 0.8 (a fifth too narrow) counts at the thresholds 0.50 to 0.75 surely, so at 6 or 7 of 10
    narrow = metrics(said([([0, 0, 0.32, 0.5], 0, 0.9), (B, 1, 0.9)], [([0, 0, 0.32, 0.5], 0, 0.8)], [], []))
    assert narrow["map_50"].value(every) == 1 and narrow["map"].value(every) == pytest.approx((0.65 + 1) / 2, abs=0.03)
    # chosen rows, repeats allowed: row 2 twice costs more
    assert half["map_50"].value(np.array([0, 1])) == pytest.approx(0.5)
    assert half["map_50"].value(np.array([1])) == 1
    precise = [1 if r / 100 <= 0.5 else 2 / 4 for r in range(101)]
    assert half["map_50"].value(np.array([0, 1, 2, 2])) == pytest.approx(np.mean(precise) / 2)
    unsure = metrics(said([(A, 0, 0.2), (B, 1, 0.2)], [(A, 0, 0.2)], [], []))  # too unsure to be shown
    assert unsure["map"].value(every) == 1 and unsure["picture_f1"].rows[:3].tolist() == [0, 0, 1]


def test_answers_are_json_in_pixels_where_the_size_is_known():
    kind = lying_in(32, 32)
    kind.load({"names_": ["甲", "b"]})
    prediction = said([(B, 1, 0.5), (A, 0, 0.9), (FAR, 0, 0.1)], [(A, 0, 0.8)])
    columns = kind.answer("cells", kind.placed(prediction, pa.table({"image": [PICTURE, None]})))
    assert columns["cells.count"] == [2, 1] and columns["cells.unit"] == ["pixels", "shares"]
    first, second = (json.loads(c) for c in columns["cells"])
    assert [(o["label"], o["box"]) for o in first] == [("甲", [0, 0, 40, 25]), ("b", [50, 25, 90, 50])] and first[0]["score"] == 0.9
    assert second[0]["box"] == pytest.approx(A) and "甲" in columns["cells"][0]
    back = fitted(pa.table({"boxes": [columns["cells"][0]], "image": [PICTURE]}))  # an answer is a column of boxes again
    assert back.names_ == ["b", "甲"] or set(back.names_) == {"b", "甲"}


# Whole runs


def bright(rows: int, seed: int = 0) -> pa.Table:
    """Grey noise of 60 x 40 with one bright or dark rectangle each; some pictures have none, one is unlabelled."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for i in range(rows):
        x = rng.integers(90, 140, (40, 60)).astype(np.uint8)
        w, h = rng.integers(10, 22, 2)
        left, top, dark = rng.integers(0, 60 - w), rng.integers(0, 40 - h), rng.random() < 0.5
        empty = i % 10 == 9
        if not empty:
            x[top : top + h, left : left + w] = 10 if dark else 250
        images.append(png(x))
        one = {"bbox": [int(left), int(top), int(w), int(h)], "category": "dark" if dark else "bright"}
        boxes.append(None if i == 5 else [] if empty else [one])
    return pa.table({"image": images, "boxes": boxes})


def task(table, **settings):
    return mw.task_of(
        {
            "data": {"source": table, "columns": {"image": {"picture": {"size": 32, "augment": ["translate", "flip"]}}}},
            "target": "boxes",
            "model": {"encoders": {"image": {"resnet": {"width": 16, "norm": "group", "patch": 2}}}, "heads": {"boxes": {"boxes": {"width": 32}}}},
            "stages": [{"fit": {"steps": 110, "batch_size": 16, "lr": 0.006, "threads": 1, "precision": "fp32", **settings}}],
        }
    )


def test_a_run_finds_bright_and_dark_rectangles(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    table = bright(200)
    run = mw.run(task(table, micro_batch=8), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    lines = {e["metric"]: e for e in run.evidence["evidence"] if e["slice"] is None}
    assert lines["map_50"]["value"] > 0.9 and lines["map_50"]["low"] > 0.5 and lines["picture_f1"]["value"] > 0.7
    assert lines["map"]["low"] < lines["map"]["value"] < lines["map"]["high"] <= 1
    assert "data:image" in (tmp_path / "run" / "report.html").read_text("utf-8")
    answer = mw.load(tmp_path / "run").answer(table.slice(0, 9).select(["image"]))
    assert answer.column("boxes.count").to_pylist().count(1) >= 7 and set(answer.column("boxes.unit").to_pylist()) == {"pixels"}
    found, true = json.loads(answer.column("boxes")[0].as_py())[0], table.column("boxes")[0].as_py()[0]
    corners = [true["bbox"][0], true["bbox"][1], true["bbox"][0] + true["bbox"][2], true["bbox"][1] + true["bbox"][3]]
    assert found["label"] == true["category"] and np.abs(np.array(found["box"]) - corners).max() < 8
    assert (tmp_path / "run" / "report.html").read_text("utf-8").count("data:image/png") >= 5


def test_columns_beside_are_no_inputs_and_rows_compose_with_strategies(tmp_path, monkeypatch):
    """Labels in a column of their own and a private gradient."""
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    table = bright(80)
    objects = table.column("boxes").to_pylist()
    flat = pa.table({
        "image": table.column("image"), "w": [60] * 80, "h": [40] * 80,
        "boxes": [None if r is None else [o["bbox"] for o in r] for r in objects],
        "names": [None if r is None else [o["category"] for o in r] for r in objects],
    })  # fmt: skip
    kind = {"boxes": {"format": "xywh", "label_column": "names", "size_columns": ["w", "h"]}}
    made = task(flat, steps=3, strategies=[{"dp_sgd": {"epsilon": 8}}])
    run = mw.run(made.model_copy(update={"target": {"boxes": kind}}), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    columns = json.loads((tmp_path / "run" / "plan.json").read_text())["columns"]
    assert {c["name"]: c["role"] for c in columns} == {"image": "input", "w": "target", "h": "target", "boxes": "target", "names": "target"}
    assert run.stages[0]["statement"]["privacy"]["epsilon"] <= 8
    wrong = task(flat).model_copy(update={"target": {"boxes": {"boxes": {"label_column": "nams"}}}})
    with pytest.raises(Refusal, match="no column 'nams'"):
        mw.plan(wrong)
