"""Attacks that once succeeded: each through the whole router, over real sockets, judged by its caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from orrouter import Completion, LimitReached, Router, RouterError
from orrouter.core.errors import UpstreamError

HELLO = [{"role": "user", "content": "Hello"}]
Act = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


def answer(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "gen-1", "model": "m", "choices": [choice], **more}


def whole(body: Any, status: str = "200 OK") -> bytes:
    raw = orjson.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    data = b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def far_end(act: Act) -> AsyncIterator[str]:
    """A far end that hands every request's number and its connection to `act`; the base URL is given."""
    number, open_ = 0, set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        open_.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b":0")
                await reader.readexactly(int(length.partition(b":")[2]))
                number += 1
                await act(number, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in open_:
            writer.transport.abort()


async def turns(count: int = 500) -> None:
    """So many turns of the loop, each of which looks at the sockets."""
    for _ in range(count):
        await asyncio.sleep(0)


def policy(url: str, *layers: dict[str, Any], key: str = "sk-or-v1-test", **upstream: Any) -> dict[str, Any]:
    far = {"base_url": url, "api_key": key, **upstream}
    return {"version": 1, "upstreams": {"far": far}, "policies": {"default": [*layers, {"retry": {"attempts": 1}}]}}


async def test_what_nobody_asked_for_is_nobodys_answer():
    """A second answer on an idle connection is not taken for the answer of the next call."""
    idle, pushed = asyncio.Event(), asyncio.Event()

    async def act(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(answer(f"answer {number}")))
        if number == 1:
            await idle.wait()
            writer.write(whole(answer("stale")))
            await writer.drain()
            pushed.set()

    async with far_end(act) as url, Router.from_policy(policy(url)) as router:
        first = await router.chat(HELLO)
        idle.set()
        await pushed.wait()
        await turns()  # until it has arrived
        second = await router.chat(HELLO)
    assert ("answer 1", "answer 2") == (first.text, second.text)


async def test_closing_while_calls_wait_for_a_connection_cancels_nobody():
    """They are told that the router was closed."""
    arrived = asyncio.Event()

    async def silent(number: int, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with far_end(silent) as url:
        router = Router.from_policy(policy(url, connections=1))
        calls = [asyncio.create_task(router.chat(HELLO)) for _ in range(5)]
        await arrived.wait()
        await router.aclose(0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [True] * 5 == [isinstance(outcome, RouterError) for outcome in outcomes]


async def test_our_own_full_pool_is_no_failure_of_the_upstream():
    """The call is refused by our limit: no breaker counts it, and the message names the option."""
    arrived, hold = asyncio.Event(), asyncio.Event()

    async def slow(number: int, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await hold.wait()
        writer.write(whole(answer("at last")))

    layers = ({"breaker": {"consecutive": 1}}, {"deadline": {"connect": "50ms"}})
    async with far_end(slow) as url, Router.from_policy(policy(url, *layers, connections=1)) as router:
        first = asyncio.create_task(router.chat(HELLO))
        await arrived.wait()
        with pytest.raises(LimitReached, match="`connections`"):
            await router.chat(HELLO)
        hold.set()
        assert "at last" == (await first).text


async def test_a_finished_answer_is_not_lost_to_the_deadline():
    """Only its usage is missing when the total is over: a chat gets it as a stream does."""

    async def no_usage(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + event({"content": "whole"}) + event({}, "stop"))
        await asyncio.Event().wait()

    layers = ({"deadline": {"total": "400ms", "first_token": "10s"}},)
    async with far_end(no_usage) as url, Router.from_policy(policy(url, *layers)) as router:
        assert "whole" == (await router.chat(HELLO)).text


@pytest.mark.parametrize("cost", [1e30, 1e300, -1, True, "1", None])
async def test_a_cost_that_is_none_costs_no_answer(cost):
    """It is as if the upstream had not said."""

    async def costly(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(answer("hi", usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})))

    async with far_end(costly) as url, Router.from_policy(policy(url), on_fact=lambda fact: None) as router:
        done = await router.chat(HELLO)
    assert ("hi", None, None) == (done.text, done.cost, done.record.attempts[0].cost_nano)


async def test_a_key_of_any_form_that_is_echoed_stands_in_no_error():
    """Not in its text, its raw body or its repr."""
    key = "plain-secret-of-no-known-form"

    async def echo(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(
            whole({"error": {"code": 401, "message": f"no such key: {key}", "metadata": {"raw": key}}}, "401 No")
        )

    async with far_end(echo) as url, Router.from_policy(policy(url, key=key)) as router:
        with pytest.raises(UpstreamError) as caught:
            await router.chat(HELLO)
    assert key not in f"{caught.value} {caught.value!r} {caught.value.raw} {caught.value.record}"


async def test_a_second_reader_of_a_stream_is_refused_and_the_first_reads_on():
    """One stream, one reader at a time."""
    go = asyncio.Event()

    async def two(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + event({"content": "one "}))
        await go.wait()
        writer.write(event({"content": "two"}) + event({}, "stop") + b"0\r\n\r\n")

    async with far_end(two) as url, Router.from_policy(policy(url)) as router, router.stream(HELLO) as events:
        await anext(events)
        first = asyncio.create_task(events.rest())
        await asyncio.sleep(0)
        with pytest.raises(RouterError, match="another task"):
            await anext(events)
        go.set()
        done: Completion = await first
    assert "one two" == done.text


async def test_an_upgrade_gives_its_connection_back():
    """101 is no answer, and the next call finds a connection."""

    async def upgrade(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        else:
            writer.write(whole(answer("hi")))

    async with far_end(upgrade) as url, Router.from_policy(policy(url, connections=1)) as router:
        with pytest.raises(UpstreamError) as kept:
            await router.chat(HELLO)
        assert ("hi", True) == ((await router.chat(HELLO, timeout=5)).text, kept.value is not None)
