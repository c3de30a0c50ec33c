"""What the registry knows and where it lies: the database with its records, the folders with the bytes, and how a reference finds a version.

Everything that acts on versions (`judge.py`, `promotion.py`, `registering.py`, `collect.py`, `export.py`) builds on this, and `store.py` on all of
them. A registry that cannot be read stops the run: a lost count of openings would make an over-used split look fresh.

Time and user are arguments; what is left out is read at the front door (`home`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import refuse
from ..home import home, now, registry_url
from . import aliases, objects, records, references, trail, versions, whole
from .database import Database, Postgres, Session, Sqlite, T
from .formats import FORMATS
from .looked import Rows
from .objects import Finding
from .records import Audited
from .trail import Event
from .versions import Version

if TYPE_CHECKING:  # it brings torch, and `registry list` should answer at once
    from .gate import Limit, Policy


class Base:
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
        database = self._database()
        found, last = database.do(lambda db: (work(db), trail.last(db)))
        whole.remember(self.keys, database.where, last)
        return found

    def _database(self) -> Database:
        return Sqlite(self.path.absolute(), FORMATS) if self.url is None else Postgres(self.url, FORMATS)

    def ready(self) -> None:
        """Raises what a later write would: before hours of training, not after."""
        self.transaction(lambda db: db("DELETE FROM version WHERE 1 = 0"))

    # Openings of test splits, and what was measured

    def open_test(
        self, digest: str, who: str, limits: Policy | None = None, targets: Iterable[str] = (), model: str | None = None, rows: Iterable[Rows] = ()
    ) -> int:
        """Record that `who` looks at the test split of these rows, with these bytes, under these limits; how often it was opened, this time included.
        rows: what is kept to know most of them again (`looked.py`)."""
        return self.transaction(lambda db: records.open_test(db, digest, who, limits, targets, model, rows))

    def judged(self, digest: str, rows: Iterable[Rows] = ()) -> list[str]:
        """The models that were measured on the test split of these rows, or most of them, in the order in which each was first."""
        if self.url is None and not self.path.exists():  # a plan asks, and writes nothing
            return []
        return self.transaction(lambda db: records.judged(db, digest, rows))

    def openings(self, digest: str) -> list[dict[str, str]]:
        """Who opened the test split of these rows, or most of them, and when, in order."""
        return self.transaction(lambda db: records.openings(db, digest))

    def first_limits(self, digest: str, targets: Iterable[str], rows: Iterable[Rows] = ()) -> list[Limit]:
        """The limits under which these rows, or most of them, were first opened with limits, for the same targets."""
        from . import policy

        found = self.transaction(lambda db: records.first_limits(db, digest, targets, rows))
        return policy.unchanged(*found) if found else []

    def edited_limits(self, digest: str, targets: Iterable[str], limits: Policy, rows: Iterable[Rows] = ()) -> list[str]:
        """In words, where these limits are looser than when the rows were first opened."""
        from . import policy

        texts = policy.loosened(self.first_limits(digest, targets, rows), limits)
        return [f"limits were edited after the test split was opened: {t}; to promote, this needs an override" for t in texts]

    def limits_of(self, digest: str) -> list[Limit] | None:
        """The limits of a policy that a test split was opened under."""
        from . import policy

        found = self.transaction(lambda db: records.limits_of(db, digest))
        return None if found is None else policy.unchanged(digest, found)

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

    def folder(self, digest: str) -> Path:
        return versions.place(self.objects, digest)

    def names(self) -> list[str]:
        return [n for (n,) in self.transaction(lambda db: db("SELECT DISTINCT name FROM version ORDER BY name"))]

    def versions(self, name: str | None = None) -> list[Version]:
        """In order; of all names without one."""
        return self.transaction(lambda db: versions.read(db, self.objects, name))

    def find(self, reference: str, today: str | None = None) -> Version:
        """NAME (its newest version), NAME@3, NAME@ALIAS or NAME@sha256:...; does not look at the bytes."""
        return references.find(reference, self.versions, self.names, self.believed, today or now()[:10])

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

    def believed(self, name: str) -> list[Event]:
        """The history of a name, refused where the trail is not the one that was written: an alias rests on it alone."""
        seen = whole.recall(self.keys, self._database().where)
        events, broken = self.transaction(lambda db: (trail.read(db, name), trail.broken(db) or (seen and not whole.holds(db, seen))))
        if broken:
            why, fix = "aliases are read from it", "modelwright registry verify says what; NAME@3 and NAME@sha256:... do not rest on it"
            raise refuse("registry.tampered", "the audit trail was changed, cut short, or is an older copy", why=why, where=name, fix=fix)
        return events

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

    def amiss(self, model: str | None = None) -> list[Finding]:
        """In what the database is not as it was written; see `whole.amiss`."""
        seen = whole.recall(self.keys, self._database().where)
        return self.transaction(lambda db: whole.amiss(db, seen, model))

    def broken_trail(self) -> int | None:
        """The id of the first line of the trail that was changed, or that follows one that was taken out."""
        return self.transaction(trail.broken)
