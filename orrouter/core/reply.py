"""What comes back: a reply whose first event is in hand, and the one stream that everybody reads from.

Law: one class reads events, `EventStream`; nobody wraps it, nobody else writes an `__anext__`. Whoever wants to
look at its events or be told of its end hangs on here. Enders and closing are plain functions: nothing is
awaited on the way out, so no cancellation can come between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

from orrouter.core.call import ALL, Attempt
from orrouter.core.completion import Completion
from orrouter.core.errors import RouterError, StreamBroken
from orrouter.core.events import End, Event
from orrouter.core.values import made

Look = Callable[[Event], None]
Tell = Callable[[End], None]
Fold = Callable[[Sequence[Event]], Completion]


class Source(Protocol):
    """What a transport reads from. Closing is plain and may be repeated: it only drops the socket."""

    over: bool
    """True once the events given were the last."""

    def read(self) -> Awaitable[list[Event]]:
        """The next events; none: the upstream has said it all. Raises what went wrong."""
        ...

    def close(self) -> None:
        """Let go of the upstream."""
        ...


class EventStream:
    """One answer being read.

    `async for event in stream`; it ends cleanly only when the upstream said it all, and raises otherwise.
    `completion` is the whole answer once it has ended; `partial` what was said so far. `begun`: events that were
    read already, when the source was opened; `loop`: the one that runs, from whoever knows it.
    """

    __slots__ = (
        "__weakref__",
        "_end",
        "_enders",
        "_fold",
        "_loop",
        "_reading",
        "_ready",
        "_said",
        "_source",
        "_usage",
        "_watchers",
    )

    def __init__(
        self,
        source: Source,
        fold: Fold,
        begun: Sequence[Event] = (),
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._source, self._fold = source, fold
        self._ready: deque[tuple[Event, int]] = deque()
        self._said: list[Event] = []
        self._usage: Mapping[str, Any] | None = None
        self._watchers: list[Look] = []
        self._enders: list[Tell] = []
        self._end: End | None = None
        self._reading = False
        self._loop = loop or asyncio.get_running_loop()
        if begun:
            self._take(begun)
            if source.over:
                self._ended(None)

    def watch(self, look: Look) -> None:
        """Show every event to `look`, also those read already that nobody above has seen yet.

        What `look` raises ends the stream and reaches the reader behind the events that came before. An answer
        that is over already is shown at once, so that a layer sees it before it is told of the end.
        """
        before = len(self._watchers)
        if self._end is not None and all(seen == before for _, seen in self._ready):
            self._show(look)
        self._watchers = [*self._watchers, look]  # A new list: one that is being walked stays as it is.

    def _show(self, look: Look) -> None:
        """Show an answer that is over to one more; an objection stands behind the events that came before it."""
        shown: deque[tuple[Event, int]] = deque()
        for event, seen in self._ready:
            try:
                look(event)
            except Exception as error:
                assert self._end is not None, "only what is over is shown at once"
                self._end = self._end._replace(error=_no_clean_end(error))
                break
            shown.append((event, seen + 1))
        self._ready = shown

    def on_end(self, tell: Tell) -> None:
        """Tell the end once, on every road out, in the order asked; at once when it is over already."""
        if self._end is None:
            self._enders.append(tell)
            return
        try:
            tell(self._end)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # A CancelledError too: it is not the caller's.
            self._loop.call_exception_handler({"message": "an ender failed", "exception": error})

    async def ahead(self, events: int) -> int:
        """Read on until so many semantic events are in hand; returns how many there are.

        A break meanwhile is raised here, as if nothing had ever begun.
        """
        have = 0
        if self._ready:
            for event, _ in self._ready:
                have += event.semantic
        while have < events and self._end is None:
            for event in await self._read():
                have += event.semantic
        if have < events and self._end is not None and isinstance(self._end.error, Exception):
            raise self._end.error
        return have

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._end is not None:
                raise self._last_word()
            await self._read()
        event, seen = self._ready.popleft()
        if seen != len(self._watchers):
            self._show_late(event, seen)
        return event

    def _show_late(self, event: Event, seen: int) -> None:
        """Show an event that was read before they came to the watchers behind the first `seen`."""
        try:
            for look in self._watchers[seen:]:
                look(event)
        except BaseException as error:
            objection = _no_clean_end(error)
            self._ready.clear()
            end = self._ended(objection)
            if end.error is None:  # The upstream had said it all; for whoever reads it is broken all the same.
                self._end = end._replace(error=objection)
            raise objection from objection.__cause__

    def _last_word(self) -> BaseException:
        """What a reader gets behind the last event: a clean end only where the upstream said it all, or on close."""
        error = self._end.error if self._end is not None else None
        if isinstance(error, Exception):
            return error
        if error is None or isinstance(error, GeneratorExit):
            return StopAsyncIteration()
        broken = StreamBroken("the reading of this stream was cancelled")
        broken.partial = self.partial
        return broken

    async def _read(self) -> Sequence[Event]:
        if self._reading:
            raise RouterError("this stream is being read by another task already: let one read, and hand on")
        self._reading = True
        try:
            batch: Sequence[Event] = await self._source.read()
        except BaseException as error:
            self._ended(error)
            if isinstance(error, Exception):
                return []  # raised by whoever asked, behind the events in hand
            raise
        finally:
            self._reading = False
        if self._end is not None:
            return []  # closed meanwhile, by somebody else
        if batch:
            batch = self._take(batch)
        if not batch or self._source.over:
            self._ended(None)
        return batch

    def _take(self, batch: Sequence[Event]) -> Sequence[Event]:
        """Show a batch to the watchers and put it in hand, up to the event at which one of them objects."""
        watchers = self._watchers
        seen = len(watchers)
        for place, event in enumerate(batch):
            try:
                for look in watchers:
                    look(event)
            except BaseException as error:
                self._ended(error)
                if isinstance(error, Exception):
                    return batch[:place]
                raise
            if self._end is not None:
                return []  # closed by a watcher
            if event.usage is not None:
                self._usage = event.usage
            self._said.append(event)
            self._ready.append((event, seen))
        return batch

    def _ended(self, error: BaseException | None) -> End:
        """How it ended; the first time, let go of the upstream and tell everybody."""
        if self._end is not None:
            return self._end
        if isinstance(error, RouterError) and getattr(error, "partial", None) == "":
            error.partial = self.partial  # type: ignore[attr-defined]  # just seen to be there
        end = self._end = made(End, (self.finish_reason, self._usage, None if error is None else _no_clean_end(error)))
        _leave(self._source, self._enders, end, self._loop)
        return end

    async def rest(self) -> Completion:
        """Read on to the end and fold the whole answer. Raises what broke it."""
        if not self.whole:
            try:
                await self.ahead(ALL)
            except Exception:
                self._ready.clear()  # What broke is the whole, and not what stands behind these events.
                raise
            if any(seen != len(self._watchers) for _, seen in self._ready):
                async for _ in self:
                    pass
        self._ready.clear()
        return self.completion

    def close(self) -> None:
        """Let go of the upstream; what is in hand is dropped. May be repeated."""
        self._ready.clear()
        self._ended(GeneratorExit())

    def __del__(self) -> None:
        # Dropped unread, from whatever thread: only post it.
        loop = getattr(self, "_loop", None)  # There is none when it was built outside of a loop, which has raised.
        if loop is None or self._end is not None:
            return
        self._end = End(self.finish_reason, self._usage, GeneratorExit())
        with suppress(RuntimeError):  # The loop is closed: nobody is left to be told.
            loop.call_soon_threadsafe(_leave, self._source, self._enders, self._end, loop)

    @property
    def ended(self) -> bool:
        """Whether the upstream is done, however it ended."""
        return self._end is not None

    @property
    def whole(self) -> bool:
        """Whether the upstream has said it all, and everybody who looks has seen it."""
        end, seen = self._end, len(self._watchers)
        return end is not None and end.error is None and (not seen or all(by == seen for _, by in self._ready))

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped; None as long as it has not."""
        for event in reversed(self._said):
            if event.finish_reason is not None:
                return event.finish_reason
        return None

    @property
    def partial(self) -> str:
        """The text said so far."""
        return "".join([event.text for event in self._said])

    @property
    def completion(self) -> Completion:
        """The whole answer, folded from its events. Raises RouterError while the stream has not ended well."""
        if self._end is None or self._end.error is not None:
            raise RouterError("the stream has not been read to its end; `partial` holds what was said so far")
        return self._fold(self._said)


