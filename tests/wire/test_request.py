"""A call as bytes: what goes out to OpenRouter, what is left out for others, and a long prompt serialised once."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.core.call import Call, Clocks, Target, Trail
from orrouter.core.errors import InvalidRequest
from orrouter.wire.request import OPENROUTER_ONLY, Request, plain, request_of, streams

HELLO = [{"role": "user", "content": "Hello"}]
SPARE = Target(upstream="spare", model="gpt-4o", dialect="openai")

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
HEADS = st.dictionaries(TEXTS.filter(lambda name: name not in ("messages", "model", "stream")), VALUES, max_size=4)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": VALUES}), max_size=3)


def call(model: str = "openai/gpt-4o", **changes) -> Call:
    changes.setdefault("target", Target(model=model))
    changes.setdefault("body", {"messages": HELLO})
    return Call(trail=Trail("req_1", lambda: 0.0), **changes)


def sent(call: Call):
    return json.loads(request_of(call).body)


def test_the_bytes_are_the_body_with_its_model():
    """Fields keep their order, the model stands behind them, the messages last."""
    body = {"messages": HELLO, "temperature": 0.5}
    expected = b'{"temperature":0.5,"model":"openai/gpt-4o","messages":[{"role":"user","content":"Hello"}]}'
    assert Request("chat/completions", expected, stream=False) == request_of(call(body=body))


def test_a_get_has_no_body():
    """Only path and method count."""
    assert Request("models", None, stream=False) == request_of(call(endpoint="models", method="GET"))


def test_a_call_without_model_leaves_the_choice_to_the_account():
    """OpenRouter then takes the account's default."""
    assert {"messages": HELLO} == sent(call(model=""))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"streamed": True}, True),
        ({"clocks": Clocks(first_token=15)}, True),
        ({"clocks": Clocks(stall=30)}, True),
        ({"clocks": Clocks(attempt=60)}, False),
        ({"endpoint": "completions", "streamed": True}, True),
        ({"endpoint": "embeddings", "clocks": Clocks(first_token=15)}, False),
    ],
)
def test_a_stream_is_asked_for_when_somebody_needs_to_see_the_first_token(changes, expected):
    """A reader of events, or a clock; what is no completion is never streamed."""
    assert expected == streams(call(**changes))
    assert expected == sent(call(**changes)).get("stream", False)


@given(HEADS, MESSAGES, st.lists(HEADS, min_size=1, max_size=3))
def test_messages_are_serialised_once_and_every_try_is_the_same_json(first, messages, others):
    """A further try of the same messages under another head says what serialising it anew would say."""
    trail = Trail("req_1", lambda: 0.0)
    for head in (first, *others):
        body = {**head, "messages": messages}
        again = Call(trail=trail, target=Target(model="m"), body=body)
        fresh = Call(trail=Trail("req_2", lambda: 0.0), target=Target(model="m"), body=body)
        assert {**head, "model": "m", "messages": messages} == sent(again)
        assert request_of(fresh).body == request_of(again).body


def test_the_messages_of_a_further_try_are_those_of_the_first():
    """They are taken from the bytes of the first try: a change made meanwhile by the caller is not half sent."""
    messages = [{"role": "user", "content": "Hello"}]
    first = call(body={"messages": messages})
    request_of(first)
    messages[0]["content"] = "changed meanwhile"
    assert HELLO == sent(first.to(target=Target(model="other")))["messages"]


def test_a_head_changed_between_tries_breaks_no_bytes():
    """Where the first bytes cannot be cut any more, everything is serialised anew."""
    tools = [{"type": "function", "function": {"name": "now"}}]
    first = call(body={"tools": tools, "messages": HELLO})
    request_of(first)
    tools.append({"type": "function", "function": {"name": "then"}})
    assert {"tools": tools, "model": "other", "messages": HELLO} == sent(first.to(target=Target(model="other")))


def test_other_messages_are_never_taken_for_the_first():
    """A layer may change the messages of a try."""
    first = call()
    request_of(first)
    other = [{"role": "user", "content": "Bye"}]
    assert other == sent(first.to(body={"messages": other}))["messages"]


@pytest.mark.parametrize("body", [{"messages": [object()]}, {"messages": HELLO, "seed": 2**70}, {"prompt": "\ud800"}])
def test_what_is_no_json_is_the_callers_mistake(body):
    """It is told before anything is sent."""
    with pytest.raises(InvalidRequest, match="the request is no JSON"):
        request_of(call(body=body))


def test_three_models_go_to_the_server():
    """Without a fallback of ours the server chooses among them."""
    named = sent(call("a/1", models=("a/1", "b/2", "c/3")))
    assert ("a/1", ["a/1", "b/2", "c/3"]) == (named["model"], named["models"])


def test_a_fourth_model_is_refused_with_the_way_out():
    """OpenRouter answers HTTP 400 to it; our own chain takes any number."""
    with pytest.raises(InvalidRequest, match=r"4 models are named, and OpenRouter takes 3.*`fallback`"):
        request_of(call("a/1", models=("a/1", "b/2", "c/3", "d/4")))


