"""Checkpoints made here, tiny and random: what comes out is what transformers itself computes; what is saved needs the checkpoint no more."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

import modelwright  # noqa: E402
from modelwright import find, per_example  # noqa: E402
from modelwright.artifact import assemble_model, open_model  # noqa: E402
from modelwright.data.schema import Schema  # noqa: E402
from modelwright.errors import Refusal  # noqa: E402
from modelwright.forms import Ragged  # noqa: E402
from modelwright.objective import Learner  # noqa: E402
from modelwright.objectives.masked import Words  # noqa: E402

WORDS = ["the", "cat", "dog", "sat", "good", "bad", "film", "was", "a", "##s", "今", "天", "很", "好"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def wordpiece(folder):
    """BERT's tokenizer over a few words of English and Chinese."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=wordpiece(folder) + 3, max_position_embeddings=40, **SMALL)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-gpt2"
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=wordpiece(folder), n_positions=40, n_embd=32, n_layer=2, n_head=2)
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-vit"
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **SMALL)).save_pretrained(folder)
    pixels = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 16, "width": 16}, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", "rescale_factor": 1 / 255, **pixels}))
    return folder


def built(checkpoint, kind=None, **settings):
    """The encoder and its column's kind, as a plan makes them."""
    encoder = find.make("encoders", {"huggingface": {"checkpoint": str(checkpoint), **settings}})
    kind = kind or find.make("kinds", {"text": encoder.kind_settings()})
    kind.fit(pa.chunked_array([pa.array(["the cat sat"])]))
    encoder.build({"x": kind})
    return encoder.eval(), kind


def read(kind, texts):
    return kind.batch(kind.encode(pa.chunked_array([pa.array(texts)])), np.arange(len(texts)))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_text_is_what_transformers_computes_and_padding_changes_nothing(name, request):
    folder = request.getfixturevalue(name)
    encoder, kind = built(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    texts = ["the cat sat", "今天很好", "a good film was a bad film"]
    x = read(kind, texts)
    h = encoder(x)
    for i, text in enumerate(texts):
        ids = torch.tensor([transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
        alone = theirs(input_ids=ids).last_hidden_state[0]
        n = int(x.lengths[i])
        assert n == ids.shape[1]
        torch.testing.assert_close(h.z[i, :n], alone, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(h.pooled()[i], alone.mean(0), atol=2e-5, rtol=1e-4)
    wide = Ragged(torch.nn.functional.pad(x.values, (0, 5)), x.lengths)
    torch.testing.assert_close(encoder(wide).pooled(), h.pooled(), atol=2e-5, rtol=1e-4)
    none = encoder(Ragged(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long)))
    assert none.z.isfinite().all() and (none.pooled() == 0).all()


def test_a_hidden_token_reaches_nobody_and_cls_is_the_first_token(bert):
    encoder, kind = built(bert, pool="cls")
    x = read(kind, ["the cat sat"])
    mask = x.mask.clone()
    mask[0, 2] = False
    other = Ragged(x.values.clone(), x.lengths)
    other.values[0, 2] = kind.mask_id
    a, b = encoder(x, mask), encoder(other, mask)
    assert torch.equal(a.pooled(), a.z[:, 0]) and torch.equal(a.pooled(), b.pooled())
    assert not torch.allclose(encoder(x).pooled(), encoder(other).pooled())


def test_pictures_are_what_transformers_computes(vit):
    encoder = find.make("encoders", {"huggingface": {"checkpoint": str(vit)}})
    assert encoder.kind_settings() == {"size": 16, "channels": 3}
    kind = find.make("kinds", {"picture": encoder.kind_settings()})
    kind.fit(pa.chunked_array([pa.array([], pa.binary())]))
    encoder, _ = built(vit, kind)
    x = torch.rand(2, 3, 16, 16)
    processor = transformers.AutoImageProcessor.from_pretrained(vit)
    pixels = (x - torch.tensor(processor.image_mean).view(3, 1, 1)) / torch.tensor(processor.image_std).view(3, 1, 1)
    theirs = transformers.AutoModel.from_pretrained(vit).eval()(pixel_values=pixels).last_hidden_state
    h = encoder(x)
    assert h.grid == encoder.grid == (4, 4) and h.z.shape == (2, 16, 32) and encoder.width == 32
    torch.testing.assert_close(h.z, theirs[:, 1:], atol=2e-5, rtol=1e-4)
    larger = find.make("kinds", {"picture": {"size": 24, "channels": 3}})
    larger.fit(pa.chunked_array([pa.array([], pa.binary())]))
    assert built(vit, larger, pool="cls")[0](torch.rand(2, 3, 24, 24)).grid == (6, 6)  # positions are interpolated


def test_a_residual_network_has_a_grid_and_no_first_token(tmp_path):
    made = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    net = transformers.ResNetModel(made)
    net.save_pretrained(tmp_path)
    kind = find.make("kinds", {"picture": {"size": 32, "channels": 3}})
    kind.fit(pa.chunked_array([pa.array([], pa.binary())]))
    with pytest.raises(Refusal, match="no preprocessor_config.json"):
        built(tmp_path, kind)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "do_rescale": False}))
    x = torch.rand(2, 3, 32, 32)
    encoder, _ = built(tmp_path, kind)
    theirs = net.eval()(pixel_values=255 * x)
    torch.testing.assert_close(encoder(x).pooled(), theirs.pooler_output.flatten(1), atol=1e-4, rtol=1e-4)
    assert encoder.width == 16 and encoder(x).grid == tuple(theirs.last_hidden_state.shape[-2:])
    with pytest.raises(Refusal, match="no first token"):
        built(tmp_path, kind, pool="cls")


