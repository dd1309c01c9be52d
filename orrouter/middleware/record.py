"""record: the decision record on every reply and error, and the beginning and end of a call as facts.

Outermost, always there. Law: it writes down and changes nothing. Prompts and answers are kept only when
`content: true` says so.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from orrouter.core.call import Call
from orrouter.core.errors import RouterError
from orrouter.core.events import End, Event
from orrouter.core.facts import CallEnded, CallStarted
from orrouter.core.outcome import outcome_of
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.middleware.base import Middleware, Options, World


class RecordOptions(Options):
    """Options of `record`."""

    kind: ClassVar[str] = "record"
    content: bool = False
    """Keep the request's body and the answer's text in the record."""

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Record(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        kept = "with the request and the answer" if self.content else "without what was asked and answered"
        return f"writes down every try, wait and decision, {kept}"


class Record:
    """The layer."""

    def __init__(self, options: RecordOptions, world: World) -> None:
        self._content, self._world = options.content, world

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward `call` and write down how it went."""
        trail = call.trail
        if trail.listener is not None:
            trail.tell(
                CallStarted(
                    endpoint=call.endpoint,
                    policy=trail.policy,
                    model=call.models[0] if call.models else call.target.model,
                    tags=dict(call.tags),
                )
            )
        if self._content:
            trail.content = {"request": dict(call.body), "said": ""}
        try:
            reply = await forward(call)
        except BaseException as error:
            self._over(call, error)
            raise
        if self._content:
            reply.events.watch(partial(_keep, trail.content))
        reply.events.on_end(partial(self._end, call))
        return reply

    def _end(self, call: Call, end: End) -> None:
        self._over(call, end.error)

    def _over(self, call: Call, error: BaseException | None) -> None:
        trail = call.trail
        trail.ended = self._world.clock.now()
        trail.outcome = outcome_of(error)
        if isinstance(error, RouterError):
            error.trail = trail
        if trail.listener is None:
            return
        last = trail.attempts[-1] if trail.attempts else None
        trail.tell(
            CallEnded(
                outcome=trail.outcome,
                attempts=len(trail.attempts),
                model=last.model if last is not None else call.target.model,
                duration_s=trail.ended - trail.began,
                cost_nano=last.cost if last is not None else None,
            )
        )


def _keep(content: dict[str, Any] | None, event: Event) -> None:
    if content is not None:
        content["said"] += event.text
