"""Text in any script, as subword ids.

The tokenizer is a byte-level BPE (Sennrich et al. 2016; on bytes as in Radford et al. 2019, "GPT-2") fitted on the training split's text: nothing is
ever unknown to it, whether emoji or a script that training never saw. Text is first brought to NFKC and, by default, lower case. Words carry the
space before them; characters of scripts that write none (Chinese, Japanese, Thai, Lao, Khmer, Burmese) stand alone: Chinese and English work alike.
Pieces are at most 64 characters, so that a megabyte without a space costs no more than one with.
Long texts keep their first `max_tokens`; the share of training texts cut so is shown in the plan.
With `tokenizer`, that of a Hugging Face checkpoint is taken whole instead: its normalisation, pieces, special ids, and what it puts around a text
that is read (BERT's [CLS] and [SEP]); its JSON is then a fitted value, so that a saved model needs the checkpoint no more.
Left out: sub-word regularisation, keeping the end of a long text, tokenizers without a JSON form.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from .. import metrics as m
from ..errors import refuse
from ..forms import Prediction
from ..kind import Kind, Metric, Profile, Stored, gather

SPECIAL = ["[PAD]", "[UNK]", "[MASK]", "[BEGIN]", "[END]"]  # ids 0 to 4
PAD, UNK, MASK, BEGIN, END = range(5)
ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
PIECES = rf" ?[{ALONE}]| ?'?[\p{{L}}\p{{M}}&&[^{ALONE}]]{{1,64}}| ?\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]{{1,16}}|\s{{1,16}}"
FIT_TEXTS, FIT_CHARACTERS = 200_000, 20_000  # the most texts that fitting reads, evenly spaced, and of each the most characters
CHARACTERS = 200  # of a text are read for each token kept: a piece has at most 65, NFKC may join a few into one


class Text(Kind):
    place = "own"
    form = "ids"
    encoder = "lstm"
    head = "tokens"
    primary, credit = "bleu", "rouge_l"
    measures = frozenset({"bleu", "chrf", "exact", "rouge_l"})
    special_: dict[str, Any] = {"pad": PAD, "mask": MASK, "begin": BEGIN, "end": END, "all": [*range(5)], "before": [], "after": []}
    """The special ids; mask is None where a checkpoint has none. before, after: what is put around a text that is read."""

    def __init__(
        self,
        vocabulary: Annotated[int, Field(ge=300)] = 8000,
        max_tokens: Annotated[int, Field(ge=1)] = 256,
        lowercase: bool = True,
        tokenizer: str | None = None,
    ):
        """vocabulary: tokens at most, 5 special ones and 256 bytes among them. max_tokens: of a text, special ones included; what follows is cut.

        tokenizer: a folder, or a name on the Hugging Face hub, whose tokenizer is used as it is; vocabulary and lowercase then mean nothing."""
        self.vocabulary, self.max_tokens, self.lowercase, self.checkpoint = vocabulary, max_tokens, lowercase, tokenizer
        self._made: tuple[str, Tokenizer] | None = None
        self._goes_on: tuple[str, torch.Tensor] | None = None

    @classmethod
    def guess(cls, column: Profile) -> float:
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or not column.sample:
            return 0.0
        seen = column.rows - column.missing
        mean = lambda f: sum(map(f, column.sample)) / len(column.sample)  # noqa: E731
        width = mean(lambda v: sum(3 if c > "\u2e80" else 1 for c in v))  # a Chinese character says about as much as three letters
        spaced = mean(lambda v: " " in v.strip() or any(c > "\u2e80" for c in v))
        if width >= 60:
            return 0.8
        if column.distinct < 0.5 * seen:
            return 0.2
        return 0.7 if spaced > 0.5 and width >= 15 else 0.4

    def fit(self, values: pa.ChunkedArray) -> None:
        texts = values.drop_null()
        rows = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), FIT_TEXTS)).astype(int)) if len(texts) else []
        sample = [t[:FIT_CHARACTERS] for t in strings(texts.take(pa.array(rows, pa.int64())))]
        self.tokenizer_ = self._train(sample) if self.checkpoint is None else self._adopt(self.checkpoint)
        around = len(self.special_["before"]) + len(self.special_["after"])
        lengths = [len(row) + around for row in self._encode(sample[:10_000])]
        self.median_ = float(np.median(lengths)) if lengths else 0.0
        self.cut_ = float(np.mean(np.array(lengths) > self.max_tokens)) if lengths else 0.0

    def _train(self, sample: list[str]) -> str:
        """A tokenizer fitted on these texts, as JSON."""
        made = Tokenizer(models.BPE())
        steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if self.lowercase else []), normalizers.Prepend(" ")]
        made.normalizer = normalizers.Sequence(steps)
        split = pre_tokenizers.Split(Regex(PIECES), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        size = self.vocabulary
        trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
        made.train_from_iterator(sample, trainer)
        return made.to_str()

    def _adopt(self, checkpoint: str) -> str:
        """A checkpoint's tokenizer as JSON, and its special ids. What is saved names the checkpoint without its folder."""
        try:
            from transformers import AutoTokenizer

            theirs = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
            made = Tokenizer.from_str(theirs.backend_tokenizer.to_str())
        except ModuleNotFoundError as e:
            raise refuse("extra.missing", f"text with a tokenizer from elsewhere needs the package {e.name!r}", fix=f"pip install {e.name}") from e
        except Exception as e:  # noqa: BLE001 - its readers raise anything when a folder holds something else
            what, why = f"the tokenizer of {checkpoint!r} cannot be read", (str(e) or type(e).__name__).strip().split("\n")[0][:200]
            raise refuse("kind.tokenizer", what, why=why, fix="a folder with tokenizer.json, or a name on the Hugging Face hub") from e
        made.no_padding()
        made.no_truncation()
        plain, whole = (made.encode("a", add_special_tokens=special).ids for special in (False, True))
        at = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        pad = theirs.pad_token_id if theirs.pad_token_id is not None else theirs.eos_token_id or 0
        begin, end = (theirs.cls_token_id, theirs.bos_token_id, pad), (theirs.sep_token_id, theirs.eos_token_id, pad)
        first = lambda ids: next(i for i in ids if i is not None)  # noqa: E731
        self.special_ = {
            "pad": pad, "mask": theirs.mask_token_id, "begin": first(begin), "end": first(end),
            "all": sorted(theirs.all_special_ids), "before": whole[:at], "after": whole[at + len(plain) :],
        }  # fmt: skip
        if Path(checkpoint).is_dir():
            ((name, settings),) = self.spec.items()
            self.spec = {name: {**settings, "tokenizer": Path(checkpoint).resolve().name}}
        return made.to_str()

    @property
    def tokenizer(self) -> Tokenizer:
        if self._made is None or self._made[0] != self.tokenizer_:
            made = Tokenizer.from_str(self.tokenizer_)
            made.encode_special_tokens = True  # "[MASK]" in a user's text is six characters, not a mask
            self._made = (self.tokenizer_, made)
        return self._made[1]

    @property
    def pad_id(self) -> int:
        return self.special_["pad"]

    @property
    def mask_id(self) -> int | None:
        return self.special_["mask"]

    @property
    def begin_id(self) -> int:
        return self.special_["begin"]

    @property
    def end_id(self) -> int:
        return self.special_["end"]

    @property
    def special_ids(self) -> list[int]:
        """Ids that stand for no text."""
        return self.special_["all"]

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def continues(self, ids: torch.Tensor) -> torch.Tensor:
        """Where an id goes on the word of the id before it (see `begins`). Same shape, bool."""
        if self._goes_on is None or self._goes_on[0] != self.tokenizer_:
            model = json.loads(self.tokenizer_)
            metaspace = model["model"]["type"] == "Unigram" or '"Metaspace"' in json.dumps([model["pre_tokenizer"], model["decoder"]])
            style = "wordpiece" if model["model"]["type"] == "WordPiece" else "metaspace" if metaspace else "bytes"
            pieces = [self.tokenizer.id_to_token(i) or "" for i in range(self.vocabulary_size)]
            goes_on = torch.tensor([bool(p) and not begins(p, style) for p in pieces])
            goes_on[self.special_ids] = False
            self._goes_on = (self.tokenizer_, goes_on)
        return self._goes_on[1].to(ids.device)[ids]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode(self, values: pa.ChunkedArray) -> Stored:
        """values: ids (sum of lengths,) int32, offsets (N + 1,), known (N,) False where missing. An empty text is known and has no tokens."""
        return self._store(values, self.special_["before"], self.special_["after"])

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """The same ids, nothing around them; beginning and end are the head's affair."""
        return self._store(values, [], [])

    def _store(self, values: pa.ChunkedArray, before: list[int], after: list[int]) -> Stored:
        most = max(0, self.max_tokens - len(before) - len(after))
        ids = [before + row[:most] + after for row in self._encode([t[: self.max_tokens * CHARACTERS] for t in strings(values)])]
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter((i for row in ids for i in row), np.int32, int(offsets[-1]))
        return {"values": flat, "offsets": offsets, "known": values.is_valid().to_numpy()}

    def batch(self, stored: Stored, rows: np.ndarray):
        ragged = gather(stored["values"], stored["offsets"], rows)
        ragged.values = ragged.values.long()
        return ragged

    def read(self, out: np.ndarray) -> Prediction:
        """(B,) texts."""
        if out.dtype.kind != "U":
            raise refuse("model.output", f"numbers of shape {out.shape} for a text", fix="give one text a row")
        ids = self._encode(out.reshape(-1).tolist())
        flat = np.fromiter((i for row in ids for i in row), np.int32)
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return Prediction(tokens=self.batch({"values": flat, "offsets": offsets}, np.arange(len(ids))))

    def decode(self, tokens) -> list[str]:
        """Texts of a `Ragged` of ids; special ids are left out."""
        rows = [row[:n] for row, n in zip(tokens.values.tolist(), tokens.lengths.tolist(), strict=True)]
        return [t.removeprefix(" ") for t in self.tokenizer.decode_batch(rows, skip_special_tokens=True)]

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """BLEU against the true text as the model could write it (normalised, cut); the mean chrF of a text, which short ones have too; the share of
        texts that are exactly right; the mean ROUGE-L, in [0, 1]."""
        written = self.decode(prediction.tokens)
        true = self.decode(self.batch(truth, np.arange(len(truth["known"]))))
        statistics = m.bleu_statistics(written, true)
        known = truth["known"]
        exact = np.array([a == b for a, b in zip(written, true, strict=True)])
        return {
            "bleu": Metric(lambda index: m.bleu(statistics[index[known[index]]])),
            "chrf": Metric.mean(np.where(known, m.chrf_rows(written, true), np.nan)),
            "exact": Metric.mean(np.where(known, exact, np.nan)),
            "rouge_l": Metric.mean(np.where(known, m.rouge_l_rows(written, true), np.nan)),
        }

    def answer(self, name: str, prediction: Prediction) -> dict:
        return {name: self.decode(prediction.tokens)}

    def describe(self) -> str:
        cut = f", {100 * self.cut_:.1f} % cut at {self.max_tokens}" if self.cut_ else ""
        whose = "" if self.checkpoint is None else f" of {Path(self.checkpoint).name}"
        return f"{self.vocabulary_size:,} tokens{whose}, {self.median_:.0f} in the middle text{cut}"


def strings(values: pa.ChunkedArray) -> list[str]:
    """Missing ones are empty; unpaired surrogates cannot be here, since Arrow holds UTF-8."""
    return ["" if v is None else v for v in values.cast(pa.large_string()).to_pylist()]


def begins(piece: str, style: str = "bytes") -> bool:
    """Whether a piece begins a word. wordpiece: it has no ##. metaspace: it has the mark of a space, or is a character that is a word by itself.

    bytes: by its first byte: white space, punctuation but the apostrophe, or the start of a character of three or four bytes that is not Hangul
    (Chinese, kana, Thai, emoji). GPT-2's alphabet shows printable bytes as they are, those up to the space as U+0100 to U+0120."""
    first = ord(piece[0])
    if style == "wordpiece":
        return not piece.startswith("##")
    if style == "metaspace":
        return piece[0] == "\u2581" or first > 0x2E80 and not 0xAC00 <= first <= 0xD7AF
    if first < 128:
        return not piece[0].isalnum() and piece[0] != "'"
    return 0xE0 <= first <= 0xE9 or 0xF0 <= first <= 0x120
