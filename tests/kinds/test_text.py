"""Text: whatever comes in, its ids give it back; rows are stored flat; what is long is cut and counted."""

import json
import time
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.data.schema import infer, profile
from modelwright.errors import Refusal
from modelwright.kinds.text import begins

ENGLISH = ["the", "cat", "sat", "on", "mat", "and", "did", "not", "think", "of", "dog", "that", "was", "barking", "at", "gate"]
CHINESE = "今天天气很好我们去公园散步看见一只小猫在树下睡觉大家都很高兴"


def column(texts) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(0)
    kind = find.make("kinds", {"text": {"vocabulary": 500, "max_tokens": 50}})
    english = [" ".join(rng.choice(ENGLISH, rng.integers(3, 12))) for _ in range(200)]
    chinese = ["".join(rng.choice(list(CHINESE), rng.integers(3, 20))) for _ in range(200)]
    kind.fit(column([*english, *chinese, None]))
    return kind


HARD = [
    "The cat sat.",
    "",
    "今天天气很好",
    "the cat 今天 sat",
    "👩‍👩‍👧 🎉🎉 ok",
    "שלום עולם مرحبا",
    "don't stop",
    "a\tb\n\nc",
    "ĠĊ [MASK] [PAD]",
    "한국어 ภาษาไทย",
    "naïve café",
    "1234567",
]


@pytest.mark.parametrize("words", HARD)
def test_ids_give_the_text_back(text, words):
    stored = text.encode(column([words]))
    ragged = text.batch(stored, np.array([0]))
    assert text.decode(ragged) == [unicodedata.normalize("NFKC", words).lower()]
    assert not (ragged.values[ragged.mask] < 5).any()  # nothing unknown, no special id from a user's text


def test_flat_store_and_padding(text):
    stored = text.encode(column(["the cat", None, "", "今天"]))
    assert stored["values"].dtype == np.int32 and stored["offsets"].tolist()[0] == 0
    assert stored["known"].tolist() == [True, False, True, True]
    batch = text.batch(stored, np.array([3, 1, 0]))
    assert batch.values.dtype == torch.int64
    assert batch.lengths.tolist() == [2, 0, 2]
    assert (batch.values[~batch.mask] == 0).all()
    alone = text.batch(stored, np.array([0]))
    assert torch.equal(alone.values[0], batch.values[2, : alone.values.shape[1]])


def test_only_missing_texts_and_none_at_all(text):
    assert text.encode(column([None, None]))["offsets"].tolist() == [0, 0, 0]
    assert len(text.encode(column([]))["known"]) == 0
    empty = find.make("kinds", "text")
    empty.fit(column([None]))
    assert empty.vocabulary_size >= 261 and "tokens" in empty.describe()
    assert empty.decode(empty.batch(empty.encode(column(["ok"])), np.array([0]))) == ["ok"]


def test_long_texts_are_cut_and_counted(text):
    begun = time.perf_counter()
    stored = text.encode(column(["cat " * 250_000, "a" * 1_000_000, "今" * 350_000, "short", " " * 1_000_000]))
    assert time.perf_counter() - begun < 2
    lengths = np.diff(stored["offsets"])
    assert lengths[:3].tolist() == [50, 50, 50] and lengths[3] < 50
    kind = find.make("kinds", {"text": {"max_tokens": 4}})
    kind.fit(column(["a b c d e f", "a b", "a b c d", "a b c d e"] * 5 + ["x" * 1_000_000]))
    assert kind.cut_ == pytest.approx(11 / 21) and "cut at 4" in kind.describe()
    assert time.perf_counter() - begun < 6


def test_a_megabyte_in_is_the_same_as_its_beginning(text):
    whole, part = (text.encode(column([("the dog 今天 " * 100_000)[:n]]))["values"] for n in (1_000_000, 20_000))
    assert np.array_equal(whole, part)


def test_words_and_what_goes_on(text):
    def words(written: str) -> list[str]:
        ids = text.batch(text.encode(column([written])), np.array([0])).values[0]
        starts = [i for i, on in enumerate(text.continues(ids).tolist()) if not on]
        assert starts[0] == 0
        return [text.tokenizer.decode(ids[s:e].tolist()) for s, e in zip(starts, [*starts[1:], len(ids)], strict=True)]

    assert words("the zyxwv, don't") == [" the", " zyxwv", ",", " don't"]
    assert words("今天 天气ok") == [" 今", "天", " 天", "气ok"]  # only the kind of the first byte is known: letters go on
    assert words("привет мир") == [" привет", " мир"]
    assert not text.continues(torch.arange(5)).any()


def test_lower_case_is_an_option():
    kind = find.make("kinds", {"text": {"lowercase": False}})
    kind.fit(column(["The Cat", "the cat"] * 5))
    assert kind.decode(kind.batch(kind.encode(column(["The CAT"])), np.array([0]))) == ["The CAT"]


def test_state_is_json_and_brings_back_the_same_ids(text):
    state = json.loads(json.dumps(text.state()))
    again = find.make("kinds", text.spec)
    again.load(state)
    a, b = text.encode(column(HARD)), again.encode(column(HARD))
    assert np.array_equal(a["values"], b["values"]) and np.array_equal(a["offsets"], b["offsets"])
    assert again.vocabulary_size == text.vocabulary_size and text.mask_id == 2


def test_fitting_twice_gives_the_same_tokenizer(text):
    values = column([" ".join(ENGLISH), CHINESE] * 10)
    made = [find.make("kinds", "text") for _ in range(2)]
    for kind in made:
        kind.fit(values)
    assert made[0].tokenizer_ == made[1].tokenizer_


