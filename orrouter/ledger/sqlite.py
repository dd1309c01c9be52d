"""sqlite:///FILE: the accounts of one machine, shared by its processes, kept through their deaths.

Law: the face of the store alone. The theorem holds across processes because a turn is one transaction under one lock,
and through `kill -9` because a hold is written before `reserve` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Balance, Crossed, Durable, Entry, Hold, Line, Provenance
from orrouter.ledger.sqlite_file import sqlite_version
from orrouter.ledger.sqlite_store import Store
from orrouter.ledger.statement import KEPT_S
from orrouter.ledger.turns import PATIENCE_S, Turns
from orrouter.ledger.windows import FOREVER

MOST = 2**62
"""Nano-USD that a row can hold, with room to add."""


class SqliteLedger:
    """Accounts in a file. `wall` gives unix seconds; `retention_s` is how long lines of the statement are kept.

    A hold waits `patience_s` for other processes before it fails. `tell` is told a sentence, once each time, when the
    clock was set back, and for each word that cannot be written.

    Opened by the first word to it, in the process and on the loop where it is used; a forked child makes its own.
    After `aclose` a late word opens it, is written, and closes it again; `open` and `reserve` open it to stay open.
    """

    outlives = True

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float],
        *,
        durable: Durable = "process",
        retention_s: float = KEPT_S,
        patience_s: float = PATIENCE_S,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self.durable = path, durable
        self._store = Store(path, wall, durable, retention_s, tell)
        self._turns = Turns(self._store, patience_s)

    @property
    def problem(self) -> str:
        """Why the store could not be written at the last try; empty when it could."""
        return self._turns.problem.message if self._turns.problem is not None else ""

    @property
    def pending(self) -> int:
        """Words that are not written yet: kept, and said again until they are."""
        return len(self._turns)

    @property
    def behind(self) -> float:
        """Seconds that the machine's clock is behind the latest time that the ledger has seen."""
        return self._store.behind

    @property
    def owner(self) -> str:
        """The name under which this object holds; empty while nothing is open."""
        return self._store.session.owners.me

    @property
    def version(self) -> str:
        """The version of SQLite in use."""
        return sqlite_version()

    async def open(self) -> None:
        """Open the file, checked and up to date. Raises LedgerUnavailable."""
        self._store.closed = False
        await self._ask("nothing")

    async def reserve(self, hold: Hold) -> tuple[Crossed, ...]:
        """Hold the amount in every account or in none.

        Raises BudgetExceeded, LedgerUnavailable; Refused for a hold that cannot be written.
        """
        self._store.closed = False
        crossed: tuple[Crossed, ...] = await self._ask("admit", hold)
        return crossed

    def identify(self, hold: str, generation_id: str) -> None:
        """The upstream has named the work."""
        self._say("identify", hold, generation_id)

    def settle(
        self, hold: str, cost: int, *, provenance: Provenance = "billed", provider: str = "", model: str = ""
    ) -> None:
        """It cost so much."""
        # An answer that came whole was named just before.
        self._say("settle", hold, owed(cost), provenance, provider, model, self._turns.unsay("identify", hold) or "")

    def suspend(self, hold: str, reason: str) -> None:
        """Nobody knows whether it was billed."""
        self._say("suspend", hold, reason)

    def release(self, hold: str) -> None:
        """Nothing can have been billed."""
        self._say("release", hold)

    def adjust(self, hold: str, cost: int, *, provenance: Provenance) -> None:
        """A settled hold cost something else. The last 100,000 of a day are remembered."""
        self._say("adjust", hold, owed(cost), provenance)

    def post(self, hold: Hold, cost: int) -> None:
        """A cost that was never held."""
        self._say("post", hold, owed(cost))

    async def flush(self) -> None:
        """Wait until everything said so far is written. Raises LedgerUnavailable."""
        await self._ask("nothing")

    async def balances(self, account: Account) -> tuple[Balance, ...]:
        """Every window of an account that has a limit. Raises LedgerUnavailable."""
        found: tuple[Balance, ...] = await self._ask("balances", account)
        return found

    async def set_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit for every process. Raises LedgerUnavailable."""
        await self._ask("set_limit", account, period, amount)

    async def unsettled(self) -> list[Entry]:
        """Every hold that is held or in suspense, oldest first. Raises LedgerUnavailable."""
        found: list[Entry] = await self._ask("unsettled")
        return found

    async def statement(self, since: float = 0.0, until: float = FOREVER) -> list[Line]:
        """What was paid within hours that begin in `[since, until)`. Raises LedgerUnavailable."""
        found: list[Line] = await self._ask("statement", since, until)
        return found

    async def recover(self) -> int:
        """Put the holds of owners that are gone in suspense; how many. Raises LedgerUnavailable."""
        moved: int = await self._ask("recover")
        return moved

    async def reset_clock(self) -> tuple[float, float]:
        """Take what the clock says now for the latest time seen: that before, and that from now on.

        Windows that were used since may open anew. Raises LedgerUnavailable.
        """
        times: tuple[float, float] = await self._ask("go_by_the_clock")
        return times

    async def aclose(self) -> None:
        """Write what is left, put what is still held in suspense, and let go of the file.

        Raises LedgerUnavailable when it cannot be written; the file is let go of all the same.
        """
        session = self._store.session
        try:
            if not session.forked and (session.in_use or self.pending):
                await self._ask("leave")
        finally:
            self._store.closed = True
            session.close(clean=False)

    def _say(self, name: str, *args: object) -> None:
        self._store.session.refuse_child()
        self._turns.say(name, *args)

    def _ask(self, name: str, *args: object) -> Coroutine[Any, Any, Any]:
        self._store.session.refuse_child()
        return self._ask_late(name, *args) if self._store.closed else self._turns.ask(name, *args)

    async def _ask_late(self, name: str, *args: object) -> Any:
        try:
            return await self._turns.ask(name, *args)
        finally:
            if self._store.closed and not self.pending:
                self._store.session.close(clean=False)


def owed(cost: int) -> int:
    """A cost that can be written. Raises ValueError at once, since nobody waits for the turn in which it would."""
    if not 0 <= cost <= MOST:
        raise ValueError(f"a cost is 0 or more nano-USD and at most {MOST}, not {cost}")
    return cost
