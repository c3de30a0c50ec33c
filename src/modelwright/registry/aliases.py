"""Where an alias points: read from the moves in the audit trail, which are only ever added. A pure function of them and of the day.

A promotion puts a version on top of those that the alias pointed to before (or replaces it, where it is the same version); a rollback takes versions
off until the one it names is on top. A version that got there by an override counts until the override's last day has passed (UTC); then the alias
falls back to the one below, and says so. Where none is left it points nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from .trail import Event

MOVES = ("promote", "override", "rollback")


def of(history: Iterable[Event], alias: str) -> list[Event]:
    """The `stack` of one alias, from the trail of its name."""
    return stack(e for e in history if e.alias == alias and e.what in MOVES)


def stack(moves: Iterable[Event]) -> list[Event]:
    """The moves that a rollback could go back to, the newest last. moves: of one alias, in order."""
    out: list[Event] = []
    for move in moves:
        if move.what == "rollback":
            while out and out[-1].id != move.back:
                out.pop()
        elif out and out[-1].version == move.version:
            out[-1] = move
        else:
            out.append(move)
    return out


def current(moves: list[Event], today: str) -> Event | None:
    """The newest that has not lapsed. moves: a `stack`."""
    return next((m for m in reversed(moves) if not m.lapsed(today)), None)


def before(moves: list[Event], today: str) -> Event | None:
    """What a rollback goes back to: the newest below the top that has not lapsed."""
    return current(moves[:-1], today)
