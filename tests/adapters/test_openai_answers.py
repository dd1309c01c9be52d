"""What goes back to the SDK, in bytes."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from orrouter.adapters.openai_answers import answer_headers, as_chunk, event_bytes, model_row, sse, with_origin
from orrouter.core.call import Attempt, Target
from orrouter.core.events import Whole
from orrouter.wire.response import read_chunk


def attempt() -> Attempt:
    one = Attempt(2, Target(model="a/b"), 0.0)
    one.model, one.provider, one.generation_id = "a/b-2026", "Acme", "gen-1"
    return one


def test_headers_tell_how_often_was_asked():
    """Number of tries, request id and generation id."""
    expected = {
        "content-type": "application/json",
        "x-request-id": "r",
        "x-orrouter-attempts": "2",
        "x-generation-id": "gen-1",
    }
    assert expected == answer_headers(attempt(), "r", "application/json")


def test_an_unknown_generation_has_no_header():
    """No header rather than an empty one."""
    assert "x-generation-id" not in answer_headers(Attempt(1, Target(), 0.0), "r", "application/json")


def test_model_and_provider_are_filled_in():
    """An upstream that does not say them leaves it to the router."""
    assert {"id": "1", "model": "a/b-2026", "provider": "Acme"} == with_origin({"id": "1"}, attempt())


def test_what_the_upstream_says_of_itself_stays():
    """Its words win."""
    said = {"model": "x/y", "provider": "Other"}
    assert said == with_origin(said, attempt())


def test_a_chunk_goes_on_in_its_own_bytes():
    """The raw JSON is not written anew."""
    raw = b'{"choices": [ {"delta":{}} ]}'
    assert b"data: " + raw + b"\n\n" == event_bytes(read_chunk(raw, orjson.loads(raw)), counts=False)


def test_a_chunk_of_accounting_is_only_for_who_asked():
    """Without choices and without include_usage nothing goes out."""
    raw = b'{"choices":[],"usage":{"total_tokens":3}}'
    chunk = read_chunk(raw, orjson.loads(raw))
    assert (b"", b"data: " + raw + b"\n\n") == (event_bytes(chunk, counts=False), event_bytes(chunk, counts=True))


def test_line_breaks_in_json_do_not_end_the_field():
    """An event over several lines becomes one line with the same meaning."""
    assert b'data: {"a":  1, "b": 2}\n\n' == sse(b'{"a": \r\n1,\n"b": 2}')


@given(
    st.recursive(
        st.none() | st.text() | st.integers(-9, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_one_event_is_one_line(value):
    """However JSON is laid out, the event holds the same value in one line."""
    line, blank, rest = sse(orjson.dumps(value, option=orjson.OPT_INDENT_2)).split(b"\n")
    assert (b"", b"", value) == (blank, rest, orjson.loads(line.removeprefix(b"data: ")))


def test_a_whole_answer_becomes_one_chunk():
    """The message is the delta, its tool calls have their index."""
    message = {"role": "assistant", "content": "hi", "tool_calls": [{"id": "t", "type": "function", "function": {}}]}
    data = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    delta = {**message, "tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {}}]}
    expected = {"object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": "stop", "delta": delta}]}
    assert expected == as_chunk(data)
    assert sse(orjson.dumps(expected)) == event_bytes(Whole(b"", data), counts=False)


def test_a_legacy_completion_is_its_own_chunk():
    """It has no message to rename."""
    data = {"object": "text_completion", "choices": [{"text": "hi"}]}
    assert data == as_chunk(data)


def test_a_listed_model_has_the_fields_of_the_sdk():
    """Object, created and owner are there, whatever the upstream lists."""
    expected = {"id": "a/b", "object": "model", "created": 0, "owned_by": "a", "name": "B"}
    assert expected == model_row({"id": "a/b", "name": "B"})
