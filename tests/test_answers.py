"""Models from elsewhere that answer with boxes, sets of labels and numbers are read, measured and asked again as class models are."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from modelwright import auditing, find, planning, task_of
from modelwright.auditing import again
from modelwright.data.schema import Schema
from modelwright.errors import Refusal
from modelwright.forms import Prediction
from modelwright.registry import gate
from modelwright.subject import Subject, rows_of

DETECTOR = """
import io
import numpy as np
from PIL import Image

def factory():
    def find(cell):
        picture = np.asarray(Image.open(io.BytesIO(cell)).convert("RGB"), float)
        boxes = []
        for label, channel in enumerate((0, 2)):
            there = picture[..., channel] - picture.mean(-1) > 40
            if not there.any():
                continue
            y, x = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
            boxes.append([x[0] / 32, y[0] / 24, (x[-1] + 1) / 32, (y[-1] + 1) / 24, 0.5 + there.mean(), label])
        return np.array(boxes).reshape(-1, 6)
    return lambda table: [find(cell) for cell in table.column("scene").to_pylist()]
"""


def scenes(n: int, seed: int, strange: bool = False, nights: float = 0.3) -> pa.Table:
    """One red car in each picture, a blue bus in every second one; those at night are too dark to be seen. Four pictures a drive."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        night = rng.random() < nights
        picture, boxes, labels = rng.normal(90, 4, (24, 32, 3)), [], []
        for label, channel, low in (("car", 0, 0), ("bus", 2, 16)) if i % 2 else (("car", 0, 0),):
            x, y = low + int(rng.integers(0, 6)), int(rng.integers(0, 12))
            if not strange:
                picture[y : y + 9, x : x + 9] = 60
                picture[y : y + 9, x : x + 9, channel] = 80 if night else 220
            boxes.append([x, y, x + 9, y + 9])
            labels.append(label)
        file = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        rows.append({"drive": f"{seed}-{i // 4}", "light": "night" if night else "day", "scene": file.getvalue(), "boxes": boxes, "labels": labels})
    return pa.Table.from_pylist(rows)


def test_a_detector_from_elsewhere_is_measured_in_slices_under_corruptions_and_on_strange_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "detector.py").write_text(DETECTOR, "utf-8")
    for name, table in (("test", scenes(400, 0)), ("ood", scenes(60, 1, strange=True))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "task.yaml").write_text(
        "data: {source: test.parquet, columns: {scene: {picture: {size: 24}}, light: ignore}}\n"
        "target: {boxes: {boxes: {format: xyxy, label_column: labels, labels: [car, bus]}}}\n"
        "audit: {slices: [light=day, labels=bus], require: {map_50: '>= 0.5', slice.worst_accuracy: '>= 0.5', robustness.corruption_accuracy: '>= 0.2'}}\n",
        "utf-8",
    )
    data = {"test": str(tmp_path / "test.parquet"), "ood": str(tmp_path / "ood.parquet")}
    done = auditing.audit(f"{tmp_path}/detector.py:factory", data, str(tmp_path / "task.yaml"), tmp_path / "out")
    lines = {(e["metric"], e["slice"]): e for e in done.evidence["evidence"]}
    assert not [e for e in lines.values() if "audit.error" in e["reason_codes"]]
    assert lines["picture_f1", "light=day"]["value"] > 0.99 and 0.6 < lines["picture_f1", None]["value"] < 0.8
    worst = lines["slice.worst_accuracy", None]
    assert "light=night" in worst["details"]["worst"] and worst["high"] < 0.2 and worst["verdict"] == "fail"
    dark = lines["robustness.corruption_accuracy", None]
    assert 0.2 < dark["low"] < dark["value"] <= lines["picture_f1", None]["value"] and len(dark["details"]["accuracy_by_severity"]) == 6
    assert lines["robustness.linf_accuracy", None]["reason_codes"] == ["robustness.no_class"]
    strange = lines["ood.auroc", None]
    assert strange["details"]["score"] == "sureness" and 0.8 < strange["value"] < 0.9  # no box at all: stranger than by day, as strange as by night
    assert done.evidence["decision"]["verdict"] == "fail"


