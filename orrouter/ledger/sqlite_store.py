"""One turn of the SQLite ledger: lock, apply what is asked to the book, write what changed, commit, unlock.

Law: nothing here waits. A turn is whole or it never was. It begins with the holds of owners that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from orrouter.core.errors import RouterError
from orrouter.ledger.journal import lines_of, words_in
from orrouter.ledger.sqlite_book import KeptBook
from orrouter.ledger.sqlite_file import Durable, explained, kind_of
from orrouter.ledger.sqlite_rows import Rows
from orrouter.ledger.sqlite_session import Session
from orrouter.ledger.sqlite_sweep import Sweep
from orrouter.ledger.turns import Busy, Op


class Store(KeptBook):
    """A file of accounts. `wall` gives unix seconds; lines of the statement are kept for `kept` seconds."""

    def __init__(self, path: Path, wall: Callable[[], float], durable: Durable, kept: float) -> None:
        super().__init__()
        self.path, self._wall, self._kept = path, wall, kept
        self.session = Session(path, durable)
        self.behind = 0.0
        """Seconds that the machine's clock is behind the latest time seen."""
        self.shared = False
        """Whether somebody else had written before the last turn."""
        self._sweep: Sweep
        self._entered = -1.0
        self._announced = False
        self._gone: list[str] = []
        self._strangers = False
        self._moved = 0
        self._leaving = False

    def run(self, ops: Sequence[Op]) -> None:
        """Do everything or nothing. Raises Busy when somebody else is at it, LedgerUnavailable."""
        try:
            self.session.take()
        except OSError as error:
            raise explained(self.path, error) from error
        try:
            self._turn(ops)
        except Exception as error:
            self._undo(error)
            if isinstance(error, Busy) or kind_of(error) == "SQLITE_BUSY":
                raise Busy from error
            raise explained(self.path, error) from error
        finally:
            self.session.free()

    def note(self, ops: Sequence[Op]) -> None:
        """Keep words that could not be written in our owner's file."""
        with suppress(OSError):  # A full disk, perhaps: then they are kept in memory alone.
            self.session.owners.note(lines_of([(op.name, op.args) for op in ops]))

    def strike(self) -> None:
        """They are written."""
        with suppress(OSError):  # They do no harm when they are said again.
            self.session.owners.strike()

    def recover(self) -> int:
        """How many holds of owners that are gone were put in suspense: every turn begins with that."""
        return self._moved

    def leave(self) -> None:
        """Nothing is held any more after this turn, and the file is let go of."""
        self._leaving = True

    # --- the steps of a turn ----------------------------------------------------------------------------

    def _turn(self, ops: Sequence[Op]) -> None:
        self._begin()
        self._moved = self._inherit()
        for op in ops:
            self._do(op)
        if self._leaving:
            self.suspend_held_by(self.me, "closed")
        self.save()
        self._sweep.after(len(self.finished), self.book.calendar.now)
        self.session.commit()
        self._follow()

    def _begin(self) -> None:
        cursor = self.session.opened()
        if cursor is not None:
            self.rows, self._sweep = Rows(cursor.execute, cursor.executemany), Sweep(cursor.execute, self._kept)
            self.me, self._announced = self.session.owners.me, False
        now = self._wall()
        self.shared = self.session.begin(now)
        if self.shared:
            meta = self.rows.meta()
            self.refresh(meta)
            self._look_round(meta["owners"])
        self.behind = self.book.calendar.at(now)

    def _look_round(self, entered: float) -> None:
        """See who is there when somebody has entered since; say that we have."""
        if not self._announced:
            entered += 1
            self.rows.write_meta("owners", entered)
        if entered != self._entered:
            self.session.owners.look()
            self._entered, self._strangers = entered, True

    def _inherit(self) -> int:
        """Nobody knows what became of the holds of owners that are gone; how many there were."""
        owners = self.session.owners
        self._gone = owners.gone()
        if not self._gone and not self._strangers:
            return 0
        for owner in self._gone:
            self._say_again(owner)
        lost = list(self._gone)
        if self._strangers:  # Whose file is missing, as beside a copy of the ledger.
            lost += set(self.rows.holders()) - owners.known
            self._strangers = False
        return sum([self.suspend_held_by(owner, "owner_gone") for owner in lost])

    def _say_again(self, owner: str) -> None:
        """What an owner that is gone knew and could not write."""
        for name, args in words_in(self.session.owners.noted(owner)):
            with suppress(ValueError, TypeError):  # What nobody can have said is not said again.
                getattr(self, name)(*args)

    def _do(self, op: Op) -> None:
        """One operation. What is wrong with it alone does not concern the others."""
        try:
            op.outcome = getattr(self, op.name)(*op.args)
            op.fresh = op.name == "admit" and self.made
        except (RouterError, ValueError) as error:
            op.outcome = error

    def _follow(self) -> None:
        """It is written: what follows can fail without harm."""
        self._announced = True
        self.committed()
        gone, self._gone = self._gone, []
        with suppress(Exception):  # Whoever comes next tidies up.
            self.session.tidy()
            self.session.owners.bury(gone)
        if self._leaving:
            self._leaving = False
            self.session.close(clean=True)

    def _undo(self, error: Exception) -> None:
        """The turn never was."""
        self.session.rollback(error)
        self.abandon()
        self._leaving = False
        gone, self._gone = self._gone, []
        with suppress(Exception):  # The error that ended the turn is the one to tell.
            self.session.owners.spare(gone)
