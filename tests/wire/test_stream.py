"""A stream of bytes as events: whole or broken, whatever way it was cut, and never a success that is none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Target
from orrouter.wire.fold import fold
from orrouter.wire.stream import EVENTS_MAX, MALFORMED_MAX, StreamReader

BODIES = Path(__file__).parents[1] / "data" / "error_bodies.jsonl"
ROWS = {row["kind"]: row for row in map(orjson.loads, BODIES.read_bytes().splitlines()) if row["stream"]}

DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"
BROKEN = b'data: {"choices":[{"del\n\n'
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}
CALL = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "now", "arguments": "{"}}]}


def event(delta: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return sent({"id": "gen-1", "model": "served", "provider": "P", "choices": [choice], **more})


def sent(data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def said(text: str, index: int = 0) -> bytes:
    return event({"content": text}, index=index)


def fresh(**options: Any) -> StreamReader:
    return StreamReader(Attempt(1, Target(model="asked"), 0.0), **options)


def read(*pieces: bytes, end: bool = True, **options: Any) -> tuple[list[Any], StreamReader]:
    """The events of all pieces, and the reader behind them."""
    reader, events = fresh(**options), []
    for piece in pieces:
        events += reader.feed(piece)
    if end:
        events += reader.end()
    return events, reader


def outcome(*pieces: bytes) -> tuple[str, str | None]:
    """The text that was given, and the code of the error that ended it."""
    events, reader = read(*pieces)
    return "".join(one.text for one in events), reader.error.code if reader.error is not None else None


# --- whole ------------------------------------------------------------------------------------------

PARTS = st.one_of(
    st.text(min_size=1, max_size=5).map(said),
    st.text(min_size=1, max_size=5).map(lambda text: event({"reasoning": text})),
    st.text(min_size=1, max_size=5).map(
        lambda text: event({"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": text}}]})
    ),
    st.sampled_from(
        [
            COMMENT,
            b":\n\n",
            b"data: : OPENROUTER PROCESSING\n\n",
            sent({"choices": []}),
            event({"content": ""}),
            b"data: \n\n",
        ]
    ),
)
ENDS = st.sampled_from(
    [
        event({}, "stop", usage=USAGE) + DONE,
        event({}, "stop") + event({}, "stop", usage=USAGE) + DONE,
        event({}, "stop") + sent({"choices": [], "usage": USAGE}) + DONE,
        event({}, "stop") + sent({"choices": [], "usage": USAGE}),
        event({}, "stop") + DONE,
        event({}, "stop"),
        event({}, "stop") + COMMENT + sent({"choices": [], "usage": USAGE}) + COMMENT + DONE + COMMENT,
        event({}, "stop", usage=USAGE) + DONE + said("behind the end") + BROKEN * 9,
    ]
)
LINES = st.sampled_from([b"\n", b"\r\n", b"\r"])
CUTS = st.lists(st.integers(0, 10_000), max_size=15)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(PARTS, max_size=8), ENDS, LINES, CUTS)
@example([said("Hi")], event({}, "stop", usage=USAGE) + DONE + said("x"), b"\n", [170, 400])
def test_any_cut_of_a_stream_gives_the_same_answer(parts, end, line, places):
    """Events, answer and origin do not depend on where the bytes were cut; what stands behind [DONE] is not read."""
    stream = (event({"role": "assistant", "content": ""}) + said("Hello") + b"".join(parts) + end).replace(b"\n", line)
    at_once, one = read(stream)
    in_pieces, many = read(*cut(stream, places))
    bytewise, _ = read(*(bytes([byte]) for byte in stream))
    assert one.error is None is many.error
    assert (
        [chunk.data for chunk in at_once] == [chunk.data for chunk in in_pieces] == [chunk.data for chunk in bytewise]
    )
    assert [chunk.raw for chunk in at_once] == [chunk.raw for chunk in in_pieces]
    assert [(chunk.text, chunk.semantic, chunk.slow) for chunk in at_once] == [
        (chunk.text, chunk.semantic, chunk.slow) for chunk in in_pieces
    ]
    assert "stop" == fold([chunk.data for chunk in at_once])["choices"][0]["finish_reason"]
    assert "behind" not in "".join(chunk.text for chunk in at_once)
    assert one.done and many.done


@given(
    st.lists(
        st.one_of(PARTS, ENDS, st.sampled_from([BROKEN, event({}, "error"), sent({"error": {"code": 502}})])),
        max_size=6,
    ),
    CUTS,
)
def test_any_cut_of_a_broken_stream_breaks_in_the_same_way(parts, places):
    """Success or failure, and of which kind, is no matter of packets."""
    stream = b"".join(parts)
    (_, one), (_, many) = read(stream), read(*cut(stream, places))
    verdicts = [
        (reader.said, reader.error and (reader.error.code, reader.error.billed, reader.error.again, str(reader.error)))
        for reader in (one, many)
    ]
    assert verdicts[0] == verdicts[1]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_stream_or_a_failure(noise):
    """Nothing raises, and noise is no answer."""
    _, reader = read(b"data: " + noise + b"\n\n")
    assert reader.error is not None or reader.finished


def test_the_finish_is_given_together_with_its_usage():
    """It is held back until the accounting frame comes."""
    reader = fresh()
    assert ["Hi"] == [one.text for one in reader.feed(said("Hi"))]
    assert [] == reader.feed(event({}, "stop"))
    assert (True, False, False) == (reader.finished, reader.usage_seen, reader.done)
    assert [None, USAGE] == [one.usage for one in reader.feed(event({}, "stop", usage=USAGE))]
    assert [] == reader.feed(DONE)
    assert reader.done


def test_a_finish_that_bears_its_usage_is_given_at_once():
    """Nothing more is needed."""
    events, reader = read(said("Hi") + event({}, "stop", usage=USAGE), end=False)
    assert [None, USAGE] == [one.usage for one in events]
    assert reader.usage_seen


def test_usage_in_a_frame_without_choices_counts():
    """Older streams and other gateways send it so."""
    events, _ = read(said("Hi") + event({}, "stop") + sent({"choices": [], "usage": USAGE}), end=False)
    assert USAGE == events[-1].usage


def test_a_held_finish_can_be_asked_for():
    """When no usage comes in time, whoever waits takes the finish without."""
    _, reader = read(said("Hi") + event({}, "stop"), end=False)
    assert ["stop"] == [one.finish_reason for one in reader.release()]
    assert [] == reader.release()


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_a_finish_that_is_an_answer_by_itself(reason):
    """Nothing said, and yet told why: asking again would change nothing."""
    events, reader = read(event({"role": "assistant"}) + event({}, reason, usage=USAGE) + DONE)
    assert (None, [False, True]) == (reader.error, [one.semantic for one in events])


@pytest.mark.parametrize(
    "end", [b"", DONE, event({}, "stop", usage=USAGE) + DONE, event({}, "stop") + DONE, event({}, "stop")]
)
def test_nothing_said_is_an_empty_reply(end):
    """With or without its formalities."""
    assert ("", "empty_reply") == outcome(COMMENT + event({"role": "assistant", "content": ""}) + end)


def test_an_empty_reply_knows_its_usage():
    """What was charged for nothing is charged."""
    _, reader = read(event({}, "stop", usage=USAGE))
    assert ("yes", USAGE) == (reader.error.billed, reader.error.raw)


# --- several choices ---------------------------------------------------------------------------------


def test_the_stream_is_finished_when_every_choice_is():
    """One of two that goes on keeps the stream open."""
    both = said("a") + said("b", 1)
    assert (None, "stream_broken") == (
        outcome(both + event({}, "stop") + event({}, "stop", 1))[1],
        outcome(both + event({}, "stop") + DONE)[1],
    )


def test_a_choice_that_begins_late_opens_the_stream_again():
    """Choices one after the other: the first one's finish is not the end, and its events keep their order."""
    late = said("a") + event({}, "stop") + said("b", 1)
    events, reader = read(late, end=False)
    assert ([None, "stop", None], False) == ([one.finish_reason for one in events], reader.finished)
    assert ("a", "stream_broken") == outcome(late + DONE)
    assert ("a", None) == outcome(late + event({}, "stop", 1) + DONE)


