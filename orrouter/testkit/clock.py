"""Virtual time: an event loop whose clock jumps to the next timer when nothing else is to be done.

`@virtual` on an `async def` test runs it so: hours pass in milliseconds, and the same test always sees the same
times. Law: no sockets and no threads under this loop; both need real time.
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

EPOCH = 1_790_000_000.0
"""The wall clock's reading when virtual time is 0: 2026-09-21, a Monday, 13:33:20 UTC."""


class _Jump(selectors.SelectSelector):
    """Never waits: when nothing is ready, time is moved on by what would have been the wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits and nothing is scheduled: this would hang for ever")
            self.passed += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; `time()` begins at 0."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Seconds that have passed."""
        # A timer is due when it is less than this ahead. Some months out floats lie further apart than the usual
        # nanosecond, and one that is due exactly now would never be.
        self._clock_resolution = max(1e-9, math.ulp(self._jump.passed))
        return self._jump.passed


class VirtualClock:
    """A `Clock` for `World` in virtual time: the wall clock starts at `epoch` and runs with the loop."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch = epoch

    def now(self) -> float:
        """The loop's virtual time."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """The epoch, and the virtual time that has passed since."""
        return self._epoch + self.now()

    async def sleep(self, delay: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(delay)


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualLoop | None = None) -> T:
    """Run a coroutine in virtual time to its end, in a loop of its own or the one given, which is closed after it."""
    loop = loop or VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            _finish(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is still running, as `asyncio.run` does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Turn an `async def` test into one that runs in virtual time."""

    @functools.wraps(test)
    def runs(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return runs
