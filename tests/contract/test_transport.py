"""The three laws of whoever answers a call: one suite over the scripted far end and over HTTP on real sockets."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from orrouter.core.call import Attempt, Call, Clocks, Target, Trail
from orrouter.core.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    EmptyReply,
    Overloaded,
    RateLimited,
    RouterError,
    ServerError,
    StreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from orrouter.core.events import End
from orrouter.core.reply import Reply
from orrouter.core.secret import Secret
from orrouter.testkit.clock import run_virtual
from orrouter.testkit.script import COMMENT, EOF, SENT, Act, Finish, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter
from orrouter.transport.base import Transport, Upstream
from orrouter.transport.http import HttpTransport

MODEL = "openai/gpt-4o"
TEXT = "one two three"
WORDS = ("one", " two", " three")
SILENCE = 1_000.0
SHORT = Clocks(connect=2.0, first_token=0.25, stall=0.25)
"""Short enough to wait for, where one of them is to ring; nothing else may hang on the speed of a machine."""
LONG = Clocks(connect=20.0, first_token=20.0, stall=20.0)
SILENT = ("silent", "comments_forever", "stall:0", "stall:2", "stall_comments:2")


class Far(Protocol):
    """A far end that can be told what to do, and the transport under test."""

    transport: Transport

    def play(self, case: str) -> None:
        """What the next requests meet."""
        ...

    async def open(self) -> int:
        """How many upstreams are not let go of, once everything has come to rest."""
        ...


# --- the scripted far end ---------------------------------------------------------------------------------


def body_of(content: str | None, reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]}


ACTS: dict[str, Act] = {
    "ok": [SENT, COMMENT, "", *WORDS, Finish()],
    "slow_first:50": [SENT, COMMENT, "", 0.05, *WORDS, Finish()],
    "no_done": [SENT, *WORDS, Finish()],
    "usage_missing": [SENT, *WORDS, Finish(usage=None)],
    "503": Overloaded("busy"),
    "429": RateLimited("slow down", retry_after=2.0),
    "500": ServerError("broken"),
    "reset": [SENT, ConnectionFailed("reset", billed="maybe")],
    "cut_before_first": [SENT, COMMENT, "", ConnectionFailed("cut", billed="maybe")],
    "silent": [SENT, SILENCE],
    "comments_forever": [SENT, *[COMMENT, 0.1] * 9],
    "stall:0": [SENT, COMMENT, "", SILENCE],
    "eof_no_finish:0": [SENT, COMMENT, "", EOF],
    "error_in_200": {"error": {"code": 502, "message": "Network connection lost."}},
    "error_first": {"error": {"code": 502, "message": "Network connection lost."}},
    "choices_empty": {"choices": []},
    "empty_stop": [SENT, "", Finish()],
    "html_200": ServerError("a page"),
    "length_empty": [SENT, "", Finish("length")],
    "content_filter": [SENT, "", Finish("content_filter")],
    "eof_no_finish:2": [SENT, *WORDS[:2], EOF],
    "cut_mid:2": [SENT, *WORDS[:2], StreamBroken("cut")],
    "error_mid:2": [SENT, *WORDS[:2], Finish("error")],
    "finish_error:2": [SENT, *WORDS[:2], Finish("error")],
    "stall:2": [SENT, *WORDS[:2], SILENCE],
    "stall_comments:2": [SENT, *WORDS[:2], *[0.1, COMMENT] * 9],
}
BODIES: dict[str, Act] = {
    "ok": body_of(TEXT),
    "usage_missing": body_of(TEXT),
    "error_in_200": ACTS["error_in_200"],
    "choices_empty": ACTS["choices_empty"],
    "empty_stop": body_of(""),
    "length_empty": body_of("", "length"),
    "content_filter": body_of("", "content_filter"),
    "refusal_output": body_of(None, "content_filter", refusal="no"),
}
"""The same, where no stream was asked for."""


class Scripted:
    """A script in virtual time."""

    def __init__(self) -> None:
        self._case = "ok"
        self.transport = self._far = ScriptedTransport(self._act)

    def _act(self, call: Call) -> Act:
        return (ACTS if call.streamed else {**ACTS, **BODIES})[self._case]

    def play(self, case: str) -> None:
        self._case = case

    async def open(self) -> int:
        await asyncio.sleep(0)
        return self._far.open


def scripted(test: Callable[[Far], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(Scripted())

    run_virtual(main())


# --- HTTP -------------------------------------------------------------------------------------------------


class Http:
    """A fake upstream on a socket of this machine."""

    def __init__(self, fake: FakeOpenRouter) -> None:
        self._fake = fake
        fake.say(MODEL, TEXT)
        upstream = Upstream("openrouter", fake.url, api_key=Secret("sk-or-v1-0123456789"))
        self.transport = HttpTransport({"openrouter": upstream})

    def play(self, case: str) -> None:
        self._fake.always(MODEL, case)

    async def open(self) -> int:
        await self._fake.settled()
        return sum(len(road.session.connector._acquired) for road in self.transport._roads.values())


def http(test: Callable[[Far], Awaitable[None]]) -> None:
    async def main() -> None:
        async with FakeOpenRouter(speed=1_000) as fake:
            far = Http(fake)
            try:
                await test(far)
            finally:
                await far.transport.aclose()

    asyncio.run(main())


@pytest.fixture(params=[scripted, http], ids=["scripted", "http"])
def far(request) -> Any:
    return request.param


def on_both(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a law over the far end that the fixture names."""

    @functools.wraps(test)
    def runs(far: Any, **given: Any) -> None:
        far(lambda there: test(there, **given))

    return runs


