"""deadline: how long things may take.

`total` is for the whole call and stands above retry and fallback; the other clocks are for each try and stand
below them, so the kind may stand twice. Law: it attaches clocks; the transport keeps them. Only `total` is kept
here, until the reply is primed.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from orrouter.core.call import Call, Clocks
from orrouter.core.clock import Cuts
from orrouter.core.errors import DeadlineExceeded, RouterError
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.middleware.base import Duration, Middleware, Options, World

LAST_FIRST_TOKEN_S = 60.0
"""How long the first token is waited for where nobody else could serve, or the model thinks before it speaks."""


class DeadlineOptions(Options):
    """Options of `deadline`. What is not written is not kept."""

    kind: ClassVar[str] = "deadline"
    total: Annotated[Duration | None, Field(gt=0)] = None
    """The whole call with its retries and fallbacks."""
    connect: Annotated[Duration | None, Field(gt=0)] = None
    """Until a connection is there (the transport keeps 5s when nothing is written)."""
    first_token: Annotated[Duration | None, Field(gt=0)] = None
    """From sending to the first word; keep-alive comments do not count."""
    stall: Annotated[Duration | None, Field(gt=0)] = None
    """Between words; three times as long inside a tool call or reasoning."""
    dead: Annotated[Duration | None, Field(gt=0)] = None
    """Without any byte of a stream (the transport keeps 45s when nothing is written)."""
    attempt: Annotated[Duration | None, Field(gt=0)] = None
    """One whole try."""
    last_first_token: Annotated[Duration | None, Field(gt=0)] = None
    """`first_token` where no other target is left, or for a model that reasons (60s, or `first_token` if longer)."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(getattr(self, name) for name in (*_CLOCKS, "total")):
            raise ValueError("deadline needs at least one of total, connect, first_token, stall, dead, attempt")
        if self.last_first_token is not None and self.first_token is None:
            raise ValueError("last_first_token means nothing without first_token")
        return self

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Deadline(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        parts = []
        if self.total is not None:
            parts.append(f"ends the whole call after {show_duration(self.total)}")
        clocks = [
            f"{show_duration(value)} {words}"
            for name, words in _SAID.items()
            if (value := getattr(self, name)) is not None
        ]
        if clocks:
            parts.append(f"gives each try {', '.join(clocks)}")
        if self.first_token is not None:
            patient = show_duration(max(self.first_token, self.last_first_token or LAST_FIRST_TOKEN_S))
            parts.append(f"waits {patient} for the first word where no other target is left or the model reasons")
        return "; ".join(parts)


_SAID = {
    "connect": "to connect",
    "first_token": "to the first word",
    "stall": "between words",
    "dead": "without a byte",
    "attempt": "in all",
}
"""Each clock, and how it goes on after its time."""
_CLOCKS = tuple(_SAID)


class Deadline:
    """The layer."""

    def __init__(self, options: DeadlineOptions, world: World) -> None:
        self._world, self._total = world, options.total
        self._clocks = {name: value for name in _CLOCKS if (value := getattr(options, name)) is not None}
        self._last = {}
        if options.first_token is not None:
            self._last["first_token"] = max(options.first_token, options.last_first_token or LAST_FIRST_TOKEN_S)
        self._made: dict[tuple[int, bool], tuple[Clocks, Clocks]] = {}
        self._cuts = Cuts()

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward `call` with its clocks. Raises DeadlineExceeded when the total is over before the first word."""
        if self._clocks:
            call = call.replaced("clocks", self._over(call))
        if self._total is None:
            return forward(call)
        total = call.trail.began + self._total
        if call.deadline is None or call.deadline > total:
            call = call.replaced("deadline", total)
        return before_deadline(call, forward, self._cuts)

    def _over(self, call: Call) -> Clocks:
        """The clocks of this try; a frozen value, made once for each case."""
        patient = bool(self._last) and (call.last or self._reasons(call))
        known = self._made.get((id(call.clocks), patient))
        if known is not None:
            return known[1]  # Beside it the clocks it is made from are kept, so that no others bear their id.
        clocks = replace(call.clocks, **{**self._clocks, **(self._last if patient else {})})
        if len(self._made) < 100:
            self._made[id(call.clocks), patient] = call.clocks, clocks
        return clocks

    def _reasons(self, call: Call) -> bool:
        """Whether silence before the first word is thinking: asked for, or what the model does unasked."""
        asked = call.body.get("reasoning")
        if isinstance(asked, dict):
            return bool(asked.get("enabled", True)) and asked.get("effort") != "none"
        if call.body.get("reasoning_effort") is not None:
            return bool(call.body["reasoning_effort"] != "none")
        model = self._world.catalog.get(call.target.model, call.target.upstream)
        way = None if model is None else model.reasoning
        return way is not None and (way.mandatory or way.enabled is True)


async def before_deadline(call: Call, forward: Handler, cuts: Cuts) -> Reply:
    """Forward `call` and end the wait at its deadline. Raises DeadlineExceeded."""
    cut = cuts.take()
    try:
        with cut.at(call.deadline, partial(_exceeded, call)):
            return await forward(call)
    finally:
        cuts.give(cut)


def _exceeded(call: Call) -> DeadlineExceeded:
    assert call.deadline is not None
    error = DeadlineExceeded(f"no answer within {show_duration(call.deadline - call.trail.began)}, the call's total")
    # A try that was cut has ended by now too, but with no error of its own.
    if all(attempt.phase == "not_sent" or isinstance(attempt.error, RouterError) for attempt in call.trail.attempts):
        error.billed = "no"
    for attempt in call.trail.attempts:
        if isinstance(attempt.error, CancelledError):  # It was our cut, and not the caller's cancel.
            attempt.outcome, attempt.error = error.code, error
    return error
