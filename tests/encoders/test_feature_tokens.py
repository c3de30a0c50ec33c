"""The feature-token transformer: a token is its definition, attention is the double loop, columns may stand in any order, missing is not zero."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.data.schema import Schema
from modelwright.encoders.feature_tokens import Block
from modelwright.errors import Refusal
from modelwright.forms import Tabular
from modelwright.model import Model


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "amount": pa.array(np.exp(rng.normal(size=200)), mask=rng.random(200) < 0.2),
            "age": rng.integers(0, 9, 200),
            "height": rng.normal(size=200),
            "colour": pa.array(rng.choice(["red", "green", "蓝"], 200), mask=rng.random(200) < 0.1),
            "size": rng.choice(["s", "m"], 200),
        }
    )
    kinds = {"amount": "number", "age": "number", "height": "number", "colour": "category", "size": "category"}
    schema = Schema({n: find.make("kinds", k) for n, k in kinds.items()}, {})
    schema.fit(table)
    return schema, schema.encode(table)


def built(schema: Schema, **settings):
    torch.manual_seed(0)
    encoder = find.make("encoders", {"feature_tokens": settings})
    encoder.build(schema.encoders()["table"])
    return encoder.eval()


@torch.no_grad()
def test_a_token_is_its_definition(mixed):
    schema, data = mixed
    encoder, x = built(schema), data.batch(np.arange(8)).inputs["table"]
    seen = []
    encoder.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    out = encoder(x)
    tokens = seen[0]
    assert tokens.shape == (8, 6, 64) and out.z.shape == (8, 5, 64) and out.vector.shape == (8, 64)
    edges = [k.bins_[0] for k in schema.encoders()["table"].values() if k.place == "number"]
    for b in range(8):
        assert torch.equal(tokens[b, 0], encoder.cls)
        for n, e in enumerate(edges):
            want = encoder.numbers.bias[n].clone()
            for t in range(len(e) - 1):
                want += encoder.numbers.weight[n, t] * min(1.0, max(0.0, (float(x.numbers[b, n]) - e[t]) / (e[t + 1] - e[t])))
            want = want if x.present[b, n] else encoder.missing[n]
            assert torch.allclose(tokens[b, 1 + n], want, atol=1e-4)
        for m in range(2):
            assert torch.equal(tokens[b, 4 + m], encoder.codes[m].weight[x.codes[b, m]] + encoder.code_bias[m])


@torch.no_grad()
def test_a_block_is_the_double_loop():
    torch.manual_seed(0)
    block, h = Block(12, 3, 0.0, first=False).eval(), torch.randn(1, 5, 12)
    q, k, v = block.qkv(block.norm1(h))[0].chunk(3, -1)
    mixed = torch.zeros(5, 12)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        for i in range(5):
            scores = [math.exp(float(q[i, part] @ k[j, part]) / math.sqrt(4)) for j in range(5)]
            mixed[i, part] = sum(s / sum(scores) * v[j, part] for j, s in enumerate(scores))
    want = h[0] + block.out(mixed)
    a, b = block.up(block.norm2(want)).chunk(2, -1)
    assert torch.allclose(block(h)[0], want + block.down(a * b.clamp(min=0)), atol=1e-5)


@torch.no_grad()
def test_rows_do_not_see_each_other_and_missing_numbers_do_not_reach_the_output(mixed):
    schema, data = mixed
    encoder, x = built(schema), data.batch(np.arange(20)).inputs["table"]
    together = encoder(x).pooled()
    assert together.isfinite().all() and not x.present.all()
    for i in range(20):
        alone = encoder(Tabular(x.numbers[i : i + 1], x.present[i : i + 1], x.codes[i : i + 1])).pooled()
        assert torch.allclose(alone[0], together[i], atol=1e-5)
    noise = torch.where(x.present, x.numbers, torch.randn_like(x.numbers) * 9)
    assert torch.equal(encoder(Tabular(noise, x.present, x.codes)).pooled(), together)
    none = encoder(Tabular(x.numbers * 0, torch.zeros_like(x.present), x.codes)).pooled()
    assert not torch.allclose(none, encoder(Tabular(x.numbers * 0, torch.ones_like(x.present), x.codes)).pooled(), atol=1e-3)


@torch.no_grad()
def test_columns_in_another_order_give_the_same_summary(mixed):
    """Tokens carry their column's weights, not a place: permuting columns with their parameters changes nothing but the tokens' order."""
    schema, data = mixed
    encoder, x = built(schema), data.batch(np.arange(10)).inputs["table"]
    order, turned = [2, 0, 1], Schema({n: schema.inputs[n] for n in ("height", "amount", "age", "size", "colour")}, {})
    other = built(turned)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    for name in ("numbers.weight", "numbers.bias", "missing"):
        state[name] = state[name][order]
    for name in ("codes.{}.weight", "code_bias.{}"):
        state[name.format(0)], state[name.format(1)] = state[name.format(1)], state[name.format(0)]
    other.load_state_dict(state)
    found = other(Tabular(x.numbers[:, order], x.present[:, order], x.codes.flip(1)))
    want = encoder(x)
    assert torch.allclose(found.vector, want.vector, atol=1e-5)
    assert torch.allclose(found.z, want.z[:, [*order, 4, 3]], atol=1e-5)


def test_every_parameter_learns(mixed):
    schema, data = mixed
    encoder = built(schema).train()
    encoder(data.batch(np.arange(200)).inputs["table"]).pooled().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in encoder.parameters())


def test_numbers_alone_or_codes_alone():
    for n, shape in (("number", (3, 0)), ("category", (0, 3))):
        kind = find.make("kinds", n)
        kind.fit(pa.chunked_array([pa.array([1, 2, 3])]))
        encoder = find.make("encoders", "feature_tokens")
        encoder.build({"x": kind, "y": kind, "z": kind})
        x = Tabular(torch.zeros(4, shape[0]), torch.ones(4, shape[0], dtype=torch.bool), torch.ones(4, shape[1], dtype=torch.long))
        assert encoder(x).z.shape == (4, 3, 64)


@pytest.mark.parametrize("name", ["mlp", "feature_tokens"])
def test_masked_pre_training_learns_through_it(mixed, name):
    schema, data = mixed
    torch.manual_seed(0)
    encoder, fusion, objective = find.make("encoders", name), find.make("fusions", "concat"), find.make("objectives", "masked")
    encoder.build(schema.encoders()["table"])
    fusion.build({"table": encoder.width})
    model = Model({"table": encoder}, fusion, {}, {}).train()
    objective.build(model, schema)
    learning = objective.parameters_of(model, "model")
    optimizer, rng, batch = torch.optim.AdamW(learning, lr=3e-3), torch.Generator().manual_seed(0), data.batch(np.arange(200))
    losses = []
    for _ in range(40):
        loss = objective.loss(model, objective.prepare(batch, rng), "model").mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3]), losses


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(Refusal, match=r"num_heads \(7\) must divide width \(64\)"):
        find.make("encoders", {"feature_tokens": {"num_heads": 7}})
