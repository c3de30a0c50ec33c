"""Checksums against published examples and a slow form; what is personal is found, and what only looks like it is not."""

import re

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks import personal


def rows(cells):
    return {what: np.flatnonzero(hits).tolist() for what, hits in personal.found(pa.chunked_array([cells])).items()}


def resident(seed):
    """A number by the standard's own table of weights."""
    g = np.random.default_rng(seed)
    body = f"{g.choice([110105, 310101, 440305, 510107])}{g.integers(1950, 2005)}{g.integers(1, 13):02}{g.integers(1, 29):02}{g.integers(1, 999):03}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    return body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights)) % 11]


def card(g):
    body = "4" + "".join(map(str, g.integers(0, 10, 14)))
    return next(body + str(k) for k in range(10) if personal.luhn(body + str(k)))


@pytest.mark.parametrize(
    "text, what",
    [
        ("write to Ann.Lee+x@mail.example.co.uk, please", "e-mail"),
        ("请联系 zhang.wei@例子.com 或 zhang.wei@example.com。", "e-mail"),
        ("call +44 20 7946 0958 now", "telephone"),
        ("(415) 555-2671", "telephone"),
        ("电话13812345678，谢谢", "telephone"),
        ("手机：+86 138-1234-5678", "telephone"),
        ("办公室 010-62781234", "telephone"),
        ("身份证11010519491231002X", "resident identity"),
        ("paid by visa 4111111111111111", "card"),
        ("4111 1111 1111 1111", "card"),
        ("3782 822463 10005", "card"),
        ("GB82 WEST 1234 5698 7654 32", "IBAN"),
        ("DE89370400440532013000 to us", "IBAN"),
        ("SSN 219-09-9999", "US social security"),
        ("from 93.184.216.34:443", "IP address"),
        ("2606:2800:0220:0001:0248:1893:25c8:1946", "IP address"),
    ],
)
def test_it_is_found_in_a_text(text, what):
    assert what in rows(["nothing", text, None])


@pytest.mark.parametrize(
    "text",
    [
        "order 20231105123456", "1700000000123", "2023-11-05 12:34:56", "12:34:56:78", "¥1,234.50", "+12.5 %", "icon@2x.png", "lodash@4.17.21", "v1.2.3.4",
        "4111 1111 1111 1112", "11010519491231002Y", "110105194913310021", "GB82 WEST 1234 5698 7654 33", "000-12-3456", "192.168.0.1", "300.1.1.1",
        "ISBN 978-3-16-148410-0", "std::vector", "00:1B:44:11:3A:B7", "1,234,567,890", "3.14159265358979", "A12345678901234567890",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_not(text):
    assert rows(["nothing", text, None]) == {}


def test_columns_of_order_numbers_timestamps_and_prices_are_clean():
    g = np.random.default_rng(0)
    for cells in (
        [str(v) for v in g.integers(10**15, 10**16, 3000)],  # one in forty begins and ends like a card
        [str(v) for v in g.integers(10**10, 10**11, 3000)],
        [str(15000000000 + i) for i in range(2000)],
        g.integers(10**15, 10**16, 3000).tolist(),
        [str(1_700_000_000_000 + int(v)) for v in g.integers(0, 10**9, 500)],
        [f"{v:.2f}" for v in g.uniform(0, 1e6, 500)],
        [f"order {v} of today" for v in g.integers(10**15, 10**16, 3000)],
        g.integers(0, 10**17, 1000).tolist(),
    ):
        assert rows(cells) == {}


def test_columns_that_hold_them_are_found_as_text_and_as_numbers():
    g = np.random.default_rng(1)
    phones = [f"1{g.choice(['38', '59', '77', '88', '36', '99'])}{g.integers(0, 10**8):08}" for _ in range(200)]
    cards, people = [card(g) for _ in range(100)], [resident(i) for i in range(100)]
    assert len(rows(phones)["telephone"]) == 200 and len(rows([int(p) for p in phones])["telephone"]) == 200
    assert len(rows(cards)["card"]) == 100 and len(rows([int(c) for c in cards])["card"]) == 100
    assert len(rows(people)["resident identity"]) == 100


def test_checksums_by_their_slow_forms():
    def luhn(text):
        total = 0
        for i, c in enumerate(reversed(text)):
            d = int(c) * (1 + i % 2)
            total += d // 10 + d % 10
        return total % 10 == 0

    g = np.random.default_rng(2)
    for v in g.integers(10**15, 10**16, 300):
        assert personal.luhn(str(v)) == luhn(str(v))
    assert all(personal.resident(re.match(".*", resident(i))) for i in range(200))
    assert sum(personal.resident(re.match(".*", resident(i)[:17] + str((int(resident(i)[17].replace("X", "0")) + 1) % 10))) for i in range(50)) <= 5
