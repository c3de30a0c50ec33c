"""The transformer: padding changes nothing, attention is the double loop, rotary scores depend on distance alone."""

import math

import pytest
import torch

from modelwright import find
from modelwright.encoders.transformer import Block, rotate, rotations
from modelwright.errors import Refusal
from modelwright.forms import Ragged


class Ids:
    """As much of a text kind as an encoder reads."""

    vocabulary_size, max_tokens = 50, 64


def batch(lengths: list[int], padding: int = 0) -> Ragged:
    lengths = torch.tensor(lengths)
    values = torch.randint(5, 50, (len(lengths), int(lengths.max()) + padding), generator=torch.Generator().manual_seed(0))
    ragged = Ragged(values, lengths)
    return Ragged(values * ragged.mask, lengths)


def row(x: Ragged, i: int) -> Ragged:
    """Row i without padding."""
    n = int(x.lengths[i])
    return Ragged(x.values[i : i + 1, : max(n, 1)], x.lengths[i : i + 1])


def built(**settings):
    torch.manual_seed(0)
    encoder = find.make("encoders", {"transformer": settings})
    encoder.build({"note": Ids()})
    return encoder.eval()


@pytest.mark.parametrize("settings", [{}, {"positions": "learned"}, {"depth": 3, "width": 32, "num_heads": 2}])
@torch.no_grad()
def test_a_row_alone_is_the_row_in_a_padded_batch(settings):
    encoder, x = built(**settings), batch([3, 20, 1, 0, 11], padding=4)
    together = encoder(x)
    assert together.z.shape == (5, 24, encoder.width) and together.z.isfinite().all()
    assert torch.equal(together.mask, x.mask) and (together.pooled()[3] == 0).all()
    for i in range(5):
        alone, n = encoder(row(x, i)), int(x.lengths[i])
        assert torch.allclose(alone.z[0, :n], together.z[i, :n], atol=1e-5)
        assert torch.allclose(alone.pooled()[0], together.pooled()[i], atol=1e-5)


def test_a_row_without_tokens_has_gradients_that_are_numbers():
    encoder = built().train()
    encoder(batch([0, 5])).pooled().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@torch.no_grad()
def test_a_block_is_the_double_loop():
    torch.manual_seed(0)
    block, h = Block(8, 2, 0.0).eval(), torch.randn(1, 5, 8)
    there = torch.tensor([[True, True, True, True, False]])
    q, k, v = block.qkv(block.norm1(h))[0].chunk(3, -1)  # (T, D)
    cos, sin = rotations(5, 4, h.device)
    mixed = torch.zeros(5, 8)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        for i in range(5):
            scores = [float(rotate(q[i, part], cos[i], sin[i]) @ rotate(k[j, part], cos[j], sin[j])) / math.sqrt(4) for j in range(4)]
            weights = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
            mixed[i, part] = sum(w * v[j, part] for j, w in enumerate(weights))
    want = h[0] + block.out(mixed)
    want = want + block.down(torch.nn.functional.gelu(block.up(block.norm2(want))))
    assert torch.allclose(block(h, there[:, None, None, :], (cos, sin))[0], want, atol=1e-5)


def test_rotary_scores_depend_on_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(8), torch.randn(8)
    cos, sin = rotations(30, 8, q.device)
    turned = lambda x, t: rotate(x, cos[t], sin[t])  # noqa: E731
    assert torch.allclose(turned(q, 3) @ turned(k, 7), turned(q, 20) @ turned(k, 24), atol=1e-5)
    assert torch.equal(turned(q, 0), q)
    z = torch.complex(q[:4], q[4:]) * torch.exp(1j * 5 * 10_000 ** (-torch.arange(0, 8, 2) / 8))  # equation 34 in complex numbers
    assert torch.allclose(turned(q, 5), torch.cat([z.real, z.imag]), atol=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@torch.no_grad()
def test_order_matters_and_hidden_tokens_do_not(positions):
    encoder, x = built(positions=positions), batch([8, 8])
    turned = Ragged(x.values.flip(1), x.lengths)
    assert not torch.allclose(encoder(x).pooled(), encoder(turned).pooled(), atol=1e-4)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 3] = False
    other = Ragged(x.values.clone(), x.lengths)
    other.values[:, 3] = 7
    assert torch.allclose(encoder(x, mask).pooled(), encoder(other, mask).pooled(), atol=1e-6)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(Refusal, match=r"num_heads \(7\) must divide width \(64\)"):
        find.make("encoders", {"transformer": {"width": 64, "num_heads": 7}})
    with pytest.raises(Refusal, match="must be even"):
        find.make("encoders", {"transformer": {"width": 12, "num_heads": 4}})
    with pytest.raises(Refusal, match="70 tokens, positions for 64"):
        built(positions="learned")(batch([70]))