def test_a_frame_behind_the_finish_opens_nothing():
    """Filters and accounting speak of a choice that is over."""
    assert ("Hi", None) == outcome(said("Hi") + event({}, "stop") + event({"content": ""}) + DONE)


@pytest.mark.parametrize("index", ["0", None, [], {}, 0.5, True])
def test_an_index_that_is_no_number_is_the_first(index):
    """Strange choices break nothing."""
    odd = sent({"choices": [{"index": index, "delta": {"content": "Hi"}, "finish_reason": "stop"}]})
    assert read(odd)[1].error is None


# --- broken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", DONE, COMMENT, sent({"choices": [], "usage": USAGE}) + DONE])
def test_an_answer_without_finish_is_broken(end):
    """[DONE] and usage do not finish what no finish_reason has finished."""
    text, code = outcome(said("Hel") + said("lo") + end)
    assert ("Hello", "stream_broken") == (text, code)


@pytest.mark.parametrize("count", range(6))
def test_events_without_json_are_skipped_and_counted(count):
    """Up to three; then the stream is not believed any more."""
    events, reader = read(said("Hi") + BROKEN * count + said("!") + event({}, "stop"))
    assert min(count, MALFORMED_MAX + 1) == reader._attempt.malformed
    assert (None if count <= MALFORMED_MAX else "stream_broken") == (reader.error and reader.error.code)
    assert ("Hi!" if count <= MALFORMED_MAX else "Hi") == "".join(one.text for one in events)


