"""Attention rollout (Abnar and Zuidema 2020): which tokens attention passes on, layer after layer. The same for every class.

"Quantifying Attention Flow in Transformers", equation 1: A' = (A + I) / 2, rows summing to 1, rollout = A'_L ... A'_1; A is the mean over heads. Read off
`scaled_dot_product_attention` where it is called, in any model. Tokens are the table's numbers after one token that sums up the row (`feature_tokens`),
or patches of a picture, with or without such a token; without it the mean over tokens is taken. It never asks which class, and often fails the tests
of the audit ("Attention is not Explanation", Jain and Wallace 2019): then it is not shown. Left out: causal masks, texts (the audit asks about
words, not tokens), attention written by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import refuse
from ..explainer import Explainer, Function


class Attention(Explainer):
    gradients = True  # needs to see inside: only a model that opens lets it
    takes = frozenset({"table", "picture"})

    def explain(self, f: Function, x: Tensor, classes: Tensor, baseline: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad(), Weights() as seen:
            f(x)
        layers = [a for a in seen.layers if len(a) == len(x)]
        if not layers:
            raise refuse("explanation.no_layer", "no attention was seen at work in the model", fix="another explainer: shap, integrated_gradients")
        flow = rollout(layers)  # (B, T, T)
        tokens = flow.shape[1]
        if x.dim() == 2:
            if tokens < 1 + x.shape[1]:
                raise refuse("explanation.no_layer", f"{tokens} tokens for {x.shape[1]} numbers", fix="another explainer: shap")
            return flow[:, 0, 1 : 1 + x.shape[1]]
        h = next((h for h in range(2, tokens) if round(h * x.shape[3] / x.shape[2]) * h in (tokens, tokens - 1)), None)
        if h is None:
            raise refuse("explanation.no_layer", f"{tokens} tokens are no grid of the picture's proportions", fix="another explainer: shap")
        w = round(h * x.shape[3] / x.shape[2])
        heat = flow[:, 0, 1:] if h * w == tokens - 1 else flow.mean(1)
        heat = F.interpolate(heat.reshape(len(x), 1, h, w), x.shape[2:], mode="bilinear", align_corners=False)
        return heat.expand_as(x) / x.shape[1]


class Weights(TorchFunctionMode):
    """Keeps each attention's weights (B, T, T), the mean over its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.layers.append(weights(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def weights(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **other: object) -> Tensor:
    """q, k (B, heads, T, D) -> (B, T, T)"""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1).mean(1)


def rollout(layers: list[Tensor]) -> Tensor:
    """[(B, T, T) attention of the first layer, ...] -> (B, T, T)"""
    eye = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype)
    flow = eye.expand_as(layers[0])
    for a in layers:
        flow = ((a + eye) / 2) @ flow
    return flow
