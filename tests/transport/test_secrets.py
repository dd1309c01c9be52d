"""The canary: whatever goes wrong, the key stands in no error, record, fact, log, repr or traceback."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from orrouter.core.call import Clocks
from orrouter.core.errors import RouterError
from orrouter.core.secret import Secret
from orrouter.router import Router
from orrouter.transport.base import Upstream
from orrouter.transport.http import HttpTransport
from tests.transport.far import (
    HELLO,
    JSON,
    KEY,
    FarEnd,
    call,
    head,
    keeps,
    piece,
    plays,
    said,
    sse_head,
    streamed,
    whole,
)

MASKED = "CANARY"


def told(code: int, message: str = "no", **metadata: Any) -> bytes:
    import orjson

    body = orjson.dumps({"error": {"code": code, "message": message, "metadata": metadata}})
    return whole(body, f"{code} Failed")


ECHO = f"No auth credentials found for Bearer {KEY}"
FAILURES = {
    "refused": None,
    "reset": plays(then="reset"),
    "half a head": plays(b"HTTP/1.1 200 OK\r\nConte", then="cut"),
    "no HTTP": plays(b"\x00\x01\x02 no HTTP\r\n\r\n", then="cut"),
    "endless header": plays(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, then="cut"),
    "bad status line": plays(b"HTTP/1.1 abc\r\n\r\n", then="cut"),
    "cut body": plays(head(Content_Length=999), JSON, then="cut"),
    "cut stream": plays(sse_head(), piece(said("Hi")), then="cut"),
    "bad chunks": plays(sse_head(), b"zz\r\n", then="cut"),
    "redirect": plays(head("302 Found", Location="https://else.where/")),
    "silence": plays(b""),
    "no gzip": plays(whole(b"plain", Content_Encoding="gzip")),
    "page": plays(whole(b"<html><title>502</title></html>", kind="text/html"), then="cut"),
    "empty": plays(whole(b"")),
    "no choices": plays(whole(b'{"choices": []}')),
    "nothing said": plays(whole(b'{"choices": [{"finish_reason": "stop", "message": {"content": ""}}]}')),
    "unfinished": plays(whole(b'{"choices": [{"finish_reason": null, "message": {"content": "a"}}]}')),
    **{str(code): plays(told(code, ECHO, raw=f'{{"error": "{ECHO}"}}'), then="cut") for code in (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503)},
}  # fmt: skip


def reach(error: BaseException | None, seen: set[int]) -> Iterator[object]:
    """What can be got hold of from an error: arguments, attributes, causes, and the locals of its frames."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield from (error, str(error), vars(error), *error.args)
    if isinstance(error, RouterError):
        yield from (error.record, error.attempts, error.trail, getattr(error, "raw", None))
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename != __file__:
            yield from frame.tb_frame.f_locals.values()
        frame = frame.tb_next
    yield from reach(error.__cause__, seen)
    yield from reach(error.__context__, seen)


def shown(error: BaseException) -> str:
    """Everything that a log, a tracker or a person could see of an error."""
    texts = [repr(value) for value in reach(error, set())]
    texts += traceback.format_exception(error)
    try:
        texts.append(repr(pickle.dumps(error)))
    except Exception as unpicklable:
        texts.append(repr(unpicklable))
    return "\n".join(texts)


@pytest.mark.parametrize("key", ["fixed", "file", "function"])
@pytest.mark.parametrize("name", FAILURES)
async def test_no_failure_of_the_transport_shows_the_key(name, key, tmp_path, caplog):
    """Each way to fail, each way to have a key: nothing in reach of the error tells it, nor does any log."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "key").write_text(KEY)
    source = {
        "fixed": {"api_key": Secret(KEY)},
        "file": {"key_file": str(tmp_path / "key")},
        "function": {"api_key": lambda: KEY},
    }[key]
    async with FarEnd(FAILURES[name] or plays()) as far:
        url = "http://127.0.0.1:1/v1" if FAILURES[name] is None else far.url
        ours = HttpTransport({"far": Upstream("far", url, headers={"X-Other-Key": KEY}, **source)})
        asked = call(
            streamed="stream" in name or "chunk" in name,
            headers={"x-session-id": "s"},
            clocks=Clocks(attempt=0.2 if name == "silence" else 9),
        )
        with pytest.raises(RouterError) as caught:
            async with asyncio.timeout(9):
                await (await ours(asked)).completion()
        await ours.aclose()
    assert MASKED not in shown(caught.value)
    assert MASKED not in caplog.text
    assert MASKED not in "".join(map(repr, (ours, ours._upstreams, asked, asked.attempt, asked.trail, vars(ours))))


@pytest.mark.parametrize("name", ["refused", "reset", "401", "no HTTP", "cut stream", "page"])
async def test_no_failure_of_a_router_shows_the_key(name, caplog):
    """Facts, record, health, policy and the router itself included."""
    caplog.set_level(logging.DEBUG)
    facts: list[object] = []
    async with FarEnd(FAILURES[name] or plays()) as far:
        url = "http://127.0.0.1:1/v1" if FAILURES[name] is None else far.url
        policy: Mapping[str, Any] = {
            "version": 1,
            "upstreams": {"far": {"base_url": url, "api_key": KEY}},
            "policies": {
                "default": [{"record": {}}, {"fallback": {"models": ["a/1", "b/2"]}}, {"retry": {"attempts": 1}}]
            },
        }
        async with Router.from_policy(policy, on_fact=facts.append) as router:
            with pytest.raises(RouterError) as caught:
                async with asyncio.timeout(20):
                    await router.chat(HELLO)
            around = (router, router.policy, router.world, router.health(), facts, caught.value.record, vars(router))
    assert MASKED not in shown(caught.value)
    assert MASKED not in "\n".join(map(repr, around))
    assert MASKED not in caplog.text


async def test_a_key_that_the_upstream_sends_back_is_blotted_out():
    """In the message of a redirect and of an error."""
    async with FarEnd(
        keeps(head("302 Found", Location=f"https://else.where/?key={KEY}", Content_Length=0), told(401, ECHO))
    ) as far:
        ours = HttpTransport({"far": Upstream("far", far.url, api_key=Secret(KEY))})
        for _ in range(2):
            with pytest.raises(RouterError, match=r"\[redacted\]") as caught:
                await ours(call())
            assert MASKED not in f"{caught.value} {vars(caught.value)}"
        await ours.aclose()


async def test_an_answer_shows_no_key():
    """Nor do the things beside it, while they are in use."""
    async with FarEnd(keeps(whole(), sse_head() + piece(said("Hi")))) as far:
        ours = HttpTransport({"far": Upstream("far", far.url, api_key=Secret(KEY))})
        reply = await ours(call())
        done = await reply.completion()
        stream = await ours(streamed())
        around = (reply, reply.attempt, done, done.raw, done.record, stream, stream.events, ours, *ours._roads.values())
        assert MASKED not in "\n".join(map(repr, around))
        stream.close()
        await ours.aclose()
