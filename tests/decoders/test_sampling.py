"""Sampling against the probabilities that it must draw with."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Encoded
from modelwright.model import Head

LOGITS = torch.tensor([-torch.inf, 0.5, 1.0, 2.0, -1.0, 1.5, 0.0, -2.0]).double()


class Urn(Head):
    """The same distribution at every step: 0 begins, 1 ends."""

    begin_id, end_id, max_tokens = 0, 1, 20

    def start(self, h):
        return {"n": torch.zeros(len(h.z), 1)}

    def step(self, tokens, state):
        return LOGITS.log_softmax(0).expand(len(tokens), -1), {"n": state["n"] + 1}


def sampling(**settings):
    return find.make("decoders", {"sampling": settings})


def draws(n: int = 40_000, **settings):
    rows = LOGITS.log_softmax(0).expand(n, -1)
    drawn = sampling(**settings).draw(rows, torch.Generator().manual_seed(0))
    return np.bincount(drawn.numpy(), minlength=8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax_at_a_temperature(temperature):
    counts, p = draws(temperature=temperature), (LOGITS / temperature).softmax(0).numpy()
    assert counts[0] == 0 and chisquare(counts[1:], 40_000 * p[1:]).pvalue > 1e-3


def test_top_k_draws_the_k_likeliest_alone():
    counts, p = draws(top_k=3), LOGITS.softmax(0).numpy()
    kept = np.argsort(-p)[:3]
    assert counts[kept].sum() == 40_000 and chisquare(counts[kept], 40_000 * p[kept] / p[kept].sum()).pvalue > 1e-3


@pytest.mark.parametrize("top_p", [0.01, 0.4, 0.41, 0.7, 0.95, 1.0])
def test_top_p_draws_the_smallest_likeliest_set_alone(top_p):
    counts, p = draws(top_p=top_p), LOGITS.softmax(0).numpy()
    order, kept, total = np.argsort(-p), [], 0.0
    for i in order:
        if total >= top_p:
            break
        kept.append(i)
        total += p[i]
    kept = [i for i in kept if p[i] > 0]
    assert counts[kept].sum() == 40_000 and (len(kept) == 1 or chisquare(counts[kept], 40_000 * p[kept] / p[kept].sum()).pvalue > 1e-3)


def test_texts_end_where_the_end_is_drawn():
    decoder, p = sampling(), LOGITS.softmax(0)
    found = decoder.write(Urn(), Encoded(torch.zeros(4000, 1, 1).double()), torch.Generator().manual_seed(0))
    lengths = found.tokens.lengths.numpy()
    q = float(p[1])  # a geometric distribution, cut at 20
    expected = np.array([q * (1 - q) ** n for n in range(20)] + [(1 - q) ** 20]) * 4000
    assert lengths.max() == 20 and chisquare(np.bincount(lengths, minlength=21), expected).pvalue > 1e-3
    inside = torch.arange(found.tokens.values.shape[1]) < found.tokens.lengths[:, None]
    assert (found.tokens.values[inside] > 1).all() and (found.tokens.values[~inside] == 0).all()
    i, n = int(lengths.argmin()), int(lengths.min())
    assert n == 0 and float(found.score[i]) == pytest.approx(float(p[1].log()), abs=1e-6)


def test_the_generator_decides():
    h = Encoded(torch.zeros(50, 1, 1).double())
    write = lambda seed: sampling(top_k=4).write(Urn(), h, torch.Generator().manual_seed(seed)).tokens.values.tolist()  # noqa: E731
    assert write(1) == write(1) != write(2)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.5}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(Refusal):
        sampling(**wrong)
