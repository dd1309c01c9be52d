"""The desk, asked without an HTTP library."""

from __future__ import annotations

import orjson
import pytest

from orrouter.adapters.openai_asks import Sent
from orrouter.adapters.openai_desk import Lines, serve
from orrouter.core.errors import DeadlineExceeded, RouterError, ServerError
from orrouter.testkit.clock import virtual
from orrouter.testkit.script import COMMENT, EOF, SENT, Finish

WHOLE = {
    "id": "gen-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
}


def chat(*, stream: bool = False, timeout: float | None = None, **headers: str) -> Sent:
    body = {"model": "a/b", "messages": [], "stream": stream}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent("POST", "/v1/chat/completions", names, orjson.dumps(body), timeout)


async def rest(lines: bytes | Lines) -> list[bytes]:
    """All that is still to be read."""
    assert isinstance(lines, Lines)
    read = []
    while data := await lines.read():
        read.append(data)
    return read


def told(lines: bytes) -> dict:
    """The error in an event."""
    return orjson.loads(lines.removeprefix(b"data: "))["error"]


async def test_a_chat_is_answered_with_model_and_provider(scripted):
    """The body is the upstream's, completed."""
    router, _ = scripted(WHOLE)
    answer = await serve(router, chat(), print)
    assert (200, {**WHOLE, "model": "a/b"}) == (answer.status, orjson.loads(answer.body))


async def test_a_request_id_goes_down_and_comes_back(scripted):
    """The caller's id stands in the call and in the answer."""
    router, far = scripted("hi")
    answer = await serve(router, chat(x_request_id="mine"), print)
    assert ("mine", "mine") == (far.tries[0].call.trail.request_id, answer.headers["x-request-id"])


async def test_an_id_is_made_where_none_is_given(scripted):
    """Call and answer share it."""
    router, far = scripted("hi")
    answer = await serve(router, chat(), print)
    assert far.tries[0].call.trail.request_id == answer.headers["x-request-id"]


async def test_tags_and_policy_reach_the_call(scripted):
    """They are said by headers."""
    router, far = scripted("hi")
    await serve(router, chat(x_orrouter_tag_team="search", x_orrouter_policy="other"), print)
    call = far.tries[0].call
    assert ({"team": "search"}, "other") == (call.tags, call.trail.policy)


async def test_an_error_is_answered_and_told(scripted):
    """The status is the error's, and the error itself is handed to who wants it."""
    router, _ = scripted(ServerError("it broke"))
    seen: list[RouterError] = []
    answer = await serve(router, chat(), seen.append)
    assert (502, "server_error", "1", "it broke") == (
        answer.status,
        orjson.loads(answer.body)["error"]["code"],
        answer.headers["x-orrouter-attempts"],
        seen[0].message,
    )


async def test_a_wrong_request_is_answered_before_anything_is_asked(scripted):
    """400, and no try."""
    router, far = scripted("hi")
    answer = await serve(router, Sent("POST", "/v1/chat/completions", {}, b"{"), print)
    assert (400, []) == (answer.status, far.tries)


async def test_a_stream_is_its_events_and_done(scripted):
    """Raw chunks, then [DONE], then nothing."""
    router, far = scripted("one two")
    answer = await serve(router, chat(stream=True), print)
    lines = await rest(answer.body)
    texts = [orjson.loads(line.removeprefix(b"data: "))["choices"][0]["delta"].get("content") for line in lines[:-1]]
    assert (["one ", "two", None], b"data: [DONE]\n\n", 0) == (texts, lines[-1], far.open)


async def test_a_whole_answer_to_a_stream_is_one_chunk(scripted):
    """An upstream that does not stream is no trouble for a caller who does."""
    router, _ = scripted(WHOLE)
    lines = await rest((await serve(router, chat(stream=True), print)).body)
    chunk = orjson.loads(lines[0].removeprefix(b"data: "))
    assert ("chat.completion.chunk", "hi", 2) == (chunk["object"], chunk["choices"][0]["delta"]["content"], len(lines))


async def test_a_stream_that_breaks_says_so_and_is_not_done(scripted):
    """The last event is the error; no [DONE] follows, and the upstream is let go of."""
    router, far = scripted([[SENT, "one ", EOF]])
    seen: list[RouterError] = []
    lines = await rest((await serve(router, chat(stream=True), seen.append)).body)
    assert ("stream_broken", "one ", 2, 0) == (told(lines[-1])["code"], seen[0].partial, len(lines), far.open)


async def test_a_stream_closed_early_lets_go(scripted):
    """Closing ends the reading, and may be repeated."""
    router, far = scripted("one two three")
    answer = await serve(router, chat(stream=True), print)
    await answer.body.read()
    answer.body.close()
    answer.body.close()
    assert (b"", 0) == (await answer.body.read(), far.open)


@virtual
async def test_the_timeout_of_a_chat_is_its_deadline(scripted):
    """A caller's five seconds end the call."""
    router, far = scripted([[SENT, 9.0, "late", Finish()]])
    answer = await serve(router, chat(timeout=5.0), print)
    assert (504, "deadline_exceeded", 0) == (answer.status, orjson.loads(answer.body)["error"]["code"], far.open)


@virtual
async def test_the_timeout_of_a_stream_is_waited_before_each_word(scripted):
    """Twelve seconds of words, none of them later than five after the last, are read to their end."""
    router, far = scripted([[SENT, 4.0, "a", 4.0, "b", 4.0, "c", Finish()]])
    lines = await rest((await serve(router, chat(stream=True, timeout=5.0), print)).body)
    assert (5, b"data: [DONE]\n\n") == (len(lines), lines[-1])


@virtual
async def test_a_stream_without_a_first_word_in_time_is_an_error(scripted):
    """Nothing was said: an answer with a status."""
    router, far = scripted([[SENT, COMMENT, 9.0, "late", Finish()]])
    answer = await serve(router, chat(stream=True, timeout=5.0), print)
    assert (504, 0) == (answer.status, far.open)


@virtual
async def test_a_stream_that_falls_silent_breaks(scripted):
    """Something was said: the error stands in the stream, with what was said."""
    router, far = scripted([[SENT, "a", 9.0, "late", Finish()]])
    seen: list[RouterError] = []
    lines = await rest((await serve(router, chat(stream=True, timeout=5.0), seen.append)).body)
    assert isinstance(seen[0], DeadlineExceeded)
    assert ("deadline_exceeded", "a", 2, 0) == (told(lines[-1])["code"], seen[0].partial, len(lines), far.open)


@virtual
async def test_without_a_timeout_only_the_policy_counts(scripted):
    """Forty seconds before the first word are no trouble."""
    router, far = scripted([[SENT, 40.0, "late", Finish()]])
    lines = await rest((await serve(router, chat(stream=True), print)).body)
    assert b"data: [DONE]\n\n" == lines[-1]


@pytest.mark.parametrize("endpoint", ["completions", "chat/completions"])
async def test_both_ways_to_complete_stream(endpoint, over, fake):
    """A streamed legacy completion comes as one event of its own shape."""
    router = over()
    body = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "stream": True}
    del body["messages" if endpoint == "completions" else "prompt"]
    fake.say("openai/gpt-4o", "Hello")
    answer = await serve(router, Sent("POST", f"/v1/{endpoint}", {}, orjson.dumps(body)), print)
    lines = answer.body if isinstance(answer.body, bytes) else b"".join(await rest(answer.body))
    await router.aclose()
    assert lines.startswith(b"data: {")
    assert (1, True) == (lines.count(b"Hello"), lines.endswith(b"data: [DONE]\n\n"))
