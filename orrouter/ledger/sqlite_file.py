"""The database file: how it is opened, what it is made of, how an older one is brought up, and what its errors mean.

Law: the one module that imports sqlite3. Everything here runs under the ledger's own lock between processes; so no two
connections ever checkpoint at once, which damages files in SQLite before 3.51.3 (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orrouter.core.errors import LedgerUnavailable
from orrouter.ledger.base import Durable

if TYPE_CHECKING:
    from sqlite3 import Connection

OLDEST: Final = (3, 37, 0)
"""The first SQLite with STRICT tables."""
OURS: Final = 0x6F727274
"""The application_id of the file."""

CREATE: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('seen', 0), ('owners', 0), ('epoch', 0);
CREATE TABLE bucket (
    id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, period TEXT NOT NULL, start INTEGER NOT NULL,
    settled INTEGER NOT NULL, held INTEGER NOT NULL CHECK (held >= 0),
    suspense INTEGER NOT NULL CHECK (suspense >= 0), told INTEGER NOT NULL, until REAL NOT NULL,
    UNIQUE (account, period, start)) STRICT;
CREATE TABLE hold (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, amount INTEGER NOT NULL, accounts TEXT NOT NULL,
    upstream TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, request_id TEXT NOT NULL,
    streamed INTEGER NOT NULL, admitted REAL NOT NULL, owner TEXT NOT NULL, buckets TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'released', 'suspense')), cost INTEGER,
    billed_model TEXT NOT NULL, provider TEXT NOT NULL, provenance TEXT NOT NULL, generation_id TEXT NOT NULL,
    ended REAL, reason TEXT NOT NULL) STRICT;
CREATE INDEX open_hold ON hold (owner) WHERE state IN ('held', 'suspense');
CREATE TABLE correction (
    hold TEXT NOT NULL, before INTEGER NOT NULL, after INTEGER NOT NULL, provenance TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE TABLE override (
    account TEXT NOT NULL, period TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (account, period)
) STRICT, WITHOUT ROWID;
CREATE TABLE statement (
    id INTEGER PRIMARY KEY, hour INTEGER NOT NULL, accounts TEXT NOT NULL, upstream TEXT NOT NULL, key TEXT NOT NULL,
    model TEXT NOT NULL, provider TEXT NOT NULL, tries INTEGER NOT NULL, cost INTEGER NOT NULL,
    UNIQUE (hour, accounts, upstream, key, model, provider)) STRICT;
CREATE TABLE payer (
    account TEXT NOT NULL, hour INTEGER NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (account, hour, line)
) STRICT, WITHOUT ROWID;
"""

STEPS: Final = (CREATE,)
"""Step n brings a file of version n to n + 1; a file that was never used is of version 0."""


def connect(path: Path, durable: Durable, steps: Sequence[str] = STEPS) -> Connection:
    """Open the file, check it, bring it up to date. Raises LedgerUnavailable, sqlite3.Error."""
    import sqlite3

    refuse_old_sqlite(path, sqlite3.sqlite_version_info)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _check(path, connection, len(steps))
        _set_up(path, connection, durable)
        migrate(connection, steps)
    except BaseException:
        connection.close()
        raise
    return connection


def sqlite_version() -> str:
    """The version of the SQLite that this Python carries."""
    import sqlite3

    return sqlite3.sqlite_version


def refuse_old_sqlite(path: Path, version: tuple[int, ...]) -> None:
    """Raise LedgerUnavailable for a SQLite without STRICT tables."""
    if version < OLDEST:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        raise LedgerUnavailable(
            f"{path}: this Python carries SQLite {found}, and the ledger needs {needed} or later; "
            "use a newer Python, or write ledger: memory://"
        )


