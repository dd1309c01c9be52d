"""Sends one request over a session and waits for the head of the answer.

Law: two roads to the same end, and the choice between them. What went wrong is mapped, timed and closed by
`exchange`.

`ClientSession.request` prepares cookies, redirects, traces, timeouts and netrc anew for every request, and builds
headers that are the same each time. None of it is used here, and it is half of what a request costs. `_Directly`
writes a head that was made once, over a connection of the session's pool, and reads the head of the answer with
aiohttp's parser. aiohttp does not promise these steps, so they are taken only with the versions they were tested
with, and not through a proxy; all else goes by `_by_session`, the public road, with the same result.
"""

# ruff: noqa: SLF001  # what aiohttp keeps to itself is read in this file only, and as said above

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.helpers import TimerNoop
from aiohttp.payload import Payload
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.tracing import Trace

TESTED: Final = ("3.14.",)
"""Versions of aiohttp whose steps `_Directly` knows: `tests/transport` runs on both roads."""
READ_BUFFER: Final = 2**18
"""Bytes that may wait to be read before the upstream is held back."""

JOINED: Final = 2**16
"""Smaller bodies go out in one piece with their head; copying larger ones costs more than a second write."""
LINES: Final = 1000
"""Addresses kept ready."""

Sent = Callable[[], None]
"""Called when the request goes out: from then on it may be billed."""


Send = Callable[[str, URL, bytes | None, Sent, Mapping[str, str] | None], "Awaitable[ClientResponse | Answered]"]
"""Method, URL, body, what to call when it goes out, further headers: sends, and reads the head of the answer."""


class Body(Payload):
    """The bytes of a request, which say when they go out: from then on it may be billed."""

    _autoclose = True

    def __init__(self, value: bytes, sent: Callable[[], None]) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self._sent = sent

    def __deepcopy__(self, memo: object) -> Body:
        return self  # Doubles of aiohttp copy what they are given; the exchange must stay the one that there is.

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text, for who debugs."""
        body: bytes = self._value
        return body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Called by aiohttp once there is a connection."""
        self._sent()
        await writer.write(self._value)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002  # a body is never cut: it has the length that was announced
    ) -> None:
        """The same; newer versions call this."""
        self._sent()
        await writer.write(self._value)


def connector(version: str = aiohttp.__version__, **options: Any) -> aiohttp.TCPConnector:
    """A pool of connections, with the options of aiohttp's own."""
    return _Pool(**options) if version.startswith(TESTED) else aiohttp.TCPConnector(**options)


