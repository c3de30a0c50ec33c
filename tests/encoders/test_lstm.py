"""The LSTM: padding changes nothing; the recurrence is the textbook's."""

import pytest
import torch

from modelwright import find
from modelwright.errors import Refusal
from modelwright.forms import Ragged


class Ids:
    """As much of a text kind as an encoder reads."""

    form, vocabulary_size, max_tokens = "ids", 50, 64


class Steps:
    """As much of a series kind."""

    form, channels = "series", 3


def batch(lengths: list[int], padding: int = 0) -> Ragged:
    lengths = torch.tensor(lengths)
    values = torch.randint(5, 50, (len(lengths), int(lengths.max()) + padding), generator=torch.Generator().manual_seed(0))
    ragged = Ragged(values, lengths)
    return Ragged(values * ragged.mask, lengths)


def row(x: Ragged, i: int) -> Ragged:
    """Row i without padding."""
    n = int(x.lengths[i])
    return Ragged(x.values[i : i + 1, : max(n, 1)], x.lengths[i : i + 1])


def built(kind=Ids, **settings):
    torch.manual_seed(0)
    encoder = find.make("encoders", {"lstm": settings})
    encoder.build({"note": kind()})
    return encoder.eval()


@pytest.mark.parametrize("settings", [{}, {"bidirectional": False, "depth": 2}, {"depth": 2, "width": 32}])
@torch.no_grad()
def test_a_row_alone_is_the_row_in_a_padded_batch(settings):
    encoder, x = built(**settings), batch([3, 20, 1, 0, 11], padding=4)
    together = encoder(x)
    assert together.z.shape == (5, 24, encoder.width) and together.pooled().shape == (5, encoder.width)
    assert torch.equal(together.mask, x.mask) and together.z.isfinite().all() and together.pooled().isfinite().all()
    for i in range(5):
        alone, n = encoder(row(x, i)), int(x.lengths[i])
        assert torch.allclose(alone.z[0, :n], together.z[i, :n], atol=1e-5)
        assert torch.allclose(alone.pooled()[0], together.pooled()[i], atol=1e-5)


@torch.no_grad()
def test_one_direction_is_the_textbook_recurrence():
    encoder, x = built(bidirectional=False, width=6), batch([5])
    (w, u, b1, b2) = encoder.lstm.all_weights[0]
    h = c = torch.zeros(6)
    for t in range(5):
        i, f, g, o = (w @ encoder.embedding.weight[x.values[0, t]] + b1 + u @ h + b2).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        assert torch.allclose(encoder(x).z[0, t], h, atol=1e-6)


@torch.no_grad()
def test_state_goes_on():
    encoder, x = built(bidirectional=False), batch([10, 10])
    first = encoder(Ragged(x.values[:, :4], torch.tensor([4, 4])))
    second = encoder(Ragged(x.values[:, 4:], torch.tensor([6, 6])), state=first.state)
    assert torch.allclose(torch.cat([first.z, second.z], 1), encoder(x).z, atol=1e-6)


@torch.no_grad()
def test_a_series_with_and_without_padding_and_step_by_step():
    encoder = built(Steps, bidirectional=False, depth=2, width=10)
    x = Ragged(torch.randn(3, 7, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([7, 4, 7]))
    x.values[1, 4:] = 0
    together = encoder(x)
    for i, n in enumerate([7, 4, 7]):
        state, steps = None, []
        for t in range(n):
            one = encoder(Ragged(x.values[i : i + 1, t : t + 1], torch.ones(1, dtype=torch.int64)), state=state)
            state = one.state
            steps.append(one.z[0, 0])
        assert state.shape == (1, 2, 20) and torch.allclose(state[0], together.state[i], atol=1e-6)
        assert torch.allclose(torch.stack(steps), together.z[i, :n], atol=1e-6)


@torch.no_grad()
def test_a_hidden_token_does_not_matter():
    encoder, x = built(), batch([8, 8])
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 3] = False
    other = Ragged(x.values.clone(), x.lengths)
    other.values[:, 3] = 7
    assert torch.equal(encoder(x, mask).pooled(), encoder(other, mask).pooled())
    assert not torch.allclose(encoder(x).pooled(), encoder(other).pooled())


def test_an_odd_width_is_refused():
    with pytest.raises(Refusal, match="must be even"):
        find.make("encoders", {"lstm": {"width": 33}})
    assert find.make("encoders", {"lstm": {"width": 33, "bidirectional": False}}).width == 33
