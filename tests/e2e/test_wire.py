"""Every endpoint and every field of a chat, from the router's face to a fake OpenRouter on a socket and back."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import orjson
import pytest
import pytest_asyncio
from pydantic import BaseModel

from orrouter.core.errors import (
    AuthFailed,
    EmptyReply,
    InvalidRequest,
    ModelNotFound,
    OutputInvalid,
    RouterError,
    StreamBroken,
    UpstreamError,
)
from orrouter.core.facts import EventsSkipped, SpellingTranslated
from orrouter.router import OldSpelling, Router
from orrouter.testkit.desk import Rules
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL, THOUGHT

KEY = "sk-or-v1-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
GPT, CLAUDE = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def router(url: str, *layers: Mapping[str, Any], **options: Any) -> Router:
    policy = {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": url, "api_key": KEY, **options}},
        "policies": {"default": list(layers) or [{"record": {}}]},
    }
    return Router.from_policy(policy, env={})


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOpenRouter]:
    async with FakeOpenRouter() as fake:
        yield fake


@pytest_asyncio.fixture
async def ours(fake) -> AsyncIterator[Router]:
    async with router(fake.url) as ours:
        yield ours


WAYS = ["json", "streamed", "stream"]


async def said(ours: Router, way: str, messages: Any = HELLO, **body: Any) -> Any:
    """The completion of a chat: as one JSON, as a stream nobody sees, or as a stream that is read."""
    if way == "stream":
        async with ours.stream(messages, **body) as events:
            async for _ in events:
                pass
        return events.completion
    return await ours.chat(messages, policy="clocked" if way == "streamed" else "default", **body)


@pytest_asyncio.fixture
async def both(fake) -> AsyncIterator[Router]:
    """A router that knows both wire forms of a chat: `clocked` streams, `default` does not."""
    policy = {
        "version": 1,
        "upstreams": {"openrouter": {"base_url": fake.url, "api_key": KEY}},
        "policies": {"clocked": [{"deadline": {"first_token": "5s"}}], "default": [{"record": {}}]},
        "routes": [{"policy": "default"}],
    }
    async with Router.from_policy(policy, env={}) as ours:
        yield ours


# --- chat ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_chat_tells_words_model_provider_cost_and_id(both, fake, way):
    """The same whatever way it came, and what the fake charged is what we say it cost."""
    done = await said(both, way, model=GPT)
    (seen,) = fake.requests
    await fake.settled()
    assert (CANONICAL, "stop", GPT, "OpenAI") == (done.text, done.finish_reason, done.model, done.provider)
    assert (seen.generation_id, seen.generation_id) == (done.id, done.attempt.generation_id)
    assert fake.true_cost() == int(done.cost * Decimal(10**9)) > 0
    assert ("chat.completion", "stop", False) == (
        done.raw["object"],
        done.choice["native_finish_reason"],
        done.usage["is_byok"],
    )
    assert (way != "json", "Bearer ***cdef") == (seen.stream, seen.headers["authorization"])


FIELDS = {
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "top_a": 0.1, "frequency_penalty": 0.1, "presence_penalty": 0.1,
    "repetition_penalty": 1.1, "logit_bias": {"50256": -100}, "logprobs": True, "top_logprobs": 2, "seed": 7, "stop": ["\n\n\n"],
    "max_tokens": 900, "reasoning": {"effort": "low", "exclude": False}, "include_reasoning": True, "verbosity": "low",
    "response_format": {"type": "text"}, "tools": [WEATHER], "tool_choice": "none", "parallel_tool_calls": False,
    "modalities": ["text"], "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k", "cache_control": {"type": "ephemeral"},
    "service_tier": "auto", "session_id": "s", "user": "u", "metadata": {"a": "b"}, "trace": {"trace_id": "t"}, "usage": {"include": True},
    "plugins": [{"id": "response-healing"}], "provider": {"order": ["openai"], "allow_fallbacks": True, "sort": "price"},
    "web_search_options": {}, "stop_server_tools_when": [{"type": "max_cost", "max_cost_in_dollars": 0.1}], "tomorrow": {"unknown": [1]},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_every_field_of_a_request_travels_untouched(both, fake, way):
    """Also those that nobody knows today."""
    await said(both, way, model=GPT, **FIELDS)
    (seen,) = fake.requests
    assert {**FIELDS, "model": GPT, "messages": HELLO, **({"stream": True} if way != "json" else {})} == seen.body


@pytest.mark.parametrize("way", WAYS)
async def test_a_tool_is_called_and_its_answer_taken(both, fake, way):
    """The call of the first answer goes back with the tool's result in the second request, unchanged."""
    asked = await said(both, way, [{"role": "user", "content": "call weather"}], model=GPT, tools=[WEATHER])
    (call,) = asked.tool_calls
    assert ("tool_calls", None, "weather") == (asked.finish_reason, asked.message["content"], call["function"]["name"])
    assert {"city": "text"} == orjson.loads(call["function"]["arguments"])
    result = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
    done = await said(
        both, way, [{"role": "user", "content": "call weather"}, asked.message, result], model=GPT, tools=[WEATHER]
    )
    assert CANONICAL == done.text
    assert [asked.message, result] == fake.requests[1].body["messages"][1:]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
    ],
)
async def test_a_picture_or_file_is_sent_as_it_is(ours, fake, part):
    """By address or as data; nothing is fetched or changed here."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    done = await ours.chat(messages, model="google/gemini-2.5-flash")
    assert messages == fake.requests[0].body["messages"]
    assert CANONICAL == done.text


class City(BaseModel):
    name: str
    people: int
    districts: list[str]


async def test_an_answer_in_the_shape_of_a_model_is_parsed(ours, fake):
    """The schema goes out strict, the answer comes back as the model."""
    done = await ours.chat(HELLO, model=GPT, response_format=City)
    asked = fake.requests[0].body["response_format"]
    assert ("json_schema", "City", True) == (
        asked["type"],
        asked["json_schema"]["name"],
        asked["json_schema"]["strict"],
    )
    assert City(name="text", people=1, districts=["text"]) == done.parsed


async def test_an_answer_that_does_not_fit_its_model_says_so(ours, fake):
    """With the text, and the record of a call that was paid for."""
    fake.say(GPT, '{"name": "Ulm"}')
    with pytest.raises(OutputInvalid, match="people: Field required") as caught:
        await ours.chat(HELLO, model=GPT, response_format=City)
    assert ('{"name": "Ulm"}', "ok") == (caught.value.text, caught.value.attempts[0].outcome)
    assert caught.value.attempts[0].cost_nano > 0


async def test_json_mode_asks_for_any_object(ours):
    """Without a model the text is the caller's to read."""
    done = await ours.chat(HELLO, model=GPT, response_format={"type": "json_object"})
    assert {"answer": CANONICAL} == orjson.loads(done.text)
    assert done.parsed is None


