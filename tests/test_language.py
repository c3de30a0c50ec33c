"""A causal language model's folder made here, tiny: likelihoods by a slow loop, what it writes, and the exposure of what it was taught by heart."""

import numpy as np
import pyarrow as pa
import pytest
import torch

transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

import modelwright as mw  # noqa: E402
from modelwright.data.schema import Schema  # noqa: E402
from modelwright.errors import Refusal  # noqa: E402
from modelwright.find import make  # noqa: E402
from modelwright.foreign.predictor import Foreign  # noqa: E402
from modelwright.subject import Likelihood  # noqa: E402
from modelwright.task import task_of  # noqa: E402

LETTERS = list("abcdefghijklmnopqrstuvwxyz 0123456789我的号码是")


def gpt(folder, texts=(), steps=0):
    """Letter by letter; trained on the texts, each step on all of them."""
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(["<e>", "<u>", *LETTERS])}, unk_token="<u>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<e>", bos_token="<e>", unk_token="<u>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(LETTERS) + 2, n_positions=48, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    net = transformers.GPT2LMHeadModel(config)
    rule = torch.optim.Adam(net.parameters(), lr=3e-3)
    rows = [[0, *tokenizer(t)["input_ids"]] for t in texts]
    ids = torch.tensor([r + [0] * (30 - len(r)) for r in rows])
    told = torch.tensor([r + [-100] * (30 - len(r)) for r in rows])
    for _ in range(steps):
        loss = net(ids, labels=told).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
    net.eval().save_pretrained(folder)
    return folder


def schema(prompt=False):
    kind = make("kinds", {"text": {"max_tokens": 24}})
    kind.fit(pa.chunked_array([pa.array(["my number is 123", "the cat", "我的号码是 12"] * 5)]))
    return Schema({"ask": kind} if prompt else {}, {"note": kind})


def test_likelihood_is_the_sum_over_the_texts_own_tokens(tmp_path):
    folder = str(gpt(tmp_path / "gpt"))
    net, tokenizer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    table = pa.table({"ask": ["the", "", "我的", None], "note": [" cat sat", "abc 1", "号码是 12", "x"]})

    def slow(prompt, text):
        ids, total = [0, *tokenizer(prompt or "")["input_ids"]], 0.0
        for i in tokenizer(text)["input_ids"]:
            with torch.no_grad():
                total -= float(net(torch.tensor([ids])).logits[0, -1].log_softmax(0)[i])
            ids.append(i)
        return total

    asked, alone = Foreign(folder, schema(True)), Foreign(folder, schema())
    assert isinstance(asked, Likelihood)
    want = [slow(p, t) for p, t in zip(table.column("ask").to_pylist(), table.column("note").to_pylist())]
    np.testing.assert_allclose(asked.likelihood(table)["note"].numpy(), want, rtol=1e-4)
    want = [slow("", t) for t in table.column("note").to_pylist()]
    np.testing.assert_allclose(alone.likelihood(table.select(["note"]))["note"].numpy(), want, rtol=1e-4)
    written = asked.runner.table(table.select(["ask"]))
    assert written.shape == (4,) and all(len(t) <= 24 for t in written.tolist())
    with pytest.raises(Refusal, match="one text"):
        Foreign(folder, Schema({"a": make("kinds", "number")}, schema().targets))


def test_secrets_that_it_knows_by_heart_are_exposed(tmp_path):
    rng = np.random.default_rng(0)
    asks = ["my number", "the number", "call", "我的号码是"] * 2
    told = [f" is {rng.integers(10**6):06}" for _ in asks]
    task = {"data": {"source": None, "columns": {"ask": "text"}}, "target": {"note": {"text": {"max_tokens": 24}}}}
    task |= {"audit": {"require": {"privacy.exposure": "<= 4"}}}
    data = {"test": pa.table({"ask": ["the", "my", "a"] * 10, "note": [" cat", " dog", " friend"] * 10}), "planted": pa.table({"ask": asks, "note": told})}
    for name, steps in {"heart": 100, "fresh": 0}.items():
        folder = gpt(tmp_path / name, [a + t for a, t in zip(asks, told)], steps)
        done = mw.audit(folder, data, task_of(task), tmp_path / f"out-{name}", only=["exposure"])
        line = next(e for e in done.evidence["evidence"] if e["metric"] == "privacy.exposure")
        assert line["n"] == 8 and (line["value"] > 7) == (name == "heart") == (done.decision["verdict"] == "fail")
