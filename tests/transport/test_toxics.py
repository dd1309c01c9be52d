"""Twelve ways a connection goes wrong, at four places, for a stream and a JSON; encodings and bounds."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from contextlib import suppress

import pytest

from orrouter.core.call import Clocks
from orrouter.core.errors import UpstreamError
from tests.transport.far import (
    ACCOUNT,
    COMMENT,
    DONE,
    FINISH,
    GUARD_S,
    JSON,
    LAST,
    STREAM,
    FarEnd,
    ask,
    call,
    event,
    head,
    keeps,
    nothing_is_left,  # noqa: F401  # a fixture is used by its name
    outcome,
    piece,
    plays,
    said,
    sse_head,
    streamed,
    transport,
    whole,
)

# --- twelve toxics at four places, for a stream and a JSON ----------------------------------------------

ROLE = event({"role": "assistant", "content": ""})
PARTS = {
    "stream": [sse_head(), piece(COMMENT) + piece(ROLE), piece(said("Hello ")), piece(said("there")), piece(FINISH + ACCOUNT + DONE), LAST],
    "json": [head(Content_Length=len(JSON)), JSON[:40], JSON[40:]],
}  # fmt: skip
BEFORE = {
    "stream": {"before the head": 0, "before the first token": 2, "in the middle": 3, "behind the finish": 5},
    "json": {"before the head": 0, "before the first token": 1, "in the middle": 2, "behind the finish": 3},
}
"""How many parts are sent before the toxic comes."""

BENIGN = ("latency", "jitter", "bandwidth", "slicer", "slow close")
FATAL = ("reset", "early end", "half-open", "blackhole", "garbage", "duplicate bytes", "endless header")


def toxic(name: str, parts: list[bytes], at: int):
    """An act that is honest until part `at`."""

    async def act(line) -> None:
        await line.request()
        await line.send(*parts[:at])
        await asyncio.sleep(0.01 if at else 0)  # so that what is sound is not in one packet with what is not
        await _POISONS[name](line, b"".join(parts[at:]), parts[0])

    return act


async def _in_pieces(line, rest: bytes, size: int) -> None:
    for start in range(0, len(rest), size):
        await line.send(rest[start : start + size])
        await asyncio.sleep(0)
    await line.gone()


async def _late(line, rest: bytes, _: bytes) -> None:
    await asyncio.sleep(0.02)
    await line.send(rest)
    await line.gone()


async def _reset(line, rest: bytes, _: bytes) -> None:
    line.reset()


async def _end(line, rest: bytes, _: bytes) -> None:
    line.writer.close()


async def _half(line, rest: bytes, _: bytes) -> None:
    line.writer.write_eof()
    await line.gone()


async def _hole(line, rest: bytes, _: bytes) -> None:
    await line.gone()


async def _noise(line, rest: bytes, _: bytes) -> None:
    await line.send(bytes(range(256)) * 4 + b"\r\n\r\n")


async def _again(line, rest: bytes, first: bytes) -> None:
    await line.send(first[:20] + rest + first)
    await line.gone()


async def _header(line, rest: bytes, _: bytes) -> None:
    with suppress(ConnectionError):
        await line.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000)
        await line.gone()


_POISONS = {
    "latency": _late,
    "jitter": lambda line, rest, _: _in_pieces(line, rest, 37),
    "bandwidth": lambda line, rest, _: _in_pieces(line, rest, 8),
    "slicer": lambda line, rest, _: _in_pieces(line, rest, 1),
    "slow close": lambda line, rest, _: _in_pieces(line, rest, 1 << 20),
    "reset": _reset, "early end": _end, "half-open": _half, "blackhole": _hole, "garbage": _noise, "duplicate bytes": _again,
    "endless header": _header,
}  # fmt: skip


def expected(name: str, place: str, kind: str) -> set[tuple[str, str]]:
    """Code and bill: B.1's classes for what was received so far."""
    if name in BENIGN or place == "behind the finish":
        return {("ok", "yes")}
    if kind == "stream" and place == "in the middle":
        return {("stream_broken", "yes")}
    if name == "blackhole":
        return {("upstream_timeout", "maybe")}
    if place == "before the head" and name in ("garbage", "duplicate bytes", "endless header"):
        return {("server_error", "maybe")}
    # Bytes that are no part of the answer: it has another length than announced, or is no HTTP or no JSON any more.
    junk = name in ("garbage", "duplicate bytes", "endless header")
    return {("connection_failed", "maybe"), *([("server_error", "maybe")] if junk else [])}


@pytest.mark.parametrize("road", ["direct", "session"])
@pytest.mark.parametrize("kind", ["stream", "json"])
@pytest.mark.parametrize("place", list(BEFORE["stream"]))
@pytest.mark.parametrize("name", [*BENIGN, *FATAL])
async def test_each_toxic_at_each_place_ends_in_its_class(name, place, kind, road):
    """In time, billed as far as it can be told, what was said kept, and nothing left open (the fixture looks)."""
    asked = call(streamed=kind == "stream", clocks=Clocks(attempt=0.3 if name == "blackhole" else GUARD_S))
    async with FarEnd(toxic(name, PARTS[kind], BEFORE[kind][place])) as far, transport(far, road) as ours:
        code, billed, text = await outcome(ours, asked)
    assert (code, billed) in expected(name, place, kind)
    if code in ("ok", "stream_broken"):
        assert text == ("Hello there" if code == "ok" else "Hello ")
    assert 1 == len(far.requests)


async def test_a_refused_connection_was_surely_not_billed():
    """Nobody listens there any more."""
    async with FarEnd(plays()) as far:
        url = far.url
    asked = call()
    async with transport(url) as ours:
        assert ("connection_failed", "no", "") == await outcome(ours, asked)
    assert "not_sent" == asked.attempt.phase


