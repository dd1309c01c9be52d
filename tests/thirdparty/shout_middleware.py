"""shout: says what the caller says in capitals, and notes how much it shouted.

In a policy: `- shout: {marks: 3}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from orrouter.core.call import Call
from orrouter.core.facts import Fact
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.middleware.base import Middleware, Options, World


@dataclass(frozen=True, kw_only=True)
class Shouted(Fact):
    """Messages were made loud."""

    messages: int


class ShoutOptions(Options):
    """Options of `shout`."""

    kind: ClassVar[str] = "shout"
    marks: Annotated[int, Field(ge=0, le=9)] = 1
    """Exclamation marks after each message."""

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Shout(self)


class Shout:
    """The layer."""

    def __init__(self, options: ShoutOptions) -> None:
        self._marks = "!" * options.marks

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        messages = [self._loud(message) for message in call.body.get("messages", ())]
        call.note(Shouted(messages=len(messages)))
        return await forward(call.to(body={**call.body, "messages": messages}))

    def _loud(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "content": message["content"].upper() + self._marks}
