"""Any Hugging Face encoder of text or pictures: BERT and its kin, T5's encoder, GPT-2, ViT, ResNet.

Wolf et al. 2020 ("Transformers"). `checkpoint` is a folder, or a name on the hub, with config.json and safetensors weights: no pickle is read, and no
code that comes with a checkpoint is run. The column's kind takes the checkpoint's tokenizer, or its size of pictures (`kind_settings`); pixels
are normalised with the processor's mean and deviation, kept as buffers. Once built, the architecture is in `config` and model.json alone makes it
again: weights then come from model.safetensors. Whole pictures are squeezed into the model's square, where processors crop the middle out. A pooler
is dropped, and GPT-2's Conv1D (a Linear with its weight transposed) is a Linear here, so that strategies find it. Settings of learning are those of
Devlin et al. 2019 (appendix A.3), with more epochs on few rows (Mosbach et al. 2021). Left out: models of several inputs (CLIP), sound, caches,
feature pyramids, gradient checkpointing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from ..errors import refuse
from ..forms import Encoded, Ragged
from ..kind import Kind
from ..model import Encoder

logging.set_verbosity_error()
logging.disable_progress_bar()
NOT_ARCHITECTURE = ("_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")


class HuggingFace(Encoder):
    takes = frozenset({"ids", "picture"})

    def __init__(self, checkpoint: str, pool: Literal["mean", "cls"] = "mean", config: dict[str, Any] | None = None):
        """checkpoint: a folder (absolute, or from where the program runs) or a hub name. pool: the row's summary, the mean over tokens or the first.

        config: the architecture, filled in by `build`; where it is given, no weights are loaded."""
        super().__init__()
        self.checkpoint, self.pool, self.config = checkpoint, pool, config

    def learning(self, rows: int) -> dict[str, Any]:
        """At least 3 epochs, on few rows up to 20 for about 600 updates."""
        return {"lr": 1e-4, "weight_decay": 0.01, "batch_size": 32, "epochs": float(min(20, max(3, round(600 * 32 / rows))))}

    def kind_settings(self) -> dict[str, Any]:
        config = self._read(AutoConfig.from_pretrained)
        if "num_channels" not in config.to_dict():
            return {"tokenizer": self.checkpoint, "max_tokens": min(256, getattr(config, "max_position_embeddings", 256))}
        size = config.to_dict().get("image_size") or self._pixels()[0]
        return {"size": size if isinstance(size, int) else size[0], "channels": config.num_channels}

    def build(self, kinds: dict[str, Kind]) -> None:
        (kind,) = kinds.values()
        fresh = self.config is None
        net = self._load() if fresh else AutoModel.from_config(AutoConfig.for_model(**self.config), dtype=torch.float32)
        if fresh:
            self._remember(net.config)
        if net.config.is_encoder_decoder:
            net = net.get_encoder()
        needs = {"ids": "input_ids", "picture": "pixel_values"}[kind.form]
        if net.main_input_name != needs:
            what = f"{self.checkpoint} reads {net.main_input_name}, its column has {needs}"
            raise refuse("encoder.input", what, fix="choose a checkpoint made for such a column")
        if "pooler" in dict(net.named_children()) and any(True for _ in net.pooler.parameters()):
            net.pooler = None
        self.net = with_linears(net)
        self.net.config.use_cache = False
        self.options = {}
        if kind.form == "picture":
            channels = net.config.to_dict().get("num_channels", 3)
            if kind.channels_ != channels:
                what = f"{self.checkpoint} reads {channels} channels, its column has {kind.channels_}"
                raise refuse("encoder.input", what, fix=f"channels: {channels}")
            mean, deviation = self._pixels()[1:] if fresh else (torch.zeros(1), torch.ones(1))
            self.register_buffer("mean", mean.view(-1, 1, 1).expand(channels, 1, 1).clone())
            self.register_buffer("deviation", deviation.view(-1, 1, 1).expand(channels, 1, 1).clone())
            if "interpolate_pos_encoding" in inspect.signature(net.forward).parameters:
                self.options = {"interpolate_pos_encoding": True}  # changes nothing where the picture has the model's own size
        else:
            self.pad_id = kind.pad_id
            if kind.vocabulary_size > net.config.vocab_size or (fresh and kind.checkpoint is None):
                what = f"{self.checkpoint} reads {net.config.vocab_size:,} tokens of its own, its column has {kind.vocabulary_size:,} of another"
                raise refuse("encoder.tokenizer", what, fix=f"set the column's tokenizer to {self.checkpoint}, or leave it out")
        self._try(kind)

    def _try(self, kind: Kind) -> None:
        """One blank row of the largest size: whether the model can read it at all, its width, and which tokens are a grid."""
        looks = kind.form == "picture"
        size = kind.size_ if looks else [kind.max_tokens]
        training = self.net.training
        self.net.eval()
        try:
            with torch.no_grad():
                if looks:
                    h = self.net(pixel_values=torch.zeros(1, kind.channels_, *size), **self.options).last_hidden_state
                else:
                    ids = torch.zeros(1, *size, dtype=torch.long)
                    h = self.net(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except Exception as e:  # noqa: BLE001 - a model of another make may raise anything
            what, fix = f"{self.checkpoint} cannot read {kind.form} of size {size}", "set the column's size and channels, or max_tokens, as it needs"
            raise refuse("encoder.input", what, why=said(e), fix=fix) from e
        self.width, self.skip = h.shape[1] if h.dim() == 4 else h.shape[-1], 0
        if looks:
            self.grid = tuple(h.shape[-2:]) if h.dim() == 4 else self._grid(h.shape[1], *size)
        else:
            self.attention = self._attention()
        self.net.train(training)
        if self.pool == "cls" and (h.dim() == 4 if looks else self.attention is leftward):
            why = "its grid has none" if looks else "it sees no token after it"
            raise refuse("encoder.setting", f"{self.checkpoint} has no first token that sums up a row", why=why, fix="pool: mean")

    @torch.no_grad()
    def _attention(self) -> Callable[[Tensor], Tensor]:
        """How seen (B, T) is handed over: as what is added to the scores, where that gives what the net's own way gives, else as it is. The net's own
        way looks into the mask to see whether it may be skipped, which vmap, and with it private training's faster ways, cannot do."""
        ids = torch.arange(4)[None] % self.net.config.vocab_size
        seen = torch.arange(4)[None] < 3
        theirs = self.net(input_ids=ids, attention_mask=seen.long()).last_hidden_state[:, :3]
        for ours in (both_ways, leftward):
            try:
                if torch.allclose(self.net(input_ids=ids, attention_mask=ours(seen)).last_hidden_state[:, :3], theirs, atol=1e-5):
                    return ours
            except Exception:  # noqa: BLE001 - it takes no such mask
                continue
        return Tensor.long

    def _grid(self, tokens: int, height: int, width: int) -> tuple[int, int] | None:
        """Patches in rows and columns; tokens before them (CLS, registers) are `skip`. None where that is unknown."""
        patch = self.net.config.to_dict().get("patch_size")
        rows, columns = (height // patch, width // patch) if isinstance(patch, int) else (0, 0)
        if 0 < rows * columns <= tokens:
            self.skip = tokens - rows * columns
            return rows, columns
        side = math.isqrt(tokens)  # of models that merge patches (Swin)
        return (side, side) if side * side == tokens and height == width else None

    def forward(self, x: Ragged | Tensor, mask: Tensor | None = None, state: Any = None) -> Encoded:
        """x: ids (B, T), or pixels (B, C, H, W) in [0, 1]. mask (B, T) False hides a token of a text from the others."""
        if isinstance(x, Ragged):
            there = x.mask if mask is None else x.mask & mask
            first = torch.arange(there.shape[1], device=there.device) == 0
            seen = there | (first & ~there.any(1, keepdim=True))  # a row without tokens sees its first pad
            ids = x.values.masked_fill(~x.mask, self.pad_id)
            z = self.net(input_ids=ids, attention_mask=self.attention(seen)).last_hidden_state
            return Encoded(z, there, vector=z[:, 0] if self.pool == "cls" else None)
        h = self.net(pixel_values=(x - self.mean) / self.deviation, **self.options).last_hidden_state
        if h.dim() == 4:
            return Encoded(h.flatten(2).transpose(1, 2), grid=self.grid)
        return Encoded(h[:, self.skip :], grid=self.grid, vector=h[:, 0] if self.pool == "cls" else None)

    def _load(self) -> PreTrainedModel:
        """The checkpoint's model, every weight of it."""
        folder = Path(self.checkpoint)
        if folder.is_dir() and not any(folder.glob("*.safetensors")):
            pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"))
            what = f"{self.checkpoint} has no safetensors weights" + (f", only a pickle ({pickles[0]})" if pickles else "")
            fix = "where you trust it, save it again: AutoModel.from_pretrained(...).save_pretrained(FOLDER)"
            code, why = ("encoder.pickle", "a pickle runs code when it is read") if pickles else ("encoder.checkpoint", "")
            raise refuse(code, what, why=why, fix=fix)
        net, found = self._read(AutoModel.from_pretrained, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        lacks = sorted(n for n in found["missing_keys"] if not n.startswith("pooler."))
        if lacks:
            what = f"{self.checkpoint} lacks {len(lacks)} weights of its architecture: {', '.join(lacks[:3])}"
            raise refuse("encoder.checkpoint", what, why="they would be random", fix="take a whole checkpoint")
        return net

    def _read(self, reader: Any, **settings: Any) -> Any:
        """What transformers reads of the checkpoint, or a refusal in words."""
        try:
            return reader(self.checkpoint, trust_remote_code=False, **settings)
        except Exception as e:  # noqa: BLE001 - its readers raise anything when a folder holds something else
            if "trust_remote_code" in str(e):
                why, fix = "code from a checkpoint is never run", "choose a checkpoint of an architecture that transformers has"
                raise refuse("encoder.remote_code", f"{self.checkpoint} needs code that came with it", why=why, fix=fix) from e
            fix = "a folder with config.json and model.safetensors, or a name on the Hugging Face hub"
            raise refuse("encoder.checkpoint", f"no checkpoint can be read at {self.checkpoint!r}", why=said(e), fix=fix) from e

    def _remember(self, config: PreTrainedConfig) -> None:
        """The architecture into the spec, which model.json holds; and of a folder's path its name alone."""
        kept = {k: v for k, v in config.to_diff_dict().items() if k not in NOT_ARCHITECTURE}
        name = Path(self.checkpoint).resolve().name if Path(self.checkpoint).is_dir() else self.checkpoint
        ((own, settings),) = self.spec.items()
        self.spec = {own: {**settings, "checkpoint": name, "config": kept}}

    def _pixels(self) -> tuple[int, Tensor, Tensor]:
        """The processor's settings: size, and mean and deviation (C,) or () of pixels in [0, 1]."""
        try:
            found, _ = ImageProcessingMixin.get_image_processor_dict(self.checkpoint)
        except Exception as e:  # noqa: BLE001
            what, why = f"{self.checkpoint} has no preprocessor_config.json", "how its pixels are scaled is unknown"
            raise refuse("encoder.checkpoint", what, why=why, fix="save its processor beside it") from e
        size = (found.get("do_center_crop") and found.get("crop_size")) or found.get("size") or 224
        size = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
        scale = 255 * found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 255.0
        normal = found.get("do_normalize", True)
        mean, deviation = (found.get(k, 0.5) if normal else plain for k, plain in (("image_mean", 0.0), ("image_std", 1.0)))
        return size, torch.tensor(mean) / scale, torch.tensor(deviation) / scale


def both_ways(seen: Tensor) -> Tensor:
    """(B, 1, T, T) to add to the scores of attention: 0 where a token is seen (B, T), else the least number."""
    return torch.where(seen, 0.0, torch.finfo(torch.bfloat16).min)[:, None, None, :].expand(-1, 1, seen.shape[1], -1)


def leftward(seen: Tensor) -> Tensor:
    """The same where a token sees those before it alone."""
    earlier = torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool, device=seen.device).tril()
    return both_ways(seen).masked_fill(~earlier, torch.finfo(torch.bfloat16).min)


def with_linears(net: nn.Module) -> nn.Module:
    """Every Conv1D of transformers as the Linear that it is."""
    for parent in list(net.modules()):
        for name, m in list(parent.named_children()):
            if isinstance(m, Conv1D):
                linear = nn.Linear(*m.weight.shape, device="meta")
                linear.weight, linear.bias = nn.Parameter(m.weight.detach().T.contiguous()), m.bias
                setattr(parent, name, linear)
    return net


def said(e: Exception) -> str:
    """The first line of an error, at most 200 characters."""
    return (str(e).strip() or type(e).__name__).split("\n")[0][:200]
