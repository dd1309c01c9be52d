"""FakeOpenRouter on a real socket: its life, its endpoints and its log."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import aiohttp
import pytest

from orrouter.core.money import nano
from orrouter.testkit.desk import Rules
from orrouter.testkit.server import FakeOpenRouter
from orrouter.testkit.speech import CANONICAL
from orrouter.testkit.table import FakeModel, FakeProvider

HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"Authorization": "Bearer sk-or-v1-0123456789abcdef"}


async def test_a_chat_is_answered_with_the_canonical_text(client):
    """A plain chat answers 200 with the sixty words."""
    got = await client.chat()
    assert (200, CANONICAL) == (got.status, got.json["choices"][0]["message"]["content"])


async def test_an_answer_names_provider_and_generation(client):
    """The provider stands in the body, the generation in body and header."""
    got = await client.chat()
    assert ("OpenAI", got.headers["X-Generation-Id"]) == (got.json["provider"], got.json["id"])


async def test_the_reported_cost_is_the_true_cost(fake, client):
    """usage.cost as nano-USD is what the log says was charged: 2 prompt tokens and 60 words at gpt-4o's prices."""
    got = await client.chat()
    assert (2 * 2_500 + 60 * 10_000, fake.true_cost()) == (
        nano(got.json["usage"]["cost"]),
        fake.requests[0].true_cost_nano,
    )


async def test_a_stream_opens_with_a_comment_and_closes_with_done(client):
    """The keep-alive comment comes first, [DONE] last."""
    got = await client.chat(stream=True)
    assert (": OPENROUTER PROCESSING", "[DONE]") == (got.text.splitlines()[0], got.events[-1])


async def test_a_stream_finishes_twice_and_reports_usage_once(client):
    """finish_reason stands in the last two chunks; only the last has usage."""
    events = (await client.chat(stream=True)).events[:-1]
    ended = [event for event in events if event["choices"][0]["finish_reason"] == "stop"]
    assert [False, True] == ["usage" in event for event in ended]


async def test_a_stream_says_the_same_as_a_chat(client):
    """The deltas joined are the answer."""
    assert CANONICAL == (await client.chat(stream=True)).said


async def test_every_chunk_names_the_provider(client):
    """`provider` is on each chunk."""
    events = (await client.chat(stream=True)).events[:-1]
    assert {"OpenAI"} == {event["provider"] for event in events}


async def test_a_legacy_completion_answers_with_text(client):
    """POST /completions takes a prompt and answers choices[].text."""
    got = await client.post("completions", {"model": "openai/gpt-4o", "prompt": "Hi"})
    assert ("text_completion", CANONICAL) == (got.json["object"], got.json["choices"][0]["text"])


async def test_a_legacy_completion_streams_text(client):
    """The streamed form says the same in pieces."""
    got = await client.post("completions", {"model": "openai/gpt-4o", "prompt": "Hi", "stream": True})
    assert CANONICAL == "".join(event["choices"][0]["text"] for event in got.events[:-1])


async def test_embeddings_have_one_vector_a_text(client):
    """A list of two texts gives two vectors of the wished length."""
    body = {"model": "openai/text-embedding-3-small", "input": ["one", "two"], "dimensions": 3}
    got = await client.post("embeddings", body)
    assert [3, 3] == [len(one["embedding"]) for one in got.json["data"]]


async def test_models_are_counted_and_paged(client):
    """The query fields offset and limit cut a page, total_count counts all, links name the next page."""
    whole, page = (await client.get("models")).json, (await client.get("models?offset=1&limit=2")).json
    assert (whole["data"][1:3], whole["total_count"]) == (page["data"], page["total_count"])
    assert "offset=3" in page["links"]["next"]


async def test_models_show_text_models_unless_all_are_asked_for(client):
    """An embedding model is listed only with output_modalities=all."""
    plain, every = (await client.get("models")).json, (await client.get("models?output_modalities=all")).json
    shown = ["openai/text-embedding-3-small" in {one["id"] for one in page["data"]} for page in (plain, every)]
    assert [False, True] == shown


async def test_a_model_lists_its_endpoints(client):
    """The slugs for provider.order stand in `tag`."""
    got = await client.get("models/openai/gpt-4o/endpoints")
    assert ["openai", "azure"] == [one["tag"] for one in got.json["data"]["endpoints"]]


async def test_a_wrong_path_is_not_found(client):
    """Any other path is OpenRouter's plain 404."""
    assert {"error": {"message": "Not Found", "code": 404}} == (await client.get("nope")).json


async def test_a_generation_tells_what_was_charged(fake, client):
    """GET /generation shows the true cost of an answer."""
    got = await client.chat()
    data = (await client.get(f"generation?id={got.json['id']}")).json["data"]
    assert (fake.true_cost(), "OpenAI", False) == (nano(data["total_cost"]), data["provider_name"], data["cancelled"])


