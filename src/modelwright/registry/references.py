"""What a reference names: NAME (its newest version), NAME@3, NAME@ALIAS, NAME@sha256:... Nothing here looks at the bytes.

A name is letters of any script, digits, dots, dashes and underscores, a letter or digit first: never a path.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import did_you_mean, refuse
from . import aliases
from .trail import Event
from .versions import Version

NAME = re.compile(r"[^\W_][\w.-]{0,99}")
INVISIBLE = "\u115f\u1160\u3164\uffa0"  # letters, says Unicode, and nothing is seen of them
ALIKE = str.maketrans("аеорсухіјѕһԁԛԝвкмнтαοινβεζηκμρτυχօսոցհɑɡıℓ", "aeopcyxijshdqwbkmhtaoivbezhkmptuxounghagil")  # Cyrillic, Greek and others, as Latin
LEAST = len("sha256:") + 8  # of a digest


def named(text: str, what: str = "name", where: str = "") -> str:
    """text, where it can be a name or (what="alias") an alias."""
    if not NAME.fullmatch(text) or set(text) & {*INVISIBLE} or (what == "alias" and (text.isdigit() or text == "sha256")):
        fix = "letters, digits, dots, dashes and underscores, a letter or digit first" + (", and not only digits" if what == "alias" else "")
        shown = text if len(text) <= 100 else f"{text[:100]}..."
        raise refuse(f"registry.{what}", f"{shown!r} cannot be {'an alias' if what == 'alias' else 'a name'}", where=where or what, fix=fix)
    return text


def distinct(text: str, known: Iterable[str], what: str = "name") -> None:
    """Refuse a new name that looks like one that is there: another script's letters, other widths, capitals or accents."""
    alike = next((k for k in known if k != text and _looks(k) == _looks(text)), None)
    if alike is not None and text not in known:
        shown = " ".join(f"U+{ord(c):04X}" for c in text if c not in alike)
        raise refuse(f"registry.{what}", f"{text!r} looks like {alike!r}, which exists, and is another ({shown})", where=what, fix="another, or that one")


def _looks(text: str) -> str:
    """As it looks: in small letters of one width, without accents (of Latin, Greek and Cyrillic)."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in plain if not "\u0300" <= c <= "\u036f").translate(ALIKE)


def is_reference(text: str) -> bool:
    """name@alias, name@3, name@sha256:... and no file."""
    name, at, _ = text.partition("@")
    return bool(at) and bool(NAME.fullmatch(name)) and not Path(text).exists()


def find(
    reference: str, versions: Callable[[str], list[Version]], names: Callable[[], Iterable[str]], history: Callable[[str], list[Event]], today: str
) -> Version:
    """versions, history: of a name, in order."""
    name, sign, at = reference.partition("@")
    here = versions(named(name))
    if not here:
        raise refuse("registry.unknown_name", f"no model is called {name!r}", where=reference, fix=did_you_mean(name, names()) or "the registry is empty")
    if not sign:
        return here[-1]
    if not at:  # `m@$ALIAS` without an ALIAS must not be the newest version
        raise refuse("registry.alias", f"{reference!r} names no alias or version", where=reference, fix=f"{name}, {name}@{here[-1].version} or {name}@ALIAS")
    if at.startswith("sha256:"):
        found = [v for v in here if len(at) >= LEAST and (v.digest.startswith(at) or v.model.startswith(at))]
        if len({v.model for v in found}) > 1:
            raise refuse("registry.ambiguous", f"{len(found)} versions begin with {at}", where=reference, fix="write more of the digest")
    elif at.isdecimal():
        found = [v for v in here if v.version == int(at)]
    else:
        return pointed(here, reference, at, history(name), today)
    if not found:
        fix = f"there are: {', '.join(str(v.version) for v in here[-12:])}"
        raise refuse("registry.unknown_version", f"{name} has no version {at[:100]}", where=reference, fix=fix)
    return found[-1]


def pointed(here: list[Version], reference: str, alias: str, history: list[Event], today: str) -> Version:
    """What an alias points to on a day, with a note where that rests on an override. here, history: of the name."""
    name, moves = here[0].name, aliases.of(history, alias)
    if not moves:
        known = sorted({e.alias for e in history if e.alias and e.what in aliases.MOVES})
        fix = did_you_mean(alias, known) or f"modelwright promote {name} --alias {alias}"
        raise refuse("registry.unknown_alias", f"{name} has no alias {alias!r}", where=reference, fix=fix)
    today = max(today, *(e.at[:10] for e in history))  # a clock that was set back revives no override
    move, newest = aliases.current(moves, today), moves[-1]
    if move is None:
        what = f"the override of {newest.who} lapsed after {newest.until}, and no version before it passed"
        raise refuse("registry.lapsed", what, where=reference, fix="audit and promote a version, or override again")
    note = f"on an override by {move.who} until {move.until}: {move.why}" if move.until else ""
    if move is not newest:
        lapsed = f"the override of {newest.who} for version {newest.version} lapsed after {newest.until}: version {move.version} serves again"
        note = f"{lapsed}, {note}" if note else lapsed
    (found,) = [v for v in here if v.version == move.version]
    return replace(found, note=note)
