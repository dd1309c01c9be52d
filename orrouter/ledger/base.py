"""What every ledger does, and the values that go in and out of it.

Law: words only. The life of a hold: held, then settled (its cost is known), released (nothing can have been billed) or
in suspense (nobody knows yet: charged at its worst case until it is reconciled). Amounts are whole nano-USD, instants
unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from orrouter.core.ids import Ids
from orrouter.core.limit import Account, Period

Durable = Literal["process", "power"]
"""What a written hold survives: the death of the process, or also that of the machine (one fsync for each turn)."""
State = Literal["held", "settled", "released", "suspense"]
Provenance = Literal["billed", "computed", "free", "reconciled", "bounded", "written_off", "unheld"]
"""How a cost is known: the upstream said it with the answer (`billed`), it was computed from the usage, nothing was
billed, `GET /generation` told it later, the growth of the key's usage bounds it, nobody ever told and the worst case
stays, or it was never held because the store was down (`unheld`)."""


class BucketKey(NamedTuple):
    """One window of one account."""

    account: str
    period: Period
    start: int


@dataclass(slots=True, eq=False)
class Bucket:
    """What one window of an account holds.

    `told` is the highest soft threshold that was told, in millionths of the limit. `until` is its end in unix seconds,
    infinite for a lifetime; 0 where it is not known: then it is charged only where a policy limits it.
    """

    key: BucketKey
    settled: int = 0
    held: int = 0
    suspense: int = 0
    told: int = 0
    until: float = 0.0

    @property
    def charged(self) -> int:
        """What is gone or may be gone: this never exceeds the limit."""
        return self.settled + self.held + self.suspense


@dataclass(slots=True)
class Hold:
    """The worst case of one try, and who pays. Its id is made by whoever asks, and is used for nothing else ever.

    Nobody changes one; that is not enforced, because freezing costs as much as admitting it.
    """

    id: str
    amount: int
    accounts: tuple[Account, ...]
    upstream: str = ""
    key: str = ""
    model: str = ""
    request_id: str = ""
    streamed: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """A hold as the ledger keeps it: what was asked, the windows it is charged to, and what became of it.

    `accounts` are the names of who pays, `owner` the ledger object, in whatever process, that took it. `model` is the
    one that is billed. `reason` says why it is in suspense: the code of an error, `cancelled`, `left`, `owner_gone`,
    `closed`, `unwritable` (what it cost was told in words that no store can hold).
    """

    hold: Hold
    accounts: tuple[str, ...]
    buckets: tuple[Bucket, ...]
    admitted: float
    owner: str = ""
    state: State = "held"
    cost: int | None = None
    model: str = ""
    provider: str = ""
    provenance: str = ""
    generation_id: str = ""
    ended: float | None = None
    reason: str = ""

    @property
    def id(self) -> str:
        """The hold's id."""
        return self.hold.id

    @property
    def amount(self) -> int:
        """The worst case."""
        return self.hold.amount


class Crossed(NamedTuple):
    """A soft threshold that an admission passed: `part` of the limit (0.8 is 80 %)."""

    account: str
    period: Period
    part: float
    charged: int
    limit: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a hold was not admitted: the window with the least room. `resets_at` is infinite for a lifetime."""

    account: str
    period: Period
    limit: int
    remaining: int
    resets_at: float
    zone: str


@dataclass(frozen=True, slots=True)
class Balance:
    """One window of an account now. `limit` is the one in force; `resets_at` infinite for a lifetime."""

    account: str
    period: Period
    limit: int
    settled: int
    held: int
    suspense: int
    starts_at: float
    resets_at: float

    @property
    def remaining(self) -> int:
        """What may still be held; below zero where the limit was lowered or a try cost more than was held."""
        return self.limit - self.settled - self.held - self.suspense


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the statement: what was paid within one hour (`at`, its start) to a provider for a model.

    Every try stands in one line, with all the accounts that it was charged to. `cost` is settled, `open` is held or in
    suspense and may still become a cost; `tries` counts both. `key` names the upstream's key that was billed.
    """

    at: int
    accounts: tuple[str, ...]
    upstream: str
    model: str
    provider: str
    tries: int
    cost: int
    open: int = 0
    key: str = ""


class Ledger(Protocol):
    """A store of accounts. Only `reserve` is waited for on the way to an upstream; what comes after never waits.

    Every operation may be repeated with the same hold: the second time changes nothing. `outlives` tells whether holds
    outlive this process.
    """

    outlives: bool

    async def open(self) -> None:
        """Be ready. May be repeated. Raises LedgerUnavailable."""
        ...

    async def reserve(self, hold: Hold) -> tuple[Crossed, ...]:
        """Hold the amount in every account or in none. Raises BudgetExceeded, LedgerUnavailable: nothing is held."""
        ...

    def identify(self, hold: str, generation_id: str) -> None:
        """The upstream has named the work: by this id its cost can be asked for."""
        ...

    def settle(
        self, hold: str, cost: int, *, provenance: Provenance = "billed", provider: str = "", model: str = ""
    ) -> None:
        """It cost so much; also for a hold in suspense. `model` is the one that was billed."""
        ...

    def suspend(self, hold: str, reason: str) -> None:
        """Nobody knows whether it was billed: it stays charged at its worst case."""
        ...

    def release(self, hold: str) -> None:
        """Nothing was sent, or surely nothing was billed; only its owner can know."""
        ...

    def adjust(self, hold: str, cost: int, *, provenance: Provenance) -> None:
        """A settled hold cost something else: the difference is written as a correction.

        One upward may exceed a limit: others were admitted beside the lower sum. The truth first.
        """
        ...

    def post(self, hold: Hold, cost: int) -> None:
        """A cost that was never held, because the store was down: written as soon as it can be."""
        ...

    async def flush(self) -> None:
        """Wait until everything said so far is written. Raises LedgerUnavailable when it cannot be."""
        ...

    async def balances(self, account: Account) -> tuple[Balance, ...]:
        """Every window of an account that has a limit. Raises LedgerUnavailable."""
        ...

    async def set_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit for every process from now on; None: as the policies say. Raises LedgerUnavailable."""
        ...

    async def unsettled(self) -> list[Entry]:
        """Every hold that is held or in suspense, in any process, oldest first. Raises LedgerUnavailable."""
        ...

    async def statement(self, since: float = 0.0, until: float = float("inf")) -> list[Line]:
        """What was paid, by hours of admission that begin in `[since, until)`. Raises LedgerUnavailable."""
        ...

    async def recover(self) -> int:
        """Put the holds of owners that are gone in suspense; how many. Raises LedgerUnavailable."""
        ...

    async def reset_clock(self) -> tuple[float, float]:
        """Take what the clock says now for the latest time seen: that before, and that from now on.

        For a clock that was in the future: windows that were used since may open anew. Raises LedgerUnavailable.
        """
        ...

    async def aclose(self) -> None:
        """Write what is left and let go. May be repeated."""
        ...


new_hold_id: Final = Ids("hold_", 10)
"""`hold_`, 80 random bits of this process, and a counter."""
