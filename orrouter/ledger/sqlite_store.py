"""One turn of the SQLite ledger: lock, apply what is asked to the book, write what changed, commit, unlock.

Law: nothing here waits. A turn is whole or it never was. It begins with the holds of owners that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from orrouter.core.errors import Refused, RouterError
from orrouter.ledger.base import Durable, Hold
from orrouter.ledger.journal import lines_of, words_in
from orrouter.ledger.setback import SetBack
from orrouter.ledger.sqlite_book import KeptBook
from orrouter.ledger.sqlite_file import explained, is_unfit, kind_of
from orrouter.ledger.sqlite_rows import Rows
from orrouter.ledger.sqlite_session import Session
from orrouter.ledger.sqlite_sweep import Sweep
from orrouter.ledger.turns import Busy, Op

MEND: Final = "`orrouter ledger recover --clock` goes back to the clock"
NAMED: Final = 5
"""From here on the arguments of `settle` are not the cost but the name of the work."""
ENDS: Final = frozenset({"settle", "suspend", "release"})
"""After one of these nobody says more about a hold."""


class Store(KeptBook):
    """A file of accounts. `wall` gives unix seconds; lines of the statement are kept for `kept` seconds.

    `tell` is told a sentence when the clock was set back, and for each word that cannot be written.
    """

    def __init__(
        self, path: Path, wall: Callable[[], float], durable: Durable, kept: float, tell: Callable[[str], None] | None
    ) -> None:
        super().__init__()
        self.path, self._wall, self._kept, self._tell = path, wall, kept, tell
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
        self.closed = False
        """Whether nobody uses it any more: a turn that still comes lets go of the file at its end."""
        self._dropped: list[str] = []
        """What is to be told of words that cannot be written."""
        self._set_back = SetBack(str(path), MEND, tell)

    def run(self, ops: Sequence[Op]) -> None:
        """Do everything or nothing. Raises Busy when somebody else is at it, LedgerUnavailable."""
        try:
            self.session.take()
        except OSError as error:
            raise explained(self.path, error) from error
        try:
            self._whole(ops)
        finally:
            self.session.free()
        self._tell_news()

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

    def go_by_the_clock(self) -> tuple[float, float]:
        """The latest time seen is what the clock says: that before, and that now."""
        before, now = self.book.calendar.now, self._wall()
        self.reset_clock(now)
        self.behind = 0.0
        return before, now

    def leave(self) -> None:
        """Nothing is held any more after this turn, and the file is let go of."""
        self._leaving = True

    # --- the steps of a turn ----------------------------------------------------------------------------

    def _whole(self, ops: Sequence[Op]) -> None:
        """A turn of everything at once; where one word spoils it, a turn of each by itself."""
        try:
            self._turn(ops, self._do)
        except Exception as error:
            self._undo(error)
            if isinstance(error, Busy) or not is_unfit(error):
                raise self._said(error) from error
        else:
            return
        self.careful = True
        try:
            self._turn(ops, self._do_apart)
        except Exception as error:
            self._undo(error)
            raise self._said(error) from error
        finally:
            self.careful = False

    def _said(self, error: Exception) -> Exception:
        if isinstance(error, Busy) or kind_of(error) == "SQLITE_BUSY":
            return Busy()
        return explained(self.path, error)

    def _turn(self, ops: Sequence[Op], do: Callable[[Op], None]) -> None:
        self._begin()
        self._moved = self._inherit()
        for op in ops:
            do(op)
        self._leaving = self._leaving or self.closed
        if self._leaving:
            self.suspend_held_by(self.me, "closed")
        self.save()
        if self._sweep.after(len(self.finished), self.book.calendar.now):
            self.rows.forget_lines()
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
        if owners.alone and not self._strangers:
            return 0
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
            outcome = self._apart(name, args)
            if isinstance(outcome, Exception):
                self._drop_word(name, args, outcome)

    def _do(self, op: Op) -> None:
        """One operation. That it is refused does not concern the others; any other error spoils the turn."""
        try:
            op.outcome = getattr(self, op.name)(*op.args)
            op.fresh = op.name == "admit" and self.made
        except RouterError as error:
            op.outcome, op.fresh = error, False

    def _do_apart(self, op: Op) -> None:
        """One operation by itself: where it cannot be written, that concerns nobody else."""
        if op.name == "settle" and op.args[NAMED:] not in ((), ("",)):  # One of the two may be good without the other.
            hold, *cost, name = op.args
            self._do_apart(Op("identify", (hold, name), False, op.since))
            op.args = (hold, *cost, "")
        outcome = self._apart(op.name, op.args)
        failed = isinstance(outcome, Exception)
        op.fresh = not failed and op.name == "admit" and self.made
        op.outcome = self._refused(op.name, outcome) if failed else outcome
        if failed and not op.asked:
            if op.name in ENDS:
                self._apart("suspend", (op.args[0], "unwritable"))
            self._drop_word(op.name, op.args, outcome)

    def _apart(self, name: str, args: tuple[Any, ...]) -> Any:
        """What an operation answers, or its error: then it has changed nothing."""
        self.session.mark()
        try:
            outcome = getattr(self, name)(*args)
            self.save()
        except Exception as error:
            if not (is_unfit(error) or isinstance(error, RouterError)):
                raise
            self.session.undo()
            self.abandon()
            self.refresh(self.rows.meta())
            self.book.calendar.at(self._wall())
            return error
        self.session.keep()
        return outcome

    def _refused(self, name: str, error: Exception) -> Exception:
        """What whoever asked is told."""
        if isinstance(error, RouterError) or (isinstance(error, ValueError) and not isinstance(error, UnicodeError)):
            return error
        return Refused(f"{self.path}: {name} cannot be written ({described(error)}); nothing was changed")

    def _drop_word(self, name: str, args: tuple[Any, ...], error: Exception) -> None:
        """A word that will never be written is told instead."""
        about = args[0] if args else ""
        hold = about.id if isinstance(about, Hold) else about
        self._dropped.append(
            f"{self.path}: {name} of {hold!a} cannot be written and is dropped ({described(error)}); "
            "what is held for it stays charged at its worst case"
        )

    def _tell_news(self) -> None:
        """The turn is done, whatever becomes of the news."""
        if self.behind or self._set_back.told:
            with suppress(Exception):
                self._set_back.heed(self.behind)
        if self._dropped and self._tell is not None:
            for sentence in self._dropped:
                with suppress(Exception):
                    self._tell(sentence)
        self._dropped = []

    def _follow(self) -> None:
        """It is written: what follows can fail without harm."""
        self._announced = True
        self.committed()
        if self.session.untidy() or self._gone:
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
        self._leaving, self._entered = False, -1.0
        self._dropped.clear()
        gone, self._gone = self._gone, []
        with suppress(Exception):  # The error that ended the turn is the one to tell.
            self.session.owners.spare(gone)


def described(error: Exception) -> str:
    """An error with its kind, in signs that everybody can print."""
    return f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode()
