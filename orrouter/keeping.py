"""What a router keeps an eye on: the calls under way, and the tasks that live beside them.

Law: counting, starting and ending. What a task does is its own affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final

from orrouter.catalog.refresh import Refreshed, refresh_forever
from orrouter.core.call import Call
from orrouter.core.errors import RouterError
from orrouter.core.events import End
from orrouter.core.facts import CatalogKept, CatalogRefreshed, Fact
from orrouter.core.process import FORKS
from orrouter.core.reply import Reply
from orrouter.middleware.base import World
from orrouter.transport.base import Transport

FIRST_REFRESH_S: Final = 1.0
"""A process that lives shorter asks for no list: the bundled one does."""
REFRESH_S: Final = 3600.0
"""How often the list of models is asked for; a tenth more or less, so that a fleet does not ask at once."""


class Lease:
    """A transport as the pipelines of one policy know it: counted calls, and none any more once it is closed."""

    __slots__ = ("calls", "closed", "on_idle", "transport")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.calls = 0
        self.closed = False
        self.on_idle: Callable[[Lease], None] | None = None
        """Called whenever the last call under way is over; None: nobody waits for it."""

    def __call__(self, call: Call) -> Awaitable[Reply]:
        """Ask the transport."""
        if self.closed:  # A retry or a fallback would open a connection that nobody closes.
            raise RouterError("this Router was closed while the call was under way")
        return self.transport(call)

    def over(self, _end: End | None = None) -> None:
        """A call is over, however it ended."""
        self.calls -= 1
        if not self.calls and self.on_idle is not None:
            self.on_idle(self)


class Keeper:
    """Knows the transports and the calls under way over them, and owns the task beside them.

    `background` is started with the first call and ended by `close`. A keeper belongs to the event loop and the process
    of its first call.
    """

    def __init__(self, background: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._background = background
        self._leases: list[Lease] = []
        self._closed = False
        self._idle: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forks = 0

    def lease(self, transport: Transport) -> Lease:
        """The lease of a transport; the one in force where it is the same transport. Raises RouterError when closed."""
        self._check_open()
        if self._leases and self._leases[-1].transport is transport:
            return self._leases[-1]
        return Lease(transport)

    def take(self, lease: Lease) -> None:
        """Send the calls to come by this lease; the one before is closed once its calls are over."""
        if self._leases and self._leases[-1] is lease:
            return
        retired = list(self._leases)
        self._leases.append(lease)
        for one in retired:
            one.on_idle = self._on_idle
            if not one.calls:
                self._on_idle(one)

    def begun(self) -> Lease:
        """A call begins. Raises RouterError when the router is closed, or at home in another loop or process."""
        if self._closed or self._loop is not _running_loop() or self._forks != FORKS[0]:
            self._settle()
        lease = self._leases[-1]
        lease.calls += 1
        return lease

    def _settle(self) -> None:
        """The first call decides where home is; every other that comes here is told why it cannot be."""
        self._check_open()
        if self._loop is not None:
            raise RouterError(_forked if self._forks != FORKS[0] else _elsewhere)
        self._loop, self._forks = _running_loop(), FORKS[0]
        if self._background is not None:
            # In a context of its own: the tags of the first call are not those of the background.
            self._task = self._loop.create_task(self._background(), name="orrouter background", context=Context())

    def _check_open(self) -> None:
        if self._closed:
            raise RouterError("this Router is closed: build a new one")

    def _on_idle(self, lease: Lease) -> None:
        """The last call of a lease is over: a retired one is closed; after the last of all, the drain is over."""
        if self._leases and lease is not self._leases[-1] and self._at_home():
            self._leases.remove(lease)
            lease.closed = True
            task = _running_loop().create_task(lease.transport.aclose(), name="orrouter closing")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle is not None and not any(one.calls for one in self._leases):
            self._idle.set()

    def _at_home(self) -> bool:
        """Whether this is the loop and the process of the calls."""
        try:
            return self._loop is _running_loop() and self._forks == FORKS[0]
        except RuntimeError:  # There is no loop here.
            return False

    async def close(self, drain: float, last: Callable[[], Awaitable[None]]) -> None:
        """Take no more calls, wait at most `drain` seconds for those under way, then let go of every connection.

        `last` is awaited behind that, also when the drain was cancelled.

        Raises RouterError, and closes nothing, where another loop is at work with them.
        """
        at_home = self._at_home()
        if not at_home and self._forks == FORKS[0] and self._loop is not None and self._loop.is_running():
            raise RouterError("this Router is at work in another event loop: close it there")
        self._closed = True
        try:
            if at_home:
                await self._end_background()
                await self._drained(drain)
        finally:
            try:
                await self._let_go(self._closing if at_home else ())
            finally:
                await last()

    async def _end_background(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _drained(self, drain: float) -> None:
        if drain <= 0 or not any(lease.calls for lease in self._leases):
            return
        if self._idle is None:
            self._idle = asyncio.Event()
        for lease in self._leases:
            lease.on_idle = self._on_idle
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._idle.wait()

    async def _let_go(self, closing: Iterable[asyncio.Task[None]]) -> None:
        leases, self._leases = self._leases, []
        for lease in leases:
            lease.closed = True
        await asyncio.gather(*(lease.transport.aclose() for lease in leases), *closing)


_running_loop: Final = asyncio.get_running_loop
_forked: Final = "this Router was used before the process forked: build one after the fork, in each child"
_elsewhere: Final = "this Router belongs to another event loop: build one in each loop"


def guarded(listener: Callable[[Fact], None]) -> Callable[[Fact], None]:
    """A listener whose mistakes cost no call anything: they are told to the event loop's exception handler."""

    def tell(fact: Fact) -> None:
        try:
            listener(fact)
        except Exception as error:
            _report(f"on_fact failed at {type(fact).__name__}", error)

    return tell


def _report(message: str, error: Exception) -> None:
    try:
        loop = _running_loop()
    except RuntimeError:  # A policy may be reloaded where no loop runs; this is where the loop's handler would write.
        logging.getLogger("asyncio").error(message, exc_info=error)  # noqa: TRY400  # another error than the one handled here
    else:
        loop.call_exception_handler({"message": message, "exception": error})


async def keep_catalog(
    world: World, fetch: Callable[[str, str | None], Awaitable[Any]], tell: Callable[[Fact], None] | None
) -> None:
    """Refresh the world's catalog from the first second on, every hour or so.

    The first upstream that publishes a list is asked; where none does, nobody is. `fetch` takes a path and an upstream.
    """

    def lister() -> str | None:
        return next((name for name, one in world.upstreams.items() if one.dialect == "openrouter"), None)

    def told(brought: Refreshed | Exception) -> None:
        if tell is None:
            return
        if isinstance(brought, Refreshed):
            tell(CatalogRefreshed(models=brought.models, source=world.catalog.source))
        else:
            tell(CatalogKept(reason=str(brought) or type(brought).__name__))

    if lister() is None:
        return
    sleep: Callable[[float], Awaitable[None]] = world.clock.sleep
    await sleep(FIRST_REFRESH_S)
    await refresh_forever(
        world.catalog,
        lambda path: fetch(path, lister()),
        every=lambda: REFRESH_S * (0.9 + 0.2 * world.random.random()),
        sleep=sleep,
        tell=told,
        today=lambda: datetime.fromtimestamp(world.clock.wall(), UTC).date().isoformat(),
    )
