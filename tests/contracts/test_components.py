"""What every component of every folder owes: one line that says what it is, and settings that are typed, have defaults and survive JSON."""

import json
from typing import Any

import pytest
from small_data import INPUTS, TARGETS, spec_of

from modelwright import find

ALL = [(folder, name) for folder in find.FOLDERS for name in find.names(folder)]
each = pytest.mark.parametrize("folder, name", ALL, ids=["-".join(c) for c in ALL])


def spec(folder, name):
    """The name alone, or with what it cannot do without."""
    if folder == "encoders":
        return spec_of(name, sorted(find.find("encoders", name).takes)[0])
    if folder == "kinds":
        return TARGETS.get(name) or next((s for s in INPUTS.values() if s and find.split(s)[0] == name), name)
    needs = [k for k, f in find.settings_model(find.find(folder, name)).model_fields.items() if f.is_required()]
    return {name: dict.fromkeys(needs, "folder")}


@each
def test_its_first_line_says_what_it_is(folder, name):
    line = find.summary(folder, name)
    assert 20 <= len(line) <= 150 and line[-1] in ".:;" and line[0].isupper()


@each
def test_its_settings_are_typed_and_survive_json(folder, name):
    fields = find.settings_model(find.find(folder, name)).model_fields
    untyped = [k for k, f in fields.items() if f.annotation is None or f.annotation is Any]
    assert not untyped
    made = find.make(folder, spec(folder, name))
    written = json.loads(json.dumps(made.spec))
    again = find.make(folder, written)
    assert json.loads(json.dumps(again.spec)) == written and type(again) is type(made)
    assert set(written[name]) == set(fields)


@each
def test_an_unknown_setting_is_refused_with_a_suggestion(folder, name):
    with pytest.raises(find.Refusal) as refused:
        find.make(folder, {name: {"no_such_setting": 1}})
    assert any(p.code == "task.unknown_key" and name in p.where for p in refused.value.problems)
