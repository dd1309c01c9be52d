"""breaker: leaves alone who keeps failing, a model or one provider of it, and asks again carefully.

One circuit for each model, one for each provider of a model. An open model is refused, so that the chain goes on;
an open provider is named in `provider.ignore` while another may remain. State is per router and keyed by the options
too. Law: when a circuit opens and closes is `core/circuit.py`'s; what an outcome means is said by `outcome_for`;
permits go back in plain functions on every road out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from orrouter.core.call import PROBE, Attempt, Call, Key, Target
from orrouter.core.circuit import CLOSED, GOOD, OPEN, REFUSED, SLOW, Circuit, Outcome, Rules
from orrouter.core.clock import Clock
from orrouter.core.errors import CircuitOpen, NoRoute, UpstreamError, UpstreamTimeout
from orrouter.core.events import End, Event
from orrouter.core.facts import BreakerClosed, BreakerHalfOpened, BreakerOpened, Fact, IgnoreDropped
from orrouter.core.health import Subject
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.middleware.base import Duration, Middleware, Options, World
from orrouter.middleware.preferences import ignoring

CIRCUIT = Key[Circuit]("breaker")
IGNORED = Key[tuple[str, ...]]("ignored_by_breaker")
PATIENCE_S = 60.0
"""A probe without a verdict for so long, or for twice `slow`, is given up."""
PROBE_EVENTS, PROBE_S = 20, 5.0
"""A probe that streams has succeeded after so many events or seconds behind its first word."""
REMEMBERED = 1000
"""Names of subjects kept ready; a caller who invents models must not fill the memory."""


class BreakerOptions(Options):
    """Options of `breaker`."""

    kind: ClassVar[str] = "breaker"
    mode: Literal["active", "metrics_only", "forced_open", "disabled"] = "active"
    """metrics_only counts and never refuses; forced_open refuses everything; disabled does nothing."""
    window: Annotated[Duration, Field(gt=0)] = 120.0
    """How far back calls are counted."""
    min_calls: Annotated[int, Field(ge=1)] = 10
    """A rate is judged from so many calls in the window."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failures in the window that opens it. Rate limits and refused requests are no failures."""
    consecutive: Annotated[int, Field(ge=1)] = 5
    """Failures in a row that open it."""
    slow: Annotated[Duration | None, Field(gt=0)] = 30.0
    """A stream whose first word takes longer is slow; null: none is. Where no further target could serve, being slow
    opens no model's circuit, only a provider's."""
    slow_rate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of slow answers in the window that opens it."""
    open: Annotated[Duration, Field(gt=0)] = 5.0
    """How long it opens the first time; twice that each further time, and never less than the upstream asked for."""
    max_open_with_fallback: Annotated[Duration, Field(gt=0)] = 15.0
    """The longest opening where a further target could serve: the first choice is soon asked again."""
    max_open: Annotated[Duration, Field(gt=0)] = 300.0
    """The longest opening where none could."""
    closes_after: Annotated[int, Field(ge=1)] = 2
    """Successful probes, one after the other, that close it."""
    forget: Annotated[Duration, Field(ge=0)] = 600.0
    """Closed for so long, it opens as if for the first time."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("max_open_with_fallback", "max_open"):
            longest: float = getattr(self, name)
            if self.open > longest:
                raise ValueError(
                    f"open ({show_duration(self.open)}) is longer than {name} ({show_duration(longest)}): "
                    f"set {name} too, to at least {show_duration(self.open)}"
                )
        return self

    def says(self) -> str:
        """In words, for `explain`."""
        if self.mode == "forced_open":
            return "lets nothing through"
        if self.mode == "disabled":
            return "does nothing"
        when = f"{self.consecutive} failures in a row, or {self.failure_rate:.0%} of {self.min_calls} calls and more"
        if self.mode == "metrics_only":
            return f"counts when a model, or one provider of it, would be left alone ({when}), and refuses nothing"
        longest = (
            f"{show_duration(self.max_open_with_fallback)} ({show_duration(self.max_open)} where nobody else is left)"
        )
        return (
            f"leaves a model, or one provider of it, alone after {when} in {show_duration(self.window)}: "
            f"for {show_duration(self.open)}, doubling to {longest}"
        )

    def rules(self) -> Rules:
        """What its circuits go by."""
        rules = Rules(
            window=self.window,
            min_calls=self.min_calls,
            failure_rate=self.failure_rate,
            consecutive=self.consecutive,
            slow_rate=self.slow_rate,
            open=self.open,
            max_open=self.max_open,
            max_open_with_fallback=self.max_open_with_fallback,
            closes_after=self.closes_after,
            forget=self.forget,
            patience=max(PATIENCE_S, 2 * (self.slow or 0.0)),
        )
        return rules.never() if self.mode == "metrics_only" else rules

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Breaker(self, world)


