"""Attention rollout against the product of the paper by hand, and read off a model that attends."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelwright import find
from modelwright.errors import Refusal
from modelwright.explainers.attention import rollout, weights


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rollout_is_the_product_of_halves():
    a, b = (torch.rand(2, 4, 4, generator=rng(s)).softmax(-1) for s in (0, 1))
    eye, found = torch.eye(4), rollout([a, b])
    for i in range(2):
        assert torch.allclose(found[i], (0.5 * b[i] + 0.5 * eye) @ (0.5 * a[i] + 0.5 * eye), atol=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(2, 4), atol=1e-6)


def test_weights_are_those_of_the_attention():
    q, k = torch.randn(2, 3, 5, 4, generator=rng()), torch.randn(2, 3, 5, 4, generator=rng(1))
    seen = torch.rand(2, 1, 1, 5, generator=rng(2)) < 0.7
    seen[..., 0] = True
    v = torch.eye(5).expand(2, 3, 5, 5)  # what attention gives back is then its weights
    assert torch.allclose(weights(q, k, v, attn_mask=seen), F.scaled_dot_product_attention(q, k, v, attn_mask=seen).mean(1), atol=1e-6)


class Tokens(nn.Module):
    """One column is attended to, by its token's size."""

    def forward(self, x):
        tokens = torch.cat([torch.ones(len(x), 1, 2), torch.stack([x, torch.zeros_like(x)], -1)], 1)  # (B, 1 + F, 2)
        h = F.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None]).squeeze(1)
        return h[:, 0]


def test_a_table_is_read_from_its_first_token():
    x = torch.zeros(3, 4)
    x[:, 2] = 9.0
    found = find.make("explainers", "attention").explain(Tokens(), x, torch.tensor([0, 0, 1]), x.mean(0), rng())
    assert found.shape == x.shape and (found.argmax(1) == 2).all() and (found[:, 2] > 0.4).all()


def test_a_model_without_attention_is_refused():
    with pytest.raises(Refusal, match="no attention"):
        find.make("explainers", "attention").explain(lambda x: x, torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(3), rng())
