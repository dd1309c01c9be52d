"""attempt: makes the `Attempt`, notes its facts, and holds back what the caller must not see yet.

Innermost but for the money gate, always there. Law: one try is one pass; it decides nothing.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from orrouter.core.call import Attempt, Call
from orrouter.core.errors import Refused, UpstreamError
from orrouter.core.events import End
from orrouter.core.facts import AttemptEnded, AttemptStarted, EventsSkipped
from orrouter.core.outcome import outcome_of
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.middleware.base import Middleware, Options, World


class AttemptOptions(Options):
    """`attempt` has no options."""

    kind: ClassVar[str] = "attempt"

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return AttemptLayer(world)

    def says(self) -> str:
        """What it does with these options, in words."""
        return "makes one try and notes how it went; a chat's answer goes up when it is whole"


class AttemptLayer:
    """The layer."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Make one try; return with as many events in hand as the call says."""
        trail = call.trail
        attempt = Attempt(len(trail.attempts) + 1, call.target, self._clock.now())
        trail.attempts.append(attempt)
        if trail.listener is not None and not call.limits:  # Under a limit it begins when the money gate lets it.
            target = call.target
            trail.tell(AttemptStarted(number=attempt.number, upstream=target.upstream, model=target.model))
        try:
            reply = await forward(call.replaced("attempt", attempt))
        except BaseException as error:
            refused = isinstance(error, Refused) and attempt.phase == "not_sent"
            if refused:
                trail.attempts.remove(attempt)  # Refused below: there was no try.
            if not refused or not call.limits:
                self._over(call, attempt, error)
            raise
        events = reply.events
        events.on_end(partial(self._end, call, attempt))
        if call.buffer > 1 and not events.whole:
            try:
                await events.ahead(call.buffer)
            except BaseException:
                reply.close()
                raise
        return reply

    def _end(self, call: Call, attempt: Attempt, end: End) -> None:
        attempt.finish_reason, attempt.usage = end.finish_reason, end.usage
        self._over(call, attempt, end.error)

    def _over(self, call: Call, attempt: Attempt, error: BaseException | None) -> None:
        attempt.ended = self._clock.now()
        attempt.outcome, attempt.error = outcome_of(error), error
        trail, target = call.trail, call.target
        if isinstance(error, UpstreamError):
            error.at(upstream=target.upstream, model=target.model, request_id=trail.request_id)
        if attempt.malformed:
            trail.note(EventsSkipped(model=attempt.model, count=attempt.malformed))
        if trail.listener is not None:
            trail.tell(
                AttemptEnded(
                    number=attempt.number,
                    upstream=target.upstream,
                    model=attempt.model,
                    provider=attempt.provider,
                    outcome=attempt.outcome,
                    status=attempt.status,
                    duration_s=attempt.ended - attempt.began,
                    generation_id=attempt.generation_id,
                )
            )
