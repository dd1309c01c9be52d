"""A fake upstream in the test's own loop, and a client that talks to it on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest_asyncio

from orrouter.testkit.fixtures import fake_openrouter  # noqa: F401  # a fixture is used by its name
from orrouter.testkit.server import FakeOpenRouter

KEY = "sk-or-v1-0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Got:
    """A reply, read to its end."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> list[Any]:
        """The JSON of the data events; [DONE] and what is no JSON stay text."""
        lines = [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]
        return [_json(line) for line in lines]

    @property
    def said(self) -> str:
        """The content of all deltas."""
        events = [event for event in self.events if isinstance(event, dict) and event.get("choices")]
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


@dataclass
class Client:
    """Sends requests to one fake."""

    session: aiohttp.ClientSession
    fake: FakeOpenRouter

    async def post(self, path: str, body: Any, **headers: str) -> Got:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(f"{self.fake.url}/{path}", data=data, headers=headers) as reply:
            return Got(reply.status, reply.headers, (await reply.read()).decode())

    async def chat(self, model: str = "openai/gpt-4o", **body: Any) -> Got:
        return await self.post("chat/completions", {"model": model, "messages": HELLO, **body})

    async def get(self, path: str, **headers: str) -> Got:
        async with self.session.get(f"{self.fake.url}/{path}", headers=headers) as reply:
            return Got(reply.status, reply.headers, await reply.text())


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeOpenRouter]:
    async with FakeOpenRouter(speed=1_000) as running:
        yield running


@pytest_asyncio.fixture
async def client(fake: FakeOpenRouter) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}, timeout=timeout) as session:
        yield Client(session, fake)