def test_what_is_text_and_what_is_not():
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "review": [" ".join(rng.choice(ENGLISH, 12)) for _ in range(100)],
            "评论": ["".join(rng.choice(list(CHINESE), 15)) for _ in range(100)],
            "colour": rng.choice(["red", "green"], 100),
            "code": [f"A{i:05d}" for i in range(100)],
            "x": rng.normal(size=100),
        }
    )
    kinds = {n: infer(p) for n, p in profile(table).items()}
    assert kinds["review"] == kinds["评论"] == "text"
    assert "text" not in (kinds["colour"], kinds["code"], kinds["x"])


def test_metrics_of_written_text(text):
    from modelwright.forms import Prediction

    truth = text.encode_target(column(["the cat sat on the mat", "the dog was barking at the gate", None]))
    written = text.batch(text.encode(column(["the cat sat on the mat", "the dog was at the gate", "cat"])), np.arange(3))
    pytest.importorskip("sacrebleu")
    found = text.metrics(Prediction(tokens=written), truth)
    everything = np.arange(3)
    assert found["exact"].value(everything) == 0.5
    assert found["bleu"].value(np.array([0])) == pytest.approx(100)
    assert found["bleu"].value(everything) < 100
    chrf = pytest.importorskip("sacrebleu").CHRF().sentence_score("the dog was at the gate", ["the dog was barking at the gate"]).score
    np.testing.assert_allclose(found["chrf"].rows, [100, chrf, np.nan])
    assert text.answer("note", Prediction(tokens=written))["note"][1] == "the dog was at the gate"


PRETRAINED = ["The cats sat.", "今天天气很好, ok", "good 👋 film", "naïve", "", "cat " * 40, "شكرا"]


@pytest.fixture(scope="module", params=["wordpiece", "bytes"])
def checkpoint(request, tmp_path_factory):
    """A folder with a tokenizer as BERT's or as RoBERTa's, fitted here; and transformers' own reading of it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    folder, special = tmp_path_factory.mktemp("tokenizers") / request.param, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if request.param == "wordpiece":
        made, trainer = Tokenizer(models.WordPiece(unk_token="[UNK]")), trainers.WordPieceTrainer
        made.normalizer, made.pre_tokenizer, made.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        alphabet = []
    else:
        made, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer
        made.pre_tokenizer, made.decoder, alphabet = pre_tokenizers.ByteLevel(), decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([*ENGLISH, " ".join(ENGLISH), CHINESE] * 3, trainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet))
    ids = [(t, made.token_to_id(t)) for t in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    made.enable_padding(length=128)  # some checkpoints are saved so: it must not be kept
    made.enable_truncation(128)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)
    return folder, transformers.AutoTokenizer.from_pretrained(folder)


def adopted(folder, **settings):
    kind = find.make("kinds", {"text": {"tokenizer": str(folder), "max_tokens": 20, **settings}})
    kind.fit(column(PRETRAINED))
    return kind


def test_a_checkpoints_tokenizer_gives_its_own_ids(checkpoint):
    folder, theirs = checkpoint
    kind = adopted(folder)
    ragged = kind.batch(kind.encode(column(PRETRAINED)), np.arange(len(PRETRAINED)))
    for i, words in enumerate(PRETRAINED):
        wanted = theirs(words, truncation=True, max_length=20, padding=False)["input_ids"]
        assert ragged.values[i, : ragged.lengths[i]].tolist() == wanted
    assert int(ragged.lengths.max()) == 20 and "of " + folder.name in kind.describe() and kind.cut_ == pytest.approx(1 / 7)
    assert (kind.pad_id, kind.mask_id, kind.begin_id, kind.end_id) == (0, 4, 2, 3) and kind.special_ids == [0, 1, 2, 3, 4]
    injected = kind.batch(kind.encode(column(["cat [MASK] [SEP]"])), np.array([0])).values[0, 1:-1]
    assert not set(injected.tolist()) & {kind.mask_id, kind.end_id}  # of a user's text they are characters
    target = kind.batch(kind.encode_target(column(["the cat"])), np.array([0]))
    assert not set(target.values[0].tolist()) & {2, 3} and kind.decode(target) == ["the cat"]


def test_a_saved_kind_needs_the_checkpoint_no_more(checkpoint):
    folder, _ = checkpoint
    kind = adopted(folder)
    assert str(folder.parent) not in json.dumps([kind.spec, kind.state()])
    again = find.make("kinds", kind.spec)
    again.load(json.loads(json.dumps(kind.state())))
    assert np.array_equal(kind.encode(column(PRETRAINED))["values"], again.encode(column(PRETRAINED))["values"])
    assert again.special_ids == kind.special_ids and again.mask_id == kind.mask_id


def test_words_of_a_checkpoints_tokenizer(checkpoint):
    folder, _ = checkpoint
    kind = adopted(folder)
    ids = kind.batch(kind.encode(column(["the barkings sat 今天"])), np.array([0])).values[0]
    starts = [kind.tokenizer.decode(ids[s:e].tolist()).strip() for s, e in _words(kind.continues(ids))]
    starts = [w for w in starts if w]
    assert starts[:3] == ["the", "barkings", "sat"] and "".join(starts[3:]) == "今天"


def test_which_pieces_begin_a_word():
    assert [begins(p, "wordpiece") for p in ("the", "##s", "今")] == [True, False, True]
    assert [begins(p, "metaspace") for p in ("\u2581the", "s", "\u2581", "今", "한")] == [True, False, True, True, False]


def _words(on):
    starts = [i for i, x in enumerate(on.tolist()) if not x]
    return zip(starts, [*starts[1:], len(on)], strict=True)


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text("{")
    for name in (str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(Refusal, match="cannot be read"):
            adopted(name)
