"""Hugging Face folders made here, tiny and random: what an audit sees is what transformers computes, class by class; nothing is unpickled or run."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

import modelwright as mw  # noqa: E402
from modelwright.auditing.case import model_digest  # noqa: E402
from modelwright.data.schema import Schema  # noqa: E402
from modelwright.errors import Refusal  # noqa: E402
from modelwright.find import make  # noqa: E402
from modelwright.foreign.huggingface import files  # noqa: E402
from modelwright.foreign.predictor import Foreign, within  # noqa: E402
from modelwright.opening import predictor  # noqa: E402
from modelwright.registry.store import Registry  # noqa: E402

WORDS = ["the", "cat", "sat", "good", "bad", "film", "was", "a", "今", "天", "很", "好"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS = ["the cat sat", "今天很好", "a good film was a bad film", "", "good " * 60]


def bert(folder, names=("bad", "good"), **settings):
    """A classifier of texts with a tokenizer over a few words of English and Chinese."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}} if names else {}
    settings = {"vocab_size": len(vocabulary), "initializer_range": 0.5} | SMALL | labels | settings
    config = transformers.BertConfig(max_position_embeddings=40, **settings)
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def pixels(folder, size, mean, deviation, **more):
    said = {"image_mean": mean, "image_std": deviation, "size": size, "do_normalize": True, "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(said | more))


def vit(folder, names=("cat", "dog", "ship")):
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    config = transformers.ViTConfig(image_size=16, patch_size=4, initializer_range=0.3, **SMALL, **labels)
    transformers.ViTForImageClassification(config).eval().save_pretrained(folder)
    pixels(folder, {"height": 16, "width": 16}, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], image_processor_type="ViTImageProcessor")
    return folder


def resnet(folder, names=("cat", "dog", "ship")):
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels)
    transformers.ResNetForImageClassification(config).eval().save_pretrained(folder)
    pixels(folder, {"shortest_edge": 24}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], crop_pct=0.875, image_processor_type="ConvNextImageProcessor")
    return folder


def schema(labels, kind="text", fit=None):
    """As a task gives it: one input, one target of these labels (declared unless fit says which are seen)."""
    target = make("kinds", {"category": {"labels": labels}} if fit is None else "category")
    target.fit(pa.chunked_array([pa.array(fit or labels)]))
    return Schema({"x": make("kinds", kind)}, {"y": target})


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    cells = []
    for i in range(n):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(file, "png")
        cells.append(file.getvalue())
    return pa.table({"x": cells})


def test_texts_get_what_transformers_gives_each_of_them_alone(tmp_path):
    folder = bert(tmp_path / "bert")
    got = Foreign(str(folder), schema(["good", "bad"])).predict(pa.table({"x": TEXTS + [None]}))["y"]
    net, tokenizer = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        alone = [net(**tokenizer([t], return_tensors="pt", truncation=True, max_length=40)).logits.softmax(1)[0] for t in [*TEXTS, ""]]
    want = torch.stack(alone)[:, [1, 0]]  # the folder says bad, good; the task good, bad
    np.testing.assert_allclose(got.probabilities.numpy(), want.numpy(), atol=1e-5)
    assert (want.max(0).values - want.min(0).values).min() > 0.01  # the rows do differ


def test_texts_and_pictures_show_what_the_last_layer_says_of_each_of_them_alone(tmp_path):
    folder, table = bert(tmp_path / "bert"), pa.table({"x": TEXTS + [None]})
    made = Foreign(str(folder), schema(["good", "bad"]))
    logits, features = made.inward("y", table)
    np.testing.assert_allclose(logits.softmax(1).double(), made.predict(table)["y"].probabilities, atol=1e-6)
    net, tokenizer = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        read = [tokenizer([t], return_tensors="pt", truncation=True, max_length=40) for t in [*TEXTS, ""]]
        want = torch.cat([net(**r, output_hidden_states=True).hidden_states[-1].mean(1) for r in read])
    np.testing.assert_allclose(features, want, atol=1e-5)
    made, table = Foreign(str(vit(tmp_path / "net")), schema(["ship", "cat", "dog"], "picture")), pictures(3)
    opened, (logits, features) = made.open("y", table), made.inward("y", table)
    np.testing.assert_allclose(logits, opened.logits(opened.x, torch.arange(3)).detach(), atol=1e-4)
    np.testing.assert_allclose(features, opened.features(opened.x, torch.arange(3)).detach(), atol=1e-4)


