"""Masked pre-training without labels: hide parts of what the model reads, reconstruct them. For tables, text, pictures and series.

    table     each present cell is hidden with probability `cells` (a number becomes missing, a code 0). Numbers cost 0.5 (x - x_hat)^2, which is
              the normal nll with unit variance less its constant, in standardised units; codes cost cross-entropy
    text      15 % of a row's tokens, at least one; of them 80 % become the mask, 10 % a random token, 10 % stay (Devlin et al. 2019, 3.1)
    picture   half of the 8 x 8 patches become the mean colour of the visible ones; mean absolute error of hidden pixels (Xie et al. 2022, "SimMIM")
    series    15 % of a row's steps, at least one, become 0, each channel's mean; 0.5 (x - x_hat)^2 as in tables (Zerveas et al. 2021, 3.2)

Only what was hidden counts: a row's count is its hidden cells, tokens, patches or numbers. `prepare` draws and keeps the originals in `batch.extra`;
`loss` draws nothing, so a row's loss is the same alone as in any batch. Each input has a small decoder here that never ships; heads and fusion keep
their parameters. Left out: spans (SpanBERT), a series' stretches and single channels, a decoder tied to the embedding, normalised pixels, dropping
hidden patches from the encoder (MAE).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Problem, Refusal, did_you_mean
from ..forms import Batch, Encoded, Loss, Ragged, Tabular, Term, Value
from ..kind import Kind
from ..model import Encoder, Model
from ..objective import Objective

Share = Annotated[float, Field(gt=0, lt=1)]
PATCHES = 8  # along each side of a picture


class Masked(Objective):
    heads = []

    def __init__(
        self,
        cells: Share = 0.3,
        tokens: Share = 0.15,
        patches: Share = 0.5,
        steps: Share = 0.15,
        whole_words: bool = False,
        inputs: list[str] | None = None,
    ):
        """cells, tokens, patches, steps: the share hidden. whole_words: a word's tokens are hidden together. inputs: those to hide, None = all."""
        super().__init__()
        self.cells, self.tokens, self.patches, self.steps = cells, tokens, patches, steps
        self.whole_words, self.inputs = whole_words, inputs

    def build(self, model: Model, schema) -> None:
        kinds = schema.encoders()
        names = list(model.encoders) if self.inputs is None else self.inputs
        unknown = [n for n in names if n not in model.encoders]
        if unknown:
            raise Refusal([Problem("task.unknown_key", f"inputs: there is no input {n!r}", fix=did_you_mean(n, model.encoders)) for n in unknown])
        self.names = names
        self.decoders = nn.ModuleList([self._decoder(n, model.encoders[n], kinds[n]) for n in names])

    def _decoder(self, name: str, encoder: Encoder, kinds: dict[str, Kind]) -> nn.Module:
        first = next(iter(kinds.values()))
        match first.form:
            case "table":
                return Cells(encoder.width, kinds, self.cells)
            case "ids":
                return Words(encoder.width, first, self.tokens, self.whole_words)
            case "picture":
                return Patches(encoder, first, self.patches)
            case "series":
                return Steps(encoder.width, first, self.steps)
        kind = next(iter(first.spec))
        what, why = f"input {name!r} ({kind}) cannot be hidden", "what is hidden are cells of a table, tokens, patches of a picture and steps of a series"
        raise Refusal(Problem("masked.input", what, why, fix="name the others: masked: {inputs: [...]}"))

    def prepare(self, batch: Batch, rng: torch.Generator) -> Batch:
        inputs, extra = dict(batch.inputs), dict(batch.extra)
        for name, decoder in zip(self.names, self.decoders, strict=True):
            inputs[name], kept = decoder.hide(inputs[name], batch.knows(name), rng)
            extra |= {f"{name}.{key}": value for key, value in kept.items()}
        return batch.but(inputs=inputs, extra=extra)

    def loss(self, model: Model, batch: Batch, player: str) -> Loss:
        encoded = model.encode(batch, only=set(self.names))
        terms = {}
        for name, decoder in zip(self.names, self.decoders, strict=True):
            kept = {key: batch.extra[f"{name}.{key}"] for key in decoder.keeps}
            terms[name] = Term(*decoder.loss(encoded[name], batch.inputs[name], **kept))
        return Loss(terms).times(batch.weight)

    def parameters_of(self, model: Model, player: str) -> list[Tensor]:
        learning = [model.encoders[n] for n in self.names] + [self]
        return [p for module in learning for p in module.parameters() if p.requires_grad]