def test_a_detector_passes_the_policy_for_driving_on_detection_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    (tmp_path / "detector.py").write_text(DETECTOR, "utf-8")
    for seed, (name, n) in enumerate({"train": 60, "validation": 160, "test": 400, "ood": 160}.items()):
        pq.write_table(scenes(n, seed, strange=name == "ood", nights=0.0), tmp_path / f"{name}.parquet")
    (tmp_path / "task.yaml").write_text(
        "data: {source: test.parquet, columns: {scene: {picture: {size: 24}}, light: ignore, drive: identifier}}\n"
        "target: {boxes: {boxes: {format: xyxy, label_column: labels, labels: [car, bus]}}}\n"
        "audit: {policy: driving, clusters: drive, slices: [labels=bus]}\n",
        "utf-8",
    )
    data = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "validation", "test", "ood")}
    done = auditing.audit(f"{tmp_path}/detector.py:factory", data, str(tmp_path / "task.yaml"), tmp_path / "out")
    assert done.evidence["decision"] == {"verdict": "pass", "reasons": []}
    measured = {e["metric"]: e for e in done.evidence["evidence"] if e["slice"] is None}
    assert measured["slice.worst_accuracy"]["low"] > 0.5 and measured["ood.auroc"]["low"] > 0.8 and "clusters" in measured["map_50"]["method"]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.ones((2, 6)), "shape (2, 6) for boxes"),
        (np.array([[[0, 0, 30, 20, 0.5, 0]]]), "pixels"),
        (np.array([[[0, 0, 0.3, 0.2, 1.5, 0]]]), "scores outside"),
        (np.array([[[0, 0, 0.3, 0.2, 0.5, 2]]]), "labels that are none of 0 to 1"),
        (np.array([[[0.4, 0, 0.3, 0.2, 0.5, 1]]]), "second corner"),
    ],
)
def test_boxes_that_are_none_are_refused(out, words):
    kind = find.make("kinds", "boxes")
    kind.names_ = ["car", "bus"]
    with pytest.raises(Refusal) as e:
        kind.read(out)
    assert words in str(e.value)


def test_boxes_are_read_surest_first_and_padding_is_none():
    kind = find.make("kinds", "boxes")
    kind.names_ = ["car", "bus"]
    rows = [[[0, 0, 0.2, 0.2, 0, 0], [0, 0, 1.02, 0.5, 0.4, 1], [0.1, 0.1, 0.3, 0.3, 0.9, 0]], [[0, 0, 0, 0, 0, 0]] * 3]
    said = kind.read(np.array(rows))
    assert said.boxes.lengths.tolist() == [2, 0] and said.labels[0, :2].tolist() == [0, 1] and said.score[0, :2].tolist() == [0.9, 0.4]
    assert said.boxes.values[0, 1].tolist() == [0, 0, 1, 0.5]


def test_sets_of_labels_are_read_and_what_is_no_probability_is_not():
    kind = find.make("kinds", {"labels": {"labels": ["a", "b", "c"]}})
    kind.fit(pa.chunked_array([["a; b", "c"]]))
    p = np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.1]])
    said = kind.read(p)
    assert said.value.tolist() == [[True, False, True], [False] * 3] and said.score.tolist() == pytest.approx([0.9 * 0.8 * 0.6, 0.9**3])
    for out, words in ((p * 5, "0.5 to 4.5"), (p[:, :2], "shape (2, 2)")):
        with pytest.raises(Refusal, match="for the probabilities of 3 labels") as e:
            kind.read(out)
        assert words in str(e.value)