def test_labels_are_matched_by_name_or_refused_with_both_lists(tmp_path):
    folder = bert(tmp_path / "three", ("a", "b", "c"))
    orders = [Foreign(str(folder), schema(list(labels))).runner.order for labels in ("abc", "cab")]
    assert orders == [[0, 1, 2], [2, 0, 1]]
    for labels in (["a", "b"], ["a", "b", "d"], ["a", "b", "c", "d"], ["A", "b", "c"]):
        with pytest.raises(Refusal) as e:
            Foreign(str(folder), schema(labels))
        (problem,) = e.value.problems
        assert problem.code == "model.labels" and "a, b, c" in problem.what and ", ".join(labels) in problem.what and problem.fix
    seen = Foreign(str(folder), schema(None, fit=["c", "a"]))  # no row of b: the model still knows it
    assert seen.schema.targets["y"].labels_ == ["a", "b", "c"] and seen.predict(pa.table({"x": TEXTS}))["y"].probabilities.shape == (5, 3)
    with pytest.raises(Refusal):
        Foreign(str(folder), schema(None, fit=["c", "z"]))


def test_nameless_classes_are_taken_in_order_with_a_note(tmp_path):
    folder = bert(tmp_path / "bert", None)
    made = Foreign(str(folder), schema(["no", "yes"]))
    assert made.runner.order == [0, 1] and "LABEL_0" in made.notes[0] and "no, yes" in made.notes[0]
    with pytest.raises(Refusal, match="no, yes, maybe"):
        Foreign(str(folder), schema(["no", "yes", "maybe"]))


@pytest.mark.parametrize("make_it", [vit, resnet])
def test_pictures_get_what_the_processor_and_the_model_give(tmp_path, make_it):
    folder = make_it(tmp_path / "net")
    table = pictures(5)
    made = Foreign(str(folder), schema(["ship", "cat", "dog"], "picture"))
    got = made.predict(table)["y"].probabilities.float()
    net, processor = transformers.AutoModelForImageClassification.from_pretrained(folder).eval(), transformers.AutoImageProcessor.from_pretrained(folder)
    read = [Image.open(io.BytesIO(cell)) for cell in table.column("x").to_pylist()]
    with torch.no_grad():
        want = net(processor(read, return_tensors="pt")["pixel_values"]).logits.softmax(1)[:, [2, 0, 1]]
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-4)
    opened = made.open("y", table)
    assert opened.x.min() >= 0 and opened.x.max() <= 1 and opened.names == []
    rows = torch.tensor([3, 1])
    for dtype in (torch.float32, torch.float64):
        x = opened.x[rows].to(dtype).requires_grad_()
        logits = opened.logits(x, rows)
        np.testing.assert_allclose(logits.softmax(1).detach().numpy(), got[rows].numpy(), atol=1e-4)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
        assert logits.dtype == dtype and gradient.abs().amax((1, 2, 3)).min() > 0
    features = opened.features(opened.x[rows], rows)
    assert features.shape[0] == 2 and not torch.allclose(features[0], features[1])


def test_a_missing_picture_is_black_and_a_processor_that_does_more_is_obeyed(tmp_path):
    folder = vit(tmp_path / "net")
    made = Foreign(str(folder), schema(["cat", "dog", "ship"], "picture"))
    black = io.BytesIO()
    Image.new("RGB", (16, 16)).save(black, "png")
    one, two = made.predict(pa.table({"x": pa.array([None, black.getvalue()], pa.binary())}))["y"].probabilities
    assert torch.allclose(one, two)
    made.runner.plain = False  # as the trial picture says of a processor that does more
    assert made.open("y", pictures(2)) is None
    np.testing.assert_allclose(made.predict(pictures(2))["y"].probabilities[0].sum(), 1, atol=1e-6)


