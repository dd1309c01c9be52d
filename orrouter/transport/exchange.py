"""One try over HTTP: it is opened, read under its clocks, and closed.

Law: sockets and clocks only. What the bytes mean is asked of `wire`; aiohttp's errors are mapped by `mapping`.

The clocks count only while something is awaited, so a slow reader is no stalled provider; one timer serves the
whole try. Keep-alive comments feed the `dead` clock and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from orrouter.core.call import Attempt, Call
from orrouter.core.clock import Clock, Cut, Cuts
from orrouter.core.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    LimitReached,
    RouterError,
    ServerError,
    StreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.core.events import Event
from orrouter.core.units import show_duration
from orrouter.transport.base import Road
from orrouter.transport.mapping import FOREIGN, failure_of
from orrouter.transport.sending import more, received
from orrouter.wire.faults import Answer, fault_of
from orrouter.wire.request import Request, is_plain
from orrouter.wire.stream import StreamReader
from orrouter.wire.whole import whole_answer
from orrouter.wire.words import one_line

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from yarl import URL

    from orrouter.transport.sending import Answered, Send

ERROR_BODY: Final = 2**20
"""Bytes of an error's body that are read: the largest seen are some kilobytes, a CDN's page some ten."""
DRAIN_USAGE_S: Final = 5.0
"""How long the usage of a finished answer is waited for."""
DRAIN_END_S: Final = 0.5
"""How long the end of a stream is waited for when all is in hand: it only saves the connection."""
BEFORE_S: Final = 0.05
"""How long before the deadline the wait for the usage of a finished answer ends."""
SLOW: Final = 3
"""Inside a tool call or a reasoning block silence may last so many times longer."""


class Exchange:
    """The source of one reply: what `EventStream` reads from."""

    __slots__ = (
        "_attempt", "_call", "_clock", "_clock_name", "_cut", "_cuts", "_finish", "_hard", "_hard_name",
        "_last_byte", "_mute", "_reader", "_request", "_response", "_road", "_sent", "loop", "over",
    )  # fmt: skip

    def __init__(self, call: Call, request: Request, clock: Clock, road: Road, cuts: Cuts) -> None:
        assert call.attempt is not None
        self._call, self._request, self._clock, self._road = call, request, clock, road
        self._attempt: Attempt = call.attempt
        self._cuts = cuts
        self._cut: Cut | None = cuts.take()
        self.loop = self._cut.loop
        self._response: ClientResponse | Answered | None = None
        self._reader: StreamReader | None = None
        self.over = False
        self._sent = self._last_byte = now = self.loop.time()
        self._hard, self._hard_name = _nearer(call.deadline, "total", _after(now, call.clocks.attempt), "attempt")
        self._clock_name = self._hard_name
        self._finish: float | None = None
        """When the model had finished, as seen by the first wait behind it."""
        self._mute = 0.0
        """Seconds waited since something was last said."""

    async def open(self, send: Send, url: URL, headers: Mapping[str, str] | None) -> list[Event]:
        """Send the request and wait for the head of the answer; gives the events that came together with it.

        Raises what its status or silence means.
        """
        call = self._call
        instant = self._set("connect", self._sent + call.clocks.connect)
        try:
            with self._until(instant):
                self._response = response = await send(call.method, url, self._request.body, self.sent, headers)
        except FOREIGN as error:
            failed = failure_of(error, self._attempt)
        except RouterError as error:
            self._told(error)
            raise
        else:
            self._begun(response)
            if response.status != 200:
                raise self._told(await self._refused(response))
            # Most answers that are one JSON come whole, together with their head.
            return await self.read() if self._reader is None and response.content.is_eof() else []
        # Not from inside the handler: aiohttp's errors bear the headers that were sent, and the key in them.
        raise self._told(failed)

    def sent(self) -> None:
        """A connection is there and the request goes out: from here on it may be billed."""
        self._attempt.phase = "sent"
        self._sent = self._last_byte = now = self.loop.time()
        # An answer in one piece is waited for as long as the try may take.
        self._until(self._limit(now) if self._request.stream else self._set("attempt", None))

    def _begun(self, response: ClientResponse | Answered) -> None:
        """The head is there: what it tells of the try, and who is to read what follows."""
        attempt = self._attempt
        attempt.phase, attempt.status = "headers", response.status
        self._last_byte = self.loop.time()
        made = response.headers.get("X-Generation-Id")
        if made:
            attempt.generation_id = made
        if self._request.stream and response.status == 200 and response.content_type not in _WHOLE:
            free, most, wall = is_plain(self._call), self._road.max_body, self._clock.wall
            self._reader = StreamReader(attempt, plain=free, max_bytes=most, headers=response.headers, wall=wall)

    async def _refused(self, response: ClientResponse | Answered) -> UpstreamError:
        if 300 <= response.status < 400:
            return _redirect(response.status, response.headers.get("Location", "nowhere"))
        try:
            body = await self._body(ERROR_BODY, patience=DRAIN_USAGE_S)
        except UpstreamError:
            body = b""  # The status alone says enough; a body that never comes must not hide it.
        answer = Answer(status=response.status, headers=response.headers, body=body)
        return _judged(answer, is_plain(self._call), self._clock.wall())

    async def read(self) -> list[Event]:
        """The next events; empty when the upstream has said it all."""
        if self.over:
            return []
        try:
            if self._reader is not None:
                events = await self._read_stream(self._reader)
            else:
                self.over = True
                events = [self._whole(await self._body(self._road.max_body))]
        except UpstreamError as error:
            self.over = True
            raise self._told(error)  # noqa: B904  # the same error, with its place filled in
        except DeadlineExceeded as error:
            self.over = True
            raise self._billed(error)  # noqa: B904  # the same error
        attempt = self._attempt
        if attempt.first_token is None:
            for event in events:
                if event.semantic:
                    attempt.first_token, attempt.phase = self._last_byte, "committed"
                    break
        return events

    def _whole(self, raw: bytes) -> Event:
        assert self._response is not None
        return whole_answer(raw, self._call, self._response.headers, wall=self._clock.wall)

    async def _read_stream(self, reader: StreamReader) -> list[Event]:
        since = self.loop.time()
        while reader.error is None:
            try:
                data = await self._receive(since)
            except _Drained:
                data = b""
            except UpstreamError:
                if not reader.finished or not reader.said:
                    raise
                data = b""  # The answer was finished; only its accounting is lost.
            if data:
                events = reader.feed(data)
                self._last_byte = self.loop.time()
            else:
                events = reader.end()
                self.over = reader.error is None
            if events or self.over:
                self._listen(events, since)
                return events
        raise reader.error

    def _listen(self, events: list[Event], since: float) -> None:
        """Remember how long nothing has been said: an event that is only an envelope does not count."""
        for event in reversed(events):
            if event.semantic:
                self._mute = 0.0
                return
        self._mute += self._last_byte - since

    async def _receive(self, since: float) -> bytes:
        """The next bytes, b"" at the end; `since`: when the reader began to wait."""
        response = self._response
        assert response is not None
        try:
            data = received(response)
            if not data and not response.content.at_eof():
                with self._until(self._limit(since)):
                    data = await more(response)
        except FOREIGN as error:
            failed = failure_of(error, self._attempt)
        else:
            return data
        raise failed

    async def _body(self, most: int, patience: float | None = None) -> bytes:
        """The whole body, at most so many bytes, at most so many seconds (None: as the clocks say)."""
        response = self._response
        assert response is not None
        content = response.content
        try:
            data = received(response)
            if content.at_eof() and len(data) <= most:
                return data  # Most bodies arrive together with their head.
            parts, size, since = [data], len(data), self.loop.time()
            while not content.at_eof() and size <= most:
                # One JSON where a stream was asked for: the clocks of a stream hold.
                streamed = patience is None and self._request.stream
                with self._until(self._limit(since) if streamed else self._set("attempt", _after(since, patience))):
                    data = await more(response)
                self._last_byte = self.loop.time()
                parts.append(data)
                size += len(data)
        except FOREIGN as error:
            failed = failure_of(error, self._attempt)
        else:
            if size > most:
                raise ServerError(f"the answer is larger than {most} bytes", status=200, billed="yes", again="no")
            return b"".join(parts)
        raise failed

    def _until(self, instant: float | None) -> Cut:
        """The knife of this try, set to an instant."""
        if self._cut is None:
            self._cut = self._cuts.take()
        return self._cut.at(instant, self._overdue)

    def _set(self, name: str, instant: float | None) -> float | None:
        """The nearer of `instant` and the ends that always hold; remembers which clock it is."""
        instant, self._clock_name = _nearer(instant, name, self._hard, self._hard_name)
        return instant

    def _limit(self, since: float) -> float | None:
        """When the wait that is about to begin is over."""
        reader, clocks = self._reader, self._call.clocks
        if reader is not None and reader.finished:
            patience = DRAIN_END_S if reader.usage_seen or reader.done else DRAIN_USAGE_S
            if self._finish is None:
                self._finish = self._last_byte
            # The answer is whole: no deadline makes it a failure any more, so this ends before whoever keeps one.
            hard = None if self._hard is None else self._hard - BEFORE_S
            instant, _ = _nearer(max(since, self._finish) + patience, "drain", hard, "drain")
            self._clock_name = "drain"
            return instant
        dead, dead_name = self._set("dead", max(since, self._last_byte) + clocks.dead), self._clock_name
        if self._attempt.first_token is None:
            semantic, name = _after(self._sent, clocks.first_token), "first_token"
        else:
            semantic, name = _after(since - self._mute, self._stall()), "stall"
        instant, self._clock_name = _nearer(semantic, name, dead, dead_name)
        return instant

    def _stall(self) -> float | None:
        """How long silence may last now."""
        reader, stall = self._reader, self._call.clocks.stall
        slow = reader is not None and reader.last_slow
        return stall * SLOW if stall is not None and slow else stall

    def _overdue(self) -> BaseException:
        """The error of the clock that rang."""
        name, clocks, now = self._clock_name, self._call.clocks, self.loop.time()
        if name == "drain":
            return _Drained()
        if name == "total":
            return self._billed(DeadlineExceeded("the deadline of the whole call has passed"))
        if name == "connect":
            upstream = self._call.target.upstream
            return _full(upstream) if self._road.full() else _no_connection(clocks.connect)
        waited = clocks.dead if name == "dead" else now - self._sent
        if self._attempt.first_token is None:
            return UpstreamTimeout(f"{_WORDS[name]} within {show_duration(waited)}, the {name} clock")
        waited = (self._stall() or 0.0) if name == "stall" else waited
        return StreamBroken(f"{_WORDS[name]} for {show_duration(waited)}, the {name} clock")

    def _billed(self, error: DeadlineExceeded) -> DeadlineExceeded:
        if self._attempt.phase == "not_sent":
            error.billed = "no"
        return error

    def _told(self, error: E) -> E:
        """The error as it goes up: with what the try knows, and without the key where the far end echoed it."""
        _placed(error, self._attempt)
        self._road.hide(error)
        return error

    def close(self) -> None:
        """Drop the connection, unless the answer was read to its end: then it is back in the pool already."""
        if self._cut is not None:
            cut, self._cut = self._cut, None
            self._cuts.give(cut)
        response = self._response
        if response is not None and response.connection is not None:
            response.close()


class _Drained(Exception):
    """What was still hoped for behind the finish did not come."""


_WHOLE: Final = frozenset({"application/json", "application/problem+json", "text/html"})
"""Types of an answer that is no stream, whatever was asked for."""

_WORDS: Final = {
    "attempt": "no whole answer",
    "first_token": "no first token",
    "stall": "nothing said",
    "dead": "not one byte",
    "total": "no whole answer",
}


E = TypeVar("E", bound=RouterError)


def _placed(error: E, attempt: Attempt) -> E:
    """The error with what the try knows: status, provider, generation; a provider that it names is noted."""
    if isinstance(error, UpstreamError):
        if error.status is None:
            error.status = attempt.status if attempt.status != 200 else None
        if error.provider is None:
            error.provider = attempt.provider
        else:
            attempt.provider = attempt.provider or error.provider
        if error.generation_id is None:
            error.generation_id = attempt.generation_id
    return error


def _full(upstream: str) -> LimitReached:
    return LimitReached(f"every connection to upstream {upstream} is in use: raise its `connections`")


def _no_connection(within: float) -> ConnectionFailed:
    return ConnectionFailed(f"no connection within {show_duration(within)}", billed="no")


def _redirect(status: int, place: str) -> ServerError:
    return ServerError(
        f"the upstream answers with a redirect to {one_line(place)}, and redirects are not followed: "
        "is its base_url right?",
        status=status,
        billed="no",
        again="no",
    )


def _judged(answer: Answer, plain: bool, now: float) -> UpstreamError:
    words = f"HTTP {answer.status} is no answer to this request"
    return fault_of(answer, plain=plain, now=now) or ServerError(words, status=answer.status, again="no")


def _after(instant: float, seconds: float | None) -> float | None:
    return None if seconds is None else instant + seconds


def _nearer(one: float | None, name: str, other: float | None, other_name: str) -> tuple[float | None, str]:
    if one is None or (other is not None and other < one):
        return other, other_name
    return one, name
