"""The transport over real sockets: its pool, what it sends, where it lives."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from aioresponses import aioresponses

from orrouter.core.call import Clocks, Target
from orrouter.core.errors import LimitReached, PolicyError, RouterError, UpstreamError
from orrouter.transport.http import HttpTransport
from tests.transport.far import (
    GUARD_S,
    HELLO,
    JSON,
    KEY,
    LAST,
    STREAM,
    FarEnd,
    Line,
    ask,
    call,
    head,
    header_lines,
    keeps,
    nothing_is_left,  # noqa: F401  # a fixture is used by its name
    outcome,
    piece,
    plays,
    said,
    sse_head,
    streamed,
    transport,
    upstream,
    whole,
)

ROOT = Path(__file__).parents[2]

# --- the pool ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        whole(),
        sse_head() + piece(STREAM) + LAST,
        sse_head() + b"".join(map(piece, STREAM.splitlines(keepends=True))) + LAST,
        whole(b'{"error": {"code": 503, "message": "busy"}}', "503 Service Unavailable"),
        whole(b'{"choices": []}'),
    ],
    ids=["json", "stream", "stream in lines", "error", "no answer"],
)
@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_connection_serves_again_when_its_answer_was_read_to_the_end(answer, road):
    """Three calls, one connection, also where the answer was an error."""
    async with FarEnd(keeps(answer)) as far, transport(far, road) as ours:
        outcomes = {await outcome(ours, call(streamed=b"event-stream" in answer)) for _ in range(3)}
    assert (1, 1, 3) == (len(outcomes), far.connections, len(far.requests))


async def test_a_connection_that_was_cut_serves_no_more():
    """Nor does one whose stream was left."""
    async with FarEnd(plays(sse_head(), piece(said("Hi")), then="cut"), keeps(whole())) as far, transport(far) as ours:
        assert ("stream_broken", "yes", "Hi") == await outcome(ours, streamed())
        assert "Hello there" == await ask(ours, call())
    assert 2 == far.connections


async def test_a_stream_that_is_left_drops_its_connection_at_once():
    """The upstream sees it, and may stop."""
    left = asyncio.Event()

    async def tells(line) -> None:
        await line.request()
        await line.send(sse_head(), piece(said("Hi")))
        await line.gone()
        left.set()

    async with FarEnd(tells) as far, transport(far) as ours:
        reply = await ours(streamed())
        reply.close()
        async with asyncio.timeout(GUARD_S):
            await left.wait()


async def test_a_call_that_is_cancelled_drops_its_connection_at_once():
    """At any wait: connecting, before the head, in the body."""
    for act in (plays(), plays(b""), plays(head(Content_Length=99)), plays(sse_head())):
        async with FarEnd(act) as far, transport(far) as ours:
            task = asyncio.ensure_future(ours(streamed()))
            while not far.connections:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_calls_side_by_side_share_the_pool_and_wait_for_room():
    """No more connections than allowed, and every call is served."""
    async with FarEnd(keeps(whole())) as far, transport(far, connections=3) as ours:
        texts = await asyncio.gather(*(ask(ours, call()) for _ in range(30)))
    assert (["Hello there"] * 30, 30) == (texts, len(far.requests))
    assert far.connections <= 3


async def test_a_pool_without_room_is_a_limit_of_our_own():
    """Waiting for room counts as connecting; nothing was sent, and the upstream has not failed."""
    async with FarEnd(plays(b"")) as far, transport(far, connections=1) as ours:
        first = asyncio.ensure_future(ours(call()))
        while not far.requests:
            await asyncio.sleep(0)
        with pytest.raises(LimitReached, match="`connections`"):
            await ours(call(clocks=Clocks(connect=0.05)))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


# --- what goes out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_the_request_as_it_goes_over_the_wire(road):
    """Path, key, the upstream's own headers, those of the call, the body in one piece; no cookie, no compression."""
    own = {"X-OpenRouter-Title": "App", "user-agent": "mine"}
    async with FarEnd(keeps(whole(Set_Cookie="a=b"))) as far, transport(far, road, headers=own) as ours:
        asked = call(headers={"x-session-id": "s"}, query={"a": "b c"})
        await ask(ours, asked)
        await ask(ours, call())
    first, second = far.requests
    body = b'{"model":"asked","messages":[{"role":"user","content":"Hello"}]}'
    assert b"POST /api/v1/chat/completions?a=b+c HTTP/1.1" == first.partition(b"\r\n")[0]
    assert body == first.partition(b"\r\n\r\n")[2]
    told = header_lines(first)
    assert (f"Bearer {KEY}", "application/json", str(len(body)), "identity") == (
        told["authorization"], told["content-type"], told["content-length"], told["accept-encoding"],
    )  # fmt: skip
    assert ("App", "mine", "s") == (told["x-openrouter-title"], told["user-agent"], told["x-session-id"])
    assert set() == {"cookie", "x-session-id"} & header_lines(second).keys()


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_an_answer_before_the_whole_request_ends_its_connection(road):
    """What is still to be sent would stand before the next request: that one takes another connection."""
    first = asyncio.Event()

    async def hasty(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(whole())
        await first.wait()
        await line.gone()

    async with FarEnd(hasty, keeps(whole())) as far, transport(far, road) as ours:
        long = [{"role": "user", "content": "word" * 8_000_000}]
        assert "Hello there" == await ask(ours, call(body={"messages": long}))
        first.set()
        assert "Hello there" == await ask(ours, call())
    assert 2 == far.connections


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_what_comes_before_the_answer_is_passed_over(road):
    """Interim heads (RFC 9110, 1xx) say nothing about how it went."""
    hints = head("103 Early Hints", Link="</a>") + head("102 Processing")
    async with FarEnd(keeps(hints + whole())) as far, transport(far, road) as ours:
        assert ["Hello there"] * 2 == [await ask(ours, call()) for _ in range(2)]
    assert 1 == far.connections


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_header_with_a_line_break_never_goes_out(road):
    """It would be a header of its own."""
    async with FarEnd(keeps(whole())) as far, transport(far, road) as ours:
        asked = call(headers={"x-tail": "a\r\nX-Other: b"})
        assert ("invalid_request", "no", "") == (await outcome(ours, asked))
    assert [] == far.requests


@pytest.mark.parametrize("road", ["direct", "session"])
async def test_a_long_body_arrives_as_it_was_written(road):
    """Whether it goes out in one piece with its head or not."""
    async with FarEnd(keeps(whole())) as far, transport(far, road) as ours:
        for size in (2**15, 2**17, 2**21):
            await ask(ours, call(body={"messages": [{"role": "user", "content": "x" * size}]}))
    bodies = [orjson.loads(request.partition(b"\r\n\r\n")[2]) for request in far.requests]
    assert [2**15, 2**17, 2**21] == [len(body["messages"][0]["content"]) for body in bodies]


async def test_a_get_asks_for_its_path_without_a_body():
    """With its query."""
    async with FarEnd(keeps(whole(b'{"data": {"id": "gen-1"}}'))) as far, transport(far) as ours:
        reply = await ours(call(endpoint="generation", method="GET", query={"id": "gen-1"}))
        assert {"data": {"id": "gen-1"}} == (await reply.completion()).raw
    line, _, rest = far.requests[0].partition(b"\r\n")
    assert (b"GET /api/v1/generation?id=gen-1 HTTP/1.1", b"") == (line, rest.partition(b"\r\n\r\n")[2])


async def test_a_call_cannot_take_over_the_headers_of_the_transport():
    """Key, host, length, encoding, hop-by-hop: whatever the case, they are left out."""
    forbidden = {
        "authorization": "Bearer stolen", "HOST": "else.where", "Content-Length": "1", "Transfer-Encoding": "chunked",
        "Connection": "close", "Cookie": "a=b", "accept-encoding": "gzip", "content-type": "text/plain",
        "Proxy-Authorization": "x", "TE": "x", "Upgrade": "x", "Expect": "100-continue",
    }  # fmt: skip
    async with FarEnd(keeps(whole())) as far, transport(far) as ours:
        assert "Hello there" == await ask(ours, call(headers=forbidden))
    told = header_lines(far.requests[0])
    assert (f"Bearer {KEY}", f"127.0.0.1:{far.port}", "application/json") == (
        told["authorization"],
        told["host"],
        told["content-type"],
    )
    assert set() == {"cookie", "transfer-encoding", "te", "upgrade", "expect", "proxy-authorization"} & told.keys()


@pytest.mark.parametrize("where", ["call", "upstream"])
async def test_a_line_break_in_a_header_is_refused(where):
    """Whoever put it there: nothing goes out."""
    evil = {"X-A": "b\r\nX-Evil: c"}
    async with FarEnd(keeps(whole())) as far:
        async with transport(far, **({"headers": evil} if where == "upstream" else {})) as ours:
            assert ("invalid_request", "no", "") == await outcome(ours, call(headers=evil if where == "call" else {}))
    assert [] == far.requests


# --- where it lives --------------------------------------------------------------------------------------------


async def test_an_upstream_that_nobody_named_is_a_mistake():
    """With the names that there are."""
    async with transport("http://127.0.0.1:1") as ours:
        with pytest.raises(PolicyError, match="no upstream is called 'near'; known are far"):
            await ours(call(target=Target(upstream="near")))


@pytest.mark.parametrize("url", ["http://[::1", "http://far:port"])
async def test_a_base_url_that_is_no_address_is_a_mistake(url):
    """In words, not in aiohttp's errors."""
    async with transport(url) as ours:
        with pytest.raises((PolicyError, UpstreamError)):
            await ask(ours, call())


def test_a_transport_belongs_to_its_loop():
    """A second loop is told so."""
    ours = HttpTransport({"far": upstream("http://127.0.0.1:1")})

    async def once() -> None:
        await outcome(ours, call())

    first = asyncio.new_event_loop()
    first.run_until_complete(once())
    with pytest.raises(RouterError, match="belongs to another event loop"):
        asyncio.run(once())
    first.run_until_complete(ours.aclose())
    first.close()


async def test_a_closed_transport_says_so():
    """It opens no session that nobody would close."""
    async with FarEnd(keeps(whole())) as far:
        async with transport(far) as ours:
            await ask(ours, call())
        with pytest.raises(RouterError, match="is closed"):
            await ask(ours, call())
        await ours.aclose()


FORKED = """
import asyncio, os
from orrouter.core.errors import RouterError
from tests.transport.far import FarEnd, ask, call, keeps, upstream, whole
from orrouter.transport.http import HttpTransport

async def parent():
    async with FarEnd(keeps(whole())) as far:
        global ours
        ours = HttpTransport({"far": upstream(far.url)})
        print(await ask(ours, call()), flush=True)

async def child():
    try:
        await ask(ours, call())
    except RouterError as error:
        print(error, flush=True)
    await ours.aclose()

loop = asyncio.new_event_loop()
loop.run_until_complete(parent())
if os.fork() == 0:
    asyncio.run(child())
    os._exit(0)
os.wait()
loop.run_until_complete(ours.aclose())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_a_forked_child_is_told_to_build_its_own():
    """The sockets are the parent's."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert [
        "Hello there",
        "this Router was used before the process forked: build one after the fork, in each child",
    ] == (done.stdout.splitlines()), done.stderr


