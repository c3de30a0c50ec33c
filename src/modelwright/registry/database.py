"""The seam to the database: SQLite by default, PostgreSQL by URL. Whatever differs between the two stands in this file and nowhere else.

`do` runs a function of `db(sql, *values) -> rows` in one transaction that takes the write lock first, so that a reader never has to be upgraded
(which SQLite refuses at once when two try). The SQL outside this file is what both understand, with `?` for values; in the tables' text `{id}`,
`{now}` and `{append_only:TABLE}` stand for what each spells its own way. Every call opens, commits and closes, which survives forks and kills.
SQLite writes ahead where the file system allows it. A password is never shown: messages name host and database, and what the driver says is
cleared of it. Nothing is repaired silently.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ..errors import Problem, Refusal, Stopped, refuse

T = TypeVar("T")
Session = Callable[..., list[tuple]]
PATIENCE = 30.0  # seconds to wait for another process


class Database:
    """What both share. formats: one text of statements for each format, the n-th leading from format n - 1 to n."""

    errors: tuple[type[Exception], ...] = ()
    spelling: dict[str, str] = {}

    def __init__(self, where: str, formats: tuple[str, ...]):
        self.where, self.formats = where, formats

    def do(self, work: Callable[[Session], T]) -> T:
        """work in one transaction; what the database says, in words that help."""
        try:
            with self._session() as db:
                if self._found(db) != len(self.formats):
                    self._settle(db)
                    with self._transaction(db):
                        self._prepare(db)
                with self._transaction(db):
                    return work(db)
        except self.errors as e:
            raise self._stopped(e) from self._cause(e)

    def _prepare(self, db: Session) -> None:
        """Tables and format, read again under the lock: a process beside us may have been first. A newer registry is refused, not guessed at."""
        found = self._found(db)
        if found > len(self.formats):
            why = f"this Modelwright reads up to format {len(self.formats)}"
            fix = "upgrade Modelwright, or set MODELWRIGHT_HOME elsewhere"
            raise Refusal(Problem("registry.newer", f"the registry has format {found}", why, self.where, fix))
        for text in self.formats[found:]:
            for statement in filter(None, (s.strip() for s in self._spelled(text).split(";\n"))):
                db(statement)
        self._mark(db, len(self.formats))

    def _spelled(self, text: str) -> str:
        for token, words in self.spelling.items():
            text = text.replace(token, words)
        return re.sub(r"\{append_only:(\w+)\}", lambda m: self._append_only(m[1]), text)

    @contextmanager
    def _transaction(self, db: Session) -> Iterator[None]:
        self._begin(db)
        try:
            yield
        except BaseException:
            db("ROLLBACK")
            raise
        db("COMMIT")

    def _settle(self, db: Session) -> None:
        """Before the tables are made."""

    def _cause(self, e: Exception) -> Exception | None:
        return e


class Sqlite(Database):
    errors = (sqlite3.Error, OSError)
    spelling = {"{id}": "INTEGER PRIMARY KEY", "{now}": "(strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))"}

    def __init__(self, path: Path, formats: tuple[str, ...]):
        super().__init__(str(path), formats)
        self.path = path
        self.sealed = os.access(path, os.R_OK) and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))  # of somebody else: only read

    @contextmanager
    def _session(self) -> Iterator[Session]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        how = "" if not self.sealed else "?mode=ro" if self.path.with_name(f"{self.path.name}-wal").exists() else "?mode=ro&immutable=1"  # no files beside it
        connection = sqlite3.connect(self.path.as_uri() + how, uri=True, timeout=PATIENCE, isolation_level=None)
        try:
            yield lambda sql, *values: connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def _found(self, db: Session) -> int:
        return db("PRAGMA user_version")[0][0]

    def _settle(self, db: Session) -> None:
        try:
            db("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as e:
            if not e.sqlite_errorname.startswith("SQLITE_BUSY"):  # busy: a process beside us is switching it on
                raise

    def _mark(self, db: Session, found: int) -> None:
        db(f"PRAGMA user_version = {found}")

    def _begin(self, db: Session) -> None:
        db("BEGIN" if self.sealed else "BEGIN IMMEDIATE")

    def _append_only(self, table: str) -> str:
        rule = "CREATE TRIGGER {0}_no_{1} BEFORE {1} ON {0} BEGIN SELECT RAISE(ABORT, '{0} is append-only'); END"
        return ";\n".join(rule.format(table, change) for change in ("UPDATE", "DELETE"))

    def _stopped(self, e: Exception) -> Stopped:
        name = getattr(e, "sqlite_errorname", "") or type(e).__name__
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            why = f"another process has held it for {PATIENCE:.0f} seconds"
            fix = "end the other run, or wait, then go on with --resume"
            return Stopped(Problem("registry.busy", "the registry is locked", why, self.where, fix))
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
            file, why = self.path.name, "the file is damaged or is not a registry"
            fix = f"restore {file} (and {file}-wal) from a backup; without one, move it aside: test splits then count from 0 again"
            return Stopped(Problem("registry.corrupt", f"the registry cannot be read: {e}", why, self.where, fix))
        fix = "free some disk space, make the folder writable, or set MODELWRIGHT_HOME to a folder that is"
        why = "each opening of a test split is recorded"
        return Stopped(Problem("registry.unwritable", f"the registry cannot be written: {e}", why, self.where, fix))


class Postgres(Database):
    spelling = {
        "{id}": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "{now}": "to_char(now() AT TIME ZONE 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
    }
    LOCK = 7_361_052  # any number: the key of an advisory lock that a transaction holds

    def __init__(self, url: str, formats: tuple[str, ...]):
        try:
            import psycopg
        except ImportError as e:
            what = "a registry in PostgreSQL needs the package psycopg"
            raise refuse("extra.missing", what, where="the registry's URL", fix="pip install 'modelwright[postgres]'") from e
        try:
            said = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            fix = "postgresql://USER:PASSWORD@HOST/DATABASE"
            raise refuse("registry.url", "the registry's URL cannot be read", where="the registry's URL", fix=fix) from None
        super().__init__(f"postgresql://{said.get('host') or ''}/{said.get('dbname') or ''}", formats)
        self.url, self.driver, self.errors = url, psycopg, (psycopg.Error, OSError)
        secret = str(said.get("password") or "")
        self.secrets = [s for s in (secret, quote(secret, safe="")) if s]

    @contextmanager
    def _session(self) -> Iterator[Session]:
        connection = self.driver.connect(self.url, autocommit=True, connect_timeout=int(PATIENCE))

        def db(sql: str, *values: Any) -> list[tuple]:
            cursor = connection.execute(sql.replace("?", "%s"), values) if values else connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

        try:
            db(f"SET lock_timeout = {int(PATIENCE * 1000)}")
            yield db
        finally:
            connection.close()

    def _found(self, db: Session) -> int:
        known = "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = 'modelwright_format' AND schemaname = ANY (current_schemas(false))"
        if not db(known):  # not to_regclass: it answers from a cache that does not see what a process before us in the lock has made
            return 0
        return db("SELECT max(format) FROM modelwright_format")[0][0]

    def _mark(self, db: Session, found: int) -> None:
        db("CREATE TABLE IF NOT EXISTS modelwright_format (format INTEGER NOT NULL)")
        db("INSERT INTO modelwright_format (format) VALUES (?)", found)

    def _begin(self, db: Session) -> None:
        db("BEGIN")
        db(f"SELECT pg_advisory_xact_lock({self.LOCK})")

    def _append_only(self, table: str) -> str:
        return (
            "CREATE OR REPLACE FUNCTION modelwright_append_only() RETURNS trigger AS $$\n"
            "BEGIN RAISE EXCEPTION 'append-only'; END $$ LANGUAGE plpgsql;\n"
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION modelwright_append_only()"
        )

    def _stopped(self, e: Exception) -> Stopped:
        said = str(e).strip()
        for secret in self.secrets:
            said = said.replace(secret, "***")
        if getattr(e, "sqlstate", None) == "55P03":
            why = f"another process has held it for {PATIENCE:.0f} seconds"
            fix = "end the other run, or wait, then go on with --resume"
            return Stopped(Problem("registry.busy", "the registry is locked", why, self.where, fix))
        if isinstance(e, self.driver.OperationalError | OSError):
            said = re.sub(r'connection to server at "[^"]*"', "connection to the server", said)
            fix = "start the server, or mend the URL in the environment variable"
            return Stopped(Problem("registry.unreachable", f"the registry's server does not answer: {said}", "", self.where, fix))
        fix = "restore the database from a backup, or name another; test splits then count from 0 again"
        return Stopped(Problem("registry.corrupt", f"the registry cannot be used: {said}", "a table was changed by other hands", self.where, fix))

    def _cause(self, e: Exception) -> Exception | None:
        return None  # its text and its frames may hold the URL