def _check(path: Path, connection: Connection, newest: int) -> None:
    """Refuse what is damaged, not ours, or newer than we are, before anything is changed."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise LedgerUnavailable(f"{path}: is damaged ({found}); {ON_DAMAGE}")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != OURS:
        raise LedgerUnavailable(f"{path}: is the database of another program; name another file")
    version = version_of(connection)
    if version > newest:
        raise LedgerUnavailable(
            f"{path}: was written by a newer orrouter (version {version} of the file, this one knows {newest}); "
            "upgrade orrouter"
        )


def version_of(connection: Connection) -> int:
    """How many steps the file has been brought up."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _set_up(path: Path, connection: Connection, durable: Durable) -> None:
    run = connection.execute
    run("PRAGMA page_size = 1024")  # Of a new file: a turn changes little in each of a few pages.
    run("PRAGMA secure_delete = OFF")  # Some builds overwrite what is deleted: a fifth of the time of a turn.
    run("PRAGMA mmap_size = 0")
    run("PRAGMA trusted_schema = OFF")
    (mode,) = run("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LedgerUnavailable(
            f"{path}: this file system has no shared memory, which SQLite's log needs; "
            "put the ledger on another disk of this machine"
        )
    run(f"PRAGMA synchronous = {'FULL' if durable == 'power' else 'NORMAL'}")
    run("PRAGMA wal_autocheckpoint = 0")


def migrate(connection: Connection, steps: Sequence[str]) -> None:
    """Bring the file up to date in one transaction."""
    version = version_of(connection)
    if version < len(steps):
        mark = f"PRAGMA application_id = {OURS}; PRAGMA user_version = {len(steps)};"
        connection.executescript(f"BEGIN IMMEDIATE; {''.join(steps[version:])} {mark} COMMIT;")


ON_DAMAGE: Final = (
    "stop every process that uses it, put it aside, and bring back a copy or what `sqlite3 FILE .recover` can read"
)

ADVICE: Final = {
    "SQLITE_FULL": "the disk is full; make room, and what was not written will be",
    "SQLITE_READONLY": "it may not be written; give this user the right to write it and its folder",
    "SQLITE_PERM": "it may not be opened; give this user the right to read and write it",
    "SQLITE_CANTOPEN": "it cannot be opened; see that its folder exists and that this user may write there",
    "SQLITE_CORRUPT": ON_DAMAGE,
    "SQLITE_NOTADB": "it is no database; name another file, or put this one aside",
    "SQLITE_BUSY": "another program holds it; close whatever else has it open for writing",
    "SQLITE_IOERR": "the disk does not answer as it should; see the machine's log, and its free space",
}


CODES: Final = {
    3: "SQLITE_PERM", 5: "SQLITE_BUSY", 8: "SQLITE_READONLY", 10: "SQLITE_IOERR", 11: "SQLITE_CORRUPT",
    13: "SQLITE_FULL", 14: "SQLITE_CANTOPEN", 18: "SQLITE_TOOBIG", 19: "SQLITE_CONSTRAINT", 20: "SQLITE_MISMATCH",
    25: "SQLITE_RANGE", 26: "SQLITE_NOTADB",
}  # fmt: skip
"""SQLite's result codes, https://sqlite.org/rescode.html; the lower byte of one with a detail."""


def kind_of(error: BaseException) -> str:
    """SQLite's name for an error without its detail, as `SQLITE_IOERR`; empty for other errors."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if name == "unknown":  # A detail that this Python knows no name for.
        return CODES.get(int(getattr(error, "sqlite_errorcode", 0)) & 0xFF, name)
    return "_".join(name.split("_")[:2])


UNFIT: Final = frozenset({"SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE"})
"""What SQLite says of a value that no row can hold."""


def is_unfit(error: Exception) -> bool:
    """Whether an error lies in what was to be written, as text that is no Unicode or a number beyond 64 bits."""
    kind = kind_of(error)
    return kind in UNFIT if kind else not isinstance(error, LedgerUnavailable | OSError | MemoryError)


def explained(path: Path, error: Exception) -> LedgerUnavailable:
    """An error of the store for people: what happened, where, and what to do."""
    if isinstance(error, LedgerUnavailable):
        return error
    if isinstance(error, OSError):
        return LedgerUnavailable(
            f"{path}: {error.strerror or error}; see that this user may read and write it and its folder"
        )
    kind = kind_of(error)
    if not kind:
        what = f"{type(error).__name__}: {error}"
        return LedgerUnavailable(f"{path}: {what}; this is a fault of orrouter, please report it")
    return LedgerUnavailable(f"{path}: {error}; {ADVICE.get(kind, 'see that nothing else changes the file')}")
