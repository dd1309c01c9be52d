"""Server-sent events: bytes in, the data of complete events out, whatever way the bytes were cut.

Law: framing only, by the WHATWG rules for `text/event-stream`. What a payload means is read elsewhere
(`response`, `faults`), and no byte is fetched here. Two roads give the same result: chunks made of whole
LF-only events are split at their blank lines, everything else goes line by line.
"""

from __future__ import annotations

from typing import Literal

Bound = Literal["line", "event", "stream"]

_BOM = b"\xef\xbb\xbf"
_LF, _CR, _COLON = 0x0A, 0x0D, 0x3A


_MAYBE_BOM = (b"", _BOM[:1])  # a stream that begins otherwise has no byte order mark


class SSETooLarge(ValueError):
    """A stream passed one of the decoder's bounds; the decoder is of no further use.

    `bound` names it, `limit` is its size in bytes, `events` are the events of the same `feed` that were
    complete before.
    """

    def __init__(self, bound: Bound, limit: int, events: list[bytes] | None = None) -> None:
        super().__init__(bound, limit)
        self.bound, self.limit = bound, limit
        self.events = events or []

    def __str__(self) -> str:
        return f"the event stream is too large: one {self.bound} has more than {self.limit} bytes"


class SSEDecoder:
    """Turns the bytes of an event stream into the data of its events; one decoder per stream.

    Comments are counted in `comments` and are no events; names, ids and retry times are skipped. Memory is
    bounded by one line and one event, time is linear in the bytes fed, however small the pieces.

    Args:
        max_line: bytes of one line, without its end.
        max_event: bytes of the data of one event.
        max_total: bytes of the whole stream.
    """

    def __init__(self, *, max_line: int = 1 << 20, max_event: int = 1 << 20, max_total: int = 256 << 20) -> None:
        self.comments = 0
        self._max_line, self._max_event, self._max_total = max_line, max_event, max_total
        self._small = min(max_line, max_event)  # no line or event of a chunk this size can pass a bound
        self._room = max_total
        self._cut = bytearray()  # a line whose end has not come
        self._data: list[bytes] = []  # the data lines of an event whose end has not come
        self._size = 0  # of `_data`, with the joints
        self._first = True  # no line has ended yet: a byte order mark may stand before it
        self._after_cr = False  # an LF now belongs to the line that the CR has ended
        self._between = False  # exactly between two events

    @property
    def pending(self) -> bool:
        """Whether an event has begun whose end has not come."""
        return bool(self._data) or (len(self._cut) > 0 and self._cut[0] != _COLON)

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes, in order. Raises SSETooLarge."""
        size = len(data)
        if self._first and not self._cut and data[:1] not in _MAYBE_BOM:
            self._first, self._between = False, True
        if (
            self._between
            and size <= self._small
            and size <= self._room
            and data.endswith(b"\n\n")
            and b"\r" not in data
        ):
            self._room -= size
            return self._feed_whole(data)
        events: list[bytes] = []
        if size > self._room:
            self._feed_pieces(data[: self._room], events)
            raise SSETooLarge("stream", self._max_total, events)
        self._room -= size
        self._feed_pieces(data, events)
        return events

    def flush(self) -> list[bytes]:
        """At the end of the stream: the data of a last event that no blank line ended, if a data line of it was whole.

        The standard drops such an event; upstreams do end so. A line that was cut is not in it.
        """
        data, self._data, self._size = self._data, [], 0
        return [b"\n".join(data)] if data else []

    def close(self) -> bool:
        """Forget what is unfinished; says whether an event was (see `pending`)."""
        left = self.pending
        self._data, self._size = [], 0
        self._cut.clear()
        return left

    def _feed_whole(self, data: bytes) -> list[bytes]:
        """The common chunk: whole events, LF only, nothing pending before or after it."""
        if data.startswith(b"data: "):
            blocks = data[6:-2].split(b"\n\ndata: ")
            if data.count(b"\n") == 2 * len(blocks):
                return blocks  # each event is one line: what providers send
        events: list[bytes] = []
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            else:
                for line in block.split(b"\n"):
                    self._take(line, events)
                self._take(b"", events)
        return events

    def _feed_pieces(self, data: bytes, events: list[bytes]) -> None:
        """Any chunk: its line ends become LF, its first line joins what was cut, its last is kept as cut."""
        if not data:
            return
        start = 1 if self._after_cr and data[0] == _LF else 0
        self._after_cr = data[-1] == _CR
        text = data[start:].replace(b"\r\n", b"\n").replace(b"\r", b"\n") if start or b"\r" in data else data
        *lines, rest = text.split(b"\n")
        if lines and self._cut:
            lines[0] = bytes(self._cut) + lines[0]
            self._cut.clear()
        for line in lines:
            self._take(line, events)
        self._cut += rest
        if len(self._cut) > self._max_line:
            raise SSETooLarge("line", self._max_line, events)
        self._between = not (self._cut or self._data or self._after_cr)

    def _take(self, line: bytes, events: list[bytes]) -> None:
        """One whole line: a blank one ends the event, a data line belongs to it, a comment is counted."""
        if len(line) > self._max_line:
            raise SSETooLarge("line", self._max_line, events)
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            events += self.flush()
        elif line[0] == _COLON:
            self.comments += 1
        else:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._keep(value.removeprefix(b" "), events)

    def _keep(self, value: bytes, events: list[bytes]) -> None:
        """A data line of the event that is being read."""
        joint = 1 if self._data else 0
        self._size += joint + len(value)
        if self._size > self._max_event:
            raise SSETooLarge("event", self._max_event, events)
        self._data.append(value)