def test_one_output_is_a_number(tmp_path):
    folder = bert(tmp_path / "bert", None, num_labels=1, problem_type="regression")
    target = make("kinds", "number")
    target.fit(pa.chunked_array([pa.array([0.0, 1.0, 5.0])]))
    made = Foreign(str(folder), Schema({"x": make("kinds", "text")}, {"y": target}))
    got = target.real(made.predict(pa.table({"x": TEXTS}))["y"].value.numpy())
    net, tokenizer = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        want = [float(net(**tokenizer([t], return_tensors="pt", truncation=True, max_length=40)).logits) for t in TEXTS]
    np.testing.assert_allclose(got, want, atol=1e-4)
    with pytest.raises(Refusal, match="several labels a row"):
        Foreign(str(bert(tmp_path / "many", problem_type="multi_label_classification")), schema(["bad", "good"]))


# What is refused


def test_a_pickle_is_refused_unread(tmp_path):
    folder = bert(tmp_path / "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refusal) as e:
        Foreign(str(folder), schema(["bad", "good"]))
    assert e.value.problems[0].code == "model.pickle" and "pytorch_model.bin" in e.value.problems[0].what and "safetensors" in str(e.value)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(Refusal) as e:
        Foreign(str(folder), schema(["bad", "good"]))
    assert e.value.problems[0].code == "model.missing"


def test_code_that_came_with_a_folder_is_never_run(tmp_path):
    folder = bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForSequenceClassification": "mine.Net"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(Refusal) as e:
        Foreign(str(folder), schema(["bad", "good"]))
    assert e.value.problems[0].code in ("model.remote_code", "model.corrupt") and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["no head", "cut weights", "cut config", "no tokenizer", "tokenizer of another", "no processor", "two inputs"])
def test_a_folder_that_is_not_whole_is_refused_in_words(tmp_path, what):
    folder = (vit if what == "no processor" else bert)(tmp_path / "net")
    said = schema(["bad", "good"]) if what != "no processor" else schema(["cat", "dog", "ship"], "picture")
    if what == "no head":
        transformers.BertModel.from_pretrained(folder).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
        (folder / "config.json").write_text(json.dumps(config))
    elif what == "cut weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    elif what == "cut config":
        (folder / "config.json").write_text('{"model_type": "be')
    elif what == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    elif what == "tokenizer of another":
        shutil.rmtree(folder)
        bert(folder, vocab_size=7)
    elif what == "no processor":
        (folder / "preprocessor_config.json").unlink()
    else:
        said.inputs["z"] = make("kinds", "text")
    with pytest.raises(Refusal) as e:
        Foreign(str(folder), said)
    (problem,) = e.value.problems
    assert problem.code in ("model.corrupt", "model.input") and problem.where and problem.fix and len(problem.what) < 500


# As a MODEL of the commands


QUICK = ["accuracy", "calibration"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path


def texts(file, n=60):
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]
    pq.write_table(pa.table({"note": notes, "mood": rng.choice(["bad", "good"], n).tolist()}), file)
    return str(file)


def task(file, **more):
    data = {"source": file, "columns": {"note": "text"}}
    return mw.task_of({"data": data, "target": {"mood": {"category": {"labels": ["good", "bad"]}}}, "audit": {"require": {"accuracy": ">= 0.01"}}, **more})


