"""The road to the upstreams: one tuned aiohttp session for each.

Law: sessions and headers. One try is `exchange`'s; no policy and no money here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from orrouter.core.call import Call
from orrouter.core.clock import Clock, Cuts, LoopClock
from orrouter.core.completion import Completion
from orrouter.core.errors import EmptyReply, PolicyError, RouterError
from orrouter.core.process import FORKS
from orrouter.core.reply import EventStream, Reply
from orrouter.transport.base import CLOSED_HEADERS, Upstream
from orrouter.transport.exchange import Exchange
from orrouter.transport.keys import Keys
from orrouter.transport.sending import READ_BUFFER, connector, sender
from orrouter.wire.fold import completion_of
from orrouter.wire.request import request_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orrouter.core.events import Event

KEEP_ALIVE_S: Final = 30.0
"""Shorter than any CDN's idle limit, so that a request seldom meets a connection that is just being closed."""
CUT_TURNS: Final = 10
"""Turns of the loop in which a broken connection tells its reader; under TLS it takes more than one."""
USER_AGENT: Final = "orrouter"


class HttpTransport:
    """Answers calls over HTTP. Sessions are opened at the first call and belong to that event loop and process."""

    def __init__(self, upstreams: Mapping[str, Upstream], clock: Clock | None = None) -> None:
        self._upstreams = dict(upstreams)
        self._clock = clock or LoopClock()
        self._cuts = Cuts()
        self._roads: dict[str, _Road] = {}
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._closed = False

    async def __call__(self, call: Call) -> Reply:
        """Ask the upstream of `call.target`. Raises UpstreamError, DeadlineExceeded, PolicyError or RouterError."""
        road = self._road(call.target.upstream)
        attempt = call.attempt
        assert attempt is not None, "the attempt layer stands above the transport"
        request = request_of(call)
        exchange = Exchange(call, request, self._clock, road, self._cuts)
        stream = None
        try:
            begun = await exchange.open(road.send, road.url(request.path, call.query), road.headers(call))
            stream = EventStream(exchange, partial(_fold, call), begun, exchange.loop)
            if not begun and not await stream.ahead(1):
                raise EmptyReply("the upstream said nothing")
        except BaseException:
            (stream or exchange).close()
            raise
        return Reply(attempt, stream)

    def _road(self, name: str) -> _Road:
        loop = asyncio.get_running_loop()
        if self._home is None:
            self._home = loop, FORKS[0]
        elif self._home[0] is not loop or self._home[1] != FORKS[0]:
            raise RouterError(_elsewhere(self._home[1] != FORKS[0]))
        if self._closed:
            raise RouterError("this Router is closed: build a new one")
        road = self._roads.get(name)
        if road is None:
            upstream = self._upstreams.get(name)
            if upstream is None:
                raise PolicyError(f"no upstream is called {name!r}", hint=f"known are {', '.join(self._upstreams)}")
            road = self._roads[name] = _Road(upstream)
        return road

    async def aclose(self) -> None:
        """Close every session; in a forked child only forget them, the sockets are the parent's."""
        self._closed = True
        roads, self._roads = self._roads, {}
        if self._home is None or self._home[1] == FORKS[0]:
            for road in roads.values():
                if self._home is not None and self._home[0] is asyncio.get_running_loop():
                    await _cut_off(road.session.connector)
                await road.session.close()


async def _cut_off(connector: aiohttp.BaseConnector | None) -> None:
    """Break the connections in use, so that whoever reads from one is told: closing a session tells nobody."""
    for waiters in getattr(connector, "_waiters", {}).values():
        for waiting in waiters:  # Whoever waits for a connection: aiohttp would end the wait with a cancel.
            if not waiting.done():
                waiting.set_exception(aiohttp.ClientConnectionError("the session was closed"))
    used = [one for one in getattr(connector, "_acquired", ()) if isinstance(one, ResponseHandler)]
    for one in used:
        if one.transport is not None:
            one.transport.abort()
    for _ in range(CUT_TURNS):
        if any(one.connected for one in used):
            await asyncio.sleep(0)


def _fold(call: Call, said: Sequence[Event]) -> Completion:
    assert call.attempt is not None
    return completion_of(said, call.attempt, call.trail)


def _elsewhere(forked: bool) -> str:
    if forked:
        return "this Router was used before the process forked: build one after the fork, in each child"
    return "this Router belongs to another event loop: build one in each loop"


class _Road:
    """One upstream with its session, prepared headers and URLs."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._urls: dict[str, URL] = {}
        self._keys = Keys(upstream)
        tls = _tls(upstream)
        self.session = aiohttp.ClientSession(
            headers=_prepared(upstream, self._keys),
            connector=connector(
                limit=upstream.connections,
                keepalive_timeout=KEEP_ALIVE_S,
                ssl=tls,
                ttl_dns_cache=60,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            read_bufsize=READ_BUFFER,
        )
        self.send = sender(self.session, upstream.proxy)

    def url(self, path: str, query: Mapping[str, str]) -> URL:
        """Where a path of this upstream is. Raises PolicyError for a base_url that is none."""
        url = self._urls.get(path)
        if url is None:
            try:
                url = URL(f"{self.upstream.base_url.rstrip('/')}/{path}")
            except ValueError as error:
                raise PolicyError(f"the base_url of upstream {self.upstream.name} is no address: {error}") from None
            if len(self._urls) < 1000:
                self._urls[path] = url
        return url.extend_query(query) if query else url

    @property
    def max_body(self) -> int:
        """The largest answer in bytes."""
        return self.upstream.max_body

    def full(self) -> bool:
        """Whether every connection that the policy allows is in use."""
        return len(getattr(self.session.connector, "_acquired", ())) >= self.upstream.connections

    def hide(self, error: BaseException) -> None:
        """Take the key out of an error in which the far end has echoed it."""
        self._keys.hide(error)

    def headers(self, call: Call) -> Mapping[str, str] | None:
        """What this call's headers add to the session's; None: nothing."""
        keys = self._keys
        if keys.fixed and not call.headers:
            return None
        headers = _Headers((name, value) for name, value in call.headers.items() if name.lower() not in CLOSED_HEADERS)
        if not keys.fixed:
            headers[hdrs.AUTHORIZATION] = keys.bearer()
        return headers


class _Headers(dict[str, str]):
    """Headers with a key among them: whoever shows them shows their names only."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


def _prepared(upstream: Upstream, keys: Keys) -> CIMultiDict[str]:
    """What every request of an upstream bears. Raises AuthFailed for a key that cannot be sent."""
    headers = CIMultiDict(
        {
            hdrs.CONTENT_TYPE: "application/json",
            hdrs.ACCEPT: "application/json, text/event-stream",
            hdrs.ACCEPT_ENCODING: "identity",
            hdrs.USER_AGENT: USER_AGENT,
        }
    )
    headers.update(upstream.headers)
    if keys.fixed:
        headers[hdrs.AUTHORIZATION] = keys.bearer()
    return headers


def _tls(upstream: Upstream) -> ssl.SSLContext | bool:
    if upstream.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=upstream.ca_file)
    except OSError as error:
        raise PolicyError(
            f"upstream {upstream.name} cannot read its certificates from {upstream.ca_file}: {error}", key="ca_file"
        ) from None
