"""Beam search against every text there is, greedy search, and rows taken alone."""

import itertools
import math

import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Encoded
from modelwright.model import Head

BEGIN, END = 0, 1


class Chain(Head):
    """A random language: what follows depends on the row, on the last two tokens and on how many there are."""

    begin_id, end_id = BEGIN, END

    def __init__(self, rows: int, vocabulary: int, max_tokens: int, seed: int = 0, ends: float = 0.0):
        super().__init__()
        self.max_tokens = max_tokens
        table = 2 * torch.randn(rows, max_tokens + 1, vocabulary, vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed)).double()
        table[..., END] += ends
        table[..., BEGIN] = -torch.inf  # never said
        self.table = table.log_softmax(-1)

    def start(self, h):
        return {"row": h.z[:, 0, 0].long(), "before": torch.zeros(len(h.z)).long(), "t": torch.zeros(len(h.z)).long()}

    def step(self, tokens, state):
        logp = self.table[state["row"], state["t"], state["before"], tokens]
        return logp, {"row": state["row"], "before": tokens, "t": state["t"] + 1}


def source(rows: int, mask=None):
    return Encoded(torch.arange(rows).double()[:, None, None], mask)


def every(head: Chain, row: int, penalty: float) -> tuple[list[int], float]:
    """The best of all texts of at most max_tokens tokens and an end."""
    best = ([], -math.inf)
    size = head.table.shape[-1]
    for n in range(head.max_tokens + 1):
        for text in itertools.product(range(2, size), repeat=n):
            logp, before, last = 0.0, 0, BEGIN
            for t, token in enumerate([*text, END]):
                logp += float(head.table[row, t, before, last, token])
                before, last = last, token
            score = logp / ((5 + n + 1) / 6) ** penalty
            if score > best[1]:
                best = (list(text), score)
    return best


def texts(found):
    return [row[:n] for row, n in zip(found.tokens.values.tolist(), found.tokens.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_beam_wide_enough_finds_the_best_text_of_all(penalty):
    head = Chain(rows=6, vocabulary=5, max_tokens=4)
    found = find.make("decoders", {"beam": {"width": 5**4, "length_penalty": penalty}}).search(head, source(6))
    for i, text in enumerate(texts(found)):
        best, score = every(head, i, penalty)
        assert text == best and float(found.score[i]) == pytest.approx(score, abs=1e-5)


def test_width_one_is_greedy():
    head = Chain(rows=40, vocabulary=7, max_tokens=9, seed=3)
    found = find.make("decoders", {"beam": {"width": 1}}).search(head, source(40))
    cut = 0
    for i, text in enumerate(texts(found)):
        before, last, said = 0, BEGIN, []
        while len(said) < head.max_tokens and (not said or said[-1] != END):
            token = int(head.table[i, len(said), before, last].argmax())
            before, last = last, token
            said.append(token)
        cut += said[-1] != END
        assert text == [t for t in said if t != END]
    assert 0 < cut < 40  # both ends occur


def test_a_wider_beam_is_never_far_and_mostly_better():
    head = Chain(rows=60, vocabulary=8, max_tokens=10, seed=1, ends=1.0)
    scores = [find.make("decoders", {"beam": {"width": w}}).search(head, source(60)).score for w in (1, 4, 64)]
    assert scores[0].mean() < scores[1].mean() < scores[2].mean()


@pytest.mark.parametrize("width", [1, 3])
def test_a_row_does_not_depend_on_the_others(width):
    head, beam = Chain(rows=12, vocabulary=6, max_tokens=8, seed=2), find.make("decoders", {"beam": {"width": width}})
    together, again = beam.search(head, source(12)), beam.search(head, source(12))
    assert torch.equal(together.tokens.values, again.tokens.values) and torch.equal(together.score, again.score)
    for i in range(12):
        alone = beam.search(head, Encoded(torch.full((1, 1, 1), float(i)).double()))
        assert texts(alone)[0] == texts(together)[i] and torch.equal(alone.score[0], together.score[i])


def test_limits_hold_and_padding_is_zero():
    head = Chain(rows=30, vocabulary=6, max_tokens=30, seed=4, ends=-6.0)  # ends are rare
    mask = torch.arange(4) < torch.randint(0, 5, (30, 1), generator=torch.Generator().manual_seed(0))
    h = Encoded(torch.arange(30).double()[:, None, None].expand(30, 4, 1), mask)
    found = find.make("decoders", {"beam": {"width": 2, "ratio": 1.5, "margin": 2}}).search(head, h)
    limit = (1.5 * mask.sum(1)).long() + 2
    assert (found.tokens.lengths <= limit).all() and (found.tokens.lengths == limit).any()
    beyond = torch.arange(found.tokens.values.shape[1]) >= found.tokens.lengths[:, None]
    assert (found.tokens.values[beyond] == 0).all() and (found.tokens.values[~beyond] > END).all()


def test_no_rows_and_settings_that_make_no_sense():
    empty = find.make("decoders", "beam").search(Chain(1, 5, 3), source(0))
    assert len(empty.tokens) == 0 and empty.score.shape == (0,)
    for wrong in ({"width": 0}, {"length_penalty": -1}, {"margin": 0}):
        with pytest.raises(Refusal):
            find.make("decoders", {"beam": wrong})
