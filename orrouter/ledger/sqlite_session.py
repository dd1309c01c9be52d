"""A ledger's file in use: its lock between processes, its owner, its connection, and the log that SQLite keeps.

Law: nothing here waits, and nobody but SQLite opens the database itself. A forked child has no part in any of it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orrouter.core.errors import LedgerUnavailable
from orrouter.core.process import FORKS
from orrouter.ledger.base import Durable
from orrouter.ledger.filelock import FileLock
from orrouter.ledger.owners import Owners
from orrouter.ledger.place import prepare
from orrouter.ledger.sqlite_file import connect, kind_of
from orrouter.ledger.turns import Busy

if TYPE_CHECKING:
    from sqlite3 import Connection, Cursor

LOG_BYTES: Final = 4 * 2**20
"""SQLite's log is moved into the file when it is longer: everybody waits meanwhile, some milliseconds."""
TIDY_TURNS: Final = 16
"""The length of the log is looked at every so many turns."""
LOOK_S: Final = 0.1
"""Whether somebody removed or replaced a file is looked at so often."""
BROKEN: Final = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY"})
"""After these the file is opened anew, and so looked at, at the next turn."""


class Session:
    """Opened at its first turn, and again after it was closed or found broken."""

    def __init__(self, path: Path, durable: Durable) -> None:
        self.path = path
        self._durable: Durable = durable
        self._lock = FileLock(path.with_name(f"{path.name}-lock"))
        self._log = path.with_name(f"{path.name}-wal")
        self.owners = Owners(path.with_name(f"{path.name}-owners"))
        self._db: Connection | None = None
        self._cursor: Cursor | None = None
        self._prepared = False
        self._forks = -1
        """How many forks lay behind the process that locked it first; -1: nobody has."""
        self._inode = 0
        self._version = -1
        self._log_limit = LOG_BYTES
        self._turns = 0
        self._looked = 0.0

    def take(self) -> None:
        """Lock the file against every other process. Raises Busy, OSError, LedgerUnavailable."""
        self.refuse_child()
        if self._db is None and not self._prepared:
            prepare(self.path)
            self._prepared = True
        self._forks = FORKS[0]
        if not self._lock.take():
            raise Busy

    def free(self) -> None:
        """Unlock it."""
        self._lock.free()

    @property
    def forked(self) -> bool:
        """Whether this process was forked off after the file was locked for the first time."""
        return self._forks >= 0 and self._forks != FORKS[0]

    @property
    def in_use(self) -> bool:
        """Whether there is anything to let go of."""
        return self._forks >= 0

    def refuse_child(self) -> None:
        """Raise LedgerUnavailable in a child."""
        if self._forks != FORKS[0] and self.forked:
            raise LedgerUnavailable(
                f"{self.path}: this ledger was opened before the process forked, and a connection must not be shared; "
                "make the Router in the child, after the fork"
            )

    def opened(self) -> Cursor | None:
        """Open the file if it is not: its cursor if it was opened just now. Raises LedgerUnavailable, sqlite3.Error."""
        if self._db is not None:
            return None
        self._db = connect(self.path, self._durable)
        self._inode = self.path.stat().st_ino
        self._version = -1
        self.owners.enter()
        self._cursor = self._db.cursor()
        return self._cursor

    def begin(self, now: float) -> bool:
        """Begin a transaction; whether somebody else has written since the one before. `now` is any clock."""
        assert self._cursor is not None
        if abs(now - self._looked) > LOOK_S:
            self._look()
            self._looked = now
        self._cursor.execute("BEGIN IMMEDIATE")
        (version,) = self._cursor.execute("PRAGMA data_version").fetchone()
        changed = bool(version != self._version)
        self._version = version
        return changed

    def mark(self) -> None:
        """What follows is one word of the transaction: `keep` it or `undo` it."""
        assert self._cursor is not None
        self._cursor.execute("SAVEPOINT word")

    def keep(self) -> None:
        """The word stands."""
        assert self._cursor is not None
        self._cursor.execute("RELEASE word")

    def undo(self) -> None:
        """The word never was; what came before it stands."""
        assert self._cursor is not None
        self._cursor.execute("ROLLBACK TO word")
        self._cursor.execute("RELEASE word")

    def commit(self) -> None:
        """It is written."""
        assert self._cursor is not None
        self._cursor.execute("COMMIT")

    def rollback(self, error: Exception) -> None:
        """It never was. What is broken is let go of."""
        self._version = -1
        if self._db is None:
            return
        with suppress(Exception):  # An error within an error: the first is the one to tell.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        if kind_of(error) in BROKEN:
            self._let_go()

    def untidy(self) -> bool:
        """Whether it is time to `tidy`; asked once in each turn."""
        self._turns += 1
        return not self._turns % TIDY_TURNS

    def tidy(self) -> None:
        """Move SQLite's log into the file when it has grown long. A reader may hold it: then later."""
        if self._db is None:
            return
        length = self._log.stat().st_size
        if length > self._log_limit:
            (held, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._log_limit = length + LOG_BYTES if held else LOG_BYTES

    def close(self, *, clean: bool) -> None:
        """Let go of everything; `clean`: nothing of ours is held any more. Under the lock, if it could be had."""
        if self.forked:
            return
        if self._db is not None and clean:
            with suppress(Exception):  # Whoever opens the file next finds the log, and loses nothing.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._let_go()
        self.owners.leave(remove=clean)
        self._lock.close()
        self._forks = -1

    def _let_go(self) -> None:
        if self._db is not None:
            with suppress(Exception):  # It is of no use any more, however that ends.
                if self._cursor is not None:
                    self._cursor.close()  # As long as it has a statement, SQLite keeps the file.
                self._db.close()
            self._cursor = None
            self._db = None
        self._prepared = False

    def _look(self) -> None:
        """See that the files are still those that others use. Raises Busy, LedgerUnavailable."""
        if self._lock.lost:
            self._lock.close()
            raise Busy
        try:
            same = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise LedgerUnavailable(
                f"{self.path}: was removed or replaced while it was in use; "
                "stop every process that uses it, put the right file in its place, and start them again"
            )