def call_of(*, streamed: bool = True, **fields: Any) -> Call:
    now = asyncio.get_running_loop().time
    target = Target(model=MODEL, key="key")
    fields.setdefault("clocks", LONG if streamed else Clocks(connect=20.0, attempt=20.0))
    return Call(
        body={"messages": [{"role": "user", "content": "Hello"}]},
        target=target,
        trail=Trail("req_1", now),
        attempt=Attempt(1, target, now()),
        streamed=streamed,
        **fields,
    )


async def ask(far: Far, case: str, **fields: Any) -> Reply:
    far.play(case)
    if case in SILENT:
        fields.setdefault("clocks", SHORT)
    return await far.transport(call_of(**fields))


async def text_of(reply: Reply) -> str:
    return "".join([event.text async for event in reply.events])


# --- 1: primed --------------------------------------------------------------------------------------------

BEFORE: dict[str, type[UpstreamError]] = {
    "503": Overloaded,
    "429": RateLimited,
    "500": ServerError,
    "reset": ConnectionFailed,
    "cut_before_first": ConnectionFailed,
    "silent": UpstreamTimeout,
    "comments_forever": UpstreamTimeout,
    "stall:0": UpstreamTimeout,
    "eof_no_finish:0": EmptyReply,
    "error_in_200": ServerError,
    "error_first": ServerError,
    "choices_empty": EmptyReply,
    "empty_stop": EmptyReply,
    "html_200": ServerError,
}


@pytest.mark.parametrize("case", BEFORE)
@on_both
async def test_every_failure_before_the_first_word_is_a_plain_exception(far, case):
    """From asking itself, never from reading; also an error inside a 200, and `stop` with nothing said."""
    with pytest.raises(UpstreamError) as caught:
        await ask(far, case)
    assert (BEFORE[case], 0) == (type(caught.value), await far.open())


@pytest.mark.parametrize("case", ["503", "429", "reset", "error_in_200", "choices_empty", "empty_stop", "html_200"])
@on_both
async def test_a_failure_looks_the_same_where_no_stream_is_asked_for(far, case):
    """So retry and fallback need not know the difference."""
    with pytest.raises(UpstreamError) as caught:
        await ask(far, case, streamed=False)
    assert (BEFORE[case], 0) == (type(caught.value), await far.open())


@pytest.mark.parametrize("case", ["ok", "slow_first:50", "length_empty", "content_filter"])
@on_both
async def test_a_reply_has_its_first_word_in_hand(far, case):
    """Nothing has to be waited for; comments and envelopes have not primed it."""
    reply = await ask(far, case)
    waiting = reply.events.ahead(1)
    with pytest.raises(StopIteration) as done:
        waiting.send(None)
    assert done.value.value >= 1
    assert ("committed", True) == (reply.attempt.phase, reply.attempt.first_token is not None)
    reply.close()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("case", "reason"), [("length_empty", "length"), ("content_filter", "content_filter")])
@on_both
async def test_some_ends_are_an_answer_though_nothing_was_said(far, case, reason, streamed):
    """The model said why it stopped; asking again would bring the same."""
    done = await (await ask(far, case, streamed=streamed)).completion()
    assert ("", reason) == (done.text, done.finish_reason)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("case", ["ok", "no_done", "usage_missing"])
@on_both
async def test_an_answer_with_a_finish_is_whole(far, case, streamed):
    """With or without its usage, and with or without [DONE]."""
    if not streamed and case == "no_done":
        case = "ok"
    reply = await ask(far, case, streamed=streamed)
    assert (TEXT, "stop", True, 0) == (
        await text_of(reply),
        reply.events.finish_reason,
        reply.events.ended,
        await far.open(),
    )
    assert (TEXT, MODEL) == (reply.events.completion.text, reply.model)


BEHIND = ("eof_no_finish:2", "cut_mid:2", "error_mid:2", "finish_error:2", "stall:2", "stall_comments:2")


@pytest.mark.parametrize("case", BEHIND)
@on_both
async def test_an_answer_without_a_finish_never_ends_cleanly(far, case):
    """The words come, then the break, each time one asks; the error knows what had been said."""
    reply = await ask(far, case)
    said = []
    with pytest.raises(StreamBroken) as caught:
        async for event in reply.events:
            said.append(event.text)
    assert ("one two", "one two", "yes", 0) == (
        "".join(said),
        caught.value.partial,
        caught.value.billed,
        await far.open(),
    )
    with pytest.raises(StreamBroken):
        await anext(reply.events)
    with pytest.raises(RouterError, match="has not been read"):
        _ = reply.events.completion


