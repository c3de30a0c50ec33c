"""Small real data for the conformance suites: one table for every form of input, with a column for every kind of target beside it.

Tables are scikit-learn's breast cancer (10 measurements, a category, gaps); pictures and series are its digits 0 to 3 (a series is 8 rows of 8
pixels), texts say of these digits in English and Chinese what they are, among other words; noise is drawn; boxes are bright and dark rectangles on
noise. A new form of input or a new kind of target needs a column here; a new encoder, objective, head, decoder or audit needs nothing.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from modelwright import find
from modelwright.data.schema import Schema

ROWS = 480
STORIES = {  # what a text target says: BLEU wants four words at least
    "0": "a ring without an end",
    "1": "一条直直的竖线",
    "2": "the swan swims to the left",
    "3": "两个半圆上下相连",
    "benign": "nothing here will spread any further",
    "malignant": "恶性肿瘤需要治疗",
}
NAMES = {"0": "zero", "1": "一", "2": "two", "3": "三", "benign": "benign tissue", "malignant": "恶性肿瘤"}
OTHER = ["we", "think", "that", "this", "picture", "shows", "something", "我们", "看到", "的", "图片", "里", "有", "东西"]

INPUTS = {  # form of input -> kind of column
    "table": None,  # inferred: numbers and a category
    "ids": "text",
    "picture": "picture",
    "series": "series",
    "vector": {"noise": {"width": 8}},
}
TARGETS = {  # kind of target -> its spec
    "boolean": "boolean",
    "category": "category",
    "ordered": {"ordered": {"order": ["low", "middle", "high"]}},
    "number": "number",
    "labels": "labels",
    "text": {"text": {"max_tokens": 30, "vocabulary": 400}},
    "picture": "picture",
    "boxes": {"boxes": {"relative": True}},
    "action": {"action": {"classes": 4}},
    "value": "value",  # what a policy expects: rollouts make it
}


def png(pixels: np.ndarray) -> bytes:
    """(H, W) uint8"""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """(pixels (N, 8, 8) uint8, labels (N,)), all of one kind of ink"""
    d = load_digits(n_class=4)
    order = np.random.default_rng(0).permutation(len(d.images))[:ROWS]
    return np.minimum(d.images[order] * 16, 255).astype(np.uint8), d.target[order]


@cache
def table(form: str, target: str) -> pa.Table:
    """Columns of inputs, and `y` of the kind `target`."""
    rng = np.random.default_rng(1)
    if target == "boxes" and form == "picture":
        pictures, boxes = rectangles(rng)
        return pa.table({"x": pictures, "y": boxes})
    if form == "table":
        d = load_breast_cancer(as_frame=True)
        x = d.data.iloc[:ROWS, :10].copy()
        x["texture"] = np.where(x["mean texture"] > 19, "rough", "smooth")
        x = x.mask(rng.random(x.shape) < 0.03)
        columns = {n: pa.array(x[n], from_pandas=True) for n in x}
        labels, number = np.where(d.target[:ROWS] == 1, "benign", "malignant"), d.data["worst radius"].to_numpy()[:ROWS]
    else:
        pixels, y = digits()
        labels, number = y.astype(str), pixels.mean((1, 2)) / 10
        size = np.array(["light 轻", "middle 中", "heavy 重"])[np.searchsorted(np.quantile(number, [0.33, 0.67]), number)]
        words = [" ".join([*rng.choice(OTHER, 2), NAMES[a], b, *rng.choice(OTHER, rng.integers(1, 5))]) for a, b in zip(labels, size)]
        columns = {
            "ids": lambda: {"x": pa.array(words)},
            "picture": lambda: {"x": pa.array([png(p) for p in pixels])},
            "series": lambda: {"x": pa.array((pixels / 16.0).tolist())},
            "vector": lambda: {"other": pa.array(np.arange(ROWS) % 7)},
        }[form]()
    return pa.table(columns | {"y": truth(target, labels, number, rng)})


def truth(kind: str, labels: np.ndarray, number: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """A column of targets of this kind that tells of a label (N,) of a few and of a number (N,)."""
    heavy = number > np.median(number)
    names = sorted(set(labels))
    pixels, digit = digits()
    match kind:
        case "boolean":
            return pa.array(heavy)
        case "category":
            return pa.array(labels)
        case "ordered":
            return pa.array(np.array(["low", "middle", "high"])[np.searchsorted(np.quantile(number, [0.33, 0.67]), number)])
        case "number":
            return pa.array(number)
        case "labels":
            return pa.array([[a, *(["heavy"] if b else [])] for a, b in zip(labels, heavy)])
        case "text":
            return pa.array([STORIES[a] + (" in heavy ink" if b else "") for a, b in zip(labels, heavy)])
        case "picture":
            return pa.array([png(pixels[rng.choice(np.flatnonzero(digit == names.index(a))[:20])]) for a in labels])
        case "boxes":
            return pa.array([[{"label": "half", "xyxy": [0.0, 0.0, 0.5, 1.0]}]] * len(labels))
        case "action":
            return pa.array([names.index(a) for a in labels])
        case "value":
            return pa.array(number)  # a table has no such thing: refused
    raise AssertionError(f"a new kind of target: give {kind!r} a spec in TARGETS and a column here")


def rectangles(rng: np.random.Generator, n: int = 240) -> tuple[pa.Array, pa.Array]:
    """32 x 32 pictures of grey noise with one or two rectangles, bright or dark; boxes in shares."""
    pictures, boxes = [], []
    for _ in range(n):
        picture, mine = rng.integers(100, 140, (32, 32)), []
        for k in range(rng.integers(1, 3)):
            (w, h), bright = rng.integers(8, 15, 2), rng.random() < 0.5
            x, y = rng.integers(0, 32 - w), rng.integers(0, 16 - h + 1) + 16 * k
            picture[y : y + h, x : x + w] = rng.integers(220, 255) if bright else rng.integers(0, 40)
            mine.append({"label": "bright" if bright else "dark", "xyxy": [x / 32, y / 32, (x + w) / 32, (y + h) / 32]})
        pictures.append(png(picture.astype(np.uint8)))
        boxes.append(mine)
    return pa.array(pictures), pa.array(boxes)


def columns(form: str) -> dict:
    """What a task says of the input columns."""
    return {"other": "ignore", "z": INPUTS[form]} if form == "vector" else {} if INPUTS[form] is None else {"x": INPUTS[form]}


def schema(form: str, target: str, encoder: str | None = None) -> Schema:
    """Fitted on the first 300 rows; encoder: whose wishes the column's kind follows."""
    data = table(form, target)
    if form == "table":
        inputs = {n: find.make("kinds", "category" if n == "texture" else "number") for n in data.column_names if n != "y"}
    else:
        ((name, spec),) = ((n, s) for n, s in columns(form).items() if s != "ignore")
        wanted = find.make("encoders", spec_of(encoder, form)).kind_settings() if encoder else {}
        kind, given = find.split(spec)
        known = find.settings_model(find.find("kinds", kind)).model_fields
        inputs = {name: find.make("kinds", {kind: {**{k: v for k, v in wanted.items() if k in known}, **given}})}
    made = Schema(inputs, {"y": find.make("kinds", TARGETS[target])})
    made.fit(data.slice(0, 300))
    return made


