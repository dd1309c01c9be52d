"""The stage of `orrouter demo`: a fake upstream, a router that asks it, and what a scene must show.

Law: no scene stands here, and nothing is printed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from orrouter.core.completion import Completion
from orrouter.core.facts import Record
from orrouter.router import Router
from orrouter.testkit.log import Seen
from orrouter.testkit.server import FakeOpenRouter

FIRST: Final = "anthropic/claude-sonnet-4.5"
SECOND: Final = "openai/gpt-4o"
THIRD: Final = "google/gemini-2.5-flash"

QUESTION: Final = [{"role": "user", "content": "What is a circuit breaker?"}]


class Otherwise(Exception):  # it says how a scene went
    """A scene did not go as it should; the message says how it went."""


@dataclass
class Stage:
    """Where the scenes play: a fake upstream, a router that asks it, and what the last call left behind."""

    fake: FakeOpenRouter
    router: Router
    record: Record | None = None
    seen_before: int = field(default=0)

    def clear(self) -> None:
        """All is well again, and nothing is remembered of the scene before."""
        self.fake.clear()
        self.router.reset_health()
        self.begin()

    def begin(self) -> None:
        """What the upstream is asked from now on counts."""
        self.seen_before = len(self.fake.requests)

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What the upstream was asked since."""
        return self.fake.requests[self.seen_before :]

    async def chat(self) -> Completion:
        """One call for a whole answer."""
        done = await self.router.chat(QUESTION)
        self.record = done.record
        return done

    async def stream(self) -> tuple[Completion, str]:
        """One call for a stream, and the text that its reader saw."""
        text = ""
        async with self.router.stream(QUESTION) as events:
            async for event in events:
                text += event.text
            return events.completion, text


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene; `play` returns what the caller saw."""

    title: str
    done: str
    play: Callable[[Stage], Awaitable[str]]


def must(so: bool, otherwise: str) -> None:
    """Raises Otherwise where it is not so."""
    if not so:
        raise Otherwise(otherwise)


def asked(stage: Stage, *models: str) -> None:
    """Raises Otherwise where the upstream was asked for other models than these, in this order."""
    seen = [one.model for one in stage.seen]
    must(seen == list(models), f"the upstream was asked for {', '.join(seen) or 'nothing'}")
