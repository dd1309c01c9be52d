"""The road to the upstreams: one tuned aiohttp session for each.

Law: sessions, keys and headers. One try is `exchange`'s; no policy and no money here.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from orrouter.core.call import Call
from orrouter.core.clock import Clock, Cuts, LoopClock
from orrouter.core.completion import Completion
from orrouter.core.errors import AuthFailed, EmptyReply, PolicyError, RouterError
from orrouter.core.reply import EventStream, Reply
from orrouter.core.secret import Secret
from orrouter.transport.base import Upstream
from orrouter.transport.exchange import Exchange
from orrouter.wire.fold import completion_of
from orrouter.wire.request import request_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orrouter.core.events import Event

KEEP_ALIVE_S: Final = 30.0
"""Shorter than any CDN's idle limit, so that a request seldom meets a connection that is just being closed."""
USER_AGENT: Final = "orrouter"


class HttpTransport:
    """Answers calls over HTTP. Sessions are opened at the first call and belong to that event loop and process."""

    def __init__(self, upstreams: Mapping[str, Upstream], clock: Clock | None = None) -> None:
        self._upstreams = dict(upstreams)
        self._clock = clock or LoopClock()
        self._cuts = Cuts()
        self._roads: dict[str, _Road] = {}
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None

    async def __call__(self, call: Call) -> Reply:
        road = self._road(call.target.upstream)
        attempt = call.attempt
        assert attempt is not None, "the attempt layer stands above the transport"
        request = request_of(call)
        exchange = Exchange(call, request, self._clock, road.upstream.max_body, self._cuts)
        stream = EventStream(exchange, partial(_fold, call))
        try:
            await exchange.open(road.session, road.url(request.path), road.headers(call), **road.more(call))
            if not await stream.ahead(1):
                raise EmptyReply("the upstream said nothing")
        except BaseException:
            stream.close()
            raise
        return Reply(attempt, stream)

    def _road(self, name: str) -> _Road:
        loop = asyncio.get_running_loop()
        if self._home is None:
            self._home = loop, os.getpid()
        elif self._home[0] is not loop or self._home[1] != os.getpid():
            raise RouterError(_elsewhere(self._home[1] != os.getpid()))
        road = self._roads.get(name)
        if road is None:
            upstream = self._upstreams.get(name)
            if upstream is None:
                raise PolicyError(f"no upstream is called {name!r}", hint=f"known are {', '.join(self._upstreams)}")
            road = self._roads[name] = _Road(upstream)
        return road

    async def aclose(self) -> None:
        """Close every session; in a forked child only forget them, the sockets are the parent's."""
        roads, self._roads = self._roads, {}
        if self._home is None or self._home[1] == os.getpid():
            for road in roads.values():
                await road.session.close()
        self._home = None


def _fold(call: Call, said: Sequence[Event]) -> Completion:
    assert call.attempt is not None
    return completion_of(said, call.attempt, call.trail)


def _elsewhere(forked: bool) -> str:
    if forked:
        return "this Router was used before the process forked: build one after the fork, in each child"
    return "this Router belongs to another event loop: build one in each loop, or close it and build it anew"


class _Road:
    """One upstream with its session, prepared headers and URLs."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._urls: dict[str, URL] = {}
        self._key_stamp: tuple[float, str] | None = None
        headers = {
            hdrs.CONTENT_TYPE: "application/json",
            hdrs.ACCEPT: "application/json, text/event-stream",
            hdrs.ACCEPT_ENCODING: "identity",
            hdrs.USER_AGENT: USER_AGENT,
            **upstream.headers,
        }
        if isinstance(upstream.api_key, Secret) and upstream.api_key:
            headers[hdrs.AUTHORIZATION] = f"Bearer {upstream.api_key.reveal()}"
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=upstream.connections,
                keepalive_timeout=KEEP_ALIVE_S,
                ssl=_tls(upstream.ca_file),
                ttl_dns_cache=60,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            read_bufsize=2**18,
        )

    def url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = URL(f"{self.upstream.base_url.rstrip('/')}/{path}")
            if len(self._urls) < 1000:
                self._urls[path] = url
        return url

    def headers(self, call: Call) -> Mapping[str, str] | None:
        """What this call's headers add to the session's; None: nothing."""
        upstream = self.upstream
        if not upstream.has_key:
            raise AuthFailed(f"upstream {upstream.name} has no key: set its api_key, or take its targets out of the chain")
        fixed = isinstance(upstream.api_key, Secret)
        if fixed and not call.headers:
            return None
        headers = {name: value for name, value in call.headers.items() if name.lower() not in _OURS}
        if not fixed:
            headers[hdrs.AUTHORIZATION] = f"Bearer {self._key()}"
        return headers

    def _key(self) -> str:
        upstream = self.upstream
        if callable(upstream.api_key):
            return upstream.api_key()
        assert upstream.key_file is not None
        try:
            stamp = os.stat(upstream.key_file).st_mtime
            if self._key_stamp is None or self._key_stamp[0] != stamp:
                with open(upstream.key_file, encoding="utf-8") as file:
                    self._key_stamp = stamp, file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthFailed(f"the key file {upstream.key_file} cannot be read: {type(error).__name__}") from None
        return self._key_stamp[1]

    def more(self, call: Call) -> dict[str, Any]:
        """What else aiohttp is told for this call."""
        more: dict[str, Any] = {}
        if call.query:
            more["params"] = call.query
        if self.upstream.proxy:
            more["proxy"] = self.upstream.proxy
        return more


_OURS: Final = frozenset({"authorization", "cookie", "host", "content-length", "transfer-encoding", "connection"})
"""Headers that a call may not set: they are the transport's."""


def _tls(ca_file: str | None) -> ssl.SSLContext | bool:
    return True if ca_file is None else ssl.create_default_context(cafile=ca_file)


