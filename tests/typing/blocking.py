"""The router for code without an event loop, as users write it; checked by mypy and pyright, and never run."""

from __future__ import annotations

from typing import Any, assert_type

from orrouter import Chunk, Completion, Readiness, Whole
from orrouter.catalog.model import Model
from orrouter.sync import Router

HELLO = [{"role": "user", "content": "Hello"}]


def asks(router: Router) -> None:
    """The same face without `await`."""
    assert_type(router.chat(HELLO, model="a/b", timeout=20, tags={"team": "search"}), Completion)
    assert_type(router.embeddings("one", model="a/b"), Completion)
    assert_type(router.models(), tuple[Model, ...])
    assert_type(router.credits(), dict[str, Any])
    assert_type(router.ready(), Readiness)
    with router.stream(HELLO, model="a/b") as events:
        for event in events:
            assert_type(event, Chunk | Whole)
    assert_type(events.completion, Completion)


def closes() -> None:
    """Built and closed as the other one."""
    with Router.from_file("policy.yaml") as router:
        assert_type(router, Router)
    with Router.from_env() as same:
        same.close(drain=1)


async def mistaken(router: Router) -> None:
    """What blocks cannot be awaited, and what is asked has types."""
    await router.chat(HELLO)  # type: ignore[misc]
    router.chat("Hello")  # type: ignore[arg-type]
    router.chat(HELLO, timeout="20s")  # type: ignore[arg-type]
    for _ in router.stream(HELLO):  # type: ignore[attr-defined]
        pass
