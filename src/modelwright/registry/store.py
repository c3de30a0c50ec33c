"""The registry's memory: one SQLite file under the home folder. So far it counts the openings of test splits; versions and lineage come beside them.

An opening is a row, never an update, so that nothing is lost when several processes open a split at once, and the audit trail says who and when.
Times are the database's own. Write-ahead logging where the file system allows it; every call opens, commits and closes, which survives forks and
kills. Nothing is repaired silently: a registry that cannot be read stops the run (which `--resume` continues) and says what to do, because a lost
count of openings would make an over-used test split look fresh.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import Problem, Refusal, Stopped

T = TypeVar("T")
FORMAT = 1  # PRAGMA user_version; tables are only ever added
PATIENCE = 30.0  # seconds to wait for another process
TABLES = """
CREATE TABLE IF NOT EXISTS test_opening (
    opening  INTEGER PRIMARY KEY,
    digest   TEXT NOT NULL,  -- of the split's rows
    who      TEXT NOT NULL,  -- the run or audit that looked
    at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE INDEX IF NOT EXISTS test_opening_of ON test_opening (digest);
"""


class Registry:
    def __init__(self, path: str | Path | None = None):
        """path: the database file; None is `registry.sqlite` in the home folder."""
        if path is None:
            from ..home import home

            path = home() / "registry.sqlite"
        self.path = Path(path)

    def open_test(self, digest: str, who: str) -> int:
        """Record that `who` looks at the test split of these rows; how often it was opened, this time included."""

        def work(db: sqlite3.Connection) -> int:
            db.execute("INSERT INTO test_opening (digest, who) VALUES (?, ?)", (digest, who))
            return db.execute("SELECT count(*) FROM test_opening WHERE digest = ?", (digest,)).fetchone()[0]

        return self._do(work)

    def openings(self, digest: str) -> list[dict[str, str]]:
        """Who opened the test split of these rows, and when, in order."""

        def work(db: sqlite3.Connection) -> list[dict[str, str]]:
            rows = db.execute("SELECT who, at FROM test_opening WHERE digest = ? ORDER BY opening", (digest,))
            return [{"who": who, "at": at} for who, at in rows]

        return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """work in one transaction; what SQLite says, in words that help."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _connected(self.path) as db:
                _prepare(db, self.path)
                with _transaction(db):
                    return work(db)
        except (sqlite3.Error, OSError) as e:
            raise self._stopped(e) from e

    def _stopped(self, e: Exception) -> Stopped:
        where, name = str(self.path), getattr(e, "sqlite_errorname", "") or type(e).__name__
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            why = f"another process has held it for {PATIENCE:.0f} seconds"
            return Stopped(Problem("registry.busy", "the registry is locked", why, where, "end the other run, or wait, then go on with --resume"))
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
            fix = (
                f"restore {self.path.name} (and {self.path.name}-wal) from a backup; without one, move it aside: test splits then count from 0 again"
            )
            return Stopped(Problem("registry.corrupt", f"the registry cannot be read: {e}", "the file is damaged or is not a registry", where, fix))
        fix = "free some disk space, make the folder writable, or set MODELWRIGHT_HOME to a folder that is"
        return Stopped(Problem("registry.unwritable", f"the registry cannot be written: {e}", "each opening of a test split is recorded", where, fix))


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Tables and format; a newer registry is refused, not guessed at."""
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        why = f"this Modelwright reads up to format {FORMAT}"
        raise Refusal(
            Problem("registry.newer", f"the registry has format {found}", why, str(path), "upgrade Modelwright, or set MODELWRIGHT_HOME elsewhere")
        )
    if found < FORMAT:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as e:
            if not e.sqlite_errorname.startswith("SQLITE_BUSY"):  # busy: a process beside us is switching it on
                raise
        with _transaction(db):
            for statement in TABLES.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Takes the write lock first, so that a reader never has to be upgraded (which SQLite refuses at once when two try)."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def open_test(digest: str, who: str) -> int:
    """`Registry().open_test` on the home's registry."""
    return Registry().open_test(digest, who)