class _Pool(aiohttp.TCPConnector):
    """aiohttp's pool, its connections with a better ear."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_ear, self._loop)

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # the signature is aiohttp's
    ) -> Connection:
        """A connection for a request: never one on which something came that nobody had asked for.

        What came would be taken for the answer. aiohttp looks only when a connection is given back.
        """
        while True:
            # One that rests is taken at once: most are, and aiohttp's own way there is a step longer.
            connection = None if req.proxy else await self._get(req.connection_key, traces)
            if connection is None:
                connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


class _Ear(ResponseHandler):
    """Tells the reader of a body when the connection ends because what came was no HTTP any more.

    aiohttp closes such a connection and lets the reader wait for ever.
    """

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("what came is no HTTP any more"))


def _ear(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Ear(loop)


def sender(session: aiohttp.ClientSession, proxy: str | None, version: str = aiohttp.__version__) -> Send:
    """How requests of this session are sent with this version of aiohttp."""
    if proxy is None and version.startswith(TESTED):
        return _Directly(session)
    return _by_session(session, None if proxy is None else URL(proxy))


def _by_session(session: aiohttp.ClientSession, proxy: URL | None) -> Send:
    fixed: CIMultiDict[str] = CIMultiDict()
    if proxy is not None:
        # aiohttp tells a proxy the session's headers too, and the key is among them: each request bears them itself.
        fixed.update(session.headers)
        session.headers.clear()

    async def send(
        method: str, url: URL, body: bytes | None, sent: Sent, headers: Mapping[str, str] | None
    ) -> ClientResponse:
        own = _merged(fixed, headers or {}) if fixed else headers
        # A GET has an empty body, which tells when it goes out.
        return await session.request(
            method, url, data=Body(body or b"", sent), headers=own, proxy=proxy, allow_redirects=False
        )

    return send


class _Wanted(ClientRequest):
    """What a connection is asked for with; its key is worked out once."""

    @cached_property
    def connection_key(self) -> ConnectionKey:  # pyright: ignore[reportIncompatibleMethodOverride]  # as a property
        return super().connection_key


class _Line:
    """One address of an upstream: how to get a connection there, and the head of a request as far as it is fixed."""

    __slots__ = ("head", "request")

    def __init__(self, request: _Wanted) -> None:
        self.request = request
        headers = [f"{name}: {text}" for name, text in request.headers.items()]
        head = [f"{request.method} {request.url.raw_path_qs} HTTP/1.1", *headers]
        if any(sign in line for line in head for sign in "\r\n\0"):
            raise ValueError("a header with a line break in it")
        self.head = "\r\n".join([*head, ""]).encode()


class Answered:
    """An answer whose head was read. Its connection goes back to the pool when the body has come."""

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: StreamReader) -> None:
        self.connection: Connection | None = connection
        self.status, self.headers, self.content = message.code, message.headers, content
        content.on_eof(self._over)

    @property
    def content_type(self) -> str:
        """What the body is, in lower case and without parameters."""
        return self.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()

    def _over(self) -> None:
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if connection.transport is None or connection.transport.get_write_buffer_size():
            connection.close()  # Answered before all of the request was out: the rest would go before the next one.
        else:
            connection.release()

    def close(self) -> None:
        """Drop the connection; whoever reads the body is told."""
        connection, self.connection = self.connection, None
        if connection is not None:
            if self.content.exception() is None:
                self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
            connection.close()


def received(response: ClientResponse | Answered) -> bytes:
    """What has come of the body and was not read yet; empty where nothing has.

    aiohttp takes a body piece by piece, and after each one lets its parser look for more. A stream has a piece for
    each token: here they are taken at once.
    """
    if type(response) is not Answered or type(response.content) is not StreamReader:
        return response.content.read_nowait()
    content = response.content
    failed = content.exception()
    if failed is not None:
        raise failed
    pieces = content._buffer
    if not pieces:
        return b""
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    content._size = 0
    content._cursor += len(data)
    if content._http_chunk_splits:
        content._http_chunk_splits = deque([content._http_chunk_splits[-1]])
    if content._protocol._reading_paused:
        content._protocol.resume_reading()
    return data


async def more(response: ClientResponse | Answered) -> bytes:
    """The next bytes of the body, waited for; empty at its end."""
    content = response.content
    if type(response) is not Answered or type(content) is not StreamReader:
        return await content.readany()
    while not content._buffer and not content.is_eof() and content.exception() is None:
        await content._wait("readany")
    return received(response)


class _Directly:
    """Sends over the pool of a session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        assert session.connector is not None
        self._session, self._pool = session, session.connector
        self._loop = asyncio.get_running_loop()
        self._timer, self._untimed = TimerNoop(), aiohttp.ClientTimeout()
        self._lines: dict[tuple[str, URL], _Line] = {}

    async def __call__(
        self, method: str, url: URL, body: bytes | None, sent: Sent, headers: Mapping[str, str] | None
    ) -> Answered:
        """Send a request and read the head of its answer."""
        line = None if headers else self._lines.get((method, url))
        if line is None:
            line = self._line(method, url, headers)
        connection = await self._pool.connect(line.request, [], self._untimed)
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            protocol.set_response_params(timer=self._timer, read_until_eof=True, read_bufsize=READ_BUFFER)
            sent()
            _write(protocol.transport, line.head, body)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, content = await protocol.read()
        except BaseException:
            connection.close()
            raise
        return Answered(connection, message, content)

    def _line(self, method: str, url: URL, headers: Mapping[str, str] | None) -> _Line:
        """The address; kept where nothing about it is of one call only."""
        fixed = self._session.headers
        request = _Wanted(
            method,
            url,
            headers=_merged(fixed, headers) if headers else fixed,
            loop=self._loop,
            session=self._session,
        )
        request.headers.popall(hdrs.CONTENT_LENGTH, None)  # Of the body that it does not have; each call has its own.
        line = _Line(request)
        if not headers and not url.raw_query_string and len(self._lines) < LINES:
            self._lines[method, url] = line
        return line


def _write(transport: asyncio.Transport, head: bytes, body: bytes | None) -> None:
    if body is None:
        transport.write(head + b"\r\n")
        return
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    if len(body) < JOINED:
        transport.write(head + body)
    else:
        transport.write(head)
        transport.write(body)


def _merged(fixed: CIMultiDict[str], more: Mapping[str, str]) -> CIMultiDict[str]:
    headers = fixed.copy()
    headers.update(more)
    return headers
