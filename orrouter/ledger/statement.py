"""The statement: what was paid, hour by hour, and what a window that is new to the ledger has seen already.

Law: pure sums over settled and open entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orrouter.ledger.base import Bucket, BucketKey, Entry, Line
from orrouter.ledger.windows import FOREVER, HOUR_S

DAY_S: Final = 86400
KEPT_S: Final = 400 * DAY_S
"""How long a line is kept, in seconds."""
MOST_LINES: Final = 100_000
"""How many are: where every user is an account of his own, a line is a user in an hour. The oldest hours go first."""


AT_ONCE: Final = 256
"""Entries that are added up together, or before somebody reads."""
_Payment = tuple[tuple[str, ...], str, str, str, str]
"""What makes two tries of one hour one line: accounts, upstream, model, provider, key."""


class Statement:
    """Settled tries, added up by hour, accounts, upstream, model, provider and key: it does not grow with the calls.

    A window that began before the oldest line, and is kept only since, misses what was paid before it.
    """

    def __init__(self, kept_s: float = KEPT_S, most: int = MOST_LINES) -> None:
        self._kept_s, self._most, self._count = kept_s, most, 0
        self._hours: dict[int, dict[_Payment, list[int]]] = {}
        self._of: dict[str, list[tuple[int, list[int]]]] = {}
        """The same sums, by account."""
        self._new: list[tuple[Entry, int, int]] = []
        """What has yet to be added up: many at once cost half of what they cost one by one."""

    def __len__(self) -> int:
        self._add_up()
        return self._count

    def add(self, entry: Entry, cost: int, tries: int = 1) -> None:
        """A settled entry; or a correction, with the difference as `cost` and no try."""
        self._new.append((entry, cost, tries))
        if len(self._new) >= AT_ONCE:
            self._add_up()

    def _add_up(self) -> None:
        new, self._new = self._new, []
        for entry, cost, tries in new:
            at, payment = hour_of(entry.admitted), _payment_of(entry)
            lines = self._hours.get(at)
            sums = None if lines is None else lines.get(payment)
            if sums is None:
                sums = self._begin(at, payment)
            sums[0] += tries
            sums[1] += cost

    def lines(self, open_: Iterable[Entry], since: float, until: float) -> list[Line]:
        """The lines of hours that begin in `[since, until)`, with what is still open in them, in order."""
        self._add_up()
        lines = {
            (at, payment): [*sums, 0]
            for at, payments in self._hours.items()
            if since <= at < until
            for payment, sums in payments.items()
        }
        for entry in open_:
            at = hour_of(entry.admitted)
            if since <= at < until:
                sums = lines.setdefault((at, _payment_of(entry)), [0, 0, 0])
                sums[0] += 1
                sums[2] += entry.amount
        return [
            Line(at, accounts, upstream, model, provider, tries, cost, still, key)
            for (at, (accounts, upstream, model, provider, key)), (tries, cost, still) in sorted(lines.items())
        ]

    def settled(self, key: BucketKey, until: float = FOREVER) -> int:
        """What the account of a window has paid from its start to `until`; all of the hour within which it may begin.

        What was paid after now was so by a clock that has been reset.
        """
        self._add_up()
        first = hour_of(key.start)
        return sum(sums[1] for at, sums in self._of.get(key.account, ()) if first <= at <= until)

    def _begin(self, at: int, payment: _Payment) -> list[int]:
        if at not in self._hours:
            self._hours[at] = {}
            self._forget([hour for hour in self._hours if hour < at - self._kept_s])
        if self._count >= self._most and len(self._hours) > 1:
            self._forget([min(hour for hour in self._hours if hour != at)])
        sums = self._hours[at][payment] = [0, 0]
        self._count += 1
        for account in payment[0]:
            self._of.setdefault(account, []).append((at, sums))
        return sums

    def _forget(self, hours: list[int]) -> None:
        """Drop the lines of these hours."""
        gone = [payment for hour in hours for payment in self._hours.pop(hour)]
        self._count -= len(gone)
        for account in {account for payment in gone for account in payment[0]}:
            left = [one for one in self._of[account] if one[0] not in hours]
            if left:
                self._of[account] = left
            else:
                del self._of[account]


def begun(key: BucketKey, settled: int, open_: Iterable[Entry], until: float = FOREVER) -> Bucket:
    """A window that begins only now to be kept, with what its account has spent and holds since the window's start.

    What was admitted after `until` does not count. The open holds are charged to it from now on, as if it had been kept
    all along.
    """
    bucket = Bucket(key, settled)
    for entry in open_:
        if key.account in entry.accounts and key.start <= entry.admitted <= until:
            entry.buckets = (*entry.buckets, bucket)
            if entry.state == "held":
                bucket.held += entry.amount
            else:
                bucket.suspense += entry.amount
    return bucket


def seen_until(key: BucketKey, now: float) -> float:
    """Until when a window that begins to be kept `now` counts: a lifetime also has what a wrong clock put later."""
    return FOREVER if key.period == "lifetime" else now


def hour_of(at: float) -> int:
    """The start of the UTC hour of an instant."""
    second = int(at)
    return second - second % HOUR_S


def _payment_of(entry: Entry) -> _Payment:
    hold = entry.hold
    return entry.accounts, hold.upstream, entry.model, entry.provider, hold.key
