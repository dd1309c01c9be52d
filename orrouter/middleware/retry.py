"""retry: asks the same target again, later, when that can help.

Full jitter, never earlier than the upstream said, never past the deadline, no sleep after the last failure, and no
long sleep while another target could serve. A pause that an upstream asked for arms a gate that every call of the
router respects. Law: whether and when is decided by `next_try`, a pure function; tenacity only walks the loop, and
is entered only after a first failure, because building it costs more than the rest of a call that succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field
from tenacity import AsyncRetrying, retry_if_exception

from orrouter.core.call import Call, Key, Target
from orrouter.core.clock import NEVER
from orrouter.core.errors import (
    AuthFailed,
    ConnectionFailed,
    CoolingDown,
    NoRoute,
    Overloaded,
    RateLimited,
    Refused,
    Scope,
    UpstreamError,
)
from orrouter.core.facts import (
    GateArmed,
    GateAwaited,
    IgnoreDropped,
    RetryDeclined,
    RetryScheduled,
    TokensLowered,
)
from orrouter.core.health import Bucket, Draw, Gate, Subject, Worked, subject_of
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.middleware.base import Duration, Middleware, Options, World
from orrouter.middleware.fitness import asked_tokens, with_tokens
from orrouter.middleware.preferences import ignoring, may_serve

GATE = Key[Gate]("gate")
IGNORED = Key[tuple[str, ...]]("ignored_by_retry")
BUCKET = Key[Bucket]("retry_budget")
LATEST = Key[Gate]("latest_gate")
"""One gate, of nobody in particular, that stands as far as the farthest of all."""
ANY = ""
MIN_ATTEMPT_S = 1.0
"""No further try begins with less time left than this."""
PATIENCE_LAST_S = 30.0
"""How long a pause may be where nobody else could serve."""
AUTH_GRACE_S, AUTH_PAUSE_S = 600.0, 1.0
"""A key that worked this recently is asked once more after a pause: outages have shown themselves as 401."""
COST, COST_LIGHT = 14.0, 5.0
"""What a retry draws on the budget; less where the upstream only asked for patience, or was never reached."""
NOTED_S = 1.0
"""That a key works is written down no oftener than this."""


WORKED = Key[Worked]("key")


class RetryOptions(Options):
    """Options of `retry`."""

    kind: ClassVar[str] = "retry"
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Tries at one target; and at most this number less one retries in the whole call."""
    initial: Annotated[Duration, Field(gt=0)] = 0.5
    """The first pause is drawn from nothing to this, and this doubles each time (rate limits: twice this)."""
    max: Annotated[Duration, Field(gt=0)] = 8.0
    """The longest pause that is drawn (rate limits: two and a half times this)."""
    patience: Annotated[Duration, Field(ge=0)] = 3.0
    """The longest pause while another target could serve; 30s where none could."""

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Retry(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        if self.attempts == 1:
            return "asks no target twice"
        return (
            f"up to {self.attempts} tries at a target, pauses drawn from up to {show_duration(self.initial)} doubling "
            f"to {show_duration(self.max)}, at most {show_duration(self.patience)} while another target could serve, "
            f"{show_duration(PATIENCE_LAST_S)} where none could"
        )


@dataclass(slots=True)
class Tried:
    """What has happened at this target in this pass."""

    tries: int = 1
    codes: list[str] = field(default_factory=list)
    """The codes that a retry has answered already."""


class Setting(NamedTuple):
    """The circumstances of a decision; times in seconds."""

    retries: int
    """Retries used in the whole call."""
    left: float
    """Until the deadline; infinite without one."""
    last: bool
    draw: Callable[[], float]
    """A random number in [0, 1)."""
    key_worked: bool = False


def backoff(number: int, initial: float, longest: float, draw: float) -> float:
    """The pause before retry `number` (from 1): uniform from 0 to `initial` doubled each time, at most `longest`.

    Full jitter, after "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
    """
    return draw * min(longest, initial * 2.0 ** min(number - 1, 60))


def next_try(error: UpstreamError, tried: Tried, setting: Setting, options: RetryOptions) -> float | str:
    """Seconds to wait before the same target is asked again, or the reason why it is not.

    Never less than the upstream asked for; up to a tenth more, so that those who were told the same do not come at
    once, as far as patience and deadline leave room for it.
    """
    reason = _unwilling(error, tried, setting, options)
    if reason:
        return reason
    told = error.retry_after or 0.0
    drawn = _drawn_pause(error, tried, setting, options)
    patience, most = PATIENCE_LAST_S if setting.last else options.patience, setting.left - MIN_ATTEMPT_S
    least = max(drawn, told)
    if least > patience or least >= most:
        limit = (
            f"is longer than the patience of {show_duration(patience)}" if least > patience else "passes the deadline"
        )
        return f"a pause of {show_duration(least)} {limit}"
    return min(max(drawn, told + spread(told, setting.draw())), patience, most)


def spread(pause: float, draw: float) -> float:
    """What is added to a pause that many were told: up to a tenth of it, at most a second."""
    return draw * min(0.1 * pause, 1.0)


def _unwilling(error: UpstreamError, tried: Tried, setting: Setting, options: RetryOptions) -> str:
    again = "once" if isinstance(error, AuthFailed) and setting.key_worked else error.again
    if again == "no":
        return f"{error.code} is not cured by asking again"
    if again == "last_once" and not setting.last:
        return "another target could serve"
    if again in ("once", "last_once") and error.code in tried.codes:
        return f"{error.code} was answered by a retry already"
    if tried.tries >= options.attempts:
        return f"{tried.tries} tries at this target were made"
    if setting.retries >= options.attempts - 1:
        return f"the call's {options.attempts - 1} retries are used"
    return ""


def _drawn_pause(error: UpstreamError, tried: Tried, setting: Setting, options: RetryOptions) -> float:
    """The pause that is ours to choose."""
    if isinstance(error, AuthFailed):
        return AUTH_PAUSE_S
    if tried.tries == 1 and _unreached(error):
        return 0.0  # Most often the connection had just been closed.
    limited = isinstance(error, RateLimited)
    initial, longest = (2 * options.initial, 2.5 * options.max) if limited else (options.initial, options.max)
    return backoff(tried.tries, initial, longest, setting.draw())


def cost_of(error: UpstreamError, tried: Tried) -> float:
    """What answering this failure with a retry draws on the target's budget."""
    if _unreached(error):
        return 0.0 if tried.tries == 1 else COST_LIGHT
    return COST_LIGHT if isinstance(error, RateLimited | Overloaded) else COST


def _unreached(error: UpstreamError) -> bool:
    return isinstance(error, ConnectionFailed) and error.billed == "no"


class Retry:
    """The layer."""

    def __init__(self, options: RetryOptions, world: World) -> None:
        self.options, self.world = options, world
        self._peek = world.health.peek
        self._drawn: set[tuple[str, str, str]] = set()
        """Targets whose budget paid for a retry and is not full again."""
        self._noted: dict[tuple[str, str], float] = {}  # When it was last written down that a key works.

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Answer `call`, asking its target again where that can help. Raises CoolingDown, or the last failure."""
        latest = self._peek(LATEST, ANY)  # Most calls find no gate armed and need look no further.
        try:
            if latest is not None and self.world.clock.now() < latest.until:
                reply = await self.ask(call, forward)
            else:
                reply = await forward(call)
        except UpstreamError as error:
            return await self._again(call, forward, error)
        self._succeeded(reply)
        return reply

    async def _again(self, call: Call, forward: Handler, error: UpstreamError) -> Reply:
        """Everything after the first failure."""
        round_ = _Round(self, call, error)
        if not round_.worth_another(error):
            raise error
        await self.world.clock.sleep(round_.delay)
        try:
            async for attempt in AsyncRetrying(
                sleep=self.world.clock.sleep,
                retry=retry_if_exception(round_.worth_another),
                wait=lambda _: round_.delay,
                stop=lambda _: False,
                reraise=True,
            ):
                with attempt:
                    # Not in a local: an earlier error knows this frame, and would hold a reply that was dropped.
                    return await self._paid_try(round_, forward)
        except Refused as refusal:
            raise round_.error from refusal  # What the upstream said tells more than that we would not ask again.
        raise round_.error

    async def _paid_try(self, round_: _Round, forward: Handler) -> Reply:
        reply = await self.ask(round_.call, forward)
        self._succeeded(reply, round_)
        return reply

    # --- gates ----------------------------------------------------------------------------------------

    def arm(self, call: Call, target: Target, error: UpstreamError) -> None:
        """A pause that the upstream asked for concerns every call of the router."""
        told = error.retry_after
        if told is None or told <= 0:
            return
        until, health = self.world.clock.now() + told, self.world.health
        scope = "target" if error.scope == "provider" and target.dialect != "openrouter" else error.scope
        subject = subject_of(target, scope, error.provider)
        if health.of(GATE, subject, Gate).arm(until):
            health.of(LATEST, ANY, Gate).arm(until)
            call.note(GateArmed(scope=scope, subject=str(subject), for_s=told))

    async def ask(self, call: Call, forward: Handler) -> Reply:
        """One try, through the gates and around providers that are cooling down.

        Raises CoolingDown when the wait would be longer than this call may be.
        """
        await self._wait(call, self._gates_of(call.target))
        cooling = self._cooling(call)
        if not cooling:
            return await forward(call)
        around = ignoring(call, tuple(cooling), "cooling down", IGNORED)
        if around is not call:
            try:
                return await forward(around)
            except NoRoute:
                call.note(IgnoreDropped(model=call.target.model, providers=tuple(cooling)))
        # Nobody else serves this model: the first of them that may be asked again.
        await self._wait(call, [min(cooling.values(), key=lambda gate: gate.until)])
        return await forward(call)

    async def _wait(self, call: Call, gates: Sequence[Gate]) -> None:
        """Wait until all of the gates are open. Raises CoolingDown."""
        clock, waited = self.world.clock, 0.0
        while (wait := max((gate.wait(clock.now()) for gate in gates), default=0.0)) > 0:
            patience = (PATIENCE_LAST_S if call.last else self.options.patience) - waited
            most = (NEVER if call.deadline is None else call.deadline - clock.now()) - MIN_ATTEMPT_S
            if wait > patience or wait >= most:
                raise CoolingDown(f"{call.target} asked for a pause of another {show_duration(wait)}", retry_after=wait)
            wait = min(wait + spread(wait, self.world.random.random()), patience, most)
            call.note(GateAwaited(model=call.target.model, delay_s=wait))
            await clock.sleep(wait)
            waited += wait

    def _gates_of(self, target: Target) -> list[Gate]:
        """The gates that concern every call to this target."""
        scopes: tuple[Scope, ...] = ("target", "key", "free") if target.model.endswith(":free") else ("target", "key")
        gates = (self._peek(GATE, subject_of(target, scope, None)) for scope in scopes)
        return [gate for gate in gates if gate is not None]

    def _cooling(self, call: Call) -> dict[str, Gate]:
        """The providers of this model that may serve this request and asked for a pause."""
        now, target = self.world.clock.now(), call.target
        if call.method != "POST":
            return {}
        return {
            subject.provider: gate
            for subject, gate in self.world.health.each(GATE)
            if isinstance(subject, Subject)
            and subject.provider
            and (subject.upstream, subject.key, subject.model) == (target.upstream, target.key, target.model)
            and gate.wait(now) > 0
            and may_serve(call, subject.provider)
        }

    # --- what is remembered ---------------------------------------------------------------------------

    def _succeeded(self, reply: Reply, round_: _Round | None = None) -> None:
        now, target = self.world.clock.now(), reply.attempt.target
        key = target.upstream, target.key
        if now - self._noted.get(key, -NEVER) > NOTED_S:
            self._noted[key] = now
            self.world.health.of(WORKED, key, Worked).at = now
        if self._drawn:  # A full budget takes nothing back.
            place = target.upstream, target.key, target.model
            units = 1.0 if round_ is None else round_.drawn
            if place in self._drawn:
                bucket = self.bucket(target)
                bucket.give(units, now)
                if bucket.full:
                    self._drawn.discard(place)

    def key_worked(self, target: Target) -> bool:
        """Whether this key was accepted not long ago."""
        worked = self._peek(WORKED, (target.upstream, target.key))
        return worked is not None and self.world.clock.now() - worked.at <= AUTH_GRACE_S

    def drew(self, target: Target, cost: float) -> bool:
        """Take the cost of a retry from the budget of the target; False where it is spent."""
        self._drawn.add((target.upstream, target.key, target.model))
        return self.bucket(target).draw(cost, self.world.clock.now())

    def bucket(self, target: Target) -> Bucket:
        """The retry budget of the target."""
        subject = Subject(target.upstream, target.key, target.model)
        return self.world.health.of(BUCKET, subject, lambda: Bucket(Draw(), self.world.clock.now()))


class _Round:
    """The retries of one pass of one call through the layer."""

    def __init__(self, layer: Retry, call: Call, error: UpstreamError) -> None:
        self._layer, self._tried = layer, Tried()
        self.call, self.error = call, error
        """As it is asked next, and the latest failure."""
        self.delay = self.drawn = 0.0
        self._lowered = False

    def worth_another(self, error: BaseException) -> bool:
        """The question after each failure; the pause that goes with a yes is kept in `delay`."""
        if not isinstance(error, UpstreamError):
            return False
        call, layer, self.error = self.call, self._layer, error
        target = failed_at(call, error)
        layer.arm(call, target, error)
        setting = self._setting(target)
        if self._lowers(error, setting.left):
            return True
        verdict = next_try(error, self._tried, setting, layer.options)
        if not isinstance(verdict, str):
            cost = cost_of(error, self._tried)
            if layer.drew(target, cost):
                return self._schedule(target, error, verdict, cost)
            verdict = "the target's retry budget is spent"
        call.note(RetryDeclined(model=target.model, error=error.code, reason=verdict))
        return False

    def _schedule(self, target: Target, error: UpstreamError, delay: float, cost: float) -> bool:
        self.delay, self.drawn = delay, cost
        self._tried.tries += 1
        self._tried.codes.append(error.code)
        self.call.trail.retries += 1
        self.call.note(RetryScheduled(model=target.model, error=error.code, delay_s=delay))
        return True

    def _setting(self, target: Target) -> Setting:
        call, world = self.call, self._layer.world
        return Setting(
            retries=call.trail.retries,
            left=NEVER if call.deadline is None else call.deadline - world.clock.now(),
            last=call.last,
            draw=world.random.random,
            key_worked=self._layer.key_worked(target),
        )

    def _lowers(self, error: UpstreamError, left: float) -> bool:
        """Whether fewer tokens would be paid for: the request is mended, once, and asked again at once."""
        tokens = getattr(error, "affordable", None)
        if not tokens or self._lowered or left <= MIN_ATTEMPT_S or tokens >= asked_tokens(self.call.body):
            return False
        self._lowered, self.delay = True, 0.0
        self.call = self.call.to(body=with_tokens(self.call.body, tokens))
        self.call.note(TokensLowered(model=self.call.target.model, max_tokens=tokens))
        return True


def failed_at(call: Call, error: UpstreamError) -> Target:
    """Where this error happened: above a chain that is not the call's own target."""
    tries = reversed(call.trail.attempts)
    return next((attempt.target for attempt in tries if attempt.error is error), call.target)
