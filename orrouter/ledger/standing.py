"""How an account stands now: the ledger's time, the windows in force and their limits.

Law: what is looked up once and holds until a window ends or a limit changes. What is done with it is `rules`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orrouter.core.limit import PERIODS, Account, Period, owed
from orrouter.ledger.base import Bucket, BucketKey
from orrouter.ledger.windows import FOREVER, Window, window


class Calendar:
    """The windows in force, looked up once each, and a time that never runs backward.

    A clock that was set back would open a window anew that was used up; so the latest time seen counts.
    """

    __slots__ = ("_windows", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._windows: dict[tuple[Period, str], Window] = {}

    def at(self, wall: float) -> float:
        """The ledger's time; how far `wall` lies behind the latest time seen is 0 or more seconds."""
        if wall > self.now:  # noqa: PLR1730  # max() takes twice as long, and every hold passes here
            self.now = wall
        return self.now - wall

    def window(self, period: Period, zone: str) -> Window:
        """The window of that kind now."""
        found = self._windows.get((period, zone))
        if found is None or not found.start <= self.now < found.end:
            found = self._windows[period, zone] = window(period, zone, self.now)
        return found


class Place(NamedTuple):
    """A window to which an account is charged, with its limit.

    From `mark` on a soft threshold may have to be told. A window that is kept stays charged although this policy sets
    no limit for it, because another does, or the next will: both are infinite then.
    """

    bucket: Bucket
    limit: float
    mark: float


@dataclass(slots=True)
class Standing:
    """The windows of an account as they are in force until one of them ends."""

    account: Account
    places: tuple[Place, ...]
    until: float

    @property
    def windows(self) -> tuple[tuple[Bucket, int], ...]:
        """Those that have a limit here, and the limit."""
        return tuple((place.bucket, int(place.limit)) for place in self.places if place.limit != FOREVER)


def told_as(part: float) -> int:
    """How a bucket remembers that a soft threshold was told: in millionths of the limit."""
    return round(part * 1_000_000)


def mark_of(part: float, limit: int) -> int:
    """From which sum on, in nano-USD, a part of a limit is used. Exact: of a float only the millionths count."""
    return -(-told_as(part) * limit // 1_000_000)


def place_of(bucket: Bucket, limit: int | None, soft: Sequence[float]) -> Place:
    """A window with its limit, if it has one, and the lowest threshold that was not told yet."""
    if limit is None:
        return Place(bucket, FOREVER, FOREVER)
    mark = min([mark_of(part, limit) for part in soft if told_as(part) > bucket.told], default=FOREVER)
    return Place(bucket, limit, mark)


def nothing_kept(account: str) -> Iterable[Bucket]:  # noqa: ARG001  # the signature of a loader
    """A store in which every window that is kept is in hand."""
    return ()


class Accounts:
    """The accounts in hand: the windows that are kept for each, and how it stands.

    `bucket` fetches a window from the store by its key, `kept` all that are kept for an account and not over.
    """

    def __init__(
        self, bucket: Callable[[BucketKey], Bucket], kept: Callable[[str], Iterable[Bucket]] = nothing_kept
    ) -> None:
        self.calendar = Calendar()
        self.kept: OrderedDict[str, list[Bucket]] = OrderedDict()
        """The windows in hand, by account."""
        self.limits: dict[tuple[str, Period], int] = {}
        """The limits that were changed while running."""
        self._load_bucket, self._load_kept = bucket, kept
        self._standings: dict[str, Standing] = {}

    def forget(self) -> None:
        """Drop what is in hand: the store knows better."""
        self.kept.clear()
        self.limits.clear()
        self._standings.clear()

    def standing(self, account: Account) -> Standing:
        """The windows of an account now."""
        found = self._standings.get(account.name)
        if found is None or found.account != account or self.calendar.now >= found.until:
            return self._stand(account)
        found.account = account
        return found

    def _stand(self, account: Account) -> Standing:
        name, now = account.name, self.calendar.now
        limits: dict[Bucket, int] = {}
        for period, limit in self.limits_of(account):
            start, end = self.calendar.window(period, account.zone)
            bucket = self.bucket(BucketKey(name, period, start))
            bucket.until = end
            limits[bucket] = min(limit, limits.get(bucket, limit))
        live = [bucket for bucket in self._kept_of(name) if bucket.key.start <= now < bucket.until]
        places = tuple([place_of(bucket, limits.get(bucket), account.soft) for bucket in live])
        standing = Standing(account, places, min([bucket.until for bucket in live], default=FOREVER))
        self._standings[name] = standing
        self._tidy()
        return standing

    def bucket(self, key: BucketKey) -> Bucket:
        """One window, from hand or store."""
        kept = self._kept_of(key.account)
        for bucket in kept:
            if bucket.key == key:
                return bucket
        bucket = self._load_bucket(key)
        kept.append(bucket)
        self._standings.pop(key.account, None)
        return bucket

    def _kept_of(self, account: str) -> list[Bucket]:
        """The windows of an account that are in hand, with those that the store keeps for it."""
        kept = self.kept.get(account)
        if kept is None:
            kept = self.kept[account] = list(self._load_kept(account))
        return kept

    def rewind(self, now: float) -> None:
        """The ledger's time is `now`, also where that is earlier: what was over may be in force again."""
        self.calendar.now = now
        self._standings.clear()

    def limits_of(self, account: Account) -> tuple[tuple[Period, int], ...]:
        """The limits in force: those that were changed while running stand above the policy's."""
        if not self.limits:
            return account.limits
        limits: dict[Period, int] = dict(account.limits)
        for period in PERIODS:
            if (account.name, period) in self.limits:
                limits[period] = self.limits[account.name, period]
        return tuple(limits.items())

    def set_limit(self, account: str, period: Period, amount: int | None) -> None:
        """Change a limit; None: as the policies say. One below what is charged already stops admissions."""
        if amount is None:
            self.limits.pop((account, period), None)
        else:
            self.limits[account, period] = owed(amount)
        self._standings.pop(account, None)

    def _tidy(self) -> None:
        """Of the two accounts that were not looked at for longest, let go of windows that are over and hold nothing.

        Each account that comes in hand pays for this, so what is in hand stays within what is in use, without a sweep.
        """
        now, kept = self.calendar.now, self.kept
        for name in [name for name, _ in zip(kept, range(2), strict=False)]:
            kept[name] = [one for one in kept[name] if now < one.until or one.held or one.suspense]
            if kept[name]:
                kept.move_to_end(name)
            else:
                del kept[name]
                self._standings.pop(name, None)
