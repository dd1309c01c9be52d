"""What the fake upstream says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.testkit.answers import Turn, frames
from orrouter.testkit.ask import Ask
from orrouter.testkit.speech import CANONICAL, THOUGHT, Answer, compose, instance, pieces
from orrouter.testkit.table import FakeModel, default_models

MODELS = {one.slug: one for one in default_models()}
GPT, CLAUDE = MODELS["openai/gpt-4o"], MODELS["anthropic/claude-sonnet-4.5"]
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": {"name": "other"}}, {"type": "function", "function": WEATHER}]


def answer(model: FakeModel = GPT, text: str = "Hello", said: str | None = None, **body: Any) -> Answer:
    ask = Ask("chat/completions", {"messages": [{"role": "user", "content": text}], **body})
    return compose(ask, model, said, 1_000)


def test_the_canonical_answer_has_sixty_words():
    """So that a truncated one is never mistaken for it."""
    assert (60, 60) == (len(CANONICAL.split()), answer().completion_tokens)


@given(st.text())
def test_pieces_joined_are_the_text(text):
    """Cutting into tokens loses nothing."""
    assert text == "".join(pieces(text))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_bound_cuts_the_answer(name):
    """Three tokens, finish_reason length."""
    cut = answer(**{name: 3})
    assert ("A river does", "length", 3) == (cut.text, cut.finish, cut.completion_tokens)


@pytest.mark.parametrize("stop", ["hurry", ["nothing", "hurry"]])
def test_a_stop_word_ends_the_answer_before_it(stop):
    """The first stop word that occurs counts."""
    assert ("A river does not ", "stop") == (answer(stop=stop).text, answer(stop=stop).finish)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_is_called(choice):
    """tool_choice makes the model call."""
    assert "tool_calls" == answer(tools=TOOLS, tool_choice=choice).finish


def test_a_named_tool_is_called_with_fitting_arguments():
    """`call weather` picks the tool; the arguments satisfy its schema."""
    called = answer(text="call weather", tools=TOOLS)
    assert ("weather", {"city": "text"}) == (called.tool, json.loads(called.text))


def test_offered_tools_need_not_be_used():
    """Without force the model talks."""
    assert "" == answer(tools=TOOLS).tool


def test_tools_may_be_forbidden():
    """tool_choice none wins over the message."""
    assert "" == answer(text="call weather", tools=TOOLS, tool_choice="none").tool


def test_a_json_object_is_json():
    """json_object gives an object."""
    assert {"answer": CANONICAL} == json.loads(answer(response_format={"type": "json_object"}).text)


def test_a_schema_is_satisfied():
    """json_schema gives an instance of the schema."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 6},
            "age": {"type": "integer", "minimum": 18},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
            "who": {"$ref": "#/$defs/who"},
            "maybe": {"anyOf": [{"type": "number", "maximum": 0}, {"type": "null"}]},
        },
        "required": ["name", "more"],
        "$defs": {"who": {"type": ["boolean", "null"]}},
    }
    whole = {"name": "textxx", "age": 18, "tags": ["a", "a"], "who": True, "maybe": 0.0, "more": "text"}
    assert whole == json.loads(answer(response_format={"type": "json_schema", "json_schema": {"schema": schema}}).text)


def test_a_recursive_schema_comes_to_an_end():
    """An optional child that is its own parent is left out deep down."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert {} != instance({"$ref": "#/$defs/node", "$defs": {"node": node}})


def test_reasoning_comes_when_it_is_asked_for():
    """A model that can reason does, and counts it."""
    asked = answer(CLAUDE, reasoning={"effort": "low"})
    assert (THOUGHT, len(THOUGHT.split())) == (asked.reasoning, asked.reasoning_tokens)


@pytest.mark.parametrize(("model", "body"), [(GPT, {"reasoning": {"effort": "low"}}), (CLAUDE, {})])
def test_no_reasoning_without_wish_or_ability(model, body):
    """Neither a model that cannot nor a request that does not ask."""
    assert "" == answer(model, **body).reasoning


def test_reasoning_spends_the_bound_first():
    """Ten tokens are all spent on thinking."""
    cut = answer(CLAUDE, reasoning={"enabled": True}, max_tokens=10)
    assert ("", "length", 10) == (cut.text, cut.finish, cut.completion_tokens)


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("abcd" * 10, 10),
        ("é" * 5, 3),
        ([{"type": "text", "text": "abcde"}, {"type": "image_url", "image_url": {"url": "data:,"}}], 2 + 1_100),
    ],
)
def test_prompt_tokens_are_bytes_and_media(content, tokens):
    """Four bytes of text a token, rounded up; an image has a flat number."""
    assert tokens == Ask("chat/completions", {"messages": [{"role": "user", "content": content}]}).prompt_tokens


@given(
    st.text(max_size=40),
    st.sampled_from(["", "required"]),
    st.sampled_from([{}, {"reasoning": {"enabled": True}}, {"reasoning": {"enabled": True, "exclude": True}}]),
    st.integers(1, 40),
    st.sampled_from(["chat/completions", "completions"]),
)
def test_the_frames_carry_all_tokens(said, choice, reasoning, bound, endpoint):
    """Whatever is said, the tokens of the events add up to those of the answer."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": bound, **reasoning}
    ask = Ask(endpoint, {**body, "tools": TOOLS, "tool_choice": choice} if choice else body)
    composed = compose(ask, CLAUDE, None if choice else said, 1_000)
    turn = Turn(ask, CLAUDE, CLAUDE.providers[0], composed, "gen-0-00000000", 0.0)
    assert composed.completion_tokens == sum(frame.tokens for frame in frames(turn))
    assert all(frame.tokens >= 0 for frame in frames(turn))


async def test_a_tool_call_streams_its_arguments(client):
    """Name and id first, then the arguments in pieces; finish_reason tool_calls."""
    got = await client.chat(stream=True, tools=[TOOLS[1]], tool_choice="required")
    calls = [call for event in got.events[:-1] for call in event["choices"][0]["delta"].get("tool_calls", ())]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert ("weather", {"city": "text"}) == (calls[0]["function"]["name"], json.loads(arguments))


async def test_hidden_reasoning_is_paid_but_not_shown(client):
    """With exclude the model keeps the text back and counts the tokens."""
    got = await client.chat("anthropic/claude-sonnet-4.5", reasoning={"enabled": True, "exclude": True})
    counted = got.json["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert (None, 13) == (got.json["choices"][0]["message"]["reasoning"], counted)


async def test_a_voice_has_a_transcript(client):
    """Modality audio answers with sound and the words."""
    got = await client.chat("openai/gpt-4o-audio-preview", modalities=["text", "audio"], audio={"voice": "alloy"})
    assert CANONICAL == got.json["choices"][0]["message"]["audio"]["transcript"]


async def test_a_picture_is_a_data_url(client):
    """Modality image answers with an image."""
    got = await client.chat("google/gemini-2.5-flash-image", modalities=["image", "text"])
    assert got.json["choices"][0]["message"]["images"][0]["image_url"]["url"].startswith("data:image/png")


async def test_the_author_has_a_finish_of_its_own(client):
    """native_finish_reason is the provider's word."""
    got = await client.chat("anthropic/claude-sonnet-4.5")
    assert "end_turn" == got.json["choices"][0]["native_finish_reason"]