async def test_a_generation_is_indexed_late():
    """With two misses the third look-up finds it."""
    async with FakeOpenRouter(rules=Rules(generation_misses=2)) as fake, aiohttp.ClientSession(headers=KEY) as session:
        body = {"model": "openai/gpt-4o", "messages": HELLO}
        async with session.post(f"{fake.url}/chat/completions", json=body) as reply:
            generation = (await reply.json())["id"]
        statuses = []
        for _ in range(3):
            async with session.get(f"{fake.url}/generation", params={"id": generation}) as reply:
                statuses.append(reply.status)
        assert [404, 404, 200] == statuses


async def test_key_and_credits_tell_what_was_used(fake, client):
    """Both count the true cost."""
    await client.chat()
    used = [
        nano((await client.get(path)).json["data"][name])
        for path, name in (("key", "usage"), ("credits", "total_usage"))
    ]
    assert [fake.true_cost()] * 2 == used


async def test_the_old_path_of_the_key_exists_only_on_wish(client):
    """GET /auth/key is a 404 unless the rules name it."""
    async with (
        FakeOpenRouter(rules=Rules(key_paths=("auth/key",))) as old,
        aiohttp.ClientSession(headers=KEY) as session,
    ):
        async with session.get(f"{old.url}/auth/key") as reply:
            assert (404, 200) == ((await client.get("auth/key")).status, reply.status)


async def test_no_key_is_a_401(client):
    """Without a bearer OpenRouter speaks of cookies."""
    got = await client.post("chat/completions", {"model": "openai/gpt-4o", "messages": HELLO}, Authorization="")
    assert (401, "No cookie auth credentials found") == (got.status, got.json["error"]["message"])


async def test_an_unknown_key_is_a_401():
    """With `keys` given, another one is not found."""
    async with FakeOpenRouter(keys=["sk-good"]) as fake, aiohttp.ClientSession(headers=KEY) as session:
        async with session.get(f"{fake.url}/key") as reply:
            assert (401, "User not found.") == (reply.status, (await reply.json())["error"]["message"])


async def test_the_log_keeps_each_request(fake, client):
    """Model, body, stream, provider, tokens and the end of a request are written down."""
    await client.chat(stream=True, temperature=0.5)
    seen = fake.requests[0]
    assert ("openai/gpt-4o", True, 0.5, "OpenAI", 2, 60, "done") == (
        seen.model,
        seen.stream,
        seen.body["temperature"],
        seen.provider,
        seen.prompt_tokens,
        seen.completion_tokens,
        seen.finished,
    )


async def test_the_log_never_holds_a_key(fake, client):
    """Of the key only the last four characters are kept."""
    await client.chat()
    assert "Bearer ***cdef" == fake.requests[0].headers["authorization"]


async def test_lookups_are_logged_apart(fake, client):
    """A GET is no attempt: it stands in lookups."""
    await client.get("models")
    assert ((), ["models"]) == (fake.requests, [one.path for one in fake.lookups])


async def test_requests_of_one_model(fake, client):
    """requests_for filters by the model asked first."""
    await client.chat("openai/gpt-4o")
    await client.chat("openai/gpt-4o-mini")
    assert [1] == [one.number for one in fake.requests_for("openai/gpt-4o-mini")]


async def test_a_model_says_what_it_was_told(fake, client):
    """say() replaces the canonical text for one model."""
    fake.say("openai/gpt-4o", "Quite so.")
    got = await client.chat()
    assert ("Quite so.", 2) == (got.json["choices"][0]["message"]["content"], got.json["usage"]["completion_tokens"])


async def test_a_function_may_answer(fake, client):
    """`answer` is called with the request."""
    fake.answer = lambda ask: f"You said {ask.last_text}"
    assert "You said Hello" == (await client.chat()).json["choices"][0]["message"]["content"]


async def test_a_model_can_be_added(fake, client):
    """An added model is served at its own prices."""
    fake.add_model(FakeModel("acme/one", (FakeProvider("Acme", "acme", "$1/M", "$1/M"),)))
    got = await client.chat("acme/one")
    assert (62_000, "Acme") == (nano(got.json["usage"]["cost"]), got.json["provider"])


async def test_metadata_is_sent_on_wish(client):
    """X-OpenRouter-Metadata: enabled adds the routing to the answer."""
    body = {"model": "openai/gpt-4o", "messages": HELLO}
    got = await client.post("chat/completions", body, **{"X-OpenRouter-Metadata": "enabled"})
    assert 2 == got.json["openrouter_metadata"]["endpoints"]["total"]