class Whose(NamedTuple):
    """Whose circuit it is: a subject, under one setting of the options."""

    subject: Subject
    setting: str

    def __str__(self) -> str:
        return str(self.subject)


def outcome_for(error: BaseException | None, *, slow: bool) -> Outcome | None:
    """What the end of a request says about the far end.

    None: nothing. It was cancelled, left unread, refused below, rate limited, cut by a limit or the caller's fault.
    """
    if error is None:
        return SLOW if slow else GOOD
    if isinstance(error, UpstreamError) and error.counted:
        return Outcome(
            failed=True, slow=slow or isinstance(error, UpstreamTimeout), retry_after=error.retry_after or 0.0
        )
    return None


def provider_in(error: BaseException | None) -> str | None:
    """Who failed, if there is an error and it names a provider."""
    return error.provider if isinstance(error, UpstreamError) else None


def took_long(call: Call, attempt: Attempt, slow: float | None) -> bool:
    """Whether the first word of a stream came late. The time of an answer in one piece tells of its length."""
    if not call.streamed or slow is None or attempt.first_token is None:
        return False
    return attempt.first_token - attempt.began > slow


def has_parts(call: Call) -> bool:
    """Whether single providers behind the target can be left out of this call."""
    return call.target.dialect == "openrouter" and call.completes


def changed(circuit: Circuit, now: float) -> Fact:
    """The fact of a transition that has just happened."""
    if circuit.state == OPEN:
        return BreakerOpened(subject=circuit.subject, for_s=max(0.0, circuit.until - now), reason=circuit.reason)
    if circuit.state == CLOSED:
        return BreakerClosed(subject=circuit.subject)
    return BreakerHalfOpened(subject=circuit.subject)


def refusal(circuit: Circuit, now: float) -> CircuitOpen:
    """The error of a call that is not admitted."""
    wait = circuit.wait(now)
    when = f"it is asked again in {show_duration(wait)}" if circuit.state == OPEN else "one call is trying it now"
    return CircuitOpen(f"{circuit.subject} is left alone ({circuit.reason}): {when}", retry_after=wait)


class Turn:
    """One pass of one call: what it was admitted by, until a verdict."""

    __slots__ = ("began", "call", "circuit", "judged", "parts", "permit", "probe")

    def __init__(self, call: Call, circuit: Circuit, permit: int, began: float) -> None:
        self.call, self.circuit, self.permit, self.began = call, circuit, permit, began
        self.probe = circuit.state != CLOSED
        self.parts: dict[str, tuple[Circuit, int]] = {}
        """Providers for which this call is the probe, each with its permit."""
        self.judged = False


class Watch:
    """Looks at the events of a probe until they show that the far end is well, and then tells it once."""

    __slots__ = ("_clock", "_said", "_since", "_tell", "_turn")

    def __init__(self, turn: Turn, clock: Clock, tell: Callable[[], None]) -> None:
        self._turn, self._clock, self._tell = turn, clock, tell
        self._said, self._since = -1, clock.now()  # The first word is not yet one of those behind it.

    def __call__(self, event: Event) -> None:
        """One event of the stream."""
        if self._turn.judged:
            return
        self._said += event.semantic
        if self._said >= PROBE_EVENTS or self._clock.now() - self._since >= PROBE_S:
            self._tell()


