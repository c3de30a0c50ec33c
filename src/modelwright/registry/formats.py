"""What the registry's database holds: one text of statements for each format, the n-th leading from format n - 1 to n. Tables and columns are only added.

`{id}`, `{now}` and `{append_only:TABLE}` stand for what SQLite and PostgreSQL spell differently (`database.py`).
"""

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
LOOKED_AT = """
CREATE TABLE looked_at (
    mark     TEXT PRIMARY KEY,  -- sha256 of the other three
    digest   TEXT NOT NULL,  -- of the split's rows
    whole    INTEGER NOT NULL,  -- 1: hashes of all rows that stand alone, 0: the least of them
    hashes   TEXT NOT NULL  -- JSON: of hexadecimal numbers, rising
);
CREATE INDEX looked_at_of ON looked_at (digest);
{append_only:looked_at}
"""
FORMATS = (OPENINGS, VERSIONS, LOOKED_AT)