def test_the_encoder_of_an_encoder_and_decoder(tmp_path):
    size = wordpiece(tmp_path)
    net = transformers.T5Model(transformers.T5Config(vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2))
    net.save_pretrained(tmp_path)
    encoder, kind = built(tmp_path)
    x = read(kind, ["the cat sat", "bad"])
    theirs = net.get_encoder().eval()(input_ids=x.values, attention_mask=x.mask.long()).last_hidden_state
    torch.testing.assert_close(encoder(x).z, theirs, atol=2e-5, rtol=1e-4)
    assert not any("decoder" in n for n, _ in encoder.named_parameters())


def reviews(n=240):
    rng = np.random.default_rng(0)
    good = rng.random(n) < 0.5
    text = [" ".join(rng.permutation(["the", "film", "was", "a", "cat", "good" if g else "bad"])) for g in good]
    return pa.table({"text": [f"{t} {rng.integers(0, 10_000)}" for t in text], "mood": np.where(good, "glad", "sad")})


def task_of(table, checkpoint, folder, **stage):
    pq.write_table(table, folder / "reviews.parquet")
    return modelwright.task_of(
        {
            "data": {"source": str(folder / "reviews.parquet"), "columns": {"text": "text"}},
            "target": "mood",
            "model": {"encoders": {"text": {"huggingface": {"checkpoint": str(checkpoint)}}}},
            "stages": [{"train": {"precision": "fp32", "threads": 1, **stage}}],
        }
    )


def test_a_plan_takes_what_suits_the_checkpoint_and_the_strategy(bert, tmp_path):
    plan = modelwright.plan(task_of(reviews(), bert, tmp_path, strategies=["lora"], weight_decay=0.1))
    s, text = plan.stages[0].settings, plan.schema.inputs["text"]
    assert (s.lr, s.epochs, s.batch_size, s.weight_decay) == (1e-3, 20, 32, 0.1)
    assert text.max_tokens == 40 and text.special_["before"] == [2] and "of tiny-bert" in text.describe()
    encoder = find.make("encoders", {"huggingface": "anything"})
    assert encoder.learning(6920) == {"lr": 1e-4, "weight_decay": 0.01, "batch_size": 32, "epochs": 3}


@pytest.mark.parametrize(("strategies", "lr"), [([], 3e-3), ([{"lora": {"rank": 8}}], 2e-2)])
def test_a_whole_run_then_predict_without_the_checkpoint(strategies, lr, bert, tmp_path):
    table = reviews()
    folder = shutil.copytree(bert, tmp_path / "checkpoint")
    task = task_of(table, folder, tmp_path, epochs=6, lr=lr, batch_size=32, strategies=strategies)
    modelwright.run(task, tmp_path / "run")
    shutil.rmtree(folder)
    assert str(tmp_path) not in (tmp_path / "run" / "model" / "model.json").read_text()
    answer = open_model(tmp_path / "run").answer(table)
    right = np.array(answer.column("mood").to_pylist()) == np.array(table.column("mood").to_pylist())
    assert right.mean() > 0.9