async def test_models_are_tried_in_order(fake, client):
    """An error of the first moves on to the second, which answers and is named."""
    fake.always("openai/gpt-4o", "503")
    got = await client.chat(models=["openai/gpt-4o-mini"])
    assert ("openai/gpt-4o-mini", "openai/gpt-4o-mini") == (got.json["model"], fake.requests[0].served)


async def test_the_last_models_error_is_returned(fake, client):
    """When all models fail, the last failure is the reply."""
    fake.always("openai/gpt-4o", "503")
    fake.always("openai/gpt-4o-mini", "429")
    assert 429 == (await client.chat(models=["openai/gpt-4o-mini"])).status


async def test_an_empty_account_is_a_402():
    """What was charged counts against the credits."""
    async with FakeOpenRouter(rules=Rules(credits="0.000001")) as fake, aiohttp.ClientSession(headers=KEY) as session:
        body = {"model": "openai/gpt-4o-mini", "messages": HELLO, "max_tokens": 100}
        async with session.post(f"{fake.url}/chat/completions", json=body) as reply:
            message = (await reply.json())["error"]["message"]
        assert "requested up to 100 tokens, but can only afford 1." in message


async def test_a_stopped_server_refuses_and_comes_back_on_its_port(fake, client):
    """After stop() the connection is refused; after start() the same URL answers."""
    url = fake.url
    await fake.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.chat()
    await fake.start()
    assert (url, 200) == (fake.url, (await client.chat()).status)


@pytest.mark.parametrize("fault", ["silent", "comments_forever", "stall:2", "slow_first:3600", "slow_headers:3600"])
async def test_closing_leaves_no_task(fault):
    """A server that stops while a reply hangs cuts it and leaves nothing running."""
    before = len(asyncio.all_tasks())
    async with aiohttp.ClientSession(headers=KEY) as session:
        async with FakeOpenRouter() as fake:
            body = {"model": f"fault/{fault}", "messages": HELLO, "stream": True}
            asking = asyncio.create_task(_read(session, fake.url, body))
            await fake.arrived()
        with pytest.raises(aiohttp.ClientError):
            await asking
    assert (before, "cut") == (len(asyncio.all_tasks()), fake.requests[0].finished)


async def _read(session: aiohttp.ClientSession, url: str, body: object) -> bytes:
    async with session.post(f"{url}/chat/completions", json=body) as reply:
        return await reply.read()


async def test_a_client_that_leaves_is_seen(fake, client):
    """A stream left in the middle is charged for what a cancellable provider had produced."""
    asking = {"model": "fault/stall:3", "messages": HELLO, "stream": True}
    async with client.session.post(f"{fake.url}/chat/completions", json=asking) as reply:
        async for line in reply.content:
            if b"river" in line:
                break
    await fake.settled()
    assert ("client_gone", 2_000 + 3 * 2_000) == (fake.requests[0].finished, fake.requests[0].true_cost_nano)


async def test_a_provider_that_cannot_be_cancelled_charges_in_full(fake, client):
    """Of a stream cut after three words Groq charges all sixty."""
    fake.always("meta-llama/llama-3.3-70b-instruct", "cut_mid:3")
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.chat("meta-llama/llama-3.3-70b-instruct", stream=True, provider={"only": ["groq"]})
    await fake.settled()
    assert 2 * 590 + 60 * 790 == fake.true_cost()


async def test_the_address_needs_a_start():
    """An unstarted fake says how it is started."""
    with pytest.raises(RuntimeError, match="async with"):
        _ = FakeOpenRouter().url


async def test_a_loop_of_its_own_is_needed_to_pause(fake):
    """pause() in the loop's own thread would wait for itself, so it refuses."""
    with pytest.raises(RuntimeError, match=r"await fake\.stop"):
        fake.pause()


def test_a_thread_serves_code_without_a_loop():
    """`with FakeOpenRouter.in_thread()` answers a blocking client."""
    with FakeOpenRouter.in_thread() as fake:
        data = json.dumps({"model": "openai/gpt-4o", "messages": HELLO}).encode()
        request = urllib.request.Request(f"{fake.url}/chat/completions", data, KEY)
        with urllib.request.urlopen(request, timeout=5) as reply:
            answer = json.load(reply)
        assert (CANONICAL, 1) == (answer["choices"][0]["message"]["content"], len(fake.requests))


def test_a_thread_can_pause_and_resume():
    """pause() closes the port, resume() opens the same one."""
    with FakeOpenRouter.in_thread() as fake:
        fake.pause()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{fake.url}/models", timeout=5)
        fake.resume()
        with urllib.request.urlopen(f"{fake.url}/models", timeout=5) as reply:
            assert 200 == reply.status


async def test_a_fake_in_a_thread_can_be_stopped_from_another_loop(client):
    """`await fake.stop()` works from a loop that is not the server's."""
    with FakeOpenRouter.in_thread() as fake:
        await fake.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.session.get(f"{fake.url}/models")
