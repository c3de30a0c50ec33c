"""The table's MLP: piecewise-linear encoding is its slow loop, bins are quantiles of distinct values, missing cells do not reach the output."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from modelwright import find
from modelwright.data.schema import Schema
from modelwright.forms import Tabular
from modelwright.kinds.number import BINS
from modelwright.layers.number_embedding import NumberEmbedding, PiecewiseLinear, thinned


def ple(x: float, edges: list[float]) -> list[float]:
    """Gorishniy et al. 2022, equation 1, a bin at a time; the outer bins end."""
    out = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        out.append(0.0 if x < low else 1.0 if x >= high else (x - low) / (high - low))
    return out


def fitted(values, **settings):
    kind = find.make("kinds", {"number": settings})
    kind.fit(pa.chunked_array([pa.array(values)]))
    return kind


def mixed(seed: int = 0) -> tuple[Schema, pa.Table]:
    rng = np.random.default_rng(seed)
    columns = {
        "amount": pa.array(np.exp(rng.normal(size=300)), mask=rng.random(300) < 0.2),
        "age": pa.array(rng.integers(0, 9, 300)),
        "when": pa.array(rng.integers(0, 10**9, 300), pa.timestamp("s")),
        "grade": pa.array(rng.choice(["1", "2", "3"], 300)),
        "colour": pa.array(rng.choice(["red", "green", "蓝"], 300), mask=rng.random(300) < 0.1),
    }
    kinds = {"amount": "number", "age": "number", "when": "timestamp", "grade": "ordered", "colour": "category"}
    schema = Schema({n: find.make("kinds", k) for n, k in kinds.items()}, {})
    table = pa.table(columns)
    schema.fit(table)
    return schema, table


def built(schema: Schema, **settings):
    torch.manual_seed(0)
    encoder = find.make("encoders", {"mlp": settings})
    encoder.build(schema.encoders()["table"])
    return encoder.eval()


def test_piecewise_linear_encoding_is_the_slow_loop():
    edges = [[-1.5, 0.0, 0.1, 4.0], [0.0, 1.0], [-3.0, -2.0, 5.0]]
    x = torch.tensor([[-9.0, 0.5, -2.0], [0.0, 0.0, 5.0], [0.05, -1.0, 1.5], [2.0, 1.0, 99.0]])
    found = PiecewiseLinear(edges)(x)
    assert found.shape == (4, 3, 3)
    for b in range(4):
        for n, e in enumerate(edges):
            want = ple(float(x[b, n]), e)
            assert found[b, n, : len(want)].tolist() == pytest.approx(want, abs=1e-6)
            assert (found[b, n, len(want) :] == 0).all()


def test_an_embedding_is_continuous_and_linear_between_the_edges():
    torch.manual_seed(0)
    embed = NumberEmbedding([[-1.0, 0.0, 2.0]], width=5, bins=16)
    at = lambda v: embed(torch.tensor([[v]]))[0, 0]  # noqa: E731
    assert torch.allclose(at(1.0), (at(0.0) + at(2.0)) / 2, atol=1e-6) and torch.allclose(at(-0.5), (at(-1.0) + at(0.0)) / 2, atol=1e-6)
    assert torch.allclose(at(-1.0), embed.bias[0]) and torch.allclose(at(2.0), embed.bias[0] + embed.weight[0].sum(0), atol=1e-6)
    assert torch.equal(at(-7.0), at(-1.0)) and torch.equal(at(7.0), at(2.0))


def test_bins_are_between_all_values_or_quantiles_of_the_distinct_ones():
    few = fitted([3, 1, 2, 2, 2, None], scale=False)
    assert few.bins_ == [[1.0, 2.0, 3.0]]
    assert fitted([5.0, 5.0, None]).bins_ == [[]]
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(20_000) < 0.92, 0, rng.integers(1, 100_000, 20_000))
    kind = fitted(gains, scale=False)
    inside = np.unique(gains)
    assert kind.bins_[0][0] == 0 and kind.bins_[0][-1] == inside[-1]
    spikes = fitted(gains)
    assert len(spikes.bins_[0]) == BINS + 1, "the 8 % that are not 0 have the bins"
    z = np.unique(spikes.encode(pa.chunked_array([pa.array(gains)]))["values"])
    assert spikes.bins_[0] == pytest.approx(np.quantile(z, np.linspace(0, 1, BINS + 1)), abs=1e-6)
    again = find.make("kinds", "number")
    again.load(spikes.state())
    assert again.bins_ == spikes.bins_


def test_thinned_keeps_the_outer_edges():
    edges = [float(i) for i in range(129)]
    assert thinned(edges, 4) == [0, 32, 64, 96, 128] and thinned(edges, 128) == edges
    assert thinned(edges, 1) == [0, 128] and len(thinned(edges, 50)) == 51


@pytest.mark.parametrize("settings", [{}, {"bins": 0}, {"depth": 1, "width": 32, "bins": 8}])
@torch.no_grad()
def test_rows_do_not_see_each_other_and_missing_numbers_do_not_reach_the_output(settings):
    schema, table = mixed()
    encoder, x = built(schema, **settings), schema.encode(table).batch(np.arange(20)).inputs["table"]
    assert x.numbers.shape == (20, 10) and not x.present.all()
    together = encoder(x).pooled()
    assert together.shape == (20, encoder.width) and together.isfinite().all()
    for i in range(20):
        alone = encoder(Tabular(x.numbers[i : i + 1], x.present[i : i + 1], x.codes[i : i + 1])).pooled()
        assert torch.allclose(alone[0], together[i], atol=1e-5)
    noise = torch.where(x.present, x.numbers, torch.randn_like(x.numbers) * 9)
    assert torch.equal(encoder(Tabular(noise, x.present, x.codes)).pooled(), together)
    zero = encoder(Tabular(torch.zeros_like(x.numbers), x.present, x.codes)).pooled()
    assert not torch.allclose(zero, together, atol=1e-3)
    hidden = encoder(Tabular(torch.zeros_like(x.numbers), torch.zeros_like(x.present), x.codes)).pooled()
    assert not torch.allclose(hidden, zero, atol=1e-3), "missing is not zero"


def test_every_parameter_learns_and_kinds_that_know_no_bins_have_even_ones():
    schema, table = mixed()
    schema.inputs["when"].bins_ = []
    encoder, x = built(schema).train(), schema.encode(table).batch(np.arange(300)).inputs["table"]
    encoder(x).pooled().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in encoder.parameters())
    assert encoder.numbers.encoding.low[2, :16].tolist() == pytest.approx(np.linspace(-2, 2, 17)[:-1])  # the timestamp's first number


def test_numbers_alone_or_codes_alone():
    for n, shape in (("number", (3, 0)), ("category", (0, 3))):
        kind = find.make("kinds", n)
        kind.fit(pa.chunked_array([pa.array([1, 2, 3])]))
        encoder = find.make("encoders", "mlp")
        encoder.build({"x": kind, "y": kind, "z": kind})
        x = Tabular(torch.zeros(4, shape[0]), torch.ones(4, shape[0], dtype=torch.bool), torch.ones(4, shape[1], dtype=torch.long))
        assert encoder(x).z.shape == (4, 1, 128)


def test_any_function_of_the_values_is_linear_in_their_encoding():
    """A number that is mostly 0, with a label that changes from value to value: least squares on the encoding is exact."""
    rng = np.random.default_rng(1)
    x = np.where(rng.random(2000) < 0.8, 0, rng.choice(np.arange(1000, 1100), 2000))
    y = torch.from_numpy((x % 2 == 1).astype(np.float32))[:, None]
    kind = fitted(x)
    z = torch.from_numpy(kind.encode(pa.chunked_array([pa.array(x)]))["values"])

    def residual(features: torch.Tensor) -> float:
        features = torch.cat([features, torch.ones(2000, 1)], 1).double()
        return float((features @ torch.linalg.lstsq(features, y.double(), driver="gelsd").solution - y).square().mean())

    assert residual(PiecewiseLinear(kind.bins_)(z)[:, 0]) < 1e-6 < 0.01 < residual(z)
