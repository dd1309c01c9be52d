"""LangChain's ChatOpenAI over a router."""

from __future__ import annotations

import openai as sdk
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from orrouter import sync
from orrouter.adapters.openai import http_client, router_error, sync_http_client
from orrouter.core.errors import ContextOverflow, StreamBroken
from orrouter.testkit.speech import CANONICAL

GPT, CLAUDE = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
def chat(over, blocking):
    """A ChatOpenAI with both doors, each to a router of its own over the same fake."""

    def build(*models, **options):
        return ChatOpenAI(
            model=GPT,
            api_key="unused",
            http_async_client=http_client(over(*models)),
            http_client=sync_http_client(blocking(*models)),
            **options,
        )

    return build


def test_invoke(chat):
    """A message with its words and usage."""
    message = chat().invoke("Hello")
    assert (CANONICAL, 62) == (message.content, message.usage_metadata["total_tokens"])


def test_stream(chat):
    """Pieces that add up."""
    assert CANONICAL == "".join(piece.text for piece in chat().stream("Hello"))


@pytest.fixture
async def achat(over):
    """A ChatOpenAI with the asynchronous door, and its router closed in the test's loop."""
    routers = []

    def build(*models, **options):
        routers.append(over(*models))
        blocked = sync_http_client(sync.Router(over(*models)))
        return ChatOpenAI(
            model=GPT, api_key="unused", http_async_client=http_client(routers[-1]), http_client=blocked, **options
        )

    yield build
    for router in routers:
        await router.aclose()


async def test_ainvoke(achat):
    """The same with an event loop."""
    assert CANONICAL == (await achat().ainvoke("Hello")).content


async def test_astream_with_usage(achat):
    """Pieces, and the usage that LangChain asked for."""
    pieces = [piece async for piece in achat(stream_usage=True).astream("Hello")]
    counted = [piece.usage_metadata["total_tokens"] for piece in pieces if piece.usage_metadata]
    assert (CANONICAL, [62]) == ("".join(piece.text for piece in pieces), counted)


async def test_the_model_that_answered_is_told(achat, fake):
    """A fallback stands in the metadata."""
    fake.always(GPT, "503")
    message = await achat(GPT, CLAUDE).ainvoke("Hello")
    assert CLAUDE == message.response_metadata["model_name"]


async def test_tools_are_bound_and_called(achat):
    """Whole and in pieces."""
    bound = achat().bind_tools([weather], tool_choice="any")
    message = await bound.ainvoke("What is the weather?")
    pieces = [piece async for piece in bound.astream("What is the weather?")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert (["weather"], message.tool_calls[0]["args"]) == (
        [call["name"] for call in message.tool_calls],
        whole.tool_calls[0]["args"],
    )


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_structured_output(achat, fake, method):
    """By each of LangChain's methods."""
    if method != "function_calling":
        fake.say(GPT, '{"name": "Ada", "age": 36}')
    found = await achat().with_structured_output(Person, method=method).ainvoke("Who? Answer in JSON.")
    assert isinstance(found, Person)


async def test_what_langchain_adds_travels(achat, fake):
    """Odd parameters reach the upstream as they are."""
    model = achat(
        temperature=0.5, seed=7, stop=["\n\n"], logprobs=False, n=1, model_kwargs={"user": "u"}, extra_body={"top_k": 3}
    )
    await model.ainvoke("Hello")
    body = fake.requests[-1].body
    expected = {"temperature": 0.5, "seed": 7, "stop": ["\n\n"], "logprobs": False, "n": 1, "user": "u", "top_k": 3}
    assert expected == {name: body.get(name) for name in expected}


async def test_a_broken_stream_raises(achat, fake):
    """LangChain hands on the SDK's error, and the router's is behind it."""
    fake.always(GPT, "cut_mid:3")
    with pytest.raises(sdk.APIError) as caught:
        [piece async for piece in achat().astream("Hello")]
    assert isinstance(router_error(caught.value), StreamBroken)


async def test_langchain_knows_an_overflow(scripted):
    """Its own class for a prompt that does not fit."""
    router, far = scripted(ContextOverflow("the prompt does not fit"))
    model = ChatOpenAI(model="a/b", api_key="unused", http_async_client=http_client(router))
    with pytest.raises(ContextOverflowError):
        await model.ainvoke("Hello")
    assert 1 == len(far.tries)


def test_embeddings(blocking):
    """LangChain's embeddings, which send token numbers for texts."""
    model = OpenAIEmbeddings(
        model="openai/text-embedding-3-small",
        api_key="unused",
        http_client=sync_http_client(blocking()),
        check_embedding_ctx_length=False,
        dimensions=3,
    )
    assert [3, 3] == [len(vector) for vector in model.embed_documents(["one", "two"])]