@pytest.mark.parametrize("streamed", [True, False])
def test_an_openai_upstream_gets_no_field_of_openrouter(streamed):
    """Each of them would be refused; what OpenAI knows goes through."""
    body = dict.fromkeys(OPENROUTER_ONLY, 1) | {"temperature": 0, "messages": HELLO}
    told = sent(call(target=SPARE, body=body, models=("a/1", "b/2"), streamed=streamed))
    asked = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    assert {"temperature": 0, "model": "gpt-4o", "messages": HELLO, **asked} == told


def test_an_openai_upstream_is_told_the_effort_under_its_own_name():
    """`reasoning.effort` is `reasoning_effort` there; one that is given already stays."""
    body = {"messages": HELLO, "reasoning": {"effort": "low"}}
    assert "low" == sent(call(target=SPARE, body=body))["reasoning_effort"]
    assert "high" == sent(call(target=SPARE, body={**body, "reasoning_effort": "high"}))["reasoning_effort"]


@pytest.mark.parametrize(
    ("given", "streamed", "expected"),
    [
        ({"include_obfuscation": False}, True, {"include_obfuscation": False, "include_usage": True}),
        ({"include_usage": False}, True, {"include_usage": True}),
        ("nonsense", True, {"include_usage": True}),
        ({"include_usage": True}, False, None),
    ],
)
def test_an_openai_upstream_is_asked_for_usage_in_streams_alone(given, streamed, expected):
    """It sends none unasked, and refuses the option where nothing is streamed."""
    body = {"messages": HELLO, "stream_options": given}
    assert expected == sent(call(target=SPARE, body=body, streamed=streamed)).get("stream_options")


def test_tools_that_openrouter_runs_stay_away_from_an_openai_upstream():
    """Functions of the caller go on; with none left the choice among them goes too."""
    search, function = {"type": "openrouter:web_search"}, {"type": "function", "function": {"name": "now"}}
    both = sent(call(target=SPARE, body={"messages": HELLO, "tools": [search, function], "tool_choice": "auto"}))
    none = sent(call(target=SPARE, body={"messages": HELLO, "tools": [search], "tool_choice": "auto"}))
    assert ([function], "auto") == (both["tools"], both["tool_choice"])
    assert {"model": "gpt-4o", "messages": HELLO} == none


def test_an_earlier_answer_of_openrouter_can_be_sent_to_an_openai_upstream():
    """Reasoning, annotations, images and cache marks of the conversation are left out, and the caller's list is not touched."""
    answer = {
        "role": "assistant",
        "content": "Hi",
        "reasoning": "…",
        "reasoning_details": [],
        "annotations": [],
        "images": [],
    }
    marked = {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}
    body = {"messages": [answer, marked]}
    bare = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert bare == sent(call(target=SPARE, body=body))["messages"]
    assert [answer, marked] == sent(call(body=body))["messages"]


def test_one_conversation_goes_to_both_dialects_in_one_call():
    """A fallback to another dialect and back sends each what it takes."""
    dressed = [{"role": "assistant", "content": "Hi", "reasoning": "…"}]
    first = call(body={"messages": dressed})
    asked = [sent(first)["messages"], sent(first.to(target=SPARE))["messages"], sent(first)["messages"]]
    assert [dressed, [{"role": "assistant", "content": "Hi"}], dressed] == asked


@pytest.mark.parametrize(
    ("body", "model", "expected"),
    [
        ({}, "m", True),
        ({"tools": [], "plugins": None}, "m", True),
        ({"tools": [{"type": "function"}]}, "m", True),
        ({"tools": [{"type": "openrouter:web_search"}]}, "m", False),
        ({"tools": "nonsense"}, "m", False),
        ({"plugins": [{"id": "web"}]}, "m", False),
        ({"plugins": [{"id": "response-healing"}]}, "m", True),
        ({"plugins": ["web"]}, "m", False),
        ({"preset": "mine"}, "m", False),
        ({"web_search_options": {}}, "m", True),
        ({"web_search_options": {"search_context_size": "low"}}, "m", False),
        ({}, "openai/gpt-4o:online", False),
        ({}, "@preset/mine", False),
    ],
)
def test_only_a_plain_request_fails_surely_for_nothing(body, model, expected):
    """Plugins, server tools, searches and presets may charge on their own, also where the model failed."""
    assert expected == plain(body, model)


def test_a_body_of_many_kinds_is_sent_untouched():
    """Vision, audio, files, schemas, logprobs and whatever comes tomorrow."""
    body = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "modalities": ["text", "audio"], "audio": {"voice": "alloy"}, "logprobs": True, "tomorrow": {"a": [1, None]},
    }  # fmt: skip
    assert {**body, "model": "openai/gpt-4o"} == orjson.loads(request_of(call(body=body)).body)