@pytest.mark.parametrize("way", WAYS)
async def test_reasoning_comes_beside_the_answer(both, way):
    """As text and in details, whole."""
    done = await said(both, way, model=CLAUDE, reasoning={"effort": "high"})
    assert (THOUGHT, CANONICAL) == (done.reasoning, done.text)
    assert [THOUGHT] == [detail["text"] for detail in done.message["reasoning_details"]]
    assert done.usage["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_is_an_answer(both, way):
    """Nothing to retry: the model said no, and why is kept."""
    done = await said(both, way, model="fault/refusal_output")
    assert ("", "content_filter", "I can't help with that.") == (done.text, done.finish_reason, done.refusal)


@pytest.mark.parametrize("way", WAYS)
async def test_sound_and_pictures_are_kept(both, fake, way):
    """Audio in pieces is put together; pictures stand in the message."""
    done = await said(
        both,
        way,
        model="openai/gpt-4o-audio-preview",
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "pcm16"},
    )
    assert (CANONICAL, True) == (done.message["audio"]["transcript"], len(done.message["audio"]["data"]) > 0)
    done = await said(both, way, model="google/gemini-2.5-flash-image", modalities=["text", "image"])
    assert [True] == [picture["image_url"]["url"].startswith("data:image/png") for picture in done.message["images"]]


async def test_events_arrive_one_by_one_and_make_the_completion(ours):
    """Each word as it is written; the finish with its usage."""
    async with ours.stream(HELLO, model=GPT) as events:
        given = [event async for event in events]
    assert CANONICAL == "".join(event.text for event in given)
    assert len(given) > 50
    assert given[-1].usage == events.completion.usage
    assert CANONICAL == events.completion.text


