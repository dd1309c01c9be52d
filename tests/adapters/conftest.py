"""Routers over a fake upstream and over a script, and both kinds of httpx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from orrouter import sync
from orrouter.router import Router
from orrouter.testkit.script import Act, ScriptedTransport
from orrouter.testkit.server import FakeOpenRouter

PLAIN: list[Any] = [{"deadline": {"total": "60s"}}]


def policy_of(url: str, layers: list[Any]) -> dict[str, Any]:
    upstream = {"base_url": url, "api_key": "sk-or-v1-0123456789abcdef"}
    return {
        "version": 1,
        "upstreams": {"openrouter": upstream},
        "routes": [{"policy": "default"}],
        "policies": {"default": layers, "other": PLAIN},
    }


@pytest.fixture
def scripted() -> Callable[[Act | list[Act]], tuple[Router, ScriptedTransport]]:
    """A router whose every model plays these acts."""

    def build(act: Any) -> tuple[Router, ScriptedTransport]:
        far = ScriptedTransport({"a/b": act if isinstance(act, list) else [act]})
        return Router.from_policy(policy_of("http://far.invalid/v1", PLAIN), transport=far), far

    return build


@pytest.fixture
def fake() -> Iterator[FakeOpenRouter]:
    with FakeOpenRouter(speed=1_000) as running:
        yield running


@pytest.fixture
def over(fake: FakeOpenRouter) -> Callable[..., Router]:
    """A router over the fake, with a chain of these models."""

    def build(*models: str) -> Router:
        return Router.from_policy(policy_of(fake.url, [{"fallback": {"models": list(models)}}] if models else PLAIN))

    return build


@pytest.fixture
def blocking(over: Callable[..., Router]) -> Iterator[Callable[..., sync.Router]]:
    """A blocking router over the fake, closed at the end of the test."""
    built: list[sync.Router] = []

    def build(*models: str) -> sync.Router:
        built.append(sync.Router(over(*models)))
        return built[-1]

    yield build
    for router in built:
        router.close()


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    """What older SDKs run on, and what newer ones do."""
    return request.param