def test_a_toxicity_model_of_several_labels_is_audited(tmp_path, monkeypatch):
    """A Hugging Face folder with problem_type multi_label_classification: its labels by their names, in another order than the task's."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    words = ["[PAD]", "[UNK]", "you", "fool", "die", "nice", "day", "a"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    names = {0: "threat", 1: "insult"}
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=16,
        problem_type="multi_label_classification", num_labels=2, id2label=names, label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.BertForSequenceClassification(config)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words[2:], 4)) for _ in range(300)]
    truth = torch.tensor([["die" in t, "fool" in t] for t in texts]).float()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    read = fast(texts, padding=True, return_tensors="pt")
    for _ in range(60):
        loss = net(**read, labels=truth).loss
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    net.save_pretrained(tmp_path / "model"), fast.save_pretrained(tmp_path / "model")
    tags = ["; ".join(n for n, hit in (("insult", "fool" in t), ("threat", "die" in t)) if hit) for t in texts]
    pq.write_table(pa.table({"text": texts, "tags": tags}), tmp_path / "test.parquet")
    (tmp_path / "task.yaml").write_text("data: {source: test.parquet, columns: {text: text}}\ntarget: {tags: {labels: {labels: [insult, threat]}}}\n", "utf-8")
    done = auditing.audit(str(tmp_path / "model"), {"test": str(tmp_path / "test.parquet")}, str(tmp_path / "task.yaml"), tmp_path / "out")
    lines = {e["metric"]: e for e in done.evidence["evidence"] if e["slice"] is None}
    assert lines["subset_accuracy"]["value"] > 0.95 and lines["micro_f1"]["value"] > 0.95
    assert lines["slice.worst_accuracy"]["value"] is not None and lines["robustness.corruption_accuracy"]["value"] < lines["subset_accuracy"]["value"]
    assert json.loads((tmp_path / "out" / "evidence.json").read_text("utf-8"))["evidence"]


class Reads:
    """The number in a column, sometimes with what it draws."""

    def __init__(self, noise=0.0):
        self.noise, self.rng = noise, np.random.default_rng(0)

    def predict(self, table):
        x = table.column("x").to_numpy()
        return {"y": Prediction(value=torch.from_numpy((x + self.noise * self.rng.normal(size=len(x))).astype(np.float32)))}


@pytest.mark.parametrize(("noise", "fickle"), [(0.0, False), (0.01, False), (0.5, True)])
def test_a_number_that_is_drawn_is_fickle(noise, fickle):
    x = np.random.default_rng(1).normal(size=600)
    table = pa.table({"x": x, "y": x})
    schema = Schema({"x": find.make("kinds", "number")}, {"y": find.make("kinds", "number")}, [])
    schema.fit(table)
    s = Subject(Reads(noise), schema, {"test": table})
    measured = auditing.measure(s, only=["accuracy"])
    again.mark(s, measured)
    assert {"accuracy.fickle" in m.reasons for m in measured} == {fickle} and {m.low is None for m in measured} == {fickle}
    assert {m.metric: m.reasons for m in auditing.measure(s, only=["slices"])}["slice.worst_accuracy"] == ["slice.no_credit"]


def test_a_number_is_right_within_its_tolerance():
    rng = np.random.default_rng(2)
    x, far = rng.normal(size=2000), rng.random(2000) < 0.25
    site = np.where(far, "far", "near")
    table = pa.table({"x": x, "site": site, "y": x + np.where(far, 1.0, 0.1) * rng.normal(size=2000)})
    target = find.make("kinds", {"number": {"tolerance": 0.5, "scale": False}})
    schema = Schema({"x": find.make("kinds", "number"), "site": find.make("kinds", "category")}, {"y": target}, [])
    schema.fit(table)
    s = Subject(Reads(), schema, {"test": table.slice(0, 1000), "validation": table.slice(1000)})
    within = {m.metric: m.value for m in auditing.measure(s, only=["accuracy"])}["within"]
    off = np.abs(table.column("y").to_numpy() - x)[:1000]
    assert within == pytest.approx((off <= 0.5).mean(), abs=0.002)
    worst = {m.metric: m for m in auditing.measure(s, only=["slices"])}["slice.worst_accuracy"]
    assert "site=far" in worst.details["worst"] and worst.value == pytest.approx((off[far[:1000]] <= 0.5).mean(), abs=0.1)
    assert {m.metric: m for m in auditing.measure(s, only=["robustness"])}["robustness.corruption_accuracy"].low > 0.5


def test_a_number_is_explained_by_cells_and_boxes_are_not():
    """Trees of scikit-learn's that answer 3 a + b^2 - c: the columns come in their order, the fourth is nothing, and the figures hold."""
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 4))
    table = pa.table({c: x[:, i] for i, c in enumerate("abcd")} | {"y": 3 * x[:, 0] + x[:, 1] ** 2 - x[:, 2] + 0.3 * rng.normal(size=800)})
    schema = Schema({c: find.make("kinds", "number") for c in "abcd"}, {"y": find.make("kinds", "number")}, [])
    schema.fit(table.slice(0, 400))
    trees, kind = GradientBoostingRegressor().fit(x[:400], table.column("y").to_numpy()[:400]), schema.targets["y"]

    class Trees:
        def predict(self, table):
            said = trees.predict(np.stack([table.column(c).to_numpy() for c in "abcd"], 1))
            return {"y": kind.read(said)}

    s = Subject(Trees(), schema, {"train": table.slice(0, 400), "test": table.slice(400)})
    lines = {m.metric: m for m in auditing.measure(s, only=["explanation"]) if m.slice is None}
    order = list(lines["explanation.fidelity"].details["importance"])
    assert order[0] == "a" and set(order[1:3]) == {"b", "c"} and lines["explanation.fidelity"].low > 0 and lines["explanation.completeness_error"].high < 1e-6
    assert lines["explanation.offmanifold_gap"].low < 0.05 and s.schema.targets["y"] is kind
    drawn = scenes(60, 0)
    boxes = Schema({"scene": find.make("kinds", {"picture": {"size": 24}})}, {"boxes": find.make("kinds", {"boxes": {"label_column": "labels"}})}, [])
    boxes.fit(drawn)
    nothing = type("Nothing", (), {"predict": lambda _, t: {"boxes": boxes.targets["boxes"].read(np.zeros((t.num_rows, 1, 6)))}})
    silent = Subject(nothing(), boxes, {"test": drawn})
    assert {tuple(m.reasons) for m in auditing.measure(silent, only=["explanation"])} == {("explanation.no_class",)}


