"""A Hugging Face folder from elsewhere: texts or pictures to classes (or one text to a number), with its own tokenizer or processor.

Wolf et al. 2020 ("Transformers"): AutoModelForSequenceClassification where the task's one input is a text, AutoModelForImageClassification where it is a
picture. Of the folder are read config.json, safetensors weights and the files of its tokenizer or processor: no pickle, and no code that came with it.
The classes of `id2label` are matched to the task's labels by name; LABEL_0, LABEL_1, ... say nothing and are taken in the task's order, with a note.
Pictures go upright and whole into the model's own processor (resize, crop), then are numbers in [0, 1], and mean and deviation come last, so that `open`
gives attacks and attributions the pixels that the model sees; where that is not what the processor gives on a trial picture, the processor is obeyed and
the model does not open. A missing text is an empty one, a missing picture black. Models that write are in `language.py`. Left out: several inputs,
several labels a row, sound.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from .. import digests, find
from ..data.schema import Schema
from ..errors import refuse
from ..kind import Kind

READ = (".json", ".safetensors", ".txt", ".model", ".jinja")  # endings of the files that are read
BESIDE = ("evidence.json", "lineage.json", "trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
WORDS = ("tokenizer.json", "vocab.txt", "vocab.json")  # a tokenizer is in one of these, or in a file that ends in .model
FILES = re.compile(r"(_file|base_model_name_or_path|backbone|checkpoint|(?<!name_or)_path)$")  # settings that name a file
BATCH = 32
LARGE = 1 << 16  # pixels a side: no picture is larger


def files(folder: Path) -> list[str]:
    """Names of the files that are read of a Hugging Face folder: what its digest is over, and what a registry keeps of it. Refused without safetensors."""
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        what = f"{folder} has no safetensors weights" + (f", only {pickles[0]}" if pickles else "")
        why = "a pickle runs code when it is read" if pickles else "its weights are nowhere"
        fix = "where you trust it, save it again: AutoModelForSequenceClassification.from_pretrained(...).save_pretrained(FOLDER)"
        raise refuse("model.pickle" if pickles else "model.missing", what, why=why, where=str(folder), fix=fix)
    found = (p.name for p in folder.iterdir() if p.is_file() and p.suffix in READ)
    names = sorted(n for n in found if n not in BESIDE and not n.startswith(".") and not n.lower().startswith(("readme", "license")))
    if beyond := sorted({v for n in names if n.endswith(".json") and n not in WORDS for v in _named(folder / n)} - {*names}):
        what, why = f"{folder} names {beyond[0]!r}, which is none of the files that make the model", "no digest would tell if it became another"
        raise refuse("model.outside", what, why=why, where=str(folder), fix="put the file itself into the folder (save_pretrained does)")
    return names


def _named(path: Path) -> Iterator[str]:
    """The files that a file of settings names for transformers to read: shards of weights, and what there is of others."""
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # transformers says so
    todo = [("", tree)]
    while todo:
        key, x = todo.pop()
        if isinstance(x, dict):
            todo += [(f"{key}_file" if key == "weight_map" else str(k), v) for k, v in x.items()]
        elif isinstance(x, list):
            todo += [(key, v) for v in x]
        elif isinstance(x, str) and (key == "weight_map_file" or FILES.search(key) and any((p / x).exists() for p in (Path(), path.parent))):
            yield x


class Pretrained:
    """A runner of `foreign.Foreign`: tables to probabilities (B, K) in the order of the task's labels, or numbers (B, 1)."""

    wants_table = True

    def __init__(self, path: str, schema: Schema):
        self.folder, self.notes = Path(path), []
        self.digest = self.now()
        inputs = [n for n in schema.own if schema.inputs[n].form in ("ids", "picture")]
        if len(inputs) != 1:
            what = f"a Hugging Face folder reads one text or one picture; the task has {len(inputs)} of them"
            raise refuse("model.input", what, where=path, fix="declare it in data.columns (note: text), and the others as ignore")
        (self.column,), (target,) = inputs, schema.targets.values()
        self.kind = schema.inputs[self.column]
        self.net = self._load("AutoModelForImageClassification" if self.kind.form == "picture" else "AutoModelForSequenceClassification")
        self.classes, self.sets = target.labels_ is not None, target.head == "label_set"
        self.order = self._matched(target)
        if self.kind.form == "picture":
            self._processor()
        else:
            self.tokenizer = self._tokenizer()
            most = (self.tokenizer.model_max_length, getattr(self.net.config, "max_position_embeddings", None) or 512)
            self.most, self.takes = min(most), set(inspect.signature(self.net.forward).parameters)

    def now(self) -> str:
        """The digest of the files that are read, as they are."""
        return digests.model_digest(self.folder, files(self.folder))

    # Reading the folder

    def _read(self, reader: str, **settings: Any) -> Any:
        """What transformers reads of it, or a refusal in words."""
        try:
            import transformers
            from transformers.utils import logging

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            return getattr(transformers, reader).from_pretrained(str(self.folder), trust_remote_code=False, local_files_only=True, **settings)
        except ModuleNotFoundError as e:
            what = f"a Hugging Face folder needs the package {e.name!r}"
            raise refuse("extra.missing", what, where=str(self.folder), fix="pip install 'modelwright[text]'") from e
        except Exception as e:  # noqa: BLE001 - its readers raise anything when a folder holds something else
            said = (str(e).strip() or type(e).__name__).split("\n")[0][:200]
            if "trust_remote_code" in str(e):
                what, why = f"{self.folder} needs code that came with it", "code from a model's folder is never run"
                raise refuse("model.remote_code", what, why=why, where=str(self.folder), fix="a model of an architecture that transformers has") from e
            what = f"{reader} cannot read the folder: {said}"
            raise refuse("model.corrupt", what, where=str(self.folder), fix="save model and tokenizer (or processor) whole, with save_pretrained") from e

    def _tokenizer(self) -> Any:
        """The folder's own: where there is none, transformers makes an empty one up."""
        there = [n for n in files(self.folder) if n in WORDS or n.endswith(".model")]
        made = self._read("AutoTokenizer") if there else None
        most = getattr(self.net.config, "vocab_size", None)
        if made is None or (most is not None and len(made) > most):
            what = "the folder has no tokenizer" if made is None else f"its tokenizer has {len(made):,} tokens, and the model knows {most:,}"
            raise refuse("model.corrupt", what, where=str(self.folder), fix="save the model's own tokenizer beside it, with save_pretrained")
        return made

    def _load(self, reader: str) -> torch.nn.Module:
        net, found = self._read(reader, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        lacks = sorted([*found["missing_keys"], *(str(k[0]) if isinstance(k, tuple) else str(k) for k in found["mismatched_keys"])])
        if lacks:
            what = f"the weights lack {len(lacks)} of the architecture's: {', '.join(lacks[:3])}"
            raise refuse("model.corrupt", what, why="they would be random", where=str(self.folder), fix="a folder that was trained for classes, whole")
        return net.eval()

    def _matched(self, kind: Kind) -> list[int]:
        """The model's output for each of the task's labels, in their order."""
        config = self.net.config
        names = [str(config.id2label[i]) for i in range(config.num_labels)]
        several = config.problem_type == "multi_label_classification"
        if several != self.sets or not (self.sets or self.classes):
            if kind.head == "regression" and len(names) == 1 and config.problem_type in (None, "regression"):
                return [0]
            what = f"the model says {'several labels a row' if several else f'{len(names)} classes'}; the target is {next(iter(kind.spec))}"
            raise refuse("model.labels", what, where=str(self.folder), fix="declare the target's kind as the model answers")
        declared, where = find.split(kind.spec)[1], "names_" if self.sets else "labels_"
        free = ("category" in kind.spec or self.sets) and not (isinstance(declared, dict) and declared.get("labels"))
        if free and len(names) > 1 and set(getattr(kind, where)) < set(names):
            setattr(kind, where, names)  # the table just holds no row of the others
        labels = getattr(kind, where)
        if set(names) == set(labels) and len(names) == len(labels):
            return [names.index(label) for label in labels]
        if len(names) == len(labels) > 1 and all(re.fullmatch(r"LABEL_\d+", n) for n in names):
            self.notes.append(f"The model names its classes {names[0]} to {names[-1]}: they are taken to be {', '.join(labels)}, in this order.")
            return list(range(len(names)))
        what = f"the model's classes are {_list(names)}; the task's are {_list(labels)}"
        form = "labels" if self.sets else "category"
        fix = f"declare the target's labels by these names: {{{form}: {{labels: [{', '.join(names[:4])}, ...]}}}}, or mend id2label in config.json"
        raise refuse("model.labels", what, why="a class that is taken for another would make every figure wrong", where=str(self.folder), fix=fix)

    # Pictures

    def _processor(self) -> None:
        """Its mean and deviation for pixels in [0, 1], where a trial picture shows that it does no more with numbers."""
        self.processor = self._read("AutoImageProcessor")
        p = self.processor
        scale = 255 * (p.rescale_factor if p.do_rescale else 1 / 255)
        mean, deviation = (p.image_mean, p.image_std) if p.do_normalize else (0.0, 1.0)
        self.mean, self.deviation = (torch.tensor(v, dtype=torch.float32).reshape(1, -1, 1, 1) / scale for v in (mean, deviation))
        trial = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))]
        self.plain = True
        ours, theirs = (self._pixels(trial) - self.mean) / self.deviation, self._theirs(trial)
        self.plain = ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-3)
        if not self.plain:
            self.notes.append("The model's processor does more than resize, crop and scale: the model is not opened for gradients.")

    def _pictures(self, table: pa.Table) -> list[Image.Image]:
        mode = "L" if getattr(self.net.config, "num_channels", 3) == 1 else "RGB"
        found = (self.kind.thumbnail(cell, LARGE) for cell in table.column(self.column).to_pylist())
        return [(p or Image.new("RGB", (64, 64))).convert(mode) for p in found]

    def _theirs(self, pictures: list[Image.Image], **settings: Any) -> Tensor:
        arrays = [torch.from_numpy(np.array(p)).reshape(p.height, p.width, -1).permute(2, 0, 1) for p in pictures]
        return self.processor(images=arrays, input_data_format="channels_first", return_tensors="pt", **settings)["pixel_values"].float()

    def _pixels(self, pictures: list[Image.Image]) -> Tensor:
        """(N, C, H, W): in [0, 1] before mean and deviation, or what the processor gives."""
        return self._theirs(pictures, do_rescale=False, do_normalize=False) / 255 if self.plain else self._theirs(pictures)

    def _seen(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean.to(pixels)) / self.deviation.to(pixels) if self.plain else pixels

    # What a runner answers

    def _asked(self, table: pa.Table, **settings: bool) -> Iterator[tuple[list[int], Any, Tensor | None]]:
        """Some rows' numbers, what the model gives for them, and the mask of their tokens (of pictures none). Texts of like length go together, one by
        one where there is no token to pad with."""
        if self.kind.form == "picture":
            pictures = self._pictures(table)
            for i in range(0, len(pictures), BATCH):
                some = pictures[i : i + BATCH]
                yield [*range(i, i + len(some))], self.net(pixel_values=self._seen(self._pixels(some)), **settings), None
            return
        texts = ["" if v is None else str(v) for v in table.column(self.column).to_pylist()]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        size = BATCH if self.tokenizer.pad_token is not None else 1
        for i in range(0, len(order), size):
            rows = order[i : i + size]
            read = self.tokenizer([texts[r] for r in rows], padding=size > 1, truncation=True, max_length=self.most, return_tensors="pt")
            yield rows, self.net(**{k: v for k, v in read.items() if k in self.takes}, **settings), read.get("attention_mask")

    @torch.no_grad()
    def table(self, table: pa.Table) -> np.ndarray:
        rows, parts = zip(*((rows, said.logits) for rows, said, _ in self._asked(table)), strict=True)
        out = torch.cat(parts)[np.argsort(sum(rows, []))].double().numpy()
        if self.sets:
            return 1 / (1 + np.exp(-out[:, self.order].clip(-700)))
        if not self.classes:
            return out
        e = np.exp(out - out.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True))[:, self.order]

    @torch.no_grad()
    def inward(self, target: str, table: pa.Table) -> tuple[Tensor | None, Tensor]:
        """See `predictor.Inward`."""
        parts = ((rows, said.logits, read_of(said, mask)) for rows, said, mask in self._asked(table, output_hidden_states=True))
        rows, logits, features = zip(*parts, strict=True)
        back = np.argsort(sum(rows, []))
        return torch.cat(logits)[back][:, self.order] if self.classes else None, torch.cat(features)[back]

    def open(self, table: pa.Table) -> OpenPicture | None:
        """Pictures with gradients; None for texts, whose ids have none."""
        return OpenPicture(self, table) if self.kind.form == "picture" and self.plain and self.classes else None


class OpenPicture:
    """See `predictor.Opened`. x (N, C, H, W) in [0, 1], as the processor cut them."""

    names: list[str] = []

    def __init__(self, model: Pretrained, table: pa.Table):
        self.model, self.nets = model, {torch.float32: model.net}
        pictures = model._pictures(table)
        self.x = torch.cat([model._pixels(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)])

    def _run(self, x: Tensor, **settings: bool) -> Any:
        if x.dtype not in self.nets:
            self.nets[x.dtype] = copy.deepcopy(self.model.net).to(x.dtype)
        return self.nets[x.dtype](pixel_values=self.model._seen(x), **settings)

    def logits(self, x: Tensor, rows: Tensor) -> Tensor:
        return self._run(x).logits[:, self.model.order]

    def features(self, x: Tensor, rows: Tensor) -> Tensor:
        return read_of(self._run(x, output_hidden_states=True))


def read_of(said: Any, mask: Tensor | None = None) -> Tensor:
    """(B, D) the last layer's mean over places, or over tokens (those that mask (B, T) names)."""
    h = (said.get("hidden_states") or said["encoder_hidden_states"])[-1]
    if h.dim() == 4:
        return h.flatten(2).mean(2)
    return h.mean(1) if mask is None else (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _list(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
