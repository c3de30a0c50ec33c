"""The registry: versions of models, where aliases point, who did what and why, and how often each test split was opened.

Three things, kept apart: a database with what is known (`database.py`, `formats.py`), folders with the bytes (`objects.py`), and the keys that sign
them (`signing.py`). What is known: versions (`versions.py`), openings of test splits and measurements (`records.py`), and an append-only trail of what
happened (`trail.py`), from which aliases are read (`aliases.py`), never stored. A registry that cannot be read stops the run: a lost count of openings
would make an over-used split look fresh.

Time and user are arguments; what is left out is read at the front door (`home`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import refuse
from ..home import home, now, registry_url
from . import aliases, objects, records, references, trail, versions
from .database import Postgres, Session, Sqlite, T
from .formats import FORMATS
from .records import Audited
from .trail import Event
from .versions import Version

if TYPE_CHECKING:  # these bring torch, and `registry list` should answer at once
    from .gate import Limit, Policy
    from .objects import Finding
    from .promotion import Promotion


class Registry:
    def __init__(self, path: str | Path | None = None, *, url: str | None = None, objects: str | Path | None = None, keys: str | Path | None = None):
        """path: an SQLite file; url: a PostgreSQL database instead. Without either, what the home folder says. objects, keys: folders, by default
        beside the file, or in the home folder."""
        if path is None:
            path, url = home() / "registry.sqlite", url or registry_url()
        self.path = Path(path)
        self.objects = Path(objects or self.path.parent / "objects")
        self.keys = Path(keys or self.path.parent / "keys")
        self.url = url

    def transaction(self, work: Callable[[Session], T]) -> T:
        """work, under the database's lock, all of it or nothing. It must not import: others would wait for torch to be read."""
        return (Sqlite(self.path, FORMATS) if self.url is None else Postgres(self.url, FORMATS)).do(work)

    # Openings of test splits, and what was measured

    def open_test(self, digest: str, who: str, limits: Policy | None = None, targets: Iterable[str] = ()) -> int:
        """Record that `who` looks at the test split of these rows, under these limits; how often it was opened, this time included."""
        return self.transaction(lambda db: records.open_test(db, digest, who, limits, targets))

    def openings(self, digest: str) -> list[dict[str, str]]:
        """Who opened the test split of these rows, and when, in order."""
        return self.transaction(lambda db: records.openings(db, digest))

    def first_limits(self, digest: str, targets: Iterable[str]) -> list[Limit]:
        """The limits under which these rows were first opened with limits, for the same targets."""
        from . import policy

        return policy.from_json(self.transaction(lambda db: records.first_limits(db, digest, targets)))

    def edited_limits(self, digest: str, targets: Iterable[str], limits: Policy) -> list[str]:
        """In words, where these limits are looser than when the rows were first opened."""
        from . import policy

        texts = policy.loosened(self.first_limits(digest, targets), limits)
        return [f"limits were edited after the test split was opened: {t}; to promote, this needs an override" for t in texts]

    def limits_of(self, digest: str) -> list[Limit] | None:
        """The limits of a policy that a test split was opened under."""
        from . import policy

        found = self.transaction(lambda db: records.limits_of(db, digest))
        return None if found is None else policy.from_json(found)

    def record(self, evidence: Mapping[str, Any], source: str = "", *, who: str | None = None, at: str | None = None) -> str:
        """Keep what a run or an audit (its folder is called source) measured, as it is; its digest, which evidence.json's bytes have too."""
        from ..evidence import dumps

        body = dumps(evidence)
        return self.transaction(lambda db: records.record(db, evidence, body, source, who=who, at=at))

    def recorded(self, digest: str) -> dict[str, Any] | None:
        """What was measured, by the digest of its text."""
        return self.transaction(lambda db: records.recorded(db, digest))

    def audits(self, model: str) -> list[Audited]:
        """Everything that was measured of a model's bytes, oldest first."""
        return self.transaction(lambda db: records.audits(db, model))

    # Versions

    def register(self, folder: str | Path, name: str, *, key: Path | None = None, who: str | None = None, at: str | None = None) -> Version:
        """Copy a run's folder into the store, signed, as the next version of a name. The same content again is the version that it already is."""
        return versions.register(self, Path(folder), references.named(name), key=key, who=who, at=at)

    def folder(self, digest: str) -> Path:
        return versions.place(self.objects, digest)

    def names(self) -> list[str]:
        return [n for (n,) in self.transaction(lambda db: db("SELECT DISTINCT name FROM version ORDER BY name"))]

    def versions(self, name: str | None = None) -> list[Version]:
        """In order; of all names without one."""
        return self.transaction(lambda db: versions.read(db, self.objects, name))

    def find(self, reference: str, today: str | None = None) -> Version:
        """NAME (its newest version), NAME@3, NAME@ALIAS or NAME@sha256:...; does not look at the bytes."""
        return references.find(reference, self.versions, self.names, self.history, today or now()[:10])

    def resolve(self, reference: str, today: str | None = None) -> Version:
        """As `find`, and its bytes are there and are what was registered: every file is read."""
        found = self.find(reference, today)
        if not found.folder.is_dir():
            raise self.gone(found)
        try:
            files, odd = objects.listing(found.folder)
        except FileNotFoundError as e:  # collected while they were read
            raise self.gone(found) from e
        if odd or objects.digest_of(files) != found.digest:
            what, fix = f"the files of {found.reference} are not those that were registered", f"modelwright registry verify {found.name} names them"
            raise refuse("registry.tampered", what, why="something wrote into the store", where=str(found.folder), fix=fix)
        return found

    def gone(self, version: Version) -> Exception:
        """What to raise where a version's files are not here."""
        collected = any(e.what == "collect" and e.digest == version.digest for e in self.history())
        why = "garbage collection removed its bytes" if collected else ""
        fix = "register the run's folder again, or copy the object from where it is kept"
        return refuse("registry.no_bytes", f"the files of {version.reference} are not here", why=why, where=str(version.folder), fix=fix)

    # The trail

    def history(self, name: str | None = None) -> list[Event]:
        """The audit trail, in order; of one name, or all of it."""
        return self.transaction(lambda db: trail.read(db, name))

    def registered_at(self, version: Version) -> int:
        """The id of the line of the trail that says that it was registered."""
        return next((e.id for e in self.history(version.name) if e.what == "register" and e.digest == version.digest), 0)

    def moves(self, name: str, alias: str) -> list[Event]:
        """What an alias can still go back to, the newest last."""
        return aliases.of(self.history(name), alias)

    def log(self, what: str, needs: Path | None = None, heard: tuple[str, int] | None = None, **facts: Any) -> None:
        """Add a line to the trail; refused if an object that it needs was collected meanwhile, or a model's bytes were audited again after the line of
        the trail up to which was heard: (model, id)."""

        def work(db: Session) -> None:
            if needs is not None and not needs.is_dir():
                raise refuse("registry.no_bytes", "garbage collection removed the files meanwhile", where=str(needs), fix="register the run again")
            if heard is not None and any(a.id > heard[1] for a in records.audits(db, heard[0])):
                raise refuse("registry.changed", "these bytes were audited again meanwhile", where=str(needs), fix="promote again")
            trail.add(db, what, **facts)

        self.transaction(work)

    def broken_trail(self) -> int | None:
        """The id of the first line of the trail that was changed, or that follows one that was taken out."""
        return self.transaction(trail.broken)

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

        def work(db: Session) -> Event:
            moves = aliases.of(trail.read(db, name), alias)
            to = aliases.before(moves, at[:10])
            if to is None:
                what = f"{name}@{alias} pointed to nothing before" if moves else f"{name} has no alias {alias!r}"
                raise refuse("registry.no_rollback", what, where=f"{name}@{alias}", fix=f"modelwright registry history {name}")
            fact = {"version": to.version, "digest": to.digest, "alias": alias, "back": to.id, "details": {"from": moves[-1].version}}
            trail.add(db, "rollback", who=who, at=at, name=name, why=why, **fact)
            return to

        return self.find(f"{name}@{self.transaction(work).version}")