# --- against aiohttp's own doubles ------------------------------------------------------------------------------


class Answered(aiohttp.ClientResponse):
    """aioresponses builds answers without the `stream_writer` that this aiohttp wants."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"stream_writer": SimpleNamespace(output_size=0), **options})


CHAT = "http://far.invalid/api/v1/chat/completions"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"body": JSON, "content_type": "application/json"}, ("ok", "yes", "Hello there")),
        ({"status": 429, "payload": {"error": {"code": 429, "message": "slow"}}}, ("rate_limited", "no", "")),
        ({"exception": aiohttp.ServerDisconnectedError()}, ("connection_failed", "no", "")),
        ({"exception": TimeoutError()}, ("connection_failed", "no", "")),
    ],
)
async def test_the_public_road_asks_aiohttp_as_it_promises(answer, expected):
    """One request by the session's own door; what comes back, or is raised, is read as over a socket."""
    async with transport("http://far.invalid/api/v1", "session") as ours:
        with aioresponses() as double:
            double.post(CHAT, response_class=Answered, **answer)
            assert expected == await outcome(ours, call())
            double.assert_called_once()
            ((method, url),) = double.requests
            options = double.requests[method, url][0].kwargs
    assert ("POST", CHAT, False) == (method, str(url), options["allow_redirects"])
    assert HELLO[0]["content"].encode() in options["data"]._value