@pytest.mark.parametrize(("name", "layers"), [("bert", 12), ("gpt2", 8)])
def test_strategies_find_linear_layers_and_private_gradients_need_no_loop(name, layers, request):
    folder = request.getfixturevalue(name)
    parts = {"encoders": {"text": {"huggingface": {"checkpoint": str(folder)}}}, "fusion": "concat", "heads": {}, "decoders": {}}
    encoder = find.make("encoders", parts["encoders"]["text"])
    schema = Schema({"text": find.make("kinds", {"text": encoder.kind_settings()})}, {"mood": find.make("kinds", "category")})
    table = reviews(20)
    schema.fit(table)
    parts["heads"]["mood"] = schema.targets["mood"].head
    model = assemble_model(schema, parts)
    linears = [n for n, m in model.encoders["text"].named_modules() if type(m) is torch.nn.Linear]
    assert len(linears) == layers and "pooler" not in str(linears)
    objective = find.make("objectives", "supervised")
    objective.build(model, schema)
    learner = Learner(model, objective)
    batch = schema.encode(table).batch(np.arange(20))
    way, why = per_example.choose(learner, [p for p in learner.parameters() if p.requires_grad], batch, "model")
    assert way == "tapped", why


def refused(checkpoint, code, words):
    with pytest.raises(Refusal, match=words) as e:
        built(checkpoint, find.make("kinds", "text"))
    assert e.value.problems[0].code == code and len(str(e.value)) < 700


def test_what_cannot_be_loaded_is_refused_in_words(bert, vit, tmp_path):
    refused(tmp_path / "nowhere", "encoder.checkpoint", "no checkpoint can be read")
    pickled = shutil.copytree(bert, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    refused(pickled, "encoder.checkpoint", "no safetensors weights")
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    refused(pickled, "encoder.pickle", "only a pickle")
    foreign = shutil.copytree(bert, tmp_path / "foreign")
    (foreign / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}))
    refused(foreign, "encoder.remote_code", "code that came with it")
    cut = shutil.copytree(bert, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:1000])
    refused(cut, "encoder.checkpoint", "no checkpoint can be read")
    half = shutil.copytree(bert, tmp_path / "half")
    deep = json.loads((half / "config.json").read_text()) | {"num_hidden_layers": 3}
    (half / "config.json").write_text(json.dumps(deep))
    refused(half, "encoder.checkpoint", "lacks 16 weights")
    refused(bert, "encoder.tokenizer", "of another")
    refused(vit, "encoder.input", "reads pixel_values")
    with pytest.raises(Refusal, match="cannot read ids of size"):
        built(bert, find.make("kinds", {"text": {"tokenizer": str(bert), "max_tokens": 50}}))


def test_masked_pretraining_goes_on_from_a_checkpoint(bert, gpt2):
    encoder, kind = built(bert)
    words = Words(32, kind, 0.5, True)
    x = read(kind, ["the cats sat", "good film", ""])
    for seed in range(20):
        hidden, kept = words.hide(x, torch.ones(3, dtype=torch.bool), torch.Generator().manual_seed(seed))
        assert torch.equal(hidden.values[:, 0], x.values[:, 0]) and not set(kept["ids"].values[kept["ids"].mask].tolist()) & {0, 2, 3, 4}
        changed = hidden.values != x.values
        assert not set(hidden.values[changed].tolist()) & {0, 1, 2, 3}
        chosen = set(kept["positions"].values[0][kept["positions"].mask[0]].tolist())
        assert (2 in chosen) == (3 in chosen)  # cat ##s
        assert kept["ids"].lengths[2] == 0
    with pytest.raises(Refusal, match="sees no token after it"):
        built(gpt2, pool="cls")
    _, without = built(gpt2)
    without.special_["mask"] = None
    with pytest.raises(Refusal, match="no mask token"):
        Words(32, without, 0.5, True)
