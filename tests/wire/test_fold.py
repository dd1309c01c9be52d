"""A stream folded is the answer that one JSON body would have been, whatever way it was cut into chunks."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Attempt, Target, Trail
from orrouter.core.events import Whole
from orrouter.wire.fold import _add_calls, _Calls, completion_of, fold
from orrouter.wire.response import read_chunk

TEXT = st.text(alphabet='aé日\n"{}', min_size=1, max_size=12)
CUTS = st.lists(st.integers(0, 12), max_size=3)
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "cost": 0.001}
ENVELOPE = {"id": "gen-1", "created": 1, "model": "m", "provider": "P", "system_fingerprint": None}

CALLS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["now", "then"]), "arguments": st.just("") | TEXT}), max_size=3
)
DETAILS = st.lists(
    st.builds(lambda text: {"type": "reasoning.text", "text": text, "format": "unknown"}, TEXT)
    | st.builds(lambda text: {"type": "reasoning.text", "text": text, "signature": "sig"}, TEXT)
    | st.builds(lambda text: {"type": "reasoning.summary", "summary": text}, TEXT)
    | st.builds(lambda text: {"type": "reasoning.encrypted", "data": text, "id": "rs_1"}, TEXT),
    max_size=3,
)  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CITED = {"type": "url_citation", "url_citation": {"url": "https://a", "start_index": 0}}
LOGPROB = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}


@st.composite
def messages(draw) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | TEXT)}
    for name in draw(st.sets(st.sampled_from(["refusal", "reasoning", "reasoning_content"]))):
        message[name] = draw(TEXT)
    calls = draw(CALLS)
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function", "function": dict(call)} for at, call in enumerate(calls)
        ]
    details = draw(DETAILS)
    if details:
        message["reasoning_details"] = [{**detail, "index": at} for at, detail in enumerate(details)]
    if draw(st.booleans()):
        message["audio"] = {"id": "audio_1", "expires_at": 9, "data": draw(TEXT), "transcript": draw(TEXT)}
    for name, item in (("images", IMAGE), ("annotations", CITED)):
        count = draw(st.integers(0, 2))
        if count:
            message[name] = [item] * count
    if draw(st.booleans()):
        message["tomorrow"] = draw(st.sampled_from([{"a": {"data": ["x", "y"]}}, 7, True]))
    return message


@st.composite
def answers(draw) -> dict[str, Any]:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        logs = [LOGPROB] * draw(st.integers(0, 3))
        choices.append(
            {
                "index": index,
                "message": draw(messages()),
                "finish_reason": draw(st.sampled_from(["stop", "length", "tool_calls"])),
                "native_finish_reason": "end_turn",
                "logprobs": {"content": logs, "refusal": None} if logs else None,
            }
        )
    return {**ENVELOPE, "object": "chat.completion", "choices": choices, "usage": USAGE}


def pieces(draw, text: str) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in draw(CUTS))})
    return [text[start:end] for start, end in zip(edges, edges[1:], strict=False)] or [""]


def deltas_of(draw, message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message in deltas, as providers send it; text is cut anywhere, keys come and go."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": draw(st.sampled_from(["", None]))}]
    for name, value in message.items():
        if name in ("content", "refusal", "reasoning", "reasoning_content"):
            deltas += [{name: piece} for piece in pieces(draw, value)] if value is not None else []
        elif name == "tool_calls":
            for at, call in enumerate(value):
                function = call["function"]
                deltas.append({"tool_calls": [{"index": at, **call, "function": {**function, "arguments": ""}}]})
                deltas += [
                    {"tool_calls": [{"index": at, "id": draw(st.sampled_from(["", None, call["id"]])), "function": {"arguments": piece}}]}
                    for piece in pieces(draw, function["arguments"])
                ]  # fmt: skip
        elif name == "reasoning_details":
            for detail in value:
                text = next(key for key in ("text", "summary", "data") if key in detail)
                kept = {key: detail[key] for key in detail if key not in (text, "signature")}
                deltas += [{name: [{**kept, text: piece}]} for piece in pieces(draw, detail[text])]
                if "signature" in detail:
                    deltas.append({name: [{**kept, "signature": detail["signature"]}]})
        elif name == "audio":
            deltas.append({name: {"id": value["id"], "expires_at": value["expires_at"]}})
            deltas += [{name: {"data": piece}} for piece in pieces(draw, value["data"])]
            deltas += [{name: {"transcript": piece}} for piece in pieces(draw, value["transcript"])]
        elif isinstance(value, list):
            deltas += [{name: [item]} for item in value]
        elif name != "role":
            deltas.append({name: value})
    return deltas


def chunks_of(draw, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer as the chunks of a stream: each choice in its order, the choices mixed, usage at the end."""
    queues = []
    for choice in answer["choices"]:
        logs = list((choice["logprobs"] or {}).get("content") or ())
        queue = []
        for delta in deltas_of(draw, choice["message"]):
            here = {"content": [logs.pop(0)], "refusal": None} if logs else None
            queue.append({"index": choice["index"], "delta": delta, "finish_reason": None, "logprobs": here})
        while logs:
            queue.append(
                {"index": choice["index"], "delta": {}, "logprobs": {"content": [logs.pop(0)], "refusal": None}}
            )
        ended = {"finish_reason": choice["finish_reason"], "native_finish_reason": choice["native_finish_reason"]}
        queue.append(
            {"index": choice["index"], "delta": {"content": ""} if choice["message"]["content"] else {}, **ended}
        )
        queues.append(queue)
    mixed = []
    while queues:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        mixed.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    kind = {**ENVELOPE, "object": "chat.completion.chunk"}
    last = draw(
        st.sampled_from([[], [{"index": 0, "delta": {}, "finish_reason": answer["choices"][0]["finish_reason"]}]])
    )
    return [{**kind, "choices": [choice]} for choice in mixed] + [{**kind, "choices": last, "usage": answer["usage"]}]


