"""`query: SELECT ...` over the sources, answered by DuckDB with its doors closed.

The sources are read by our own readers and handed over as Arrow tables, so DuckDB opens no file itself: external access, extensions and the
lookup of Python variables are off and the settings are locked. One SELECT is run. One thread and a set seed, so that the same query gives
the same rows in the same order (splits are drawn by row). A query that never ends, or fills the disk, is ended.
"""

from __future__ import annotations

import threading

import pyarrow as pa

from ...errors import Refusal, refuse
from .loaded import Context, Loaded
from .store import keep
from .tidy import tidy

LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "threads": "1",
    "max_temp_directory_size": "20GB",
}
SECONDS = 1800.0


def ask(query: str, tables: dict[str, Loaded], context: Context) -> Loaded:
    """The query's answer; refused with DuckDB's own words."""
    try:
        import duckdb
    except ModuleNotFoundError as e:
        raise refuse("extra.missing", "a query needs the package 'duckdb'", where=context.where, fix="pip install duckdb") from e
    where = f"{context.where.removesuffix('source')}query"
    if not tables:
        raise refuse("data.query", "there is no source to ask", where=where, fix="name a file under source: the query calls it data")
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        alarm = threading.Timer(SECONDS, connection.interrupt)
        alarm.daemon = True
        try:
            statements = duckdb.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise refuse(
                    "data.query",
                    "the query must be one SELECT",
                    where=where,
                    why="a query reads and changes nothing",
                    fix="write one SELECT ... FROM ...",
                )
            notes = []
            for name, loaded in tables.items():
                connection.register(name, loaded.table)
                seen = connection.table('"' + name.replace('"', '""') + '"').columns
                renamed = [f"{a!r} is {b!r}" for a, b in zip(loaded.table.column_names, seen, strict=True) if a != b]
                if renamed:
                    notes.append(f"in the query (where upper and lower case are one) of {name}: {', '.join(renamed[:5])}")
            connection.execute("SET lock_configuration = true").fetchall()
            connection.execute("SELECT setseed(0)").fetchall()
            alarm.start()
            reader = connection.sql(query).to_arrow_reader(100_000)
            table = keep(reader, reader.schema, context)
        except (duckdb.InterruptException, OSError, Refusal) as e:  # whoever reads its answer may say it
            if not alarm.finished.is_set():
                raise
            fix = "a query that reads less; or write its answer to a file and name that"
            raise refuse("data.query", f"the query had no answer within {SECONDS:.0f} s", where=where, fix=fix) from e
        except duckdb.OutOfMemoryException as e:
            raise MemoryError from e
        except (duckdb.Error, pa.ArrowException) as e:
            names = ", ".join(repr(n) for n in tables)
            lines = [line.strip() for line in str(e).split("\n") if line.strip() and not line.startswith(("LINE", " "))]
            fix = f"the tables of this query are {names}"
            raise refuse("data.query", " ".join(lines)[:300], where=where, why="DuckDB refused the query", fix=fix) from e
        finally:
            alarm.cancel()
    table, more = tidy(table)
    told = [f"{name}: {note}" for name, loaded in tables.items() for note in loaded.notes]
    root = next(iter(tables.values())).root if tables else context.root
    return Loaded(table, [*told, *notes, *more, f"the query's answer: {table.num_rows:,} rows, {table.num_columns:,} columns"], "a query", root=root)
