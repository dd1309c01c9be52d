"""Sends one request over a session and waits for the head of the answer.

Law: two roads to the same end, and the choice between them. What went wrong is mapped, timed and closed by
`exchange`.

`ClientSession.request` prepares cookies, redirects, traces, timeouts and netrc anew for every request, which is a
third of what a request costs, and none of it is used here. `_directly` takes the same steps without them: build
the request, get a connection from the session's pool, write, read the head. These steps are aiohttp's own, but it
does not promise them, so they are taken only with the versions they were tested with; every other version goes by
`_by_session`, the public road, with the same result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.helpers import TimerNoop
from aiohttp.payload import Payload
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

TESTED: Final = ("3.14.",)
"""Versions of aiohttp whose steps `_directly` knows: `tests/transport` runs on both roads."""
READ_BUFFER: Final = 2**18
"""Bytes that may wait to be read before the upstream is held back."""

Send = Callable[[str, URL, Payload | None, Mapping[str, str] | None, Mapping[str, str]], Awaitable[ClientResponse]]
"""Method, URL, body, further headers, query: sends them and gives the answer, its head read."""


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
    through = URL(proxy) if proxy is not None else None
    return _directly(session, through) if version.startswith(TESTED) else _by_session(session, through)


def _by_session(session: aiohttp.ClientSession, proxy: URL | None) -> Send:
    fixed: CIMultiDict[str] = CIMultiDict()
    if proxy is not None:
        # aiohttp tells a proxy the session's headers too, and the key is among them: each request bears them itself.
        fixed.update(session.headers)
        session.headers.clear()

    async def send(
        method: str, url: URL, body: Payload | None, headers: Mapping[str, str] | None, query: Mapping[str, str]
    ) -> ClientResponse:
        own = _merged(fixed, headers or {}) if fixed else headers
        return await session.request(
            method, url, data=body, headers=own, params=query, proxy=proxy, allow_redirects=False
        )

    return send


def _directly(session: aiohttp.ClientSession, proxy: URL | None) -> Send:
    pool = session.connector
    assert pool is not None
    timer, untimed, loop = TimerNoop(), aiohttp.ClientTimeout(), asyncio.get_running_loop()

    async def send(
        method: str, url: URL, body: Payload | None, headers: Mapping[str, str] | None, query: Mapping[str, str]
    ) -> ClientResponse:
        request = ClientRequest(
            method,
            url,
            params=query,
            headers=_merged(session.headers, headers) if headers else session.headers,
            data=body,
            loop=loop,
            response_class=ClientResponse,
            proxy=proxy,
            timer=timer,
            session=session,
            traces=[],
        )
        connection = await pool.connect(request, traces=[], timeout=untimed)
        protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(timer=timer, read_until_eof=True, read_bufsize=READ_BUFFER)
        try:
            response = await request.send(connection)
            try:
                await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise
        return response

    return send


def _merged(fixed: CIMultiDict[str], more: Mapping[str, str]) -> CIMultiDict[str]:
    headers = fixed.copy()
    headers.update(more)
    return headers