def forms_of(encoder: str) -> list[str]:
    found = sorted(find.find("encoders", encoder).takes)
    strange = set(found) - set(INPUTS)
    assert not strange, f"a new form of input: {strange}; give it a kind in INPUTS and columns in `table`"
    return found


def kind_of(form: str) -> str | None:
    return INPUTS[form] and find.split(INPUTS[form])[0]


def spec_of(encoder: str, form: str) -> dict:
    """An encoder with every default, and what it cannot do without."""
    needs = find.settings_model(find.find("encoders", encoder)).model_fields
    return {encoder: {"checkpoint": checkpoint(form)} if "checkpoint" in needs else {}}


@cache
def checkpoint(form: str) -> str:
    """A folder with a tiny random model as transformers saves one: BERT with a WordPiece tokenizer, or ViT."""
    import tempfile

    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = Path(tempfile.mkdtemp(prefix="modelwright-")) / f"tiny-{form}"
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if form == "picture":
        transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, num_channels=1, **small)).save_pretrained(folder)
        said = {"image_processor_type": "ViTImageProcessor", "rescale_factor": 1 / 255, "image_mean": [0.5], "image_std": [0.25], "size": 16}
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
        return str(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({c for w in [*OTHER, *NAMES.values(), "light", "middle", "heavy", "轻", "中", "重"] for c in ([w] if w.isascii() else w)})
    words = [part for w in words for part in w.split()]
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate([*special, *dict.fromkeys(words)])}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **roles).save_pretrained(folder)
    transformers.BertModel(transformers.BertConfig(vocab_size=made.get_vocab_size(), max_position_embeddings=40, **small)).save_pretrained(folder)
    return str(folder)