@st.composite
def told_twice(draw):
    answer = draw(answers())
    return answer, chunks_of(draw, answer)


def without_emptiness(answer: dict[str, Any]) -> dict[str, Any]:
    """An empty text and none are the same content: a stream does not tell them apart."""
    other = copy.deepcopy(answer)
    for choice in other["choices"]:
        choice["message"]["content"] = choice["message"]["content"] or None
        choice.setdefault("logprobs", None)
    return other


@given(told_twice())
def test_a_stream_folds_to_the_answer_in_one_body(both):
    """Texts, arguments, reasoning, signatures, sound, pictures, citations, logprobs, several choices, what is unknown."""
    answer, chunks = both
    before = orjson.dumps(chunks)
    assert without_emptiness(answer) == without_emptiness(fold(chunks))
    assert before == orjson.dumps(chunks), "the chunks were changed"
    assert fold(chunks) == fold(chunks)


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), min_size=1, max_size=3))
def test_an_older_completion_folds_too(texts):
    """The endpoint that goes on with a text: pieces of `text`, logprobs in lists side by side."""
    chunks = [
        {**ENVELOPE, "object": "text_completion", "choices": [{"index": index, "text": piece, "logprobs": {"tokens": [piece], "top_logprobs": None}}]}
        for index, parts in enumerate(texts)
        for piece in parts
    ]  # fmt: skip
    chunks += [
        {**ENVELOPE, "choices": [{"index": index, "text": "", "finish_reason": "stop"}]} for index in range(len(texts))
    ]
    whole = fold(chunks)
    assert "text_completion" == whole["object"]
    assert ["".join(parts) for parts in texts] == [choice["text"] for choice in whole["choices"]]
    assert [{"tokens": parts, "top_logprobs": None} for parts in texts] == [
        choice["logprobs"] for choice in whole["choices"]
    ]


def delta(*deltas: Any, **choice: Any) -> dict[str, Any]:
    """The message of a stream of these deltas."""
    message: dict[str, Any] = fold([{"choices": [{"index": 0, "delta": one, **choice}]} for one in deltas])["choices"][
        0
    ]["message"]
    return message


