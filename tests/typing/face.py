"""The public face as users write it; checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

import orrouter
from orrouter import (
    AttemptRecord,
    Chunk,
    Completion,
    EventStream,
    Fact,
    InvalidRequest,
    OutputInvalid,
    PolicyError,
    Readiness,
    Record,
    Router,
    RouterError,
    StreamBroken,
    UpstreamError,
    Whole,
    log_facts,
)
from orrouter.catalog.model import Endpoint, Model
from orrouter.testkit.clock import VirtualClock
from orrouter.testkit.script import ScriptedTransport

HELLO = [{"role": "user", "content": "Hello"}]


class City(BaseModel):
    """What an answer may become."""

    name: str


def building(path: Path, env: Mapping[str, str]) -> None:
    """Each way to build a router gives one, also of a class of the user's own."""

    class Mine(Router):
        """With a method of its own."""

    def listen(fact: Fact) -> None:
        assert_type(fact.request_id, str)

    assert_type(Router.from_file("policy.yaml"), Router)
    assert_type(Router.from_file(path, env=env, on_fact=listen), Router)
    assert_type(Router.from_env(env=env, on_fact=log_facts("console", "debug")), Router)
    assert_type(Router.from_policy({"version": 1}, transport=ScriptedTransport({}), clock=VirtualClock()), Router)
    assert_type(Mine.from_file(path), Mine)
    Router.from_file(5)  # type: ignore[arg-type]  # a path is text or a Path
    Router.from_env(env={"OPENROUTER_TIMEOUT": 5})  # type: ignore[dict-item]  # the environment is text


async def chats(router: Router) -> None:
    """An answer and all that can be read from it."""
    done = await router.chat(HELLO, model="a/b", temperature=0.5, tools=[], response_format=City)
    assert_type(done, Completion)
    assert_type(done.text, str)
    assert_type(done.message, dict[str, Any])
    assert_type(done.tool_calls, list[dict[str, Any]])
    assert_type(done.finish_reason, str | None)
    assert_type(done.model, str)
    assert_type(done.provider, str | None)
    assert_type(done.usage, Mapping[str, Any])
    assert_type(done.cost, Decimal | None)
    assert_type(done.raw, dict[str, Any])
    assert_type(done.record, Record)
    assert_type(done.record.attempts, tuple[AttemptRecord, ...])
    assert_type(done.record.attempts[0].duration_s, float | None)
    assert_type(await router.embeddings(["one"], model="a/b", dimensions=3), Completion)
    assert_type(await router.completions("Once upon", max_tokens=5), Completion)


async def treats(router: Router) -> None:
    """How a call is to be treated has types of its own; the rest of the body is the caller's."""
    with orrouter.tags(team="search"):
        await router.chat(
            HELLO, policy="frugal", tags={"tier": "batch"}, timeout=20, headers={"X-A": "1"}, request_id="r"
        )
    await router.chat(HELLO, timeout="20s")  # type: ignore[arg-type]  # seconds
    await router.chat(HELLO, tags={"team": 5})  # type: ignore[dict-item]  # tags are text
    await router.chat(HELLO, policy=["frugal"])  # type: ignore[arg-type]  # one name
    await router.chat("Hello")  # type: ignore[arg-type]  # messages are a list
    await router.chat(messages="Hello")  # type: ignore[arg-type]  # by name too
    with orrouter.tags(team=5):  # type: ignore[arg-type]  # tags are text
        pass


async def streams(router: Router) -> None:
    """A stream is entered, not awaited and not iterated."""
    async with router.stream(HELLO, model="a/b", seed=1) as events:
        assert_type(events, EventStream)
        async for event in events:
            assert_type(event, Chunk | Whole)
            assert_type(event.text, str)
            assert_type(event.raw, bytes)
    assert_type(events.completion, Completion)
    assert_type(events.partial, str)
    await router.stream(HELLO)  # type: ignore[misc]  # `async with`
    async for _ in router.stream(HELLO):  # type: ignore[attr-defined]  # `async with` before it
        pass


async def fails(router: Router) -> None:
    """Each error tells what is its own."""
    try:
        await router.chat(HELLO)
    except StreamBroken as error:
        assert_type(error.partial, str)
    except OutputInvalid as error:
        assert_type(error.text, str)
    except InvalidRequest as error:
        assert_type(error.status, int | None)
    except UpstreamError as error:
        assert_type(error.provider, str | None)
        assert_type(error.retry_after, float | None)
    except PolicyError as error:
        assert_type((error.file, error.line, error.column, error.hint), tuple[str, int, int, str])
    except RouterError as error:
        assert_type(error.code, str)
        assert_type(error.http_status, int)
        assert_type(error.record, Record | None)
        assert_type(error.attempts, tuple[AttemptRecord, ...])


async def tells(router: Router) -> None:
    """What an upstream and the router itself tell."""
    assert_type(await router.models(), tuple[Model, ...])
    assert_type(await router.endpoints("a/b"), tuple[Endpoint, ...])
    assert_type(await router.generation("gen-1"), dict[str, Any])
    assert_type(await router.credits(), dict[str, Any])
    assert_type(await router.key(), dict[str, Any])
    assert_type(await router.ready(), Readiness)
    assert_type((await router.ready()).checks[0].detail, str)
    assert_type(router.health(), dict[str, dict[str, Mapping[str, Any]]])
    assert_type(router.reset_health("openai/"), int)
    router.reload()
    router.reload(Path("policy.yaml"))
    await router.aclose(drain=10)
    async with router as same:
        assert_type(same, Router)


def speaks_of_pictures() -> None:
    """Content parts are plain mappings, fit for messages."""
    part = orrouter.image("photo.png")
    assert_type(part, dict[str, Any])