class Cells(nn.Module):
    """A table's hidden cells, from the row's summary."""

    keeps = ("original",)

    def __init__(self, width: int, kinds: dict[str, Kind], share: float):
        super().__init__()
        self.share = share
        self.numbers = sum(k.numbers for k in kinds.values() if k.place == "number")
        self.sizes = [k.cardinality for k in kinds.values() if k.place == "code"]
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.numbers + sum(self.sizes)))

    def hide(self, x: Tabular, known: Tensor, rng: torch.Generator) -> tuple[Tabular, dict[str, Value]]:
        stays = draw(x.present.shape, rng, x) >= self.share
        codes = torch.where(draw(x.codes.shape, rng, x) < self.share, 0, x.codes)
        return Tabular(x.numbers * stays, x.present & stays, codes), {"original": x}

    def loss(self, h: Encoded, x: Tabular, original: Tabular) -> tuple[Tensor, Tensor]:
        out = self.net(h.pooled()).float().split([self.numbers, *self.sizes], 1)
        hidden = original.present & ~x.present  # (B, N)
        total = (0.5 * (original.numbers - out[0]).square() * hidden).sum(1)
        hidden_codes = (original.codes > 0) & (x.codes == 0)  # (B, M)
        for i, logits in enumerate(out[1:]):
            total = total + F.cross_entropy(logits, original.codes[:, i], reduction="none") * hidden_codes[:, i]
        return total, (hidden.sum(1) + hidden_codes.sum(1)).to(total.dtype)


class Words(nn.Module):
    """A text's hidden tokens, each from its place. K is the most hidden in a row: logits are made for those alone."""

    keeps = ("positions", "ids")

    def __init__(self, width: int, kind: Kind, share: float, whole_words: bool):
        super().__init__()
        self.kind, self.share, self.whole_words = kind, share, whole_words
        if kind.mask_id is None:
            what = "its tokenizer has no mask token"
            raise Refusal(Problem("masked.input", what, why="a text's hidden tokens become one", fix="leave it out: masked: {inputs: [...]}"))
        special = torch.zeros(kind.vocabulary_size, dtype=torch.bool)
        special[list(kind.special_ids)] = True
        self.register_buffer("special", special, persistent=False)  # (V,): neither hidden nor a random replacement
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, kind.vocabulary_size))

    def hide(self, x: Ragged, known: Tensor, rng: torch.Generator) -> tuple[Ragged, dict[str, Value]]:
        inside, device = x.mask & ~self.special[x.values], x.values.device
        chosen = self._choose(x, inside, rng)
        fate = draw(chosen.shape, rng, x.values)
        ordinary = (~self.special).nonzero().squeeze(1)
        stray = ordinary[torch.randint(len(ordinary), chosen.shape, generator=rng).to(device)]
        values = torch.where(chosen & (fate < 0.8), self.kind.mask_id, x.values)
        values = torch.where(chosen & (fate >= 0.9), stray, values)
        counts = chosen.sum(1)
        positions = chosen.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(counts.max()))]  # (B, K), in their order
        kept = torch.arange(positions.shape[1], device=device) < counts[:, None]
        ids = x.values.gather(1, positions) * kept
        return Ragged(values, x.lengths), {"positions": Ragged(positions * kept, counts), "ids": Ragged(ids, counts)}

    def _choose(self, x: Ragged, inside: Tensor, rng: torch.Generator) -> Tensor:
        """(B, T) bool: words in random order while they fit into the row's share, and always the first."""
        budget = (self.share * inside.sum(1)).round().clamp(min=1)
        starts = ~self.kind.continues(x.values) if self.whole_words else torch.ones_like(inside)
        starts[:, 0] = True
        word = starts.cumsum(1) - 1  # (B, T) the word that a token is in
        score = draw(inside.shape, rng, x.values).gather(1, word).masked_fill(~inside, 2.0)
        rank = score.argsort(dim=1, stable=True).argsort(dim=1)
        ends = torch.zeros_like(rank).scatter_reduce(1, word, torch.where(inside, rank, 0), "amax").gather(1, word)  # rank of the word's last token
        first = word == word.gather(1, score.argmin(1, keepdim=True))
        return inside & ((ends < budget[:, None]) | first)

    def loss(self, h: Encoded, x: Ragged, positions: Ragged, ids: Ragged) -> tuple[Tensor, Tensor]:
        z = h.z.gather(1, positions.values.unsqueeze(-1).expand(-1, -1, h.z.shape[-1]))  # (B, K, D)
        total = F.cross_entropy(self.net(z).float().transpose(1, 2), ids.values, reduction="none")
        return (total * ids.mask).sum(1), ids.lengths.to(total.dtype)


