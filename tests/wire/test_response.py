"""One object of an answer as an event: what it says, and whether it is an answer at all."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Call, Target, Trail
from orrouter.core.errors import UpstreamError
from orrouter.wire.response import is_plain_answer, note_origin, nothing_said, plain_words, read_chunk, says_nothing
from orrouter.wire.whole import whole_answer

BODIES = Path(__file__).parents[1] / "data" / "error_bodies.jsonl"
ROWS = [orjson.loads(line) for line in BODIES.read_bytes().splitlines()]
TOOL = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "now", "arguments": ""}}]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "stop", "error", "hi"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "text",
                    "finish_reason",
                    "error",
                    "usage",
                    "tool_calls",
                    "data",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def chunk(delta=None, finish=None, **more):
    return {
        "id": "gen-1",
        "choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}],
        **more,
    }


def seen(data):
    event = read_chunk(b"", data)
    return event.text, event.semantic, event.slow, event.finish_reason, event.failed


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (chunk({"role": "assistant", "content": ""}), ("", False, False, None, False)),
        (chunk({"content": "Hi"}), ("Hi", True, False, None, False)),
        (chunk({"content": "\n"}), ("\n", True, False, None, False)),
        (chunk({"content": [{"type": "text", "text": "Hi"}]}), ("", True, False, None, False)),
        (chunk({"content": "", "reasoning": "Hm"}), ("", True, True, None, False)),
        (chunk({"content": None, "reasoning_details": [{"type": "reasoning.text"}]}), ("", True, True, None, False)),
        (chunk({"content": None, "tool_calls": TOOL}), ("", True, True, None, False)),
        (chunk({"content": None, "tool_calls": None, "audio": None}), ("", False, False, None, False)),
        (chunk({"refusal": "No."}), ("", True, False, None, False)),
        (chunk({"audio": {"id": "a"}}), ("", True, False, None, False)),
        (chunk({"images": [{"type": "image_url"}]}), ("", True, False, None, False)),
        (chunk({"annotations": [{"type": "url_citation"}]}), ("", True, False, None, False)),
        (chunk({}, "stop"), ("", False, False, "stop", False)),
        (chunk({"content": ""}, "error"), ("", False, False, "error", True)),
        (chunk({"content": ""}, 7), ("", False, False, None, False)),
        (chunk({"content": "Hi"}, error={"code": 502}), ("Hi", True, False, None, True)),
        ({"choices": [{"index": 0, "text": "Once"}]}, ("Once", True, False, None, False)),
        ({"choices": [{"index": 0, "text": "", "reasoning": "Hm"}]}, ("", True, True, None, False)),
        ({"choices": [{"index": 0, "message": {"content": "Whole"}}]}, ("Whole", True, False, None, False)),
        ({"choices": [{"index": 0, "error": {"code": 502}}]}, ("", False, False, None, True)),
        ({"choices": []}, ("", False, False, None, True)),
        ({"error": {"code": 502}}, ("", False, False, None, True)),
        ({"choices": [None, 5]}, ("", False, False, None, False)),
    ],
)  # fmt: skip
def test_a_chunk_says_what_stands_in_it(data, expected):
    """Text of the first choice, whether anything was said, whether thinking or a tool is at work, finish, failure."""
    assert expected == seen(data)


def test_text_is_that_of_the_first_choice_and_any_choice_speaks():
    """With several answers the text is the first one's; words of another are something said all the same."""
    first, second = {"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"role": "assistant", "content": ""}}
    assert ("a", True, False, None, False) == seen({"choices": [first, second]})
    assert ("", True, False, None, False) == seen({"choices": [{"index": 1, "delta": {"content": "b"}}]})
    finish = [{"index": 1, "delta": {}, "finish_reason": "length"}, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert "stop" == read_chunk(b"", {"choices": finish}).finish_reason


def test_usage_is_an_object_or_none():
    """What is no object is no usage."""
    assert {"cost": 1} == read_chunk(b"", chunk(usage={"cost": 1})).usage
    assert read_chunk(b"", chunk(usage=[1])).usage is None


@given(JSON)
def test_plain_words_are_what_the_chunk_says(data):
    """The short road tells the same as the long one, or nothing."""
    words = plain_words(data)
    if words:
        assert (words, True, False, None, False) == seen(data)
        assert read_chunk(b"", data).usage is None


def test_plain_words_are_found():
    """The chunk that providers send most."""
    assert "Hi" == plain_words(chunk({"role": "assistant", "content": "Hi"}))


def answer(message=None, finish="stop", **more):
    said = {"role": "assistant", "content": None} if message is None else message
    return {"choices": [{"index": 0, "message": said, "finish_reason": finish}], **more}


def judged(data, endpoint="chat/completions", body=None) -> str | None:
    """The code of the error that a body with status 200 is, None for an answer."""
    attempt = Attempt(1, Target(), 0.0)
    call = Call(endpoint=endpoint, body=body or {}, trail=Trail("req_1", lambda: 0.0), attempt=attempt)
    raw = data if isinstance(data, bytes) else orjson.dumps(data)
    try:
        whole = whole_answer(raw, call, {}, wall=lambda: 0.0)
    except UpstreamError as error:
        return error.code
    assert orjson.loads(raw.lstrip().removeprefix(b": OPENROUTER PROCESSING")) == whole.data
    return None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (answer({"content": "Hi"}), None),
        (answer({"content": "Hi"}, "length"), None),
        (answer({"content": [{"type": "text", "text": "Hi"}]}), None),
        (answer({"content": None, "tool_calls": TOOL}, "tool_calls"), None),
        (answer({"content": None, "refusal": "No."}, "content_filter"), None),
        (answer({"content": None, "images": [{"type": "image_url"}]}), None),
        (answer({"content": None, "audio": {"id": "a"}}), None),
        (answer({"content": "", "reasoning": "Hm"}), None),
        (answer({"content": ""}, "length"), None),
        ({"choices": [{"index": 0, "text": "Once", "finish_reason": "stop"}]}, None),
        (b"\n" * 2**21 + orjson.dumps(answer({"content": "padded"})), None),
        (b": OPENROUTER PROCESSING\n\n" + orjson.dumps(answer({"content": "commented"})), None),
        (answer({"content": "Hi"}, error={"code": 502, "message": "lost"}), "server_error"),
        (answer({"content": "Hi"}, "error"), "server_error"),
        ({"choices": [{"index": 0, "message": {"content": "Hi"}, "error": {"code": 503}}]}, "overloaded"),
        (answer({"content": ""}), "empty_reply"),
        (answer(), "empty_reply"),
        (answer({"content": None}, None), "empty_reply"),
        (answer({"content": "cut o"}, None), "stream_broken"),
        (answer({"content": "Hi"}, 5), "stream_broken"),
        (answer({"content": "Hi"}, True), "stream_broken"),
        (answer({"content": 1}), "empty_reply"),
        (answer({"content": {"a": 1}}), "empty_reply"),
        (answer({"content": [None]}), "empty_reply"),
        (answer({"content": [{}]}), "empty_reply"),
        (answer({"content": [{"type": "text", "text": ""}]}), "empty_reply"),
        ({"choices": []}, "empty_reply"),
        ({"choices": [None]}, "empty_reply"),
        ({"choices": ["nonsense", {"message": "nonsense"}]}, "empty_reply"),
        ({"choices": {}}, "server_error"),
        ({}, "server_error"),
        ({"id": "gen-1"}, "server_error"),
        ([], "server_error"),
        ([answer({"content": "Hi"})], "server_error"),
        ("Hi", "server_error"),
        (b"", "server_error"),
        (b"\n" * 2**21, "server_error"),
        (b"<html><title>502: Bad gateway</title></html>", "server_error"),
        (b'{"choices": [{"mess', "server_error"),
        (b"[" * 100_000, "server_error"),
        (b"\xff\xfe\x00", "server_error"),
    ],
)  # fmt: skip
def test_a_body_is_an_answer_or_an_error(data, expected):
    """An error inside, nothing inside, half an answer, a page, padding: never a success."""
    assert expected == judged(data)


