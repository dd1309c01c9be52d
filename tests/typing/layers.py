"""Layers, options and transports as third parties write them; checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, ClassVar, assert_type

from pydantic import Field

from orrouter.core.call import Call, Key
from orrouter.core.events import End, Event
from orrouter.core.facts import Fact
from orrouter.core.pipeline import Handler, Middleware, Pipeline
from orrouter.core.reply import Reply
from orrouter.middleware.base import Duration, Money, Options, World
from orrouter.testkit.script import ScriptedTransport
from orrouter.transport.base import Transport
from orrouter.transport.http import HttpTransport

SIZE = Key[int]("size")


async def function(call: Call, forward: Handler) -> Reply:
    """A function is a layer."""
    reply = await forward(call.to(buffer=3).hang(SIZE, 5))
    reply.events.watch(look)
    reply.events.on_end(told)
    return reply


def look(event: Event) -> None:
    """A watcher."""


def told(end: End) -> None:
    """An ender."""


def handing_on(call: Call, forward: Handler) -> Awaitable[Reply]:
    """A plain function that hands the awaitable on is a layer too."""
    return forward(call)


class Layer:
    """An object that is called is a layer; it may name its arguments as it likes."""

    async def __call__(self, asked: Call, below: Handler) -> Reply:
        size: int | None = asked.get(SIZE)
        return await below(asked.hang(SIZE, (size or 0) + 1))


async def too_few(call: Call) -> Reply:
    """No layer: it cannot go on."""
    raise NotImplementedError


async def no_reply(call: Call, forward: Handler) -> str:
    """No layer: nobody above could read it."""
    return str(await forward(call))


def not_awaited(call: Call, forward: Handler) -> Reply:
    """No layer: a reply is awaited."""
    raise NotImplementedError


async def look_later(event: Event) -> None:
    """No watcher: nothing is awaited on the way out."""


_function: Middleware = function
_handing_on: Middleware = handing_on
_layer: Middleware = Layer()
_class: Middleware = Layer  # type: ignore[assignment]  # a class is no layer, its objects are
_too_few: Middleware = too_few  # type: ignore[assignment]
_no_reply: Middleware = no_reply  # type: ignore[assignment]
_not_awaited: Middleware = not_awaited  # type: ignore[assignment]


class ShoutOptions(Options):
    """Options of a kind."""

    kind: ClassVar[str] = "shout"
    times: Annotated[int, Field(ge=1)] = 1
    pause: Duration = 0.5
    worth: Money | None = None

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        began: float = world.clock.now()
        return Layer() if began and self.times else function


class ClumsyOptions(Options):
    """Its `build` gives no layer."""

    def build(self, world: World) -> str:  # type: ignore[override]
        return "no layer"


def used(world: World) -> None:
    """What is built goes into a pipeline, over anything that answers calls."""
    options = ShoutOptions(times=2)
    _transport: Transport = HttpTransport({})
    scripted: Transport = ScriptedTransport({"a/b": "hi"})
    handler: Handler = Pipeline([options.build(world), function], scripted)
    Pipeline([function, too_few], scripted)  # type: ignore[list-item]
    Pipeline([function], handler)
    assert_type((options.times, options.pause, options.worth), tuple[int, float, int | None])


async def watched(reply: Reply) -> None:
    """Watching and ending are plain functions."""
    reply.events.on_end(lambda end: told(end))
    reply.events.watch(lambda event: look(event))
    reply.events.watch(told)  # type: ignore[arg-type]


class Shouted(Fact):
    """A fact of one's own."""


def noted(call: Call) -> None:
    """Facts are noted, and nothing else."""
    call.note(Shouted())
    call.note("shouted")  # type: ignore[arg-type]
