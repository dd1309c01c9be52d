"""Event loops that strike at a certain turn: for tests that cancel something wherever it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orrouter.testkit.clock import VirtualLoop


class Ticks(asyncio.AbstractEventLoop):
    """Strikes before its `at`-th callback, counted from when there is somebody to strike; and again, if so told."""

    strike: Callable[[], object] | None = None

    def __init__(self, at: int, *, twice: bool = False) -> None:
        super().__init__()
        self.strikes = (at, at + 1) if twice else (at,)
        self.ticks = 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(self._tick, callback, args, context=context)

    def _tick(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.strike is not None:
            self.ticks += 1
            if self.ticks in self.strikes:
                self.strike()
        callback(*args)


class SocketTicks(Ticks, asyncio.SelectorEventLoop):
    """Over real sockets."""


class VirtualTicks(Ticks, VirtualLoop):
    """In virtual time, where a timer is a callback like any other."""

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, self._tick, callback, args, context=context)
