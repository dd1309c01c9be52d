"""The spool: what is asked of a store and told to it, done in order, all that one turn of the loop brings at once.

Law: runs on the loop's own thread and never blocks it: a store that is busy is tried again a moment later. What is
told (a cost, an outcome) is kept until it is written; what is asked (a hold) fails when the store does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from orrouter.core.errors import LedgerUnavailable

BATCH: Final = 2000
"""Operations in one turn at most."""
LINGER_S: Final = 0.005
"""What is told waits so long for something that is asked, to be written with it."""
PATIENCE_S: Final = 10.0
"""What is asked waits so long for its turn."""
AGAIN_S: Final = (0.1, 5.0)
"""After a failure what was told is tried again, first after the one, later after the other."""


class Busy(Exception):
    """Somebody else is writing: try again in a moment."""


class Op:
    """One operation of a store, by the name of its method: `asked` by somebody who wants the outcome, or told."""

    __slots__ = ("args", "asked", "done", "fresh", "future", "name", "outcome", "since")

    def __init__(self, name: str, args: tuple[Any, ...], asked: bool, since: float) -> None:
        self.name, self.args, self.asked, self.since = name, args, asked, since
        self.outcome: Any = None
        self.done = self.fresh = False
        """Fresh: it made a hold that was not there before."""
        self.future: asyncio.Future[None] | None = None
        """On which the one who asked waits, where it was not done at once."""

    @property
    def left(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future is not None and self.future.done()

    def finish(self) -> None:
        """It has its outcome."""
        self.done = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Turner(Protocol):
    """A store: does the operations of one turn, all or none."""

    shared: bool

    def run(self, ops: Sequence[Op]) -> None:
        """Write each outcome into its operation. Raises Busy, LedgerUnavailable."""
        ...

    def note(self, ops: Sequence[Op]) -> None:
        """Put words that could not be written where they survive this process, if there is such a place."""
        ...

    def strike(self) -> None:
        """They are written now."""
        ...


class Turns:
    """The queue of one store. What is asked waits at most `patience` seconds for its turn.

    `chance` gives numbers in [0, 1), so that those who wait do not all come back at once.
    """

    def __init__(
        self, store: Turner, patience: float = PATIENCE_S, chance: Callable[[], float] = random.random
    ) -> None:
        self._store, self._patience, self._chance = store, patience, chance
        self._queue: list[Op] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.Handle | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._not_before = 0.0
        self._busy_since: float | None = None
        self._again = AGAIN_S[0]
        self._noted: set[int] = set()
        self._asked = 0
        """How many asked in the last turn: one who is alone is served at once, but not twice in a turn of the loop."""
        self._hasty = False
        self.problem: LedgerUnavailable | None = None
        """Why the turn before failed."""

    def __len__(self) -> int:
        return len(self._queue)

    def say(self, name: str, *args: Any) -> None:
        """Tell the store something; it is written soon, at the latest when the store can write again."""
        self._queue.append(Op(name, args, False, 0.0))
        if self._timer is None and self._handle is None and self._loop is not None and not self._loop.is_closed():
            self._timer = self._loop.call_later(LINGER_S, self._lingered)

    def unsay(self, name: str, about: str) -> Any:
        """What was told just before, if it is this word about the same: then it need not be done by itself.

        None where it is not, or where it is kept elsewhere already.
        """
        last = self._queue[-1] if self._queue and not self._noted else None
        if last is None or last.name != name or last.asked or last.args[0] != about:
            return None
        return self._queue.pop().args[1]

    async def ask(self, name: str, *args: Any) -> Any:
        """Ask the store something and wait for its turn. Raises what the operation raises, and LedgerUnavailable."""
        op = self._queued(name, args)
        future = op.future
        if future is not None:
            try:
                await future
            except BaseException:
                if not future.cancel() and op.fresh:
                    self.say("release", op.args[0].id)  # Held, but whoever asked is gone: nothing was sent.
                raise
        if isinstance(op.outcome, BaseException):
            raise op.outcome
        return op.outcome

    def _lingered(self) -> None:
        """Nothing was asked meanwhile, or it was written with that: then nothing is left to do."""
        self._timer = None
        if self._queue and self._handle is None:
            self._soon(0.0 if self.problem is None else self._again)

    def _queued(self, name: str, args: tuple[Any, ...]) -> Op:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        now = loop.time()
        op = Op(name, args, True, now)
        self._queue.append(op)
        if self._handle is None and self._asked <= 1 and not self._hasty and now >= self._not_before:
            self._hasty = True
            loop.call_soon(self._calm)
            self._turn()
        else:
            self._soon(0.0)
        if not op.done:
            op.future = loop.create_future()
        return op

    def _calm(self) -> None:
        """The turn of the loop is over."""
        self._hasty = False

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Another loop runs now: nobody waits in the one before any more."""
        self._queue = [op for op in self._queue if not op.asked]
        self._loop, self._handle, self._timer = loop, None, None
        self._not_before, self._busy_since, self._hasty = 0.0, None, False

    def _soon(self, delay: float) -> None:
        """Have a turn after so many seconds, or before."""
        loop = self._loop
        assert loop is not None
        now = loop.time()
        due = max(now + delay, self._not_before)
        if self._handle is not None:
            if self._due <= due:
                return
            self._handle.cancel()
        self._due = due
        self._handle = loop.call_soon(self._turn) if due <= now else loop.call_at(due, self._turn)

    def _turn(self) -> None:
        self._handle = None
        ops = self._waiting()
        if not ops:
            return
        self._asked = sum([op.asked for op in ops])
        try:
            self._store.run(ops)
        except Busy:
            self._wait()
        except LedgerUnavailable as error:
            self._failed(ops, error)
        else:
            self._done(ops)

    def _waiting(self) -> list[Op]:
        """The next operations, without those that nobody waits for any more."""
        ops = self._queue[:BATCH]
        if any([op.future is not None and op.left for op in ops]):  # noqa: C419  # twice as fast
            self._queue = [op for op in self._queue if not op.left]
            ops = self._queue[:BATCH]
        return ops

    def _done(self, ops: list[Op]) -> None:
        del self._queue[: len(ops)]
        self.problem, self._busy_since, self._again = None, None, AGAIN_S[0]
        if self._noted:
            self._noted.difference_update(map(id, ops))
            if not self._noted:
                self._store.strike()
        for op in ops:
            if op.asked:
                op.finish()
        assert self._loop is not None
        if self._store.shared:  # Others write too: leave them a moment, and gather more for one turn.
            self._not_before = self._loop.time() + 0.001 + 0.001 * self._chance()
        if self._queue:
            self._soon(0.0)

    def _wait(self) -> None:
        """Somebody else is at it: come back in a moment; after long, less often."""
        assert self._loop is not None
        now = self._loop.time()
        if self._busy_since is None:
            self._busy_since = now
        waited = now - self._busy_since
        self._not_before = 0.0
        late = [op for op in self._queue if op.asked and now - op.since > self._patience]
        if late:
            self._fail(late, LedgerUnavailable(STUCK.format(seconds=self._patience)))
        if self._queue:
            self._not_before = now + (0.0003 + 0.0012 * self._chance() if waited < 1 else 0.02 + 0.02 * self._chance())
            self._soon(0.0)

    def _failed(self, ops: list[Op], error: LedgerUnavailable) -> None:
        """What was asked fails; what was told is kept, and tried again, less and less often."""
        self._fail([op for op in ops if op.asked], error)
        if self._queue:
            self._note()
            self._soon(self._again)
            self._again = min(2 * self._again, AGAIN_S[1])

    def _note(self) -> None:
        """What could not be written is to survive us."""
        new = [op for op in self._queue if not op.asked and id(op) not in self._noted]
        if new:
            self._store.note(new)
            self._noted.update(map(id, new))

    def _fail(self, ops: list[Op], error: LedgerUnavailable) -> None:
        self.problem = error
        failed = set(map(id, ops))
        self._queue = [op for op in self._queue if id(op) not in failed]
        for op in ops:
            op.outcome = LedgerUnavailable(error.message)
            op.fresh = False
            op.finish()


STUCK: Final = (
    "another process has been writing to the ledger for more than {seconds:g} seconds; it may be stopped or hanging: "
    "see which one has the file open (fuser, lsof)"
)