@pytest.mark.parametrize("case", BEHIND)
@on_both
async def test_a_broken_answer_is_none_for_whoever_takes_it_whole(far, case):
    """Reading on to the end raises as if nothing had begun."""
    with pytest.raises(StreamBroken):
        await (await ask(far, case)).completion()
    assert 0 == await far.open()


@pytest.mark.parametrize(("case", "partial"), [("silent", ""), ("stall:2", "one two")])
@on_both
async def test_the_deadline_of_the_call_ends_a_try(far, case, partial):
    """Before the first word from asking, behind it from reading."""
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded) as caught:
        await text_of(await ask(far, case, clocks=Clocks(), deadline=now + 0.2))
    assert (partial, "maybe", 0) == (caught.value.partial, caught.value.billed, await far.open())


@on_both
async def test_a_deadline_that_has_passed_sends_nothing_that_is_billed(far):
    """It ends at the first wait; nothing was sent."""
    if isinstance(far, Scripted):
        ACTS["later"] = [SILENCE, SENT, "late", Finish()]
    with pytest.raises(DeadlineExceeded) as caught:
        await ask(far, "later" if isinstance(far, Scripted) else "ok", deadline=asyncio.get_running_loop().time() - 1)
    assert ("no", 0) == (caught.value.billed, await far.open())


# --- 2: closed --------------------------------------------------------------------------------------------


async def read_some(reply: Reply) -> None:
    """Up to the first word."""
    async for event in reply.events:
        if event.text:
            return


async def let_go(reply: Reply, way: str) -> None:
    """Leave a reply that is being read, in one of the ways there are."""
    if way == "close":
        reply.close()
    elif way == "close later":
        await read_some(reply)
        reply.close()
        reply.close()
    elif way == "cancel":
        reading = asyncio.ensure_future(text_of(reply))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    elif way == "error":
        with pytest.raises(StreamBroken):
            await text_of(reply)
    else:
        await text_of(reply)


@pytest.mark.parametrize("way", ["close", "close later", "cancel", "error", "drop", "drop later"])
@on_both
async def test_a_reply_that_is_left_lets_go_of_its_upstream(far, way):
    """In whatever way; the far end sees that it is left."""
    reply = await ask(far, "stall:2")
    if way.startswith("drop"):
        if way == "drop later":
            await read_some(reply)
        del reply
        gc.collect()
    else:
        await let_go(reply, way)
    assert 0 == await far.open()


@pytest.mark.parametrize("case", ["silent", "comments_forever", "stall:0"])
@on_both
async def test_a_try_that_is_cancelled_before_its_first_word_lets_go(far, case):
    """The cancel passes on as a cancel, counted once."""
    asking = asyncio.ensure_future(ask(far, case, clocks=Clocks()))
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait([asking])
    assert (True, 1, 0) == (asking.cancelled(), asking.cancelling(), await far.open())


@on_both
async def test_the_next_call_is_not_harmed_by_one_that_was_left(far):
    """Half-read answers do not come back on another reply."""
    for way in ("close", "close later", "cancel"):
        await let_go(await ask(far, "stall:2"), way)
        assert TEXT == await text_of(await ask(far, "ok"))


# --- 3: once ----------------------------------------------------------------------------------------------

ROADS: dict[str, tuple[str, type]] = {
    "end": ("ok", type(None)),
    "error": ("eof_no_finish:2", StreamBroken),
    "close": ("stall:2", GeneratorExit),
    "close later": ("stall:2", GeneratorExit),
    "cancel": ("stall:2", asyncio.CancelledError),
}


@pytest.mark.parametrize("way", ROADS)
@on_both
async def test_the_end_is_told_once_to_each_who_asked(far, way):
    """In the order asked, before the error reaches the reader, and at once to who asks late."""
    case, kind = ROADS[way]
    reply, told = await ask(far, case), []

    def asks(name: str) -> None:
        def tell(end: End) -> None:
            told.append((name, type(end.error)))

        reply.events.on_end(tell)

    asks("a")
    asks("b")
    await let_go(reply, way)
    assert [("a", kind), ("b", kind)] == told
    asks("late")
    reply.close()
    assert [("late", kind)] == told[2:]


@on_both
async def test_the_end_of_a_dropped_reply_is_told_once(far):
    """In the next turns of its loop."""
    reply, told = await ask(far, "stall:2"), []
    reply.events.on_end(told.append)
    del reply
    gc.collect()
    await far.open()
    assert [GeneratorExit] == [type(end.error) for end in told]


@on_both
async def test_the_end_brings_reason_and_usage(far):
    """What a ledger settles by."""
    reply, told = await ask(far, "ok"), []
    reply.events.on_end(told.append)
    await text_of(reply)
    assert ("stop", True) == (told[0].finish_reason, told[0].usage["completion_tokens"] > 0)
