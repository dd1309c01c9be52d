"""A road in virtual time: the layers under test over a far end that plays a script."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from orrouter.catalog.catalog import Catalog
from orrouter.core.call import ALL, Call, Target, Trail
from orrouter.core.completion import Completion
from orrouter.core.errors import RouterError
from orrouter.core.facts import Fact
from orrouter.core.pipeline import Pipeline
from orrouter.core.reply import Reply
from orrouter.middleware.attempt import AttemptOptions
from orrouter.middleware.base import Options, World
from orrouter.middleware.record import RecordOptions
from orrouter.middleware.reserve import ReserveOptions
from orrouter.testkit.clock import VirtualClock
from orrouter.testkit.script import ScriptedTransport

OPENROUTER = Target("openrouter", key="main")
SPARE = Target("spare", key="other", dialect="openai")


class Dice(Random):
    """Chance that always shows the same."""

    def __init__(self, shows: float) -> None:
        super().__init__(0)
        self.shows = shows

    def random(self) -> float:
        return self.shows


class Road:
    """Layers in the order given, between `record` and `attempt`, over one scripted far end. `draw` is what chance shows."""

    def __init__(
        self,
        acts: object,
        *options: Options,
        draw: float = 0.5,
        models: tuple = (),
        upstreams: tuple[Target, ...] = (OPENROUTER, SPARE),
        far: ScriptedTransport | None = None,
        world: World | None = None,
    ) -> None:
        self.far = far or ScriptedTransport(acts)
        self.world = world or World(
            clock=VirtualClock(),
            random=Dice(draw),
            catalog=Catalog(models),
            upstreams={target.upstream: target for target in upstreams},
        )
        record = [] if options and isinstance(options[0], RecordOptions) else [RecordOptions()]
        written = list(options)
        gate = written.pop() if written and isinstance(written[-1], ReserveOptions) else ReserveOptions()
        stack = [*record, *written, AttemptOptions(), gate]
        self.pipeline = Pipeline([one.build(self.world) for one in stack], self.far)
        self.told: list[Fact] = []
        self.trail = Trail("", lambda: 0.0)

    def call(
        self, model: str = "", body: Mapping | None = None, *, timeout: float | None = None, **more: object
    ) -> Call:
        now = self.world.clock.now
        self.trail = Trail("req_1", now, self.told.append)
        target = more.pop("target", None) or Target("openrouter", model or "m", "main")
        body = {"messages": [{"role": "user", "content": "Hello"}], **(body or {})}
        deadline = None if timeout is None else now() + timeout
        return Call(trail=self.trail, target=target, body=body, deadline=deadline, **more)

    async def ask(self, model: str = "", body: Mapping | None = None, **more: object) -> Reply:
        """One call up to its first word, as a stream's reader makes it."""
        return await self.pipeline(self.call(model, body, streamed=True, **more))

    async def chat(self, model: str = "", body: Mapping | None = None, **more: object) -> Completion:
        """One call whose answer is taken whole."""
        reply = await self.pipeline(self.call(model, body, buffer=ALL, **more))
        return await reply.completion()

    async def fails(self, model: str = "", body: Mapping | None = None, **more: object) -> RouterError:
        """The error of a chat that must fail."""
        with pytest.raises(RouterError) as caught:
            await self.chat(model, body, **more)
        return caught.value

    @property
    def times(self) -> list[float]:
        """When each try was made, in seconds."""
        return [round(played.at, 6) for played in self.far.tries]

    def facts(self, kind: type[Fact]) -> list[Fact]:
        """The facts of a kind in the record of the latest call."""
        return [fact for fact in self.trail.facts if isinstance(fact, kind)]


@pytest.fixture(scope="session")
def road() -> type[Road]:
    return Road