def test_a_list_is_in_the_slice_of_each_value_that_it_holds():
    table = pa.table({"labels": [["a", "b"], [], None, ["b"]]})
    assert rows_of(table, "labels=b").tolist() == [True, False, False, True] and rows_of(table, "labels=a").tolist() == [True, False, False, False]


def test_every_metric_of_every_kind_may_have_a_limit():
    """What a kind measures is known to the gate: a limit on it would else be refused as misspelt, or never be met."""
    n, rng = 6, np.random.default_rng(0)
    classes = Prediction(value=torch.zeros(n, dtype=torch.long), probabilities=torch.full((n, 2), 0.5), score=torch.full((n,), 0.5))
    number = Prediction(value=torch.zeros(n), quantiles=torch.zeros(n, 3))
    truths = {
        "boolean": (pa.array([True, False] * 3), classes), "category": (pa.array(["a", "b"] * 3), classes), "ordered": (pa.array([1, 2] * 3), classes),
        "number": (pa.array(rng.normal(size=n)), number),
        "labels": (pa.array([["a"], ["b"]] * 3), Prediction(value=torch.zeros(n, 2, dtype=torch.bool))),
    }  # fmt: skip
    found = set()
    for name, (column, said) in truths.items():
        kind = find.make("kinds", name)
        column = pa.chunked_array([column])
        kind.fit(column)
        names = kind.metrics(said, kind.encode_target(column)).keys()
        found |= names
        assert names == kind.measures and (kind.credit is None or kind.credit in names)
    text = find.make("kinds", {"text": {"vocabulary": 300}})
    column = pa.chunked_array([["the cat sat", "on the mat"]])
    text.fit(column)
    told = text.metrics(text.read(np.array(["the cat sat", "on a mat"])), text.encode_target(column))
    assert told["rouge_l"].rows.tolist() == pytest.approx([1, 2 / 3])
    boxes = find.make("kinds", "boxes")
    boxes.names_ = ["a"]
    nothing = {"values": np.zeros((0, 5), np.float32), "offsets": np.zeros(2, np.int64), "known": np.ones(1, bool)}
    assert told.keys() == text.measures and boxes.metrics(boxes.read(np.zeros((1, 1, 6))), nothing).keys() == boxes.measures
    told |= boxes.metrics(boxes.read(np.zeros((1, 1, 6))), nothing)
    assert (found | told.keys()) - gate.METRICS == set()


def test_a_limit_that_the_target_cannot_meet_is_refused_before_training():
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=200), "b": rng.normal(size=200), "y": rng.normal(size=200)})

    def planned(**require):
        return planning.make(task_of({"data": {"source": table}, "target": "y", "audit": {"require": require}}))

    with pytest.raises(Refusal) as e:
        planned(auroc=">= 0.8", rmse="<= 2", within=">= 0.5")
    assert [p.code for p in e.value.problems] == ["policy.unmeasured"] * 2 and "coverage, mae, r2, rmse" in str(e.value)
    assert planned(rmse="<= 2").policy.limits
