"""Answers that no single column shows are found in each of their forms, and the same columns without them are let be."""

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks import hidden

N = 400


def found(seed=0, y=None, classes=2, **columns):
    columns = {n: pa.chunked_array([c]) for n, c in columns.items()}
    return [f["column"] for f in hidden.answers(columns, y, classes, seed, 0.99, None)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def y(rng):
    return rng.integers(0, 2, N)


@pytest.mark.parametrize("how", ["difference", "sum", "product", "ratio", "distance"])
def test_two_numbers_together(rng, y, how):
    a = np.exp(rng.normal(size=N))
    t = y + rng.uniform(0.5, 0.6, N)
    b = {"difference": a - t, "sum": t - a, "product": t / a, "ratio": a * t, "distance": a + t * rng.choice([-1, 1], N)}[how]
    assert len(found(y=y, a=a, b=b, other=rng.normal(size=N))) == 1
    assert found(y=rng.permutation(y), a=a, b=b) == []


def test_a_number_that_is_a_difference_of_two(rng):
    a, b = rng.normal(size=N), rng.normal(size=N)
    assert found(y=a - b, classes=None, a=a, b=b) == ["a - b"]
    assert found(y=a - b + rng.normal(size=N), classes=None, a=a, b=b) == []


def test_two_categories_together(rng, y):
    key = rng.integers(0, 2, N)
    a, b = np.array(["u", "v"])[key], np.array(["p", "q"])[key ^ y]
    assert found(y=y, a=a, b=b) == ["a and b"] and found(y=rng.permutation(y), a=a, b=b) == []


def test_what_one_column_tells_is_not_said_again(rng, y):
    """Iris-like: both columns are strong by themselves; that is `leaks`' affair."""
    assert found(y=y, a=3.0 * y + rng.normal(size=N), b=-3.0 * y + rng.normal(size=N)) == []


@pytest.mark.parametrize("words, mark", [(["tea", "road", "sun", "book", "ice"], "confirmed"), (list("天地玄黄宇宙洪荒"), "确诊")])
def test_a_word_of_a_text(rng, y, words, mark):
    join = "".join if len(mark) == 2 else " ".join
    text = [join([*rng.choice(words, 9), *([mark] if v else [words[0]]), *rng.choice(words, 3)]) for v in y]
    assert found(y=y, note=text) == ["note"] and found(y=rng.permutation(y), note=text) == []


def test_words_that_help_are_no_leak(rng, y):
    words = ["tea", "road", "sun", "book", "ice"]
    said = [" ".join([*rng.choice(words, 9), rng.choice(["good", "fine"] if v else ["bad", "poor"]), *rng.choice(words, 3)]) for v in y]
    assert found(y=y, note=said) == []


def test_the_shape_of_an_identifier(rng, y):
    number = rng.permutation(90_000)[:N] + 10_000
    assert found(y=y, id=[f"{'KX'[v]}{n}" for v, n in zip(y, number, strict=True)]) == ["id"]
    assert found(y=y, id=number * 10 + 5 * y + rng.integers(0, 5, N)) == ["id"]
    assert found(y=y, id=number) == [] and found(y=y, id=[f"K{n}" for n in number]) == []


def test_texts_that_are_written_only_afterwards(rng, y):
    letter = ["dear " + str(rng.integers(10**9)) if v else " " for v in y]
    assert "letter" in found(y=y, letter=letter) and found(y=rng.permutation(y), letter=letter) == []


@pytest.mark.parametrize("how", ["digit", "decimals", "stop", "blank", "double"])
def test_how_a_cell_is_written(rng, y, how):
    price, notes = np.round(rng.lognormal(4, 0.6, N), 3), [" ".join(rng.choice(list("abcdefgh"), 30)) for _ in range(N)]
    write = {"digit": lambda t: np.round(np.round(price, 1) + np.where(t, 0.09, 0.05), 2), "decimals": lambda t: np.where(t, np.round(price, 1), price)}
    ends = {"stop": ".", "blank": " "}
    text = lambda t: np.array([v.replace(" ", "  ", int(k)) if how == "double" else v + ends[how] * int(k) for v, k in zip(notes, t)])  # noqa: E731
    made = write.get(how, text)
    assert found(y=y, x=made(y)) == ["x"] and found(y=y, x=made(rng.integers(0, 2, N))) == []


def test_a_remainder_of_a_number(rng, y):
    record = 7 * rng.permutation(50 * N)[:N] + np.where(y, rng.integers(0, 3, N), rng.integers(3, 7, N))
    assert found(y=y, record=record) == ["record"]
    assert found(y=rng.permutation(y), record=record) == []


@pytest.mark.parametrize("how", ["sum", "product", "number"])
def test_three_numbers_together(rng, how):
    a, b, c = np.exp(rng.normal(size=(3, N)) / 2) if how == "product" else rng.normal(size=(3, N))
    told = np.log(a / b * c) if how == "product" else a - b + c
    y, classes = (told, None) if how == "number" else ((told > 0).astype(int), 2)
    rest = {f"other{i}": rng.normal(size=N) for i in range(6)}
    said = found(y=y, classes=classes, a=a, b=b, c=c, **rest)
    assert len(said) == 1 and sorted(said[0].replace(" ", "").replace("/", "x").replace("-", "+").replace("x", "+").split("+")) == ["a", "b", "c"]
    assert found(y=rng.permutation(y), classes=classes, a=a, b=b, c=c, **rest) == []
    blurred = told + told.std() * rng.normal(size=N) / 2
    assert found(y=blurred if how == "number" else (blurred > 0).astype(int), classes=classes, a=a, b=b, c=c, **rest) == []


def test_which_of_two_cells_is_empty(rng, y):
    first = rng.random(N) < 0.4
    a, b = (np.where(gap, np.nan, rng.normal(size=N)) for gap in (first, first ^ (y == 1)))
    assert found(y=y, a=a, b=b) == ["a and b"] and found(y=rng.permutation(y), a=a, b=b) == []
