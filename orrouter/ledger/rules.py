"""The arithmetic of accounts: what is admitted, and what each step in the life of a hold does to the sums.

Law: pure; every store applies these rules and none has its own. The sums of a window only grow by an admission, which
fits; every later step takes the hold out and puts no more back, unless the true cost was more than was held. So
settled + held + suspense never exceeds a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from orrouter.core.limit import Account, owed
from orrouter.ledger.base import Bucket, BucketKey, Crossed, Denied, Entry, Hold, Provenance
from orrouter.ledger.recent import Recent
from orrouter.ledger.standing import Accounts, mark_of, nothing_kept, told_as

T = TypeVar("T")
REMEMBERED_DENIALS: Final = 4096
"""A denied id stays denied; so many of the last ones are remembered."""


OPEN: Final = frozenset({"held", "suspense"})
"""States that are not the last word."""
DONE: Final = frozenset({"settled", "released"})
"""States in which no sum is open any more."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A settled cost that was changed later: append-only. Amounts in nano-USD, `at` in unix seconds."""

    hold: str
    before: int
    after: int
    provenance: Provenance
    at: float


@dataclass(slots=True)
class Changes:
    """What a store has yet to write: the entries that were changed, the corrections that were made."""

    entries: dict[str, Entry] = field(default_factory=dict)
    corrections: list[Correction] = field(default_factory=list)

    @property
    def buckets(self) -> set[Bucket]:
        """The windows that were changed: no sum ever changes but by an entry."""
        return {bucket for entry in self.entries.values() for bucket in entry.buckets}

    def clear(self) -> None:
        """They are written."""
        self.entries.clear()
        self.corrections.clear()


