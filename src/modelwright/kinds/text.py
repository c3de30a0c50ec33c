"""Text in any script, as subword ids.

The tokenizer is a byte-level BPE (Sennrich et al. 2016; on bytes as in Radford et al. 2019, "GPT-2") fitted on the training split's text: nothing is
ever unknown to it, whether emoji or a script that training never saw. Text is first brought to NFKC and, by default, lower case. Words carry the
space before them; characters of scripts that write none (Chinese, Japanese, Thai, Lao, Khmer, Burmese) stand alone: Chinese and English work alike.
Pieces are at most 64 characters, so that a megabyte without a space costs no more than one with.
Long texts keep their first `max_tokens`; the share of training texts cut so is shown in the plan.
Left out: sub-word regularisation, keeping the end of a long text, pretrained tokenizers.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from .. import metrics as m
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
    primary = "bleu"
    pad_id, mask_id, begin_id, end_id = PAD, MASK, BEGIN, END

    def __init__(self, vocabulary: Annotated[int, Field(ge=300)] = 8000, max_tokens: Annotated[int, Field(ge=1)] = 256, lowercase: bool = True):
        """vocabulary: tokens at most, 5 special ones and 256 bytes among them. max_tokens: of a text; what follows is cut."""
        self.vocabulary, self.max_tokens, self.lowercase = vocabulary, max_tokens, lowercase
        self._made: tuple[str, Tokenizer] | None = None

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
        made.encode_special_tokens = True  # "[MASK]" in a user's text is six characters, not a mask
        self.tokenizer_ = made.to_str()
        lengths = [len(e) for e in self._encode(sample[:10_000])]
        self.median_ = float(np.median(lengths)) if lengths else 0.0
        self.cut_ = float(np.mean(np.array(lengths) > self.max_tokens)) if lengths else 0.0

    @property
    def tokenizer(self) -> Tokenizer:
        if self._made is None or self._made[0] != self.tokenizer_:
            made = Tokenizer.from_str(self.tokenizer_)
            made.encode_special_tokens = True
            self._made = (self.tokenizer_, made)
        return self._made[1]

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def continues(self, ids: torch.Tensor) -> torch.Tensor:
        """Where an id goes on the word of the id before it (see `begins`). Same shape, bool."""
        words = [self.tokenizer.id_to_token(i) for i in range(self.vocabulary_size)]
        return torch.tensor([i >= len(SPECIAL) and not begins(w) for i, w in enumerate(words)], device=ids.device)[ids]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode(self, values: pa.ChunkedArray) -> Stored:
        """values: ids (sum of lengths,) int32, offsets (N + 1,), known (N,) False where missing. An empty text is known and has no tokens."""
        most = self.max_tokens
        ids = [row[:most] for row in self._encode([t[: most * CHARACTERS] for t in strings(values)])]
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter((i for row in ids for i in row), np.int32, int(offsets[-1]))
        return {"values": flat, "offsets": offsets, "known": values.is_valid().to_numpy()}

    def encode_target(self, values: pa.ChunkedArray) -> Stored:
        """The same ids; beginning and end are the head's affair."""
        return self.encode(values)

    def batch(self, stored: Stored, rows: np.ndarray):
        ragged = gather(stored["values"], stored["offsets"], rows)
        ragged.values = ragged.values.long()
        return ragged

    def decode(self, tokens) -> list[str]:
        """Texts of a `Ragged` of ids; special ids are left out."""
        rows = [row[:n] for row, n in zip(tokens.values.tolist(), tokens.lengths.tolist(), strict=True)]
        return [t.removeprefix(" ") for t in self.tokenizer.decode_batch(rows, skip_special_tokens=True)]

    def metrics(self, prediction: Prediction, truth: Stored) -> dict[str, Metric]:
        """BLEU against the true text as the model could write it (normalised, cut), and the share of texts that are exactly right."""
        written = self.decode(prediction.tokens)
        true = self.decode(self.batch(truth, np.arange(len(truth["known"]))))
        statistics = m.bleu_statistics(written, true)
        known = truth["known"]
        exact = np.array([a == b for a, b in zip(written, true, strict=True)])
        return {
            "bleu": Metric(lambda index: m.bleu(statistics[index[known[index]]])),
            "exact": Metric.mean(np.where(known, exact, np.nan)),
        }

    def answer(self, name: str, prediction: Prediction) -> dict:
        return {name: self.decode(prediction.tokens)}

    def describe(self) -> str:
        cut = f", {100 * self.cut_:.1f} % cut at {self.max_tokens}" if self.cut_ else ""
        return f"{self.vocabulary_size:,} tokens, {self.median_:.0f} in the middle text{cut}"


def strings(values: pa.ChunkedArray) -> list[str]:
    """Missing ones are empty; unpaired surrogates cannot be here, since Arrow holds UTF-8."""
    return ["" if v is None else v for v in values.cast(pa.large_string()).to_pylist()]


def begins(piece: str) -> bool:
    """Whether a piece begins a word, by its first byte: white space, punctuation but the apostrophe, or the start of a character of three or four
    bytes that is not Hangul (Chinese, kana, Thai, emoji). GPT-2's alphabet shows printable bytes as they are, those up to the space as U+0100 to
    U+0120."""
    first = ord(piece[0])
    if first < 128:
        return not piece[0].isalnum() and piece[0] != "'"
    return 0xE0 <= first <= 0xE9 or 0xF0 <= first <= 0x120