async def test_a_host_without_an_address_was_surely_not_asked():
    """RFC 6761 keeps `.invalid` free."""
    async with transport("http://host.invalid/api/v1") as ours:
        assert ("connection_failed", "no", "") == await outcome(ours, call())


@pytest.mark.parametrize("then", ["reset", "cut"])
async def test_a_connection_that_ends_before_the_request_was_read(then):
    """Accepted and dropped: whether the request arrived is not known."""
    async with FarEnd(plays(None, then=then)) as far, transport(far) as ours:
        code, billed, _ = await outcome(ours, call())
    assert "connection_failed" == code
    assert billed in ("no", "maybe")


async def test_an_upload_that_nobody_reads_is_cut_by_its_clock():
    """A large prompt fills every buffer on the way; the attempt clock counts."""

    async def deaf(line) -> None:
        await far.open.wait()

    async with FarEnd(deaf) as far:
        far.open = asyncio.Event()
        async with transport(far) as ours:
            large = [{"role": "user", "content": "x" * 2**26}]
            asked = call(body={"messages": large}, clocks=Clocks(attempt=0.3))
            assert ("upstream_timeout", "maybe", "") == await outcome(ours, asked)
        far.open.set()


async def test_an_answer_without_a_length_ends_with_the_connection():
    """HTTP/1.0 style, as JSON and as a stream."""
    old = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + JSON
    plain = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + STREAM
    async with FarEnd(plays(old, then="cut"), plays(plain, then="cut")) as far, transport(far) as ours:
        assert ["Hello there"] * 2 == [await ask(ours, call()), await ask(ours, streamed())]


async def test_a_status_without_body_is_no_answer():
    """204, and a redirect that leads elsewhere and is not followed."""
    async with FarEnd(plays(whole())) as elsewhere:
        moved = head("307 Temporary Redirect", Location=elsewhere.url, Content_Length=0)
        async with FarEnd(keeps(head("204 No Content"), moved)) as far, transport(far) as ours:
            assert ("server_error", "maybe", "") == await outcome(ours, call())
            with pytest.raises(UpstreamError, match=f"redirect to {elsewhere.url}, and redirects are not followed"):
                await ask(ours, call())
    assert 0 == elsewhere.connections


# --- encodings and bounds -------------------------------------------------------------------------------


async def test_an_answer_that_was_compressed_unasked_is_read():
    """Identity is asked for; some proxies compress all the same."""
    packed = whole(gzip.compress(JSON), Content_Encoding="gzip")
    async with FarEnd(plays(packed)) as far, transport(far) as ours:
        assert "Hello there" == await ask(ours, call())
    assert b"Accept-Encoding: identity" in far.requests[0]


async def test_what_is_not_compressed_and_says_so_is_a_failure():
    """Never an answer, never an error of aiohttp."""
    async with FarEnd(plays(whole(b"no gzip at all", Content_Encoding="gzip"))) as far, transport(far) as ours:
        code, billed, _ = await outcome(ours, call())
    assert code in ("server_error", "connection_failed")
    assert "maybe" == billed


async def test_a_compressed_bomb_stops_at_the_bound():
    """The bound counts what comes out, not what comes in."""
    bomb = whole(zlib.compress(b" " * 2**26, 9, 31), Content_Encoding="gzip")
    async with FarEnd(plays(bomb)) as far, transport(far, max_body=2**20) as ours:
        with pytest.raises(UpstreamError, match=r"larger than 1048576 bytes|decompress"):
            await ask(ours, call())


@pytest.mark.parametrize("kind", ["stream", "json"])
async def test_an_endless_answer_stops_at_the_bound(kind):
    """A body of white space or a stream of comments that never ends."""

    async def endless(line) -> None:
        await line.request()
        await line.send(sse_head() if kind == "stream" else head(Transfer_Encoding="chunked"))
        while True:
            await line.send(piece(COMMENT * 1000 if kind == "stream" else b"\n" * 20_000))

    async with FarEnd(endless) as far, transport(far, max_body=2**20) as ours:
        code, _, _ = await outcome(ours, call(streamed=kind == "stream"))
    assert code in ("server_error", "stream_broken", "empty_reply")


async def test_megabytes_of_padding_before_an_answer_are_read():
    """What keeps a slow answer alive is no failure; padding without an answer is one."""
    padding = b"\n" * 2**21
    async with FarEnd(keeps(whole(padding + JSON), whole(padding))) as far, transport(far) as ours:
        assert "Hello there" == await ask(ours, call())
        assert ("server_error", "maybe", "") == await outcome(ours, call())


async def test_a_page_where_a_stream_was_asked_for_is_read_as_a_page():
    """A CDN's HTML with status 200, and the JSON of a gateway that does not stream."""
    page = whole(b"<html><title>openrouter.ai | 502: Bad gateway</title></html>", kind="text/html; charset=UTF-8")
    async with FarEnd(keeps(page, whole())) as far, transport(far) as ours:
        with pytest.raises(UpstreamError, match="502: Bad gateway"):
            await ask(ours, streamed())
        assert "Hello there" == await ask(ours, streamed())


async def test_a_reader_who_does_not_read_holds_the_upstream_back():
    """Memory is bounded: what is not read is not taken off the wire."""
    finished = asyncio.Event()

    async def flood(line) -> None:
        await line.request()
        await line.send(sse_head(), piece(said("Hi")))
        for _ in range(1024):
            await line.send(piece(said("x" * 65_536)))
        finished.set()

    async with FarEnd(flood) as far, transport(far, max_body=2**27) as ours:
        reply = await ours(streamed())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await finished.wait()
        reply.close()