def test_audit_import_audit_promote(home):
    """The same bytes by folder and as a version; a version is promoted only once it was audited; links of a hub's cache are followed."""
    folder, file = bert(home / "bert"), texts(home / "test.parquet")
    done = mw.audit(folder, {"test": file}, task(file), home / "first", only=QUICK)
    frame = pq.read_table(file).to_pandas()
    truth = (predictor(folder, pa.table({"note": frame["note"]})).answer(pa.table({"note": frame["note"]})).column("label").to_pandas() == frame["mood"]).mean()
    accuracy = next(e for e in done.evidence["evidence"] if e["metric"] == "accuracy")
    assert accuracy["value"] == pytest.approx(truth) and done.evidence["model"] == Foreign(str(folder), schema(["good", "bad"])).digest
    (folder / "README.md").write_text("a card")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    linked = home / "snapshot"
    linked.mkdir()
    for name in files(folder):
        (linked / name).symlink_to(folder / name)
    again = mw.audit(linked, {"test": file}, task(file), home / "second", only=QUICK)
    assert again.evidence["model"] == done.evidence["model"]

    from modelwright.cli.versions import _brought

    registry = Registry()
    made = _brought(registry, folder, "mood", None)
    assert made.model == done.evidence["model"] and not [p for p in made.folder.rglob("*") if p.suffix in (".bin", ".md") and p.name != "card.md"]
    refused = registry.promote("mood")
    assert {r["code"] for r in refused.reasons} == {"gate.no_limits"}
    third = mw.audit("mood@1", {"test": file}, task(file), home / "third", only=QUICK)
    assert third.evidence["model"] == made.model
    (home / "policy.yaml").write_text('require: {accuracy: ">= 0.01"}\n')
    assert registry.promote("mood", policy=str(home / "policy.yaml")).moved
    other = bert(home / "other", initializer_range=0.1)
    unheard = _brought(registry, other, "mood", None)
    assert {r["code"] for r in registry.promote(unheard.reference, policy=str(home / "policy.yaml")).reasons} == {"gate.missing"}


def test_predict_without_a_task(home, monkeypatch, capsys):
    from modelwright.cli import main

    folder, file = bert(home / "bert"), texts(home / "test.parquet", 7)
    arguments = ["predict", str(folder), "--data", file, "--out", str(home / "out.parquet"), "--json"]
    pq.write_table(pq.read_table(file).select(["note"]), file)
    monkeypatch.setattr("sys.argv", ["modelwright", *arguments])
    with pytest.raises(SystemExit) as e:
        main()
    assert not e.value.code and json.loads(capsys.readouterr().out)["rows"] == 7
    assert pq.read_table(home / "out.parquet").column_names == ["label", "label.score", "label=bad", "label=good"]
    got = predictor(vit(home / "vit"), pictures(3)).answer(pictures(3))
    assert got.column_names[2:] == ["label=cat", "label=dog", "label=ship"]
    with pytest.raises(Refusal, match="0 columns are text or pictures"):
        predictor(folder, pa.table({"a": [1.0, 2.0], "b": [2.0, 3.0]}))
    with pytest.raises(Refusal, match="does not exist"):
        predictor(home / "nosuch", pa.table({"a": [1.0]}))
    with pytest.raises(Refusal) as e:
        predictor(f"{home}/m.py:factory", pa.table({"a": [1.0]}))
    assert e.value.problems[0].code == "predict.task"


def test_a_folder_of_our_own_that_was_exported_is_the_model_that_it_was(home):
    from modelwright.registry.export import huggingface
    from modelwright.report.index import render

    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    pq.write_table(pa.table({"x": x, "z": rng.normal(size=200), "y": np.where(x > 0, "up", "down").tolist()}), home / "rows.parquet")
    plain = {"data": str(home / "rows.parquet"), "target": "y", "model": {"instead": "linear"}, "audit": {"require": {"accuracy": ">= 0.5"}}}
    mw.run(mw.task_of(plain), home / "run")
    registry = Registry()
    made = registry.register(home / "run", "m")
    assert within(made.folder) is None and registry.promote("m").moved
    huggingface(registry, made, home / "hf", "2026-06-02", render)
    table = pq.read_table(home / "rows.parquet")
    assert model_digest(home / "hf", None) == made.model == model_digest(home / "run", None)
    assert predictor(home / "hf", table).answer(table).equals(predictor("m@production", table).answer(table))
    done = mw.audit(home / "hf", {"test": str(home / "rows.parquet")}, mw.task_of(plain), home / "audit", only=QUICK)
    assert done.evidence["model"] == made.model and done.decision["verdict"] == "pass"
    shutil.rmtree(home / "hf")
    assert not registry.promote("m", "b").reasons  # the later audit, on more rows, is heard and passes
