"""For the tests of the transport: far ends on a socket and in virtual time, and the transport that talks to them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import orjson
import pytest_asyncio
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from orrouter.core.call import ALL, Attempt, Call, Clocks, Target, Trail
from orrouter.core.clock import Cuts, LoopClock
from orrouter.core.completion import Completion
from orrouter.core.errors import UpstreamError
from orrouter.core.reply import EventStream
from orrouter.core.secret import Secret
from orrouter.transport.base import Upstream
from orrouter.transport.exchange import Exchange
from orrouter.transport.http import HttpTransport
from orrouter.transport.sending import sender
from orrouter.wire.fold import completion_of
from orrouter.wire.request import request_of

KEY = "sk-or-v1-CANARY0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}
ANSWER = {
    "id": "gen-1", "model": "served", "provider": "P", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
}  # fmt: skip
JSON = orjson.dumps(ANSWER)
DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"


def sent(data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def event(delta: Mapping[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return sent({"id": "gen-1", "model": "served", "provider": "P", "choices": [choice], **more})


def said(text: str) -> bytes:
    return event({"content": text})


FINISH = event({}, "stop")
ACCOUNT = event({}, "stop", usage=USAGE)
STREAM = event({"role": "assistant", "content": ""}) + said("Hello ") + said("there") + FINISH + ACCOUNT + DONE


def call(*, upstream: str = "far", model: str = "asked", number: int = 1, **changes: Any) -> Call:
    """A call at the transport's door."""
    changes.setdefault("body", {"messages": HELLO})
    changes.setdefault("target", Target(upstream=upstream, model=model, key="k"))
    attempt = Attempt(number, changes["target"], asyncio.get_running_loop().time())
    return Call(trail=Trail("req_1", asyncio.get_running_loop().time), attempt=attempt, **changes)


def streamed(**changes: Any) -> Call:
    return call(streamed=True, **changes)


# --- a socket -----------------------------------------------------------------------------------------