class Patches(nn.Module):
    """A picture's hidden patches: each token of the grid paints the square of pixels that it stands for."""

    keeps = ("original", "hidden")

    def __init__(self, encoder: Encoder, kind: Kind, share: float):
        super().__init__()
        self.share = share
        picture = torch.zeros(1, kind.channels_, *kind.size_)
        training = encoder.training
        with torch.no_grad():
            grid = encoder.eval()(picture).grid
        encoder.train(training)
        if grid is None:
            what, why = f"the encoder {next(iter(encoder.spec))} has no grid of tokens", "each token paints the hidden pixels that it stands for"
            raise Refusal(Problem("masked.grid", what, why, fix="choose one that has, or leave this input out"))
        self.side = -(-picture.shape[-1] // grid[1])
        self.net = nn.Linear(encoder.width, kind.channels_ * self.side**2)

    def hide(self, x: Tensor, known: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Value]]:
        hidden = draw((len(x), PATCHES**2), rng, x).argsort(1) < round(self.share * PATCHES**2)
        hidden = hidden.view(-1, PATCHES, PATCHES) & known[:, None, None]
        seen = 1 - self._pixels(hidden, x)
        grey = (x * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.where(seen > 0, x, grey), {"original": x, "hidden": hidden}

    def _pixels(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(B, 1, H, W): 1 where a pixel is hidden."""
        return F.interpolate(hidden[:, None].to(x.dtype), x.shape[-2:])

    def loss(self, h: Encoded, x: Tensor, original: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        assert h.grid is not None
        painted = F.pixel_shuffle(self.net(h.z).float().transpose(1, 2).unflatten(2, h.grid), self.side)
        if painted.shape != original.shape:
            painted = F.interpolate(painted, original.shape[-2:], mode="bilinear")
        pixels = self._pixels(hidden, original)
        count = hidden.sum((1, 2)).to(painted.dtype)
        error = ((painted - original).abs() * pixels).sum((1, 2, 3)) / (pixels.sum((1, 2, 3)) * original.shape[1]).clamp(min=1)
        return error * count, count


class Steps(nn.Module):
    """A series' hidden steps with all their channels, each from its place. A gap that stood there before is not asked for."""

    keeps = ("original", "hidden")

    def __init__(self, width: int, kind: Kind, share: float):
        super().__init__()
        self.share, self.gaps = share, kind.gaps_
        self.net = nn.Linear(width, len(kind.mean_))

    def hide(self, x: Ragged, known: Tensor, rng: torch.Generator) -> tuple[Ragged, dict[str, Value]]:
        score = draw(x.mask.shape, rng, x.values).masked_fill(~x.mask, 2.0)
        hidden = (score.argsort(1).argsort(1) < (self.share * x.lengths).round().clamp(min=1)[:, None]) & x.mask  # (B, T)
        return Ragged(x.values * ~hidden.unsqueeze(-1), x.lengths), {"original": x.values, "hidden": hidden}

    def loss(self, h: Encoded, x: Ragged, original: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net(h.z).float()  # (B, T, C)
        asked = hidden.unsqueeze(-1).repeat(1, 1, out.shape[-1])
        asked[..., self.gaps] &= original[..., out.shape[-1] :] == 0  # the flags of gaps
        total = 0.5 * (original[..., : out.shape[-1]] - out).square() * asked
        return total.sum((1, 2)), asked.sum((1, 2)).to(total.dtype)


def draw(shape: tuple[int, ...], rng: torch.Generator, like: Tensor | Tabular) -> Tensor:
    """Uniform in [0, 1), drawn where rng lives and moved to where the batch is."""
    device = (like.numbers if isinstance(like, Tabular) else like).device
    return torch.rand(shape, generator=rng).to(device)
