"""retry: asks the same target again, later, when that can help.

Full jitter, never earlier than the upstream said, never past the deadline, no sleep after the last failure, and no
long sleep while another target could serve. A pause that an upstream asked for arms a gate that every call of the
router respects. Law: whether and when is decided by `next_try`, a pure function; tenacity only walks the loop, and
is entered only after a first failure, because building it costs more than the rest of a call that succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from orrouter.core.call import Call, Key, Target
from orrouter.core.errors import (
    AuthFailed,
    ConnectionFailed,
    CoolingDown,
    NoRoute,
    Overloaded,
    RateLimited,
    Refused,
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
from orrouter.core.health import Bucket, Draw, Gate, Subject, subject_of
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.core.units import show_duration
from orrouter.middleware.base import Duration, Middleware, Options, World
from orrouter.middleware.preferences import ignoring

GATE = Key[Gate]("gate")
IGNORED = Key[tuple[str, ...]]("ignored_by_retry")
BUCKET = Key[Bucket]("retry_budget")
MIN_ATTEMPT_S = 1.0
"""No further try begins with less time left than this."""
PATIENCE_LAST_S = 30.0
"""How long a pause may be where nobody else could serve."""
AUTH_GRACE_S, AUTH_PAUSE_S = 600.0, 1.0
"""A key that worked this recently is asked once more after a pause: outages have shown themselves as 401."""
COST, COST_LIGHT = 14.0, 5.0
"""What a retry draws on the budget; less where the upstream only asked for patience."""


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
        return Retry(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        if self.attempts == 1:
            return "asks no target twice"
        return (
            f"up to {self.attempts} tries at a target, pauses drawn from up to {show_duration(self.initial)} doubling to "
            f"{show_duration(self.max)}, at most {show_duration(self.patience)} while another target could serve, "
            f"{show_duration(PATIENCE_LAST_S)} where none could"
        )


@dataclass(slots=True)
class Tried:
    """What has happened at this target in this pass."""

    tries: int = 1
    codes: list[str] = field(default_factory=list)
    """The codes that a retry has answered already."""


@dataclass(frozen=True, slots=True)
class Setting:
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
    """Seconds to wait before the same target is asked again, or the reason why it is not."""
    reason = _unwilling(error, tried, setting, options)
    if reason:
        return reason
    delay = _pause(error, tried, setting, options)
    patience = PATIENCE_LAST_S if setting.last else options.patience
    if delay > patience:
        return f"a pause of {show_duration(delay)} is longer than the patience of {show_duration(patience)}"
    if delay >= setting.left - MIN_ATTEMPT_S:
        return f"a pause of {show_duration(delay)} would leave no time before the deadline"
    return delay


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


def _pause(error: UpstreamError, tried: Tried, setting: Setting, options: RetryOptions) -> float:
    if isinstance(error, AuthFailed):
        return AUTH_PAUSE_S
    if isinstance(error, ConnectionFailed) and error.billed == "no" and tried.tries == 1:
        return 0.0  # Nothing was sent: most often a connection that had just been closed.
    limited = isinstance(error, RateLimited)
    initial, longest = (2 * options.initial, 2.5 * options.max) if limited else (options.initial, options.max)
    delay = backoff(tried.tries, initial, longest, setting.draw())
    told = error.retry_after
    if told is not None:
        delay = max(delay, told + setting.draw() * min(0.1 * told, 1.0))
    return delay


class Retry:
    """The layer."""

    def __init__(self, options: RetryOptions, world: World) -> None:
        self._options, self._world = options, world
        self._gates_until = 0.0
        """No gate is armed beyond this instant: most calls need look no further."""
        self._drawn = False
        """Whether any retry was paid for."""
        self._worked: dict[str, float] = {}

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        gated = self._gates_until and self._world.clock.now() < self._gates_until
        asked = await self._through_gates(call) if gated else call
        try:
            reply = await forward(asked)
        except UpstreamError as error:
            return await self._again(call, asked, forward, error)
        self._succeeded(call.target)
        return reply

    # --- the loop -------------------------------------------------------------------------------------

    async def _again(self, call: Call, asked: Call, forward: Handler, error: UpstreamError) -> Reply:
        """Everything after the first failure."""
        round_ = _Round(self, call, asked)
        failure: UpstreamError | None = error
        try:
            async for attempt in AsyncRetrying(
                sleep=self._world.clock.sleep,
                retry=retry_if_exception(round_.worth_another),
                wait=round_.wait,
                stop=_never,
                reraise=True,
            ):
                with attempt:
                    if failure is not None:
                        first, failure = failure, None
                        raise first
                    # Not kept in a local: the first error knows this frame, and would hold a reply that is dropped.
                    return await round_.ask(forward)
        except Refused as refusal:
            raise error from refusal  # What the upstream said tells more than that we would not ask again.
        raise error

    # --- gates ----------------------------------------------------------------------------------------

    def arm(self, call: Call, error: UpstreamError) -> None:
        """A pause that the upstream asked for concerns every call of the router."""
        if error.retry_after is None or error.retry_after <= 0:
            return
        now = self._world.clock.now()
        subject = subject_of(call.target, error.scope, error.provider)
        gate = self._world.health.of(GATE, subject, Gate)
        if gate.arm(now + error.retry_after):
            self._gates_until = max(self._gates_until, gate.until)
            call.note(GateArmed(scope=error.scope, subject=str(subject), for_s=error.retry_after))

    async def _through_gates(self, call: Call) -> Call:
        """Wait for the gates that concern this call, and go around providers that are cooling down.

        Raises CoolingDown when the wait is longer than this call may be.
        """
        clock, waited = self._world.clock, 0.0
        while (wait := self._gate_wait(call.target, clock.now())) > 0:
            patience = PATIENCE_LAST_S if call.last else self._options.patience
            left = float("inf") if call.deadline is None else call.deadline - clock.now()
            if waited + wait > patience or wait >= left - MIN_ATTEMPT_S:
                raise CoolingDown(f"{call.target} asked for a pause of another {show_duration(wait)}", retry_after=wait)
            wait += self._world.random.random() * min(0.1 * wait, 1.0)
            call.note(GateAwaited(model=call.target.model, delay_s=wait))
            await clock.sleep(wait)
            waited += wait
        return self._around(call)

    def _gate_wait(self, target: Target, now: float) -> float:
        peek = self._world.health.peek
        subjects = [subject_of(target, "target", None), subject_of(target, "key", None)]
        if target.model.endswith(":free"):
            subjects.append(subject_of(target, "free", None))
        return max((gate.wait(now) for subject in subjects if (gate := peek(GATE, subject)) is not None), default=0.0)

    def _around(self, call: Call) -> Call:
        """Name the providers that are cooling down in `provider.ignore`, while another may remain."""
        if call.target.dialect != "openrouter" or not call.completes:
            return call
        now, target = self._world.clock.now(), call.target
        cooling = [
            subject.provider
            for subject, gate in self._world.health.each(GATE)
            if isinstance(subject, Subject)
            and subject.provider
            and (subject.upstream, subject.key, subject.model) == (target.upstream, target.key, target.model)
            and gate.wait(now) > 0
        ]
        return ignoring(call, cooling, "cooling down", IGNORED) if cooling else call

    # --- what is remembered ---------------------------------------------------------------------------

    def _succeeded(self, target: Target) -> None:
        now = self._world.clock.now()
        self._worked[target.key] = now
        if self._drawn:  # A full budget takes nothing back.
            self.bucket(target).give(1.0, now)

    def key_worked(self, target: Target) -> bool:
        """Whether this key was accepted not long ago."""
        worked = self._worked.get(target.key)
        return worked is not None and self._world.clock.now() - worked <= AUTH_GRACE_S

    def bucket(self, target: Target) -> Bucket:
        """The retry budget of the target."""
        self._drawn = True
        now = self._world.clock.now()
        subject = Subject(target.upstream, target.key, target.model)
        return self._world.health.of(BUCKET, subject, lambda: Bucket(Draw(), now))

    @property
    def world(self) -> World:
        """Time and chance."""
        return self._world

    @property
    def options(self) -> RetryOptions:
        """The options it was built from."""
        return self._options

    async def ask(self, call: Call, forward: Handler) -> Reply:
        """One further try, through the gates."""
        return await forward(await self._through_gates(call))


class _Round:
    """The retries of one pass of one call through the layer."""

    def __init__(self, layer: Retry, call: Call, asked: Call) -> None:
        self._layer, self._call, self._tried = layer, call, Tried()
        self._asked = asked
        self._delay = self._drawn = 0.0
        self._lowered = self._dropped = False

    def worth_another(self, error: BaseException) -> bool:
        """tenacity's question after each failure; the answer's delay is kept for `wait`."""
        if not isinstance(error, UpstreamError):
            return False
        call, layer = self._call, self._layer
        layer.arm(call, error)
        if self._cured(error):
            self._delay = 0.0
            return True
        verdict = next_try(error, self._tried, self._setting(), layer.options)
        if not isinstance(verdict, str):
            cost = COST_LIGHT if isinstance(error, RateLimited | Overloaded) or error.billed == "no" else COST
            now = layer.world.clock.now()
            if layer.bucket(call.target).draw(cost, now):
                return self._schedule(error, verdict, cost)
            verdict = "the target's retry budget is spent"
        call.note(RetryDeclined(model=call.target.model, error=error.code, reason=verdict))
        return False

    def _schedule(self, error: UpstreamError, delay: float, cost: float) -> bool:
        self._delay, self._drawn = delay, cost
        self._tried.tries += 1
        self._tried.codes.append(error.code)
        self._call.trail.retries += 1
        self._call.note(RetryScheduled(model=self._call.target.model, error=error.code, delay_s=delay))
        return True

    def _setting(self) -> Setting:
        call, world = self._call, self._layer.world
        return Setting(
            retries=call.trail.retries,
            left=float("inf") if call.deadline is None else call.deadline - world.clock.now(),
            last=call.last,
            draw=world.random.random,
            key_worked=self._layer.key_worked(call.target),
        )

    def _cured(self, error: UpstreamError) -> bool:
        """Whether the request itself can be mended: fewer tokens, or without a provider we had left out."""
        added = self._asked.get(IGNORED)
        if isinstance(error, NoRoute) and added and not self._dropped:
            self._dropped = True
            self._call.note(IgnoreDropped(model=self._call.target.model, providers=added))
            return True
        tokens = getattr(error, "affordable", None)
        if not tokens or self._lowered or tokens >= asked_tokens(self._call):
            return False
        self._lowered = True
        self._call = self._call.to(body=with_tokens(self._call, tokens))
        self._call.note(TokensLowered(model=self._call.target.model, max_tokens=tokens))
        return True

    def wait(self, state: RetryCallState) -> float:
        """tenacity's wait: what was decided."""
        return self._delay

    async def ask(self, forward: Handler) -> Reply:
        layer = self._layer
        if self._dropped:
            reply = await forward(self._call)
        else:
            self._asked = self._call
            reply = await layer.ask(self._call, forward)
        layer.bucket(self._call.target).give(self._drawn, layer.world.clock.now())
        return reply


def _never(state: RetryCallState) -> bool:
    return False


def asked_tokens(call: Call) -> float:
    """`max_tokens` or `max_completion_tokens` of the request; infinite where neither is set."""
    asked = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
    return float(asked) if isinstance(asked, int) else float("inf")


def with_tokens(call: Call, tokens: int) -> dict[str, Any]:
    """The body with its output limited to so many tokens, under the name the caller used."""
    name = "max_completion_tokens" if "max_completion_tokens" in call.body else "max_tokens"
    return {**call.body, name: tokens}
