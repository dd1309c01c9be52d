"""The real OpenAI SDK over a router, with an event loop and without."""

from __future__ import annotations

import asyncio
import gc

import httpx2
import openai as sdk
import pytest
from pydantic import BaseModel

from orrouter import sync
from orrouter.adapters.openai import async_openai, http_client, openai, router_error, sync_http_client
from orrouter.core import errors, tags
from orrouter.core.errors import RouterError, ServerError, StreamBroken
from orrouter.testkit.script import EOF, SENT, Finish
from orrouter.testkit.speech import CANONICAL

HELLO = [{"role": "user", "content": "Hello"}]
GPT, CLAUDE = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    age: int


def said(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def client_of(router, library):
    """An AsyncOpenAI on this httpx; both are taken by the installed SDK."""
    return sdk.AsyncOpenAI(api_key="k", base_url="http://any.invalid/v1", http_client=http_client(router, library))


async def test_a_chat_is_a_chat(over, library):
    """The SDK's own type, with the words, the usage and the provider."""
    async with over() as router:
        done = await client_of(router, library).chat.completions.create(model=GPT, messages=HELLO)
    assert (CANONICAL, "OpenAI", 62) == (done.choices[0].message.content, done.provider, done.usage.total_tokens)


async def test_a_stream_is_a_stream(over, library):
    """The words come in pieces and end cleanly."""
    async with over() as router:
        stream = await client_of(router, library).chat.completions.create(model=GPT, messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert (CANONICAL, True) == (said(chunks), len(chunks) > 50)


async def test_a_stream_with_usage_ends_with_it(over, library):
    """The last chunk counts the tokens."""
    async with over() as router:
        stream = await client_of(router, library).chat.completions.create(
            model=GPT, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert 62 == chunks[-1].usage.total_tokens


async def test_a_fallback_shows_in_the_model(over, fake, library):
    """The model that answered stands in the answer, and both tries in its headers."""
    fake.always(GPT, "503")
    async with over(GPT, CLAUDE) as router:
        raw = await client_of(router, library).chat.completions.with_raw_response.create(model=GPT, messages=HELLO)
    assert (CLAUDE, "2") == (raw.parse().model, raw.headers["x-orrouter-attempts"])


async def test_a_fallback_of_a_stream_shows_in_every_chunk(over, fake, library):
    """A stream that fails before its first word is another model's from the start."""
    fake.always(GPT, "503")
    async with over(GPT, CLAUDE) as router:
        stream = await client_of(router, library).chat.completions.create(model=GPT, messages=HELLO, stream=True)
        assert {CLAUDE} == {chunk.model async for chunk in stream}


async def test_a_broken_stream_raises(over, fake, library):
    """What was said is given, then APIError: never a clean end. The router's error is behind it."""
    fake.always(GPT, "cut_mid:3")
    chunks = []
    async with over() as router:
        stream = await client_of(router, library).chat.completions.create(model=GPT, messages=HELLO, stream=True)
        with pytest.raises(sdk.APIError, match="stream_broken") as caught:
            async for chunk in stream:
                chunks.append(chunk)
    cause = router_error(caught.value)
    assert isinstance(cause, StreamBroken)
    assert ("A river does", "A river does", 1) == (said(chunks), cause.partial, len(cause.attempts))


async def test_a_stream_left_early_is_let_go(scripted, library):
    """Leaving the stream's `async with` closes the reply."""
    router, far = scripted("one two three")
    stream = await client_of(router, library).chat.completions.create(model="a/b", messages=HELLO, stream=True)
    async with stream:
        async for _ in stream:
            break
    assert 0 == far.open


async def test_a_stream_that_is_cancelled_is_let_go(scripted, library):
    """A reader who is cancelled while it waits leaves nothing open."""
    router, far = scripted([[SENT, "one ", 3600.0, "two", Finish()]])
    stream = await client_of(router, library).chat.completions.create(model="a/b", messages=HELLO, stream=True)
    begun = asyncio.Event()

    async def read():
        async for _ in stream:
            begun.set()

    reader = asyncio.create_task(read())
    await begun.wait()
    reader.cancel()
    await asyncio.wait([reader])
    assert (True, 0) == (reader.cancelled(), far.open)


async def test_a_call_that_is_cancelled_is_let_go(scripted, library):
    """Cancelled before the first word."""
    router, far = scripted([[SENT, 3600.0, "late", Finish()]])
    task = asyncio.create_task(client_of(router, library).chat.completions.create(model="a/b", messages=HELLO))
    while not far.tries:  # noqa: ASYNC110  # a script has no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (True, 0) == (task.cancelled(), far.open)


async def test_a_forgotten_stream_is_let_go(scripted):
    """Dropped unread, it is closed by the garbage collector."""
    router, far = scripted("one two three")
    stream = await async_openai(router).chat.completions.create(model="a/b", messages=HELLO, stream=True)
    del stream
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 == far.open


CLASSES = [
    (sdk.BadRequestError, errors.InvalidRequest("no")),
    (sdk.BadRequestError, errors.ContextOverflow("no")),
    (sdk.BadRequestError, errors.MissingTag("no")),
    (sdk.BadRequestError, errors.Unpriced("no")),
    (sdk.AuthenticationError, errors.AuthFailed("no")),
    (sdk.APIStatusError, errors.CreditsExhausted("no")),
    (sdk.APIStatusError, errors.KeyLimitReached("no")),
    (sdk.APIStatusError, errors.BudgetExceeded("no")),
    (sdk.APIStatusError, errors.CostCapExceeded("no")),
    (sdk.APIStatusError, errors.CapReached("no")),
    (sdk.PermissionDeniedError, errors.Moderated("no")),
    (sdk.PermissionDeniedError, errors.ModelNotAllowed("no")),
    (sdk.NotFoundError, errors.ModelNotFound("no")),
    (sdk.NotFoundError, errors.NoRoute("no")),
    (sdk.RateLimitError, errors.RateLimited("no")),
    (sdk.RateLimitError, errors.LimitReached("no")),
    (sdk.InternalServerError, errors.Overloaded("no")),
    (sdk.InternalServerError, errors.UpstreamTimeout("no")),
    (sdk.InternalServerError, errors.ConnectionFailed("no")),
    (sdk.InternalServerError, errors.ServerError("no")),
    (sdk.InternalServerError, errors.EmptyReply("no")),
    (sdk.InternalServerError, errors.StreamBroken("no")),
    (sdk.InternalServerError, errors.CircuitOpen("no")),
    (sdk.InternalServerError, errors.CoolingDown("no")),
    (sdk.InternalServerError, errors.LedgerUnavailable("no")),
    (sdk.InternalServerError, errors.OutputInvalid("no")),
    (sdk.InternalServerError, errors.DeadlineExceeded("no")),
    (sdk.InternalServerError, errors.PolicyError("no")),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "error"), CLASSES, ids=lambda value: getattr(value, "code", ""))
async def test_every_error_is_one_of_the_sdks_classes(scripted, kind, error, stream):
    """The exact class, the status, our word for it, and the error itself behind it."""
    router, _ = scripted(error)
    with pytest.raises(kind) as caught:
        await async_openai(router).chat.completions.create(model="a/b", messages=HELLO, stream=stream)
    found = caught.value
    code = {"context_overflow": "context_length_exceeded"}.get(error.code, error.code)
    assert (kind, error.http_status, code) == (type(found), found.status_code, found.code)
    assert type(error) is type(router_error(found))
    assert router_error(found) is found.response.extensions["orrouter_error"]


def test_the_table_of_classes_is_whole():
    """Whatever is added to the vocabulary has to be added there."""
    kinds = {kind for kind in errors.descendants() if kind.__module__ == errors.__name__}
    branches = {errors.RouterError, errors.Refused, errors.UpstreamError, errors.Transient, errors.Rejected}
    assert kinds - branches == {type(error) for _, error in CLASSES}


async def test_the_sdk_never_asks_again(scripted, library):
    """Also a client with the SDK's usual two retries asks the router once: the router retries, nobody else."""
    router, far = scripted(ServerError("it broke"))
    with pytest.raises(sdk.InternalServerError):
        await client_of(router, library).chat.completions.create(model="a/b", messages=HELLO)
    assert 1 == len(far.tries)


async def test_an_error_bears_the_request_id(scripted):
    """The caller's own id comes back, as with OpenAI."""
    router, _ = scripted(ServerError("it broke"))
    with pytest.raises(sdk.InternalServerError) as caught:
        await async_openai(router).chat.completions.create(
            model="a/b", messages=HELLO, extra_headers={"X-Request-Id": "mine"}
        )
    assert "mine" == caught.value.request_id


async def test_tools_are_called(over):
    """Tool calls come with their arguments, whole and in pieces."""
    client = async_openai(router := over())
    asked = {"model": GPT, "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    done = await client.chat.completions.create(**asked)
    stream = await client.chat.completions.create(**asked, stream=True)
    parts = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    await router.aclose()
    whole = done.choices[0].message.tool_calls[0].function
    assert ("weather", whole.arguments) == (whole.name, "".join(part.function.arguments or "" for part in parts))


async def test_an_answer_is_parsed(over, fake):
    """The SDK's own structured outputs."""
    fake.say(GPT, '{"name": "Ada", "age": 36}')
    async with over() as router:
        client = async_openai(router)
        done = await client.chat.completions.parse(model=GPT, messages=HELLO, response_format=Person)
        beta = await client.beta.chat.completions.parse(model=GPT, messages=HELLO, response_format=Person)
    assert [Person(name="Ada", age=36)] * 2 == [done.choices[0].message.parsed, beta.choices[0].message.parsed]


async def test_the_sdks_stream_helper_folds(over):
    """`chat.completions.stream` puts the pieces together."""
    async with over() as router, async_openai(router).chat.completions.stream(model=GPT, messages=HELLO) as stream:
        done = await stream.get_final_completion()
    assert CANONICAL == done.choices[0].message.content


async def test_embeddings_have_their_vectors(over):
    """One for each text."""
    async with over() as router:
        done = await async_openai(router).embeddings.create(
            model="openai/text-embedding-3-small", input=["one", "two"], dimensions=3
        )
    assert [3, 3] == [len(row.embedding) for row in done.data]


async def test_legacy_completions_go_on_with_a_text(over):
    """Whole and streamed say the same."""
    async with over() as router:
        client = async_openai(router)
        done = await client.completions.create(model=GPT, prompt="Hi")
        stream = await client.completions.create(model=GPT, prompt="Hi", stream=True)
        pieces = [chunk.choices[0].text async for chunk in stream]
    assert (CANONICAL, CANONICAL) == (done.choices[0].text, "".join(pieces))
    assert len(pieces) > 20  # word by word, and not the whole at the end


async def test_models_are_listed_and_found(over):
    """The upstream's list, in the SDK's type."""
    async with over() as router:
        client = async_openai(router)
        names = {model.id async for model in client.models.list()}
        found = await client.models.retrieve(GPT)
    assert ({GPT, CLAUDE} & names, GPT, "openai") == ({GPT, CLAUDE}, found.id, found.owned_by)


async def test_a_model_that_is_not_listed_is_not_found(over):
    """404, as with OpenAI."""
    async with over() as router:
        with pytest.raises(sdk.NotFoundError, match="lists no model no/body"):
            await async_openai(router).models.retrieve("no/body")


async def test_what_is_not_served_says_what_is(scripted):
    """A 404 with the list of endpoints."""
    router, _ = scripted("hi")
    with pytest.raises(sdk.NotFoundError, match="POST /v1/responses is not served by orrouter; it serves POST chat"):
        await async_openai(router).responses.create(model="a/b", input="Hello")


async def test_the_context_tags_reach_the_call(scripted):
    """`with tags(...)` around the SDK's call."""
    router, far = scripted("hi")
    with tags.tags(team="search"):
        await async_openai(router).chat.completions.create(model="a/b", messages=HELLO)
    assert {"team": "search"} == far.tries[0].call.tags


async def test_headers_of_the_client_reach_the_call(scripted):
    """`default_headers` tag every call of a client, and the caller's own X-… headers travel."""
    router, far = scripted("hi")
    client = async_openai(router, default_headers={"X-Orrouter-Tag-Team": "search", "X-Session-Id": "s"})
    await client.chat.completions.create(model="a/b", messages=HELLO)
    call = far.tries[0].call
    assert ({"team": "search"}, {"x-session-id": "s"}) == (call.tags, call.headers)


@pytest.mark.parametrize("timeout", [None, sdk.NOT_GIVEN])
async def test_the_sdks_own_timeout_is_no_deadline(scripted, library, timeout):
    """Its ten minutes neither loosen nor shorten a policy: the call ends when the policy says."""
    router, far = scripted("hi")
    await client_of(router, library).chat.completions.create(model="a/b", messages=HELLO, timeout=timeout)
    call = far.tries[0].call
    assert call.trail.began + 60 == call.deadline


@pytest.mark.parametrize(("seconds", "timeout"), [(7, 7.0), (7, httpx2.Timeout(9, read=7)), (60, 600.0)])
async def test_a_timeout_of_the_user_only_tightens(scripted, library, seconds, timeout):
    """The nearer of what the user and what the policy says."""
    router, far = scripted("hi")
    await client_of(router, library).chat.completions.create(model="a/b", messages=HELLO, timeout=timeout)
    call = far.tries[0].call
    assert call.trail.began + seconds == call.deadline


async def test_closing_the_client_leaves_the_router(scripted):
    """The router belongs to whoever built it."""
    router, _ = scripted("hi")
    async with async_openai(router):
        pass
    assert "hi" == (await router.chat(HELLO, model="a/b")).text


# --- without an event loop ------------------------------------------------------------------------------------


def blocking_client(router, library):
    return sdk.OpenAI(api_key="k", base_url="http://any.invalid/v1", http_client=sync_http_client(router, library))


def test_a_blocking_chat_is_a_chat(blocking, library):
    """The same face without an event loop."""
    done = blocking_client(blocking(), library).chat.completions.create(model=GPT, messages=HELLO)
    assert CANONICAL == done.choices[0].message.content


def test_a_blocking_stream_is_a_stream(blocking, library):
    """The words come in pieces."""
    stream = blocking_client(blocking(), library).chat.completions.create(model=GPT, messages=HELLO, stream=True)
    assert CANONICAL == said(stream)


def test_a_blocking_stream_that_breaks_raises(blocking, fake, library):
    """APIError behind the words, and the router's error behind that."""
    fake.always(GPT, "cut_mid:3")
    stream = blocking_client(blocking(), library).chat.completions.create(model=GPT, messages=HELLO, stream=True)
    with pytest.raises(sdk.APIError, match="stream_broken") as caught:
        list(stream)
    assert isinstance(router_error(caught.value), StreamBroken)


def test_a_blocking_stream_left_early_is_let_go(scripted, library):
    """Nothing is open when its `with` is left."""
    inner, far = scripted("one two three")
    with sync.Router(inner) as router:
        with blocking_client(router, library).chat.completions.create(
            model="a/b", messages=HELLO, stream=True
        ) as stream:
            next(iter(stream))
        assert 0 == far.open


def test_a_blocking_stream_that_ends_early_is_let_go(scripted):
    """A break behind the last word leaves nothing open either."""
    inner, far = scripted([[SENT, "one", EOF]])
    with sync.Router(inner) as router:
        with pytest.raises(sdk.APIError):
            list(openai(router).chat.completions.create(model="a/b", messages=HELLO, stream=True))
        assert 0 == far.open


def test_a_blocking_error_is_the_sdks(scripted, library):
    """Its class, and no second try by the SDK."""
    inner, far = scripted(ServerError("it broke"))
    with sync.Router(inner) as router, pytest.raises(sdk.InternalServerError):
        blocking_client(router, library).chat.completions.create(model="a/b", messages=HELLO)
    assert 1 == len(far.tries)


def test_blocking_parse_embeddings_and_models(blocking, fake):
    """The rest of the face."""
    fake.say(GPT, '{"name": "Ada", "age": 36}')
    client = openai(blocking())
    done = client.chat.completions.parse(model=GPT, messages=HELLO, response_format=Person)
    vectors = client.embeddings.create(model="openai/text-embedding-3-small", input="one", dimensions=3).data
    names = {model.id for model in client.models.list()}
    assert (Person(name="Ada", age=36), 3, True) == (
        done.choices[0].message.parsed,
        len(vectors[0].embedding),
        GPT in names,
    )


async def test_a_blocking_client_in_an_event_loop_says_so(scripted):
    """It would stop the loop that it is called from."""
    with pytest.raises(RouterError, match=r"use orrouter\.Router"):
        openai(sync.Router(scripted("hi")[0])).chat.completions.create(model="a/b", messages=HELLO)


def test_the_clients_are_of_the_library_that_the_sdk_runs_on(scripted):
    """Whichever the installed SDK derives its own default clients from."""
    inner, _ = scripted("hi")
    clients = http_client(inner), sync_http_client(sync.Router(inner))
    assert (True, True) == (
        issubclass(sdk.DefaultAsyncHttpxClient, type(clients[0])),
        issubclass(sdk.DefaultHttpxClient, type(clients[1])),
    )


def test_each_kind_of_router_has_its_own_door(scripted):
    """The wrong kind is a TypeError that names the right one."""
    inner, _ = scripted("hi")
    with pytest.raises(TypeError, match="use async_openai"):
        openai(inner)
    with pytest.raises(TypeError, match="use openai"):
        async_openai(sync.Router(inner))


def test_no_other_error_has_a_router_behind_it():
    """None for what no router raised."""
    assert router_error(ValueError("no")) is None