def test_a_tool_call_without_words_has_no_content():
    """As it stands in one body: an empty text sent back in the next turn is refused by some models."""
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "now", "arguments": "{}"}}]}
    assert delta({"content": ""}, call, {"content": ""})["content"] is None
    assert "Wait" == delta({"content": "Wait"}, call)["content"]
    assert "" == delta({"content": ""})["content"]


def test_nulls_before_the_first_piece_are_no_hindrance():
    """Providers begin with every field set to null."""
    nulls = dict.fromkeys(
        [
            "content",
            "refusal",
            "reasoning",
            "reasoning_details",
            "tool_calls",
            "audio",
            "images",
            "annotations",
            "function_call",
        ]
    )
    full = {
        "content": "Hi", "refusal": "No", "reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}],
        "audio": {"data": "AA"}, "images": [IMAGE], "annotations": [CITED],
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": "now", "arguments": "{}"}}],
        "function_call": {"name": "now", "arguments": "{}"},
    }  # fmt: skip
    expected = {
        **full,
        "role": "assistant",
        "tool_calls": [{"id": "c", "function": {"name": "now", "arguments": "{}"}}],
    }
    assert expected == delta(nulls, full)
    assert expected == delta(full, nulls)


def test_logprobs_that_begin_with_null_are_kept():
    """The role comes without them."""
    chunks = [
        {"choices": [{"index": 0, "delta": {}, "logprobs": logs}]} for logs in (None, {"content": [LOGPROB]}, None)
    ]
    assert {"content": [LOGPROB]} == fold(chunks)["choices"][0]["logprobs"]


def test_what_says_no_index_is_told_apart_by_its_id():
    """A new id begins a call; a piece without one goes on with the last."""
    calls = delta(
        {"tool_calls": [{"id": "a", "function": {"name": "now", "arguments": "{"}}]},
        {"tool_calls": [{"function": {"arguments": "}"}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "then", "arguments": ""}}]},
        {"tool_calls": [{"id": "b", "function": {"arguments": "[]"}}]},
    )["tool_calls"]
    assert [("a", "now", "{}"), ("b", "then", "[]")] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls
    ]


def test_an_empty_name_in_a_later_piece_hides_no_name():
    """Some providers send id and name again, empty."""
    calls = delta(
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "", "type": "", "function": {"name": "", "arguments": "{}"}}]},
    )["tool_calls"]
    assert [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}] == calls


def test_reasoning_without_an_index_goes_on_until_it_is_signed():
    """What follows a signature is a thought of its own; sealed ones are never joined."""
    text, sealed = "reasoning.text", "reasoning.encrypted"
    details = delta(
        *({"reasoning_details": [detail]} for detail in (
            {"type": text, "text": "One "}, {"type": text, "text": "thought."}, {"type": text, "text": "", "signature": "s1"},
            {"type": text, "text": "Another."}, {"type": sealed, "data": "x"}, {"type": sealed, "data": "y"},
        ))
    )["reasoning_details"]  # fmt: skip
    assert [
        {"type": text, "text": "One thought.", "signature": "s1"},
        {"type": text, "text": "Another."},
        {"type": sealed, "data": "x"},
        {"type": sealed, "data": "y"},
    ] == details


def test_thoughts_of_different_ids_are_not_joined():
    """One index may be used by several items."""
    details = delta(
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "a", "id": "rs_1", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "b", "id": "rs_2", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "c", "index": 0}]},
    )["reasoning_details"]
    assert [("rs_1", "a"), ("rs_2", "bc")] == [(detail["id"], detail["summary"]) for detail in details]


def test_content_may_come_in_parts_and_in_words():
    """A list of parts grows; words before and after it become parts."""
    part = {"type": "thinking", "thinking": "Hm"}
    expected = [{"type": "text", "text": "He"}, part, {"type": "text", "text": "llo"}]
    assert expected == delta({"content": "He"}, {"content": [part]}, {"content": "llo"})["content"]
    assert [part] == delta({"content": ""}, {"content": [part]})["content"]


