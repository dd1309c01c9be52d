"""One upstream, asked about money by one worker at a gentle pace.

Law: when a question may go out, and what a failure means for the next. What is asked is its owner's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from orrouter.core.clock import Clock
from orrouter.core.errors import UpstreamTimeout

Fetch = Callable[..., Awaitable[Mapping[str, Any]]]
"""`fetch(path, upstream, **query)`: the JSON object at a path below an upstream's base URL; raises RouterError."""

PACE_S: Final = 0.5
"""At most two questions a second."""
PATIENCE_S: Final = 30.0
"""How long an answer is waited for: a policy need not have a deadline."""
PAUSE_S: Final = 30.0
"""How long an upstream that failed is left alone where it says no other time; twice as long each further time."""
LONGEST_PAUSE_S: Final = 600.0
NOT_THERE: Final[Mapping[str, Any]] = {}
"""The answer to a question that was answered with 404, or refused as such: not there, or not yet."""
NO_QUESTION: Final = frozenset({400, 404, 405, 410, 413, 414, 422, 431})
"""Statuses that are about this question alone: the next one may be answered well."""


class Lane:
    """Asks one upstream. `failed(upstream, error, pause)` is told of each failure, with the seconds until the next."""

    def __init__(
        self, upstream: str, fetch: Fetch, clock: Clock, failed: Callable[[str, Exception, float], None]
    ) -> None:
        self.upstream = upstream
        self._fetch, self._clock, self._failed = fetch, clock, failed
        self._free_at = self._paused_until = 0.0
        self._failures = 0

    @property
    def paused_for(self) -> float:
        """Seconds until it may be asked again; 0: now."""
        return max(0.0, self._paused_until - self._clock.now())

    async def get(self, path: str, **query: str) -> Mapping[str, Any] | None:
        """The answer; `NOT_THERE` for a 404 and its like; None where nobody answered or may be asked now."""
        if self.paused_for > 0:
            return None
        wait = self._free_at - self._clock.now()
        if wait > 0:
            await self._clock.sleep(wait)
        self._free_at = self._clock.now() + PACE_S
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._fetch(path, self.upstream, **query)
        except TimeoutError:
            self._pause(UpstreamTimeout(f"no answer to {path} within {PATIENCE_S:g}s").at(upstream=self.upstream))
            return None
        except Exception as error:
            if getattr(error, "status", None) not in NO_QUESTION:
                self._pause(error)
                return None
            answer = NOT_THERE
        self._failures = 0
        return answer

    def _pause(self, error: Exception) -> None:
        pause = getattr(error, "retry_after", None)
        if pause is None:
            pause = min(PAUSE_S * 2 ** min(self._failures, 8), LONGEST_PAUSE_S)
        pause = max(pause, PACE_S)
        self._failures += 1
        self._paused_until = self._clock.now() + pause
        self._failed(self.upstream, error, pause)
