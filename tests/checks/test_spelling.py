"""Typing errors are those of a slow definition (one edit); names that are only alike are let be, in both scripts."""

import itertools
import string

import numpy as np
import pyarrow as pa
import pytest

from modelwright.checks.spelling import bare, misspelt, slip, sounds_alike


def test_a_slip_is_one_edit_and_nothing_else():
    """Against all strings that one change, omission, addition or exchange makes of a word (Damerau 1964), its first letter staying."""
    word, letters = "manager", string.ascii_lowercase
    parts = [(word[:i], word[i:]) for i in range(1, len(word) + 1)]
    edits = {a + c + b[1:] for a, b in parts if b for c in letters} | {a + c + b for a, b in parts for c in letters} | {a + b[1:] for a, b in parts}
    edits |= {a + b[1] + b[0] + b[2:] for a, b in parts if len(b) > 1}
    assert all(slip(word, e) for e in edits - {word})
    far = {a + c + b[1:] for e in list(edits)[::9] for a, b in [(e[:3], e[3:])] for c in "qz"} - edits - {word}
    assert not any(slip(word, e) for e in far)


@pytest.mark.parametrize(
    "name, other",
    [("class1", "class2"), ("iran", "iraq"), ("stage ii", "stage iii"), ("grade a", "grade b"), ("gambia", "zambia"), ("symptomatic", "asymptomatic"),
     ("男性", "女性"), ("心内科", "心外科"), ("已婚", "再婚"), ("第一医院", "第二医院"), ("内科", "心内科"), ("本科", "专科"), ("cash", "card")],
)  # fmt: skip
def test_names_that_are_only_alike(name, other):
    assert not slip(name, other) and not slip(other, name)
    assert misspelt(pa.chunked_array([[name] * 300 + [other] * 3])) == {}


@pytest.mark.parametrize(
    "name, other",
    [("Manager", "Maneger"), ("Manager", "Mnaager"), ("Manager", "Managers"), ("Clerical", "clerical "), ("sales rep", "sales-rep"), ("Male", "Ｍale"),
     ("广州", "广洲"), ("心内科", "心内课"), ("上海市", "上市海"), ("北京", "北京市"), ("呼吸内科", "呼吸 内科"),
     ("Köln-Süd", "KÃ¶ln-SÃ¼d"), ("呼吸内科", "呼吸内内科")],
)  # fmt: skip
def test_names_typed_wrongly(name, other):
    rng = np.random.default_rng(0)
    cells = rng.permutation([name] * 200 + ["farming"] * 100 + ["深圳"] * 100 + [other] * 3)
    assert misspelt(pa.chunked_array([cells.tolist()])) == {other: name}


def test_signs_that_matter_stay_apart():
    for a, b in itertools.combinations(["A+", "A-", "A", "<=50K", ">50K", "C++", "C#", "1.5", "15", "O+", "O-"], 2):
        assert bare(a) != bare(b), (a, b)
    assert sounds_alike("州", "洲") and sounds_alike("是", "市") and not sounds_alike("南", "北") and not sounds_alike("廣", "广")


def test_free_text_and_identifiers_are_no_names():
    rng = np.random.default_rng(1)
    assert misspelt(pa.chunked_array([["".join(rng.choice(list("abcdef"), 6)) for _ in range(400)]])) == {}
    assert misspelt(pa.chunked_array([rng.integers(0, 9, 400)])) == {}


def test_letters_that_only_look_alike():
    names = ["Carmel"] * 60 + ["Exeter"] * 60 + ["C\u0430rmel"] * 2 + ["Москва"] * 3
    assert misspelt(pa.chunked_array([names])) == {"C\u0430rmel": "Carmel"}
