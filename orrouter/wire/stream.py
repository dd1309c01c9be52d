"""A stream of bytes becomes events, and says whether it was whole.

Law: sans I/O and without a clock. It is fed bytes and hands out chunks; the transport reads, times and closes.

A stream is whole when a `finish_reason` came, with or without `[DONE]`. An event that is no JSON is skipped and
counted; more than three of them, or one inside a tool call, break the stream. What comes behind the finish (the
accounting frame, `[DONE]`) is waited for, so that the finish is given together with its usage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from orrouter.core.call import Attempt
from orrouter.core.errors import Rejected, StreamBroken, Transient, UpstreamError
from orrouter.core.events import Chunk, Event, Json
from orrouter.wire.faults import fault_in
from orrouter.wire.halves import mended
from orrouter.wire.mould import Mould, mould_of
from orrouter.wire.response import ANSWERS, is_finished, note_origin, nothing_said, plain_words, read_chunk
from orrouter.wire.sse import SSEDecoder, SSETooLarge

MALFORMED_MAX: Final = 3
"""Events without JSON that a stream may hold and still be believed."""
LEARN: Final = 16
"""One event in so many may be tried as a mould for those that follow."""
EVENTS_MAX: Final = 500_000
"""Events that one stream may have: some times the longest answer that any model writes, token by token."""


class StreamReader:
    """Reads one stream. After each `feed`: `error` is set when it broke, `done` when nothing more is needed."""

    __slots__ = (
        "_attempt", "_closed", "_decoder", "_events", "_flows", "_halves", "_headers", "_held", "_last", "_mould",
        "_moulds", "_open", "_origin", "_plain", "_usage", "_wall", "done", "error", "finished", "last_slow", "said",
    )  # fmt: skip

    def __init__(
        self,
        attempt: Attempt,
        *,
        plain: bool = True,
        max_bytes: int = 256 * 2**20,
        headers: Mapping[str, str] | None = None,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._attempt, self._plain = attempt, plain
        self._headers, self._wall = headers or {}, wall
        # A picture comes in one line of some megabytes: only the whole is bounded.
        self._decoder = SSEDecoder(max_line=max_bytes, max_event=max_bytes, max_total=max_bytes)
        self._held: list[Event] = []
        self._open: set[int] = set()
        """Choices that have begun and not finished."""
        self._closed: set[int] = set()
        """Choices that have finished."""
        self._halves: dict[str, str] = {}
        """Halves of characters that wait for the other one, by where they stood."""
        self._last: Chunk | None = None
        """What was said last, but for plain words."""
        self._mould: Mould | None = None
        """That of the latest plain words."""
        self._moulds = 0
        self._usage: Mapping[str, Any] | None = None
        self._origin = self._flows = False
        self._events = 0
        self.said = self.finished = self.done = self.last_slow = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises nothing: what broke is in `error`."""
        if self.done or self.error is not None:
            return []
        try:
            payloads = self._decoder.feed(data)
        except SSETooLarge as large:
            return self._overflow(large)
        return self._take(payloads)

    def _overflow(self, large: SSETooLarge) -> list[Event]:
        """The stream passed a bound: what was whole before it counts, and a finished answer stands."""
        events = self._take(large.events)
        if not self._over:
            self._close(events)
            if not self.finished:
                self.error = self._broken(f"the stream is larger than allowed: {large}")
                self.error.again = "no"
        return events

    def end(self) -> list[Event]:
        """The upstream closed: the last events, with `error` set when the answer was not finished."""
        events = [] if self._over else self._take(self._decoder.flush())
        if not self._over:
            self._close(events)
        return events

    @property
    def _over(self) -> bool:
        return self.done or self.error is not None

    def release(self) -> list[Event]:
        """The finish that was held back for its usage, when no more waiting is worth it."""
        held, self._held = self._held, []
        return held

    def _take(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        self._events += len(payloads)
        if self._events > EVENTS_MAX:
            self.error = self._broken(f"the stream has more than {EVENTS_MAX} events")
            self.error.again = "no"
            return events
        for payload in payloads:
            # Nine events of ten are words and no more, and like the one before.
            mould = self._mould if self._flows else None
            words = mould.words(payload) if mould is not None else None
            if words:
                events.append(Chunk(payload, None, words, mould.data if mould is not None else None))
                self.last_slow = False
            elif self._parse(payload, events, fits=words is not None):
                break
        return events

    def _parse(self, payload: bytes, events: list[Event], *, fits: bool) -> bool:
        """One event, parsed; says whether it was the last. `fits`: its mould is known."""
        try:
            data: Any = orjson.loads(payload)
        except orjson.JSONDecodeError:
            data = mended(payload, self._halves)
        words = plain_words(data) if self._flows else ""
        if words:
            self.last_slow = False
            events.append(Chunk(payload, data, words))
            if not fits:
                self._learn(payload, data, words)
        elif type(data) is dict:
            self._event(payload, data, events)
        elif payload.startswith(b"[DONE]"):
            self._close(events)
        else:
            self._skip(payload)
        return self._over

    def _learn(self, payload: bytes, data: Json, words: str) -> None:
        """Make the mould for the events that follow; seldom, where the upstream writes each event another way."""
        if self._moulds * LEARN <= self._events:
            self._moulds += 1
            self._mould = mould_of(payload, data, words) or self._mould

    def _skip(self, payload: bytes) -> None:
        """An event that is no JSON object: it is counted, and breaks the stream where it cannot be borne."""
        # A proxy that prints a comment as data has sent no event at all; an empty data line neither.
        if payload.strip() and not payload.startswith(b":"):
            self._attempt.malformed += 1
            if self._attempt.malformed > MALFORMED_MAX or (self.last_slow and _writes_call(self._last)):
                self.error = self._broken("an event of the stream is no JSON")

    def _event(self, payload: bytes, data: Json, events: list[Event]) -> None:
        chunk = read_chunk(payload, data)
        if not self._origin or chunk.finish_reason is not None:
            note_origin(self._attempt, data)
            self._origin = True
        if chunk.failed:
            now = self._wall() if self._wall is not None else None
            fault = fault_in(data, whole=False, headers=self._headers, plain=self._plain, now=now)
            if fault is not None:
                self.error = self._late(fault) if self.said else fault
                return
        self._count(data)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.semantic:
            self.said, self.last_slow, self._last = True, chunk.slow, chunk
        elif not self.said and chunk.finish_reason in ANSWERS:
            chunk.semantic = self.said = True
        self._hand_out(chunk, events)
        self._flows = self.said and 0 in self._open

    def _hand_out(self, chunk: Chunk, events: list[Event]) -> None:
        """Give the event, or hold it back where it is the finish and its usage has not come."""
        if not self.finished:
            if self._held:
                events += self.release()  # Another choice has begun.
            events.append(chunk)
            return
        self._held.append(chunk)
        if self._usage is None:
            return
        if self.said:
            events += self.release()
        else:
            self.error = self._unfinished()

    def _count(self, data: Json) -> None:
        """Follow which choices are open; finished when every one that began has its finish_reason."""
        choices = data.get("choices")
        for choice in choices if type(choices) is list else ():
            if type(choice) is dict:
                index = choice.get("index")
                index = index if type(index) is int else 0
                if is_finished(choice):
                    self._open.discard(index)
                    self._closed.add(index)
                elif index not in self._closed:
                    self._open.add(index)
        self.finished = bool(self._closed) and not self._open

    @property
    def usage_seen(self) -> bool:
        """Whether the upstream has told what the answer used."""
        return self._usage is not None

    def _close(self, events: list[Event]) -> None:
        self.done = True
        self.error = self._unfinished()
        if self.error is None:
            events += self.release()

    def _unfinished(self) -> UpstreamError | None:
        if self.said:
            return None if self.finished else self._broken("the stream ended before the answer was finished")
        ended = (
            "the model finished and had said nothing" if self.finished else "the stream ended and nothing had been said"
        )
        return nothing_said(ended, self._usage)

    def _broken(self, message: str) -> UpstreamError:
        return StreamBroken(message, billed="yes" if self.said else "maybe")

    def _late(self, fault: UpstreamError) -> StreamBroken:
        """A failure behind words that were said: the stream broke, for this reason and with its verdict."""
        broken = StreamBroken(f"the stream broke: {fault.message}", status=fault.status, raw=fault.raw, billed="yes")
        if isinstance(fault, Rejected):
            broken.again, broken.onward = "no", fault.onward
        elif not isinstance(fault, Transient) or fault.again == "no":
            broken.again = "no"
        broken.retry_after, broken.scope, broken.__cause__ = fault.retry_after, fault.scope, fault
        return broken.at(provider=fault.provider, model=fault.model, generation_id=fault.generation_id)


def _writes_call(chunk: Chunk | None) -> bool:
    """Whether what was said last belongs to the arguments of a tool."""
    choices = chunk.data.get("choices") if chunk is not None else None
    deltas = [choice.get("delta") for choice in choices or () if isinstance(choice, dict)]
    return any(isinstance(delta, dict) and (delta.get("tool_calls") or delta.get("function_call")) for delta in deltas)


__all__ = ["MALFORMED_MAX", "Chunk", "StreamReader"]
