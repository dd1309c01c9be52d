"""Finds out what tries cost whose answer never told: they stay charged at their worst case until then.

By `GET /generation` where the upstream named the work; else by the growth of the key's usage; and after two days the
worst case is taken for the truth. Nothing that is remembered here matters: a new reconciler goes on by the ages of
the holds.

Law: opens no socket, reads no clock and owns no task: all is handed in. A 404 is never a zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Final, TypeVar

from orrouter.core.call import Target
from orrouter.core.clock import Clock
from orrouter.core.errors import RouterError
from orrouter.core.facts import Fact, HoldReconciled, ReconcileFailed
from orrouter.ledger.base import Entry, Ledger, Provenance
from orrouter.ledger.generation import Told, latest_ask, next_ask, told
from orrouter.ledger.keywatch import KeyWatch
from orrouter.ledger.lane import PAUSE_S, Fetch, Lane

T = TypeVar("T")
Keys = Callable[[], Mapping[str, str]]
"""For each upstream that can be asked about money the name of the key with which it is asked."""

WRITE_OFF_S: Final = 48 * 3600.0
"""After so long nobody will tell any more."""
IDLE_S: Final = 30.0
"""How often it is looked for holds that others left, at least."""
FIRST_S: Final = 1.0
"""A hold that has just become unknown is first asked for after so long."""
BATCH: Final = 20
"""So many questions to an upstream in one pass: what has come meanwhile gets its turn in the next."""
_EPSILON_S: Final = 0.001
"""Unix seconds are rounded to a quarter of a microsecond: what is due now must not wait for that."""


class Reconciler:
    """Settles holds in suspense as soon as their cost is known.

    `fetch(path, upstream, **query)` asks an upstream; `tell` hears a fact of each hold and each failure. `keys` says
    which upstreams can be asked, and with which key; None: every one that a hold names, and then no key's usage is
    watched. `random` spreads the idle looks of a fleet.
    """

    def __init__(
        self,
        ledger: Ledger,
        fetch: Fetch,
        clock: Clock,
        random: Random,
        tell: Callable[[Fact], None] | None = None,
        *,
        keys: Keys | None = None,
    ) -> None:
        self._ledger, self._fetch, self._clock, self._random = ledger, fetch, clock, random
        self._tell, self._keys = tell, keys
        self._lanes: dict[str, Lane] = {}
        self._watches: dict[str, KeyWatch] = {}
        self._asked: dict[str, float] = {}
        """At which age each hold was last asked for."""
        self._unanswered: dict[str, int] = {}
        """How often nobody answered for a hold: it then waits behind the others, lest it keep them from their turn."""
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self.due_in: float | None = None
        """Seconds from the end of the last pass until the next thing is to be done; None: nothing is unknown."""

    def wake(self) -> None:
        """A hold has just been suspended: look soon."""
        self._woken.set()

    async def run(self) -> None:
        """Look whenever something is due, and now and then, until cancelled; no failure ends it."""
        while True:
            self._woken.clear()
            try:
                await self.once()
            except Exception as error:
                self.due_in = PAUSE_S
                self._failed("", error, PAUSE_S)
            await self._rest()

    async def _rest(self) -> None:
        idle = IDLE_S * (0.8 + 0.2 * self._random.random())
        rest = idle if self.due_in is None else min(max(self.due_in, _EPSILON_S), idle)
        with suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await self._woken.wait()
        if self._woken.is_set():
            await self._clock.sleep(FIRST_S)

    async def once(self) -> int:
        """Ask what is due now, and settle what is known; how many holds that were. Raises LedgerUnavailable."""
        async with self._turn:
            await self._ledger.flush()
            await self._ledger.recover()
            open_ = await self._ledger.unsettled()
            keys = self._keys() if self._keys is not None else None
            names = dict.fromkeys([*(keys or ()), *(entry.hold.upstream for entry in open_)])
            self._forget(open_, names)
            passes = (self._pass(name, [one for one in open_ if one.hold.upstream == name], keys) for name in names)
            passed = _sound(await asyncio.gather(*passes, return_exceptions=True))
            self.due_in = self._due_in([entry for _, left in passed for entry in left], keys)
            return sum(resolved for resolved, _ in passed)

    async def _pass(self, upstream: str, open_: list[Entry], keys: Mapping[str, str] | None) -> tuple[int, list[Entry]]:
        """One upstream's turn: how many of its holds were resolved, and which are still open."""
        done: set[str] = set()
        askable = keys is None or upstream in keys
        if askable:
            done |= await self._ask_each(self._lane(upstream), open_)
        for entry in _without(open_, done):
            if self._is_lost(entry, askable):
                self._settle(entry, Told(entry.amount, "", ""), "written_off")
                done.add(entry.id)
        if keys is not None and upstream in keys:
            watch = self._watch(upstream, keys[upstream])
            mine = [entry for entry in _without(open_, done) if entry.hold.key == watch.key]
            for entry, cost in await watch.resolve(mine):
                self._settle(entry, Told(cost, "", ""), "bounded")
                done.add(entry.id)
        return len(done), _without(open_, done)

    # --- by its id --------------------------------------------------------------------------------------

    async def _ask_each(self, lane: Lane, open_: Sequence[Entry]) -> set[str]:
        """Ask for every hold whose time has come; those that are resolved."""
        due = sorted((one for one in open_ if self._is_due(one)), key=self._turn_of)
        return {entry.id for entry in due[:BATCH] if await self._ask(lane, entry)}

    async def _ask(self, lane: Lane, entry: Entry) -> bool:
        if lane.paused_for > 0:
            return False
        answer = await lane.get("generation", id=entry.generation_id)
        if answer is None:
            self._unanswered[entry.id] = self._unanswered.get(entry.id, 0) + 1
            return False
        age = self._age(entry)
        self._asked[entry.id] = age
        found = told(answer, entry.generation_id, age_s=age + _EPSILON_S)
        if found is not None:
            self._settle(entry, found, "reconciled")
        return found is not None

    def _age(self, entry: Entry) -> float:
        """Seconds since the try ended here."""
        return self._clock.wall() - _ended(entry)

    def _is_due(self, entry: Entry) -> bool:
        if entry.state != "suspense" or not entry.generation_id:
            return False
        return latest_ask(self._age(entry) + _EPSILON_S) > self._asked.get(entry.id, 0.0) + _EPSILON_S

    def _due_at(self, entry: Entry) -> float:
        """Unix seconds at which it is or was to be asked for."""
        return _ended(entry) + next_ask(self._asked.get(entry.id, 0.0) + _EPSILON_S)

    def _turn_of(self, entry: Entry) -> tuple[int, float]:
        """The longest due comes first, behind it whom nobody answered for."""
        return self._unanswered.get(entry.id, 0), self._due_at(entry)

    def _is_lost(self, entry: Entry, askable: bool) -> bool:
        """Whether it is too late to be told: two days old, and its id was asked for once more since."""
        if entry.state != "suspense" or self._age(entry) + _EPSILON_S < WRITE_OFF_S:
            return False
        return not (entry.generation_id and askable) or self._asked.get(entry.id, 0.0) + _EPSILON_S >= WRITE_OFF_S

    # --- the rest ---------------------------------------------------------------------------------------

    def _lane(self, upstream: str) -> Lane:
        lane = self._lanes.get(upstream)
        if lane is None:
            lane = self._lanes[upstream] = Lane(upstream, self._fetch, self._clock, self._failed)
        return lane

    def _watch(self, upstream: str, key: str) -> KeyWatch:
        """The watch of the upstream's key; another key's is of no use any more."""
        watch = self._watches.get(upstream)
        if watch is None or watch.key != key:
            watch = self._watches[upstream] = KeyWatch(key, self._ledger, self._lane(upstream), self._clock)
        return watch

    def _settle(self, entry: Entry, found: Told, provenance: Provenance) -> None:
        self._ledger.settle(
            entry.id, found.cost, provenance=provenance, provider=found.provider, model=found.model or entry.model
        )
        self._say(
            HoldReconciled(
                request_id=entry.hold.request_id,
                hold=entry.id,
                upstream=entry.hold.upstream,
                model=found.model or entry.model,
                held_nano=entry.amount,
                cost_nano=found.cost,
                provenance=provenance,
            )
        )

    def _failed(self, upstream: str, error: Exception, pause: float) -> None:
        what = str(error) if isinstance(error, RouterError) else f"{type(error).__name__}: {error}"
        self._say(ReconcileFailed(upstream=upstream, error=what, retry_in_s=pause))

    def _say(self, fact: Fact) -> None:
        if self._tell is not None:
            with suppress(Exception):  # A listener's mistake must not leave a cost unknown.
                self._tell(fact)

    def _forget(self, open_: Sequence[Entry], names: Iterable[str]) -> None:
        """Drop what is known of holds and upstreams that are gone."""
        ids, kept = {entry.id for entry in open_}, set(names)
        self._asked = {hold: age for hold, age in self._asked.items() if hold in ids}
        self._unanswered = {hold: times for hold, times in self._unanswered.items() if hold in ids}
        self._lanes = {name: lane for name, lane in self._lanes.items() if name in kept}
        self._watches = {name: watch for name, watch in self._watches.items() if name in kept}

    def _due_in(self, left: Sequence[Entry], keys: Mapping[str, str] | None) -> float | None:
        unknown = [entry for entry in left if entry.state == "suspense"]
        waits = [self._wait(entry, keys) for entry in unknown]
        return min([*waits, *(due for one in self._watches.values() if (due := one.due_in) is not None)], default=None)

    def _wait(self, entry: Entry, keys: Mapping[str, str] | None) -> float:
        """Seconds until something is to be done about a hold."""
        upstream = entry.hold.upstream
        if entry.generation_id and (keys is None or upstream in keys):
            wait = max(self._due_at(entry) - self._clock.wall(), self._lane(upstream).paused_for)
        else:
            wait = WRITE_OFF_S - self._age(entry)
        return max(wait, 0.0)


def askable(upstreams: Mapping[str, Target]) -> dict[str, str]:
    """The upstreams that tell what a try and a key cost, each with the name of its key: those of OpenRouter's kind."""
    return {name: one.key for name, one in upstreams.items() if one.dialect == "openrouter" and one.key}


def _ended(entry: Entry) -> float:
    return entry.admitted if entry.ended is None else entry.ended


def _without(entries: Iterable[Entry], done: set[str]) -> list[Entry]:
    return [entry for entry in entries if entry.id not in done]


def _sound(results: Iterable[T | BaseException]) -> list[T]:
    """The results, all of them; raises the first that is an error."""
    sound: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        sound.append(result)
    return sound
