"""A router behind the OpenAI SDK, and behind whatever stands on it, without a server.

    client = async_openai(router)                  # an openai.AsyncOpenAI
    done = await client.chat.completions.create(model="policy/default", messages=[...])

`openai(router)` does the same for an `orrouter.sync.Router`. `http_client` and `sync_http_client` are for code that
builds its own client: `ChatOpenAI(http_async_client=http_client(router), http_client=sync_http_client(blocking))`.
A router asks again as its policy says, so the SDK never does. Headers say what the SDK has no words for:
`X-Orrouter-Tag-NAME`, `X-Orrouter-Policy`, `X-Max-Cost`, `X-Request-Id`; other `X-…` headers go on to the upstream.

Law: the skins that httpx wants, in whichever httpx the SDK runs on. What is asked and answered is `openai_desk`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from orrouter.adapters.openai_asks import Sent
from orrouter.adapters.openai_desk import Answer, Lines, Tell, serve
from orrouter.core.errors import PolicyError, RouterError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from orrouter import sync
    from orrouter.router import Router

BASE_URL: Final = "http://orrouter.invalid/v1"
"""An address that cannot exist (RFC 2606): should a request ever go past the router, it reaches nobody."""
API_KEY: Final = "orrouter"
ERROR: Final = "orrouter_error"
"""Where the router's own error hangs on a request and a response: `exc.response.extensions[ERROR]`."""


def async_openai(router: Router, **options: Any) -> AsyncOpenAI:
    """An `openai.AsyncOpenAI` that asks `router`. `options` are the SDK's, as default_headers or timeout.

    Closing the client leaves the router open. Raises PolicyError when the SDK is not installed.
    """
    sdk = _sdk()
    client: AsyncOpenAI = sdk.AsyncOpenAI(**{**_usual(), **options, "http_client": http_client(router)})
    return client


def openai(router: sync.Router, **options: Any) -> OpenAI:
    """An `openai.OpenAI` that asks `router`; as `async_openai`, for code without an event loop."""
    sdk = _sdk()
    client: OpenAI = sdk.OpenAI(**{**_usual(), **options, "http_client": sync_http_client(router)})
    return client


def http_client(router: Router, library: ModuleType | None = None) -> Any:
    """An `AsyncClient` of the httpx that the installed SDK runs on (httpx2 from openai 3 on), or of `library`.

    It has no timeout, so that the SDK attaches none of its own accord: only one that its user sets reaches the router.
    """
    if hasattr(router, "inner"):
        raise TypeError("this is an orrouter.sync.Router: use openai(router) or sync_http_client(router)")
    library = library or _http_library()
    return library.AsyncClient(transport=_AsyncTransport(router, library), timeout=None, trust_env=False)


def sync_http_client(router: sync.Router, library: ModuleType | None = None) -> Any:
    """A `Client` of the httpx that the installed SDK runs on, or of `library`."""
    if not hasattr(router, "inner"):
        raise TypeError("this is no orrouter.sync.Router: use async_openai(router) or http_client(router)")
    library = library or _http_library()
    return library.Client(transport=_Transport(router, library), timeout=None, trust_env=False)


def router_error(error: BaseException) -> RouterError | None:
    """The router's own error behind one that the SDK raised, with its record; None when there is none."""
    extensions = getattr(getattr(error, "request", None), "extensions", None)
    found = extensions.get(ERROR) if isinstance(extensions, Mapping) else None
    return found if isinstance(found, RouterError) else None


def _usual() -> dict[str, Any]:
    return {"base_url": BASE_URL, "api_key": API_KEY, "max_retries": 0}


def _sdk() -> ModuleType:
    try:
        return import_module("openai")
    except ImportError as error:
        raise PolicyError("the OpenAI SDK is not installed", hint='pip install "orrouter[openai]"') from error


def _http_library() -> ModuleType:
    """The module whose client the SDK's own default client is."""
    default = _sdk().DefaultAsyncHttpxClient
    foreign = next(kind for kind in default.__mro__ if not kind.__module__.startswith("openai"))
    return import_module(foreign.__module__.partition(".")[0])


# --- the skins ----------------------------------------------------------------------------------------------


class _AsyncTransport:
    """What `AsyncClient(transport=…)` wants."""

    def __init__(self, router: Router, library: ModuleType) -> None:
        self._router, self._library = router, library

    async def handle_async_request(self, request: Any) -> Any:
        answer = await serve(self._router, _sent(request, await request.aread()), _tell(request))
        if isinstance(answer.body, bytes):
            return _response(self._library, answer, request, content=answer.body)
        stream = _kind(_AsyncBody, self._library.AsyncByteStream)(answer.body)
        return _response(self._library, answer, request, stream=stream)

    async def aclose(self) -> None:
        """Nothing: the router belongs to whoever built it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _AsyncBody:
    """A stream's lines as httpx reads them."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        lines = await self._lines.read()
        if not lines:
            raise StopAsyncIteration
        return lines

    async def aclose(self) -> None:
        self._lines.close()


class _Transport:
    """What `Client(transport=…)` wants."""

    def __init__(self, router: sync.Router, library: ModuleType) -> None:
        self._router, self._library = router, library

    def handle_request(self, request: Any) -> Any:
        sent = _sent(request, request.read())
        answer = self._router.run(serve(self._router.inner, sent, _tell(request)))
        if isinstance(answer.body, bytes):
            return _response(self._library, answer, request, content=answer.body)
        stream = _kind(_Body, self._library.SyncByteStream)(self._router, answer.body)
        return _response(self._library, answer, request, stream=stream)

    def close(self) -> None:
        """Nothing: the router belongs to whoever built it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Body:
    """A stream's lines as httpx reads them without an event loop."""

    def __init__(self, router: sync.Router, lines: Lines) -> None:
        self._router, self._lines = router, lines

    def __iter__(self) -> Iterator[bytes]:
        while lines := self._router.run(self._lines.read()):
            yield lines

    def close(self) -> None:
        self._router.let_go(self._lines.close)


@cache
def _kind(body: type[Any], base: type[Any]) -> type[Any]:
    """`body` as a `base`: httpx checks the class of a stream, and which httpx it is is known only at run time."""
    return type(body.__name__, (body, base), {})


def _sent(request: Any, content: bytes) -> Sent:
    timeout = (request.extensions.get("timeout") or {}).get("read")
    return Sent(request.method, request.url.path, dict(request.headers), content, timeout)


def _tell(request: Any) -> Tell:
    extensions: MutableMapping[str, Any] = request.extensions
    return partial(extensions.__setitem__, ERROR)


def _response(library: ModuleType, answer: Answer, request: Any, **body: Any) -> Any:
    found = request.extensions.get(ERROR)
    extensions = {} if found is None else {ERROR: found}
    return library.Response(answer.status, headers=dict(answer.headers), extensions=extensions, **body)