def _leave(source: Source | None, enders: Sequence[Tell], end: End, loop: asyncio.AbstractEventLoop) -> None:
    """Close the source, then tell every ender; what one raises never stops the next."""
    stop: BaseException | None = None
    if source is not None:
        try:
            source.close()
        except Exception as error:
            loop.call_exception_handler({"message": "closing an upstream failed", "exception": error})
    for tell in enders:
        try:
            tell(end)
        except (KeyboardInterrupt, SystemExit) as error:
            stop = error  # Raised once everybody has been told.
        except BaseException as error:  # A CancelledError too: it is not the caller's.
            loop.call_exception_handler({"message": "an ender failed", "exception": error})
    if stop is not None:
        raise stop


def _no_clean_end(error: BaseException) -> BaseException:
    """The error, unless it would pass for a clean end of the stream; generators guard themselves in the same way."""
    if not isinstance(error, StopAsyncIteration):
        return error
    guarded = RuntimeError("StopAsyncIteration was raised by a source or a watcher of a stream")
    guarded.__cause__ = error
    return guarded


class Reply:
    """What a handler returns: only with the first semantic event in hand."""

    __slots__ = ("attempt", "events")

    def __init__(self, attempt: Attempt, events: EventStream) -> None:
        self.attempt, self.events = attempt, events

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.attempt.model

    @property
    def provider(self) -> str | None:
        """Who serves the model, if the upstream says so."""
        return self.attempt.provider

    @property
    def upstream(self) -> str:
        """The upstream's name in the policy."""
        return self.attempt.target.upstream

    @property
    def generation_id(self) -> str | None:
        """What `GET /generation?id=` asks for."""
        return self.attempt.generation_id

    def completion(self) -> Awaitable[Completion]:
        """Read the answer to its end and fold it. Raises what broke it."""
        return self.events.rest()

    def close(self) -> None:
        """Let go of the upstream."""
        self.events.close()