class Breaker:
    """The layer."""

    def __init__(self, options: BreakerOptions, world: World) -> None:
        self.options, self._world = options, world
        self._rules, self._setting = options.rules(), options.model_dump_json()
        self._mode, self._slow = options.mode, options.slow
        self._names: dict[tuple[str, str, str, str], Whose] = {}
        self._found: dict[tuple[str, str, str, str], Circuit] = {}
        self._forgotten = 0

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Answer `call`. Raises CircuitOpen."""
        return forward(call) if self._mode == "disabled" else self._guarded(call, forward)

    async def _guarded(self, call: Call, forward: Handler) -> Reply:
        turn = self._admit(call)
        try:
            reply = await (self._ask(turn, forward) if turn.probe or turn.circuit.ill else forward(call))
        except BaseException as error:
            self._judge(turn, outcome_for(error, slow=False), provider_in(error), self._world.clock.now())
            raise
        # The attempt and not the reply: a reply that is dropped unread must not be kept alive by its own ender.
        reply.events.on_end(partial(self._end, turn, reply.attempt))
        return reply

    # --- before ---------------------------------------------------------------------------------------

    def _admit(self, call: Call) -> Turn:
        if self._mode == "forced_open":
            raise CircuitOpen(f"the policy lets nothing through to {call.target} (breaker: mode forced_open)")
        now, circuit = self._world.clock.now(), self._circuit(call.target)
        permit = circuit.epoch
        if circuit.state != CLOSED:
            permit = self._permit(call, circuit, now, early=call.get(PROBE) is True)
        if permit == REFUSED:
            raise refusal(circuit, now)
        return Turn(call, circuit, permit, now)

    def _permit(self, call: Call, circuit: Circuit, now: float, *, early: bool = False) -> int:
        epoch = circuit.epoch
        permit = circuit.admit(now, early=early)
        if circuit.epoch != epoch:
            call.note(changed(circuit, now))
        return permit

    def _around(self, turn: Turn) -> Call:
        """The call without the providers whose circuit is open; it is the probe of those that are half open."""
        call, ill, avoided = turn.call, turn.circuit.ill, []
        for provider in sorted(ill):
            part = self._world.health.peek(CIRCUIT, self._whose(call.target, provider))
            if part is None or part.state == CLOSED:
                ill.discard(provider)
            elif permit := self._permit(call, part, turn.began):
                turn.parts[provider] = part, permit
            else:
                avoided.append(provider)
        return ignoring(call, avoided, "its breaker is open", IGNORED) if avoided else call

    # --- asking ---------------------------------------------------------------------------------------

    async def _ask(self, turn: Turn, forward: Handler) -> Reply:
        """Forward the call; once more without what we had added, where that left no provider."""
        call = turn.call
        asked = self._around(turn) if has_parts(call) else call
        try:
            return await self._forward(turn, asked, forward)
        except NoRoute:
            added = None if asked is call else asked.get(IGNORED)
            if added is None:
                raise
            call.note(IgnoreDropped(model=call.target.model, providers=added))
        return await self._forward(turn, call, forward)

    async def _forward(self, turn: Turn, call: Call, forward: Handler) -> Reply:
        if not turn.probe and not turn.parts:
            return await forward(call)
        # A probe is watched from its first word, also where the caller wants the whole answer: a long one that is
        # well must not delay the recovery by its length.
        reply = await forward(call.to(buffer=1))
        reply.events.watch(Watch(turn, self._world.clock, partial(self._well, turn, reply.attempt)))
        if call.buffer > 1:
            try:
                await reply.events.ahead(call.buffer)
            except BaseException:
                reply.close()
                raise
        return reply

    # --- after ----------------------------------------------------------------------------------------

    def _well(self, turn: Turn, attempt: Attempt) -> None:
        """A probe that still streams has shown enough."""
        self._judge(turn, GOOD, attempt.provider, self._world.clock.now())

    def _end(self, turn: Turn, attempt: Attempt, end: End) -> None:
        slow = turn.call.streamed and took_long(turn.call, attempt, self._slow)
        outcome = outcome_for(end.error, slow=slow) if slow or end.error is not None else GOOD
        # The try was told of its end first, and knows the time of it.
        now = self._world.clock.now() if attempt.ended is None else attempt.ended
        if outcome is GOOD and turn.circuit.state == CLOSED and not (turn.judged or turn.parts):
            self._went_well(turn, attempt.provider, now)
        else:
            self._judge(turn, outcome, attempt.provider or provider_in(end.error), now)

    def _went_well(self, turn: Turn, provider: str | None, now: float) -> None:
        """What nearly every call ends in, told to circuits that are closed and stay so."""
        turn.judged = True
        turn.circuit.well(turn.permit, now)
        if provider and has_parts(turn.call):
            part = self._circuit(turn.call.target, provider)
            if part.state == CLOSED:
                part.well(part.permit_since(turn.began), now)
            else:
                self._of_provider(turn, provider, GOOD, now)

    def _judge(self, turn: Turn, outcome: Outcome | None, provider: str | None, now: float) -> None:
        """Tell every circuit how it went; behind a success told early, only a failure is told as well."""
        first, turn.judged = not turn.judged, True
        if not first and (outcome is None or not outcome.failed):
            return
        if first and turn.parts:
            self._spare(turn, None if outcome is None else provider, now)
        if outcome is None:
            turn.circuit.give_back(turn.permit, now)
            return
        # Where nobody else could serve, slow is better than nothing.
        of_model = outcome._replace(slow=False) if outcome.slow and turn.call.last else outcome
        self._record(turn, turn.circuit, turn.permit, of_model, now)
        if provider and has_parts(turn.call):
            self._of_provider(turn, provider, outcome, now)

    def _spare(self, turn: Turn, judged: str | None, now: float) -> None:
        """Give back the permits of providers that this call says nothing about."""
        for name, (part, permit) in turn.parts.items():
            if name != judged:
                part.give_back(permit, now)

    def _of_provider(self, turn: Turn, provider: str, outcome: Outcome, now: float) -> None:
        held = turn.parts.get(provider)
        if held is None:
            part = self._circuit(turn.call.target, provider)
            held = part, part.permit_since(turn.began)
        part, permit = held
        self._record(turn, part, permit, outcome, now)
        if part.state != CLOSED:
            turn.circuit.ill.add(provider)

    def _record(self, turn: Turn, circuit: Circuit, permit: int, outcome: Outcome, now: float) -> None:
        epoch = circuit.epoch
        circuit.record(permit, outcome, now, last=turn.call.last)
        if circuit.epoch != epoch:
            turn.call.note(changed(circuit, now))

    # --- whose ----------------------------------------------------------------------------------------

    def _circuit(self, target: Target, provider: str = "") -> Circuit:
        health = self._world.health
        if self._forgotten != health.forgotten:
            self._found.clear()
            self._forgotten = health.forgotten
        # A plain tuple: the hash of a target is worked out anew each time.
        place = target.upstream, target.key, target.model, provider
        circuit = self._found.get(place)
        return self._begun(self._whose(target, provider), place) if circuit is None else circuit

    def _begun(self, whose: Whose, place: tuple[str, str, str, str]) -> Circuit:
        rules, chance, health = self._rules, self._world.random.random, self._world.health
        circuit = health.of(CIRCUIT, whose, lambda: Circuit(str(whose), rules, chance))
        if len(self._found) < REMEMBERED and self._forgotten == health.forgotten:
            self._found[place] = circuit
        return circuit

    def _whose(self, target: Target, provider: str) -> Whose:
        place = target.upstream, target.key, target.model, provider
        whose = self._names.get(place)
        if whose is None:
            whose = Whose(Subject(*place), self._setting)
            if len(self._names) < REMEMBERED:
                self._names[place] = whose
        return whose
