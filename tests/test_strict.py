"""What a run writes of its task is read back as it was, whatever words it holds."""

import re

import pytest
import yaml

from modelwright import strict
from modelwright.errors import Refusal

WORDS = [
    "1e5", "010", "1_000", "0x1F", "12:30", "no", "yes", "null", "~", "2020-01-01", "1.5", "-3", "+7", "true", "", ".inf", ".nan", "1.", "0b1", "=", "<<",
    "a: b", "- x", "#x", "*a", "&b", "!c", "%d", "@e", "`f", "'q", '"r', "two\nlines", "\ttab", " lead", "上海", "é",
]  # fmt: skip


def test_whatever_is_written_is_read_back():
    twice = [1, 2]
    tree = {"labels": WORDS, "numbers": [1, -2, 0.5, 1e-7, 1e22, True, False, None], "a": twice, "b": twice, **{w: 1 for w in WORDS if w}}
    assert yaml.load(strict.dump(tree), strict.Loader) == tree  # noqa: S506


@pytest.mark.parametrize("text", ["a: !!bool x", "a: &x 1\nb: *x", "a: 1\na: 2", "{1: a, '1': b}", "<<: {a: 1}"])
def test_tags_aliases_and_keys_that_stand_twice_are_refused(text):
    with pytest.raises(yaml.YAMLError):
        yaml.load(text, strict.Loader)  # noqa: S506


@pytest.mark.parametrize(
    "text, says",
    [("a: 1\nb: x\0y\n", "line 2: the character U+0000 is not allowed"), ("a: " + "[" * 5_000, "too deeply nested"), ("<<: {a: 1}", "merge keys")],
    ids=["NUL", "deep", "merge"],
)
def test_what_is_wrong_is_said_in_words_and_where_it_stands(tmp_path, text, says):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(Refusal, match=re.escape(says)):
        strict.read(tmp_path / "t.yaml", "task")
