"""What a router keeps an eye on: the calls under way, and the tasks that live beside them.

Law: counting, starting and ending. What a task does is its own affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from orrouter.catalog.refresh import Fetch, Refreshed, refresh_forever
from orrouter.core.errors import RouterError
from orrouter.core.facts import CatalogKept, CatalogRefreshed, Fact
from orrouter.middleware.base import World

FIRST_REFRESH_S: Final = 1.0
"""A process that lives shorter asks for no list: the bundled one does."""
REFRESH_S: Final = 3600.0
"""How often the list of models is asked for; a tenth more or less, so that a fleet does not ask at once."""


class Keeper:
    """Counts the calls under way and owns the background task."""

    def __init__(self) -> None:
        self._open = 0
        self._closed = False
        self._idle: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = False

    def begun(self, background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A call begins. Raises RouterError when the router is closed."""
        if self._closed:
            raise RouterError("this Router is closed: build a new one")
        if not self._started:
            self._started = True
            self._task = asyncio.get_running_loop().create_task(background(), name="orrouter catalog")
        self._open += 1

    def over(self) -> None:
        """A call is over, however it ended."""
        self._open -= 1
        if self._open == 0 and self._idle is not None:
            self._idle.set()

    async def close(self, drain: float) -> None:
        """Take no more calls, end the background task, and wait at most `drain` seconds for the calls under way."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        if self._open and drain > 0:
            self._idle = asyncio.Event()
            waiting = asyncio.ensure_future(self._idle.wait())
            await asyncio.wait([waiting], timeout=drain)
            waiting.cancel()


async def keep_catalog(world: World, fetch: Fetch, tell: Callable[[Fact], None] | None) -> None:
    """Refresh the world's catalog from the first second on, every hour or so."""

    def told(brought: Refreshed | Exception) -> None:
        if tell is None:
            return
        if isinstance(brought, Refreshed):
            tell(CatalogRefreshed(models=brought.models, source=world.catalog.source))
        else:
            tell(CatalogKept(reason=str(brought)))

    sleep: Callable[[float], Awaitable[None]] = world.clock.sleep
    await sleep(FIRST_REFRESH_S)
    await refresh_forever(
        world.catalog,
        fetch,
        every=lambda: REFRESH_S * (0.9 + 0.2 * world.random.random()),
        sleep=sleep,
        tell=told,
        today=lambda: datetime.fromtimestamp(world.clock.wall(), UTC).date().isoformat(),
    )