class Book(Accounts):
    """The sums and the open holds in hand.

    What is not in hand is fetched from the store: a window by its key, a hold by its id, and the windows that are kept
    for an account and not over. Each operation answers with the entry that it changed, or with None: a second one with
    the same id changes nothing, and neither does one that the state of the hold does not allow. A store that has
    nothing to write `tracks` no changes.
    """

    def __init__(
        self,
        bucket: Callable[[BucketKey], Bucket],
        entry: Callable[[str], Entry | None],
        kept: Callable[[str], Iterable[Bucket]] = nothing_kept,
        *,
        seen: Callable[[str], bool] | None = None,
        tracks: bool = True,
    ) -> None:
        super().__init__(bucket, kept)
        self._seen = seen or self._fetched
        self.entries: dict[str, Entry] = {}
        """The open holds in hand, oldest first."""
        self.changes = Changes()
        self._load_entry, self._tracks = entry, tracks
        self._denied: Recent[Denied] = Recent(REMEMBERED_DENIALS)

    def forget(self) -> None:
        """Drop what is in hand: the store knows better."""
        super().forget()
        self.entries.clear()
        self.changes.clear()

    def _tidy(self) -> None:
        """What has yet to be written is kept: who asked the store for it meanwhile would get an older sum."""
        if not self.changes.entries:
            super()._tidy()

    # --- admission --------------------------------------------------------------------------------------

    def admit(self, hold: Hold, owner: str) -> Denied | tuple[Crossed, ...]:
        """Hold the amount in every window of every account, if it fits in each; else in none, and say why."""
        id_, amount, now, noted = hold.id, hold.amount, self.calendar.now, False
        answered = self._answered(id_, amount)
        if answered is not None:
            return answered
        standings, payers, buckets = self._standings, [], []
        for account in hold.accounts:
            name = account.name
            payers.append(name)
            standing = standings.get(name)
            if standing is None or standing.account is not account or now >= standing.until:
                standing = self.standing(account)
            for bucket, limit, mark in standing.places:
                charged = bucket.settled + bucket.held + bucket.suspense + amount
                if charged > limit:
                    return self._deny(hold)
                buckets.append(bucket)
                noted |= charged >= mark
        if len(payers) > 1:
            payers, buckets = _once(payers), _once(buckets)
        for bucket in buckets:
            bucket.held += amount
        entry = Entry(hold, tuple(payers), tuple(buckets), now, owner, "held", None, hold.model)
        self.entries[id_] = entry
        if self._tracks:
            self._note(entry)
        return self._crossed(hold.accounts) if noted else ()

    def _answered(self, hold: str, amount: int) -> Denied | tuple[()] | None:
        """What was said to this id before: an admitted one is not charged again, a denied one stays denied."""
        if amount < 0:
            owed(amount)
        if hold in self.entries or hold in self.changes.entries or self._seen(hold):
            return ()
        return self._denied.get(hold)

    def _fetched(self, hold: str) -> bool:
        return self._load_entry(hold) is not None

    def _deny(self, hold: Hold) -> Denied | tuple[()]:
        """Name the window with the least room, of several the one that lasts longest, and remember it."""
        if self._load_entry(hold.id) is not None:
            return ()  # It was admitted before, and whoever keeps the holds had not been asked.
        zone, bucket, limit = min(
            [
                (account.zone, bucket, limit)
                for account in hold.accounts
                for bucket, limit in self.standing(account).windows
            ],
            key=lambda one: (one[2] - one[1].charged, -one[1].until),
        )
        account, period, _ = bucket.key
        denied = Denied(account, period, limit, limit - bucket.charged, bucket.until, zone)
        self._denied.add(hold.id, denied)
        return denied

    def _crossed(self, accounts: Sequence[Account]) -> tuple[Crossed, ...]:
        """The soft thresholds that were passed by now and not told yet, in any process."""
        crossed = []
        for account in accounts:
            for bucket, limit in self.standing(account).windows:
                for part in sorted(account.soft):
                    if told_as(part) > bucket.told and bucket.charged >= mark_of(part, limit):
                        bucket.told = told_as(part)
                        crossed.append(Crossed(account.name, bucket.key.period, part, bucket.charged, limit))
            self._standings.pop(account.name, None)
        return tuple(crossed)

    # --- the life of a hold -----------------------------------------------------------------------------

    def entry(self, hold: str) -> Entry | None:
        """The hold, from hand or store; None when nobody knows it (any more)."""
        return self.entries.get(hold) or self.changes.entries.get(hold) or self._load_entry(hold)

    def identify(self, hold: str, generation_id: str) -> Entry | None:
        """By this id the upstream tells the cost of an open hold."""
        entry = self.entry(hold)
        if entry is None or entry.state not in OPEN or entry.generation_id == generation_id:
            return None
        entry.generation_id = generation_id
        return self._note(entry)

    def settle(
        self, hold: str, cost: int, *, provenance: Provenance = "billed", provider: str = "", model: str = ""
    ) -> Entry | None:
        """Held or in suspense becomes settled at its cost, also where that is more than was held: the truth first."""
        entry = self.entries.get(hold) or self.entry(hold)
        if entry is None or entry.state not in OPEN:
            return None
        self._take_out(entry, cost)
        entry.state, entry.provenance = "settled", provenance
        if provider:
            entry.provider = provider
        if model:
            entry.model = model
        if self._tracks:
            self._note(entry)
        return entry

    def release(self, hold: str) -> Entry | None:
        """Held becomes released; from suspense nothing is ever released."""
        entry = self.entry(hold)
        if entry is None or entry.state != "held":
            return None
        self._take_out(entry, 0)
        entry.state = "released"
        return self._note(entry)

    def suspend(self, hold: str, reason: str) -> Entry | None:
        """Held becomes suspense: as much is charged as before."""
        entry = self.entry(hold)
        if entry is None or entry.state != "held":
            return None
        amount = entry.hold.amount
        for bucket in entry.buckets:
            bucket.held -= amount
            bucket.suspense += amount
        entry.state, entry.reason, entry.ended = "suspense", reason, self.calendar.now
        return self._note(entry)

    def adjust(self, hold: str, cost: int, provenance: Provenance) -> Entry | None:
        """Settled at one cost becomes settled at another; the correction is kept for ever."""
        entry = self.entry(hold)
        if entry is None or entry.state != "settled" or entry.cost is None or entry.cost == owed(cost):
            return None
        entry.buckets = self._reached(entry)
        for bucket in entry.buckets:
            bucket.settled += cost - entry.cost
        if self._tracks:
            self.changes.corrections.append(Correction(hold, entry.cost, cost, provenance, self.calendar.now))
        entry.cost, entry.provenance = cost, provenance
        return self._note(entry)

    def post(self, hold: Hold, cost: int, owner: str) -> Entry | None:
        """Charge a cost that was never admitted: it was spent while the store was down, and no limit can undo that.

        Where it was held after all, because only the answer of the store was lost, the hold is settled.
        """
        if self.entry(hold.id) is not None:
            return self.settle(hold.id, cost, provenance="unheld")
        owed(cost)
        places = [place for account in hold.accounts for place in self.standing(account).places]
        buckets = tuple(dict.fromkeys(place.bucket for place in places))
        for bucket in buckets:
            bucket.settled += cost
        names = tuple(dict.fromkeys(account.name for account in hold.accounts))
        now = self.calendar.now
        entry = Entry(hold, names, buckets, now, owner, "settled", cost, hold.model, provenance="unheld", ended=now)
        return self._note(entry)

    def _take_out(self, entry: Entry, cost: int) -> None:
        """Take an open hold out of its windows, and settle the cost there."""
        if cost < 0:
            owed(cost)
        hold = entry.hold
        amount = hold.amount
        if entry.state == "held":
            for bucket in entry.buckets:
                bucket.held -= amount
                bucket.settled += cost
        else:
            for bucket in entry.buckets:
                bucket.suspense -= amount
                bucket.settled += cost
        entry.cost, entry.ended = cost, self.calendar.now
        self.entries.pop(hold.id, None)

    def _reached(self, entry: Entry) -> tuple[Bucket, ...]:
        """The windows in which a settled cost counts: those it was charged to, and those that are kept only since."""
        at = entry.admitted
        since = [
            bucket
            for name in entry.accounts
            for bucket in self.kept.get(name, ())
            if bucket.key.start <= at < bucket.until
        ]
        return tuple(dict.fromkeys((*entry.buckets, *since)))

    def _note(self, entry: Entry) -> Entry:
        """It has yet to be written."""
        if self._tracks:
            self.changes.entries[entry.hold.id] = entry
        return entry


def _once(things: list[T]) -> list[T]:
    """Each but once, as where two layers name the same account."""
    return things if len({*things}) == len(things) else list(dict.fromkeys(things))