async def test_a_response_header_wish_reaches_the_upstream(ours):
    """Metadata is given only to who asks for it by header."""
    done = await ours.chat(HELLO, model=GPT, headers={"X-OpenRouter-Metadata": "enabled"})
    assert GPT == done.raw["openrouter_metadata"]["requested"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("error_in_200", UpstreamError), ("string_error", UpstreamError), ("choices_empty", EmptyReply), ("error_first", UpstreamError),
        ("error_mid", UpstreamError), ("choice_error", UpstreamError), ("finish_error", UpstreamError), ("empty_stop", EmptyReply),
        ("eof_no_finish", StreamBroken), ("cut_mid", UpstreamError), ("padded_cut:1", UpstreamError), ("html_200", UpstreamError),
        ("reset", UpstreamError), ("401", AuthFailed),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
async def test_no_failure_is_ever_a_success(both, way, fault, kind):
    """Whatever status it wears, in every wire form."""
    with pytest.raises(kind):
        await said(both, way, model=f"fault/{fault}")


@pytest.mark.parametrize(
    "fault",
    [
        "no_done",
        "padded:1",
        "comment_as_data",
        "crlf",
        "multibyte",
        "drip:7",
        "huge_line",
        "no_role",
        "usage_missing",
        "length_empty",
    ],
)
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_only_strange_is_a_success(both, way, fault):
    """An answer that is whole is taken whatever way it is dressed."""
    done = await said(both, way, model=f"fault/{fault}")
    assert done.finish_reason in ("stop", "length")
    assert (done.text == "") == (fault == "length_empty")


@pytest.mark.parametrize("way", ["streamed", "stream"])
async def test_a_malformed_event_is_skipped_counted_and_told(both, way):
    """The answer stands, for its finish came."""
    done = await said(both, way, model="fault/malformed_chunk:3")
    assert CANONICAL == done.text
    assert [1] == [fact.count for fact in done.record.facts if isinstance(fact, EventsSkipped)]
    assert 1 == done.attempt.malformed


# --- other endpoints --------------------------------------------------------------------------------------


async def test_an_older_completion_goes_on_with_a_text(ours, fake):
    """The legacy endpoint."""
    done = await ours.completions("Once upon a time", model=GPT, max_tokens=900)
    assert (CANONICAL, "text_completion", "completions") == (done.text, done.raw["object"], fake.requests[0].path)
    assert "Once upon a time" == fake.requests[0].body["prompt"]


async def test_embeddings_are_vectors_with_their_cost(ours, fake):
    """One for each text."""
    done = await ours.embeddings(["one", "two"], model="openai/text-embedding-3-small", dimensions=8)
    assert [8, 8] == [len(row["embedding"]) for row in done.raw["data"]]
    assert (["one", "two"], "embeddings") == (fake.requests[0].body["input"], fake.requests[0].path)
    await fake.settled()
    assert fake.true_cost() == int(done.cost * Decimal(10**9)) > 0


async def test_models_are_listed_whatever_they_give(ours, fake):
    """All modalities, with prices."""
    models = {model.id: model for model in await ours.models()}
    assert {GPT, CLAUDE, "openai/text-embedding-3-small"} <= models.keys()
    assert "models?output_modalities=all&limit=1000" == fake.lookups[-1].path


async def test_endpoints_tell_who_serves_a_model(ours):
    """Each with its provider."""
    endpoints = await ours.endpoints(GPT)
    assert {"openai", "azure"} <= {endpoint.tag.partition("/")[0] for endpoint in endpoints}


async def test_a_generation_is_known_some_time_after_its_answer():
    """Until then it is not found; then it tells the cost."""
    async with FakeOpenRouter(rules=Rules(generation_misses=1)) as fake, router(fake.url) as ours:
        done = await ours.chat(HELLO, model=GPT)
        await fake.settled()
        with pytest.raises(RouterError) as caught:
            await ours.generation(done.id)
        assert 404 == caught.value.status
        found = await ours.generation(done.id)
        assert (done.id, GPT, float(done.cost)) == (found["id"], found["model"], found["total_cost"])


@pytest.mark.parametrize("paths", [("key",), ("auth/key",), ("key", "auth/key")])
async def test_the_key_tells_its_limits_under_its_new_path_or_its_old(paths):
    """The old alias is asked only where the new path is not there."""
    async with FakeOpenRouter(rules=Rules(key_paths=paths, credits="5")) as fake, router(fake.url) as ours:
        assert (5.0, 5.0) == ((key := await ours.key())["limit"], key["limit_remaining"])
        assert ("auth/key" if "key" not in paths else "key") == fake.lookups[-1].path


async def test_credits_are_what_was_bought_and_used():
    """In USD."""
    async with FakeOpenRouter(rules=Rules(credits="5")) as fake, router(fake.url) as ours:
        await ours.chat(HELLO, model=GPT, max_tokens=100)
        await fake.settled()
        credit = await ours.credits()
        assert (5.0, True) == (credit["total_credits"], 0 < credit["total_usage"] < 5)


async def test_a_wrong_key_is_told_by_every_endpoint():
    """Whatever was asked."""
    async with FakeOpenRouter(keys=["sk-or-v1-another"]) as fake, router(fake.url) as ours:
        for ask in (
            ours.chat(HELLO, model=GPT),
            ours.embeddings("a", model="openai/text-embedding-3-small"),
            ours.key(),
            ours.credits(),
        ):
            with pytest.raises(AuthFailed):
                await ask


async def test_an_unknown_model_is_told(ours):
    """Not found, and not asked again."""
    with pytest.raises((ModelNotFound, InvalidRequest)):
        await ours.chat(HELLO, model="nobody/nothing")


# --- old spellings --------------------------------------------------------------------------------------------

OLD = [
    ({"provider": {"quantization": "unknown"}}, {}, {"provider": {"quantizations": ["unknown"]}}, "provider.quantization"),
    ({"provider": {"require": ["openai"]}}, {}, {"provider": {"only": ["openai"]}}, "provider.require"),
    ({"route": "fallback"}, {}, {}, "route"),
    ({"transforms": ["middle-out"]}, {}, {"plugins": [{"id": "context-compression"}]}, "transforms: middle-out"),
    ({}, {"X-Title": "App"}, {}, "X-Title"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "today", "old"), OLD)
async def test_an_old_spelling_is_translated_and_warned_of_once(ours, fake, body, headers, today, old):
    """Three calls, one warning, the upstream sees today's words, and each record names what was changed."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for _ in range(3):
            done = await ours.chat(HELLO, model=GPT, headers=headers, **body)
    assert [old] == [str(one.message).split("'")[1] for one in heard if one.category is OldSpelling]
    assert [old] == [fact.old for fact in done.record.facts if isinstance(fact, SpellingTranslated)]
    assert {"model": GPT, "messages": HELLO, **today} == fake.requests[-1].body
    if headers:
        assert ("App", True) == (
            fake.requests[-1].headers["x-openrouter-title"],
            "x-title" not in fake.requests[-1].headers,
        )


async def test_auto_is_asked_for_under_its_name(ours, fake):
    """`auto` is a router of OpenRouter."""
    fake.add_model(fake._desk.models[GPT].__class__("openrouter/auto"))
    with pytest.warns(OldSpelling, match="openrouter/auto"):
        await ours.chat(HELLO, model="auto")
    assert "openrouter/auto" == fake.requests[0].body["model"]


async def test_a_long_list_of_models_is_a_chain_of_ours_or_an_error_that_says_so(fake):
    """Three pass to the server; more need a fallback, which takes any number."""
    many = [GPT, CLAUDE, "google/gemini-2.5-flash", "google/gemini-2.5-flash-image"]
    async with router(fake.url) as ours:
        await ours.chat(HELLO, models=many[:3])
        assert (GPT, many[:3]) == (fake.requests[0].body["model"], fake.requests[0].body["models"])
        with pytest.raises(InvalidRequest, match="4 models are named"):
            await ours.chat(HELLO, models=many)
    fake.script(GPT, ["503"])
    async with router(fake.url, {"fallback": {"models": many, "open": True}}) as ours:
        done = await ours.chat(HELLO, models=many)
    assert CLAUDE == done.model
    assert ["models" in seen.body for seen in fake.requests[1:]] == [False, False]


async def test_an_openai_upstream_serves_the_same_router(fake):
    """No field of OpenRouter goes there, and usage is asked for in streams."""
    async with router(fake.url, dialect="openai") as ours:
        async with ours.stream(HELLO, model=GPT, provider={"order": ["openai"]}, reasoning={"effort": "low"}) as events:
            async for _ in events:
                pass
    assert {
        "model": GPT, "messages": HELLO, "stream": True, "reasoning_effort": "low", "stream_options": {"include_usage": True},
    } == fake.requests[0].body  # fmt: skip
    assert CANONICAL == events.completion.text
