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
from orrouter.core.errors import EmptyReply, Rejected, StreamBroken, Transient, UpstreamError
from orrouter.core.events import Chunk, Event, Json
from orrouter.wire.faults import fault_in
from orrouter.wire.response import ANSWERS, note_origin, read_chunk
from orrouter.wire.sse import SSEDecoder, SSETooLarge

MALFORMED_MAX: Final = 3
"""Events without JSON that a stream may hold and still be believed."""


class StreamReader:
    """Reads one stream. After each `feed`: `error` is set when it broke, `done` when nothing more is needed."""

    __slots__ = (
        "_attempt", "_decoder", "_headers", "_held", "_open", "_origin", "_plain", "_wall", "done", "error", "finished",
        "last_slow", "said", "usage_seen",
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
        self._decoder = SSEDecoder(max_total=max_bytes)
        self._held: list[Event] = []
        self._open: set[int] = set()
        """Choices that have begun and not finished."""
        self._origin = False
        self.said = self.finished = self.usage_seen = self.done = self.last_slow = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises nothing: what broke is in `error`."""
        try:
            payloads = self._decoder.feed(data)
        except SSETooLarge as large:
            self.error = StreamBroken(f"the stream is larger than allowed: {large}", again="no")
            return []
        return self._take(payloads)

    def end(self) -> list[Event]:
        """The upstream closed: the last events, with `error` set when the answer was not finished."""
        events = self._take(self._decoder.flush())
        if self.error is None and not self.done:
            self.done = True
            events += self.release()
            self.error = self._unfinished()
        return events

    def release(self) -> list[Event]:
        """The finish that was held back for its usage, when no more waiting is worth it."""
        held, self._held = self._held, []
        return held

    def _take(self, payloads: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for payload in payloads:
            if self.error is not None:
                break
            if payload == b"[DONE]":
                self._close(events)
                break
            data = self._parse(payload)
            if data is not None:
                self._event(payload, data, events)
        return events

    def _parse(self, payload: bytes) -> Json | None:
        try:
            data: Any = orjson.loads(payload)
        except orjson.JSONDecodeError:
            data = None
        if type(data) is dict:
            return data
        # A proxy that prints a comment as data has sent no event at all; an empty data line neither.
        if payload.strip() and not payload.startswith(b":"):
            self._attempt.malformed += 1
            if self.last_slow or self._attempt.malformed > MALFORMED_MAX:
                self.error = self._broken("an event of the stream is no JSON")
        return None

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
            self.usage_seen = True
        if chunk.semantic:
            self.said, self.last_slow = True, chunk.slow
        if chunk.finish_reason is not None and not self.said:
            if chunk.finish_reason in ANSWERS:
                chunk.semantic = self.said = True
        if self.finished:
            self._held.append(chunk)
            if self.usage_seen:
                events += self.release()
        else:
            events.append(chunk)
        if self.finished and not self.said:
            self._silent(events)

    def _count(self, data: Json) -> None:
        """Follow which choices are open; finished when every one that began has its finish_reason."""
        choices = data.get("choices")
        if type(choices) is not list:
            return
        for choice in choices:
            if type(choice) is dict:
                index = choice.get("index") or 0
                if choice.get("finish_reason"):
                    self._open.discard(index)
                    self.finished = not self._open
                elif not self.finished:
                    self._open.add(index)

    def _silent(self, events: list[Event]) -> None:
        """`stop` with nothing said: an empty reply, once its usage has come or will not."""
        if self.usage_seen:
            events.clear()
            self.error = self._unfinished()

    def _close(self, events: list[Event]) -> None:
        self.done = True
        events += self.release()
        self.error = self._unfinished()
        if self.error is not None and not self.said:
            events.clear()

    def _unfinished(self) -> UpstreamError | None:
        if self.finished:
            if self.said:
                return None
            return EmptyReply("the model finished and had said nothing")
        if self.said:
            return self._broken("the stream ended before the answer was finished")
        return EmptyReply("the stream ended and nothing had been said")

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


__all__ = ["MALFORMED_MAX", "Chunk", "StreamReader"]
