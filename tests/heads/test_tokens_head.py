"""The tokens head against a slow loop, its own steps, and the texts that it must learn to write."""

import copy
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

import modelwright as mw
from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Encoded, Ragged


class Ids:
    """A text kind of 11 tokens."""

    form, begin_id, end_id, max_tokens, vocabulary_size = "ids", 3, 4, 12, 11


def built(read: int = 6, **settings):
    torch.manual_seed(0)
    head = find.make("heads", {"tokens": {"width": 16, "num_heads": 2, **settings}})
    head.build(Ids(), read, None)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return head.double().eval()


def texts(*lengths, longest=None):
    rng = torch.Generator().manual_seed(1)
    values = torch.randint(5, 11, (len(lengths), longest or max(lengths)), generator=rng)
    there = torch.arange(values.shape[1]) < torch.tensor(lengths)[:, None]
    return Ragged(values * there, torch.tensor(lengths))


def source(*lengths, longest=None, read: int = 6):
    z = torch.randn(len(lengths), longest or max(lengths), read, generator=torch.Generator().manual_seed(2)).double()
    return Encoded(z, torch.arange(z.shape[1]) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_the_loss_is_the_sum_over_tokens_and_the_end(training):
    head, target, known = built(smoothing=0.2, dropout=0.0).train(training), texts(3, 0, 5, 2), torch.tensor([True, True, True, False])
    out = head(source(4, 2, 3, 1), target)
    total, count = head.nll(out, target, known)
    for i, n in enumerate(target.lengths.tolist()):
        slow = 0.0
        for t, label in enumerate([*target.values[i, :n].tolist(), Ids.end_id]):
            p = out["logits"][i, t].softmax(-1)
            e = 0.2 if training else 0.0
            slow -= (1 - e) * math.log(p[label]) + e * float(p.log().mean())
        assert float(total[i]) == pytest.approx(slow if known[i] else 0.0, abs=1e-9) and count[i] == (n + 1) * known[i]


@torch.no_grad()
def test_steps_say_what_teacher_forcing_says():
    head, h, target = built(depth=3), source(4, 1, 0), texts(6, 6, 6)
    forced = head(h, target)["logits"].log_softmax(-1)
    state, token = head.start(h), torch.full((3,), head.begin_id)
    for t in range(7):
        logp, state = head.step(token, state)
        assert torch.allclose(logp.double(), forced[:, t], atol=1e-6)
        token = target.values[:, min(t, 5)]


@torch.no_grad()
def test_rows_of_the_state_can_be_exchanged():
    head, h, target = built(), source(4, 2, 3), texts(4, 4, 4)
    order = torch.tensor([2, 0, 0, 1])
    swap = lambda state: torch.utils._pytree.tree_map(lambda t: t.index_select(0, order), state)  # noqa: E731
    state = head.start(h)
    for token in (torch.full((3,), head.begin_id), target.values[:, 0]):
        _, state = head.step(token, state)
    there, _ = head.step(target.values[:, 1], state)
    swapped, _ = head.step(target.values[:, 1][order], swap(state))
    assert torch.allclose(swapped, there[order], atol=1e-6)


@torch.no_grad()
def test_a_row_depends_neither_on_the_others_nor_on_padding():
    head, h, target = built(), source(4, 1, 3, longest=9), texts(2, 5, 0, longest=8)
    total, _ = head.nll(head(h, target), target, torch.ones(3, dtype=torch.bool))
    junk = Encoded(torch.where(h.mask[:, :, None], h.z, 77.0), h.mask)
    assert torch.allclose(head.nll(head(junk, target), target, torch.ones(3, dtype=torch.bool))[0], total, atol=1e-9)
    for i in range(3):
        n, t = max(1, int(h.mask[i].sum())), max(1, int(target.lengths[i]))
        alone = Ragged(target.values[i : i + 1, :t], target.lengths[i : i + 1])
        one = head.nll(head(Encoded(h.z[i : i + 1, :n], h.mask[i : i + 1, :n]), alone), alone, torch.tensor([True]))
        assert torch.allclose(one[0], total[i : i + 1], atol=1e-9)


@torch.no_grad()
def test_without_a_target_it_writes_greedily():
    head, h = built(), source(4, 2, 3, 5)
    wrote = head.predict(head(h))
    assert wrote.tokens.lengths.max() <= Ids.max_tokens
    for i in range(4):
        state, token, said = head.start(Encoded(h.z[i : i + 1], h.mask[i : i + 1])), torch.tensor([head.begin_id]), []
        total = 0.0
        while len(said) < Ids.max_tokens and (not said or said[-1] != Ids.end_id):
            logp, state = head.step(token, state)
            token = logp.argmax(1)
            said.append(int(token))
            total += float(logp.max())
        text = [s for s in said if s != Ids.end_id]
        assert wrote.tokens.values[i, : wrote.tokens.lengths[i]].tolist() == text
        assert float(wrote.score[i]) == pytest.approx(total / len(said), abs=1e-6)


@torch.no_grad()
def test_divergence_is_the_mean_kl_over_a_rows_tokens():
    student, teacher, h, target = built(), built(depth=1), source(4, 2), texts(3, 1)
    a, b = student(h, target), teacher(h, target)
    found = student.divergence(a, b, 2.0)
    for i, n in enumerate((4, 2)):
        p, q = (x["logits"][i, :n] / 2 for x in (b, a))
        slow = [float((p[t].softmax(-1) * (p[t].log_softmax(-1) - q[t].log_softmax(-1))).sum()) for t in range(n)]
        assert float(found[i]) == pytest.approx(4 * np.mean(slow), abs=1e-9)
    assert torch.allclose(student.divergence(a, a, 2.0), torch.zeros(2).double(), atol=1e-12)


def test_settings_and_targets_that_do_not_fit_are_refused():
    with pytest.raises(Refusal, match="multiple of num_heads"):
        find.make("heads", {"tokens": {"width": 30, "num_heads": 4}})
    table = {"a": np.arange(60.0), "y": ["u", "v"] * 30}
    with pytest.raises(Refusal, match="is for text"):
        mw.plan(mw.task_of({"data": {"source": table}, "target": "y", "model": {"heads": {"y": "tokens"}}}))


def test_a_decoder_that_steps_needs_a_head_that_steps():
    tree = {"data": {"source": {"a": np.arange(60.0), "y": ["u", "v"] * 30}}, "target": "y", "model": {"decoders": {"y": "beam"}}}
    with pytest.raises(Refusal, match="beam writes one token after another"):
        mw.plan(mw.task_of(tree))


WORDS = {"red": "红", "green": "绿", "blue": "蓝", "cat": "猫", "dog": "狗", "bird": "鸟", "house": "房子", "big": "大", "small": "小"}


def sentences(n: int, seed: int = 0) -> dict[str, list[str]]:
    """English words, and their Chinese ones in the opposite order."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(list(WORDS), rng.integers(2, 5)).tolist() for _ in range(n)]
    return {"en": [" ".join(r) for r in rows], "zh": ["".join(WORDS[w] for w in reversed(r)) for r in rows]}


def task(table, **stage):
    model = {
        "encoders": {"en": {"lstm": {"width": 32, "dropout": 0.0, "word_dropout": 0.0}}},
        "heads": {"zh": {"tokens": {"reads": "en", "width": 32, "depth": 1, "dropout": 0.0, "smoothing": 0.0}}},
    }
    columns = {name: "text" if name == "en" else "number" for name in table if name != "zh"}
    stages = [{"train": {"steps": 350, "lr": 5e-3, "batch_size": 64, "precision": "fp32", "threads": 1, "validations": 2, **stage}}]
    return mw.task_of({"data": {"source": table, "columns": columns}, "target": {"zh": "text"}, "model": model, "stages": stages})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path / "home"))


def test_a_run_learns_to_translate_and_to_turn_around(tmp_path):
    run = mw.run(task(sentences(700)), tmp_path / "run")
    assert not [e for e in run.evidence["evidence"] if "audit.error" in e["reason_codes"]]
    lines = {e["metric"]: e for e in run.evidence["evidence"] if e["slice"] is None}
    assert lines["bleu"]["value"] > 80 and lines["exact"]["value"] > 0.6 and lines["bleu"]["low"] < lines["bleu"]["value"]
    assert "房子" in (tmp_path / "run" / "report.html").read_text("utf-8")
    model = mw.load(tmp_path / "run")
    answer = model.answer(pa.table({"en": ["red cat", "small blue house", ""]})).column("zh").to_pylist()
    assert answer[:2] == ["猫红", "房子蓝小"]


def test_of_several_inputs_one_is_read_token_by_token(tmp_path):
    table = sentences(60) | {"age": np.arange(60.0)}
    model = mw.plan(task(table, steps=1)).model(0)
    assert model.heads["zh"].reads == "en" and model.heads["zh"].blocks[0].kv.in_features == 32
    run = mw.run(task(table, steps=1, batch_size=8), tmp_path / "run")
    assert run.headline["metric"] == "bleu" and run.headline["n"] == 12


LORA = {"lora": {"targets": "heads.*(qkv|kv|up|down)"}}
PRIVATE = {"dp_sgd": {"epsilon": 8, "delta": 1e-3}}


@pytest.mark.parametrize("strategy", [LORA, pytest.param(PRIVATE, marks=pytest.mark.slow)])
def test_adapted_and_private_training_end(strategy, tmp_path):
    run = mw.run(task(sentences(150), steps=2, batch_size=8, strategies=[strategy]), tmp_path / "run")
    assert run.evidence["evidence"]


def test_an_adapter_on_the_tied_embedding_is_refused():
    with pytest.raises(Refusal, match="shares its weight"):
        mw.plan(task(sentences(150), steps=2, strategies=[{"lora": {"targets": "heads.*embedding"}}]))


def test_a_copy_keeps_embedding_and_output_tied():
    head = copy.deepcopy(built())
    assert head.output.weight is head.embedding.weight
