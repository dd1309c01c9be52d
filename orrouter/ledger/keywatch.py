"""Watches the usage of one key, so that tries which nobody names by an id are bounded by its growth.

Two readings that lie far enough apart and agree, while nothing else of the key was open or was settled, are believed.
They are compared with a baseline, taken while nothing at all was open, and with the upstream's own count of the UTC
day, week or month in which all began; the smaller sum is the bound.

Law: when to read, and what to believe. The sums are `keyusage`'s; nothing is settled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orrouter.core.clock import Clock
from orrouter.ledger.base import Entry, Ledger, Line
from orrouter.ledger.generation import HOURLY_S
from orrouter.ledger.keyusage import Mark, Reading, bound, calendar_mark, paid_for, read_key, split
from orrouter.ledger.lane import NOT_THERE, Lane
from orrouter.ledger.statement import hour_of

LAG_S: Final = 600.0
"""So far apart two readings must agree: a key's usage follows a charge by minutes (observed; no document bounds it)."""
WORKS_S: Final = 900.0
"""So long after it was left a try may still be worked on and billed: the longest time a provider was seen to take."""
NEVER: Final = float("-inf")
FRESH_S: Final = 300.0
"""A baseline is taken anew at most so often while calls come and go; every hour while there are none."""


class Seen(NamedTuple):
    """What stood upstream and in the ledger at one moment."""

    reading: Reading
    lines: tuple[Line, ...]
    open: frozenset[str]


class KeyWatch:
    """Bounds the open tries of one key of one upstream."""

    def __init__(self, key: str, ledger: Ledger, lane: Lane, clock: Clock) -> None:
        self.key = key
        self._ledger, self._lane, self._clock = ledger, lane, clock
        self._baseline: Mark | None = None
        self._based_at = NEVER
        self._label = ""
        self._first: Seen | None = None
        self._again_at = NEVER

    @property
    def due_in(self) -> float | None:
        """Seconds until the next reading for tries that are open; None: there are none that can be bounded."""
        return None if self._again_at == NEVER else max(0.0, self._again_at - self._clock.now())

    async def resolve(self, open_: Sequence[Entry]) -> list[tuple[Entry, int]]:
        """What is proven about the open tries of this key: each with its cost in nano-USD, or nothing yet."""
        if not open_:
            self._restart()
            await self._refresh()
        elif not all(ripe(entry, self._clock.wall()) for entry in open_):
            self._restart()
        elif self._clock.now() >= self._again_at:
            return await self._agree(open_)
        return []

    def _restart(self) -> None:
        self._first, self._again_at = None, NEVER

    async def _refresh(self) -> None:
        """Nothing is open: growth can be counted from here on."""
        age = self._clock.now() - self._based_at
        if age < FRESH_S or (age < HOURLY_S and not await self._moved()):
            return
        self._based_at = self._clock.now()
        since = hour_of(self._clock.wall())
        seen = await self._see(since, ())
        if seen is not None:
            paid = paid_for(seen.lines, self._lane.upstream, self.key)
            self._baseline = Mark("usage", since, seen.reading.figures["usage"], paid.amount, paid.tries)
            self._label = seen.reading.label

    async def _moved(self) -> bool:
        """Whether anything was settled since the baseline."""
        base = self._baseline
        if base is None:
            return True
        paid = paid_for(await self._lines(base.since), self._lane.upstream, self.key)
        return paid != (base.paid, base.tries)

    async def _agree(self, open_: Sequence[Entry]) -> list[tuple[Entry, int]]:
        """Read, and compare with the first reading."""
        marks = [mark for mark in (self._baseline, self._calendar(open_)) if mark is not None]
        if not marks:
            return []
        seen = await self._see(min(mark.since for mark in marks), open_)
        if seen is None or seen != self._first:
            self._first, self._again_at = seen, self._clock.now() + LAG_S
            return []
        proven = self._bound(seen, marks)
        if proven is None or proven > sum(entry.amount for entry in open_):
            self._again_at = self._clock.now() + HOURLY_S
            return []
        self._restart()
        self._baseline, self._based_at = None, NEVER
        return list(split(proven, open_))

    def _calendar(self, open_: Sequence[Entry]) -> Mark | None:
        return calendar_mark(min(entry.admitted for entry in open_), self._clock.wall())

    def _bound(self, seen: Seen, marks: Sequence[Mark]) -> int | None:
        """The smallest of the bounds; None where one of them contradicts the ledger: then none is believed."""
        bounds = []
        for mark in marks:
            if mark is self._baseline and seen.reading.label != self._label:
                self._baseline = None  # Another key's usage.
                return None
            if mark.figure in seen.reading.figures:
                paid = paid_for(seen.lines, self._lane.upstream, self.key, mark.since)
                bounds.append(bound(seen.reading, mark, paid))
        known = [one for one in bounds if one is not None]
        return min(known) if known and len(known) == len(bounds) else None

    async def _see(self, since: float, open_: Sequence[Entry]) -> Seen | None:
        """Upstream and ledger at one moment; None where the ledger moved meanwhile, or nobody answered."""
        expected = frozenset(entry.id for entry in open_)
        before = await self._lines(since)
        reading = await self._read()
        if reading is None or await self._lines(since) != before or await self._open() != expected:
            return None
        return Seen(reading, before, expected)

    async def _read(self) -> Reading | None:
        answer = await self._lane.get("key")
        if answer is NOT_THERE:
            answer = await self._lane.get("auth/key")
        return None if answer is None else read_key(answer)

    async def _lines(self, since: float) -> tuple[Line, ...]:
        """The key's lines of the statement."""
        lines = await self._ledger.statement(since)
        return tuple(line for line in lines if line.upstream == self._lane.upstream and line.key == self.key)

    async def _open(self) -> frozenset[str]:
        entries = await self._ledger.unsettled()
        mine = (one for one in entries if one.hold.upstream == self._lane.upstream and one.hold.key == self.key)
        return frozenset(entry.id for entry in mine)


def ripe(entry: Entry, wall: float) -> bool:
    """Whether a try lets its key be read: it is over, nobody can still be at work on it, and no id leads to its cost.

    While the upstream has not found a try that it named, its usage may be just as late.
    """
    unknown = entry.state == "suspense" and not entry.generation_id
    return unknown and entry.ended is not None and wall - entry.ended >= WORKS_S