def test_an_answer_that_breaks_off_keeps_what_was_said():
    """It may have been billed, and its words are on the error."""
    call = Call(trail=Trail("req_1", lambda: 0.0), attempt=Attempt(1, Target(), 0.0))
    with pytest.raises(UpstreamError) as caught:
        whole_answer(orjson.dumps(answer({"content": "cut o"}, None)), call, {}, wall=lambda: 0.0)
    assert ("cut o", "yes", "last_once", 200) == (
        caught.value.partial,
        caught.value.billed,
        caught.value.again,
        caught.value.status,
    )


@pytest.mark.parametrize(
    ("endpoint", "data", "expected"),
    [
        ("embeddings", {"data": [{"embedding": [0.1]}]}, None),
        ("embeddings", {"data": []}, "empty_reply"),
        ("embeddings", {"usage": {}}, "server_error"),
        ("models", {"data": []}, None),
        ("key", {"data": {"limit": None}}, None),
        ("key", {"error": {"code": 401, "message": "No auth credentials found"}}, "auth_failed"),
    ],
)
def test_other_endpoints_must_hold_their_data(endpoint, data, expected):
    """An empty list is an answer only where it can be one."""
    assert expected == judged(data, endpoint)


@pytest.mark.parametrize("content", [1, True, {"a": 1}, [None], [{}], [""]])
def test_a_content_that_holds_no_words_says_nothing(content):
    """In a stream it commits nobody, but what stands beside it still speaks."""
    assert ("", False) == seen(chunk({"content": content}))[:2]
    assert seen(chunk({"content": content, "tool_calls": TOOL}))[1]
    assert seen(chunk({"content": [{"type": "text", "text": "Hi"}]}))[1]


