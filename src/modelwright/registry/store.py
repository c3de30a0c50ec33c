"""The registry: versions of models, where aliases point, who did what and why, and how often each test split was opened.

Three things, kept apart: a database with what is known (`database.py`), folders with the bytes (`objects.py`), and the keys that sign them
(`signing.py`). A version is a number of a name, bound to a digest for ever. What happened is a line of an append-only trail (`trail.py`); aliases
are read from it (`aliases.py`), never stored. An opening of a test split is a row too, with the limits declared at the time, so that limits edited
afterwards are found. `record` keeps what an audit measured: only that can be promoted on (`promotion.py`), never what a file says. A registry that
cannot be read stops the run: a lost count of openings would make an over-used split look fresh.

Time and user are arguments; what is left out is read at the front door (`home`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import did_you_mean, refuse
from ..home import home, now, registry_url
from . import aliases, objects, trail
from .database import Postgres, Session, Sqlite, T
from .trail import Event

if TYPE_CHECKING:  # these bring torch, and `registry list` should answer at once
    from .gate import Limit, Policy
    from .objects import Finding
    from .promotion import Promotion

OPENINGS = """
CREATE TABLE IF NOT EXISTS test_opening (
    opening  {id},
    digest   TEXT NOT NULL,  -- of the split's rows
    who      TEXT NOT NULL,  -- the run or audit that looked
    at       TEXT NOT NULL DEFAULT {now}
);
CREATE INDEX IF NOT EXISTS test_opening_of ON test_opening (digest)
"""
VERSIONS = """
ALTER TABLE test_opening ADD COLUMN policy TEXT;
ALTER TABLE test_opening ADD COLUMN targets TEXT;
CREATE TABLE policy (digest TEXT PRIMARY KEY, limits TEXT NOT NULL);
CREATE TABLE evidence (digest TEXT PRIMARY KEY, model TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE version (
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL,
    digest   TEXT NOT NULL,  -- of the object
    model    TEXT NOT NULL,  -- of its model/ folder, as in evidence.json
    lineage  TEXT NOT NULL,  -- data, code, parents, statements
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
);
CREATE TABLE event (
    id       BIGINT PRIMARY KEY,
    at       TEXT NOT NULL,
    who      TEXT NOT NULL,
    what     TEXT NOT NULL,
    name     TEXT NOT NULL,
    version  INTEGER,
    digest   TEXT,
    alias    TEXT,
    until    TEXT,
    back     BIGINT,
    why      TEXT NOT NULL,
    details  TEXT NOT NULL,
    chain    TEXT NOT NULL  -- sha256 over the line before's and this line
);
{append_only:version};
{append_only:evidence};
{append_only:event}
"""
FORMATS = (OPENINGS, VERSIONS)  # the n-th leads to format n; tables and columns are only ever added
FORMAT = len(FORMATS)
NAME = re.compile(r"[^\W_][\w.-]{0,99}")


@dataclass(frozen=True)
class Version:
    name: str
    version: int
    digest: str
    model: str
    lineage: dict[str, Any]
    folder: Path
    note: str = ""  # what whoever asked should know: an override, or that one has lapsed

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


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
        """work, under the database's lock, all of it or nothing."""
        return (Sqlite(self.path, FORMATS) if self.url is None else Postgres(self.url, FORMATS)).do(work)

    # Openings of test splits, and what was measured

    def open_test(self, digest: str, who: str, limits: Policy | None = None, targets: Iterable[str] = ()) -> int:
        """Record that `who` looks at the test split of these rows, under these limits; how often it was opened, this time included."""
        def work(db: Session) -> int:
            if limits is not None:
                from . import policy

                text = json.dumps(policy.as_json(limits), ensure_ascii=False)
                db("INSERT INTO policy (digest, limits) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING", limits.digest, text)
            row = (digest, who, limits.digest if limits is not None else None, json.dumps(sorted(targets), ensure_ascii=False))
            db("INSERT INTO test_opening (digest, who, policy, targets) VALUES (?, ?, ?, ?)", *row)
            return db("SELECT count(*) FROM test_opening WHERE digest = ?", digest)[0][0]

        return self.transaction(work)

    def openings(self, digest: str) -> list[dict[str, str]]:
        """Who opened the test split of these rows, and when, in order."""
        rows = self.transaction(lambda db: db("SELECT who, at FROM test_opening WHERE digest = ? ORDER BY opening", digest))
        return [{"who": who, "at": at} for who, at in rows]

    def first_limits(self, digest: str, targets: Iterable[str]) -> list[Limit]:
        """The limits under which these rows were first opened with limits, for the same targets."""
        from . import policy

        sql = (
            "SELECT p.limits FROM test_opening o JOIN policy p ON p.digest = o.policy "
            "WHERE o.digest = ? AND o.targets = ? AND p.limits <> '[]' ORDER BY o.opening LIMIT 1"
        )
        rows = self.transaction(lambda db: db(sql, digest, json.dumps(sorted(targets), ensure_ascii=False)))
        return policy.from_json(json.loads(rows[0][0])) if rows else []

    def edited_limits(self, digest: str, targets: Iterable[str], limits: Policy) -> list[str]:
        """In words, where these limits are looser than when the rows were first opened."""
        from . import policy

        texts = policy.loosened(self.first_limits(digest, targets), limits)
        return [f"limits were edited after the test split was opened: {t}; to promote, this needs an override" for t in texts]

    def limits_of(self, digest: str) -> list[Limit] | None:
        """The limits of a policy that a test split was opened under."""
        from . import policy

        rows = self.transaction(lambda db: db("SELECT limits FROM policy WHERE digest = ?", digest))
        return policy.from_json(json.loads(rows[0][0])) if rows else None

    def record(self, evidence: Mapping[str, Any]) -> str:
        """Keep what a run or an audit measured, as it is; its digest, which evidence.json's bytes have too."""
        from ..evidence import dumps

        body = dumps(evidence)
        digest = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
        sql = "INSERT INTO evidence (digest, model, body) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING"
        self.transaction(lambda db: db(sql, digest, evidence["model"], body))
        return digest

    def recorded(self, digest: str) -> dict[str, Any] | None:
        """What was measured, by the digest of its text."""
        rows = self.transaction(lambda db: db("SELECT body FROM evidence WHERE digest = ?", digest))
        return json.loads(rows[0][0]) if rows else None

    # Versions

    def register(self, folder: str | Path, name: str, *, key: Path | None = None, who: str | None = None, at: str | None = None) -> Version:
        """Copy a run's folder into the store, signed, as the next version of a name. The same content again is the version that it already is."""
        from . import signing

        _named(name, "name")
        source, half = Path(folder), self.objects / f".half-{hashlib.sha256(f'{folder}{name}'.encode()).hexdigest()[:8]}-{_unique()}"
        try:
            files = objects.stage(source, half)
            digest, model = objects.digest_of(files), objects.model_digest(files)
            lineage = self._lineage(half)
            secret = signing.key_at(key or self.keys / signing.DEFAULT)
            signing.trust(self.keys, signing.public(secret))
            (half / objects.MANIFEST).write_text(signing.manifest(files, secret), "utf-8")
            objects.seal(half)

            def work(db: Session) -> int:
                self._place(half, digest)
                known = db("SELECT version FROM version WHERE name = ? AND digest = ?", name, digest)
                if known:
                    return known[0][0]
                number = db("SELECT coalesce(max(version), 0) + 1 FROM version WHERE name = ?", name)[0][0]
                row = (name, number, digest, model, json.dumps(lineage, ensure_ascii=False, sort_keys=True))
                db("INSERT INTO version (name, version, digest, model, lineage) VALUES (?, ?, ?, ?, ?)", *row)
                details = {"model": model, "key": signing.public(secret)}
                trail.add(db, "register", who=who, at=at, name=name, version=number, digest=digest, details=details)
                return number

            number = self.transaction(work)
        finally:
            objects.remove(half)
        return Version(name, number, digest, model, lineage, self.folder(digest))

    def _place(self, half: Path, digest: str) -> None:
        """Into its place by rename; bytes that are there already are kept if they are whole, and set aside if not."""
        from . import signing

        place = self.folder(digest)
        if place.exists():
            if not signing.verify(place, digest, signing.trusted(self.keys)):
                return
            bad = place.with_name(f".bad-{place.name}-{_unique()}")
            place.chmod(0o755)
            place.rename(bad)
        half.chmod(0o755)
        half.rename(place)
        place.chmod(0o555)

    def _lineage(self, folder: Path) -> dict[str, Any]:
        """data, code, parents and what stages state of themselves (privacy), from lineage.json; empty where there is none."""
        path = folder / "lineage.json"
        if not path.exists():
            return {"parents": []}
        try:
            said = json.loads(path.read_bytes())
            statements = [s["statement"] for s in said.get("stages", []) if s.get("statement")]
            parents = [p if isinstance(p, str) else json.dumps(p, sort_keys=True) for p in said.get("parents", [])]
            return {"data": said.get("data", {}), "code": said.get("code"), "parents": parents, "statements": statements}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise refuse("registry.lineage", f"lineage.json cannot be read: {e}", where=str(path), fix="take the file that the run wrote") from e

    def folder(self, digest: str) -> Path:
        return self.objects / digest.removeprefix("sha256:")

    def names(self) -> list[str]:
        return [n for (n,) in self.transaction(lambda db: db("SELECT DISTINCT name FROM version ORDER BY name"))]

    def versions(self, name: str | None = None) -> list[Version]:
        """In order; of all names without one."""
        return self.transaction(lambda db: self.versions_in(db, name))

    def versions_in(self, db: Session, name: str | None = None) -> list[Version]:
        """The same, inside a transaction."""
        sql = "SELECT name, version, digest, model, lineage FROM version" + (" WHERE name = ?" if name else "") + " ORDER BY name, version"
        rows = db(sql, *([name] if name else []))
        return [Version(n, v, d, m, json.loads(text), self.folder(d)) for n, v, d, m, text in rows]

    # References

    def find(self, reference: str, today: str | None = None) -> Version:
        """NAME (its newest version), NAME@3, NAME@ALIAS or NAME@sha256:...; does not look at the bytes."""
        name, _, at = reference.partition("@")
        here = self.versions(_named(name, "name"))
        if not here:
            raise refuse("registry.unknown_name", f"no model is called {name!r}", where=reference, fix=did_you_mean(name, self.names()))
        if not at:
            return here[-1]
        if at.startswith("sha256:"):
            found = [v for v in here if len(at) >= 15 and (v.digest.startswith(at) or v.model.startswith(at))]
            if len({v.model for v in found}) > 1:
                raise refuse("registry.ambiguous", f"{len(found)} versions begin with {at}", where=reference, fix="write more of the digest")
        elif at.isdigit():
            found = [v for v in here if v.version == int(at)]
        else:
            return self._pointed(here, reference, name, at, today)
        if not found:
            fix = f"there are: {', '.join(str(v.version) for v in here[-12:])}"
            raise refuse("registry.unknown_version", f"{name} has no version {at}", where=reference, fix=fix)
        return found[-1]

    def _pointed(self, here: list[Version], reference: str, name: str, alias: str, today: str | None) -> Version:
        moves, today = self.moves(name, alias), today or now()[:10]
        if not moves:
            known = sorted({e.alias for e in self.history(name) if e.alias and e.what in aliases.MOVES})
            fix = did_you_mean(alias, known) or f"modelwright promote {name} --alias {alias}"
            raise refuse("registry.unknown_alias", f"{name} has no alias {alias!r}", where=reference, fix=fix)
        move, newest = aliases.current(moves, today), moves[-1]
        if move is None:
            what = f"the override of {newest.who} lapsed after {newest.until}, and no version before it passed"
            raise refuse("registry.lapsed", what, where=reference, fix="audit and promote a version, or override again")
        note = f"on an override by {move.who} until {move.until}: {move.why}" if move.until else ""
        if move is not newest:
            lapsed = f"the override of {newest.who} for version {newest.version} lapsed after {newest.until}: version {move.version} serves again"
            note = f"{lapsed}, {note}" if note else lapsed
        (found,) = [v for v in here if v.version == move.version]
        return Version(found.name, found.version, found.digest, found.model, found.lineage, found.folder, note)

    def resolve(self, reference: str, today: str | None = None) -> Version:
        """As `find`, and its bytes are there and are what was registered: every file is read."""
        found = self.find(reference, today)
        if not found.folder.is_dir():
            why = "garbage collection removed its bytes" if any(e.what == "collect" and e.digest == found.digest for e in self.history()) else ""
            fix = "register the run's folder again, or copy the object from where it is kept"
            raise refuse("registry.no_bytes", f"the files of {found.reference} are not here", why=why, where=str(found.folder), fix=fix)
        files, odd = objects.listing(found.folder)
        if odd or objects.digest_of(files) != found.digest:
            what, fix = f"the files of {found.reference} are not those that were registered", f"modelwright registry verify {found.name} names them"
            raise refuse("registry.tampered", what, why="something wrote into the store", where=str(found.folder), fix=fix)
        return found

    # The trail

    def history(self, name: str | None = None) -> list[Event]:
        """The audit trail, in order; of one name, or all of it."""
        return self.transaction(lambda db: trail.read(db, name))

    def moves(self, name: str, alias: str) -> list[Event]:
        """What an alias can still go back to, the newest last."""
        return aliases.stack(e for e in self.history(name) if e.alias == alias and e.what in aliases.MOVES)

    def log(self, what: str, needs: Path | None = None, **facts: Any) -> None:
        """Add a line to the trail; refused if an object that it needs was collected meanwhile."""

        def work(db: Session) -> None:
            if needs is not None and not needs.is_dir():
                raise refuse("registry.no_bytes", "garbage collection removed the files meanwhile", where=str(needs), fix="register the run again")
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
            moves = aliases.stack(e for e in trail.read(db, name) if e.alias == alias and e.what in aliases.MOVES)
            to = aliases.before(moves, at[:10])
            if to is None:
                what = f"{name}@{alias} pointed to nothing before" if moves else f"{name} has no alias {alias!r}"
                raise refuse("registry.no_rollback", what, where=f"{name}@{alias}", fix=f"modelwright registry history {name}")
            fact = {"version": to.version, "digest": to.digest, "alias": alias, "back": to.id, "details": {"from": moves[-1].version}}
            trail.add(db, "rollback", who=who, at=at, name=name, why=why, **fact)
            return to

        return self.find(f"{name}@{self.transaction(work).version}")


def _named(text: str, what: str) -> str:
    if not NAME.fullmatch(text) or (what == "alias" and (text.isdigit() or text == "sha256")):
        fix = "letters, digits, dots, dashes and underscores, a letter or digit first" + (", not only digits" if what == "alias" else "")
        raise refuse(f"registry.{what}", f"{text!r} cannot be {'an alias' if what == 'alias' else 'a name'}", where=what, fix=fix)
    return text


def is_reference(text: str) -> bool:
    """name@alias, name@3, name@sha256:... and no file."""
    name, at, _ = text.partition("@")
    return bool(at) and bool(NAME.fullmatch(name)) and not Path(text).exists()


def _unique() -> str:
    return f"{os.getpid()}-{os.urandom(4).hex()}"
