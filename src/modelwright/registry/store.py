"""The registry: versions of models, where aliases point, who did what and why, and how often each test split was opened.

Three things, kept apart: a database with what is known (`database.py`, `formats.py`), folders with the bytes (`objects.py`), and the keys that sign
them (`signing.py`). What is known: versions (`versions.py`), openings of test splits and measurements (`records.py`), and an append-only trail of what
happened (`trail.py`), from which aliases are read (`aliases.py`), never stored. `base.py` looks these up; here is what is done with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import refuse
from ..home import now
from . import aliases, references, trail
from .base import Base
from .database import Session
from .objects import Finding
from .trail import Event
from .versions import Version

if TYPE_CHECKING:  # it brings torch, and `registry list` should answer at once
    from .promotion import Promotion


class Registry(Base):
    def register(self, folder: str | Path, name: str, *, key: Path | None = None, who: str | None = None, at: str | None = None) -> Version:
        """Copy a run's folder into the store, signed, as the next version of a name. The same content again is the version that it already is."""
        from . import registering

        references.distinct(references.named(name), self.names())
        return registering.register(self, Path(folder), name, key=key, who=who, at=at)

    def verify(self, reference: str) -> list[Finding]:
        """What of a version is not as it was signed."""
        from . import signing

        found = self.find(reference)
        return signing.verify(found.folder, found.digest, signing.trusted(self.keys))

    def promote(
        self,
        reference: str,
        alias: str = "production",
        *,
        policy: str | None = None,
        override: dict[str, str] | None = None,
        who: str | None = None,
        why: str = "",
        at: str | None = None,
    ) -> Promotion:
        """See `promotion.promote`. policy: a ready policy or a file, whose limits count beside the task's."""
        from . import policy as policies
        from . import promotion

        extra = policies.read(policy, where="policy") if policy else None
        return promotion.promote(self, reference, alias, extra=extra, override=override, who=who, why=why, at=at)

    def rollback(self, name: str, alias: str = "production", *, who: str | None = None, why: str = "", at: str | None = None) -> Version:
        """The alias goes back to what it pointed to before, in one transaction."""
        at = at or now()
        self.find(name)
        self.believed(name)

        def work(db: Session) -> Event:
            history = trail.read(db, name)
            moves = aliases.of(history, alias)
            to = aliases.before(moves, max([at[:10], *(e.at[:10] for e in history)]))
            if to is None:
                what = f"{name}@{alias} pointed to nothing before" if moves else f"{name} has no alias {alias!r}"
                raise refuse("registry.no_rollback", what, where=f"{name}@{alias}", fix=f"modelwright registry history {name}")
            if not self.folder(to.digest).is_dir():
                what, fix = f"the files of {name}@{to.version} are not here", "register the run's folder again"
                raise refuse("registry.no_bytes", what, where=f"{name}@{alias}", fix=fix)
            fact = {"version": to.version, "digest": to.digest, "alias": alias, "back": to.id, "details": {"from": moves[-1].version}}
            trail.add(db, "rollback", who=who, at=at, name=name, why=why, **fact)
            return to

        return self.find(f"{name}@{self.transaction(work).version}")
