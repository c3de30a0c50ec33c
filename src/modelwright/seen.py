"""Which rows a model has seen: what a run keeps of the rows that it trained and calibrated on, and which other rows stand there.

Kept beside the model, in `rows.safetensors`: a keyed hash (BLAKE2b) of each different row's inputs, and how often it occurs. The key is of this
`MODELWRIGHT_HOME` and never leaves it. Without it the file tells how many rows there were and how many repeat; with it, whether a row that one already
has in full was among them (so that a table of few possible rows can be listed: guard the key as you guard the rows). Exports leave it out.

Equal rows may be different people. How many rows of another sample meet, by chance, one that occurs r times is known from how many occur r + 1 times
(Good 1953): a share (r + 1) N_{r+1} / N. Where surely more than that meet rows of training (two shares, exactly compared), all that do are taken for
seen; else those that meet rows of one r (1, 2, 3, or more) where it is so; 1 in 100 false findings in all. Left out: a stage's own data; a row that was
changed, if only by a digit; pictures and sounds that are named by path (nothing is kept of such tables); rows that were each copied over four times.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .digests import row_digests, rows_digest
from .errors import Problem, Stopped
from .home import plain

if TYPE_CHECKING:
    from .data.schema import Schema

FILE = "rows.safetensors"
TIMES, ALARM = 4, 0.01
FEW = 2048
TEXT = (pa.string(), pa.large_string())


@dataclass
class Seen:
    """rows (N,) bool: those that were seen, beyond what chance brings. met: how many stand in the record at all. chance: how many of N would, of other
    people. lacks: why nothing could be compared."""

    rows: np.ndarray
    met: int = 0
    chance: float = 0.0
    lacks: str | None = None


def comparable(schema: Schema, table: pa.Table) -> list[str]:
    """The columns that rows are compared by: every input; none where one is a path, since what lies behind it may be another."""
    columns = [n for n, kind in schema.inputs.items() if not kind.drawn]
    return [] if any(schema.inputs[n].form != "ids" and table.schema.field(n).type in TEXT for n in schema.own if n in columns) else columns


def keep(folder: Path, tables: Iterable[pa.Table], columns: list[str], key: bytes) -> None:
    """Write the record of these tables' rows into the folder of a run."""
    found = np.concatenate([_hashes(t, columns, key) for t in tables])
    rows, times = np.unique(found, return_counts=True)
    about = {"format": "1", "columns": json.dumps(columns), "key": _check(key)}
    kept = {"rows": rows, "times": np.minimum(times, 2**31 - 1).astype(np.int32)}
    half = folder / f".{FILE}.{os.getpid()}"
    try:
        save_file(kept, half, about | {"sha256": _digest(kept)})
        half.replace(folder / FILE)
    except SafetensorError as e:  # its own word for what the disk said
        raise Stopped(Problem("disk.full", f"no room for {folder / FILE}: {e}", fix="free some space and go on with --resume")) from e
    finally:
        half.unlink(missing_ok=True)


def alone(table: pa.Table, key: bytes) -> tuple[bool, list[int]]:
    """Keyed hashes of the rows that no other row of the table equals, rising; the least FEW of them, and whether these are all."""
    rows, times = np.unique(_hashes(table, table.column_names, key), return_counts=True)
    rows = rows[times == 1]
    return len(rows) <= FEW, rows[:FEW].tolist()


def test_rows(schema: Schema, table: pa.Table, key: bytes | None) -> tuple[str, list[tuple[bool, list[int]]]]:
    """By which a registry knows test rows again: the digest of them all, and what `registry.looked` keeps of those that stand alone, in all their columns
    and in what is read of them."""
    whole, names = schema.contents(table), [n for n in (*schema.inputs, *schema.targets) if n in table.column_names]
    return rows_digest(whole), [alone(t, key) for t in (whole, whole.select(names)) if key is not None and t.num_columns and t.num_rows]


def seen(folder: Path, table: pa.Table, key: bytes) -> Seen:
    """Which of the table's rows the record in a folder holds."""
    from scipy import stats  # half a second, which a run need not wait for

    nothing = np.zeros(table.num_rows, bool)
    try:
        with safe_open(plain(folder / FILE), "np") as kept:
            about, rows, times = kept.metadata(), kept.get_tensor("rows"), kept.get_tensor("times")
        columns, whose, digest = json.loads(about["columns"]), about["key"], _digest({"rows": rows, "times": times})
    except FileNotFoundError:
        return Seen(nothing, lacks="nothing is kept of the rows that it was trained on")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return Seen(nothing, lacks=f"{FILE}, which was kept of the rows that it was trained on, is damaged")
    if about.get("sha256", digest) != digest or not len(rows) == len(times) > 0 or not {*columns} <= {*table.column_names}:
        return Seen(nothing, lacks=f"{FILE}, which was kept of the rows that it was trained on, is damaged")
    if whose != _check(key):
        return Seen(nothing, lacks="what is kept of the rows that it was trained on was written with the key of another MODELWRIGHT_HOME")
    place = np.searchsorted(rows, mine := _hashes(table, columns, key)).clip(max=len(rows) - 1)
    r = np.where(rows[place] == mine, times[place], 0).clip(max=TIMES)  # how often each row occurs in training
    n, whole, often = len(mine), int(times.sum()), [int(times[times > of].sum()) for of in range(TIMES + 1)]

    def chance(met: int, like: int) -> bool:
        """Of n test rows met are equal to a row of training, and like of its own to another: may both be of one share (hypergeometric)?"""
        return like > 0 and stats.hypergeom.sf(met - 1, n + whole, met + like, n) > ALARM / (TIMES + 1)

    def rarely(met: int, groups: int, each: int) -> bool:
        """The same where training's stand in groups of so many equal ones, which come and go together (two Poisson counts)."""
        return stats.binom.sf(met - 1, met + groups, each * n / (each * n + whole)) > ALARM / (TIMES + 1)

    rows_met = r > 0
    if chance(int(rows_met.sum()), often[1]):
        for of in range(1, TIMES + 1):
            met, twins = int((r == of).sum()), int((times == of + 1).sum())
            alone = of < TIMES and twins > 0  # else there is nothing to go by, but all that occur more often
            if rarely(met, twins, of + 1) if alone else chance(int((r >= of).sum()), often[of]):
                rows_met &= r != of
    return Seen(rows_met, int((r > 0).sum()), n * often[1] / whole)


def _hashes(table: pa.Table, columns: list[str], key: bytes) -> np.ndarray:
    """(N,) uint64 of each row's inputs."""
    digests = row_digests(table.select(columns)).astype("<u8").tobytes()
    each = (hashlib.blake2b(digests[i : i + 8], digest_size=8, key=key).digest() for i in range(0, len(digests), 8))
    return np.frombuffer(b"".join(each), "<u8").astype(np.uint64)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(arrays["rows"].tobytes() + arrays["times"].tobytes()).hexdigest()


def _check(key: bytes) -> str:
    """Tells one key from another, and nothing of either."""
    return hashlib.blake2b(b"which key", digest_size=8, key=key).hexdigest()