@pytest.mark.parametrize("payload", [b"[1]", b'"text"', b"null", b"5", b"{", b"\xff", b"NaN"])
def test_what_is_no_object_is_malformed(payload):
    """An event of a stream is a JSON object."""
    _, reader = read(said("Hi") + b"data: " + payload + b"\n\n" + event({}, "stop"))
    assert (1, None) == (reader._attempt.malformed, reader.error)


@pytest.mark.parametrize("payload", [b": OPENROUTER PROCESSING", b"", b"   "])
def test_a_comment_sent_as_data_is_not_malformed(payload):
    """A proxy's habit."""
    _, reader = read(said("Hi") + (b"data: " + payload + b"\n\n") * 9 + event({}, "stop"))
    assert (0, None) == (reader._attempt.malformed, reader.error)


def test_one_malformed_event_inside_a_tool_call_breaks_the_stream():
    """Arguments with a hole in them are worse than none; a thought with one is not."""
    assert "stream_broken" == outcome(event(CALL) + BROKEN + event({}, "tool_calls"))[1]
    assert "stream_broken" == outcome(event({"function_call": {"arguments": "{"}}) + BROKEN + event({}, "stop"))[1]
    assert outcome(event({"reasoning": "Hm"}) + BROKEN + said("Hi") + event({}, "stop"))[1] is None
    assert outcome(event(CALL) + said("Hi") + BROKEN + event({}, "stop"))[1] is None


