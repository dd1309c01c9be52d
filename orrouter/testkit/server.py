"""`FakeOpenRouter`: an upstream on a real socket of this machine that answers, and fails, as OpenRouter does.

::

    async with FakeOpenRouter() as fake:            # in the test's own event loop
        fake.script("openai/gpt-4o", ["503", "ok"])
        ...                                         # talk to fake.url
        assert fake.true_cost() == ...

    with FakeOpenRouter.in_thread() as fake:        # in a thread of its own, for code without an event loop
        ...

Law: the life of the server and its controls. No outside network, no real model, no key is ever needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from orrouter.testkit.desk import USUAL, Desk, Rules, Speaker
from orrouter.testkit.endpoints import ROOT, Endpoints, until
from orrouter.testkit.log import Seen
from orrouter.testkit.player import Pace
from orrouter.testkit.table import FakeModel

_GRACE = 0.2
"""Seconds that a reply to a client who does not read gets when the server stops."""


class FakeOpenRouter:
    """A fake of OpenRouter, started by `with` (in a thread of its own) or `async with` (in the running loop).

    `port` 0 takes a free one and keeps it over a stop and a start; `keys` are the keys that exist (None: any);
    `latency` is seconds before each reply; `speed` divides every wait; `seed` fixes the generation ids; `rules`
    holds what seldom differs. Scenarios and what is said may be changed at any time, from any thread.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        keys: Iterable[str] | None = None,
        latency: float = 0.0,
        speed: float = 1.0,
        seed: int = 0,
        rules: Rules = USUAL,
    ) -> None:
        self._host = host
        self._port = port
        self._speed = speed
        self._rules = rules
        self._desk = Desk(rules, seed)
        self._endpoints = Endpoints(self._desk, rules, None if keys is None else frozenset(keys), latency)
        self._runner: web.AppRunner | None = None
        self._pace: Pace | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def in_thread(cls, *, keys: Iterable[str] | None = None, speed: float = 1.0, rules: Rules = USUAL) -> Self:
        """A server to be started by a plain `with`; the same as `FakeOpenRouter(...)`, said aloud."""
        return cls(keys=keys, speed=speed, rules=rules)

    @property
    def url(self) -> str:
        """The base URL for a client, `http://127.0.0.1:PORT/api/v1`. Raises RuntimeError before the first start."""
        if not self._port:
            raise RuntimeError("the fake has no address yet: enter it with `with` or `async with` first")
        return f"http://{self._host}:{self._port}{ROOT}"

    # What goes wrong, and what is said.

    def script(self, model: str, faults: Sequence[str]) -> None:
        """The faults of the next requests for a model, one each (`["503", "cut_mid:3", "ok"]`); afterwards all is well.

        `model` is a slug, a pattern (`*`) or a slug with a provider (`openai/gpt-4o@azure`). Raises ValueError with
        the nearest name when there is no such fault.
        """
        self._desk.scenarios.script(model, faults)

    def always(self, model: str, fault: str) -> None:
        """The fault of every request for a model until `clear`. Keys and errors as for `script`."""
        self._desk.scenarios.always(model, fault)

    def clear(self, model: str | None = None) -> None:
        """All is well again, for one model or for all."""
        self._desk.scenarios.clear(model)

    def say(self, model: str, text: str) -> None:
        """What a model answers from now on, instead of the canonical sixty words."""
        self._desk.sayings[model] = text

    @property
    def answer(self) -> Speaker | None:
        """A function of the request (`Ask`) that says what is answered, or None for the usual; set it to use it."""
        return self._desk.speaker

    @answer.setter
    def answer(self, speaker: Speaker | None) -> None:
        self._desk.speaker = speaker

    def add_model(self, model: FakeModel) -> None:
        """Serves one more model, or another one under a slug that is taken."""
        self._desk.models[model.slug] = model

    # What was seen.

    @property
    def requests(self) -> tuple[Seen, ...]:
        """Every request for inference since the first start, in order of arrival."""
        return self._endpoints.log.snapshot()

    @property
    def lookups(self) -> tuple[Seen, ...]:
        """Every other request: models, generations, the key, wrong paths."""
        return self._endpoints.lookups.snapshot()

    def requests_for(self, model: str) -> tuple[Seen, ...]:
        """The requests that named this model first."""
        return tuple(one for one in self.requests if one.model == model)

    def true_cost(self) -> int:
        """Nano-USD that the upstream charges for all requests that have ended, seen by the client or not."""
        return self._endpoints.log.cost()

    async def settled(self, seconds: float = 5.0) -> None:
        """Returns when every request has ended and is charged. Raises TimeoutError after so many seconds."""
        await until(self._endpoints.log, lambda seen: all(one.finished != "open" for one in seen), seconds)

    async def arrived(self, count: int = 1, seconds: float = 5.0) -> None:
        """Returns when so many requests have come in and been read. Raises TimeoutError after so many seconds."""
        await until(self._endpoints.log, lambda seen: sum(one.status > 0 for one in seen) >= count, seconds)

    # Its life.

    async def start(self) -> None:
        """Listens, on the port of the last time if there was one. Raises OSError when it is taken."""
        if self._runner is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(self._speed, self._rules.beat, self._rules.pace)
        app = self._endpoints.app(self._pace)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuses connections from now on and cuts those that are open; `start` listens again. May be called twice."""
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._stop(), self._loop))
        else:
            await self._stop()

    async def _stop(self) -> None:
        if self._runner is None or self._pace is None:
            return
        runner, self._runner = self._runner, None
        self._pace.stopping.set()
        await runner.cleanup()
        await asyncio.sleep(0)  # so that closed connections are gone when this returns

    def pause(self) -> None:
        """`stop` for code without an event loop; the server must run in its own thread."""
        self._call(self._stop())

    def resume(self) -> None:
        """`start` for code without an event loop, after `pause`."""
        self._call(self.start())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._thread is None or self._loop is None:
            work.close()
            raise RuntimeError(
                "the fake runs in no thread of its own: use `await fake.stop()` and `await fake.start()`"
            )
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="fake-openrouter", daemon=True)
        self._thread.start()
        try:
            self._call(self.start())
        except BaseException:
            self._join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._stop())
        finally:
            self._join()

    def _join(self) -> None:
        """Ends the thread, which closes its loop."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """The whole life of a loop that has a thread of its own."""
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