@pytest.mark.parametrize(
    ("vectors", "asked", "expected"),
    [
        ([{"embedding": [0.1]}] * 2, ["a", "b"], None),
        ([{"embedding": "AAAA"}], "a", None),
        ([{"embedding": [0.1]}], [1, 2, 3], None),
        ([{"embedding": [0.1]}], ["a", "b"], "server_error"),
        ([{"embedding": [0.1]}] * 2, ["a"], "server_error"),
        ([{"embedding": []}], ["a"], "server_error"),
        ([{"embedding": ""}], ["a"], "server_error"),
        ([{"index": 0}], ["a"], "server_error"),
        ([None], ["a"], "server_error"),
        ("x", ["a"], "server_error"),
        (5, ["a"], "server_error"),
        ([], ["a"], "empty_reply"),
    ],
)
def test_each_text_must_have_its_embedding(vectors, asked, expected):
    """A list of token numbers is one text; what is no vector, or is missing, is no answer."""
    assert expected == judged({"data": vectors}, "embeddings", {"input": asked})


@given(JSON)
def test_no_object_is_too_strange_to_be_read(data):
    """Whatever JSON comes is an answer or one of our errors, and the short road agrees with the long one."""
    if isinstance(data, dict):
        read_chunk(b"", data)
        if is_plain_answer(data):
            assert not says_nothing(data)
    judged(orjson.dumps(data))


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        (None, "maybe"),
        ({}, "maybe"),
        ({"cost": 0}, "no"),
        ({"cost": 0.01}, "yes"),
        ({"cost": True}, "maybe"),
        ({"cost": "0"}, "maybe"),
        ({"cost": 0, "is_byok": True}, "maybe"),
    ],
)
def test_an_empty_reply_is_billed_as_its_usage_says(usage, billed):
    """A reported cost is known; with a key of one's own the provider may still charge."""
    error = nothing_said("nothing", usage)
    assert (billed, usage) == (error.billed, error.raw)


def test_the_origin_of_an_answer_is_noted_as_far_as_it_is_told():
    """Model and provider that answered, and the generation's id unless a header had told it."""
    attempt = Attempt(1, Target(model="asked"), 0.0)
    note_origin(attempt, {"id": "gen-1", "model": "served", "provider": "DeepInfra"})
    note_origin(attempt, {"id": "gen-2", "model": "", "provider": None})
    note_origin(attempt, {"id": 7, "model": ["x"], "provider": {}})
    assert ("served", "DeepInfra", "gen-1") == (attempt.model, attempt.provider, attempt.generation_id)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["status"] == 200 and not row["stream"] and row["kind"] != "usage_byok"],
    ids=lambda row: row["kind"],
)
def test_a_captured_body_with_status_200_is_an_answer_or_an_error(row):
    """The rows met in the wild: two are answers, all others are none."""
    body = row["body"].encode() if isinstance(row["body"], str) else orjson.dumps(row["body"])
    endpoint = row["endpoint"].removeprefix("/")
    assert (row["kind"] in ("reasoning_exhausted", "refusal_output")) == (judged(body, endpoint) is None)