class Line:
    """One connection that came in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: FarEnd) -> None:
        self.reader, self.writer, self.far = reader, writer, far

    async def request(self) -> bytes:
        """Head and body of the next request; raises IncompleteReadError when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        body = await self.reader.readexactly(int(length.partition(b":")[2]))
        self.far.requests.append(head + body)
        return head + body

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the client has left."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """The connection ends as it does when a machine dies."""
        own = self.writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Act = Callable[[Line], Awaitable[None]]


class Road:
    """An upstream as an exchange sees it: with room, and a key that nobody echoes."""

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body

    def full(self) -> bool:
        return False

    def hide(self, error: BaseException) -> None:
        """Nothing to hide."""


class FarEnd:
    """A server that plays one act for each connection; the last one repeats."""

    def __init__(self, *acts: Act, tls: Any = None) -> None:
        self._acts, self._tls = acts, tls
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/api/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act = self._acts[min(self.connections, len(self._acts) - 1)]
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await act(Line(reader, writer, self))
        finally:
            self._open.discard(task)
            with suppress(ConnectionError):
                writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()


def head(status: str = "200 OK", kind: str = "application/json", **headers: object) -> bytes:
    lines = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return (
        f"HTTP/1.1 {status}\r\n".encode()
        + b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        + b"\r\n"
    )


def whole(body: bytes = JSON, status: str = "200 OK", kind: str = "application/json", **headers: object) -> bytes:
    return head(status, kind, Content_Length=len(body), **headers) + body


def sse_head(**headers: object) -> bytes:
    return head(kind="text/event-stream", Transfer_Encoding="chunked", **headers)


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


LAST = b"0\r\n\r\n"


def plays(*pieces: bytes | None, then: str = "wait") -> Act:
    """Answers a request with these bytes, then waits for the client to leave, cuts, or resets. None: reads no request."""

    async def act(line: Line) -> None:
        if not pieces or pieces[0] is not None:
            await line.request()
        await line.send(*(data for data in pieces if data is not None))
        if then == "wait":
            await line.gone()
        elif then == "reset":
            line.reset()

    return act


def keeps(*answers: bytes) -> Act:
    """Answers each request on the same connection; the last answer repeats."""

    async def act(line: Line) -> None:
        count = 0
        while True:
            await line.request()
            await line.send(answers[min(count, len(answers) - 1)])
            count += 1

    return act


# --- virtual time ---------------------------------------------------------------------------------------


class Content:
    """What an exchange reads from: bytes that come at their time, an end, or an error."""

    def __init__(self) -> None:
        self._data, self._eof, self._error = b"", False, None
        self._wake: asyncio.Future[None] | None = None

    def bring(self, what: bytes | BaseException | None) -> None:
        if isinstance(what, bytes):
            self._data += what
        elif what is None:
            self._eof = True
        else:
            self._error = what
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def read_nowait(self) -> bytes:
        if self._error is not None and not self._data:
            raise self._error
        data, self._data = self._data, b""
        return data

    def is_eof(self) -> bool:
        return self._eof

    def at_eof(self) -> bool:
        return self._eof and not self._data

    async def readany(self) -> bytes:
        while not (self._data or self._eof or self._error):
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self.read_nowait()


class Response:
    """The head of an answer, with its body to come."""

    def __init__(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.status, self.content_type, self.closed = status, kind, False
        self.headers = CIMultiDictProxy(CIMultiDict(headers))
        self.content = Content()

    @property
    def connection(self) -> object | None:
        """What aiohttp holds until the answer was read to its end."""
        return None if self.closed or self.content.at_eof() else self

    def close(self) -> None:
        self.closed = True
        self.content.bring(ConnectionError("closed"))


class Tape:
    """A far end in virtual time: steps are (seconds since the head, bytes or error; None ends the body)."""

    def __init__(self, *steps: tuple[float, Any], connect: float = 0, silence: float = 0, status: int = 200,
                 kind: str = "text/event-stream", **headers: str) -> None:  # fmt: skip
        self.steps, self.connect, self.silence = steps, connect, silence
        self.response = Response(status, kind, {name.replace("_", "-"): value for name, value in headers.items()})

    async def __call__(self, method: str, url: URL, body: Any, sent: Any, headers: Any) -> Any:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.connect)
        sent()
        await asyncio.sleep(self.silence)
        for number, (at, what) in enumerate(self.steps):
            # Timers of one instant ring in no order: each is a hair later than the one before it.
            loop.call_later(at + number * 1e-7, self.response.content.bring, what)
        return self.response

    async def ask(self, asked: Call, max_body: int = 2**20) -> EventStream:
        """What `HttpTransport` does with a call, over this tape."""

        def fold(events: Any) -> Completion:
            assert asked.attempt is not None
            return completion_of(events, asked.attempt, asked.trail)

        exchange = Exchange(asked, request_of(asked), LoopClock(), Road(max_body), Cuts())
        stream = EventStream(exchange, fold)
        try:
            await exchange.open(self, URL("http://far"), None)
            await stream.ahead(ALL if asked.buffer == ALL else 1)
        except BaseException:
            stream.close()
            raise
        return stream


def clocks(**seconds: float) -> Clocks:
    return Clocks(**seconds)


# --- our end ------------------------------------------------------------------------------------------

GUARD_S = 10.0
"""No test waits longer for what should be over at once."""


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """No task and no file descriptor outlives a test."""
    before = len(asyncio.all_tasks()), _descriptors()
    yield
    async with asyncio.timeout(GUARD_S):
        while (len(asyncio.all_tasks()), _descriptors()) > before:
            await asyncio.sleep(0.001)


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208  # names alone, no stat of each


def upstream(url: str, **options: Any) -> Upstream:
    return Upstream("far", url, **{"api_key": Secret(KEY), **options})


@asynccontextmanager
async def transport(far: FarEnd | str, road: str = "direct", **options: Any) -> AsyncIterator[HttpTransport]:
    """A transport to one far end; `road` session: by aiohttp's public way."""
    ours = HttpTransport({"far": upstream(far if isinstance(far, str) else far.url, **options)})
    if road == "session":
        way = ours._road("far")
        way.send = sender(way.session, options.get("proxy"), version="0")
    try:
        yield ours
    finally:
        await ours.aclose()


async def ask(ours: HttpTransport, asked: Any) -> str:
    """The text of the whole answer."""
    async with asyncio.timeout(GUARD_S):
        reply = await ours(asked)
        return (await reply.completion()).text


async def outcome(ours: HttpTransport, asked: Any) -> tuple[str, str, str]:
    """How a call ended: `ok` or a code, what was billed, and what was said."""
    try:
        return "ok", "yes", await ask(ours, asked)
    except UpstreamError as error:
        return error.code, error.billed, getattr(error, "partial", "")


def header_lines(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    names = [line.partition(":")[0].lower() for line in lines]
    assert len(names) == len(set(names)), f"a header was sent twice: {lines}"
    return {name: line.partition(": ")[2] for name, line in zip(names, lines, strict=True)}
