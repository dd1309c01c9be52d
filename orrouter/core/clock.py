"""Time: what tells it, what waits for it, and the knife that ends a wait.

Law: the only module of this floor that reads a clock or sleeps. Everybody else is handed a `Clock`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

NEVER = float("inf")
_running_loop, _current_task = asyncio.get_running_loop, asyncio.current_task


class Clock(Protocol):
    """Where a layer gets its time from. Durations and instants in seconds."""

    def now(self) -> float:
        """Monotonic seconds of the running loop: for deadlines and waits."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 UTC: for dates in headers and windows of a budget."""
        ...

    async def sleep(self, delay: float) -> None:
        """Wait `delay` seconds."""
        ...


class LoopClock:
    """The clock of the running event loop, and the machine's wall clock."""

    def now(self) -> float:
        """The loop's time."""
        loop = _running_loop()
        if type(loop).time is asyncio.BaseEventLoop.time and type(self).now is LoopClock.now:
            # Nothing but this is behind it, and a call asks a dozen times.
            self.__dict__["now"] = time.monotonic
        return loop.time()

    wall = staticmethod(time.time)
    """The machine's time."""

    async def sleep(self, delay: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(delay)


class Cut:
    """Ends a wait at an instant: inside `with`, what is awaited then fails with the error told.

    One timer serves many waits: it is set anew only when it would ring too late, and an early ring is
    answered by setting it again. A caller's own cancel stays a cancel, and is never left on the task
    by the knife (`Task.uncancel`).
    """

    __slots__ = ("_at", "_before", "_error", "_fired", "_handle", "_rings", "_task", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._error: Callable[[], BaseException] = RuntimeError
        self._at, self._rings = NEVER, NEVER
        """When to cut, and when the timer rings: never later than that."""
        self._before = 0
        self._fired = False

    def at(self, instant: float | None, error: Callable[[], BaseException]) -> Cut:
        """Cut the wait of the `with` that follows at `instant` (loop time; None: never), raising `error()`.

        Inside a `with` it moves the instant, as when a new phase begins.
        """
        self._at = NEVER if instant is None else instant
        self._error = error
        if self._at < self._rings:
            self._set()
        return self

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._rings = self._at
        self._handle = self.loop.call_at(self._at, self._ring)

    def _ring(self) -> None:
        self._handle, self._rings = None, NEVER
        if self._task is None or self._fired:
            return
        if self.loop.time() < self._at:
            if self._at < NEVER:
                self._set()
        else:
            self._fired = self._task.cancel()

    def __enter__(self) -> None:
        task = _current_task(self.loop)
        assert task is not None, "a wait needs a task"
        self._task, self._before, self._fired = task, task.cancelling(), False
        if self._at < self._rings:  # It rang before anybody waited.
            self._set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self._fired or task is None:
            return
        self._fired = False
        left = task.uncancel()
        del task  # The error below knows this frame, and would hold the task with everything that it holds.
        if kind is not None and issubclass(kind, asyncio.CancelledError) and left <= self._before:
            raise self._error() from None

    def rests_in(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether nobody waits under it, and it belongs to `loop`; what it was to tell is forgotten then."""
        if self._task is not None or self.loop is not loop:
            return False
        self._at, self._error = NEVER, RuntimeError
        return True

    def stop(self) -> None:
        """Take the timer off the loop; the knife may be set again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self._rings = None, NEVER


class Cuts:
    """Knives at rest. One that is given back keeps its timer, which serves the next wait: most calls set none."""

    __slots__ = ("_loop", "_rest")

    def __init__(self) -> None:
        self._rest: list[Cut] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self) -> Cut:
        """A knife for the running loop."""
        loop = _running_loop()
        if loop is not self._loop:
            self._loop, self._rest = loop, []
        return self._rest.pop() if self._rest else Cut(loop)

    def give(self, cut: Cut) -> None:
        """Put a knife back that nobody waits under any more."""
        rest = self._rest
        if len(rest) < KEPT and cut.rests_in(self._loop):
            rest.append(cut)
        else:
            cut.stop()


KEPT = 1000
"""Knives kept at rest; more calls than this at once make theirs anew."""