ERROR = {"code": 502, "message": "Network connection lost.", "metadata": {"error_type": "provider_unavailable"}}
ERRORS = {
    "bare": sent({"error": ERROR}),
    "without choices": sent({"id": "gen-1", "choices": [], "error": ERROR}),
    "with a finish": event({"content": ""}, "error", error=ERROR),
    "in the choice": sent({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": ERROR}]}),
    "only a finish": event({"content": ""}, "error"),
    "in words": sent({"error": "upstream timeout"}),
}


@pytest.mark.parametrize("shape", ERRORS)
def test_an_error_before_anything_was_said_is_that_error(shape):
    """First event or not, in each of its shapes, also with [DONE] behind it."""
    events, reader = read(COMMENT + event({"role": "assistant", "content": ""}) + ERRORS[shape] + DONE)
    assert "server_error" == reader.error.code
    assert not any(one.semantic for one in events)


@pytest.mark.parametrize("shape", ERRORS)
def test_an_error_behind_words_breaks_the_stream(shape):
    """The words stay, the reason is named and kept as the cause, and it may have been billed."""
    events, reader = read(said("Hel") + said("lo") + ERRORS[shape] + DONE)
    error = reader.error
    assert ("Hello", "stream_broken", "yes") == ("".join(one.text for one in events), error.code, error.billed)
    # Of a break without a reason nobody knows whether asking again helps.
    assert ("no" if shape == "only a finish" else "last_once") == error.again
    assert "server_error" == error.__cause__.code
    assert error.__cause__.message in error.message


@pytest.mark.parametrize(
    ("error", "again", "onward"),
    [
        ({"code": 400, "message": "bad request"}, "no", "never"),
        ({"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}, "no", "never"),
        (
            {"code": 400, "metadata": {"error_type": "context_length_exceeded"}, "message": "too long"},
            "no",
            "larger_context",
        ),
        ({"code": 404, "message": "No endpoints", "metadata": {"failed_routing_step": "x"}}, "no", "always"),
        ({"code": 429, "message": "slow down", "metadata": {"retry_after_seconds": 7}}, "last_once", "always"),
        (ERROR, "last_once", "always"),
    ],
)
def test_a_late_error_keeps_its_verdict(error, again, onward):
    """What would fail again there is not asked there again, and a chain goes on only where it may."""
    broken = read(said("Hi") + sent({"error": error}))[1].error
    assert (again, onward) == (broken.again, broken.onward)
    assert broken.__cause__.retry_after == broken.retry_after


def test_one_failed_choice_among_sound_ones_fails_the_stream():
    """In a stream each choice has its own event."""
    failed = sent({"choices": [{"index": 1, "delta": {}, "finish_reason": "error", "error": ERROR}]})
    assert ("a", "stream_broken") == outcome(said("a") + said("b", 1) + failed + event({}, "stop") + DONE)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sse_choice_error_done", ("", "server_error")),
        ("sse_choice_error_policy", ("", "no_route")),
        ("sse_comment_as_data", ("hi", "stream_broken")),
        ("sse_error_bare", ("", "rate_limited")),
        ("sse_error_first", ("", "server_error")),
        ("sse_error_mid", ("partial", "stream_broken")),
        ("sse_error_nested_raw", ("", "overloaded")),
        ("sse_idle_timeout", ("", "server_error")),
        ("sse_late_429", ("", "rate_limited")),
        ("sse_messages_error", ("", "overloaded")),
        ("sse_ok_double_finish", ("", "empty_reply")),
        ("sse_responses_failed", ("", "server_error")),
        ("sse_routing_error", ("", "no_route")),
        ("sse_truncated", ("Hi", "stream_broken")),
    ],
)
def test_a_captured_stream_ends_as_it_should(kind, expected):
    """Each stream that was met in the wild, whole and byte by byte."""
    stream = ROWS[kind]["body"].encode()
    assert expected == outcome(stream) == outcome(*(bytes([byte]) for byte in stream))


def test_every_captured_stream_is_in_the_table():
    """A row that is added has to be judged."""
    table = next(mark for mark in test_a_captured_stream_ends_as_it_should.pytestmark if mark.name == "parametrize")
    assert sorted(ROWS) == sorted(kind for kind, _ in table.args[1])


# --- bounds and origin --------------------------------------------------------------------------------


def test_a_stream_that_is_too_large_keeps_what_was_whole():
    """It is not asked for again: it would be as large again."""
    events, reader = read(said("Hi") + said("x" * 2000), max_bytes=500)
    assert (["Hi"], "stream_broken", "no") == ([one.text for one in events], reader.error.code, reader.error.again)
    assert "larger than allowed" in reader.error.message


def test_a_picture_in_one_line_of_megabytes_is_read():
    """Only the whole stream is bounded."""
    picture = event({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2**22}}]})
    events, reader = read(picture, event({}, "stop"))
    assert (None, True) == (reader.error, events[0].semantic)


def test_an_answer_that_was_finished_stands_whatever_follows():
    """The bound is passed behind the finish."""
    events, reader = read(said("Hi") + event({}, "stop"), b":" * 2000, max_bytes=500)
    assert (None, "stop", True) == (reader.error, events[-1].finish_reason, reader.done)


def test_the_origin_is_that_of_the_first_event_and_of_the_finish():
    """The model that answered, its provider and the id, and nothing of later events but the last."""
    attempt = Attempt(1, Target(model="asked"), 0.0)
    reader = StreamReader(attempt)
    reader.feed(said("Hi"))
    assert ("served", "P", "gen-1") == (attempt.model, attempt.provider, attempt.generation_id)
    reader.feed(event({}, "stop", model="told late"))
    assert "told late" == attempt.model


def test_waits_of_an_error_event_are_read_with_the_clock_given():
    """A header with a date needs to know what time it is."""
    headers = {"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}
    _, reader = read(sent({"error": {"code": 429, "message": "slow"}}), headers=headers, wall=lambda: 20.0)
    assert 40.0 == reader.error.retry_after


def test_what_may_cost_on_its_own_is_not_surely_free():
    """With plugins or server tools an error body proves nothing about money."""
    free, dear = read(ERRORS["bare"])[1].error, read(ERRORS["bare"], plain=False)[1].error
    assert ("no", "maybe") == (free.billed, dear.billed)


def test_a_stream_of_endless_events_is_left():
    """Each is small, and together they would fill the memory; the answer is broken and not asked for again."""
    reader = StreamReader(Attempt(1, Target(), 0.0))
    first = reader.feed(said("Hi"))
    more = reader.feed(b"data: {}\n\n" * EVENTS_MAX)
    error = reader.error
    assert (1, [], "stream_broken", "no") == (len(first), more, error.code, error.again)
