"""memory://: the accounts of one process, gone with it.

Law: the rules over plain dicts. What is settled is added up and forgotten, so a million calls take no more room than
a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Balance, Bucket, BucketKey, Crossed, Denied, Entry, Hold, Line, Provenance
from orrouter.ledger.recent import Recent
from orrouter.ledger.rules import Book
from orrouter.ledger.setback import SetBack
from orrouter.ledger.shown import balances_of, refusal
from orrouter.ledger.statement import KEPT_S, Statement, begun, seen_until
from orrouter.ledger.windows import FOREVER

RECENT: Final = 512
"""Holds that are over and still remembered: a second word about one changes nothing, and a correction finds it."""


class MemoryLedger:
    """Accounts in memory. `wall` gives unix seconds; `retention_s` is how long lines of the statement are kept.

    `tell` is told a sentence, once each time, when the clock was set back.
    """

    outlives = False

    def __init__(
        self, wall: Callable[[], float], retention_s: float = KEPT_S, tell: Callable[[str], None] | None = None
    ) -> None:
        self._wall = wall
        self._statement = Statement(retention_s)
        self._over: Recent[Entry] = Recent(RECENT)
        self._book = Book(self._begin, self._over.get, seen=self._over.__contains__, tracks=False)
        self._set_back = SetBack("memory://", "start this process anew", tell)

    def _begin(self, key: BucketKey) -> Bucket:
        until = seen_until(key, self._book.calendar.now)
        return begun(key, self._statement.settled(key, until), self._book.entries.values(), until)

    async def open(self) -> None:
        """There is nothing to open."""

    async def reserve(self, hold: Hold) -> tuple[Crossed, ...]:
        """Hold the amount in every account or in none. Raises BudgetExceeded."""
        book, wall = self._book, self._wall()
        calendar = book.calendar
        if wall >= calendar.now and not self._set_back.told:
            calendar.now = wall
        else:
            self._set_back.heed(calendar.at(wall))
        admitted = book.admit(hold, "")
        if isinstance(admitted, Denied):
            raise refusal(admitted, hold, book.calendar.now)
        return admitted

    def identify(self, hold: str, generation_id: str) -> None:
        """The upstream has named the work."""
        self._book.identify(hold, generation_id)

    def settle(
        self, hold: str, cost: int, *, provenance: Provenance = "billed", provider: str = "", model: str = ""
    ) -> None:
        """It cost so much."""
        entry = self._book.settle(hold, cost, provenance=provenance, provider=provider, model=model)
        if entry is not None:
            self._statement.add(entry, cost)
            self._over.add(hold, entry)

    def release(self, hold: str) -> None:
        """Nothing can have been billed."""
        entry = self._at().release(hold)
        if entry is not None:
            self._over.add(hold, entry)

    def suspend(self, hold: str, reason: str) -> None:
        """Nobody knows whether it was billed."""
        self._at().suspend(hold, reason)

    def adjust(self, hold: str, cost: int, *, provenance: Provenance) -> None:
        """A settled hold cost something else. Only the last 512 are remembered."""
        entry = self._over.get(hold)
        before = entry.cost if entry is not None else None
        if entry is not None and before is not None and self._at().adjust(hold, cost, provenance):
            self._statement.add(entry, cost - before, tries=0)

    def post(self, hold: Hold, cost: int) -> None:
        """A cost that was never held."""
        entry = self._at().post(hold, cost, "")
        if entry is not None:
            self._statement.add(entry, cost)
            self._over.add(hold.id, entry)

    async def flush(self) -> None:
        """Everything said is written already."""

    async def balances(self, account: Account) -> tuple[Balance, ...]:
        """Every window of an account that has a limit."""
        return balances_of(self._at(), account)

    async def set_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit from now on; None: as the policies say."""
        self._book.set_limit(account, period, amount)

    async def unsettled(self) -> list[Entry]:
        """Every hold that is held or in suspense, oldest first."""
        return [replace(entry) for entry in self._book.entries.values()]

    async def statement(self, since: float = 0.0, until: float = FOREVER) -> list[Line]:
        """What was paid within hours that begin in `[since, until)`."""
        return self._statement.lines(self._book.entries.values(), since, until)

    async def recover(self) -> int:
        """Nobody else holds anything here."""
        return 0

    async def reset_clock(self) -> tuple[float, float]:
        """Take what the clock says now for the latest time seen: that before, and that from now on."""
        before, now = self._at().calendar.now, self._wall()
        self._book.rewind(now)
        for entry in self._book.entries.values():
            entry.ended = None if entry.ended is None else min(entry.ended, now)
        return before, now

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def _at(self) -> Book:
        """The book, at the time it is now."""
        self._book.calendar.at(self._wall())
        return self._book