def test_the_last_word_on_the_envelope_counts():
    """Model and fingerprint may become known late; null hides nothing."""
    chunks = [
        {"model": "asked", "choices": []},
        {"model": "served", "usage": None, "choices": []},
        {"model": None, "extra": 1, "choices": []},
    ]
    whole = fold(chunks)
    assert {"model": "served", "usage": None, "extra": 1, "object": "chat.completion", "choices": []} == whole


JUNK = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "index", "delta", "message", "content", "text", "tool_calls", "function", "arguments", "id",
                         "reasoning_details", "type", "audio", "data", "logprobs", "images", "finish_reason"]), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(
    st.lists(
        st.fixed_dictionaries(
            {"choices": st.lists(st.fixed_dictionaries({"delta": JUNK, "logprobs": JUNK, "text": JUNK})) | JUNK}
        ),
        max_size=4,
    )
)
def test_no_chunk_is_too_strange_to_be_folded(chunks):
    """Whatever JSON was streamed, an answer in JSON comes out."""
    orjson.dumps(fold(chunks))


def test_one_body_is_its_own_completion():
    """Nothing is copied; a stream is folded."""
    attempt, trail = Attempt(1, Target(), 0.0), Trail("req_1", lambda: 0.0)
    body = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
    assert completion_of([Whole(b"", body)], attempt, trail).raw is body
    chunks = [read_chunk(b"", {"choices": [{"index": 0, "delta": {"content": text}}]}) for text in ("H", "i")]
    assert "Hi" == completion_of(chunks, attempt, trail).text


def nested(name: str, depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {name: inner}
    return inner


def told(*deltas: dict[str, Any]) -> dict[str, Any]:
    """The message of a stream of these deltas."""
    return fold([{"choices": [{"index": 0, "delta": delta}]} for delta in deltas])["choices"][0]["message"]


@pytest.mark.parametrize("odd", ["x", [], 1, True])
def test_a_function_that_is_none_gives_way_to_one(odd):
    """Whichever comes first, the function that can be called is kept."""
    call, nonsense = {"index": 0, "function": {"name": "f", "arguments": "{}"}}, {"index": 0, "function": odd}
    for order in ((nonsense, call), (call, nonsense)):
        message = told(*({"tool_calls": [delta]} for delta in order))
        assert [{"function": {"name": "f", "arguments": "{}"}}] == message["tool_calls"]


@pytest.mark.parametrize("name", ["audio", "function_call", "x"])
def test_a_value_of_any_depth_is_kept(name):
    """No depth that JSON can have is too deep, and nothing of it is lost."""
    assert nested(name, 500) == {name: told(nested(name, 500))[name]}


def test_calls_nested_in_functions_are_kept():
    """A tool call inside a function inside a tool call has no end that would matter."""
    delta: dict[str, Any] = {"name": "end"}
    for _ in range(200):
        delta = {"tool_calls": [{"index": 0, "function": delta}]}
    assert b'"name":"end"' in json.dumps(told(delta), separators=(",", ":")).encode()


def test_a_known_id_without_index_goes_on_with_its_call():
    """New ids stand behind the highest index, and a known one finds its place again."""
    deltas = [{"index": 4, "id": "a"}, {"id": "b"}, {"id": "a", "type": "function"}]
    message = told(*({"tool_calls": [delta]} for delta in deltas))
    assert [{"id": "a", "type": "function"}, {"id": "b"}] == message["tool_calls"]


def test_placing_a_call_looks_at_no_other_call():
    """A search among the calls would make a stream of many calls without index quadratic."""

    class Unsearched(_Calls):
        def __iter__(self):
            raise AssertionError("the calls were searched")

        items = values = __iter__

    calls = Unsearched()
    for made in "abcab":
        _add_calls(calls, [{"id": made}], 0)
    assert [0, 1, 2] == [at for at in range(5) if at in calls]
