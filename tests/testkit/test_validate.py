"""Requests that are not well formed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrouter.testkit.ask import Ask
from orrouter.testkit.desk import USUAL, Desk
from orrouter.testkit.failures import Failure
from orrouter.testkit.validate import PROMPTS, check, parse

HELLO = [{"role": "user", "content": "Hello"}]
MODEL = {"model": "openai/gpt-4o"}
NAMES = [
    *("messages", "prompt", "input", "model", "models", "provider", "max_tokens", "stop", "tools", "tool_choice"),
    *("stream", "reasoning", "reasoning_effort", "response_format", "modalities", "dimensions", "encoding_format"),
]
INNER = st.sampled_from(
    [
        *("order", "only", "ignore", "sort", "by", "max_price", "prompt", "quantizations", "effort", "enabled", "type"),
        *(
            "role",
            "content",
            "text",
            "function",
            "name",
            "parameters",
            "json_schema",
            "schema",
            "max_tokens",
            "require_parameters",
        ),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-3, 3)
    | st.sampled_from(["", "x", "user", "text", "json_schema", "json_object", "price", "azure", "fault/ok"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER, inner, max_size=3))


def said(body: dict[str, Any], endpoint: str = "chat/completions") -> str:
    failure = check(endpoint, body)
    assert isinstance(failure, Failure)
    return json.loads(failure.data)["error"]["message"]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff"])
def test_what_is_no_json_object_has_no_token(data):
    """The body of a client that forgot to serialise."""
    failure = parse(data)
    assert isinstance(failure, Failure)
    assert "Input must have at least 1 token." == json.loads(failure.data)["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (MODEL, 'Input required: specify "prompt" or "messages"'),
        ({**MODEL, "messages": []}, "Input must have at least 1 token."),
        ({"messages": HELLO}, "No models provided"),
        ({"messages": HELLO, "models": ["a", "b", "c", "d"]}, "'models' array must have 3 items or fewer."),
    ],
)
def test_each_mistake_has_its_sentence(body, words):
    """Word for word what OpenRouter says."""
    assert words == said(body)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"provider": {"quantization": "fp16"}}, ["provider"]),
        ({"provider": {"sort": "cheap"}}, ["provider", "sort"]),
        ({"provider": {"only": "azure"}}, ["provider", "only"]),
        ({"provider": {"max_price": {"prompt": "much"}}}, ["provider", "max_price"]),
        ({"temperature": 3}, ["temperature"]),
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"stop": ["a"] * 5}, ["stop"]),
        ({"tools": ["read"]}, ["tools"]),
        ({"tools": [{"function": {"name": 5}}]}, ["tools"]),
        ({"tool_choice": {"function": "read"}}, ["tool_choice"]),
        ({"response_format": {"type": "json_schema"}}, ["response_format"]),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, ["response_format"]),
    ],
)
def test_a_field_out_of_range_is_a_zod_error(body, path):
    """The second envelope: findings as JSON in a string, with the path."""
    failure = check("chat/completions", {**MODEL, "messages": HELLO, **body})
    assert isinstance(failure, Failure)
    error = json.loads(failure.data)["error"]
    assert ("ZodError", path) == (error["name"], json.loads(error["message"])[0]["path"])


async def test_an_unknown_model_is_a_400(client):
    """Nobody serves the slug."""
    got = await client.chat("acme/none")
    assert (400, "acme/none is not a valid model ID") == (got.status, got.json["error"]["message"])


async def test_mandatory_reasoning_cannot_be_switched_off(client):
    """The request that tries is a 400."""
    got = await client.chat("openai/gpt-5-mini", reasoning={"effort": "none"})
    assert (400, True) == (got.status, "Reasoning is mandatory" in got.json["error"]["message"])


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from(sorted(PROMPTS)))
def test_any_json_is_answered_or_refused(body, endpoint):
    """No request makes the fake itself fail: it is refused in words or answered."""
    body = {"model": "fault/ok", "messages": HELLO, "prompt": "Hi", "input": "Hi", **body}
    failure = check(endpoint, body)
    status = failure.status if failure else Desk(USUAL, 0).decide(Ask(endpoint, body), 0.0, 0).plan.status
    assert status in {200, 400, 404}
