"""What happened: facts that go out at the side, and the decision record that a call leaves behind.

Law: frozen values, named in the past tense, with the unit in the name (`delay_s`); no behaviour but
showing themselves. Who listens is the router's affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that happened. The trail stamps `request_id` and `at_s` (seconds since the call began)."""

    request_id: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CallStarted(Fact):
    """A call was accepted and its policy chosen."""

    endpoint: str
    policy: str
    model: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CallEnded(Fact):
    """A call is over. `outcome` is `ok` or the code of its error; `cost_nano` in nano-USD, None if unknown."""

    outcome: str
    attempts: int
    model: str
    duration_s: float
    cost_nano: int | None = None


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Fact):
    """A try was handed to the transport."""

    number: int
    upstream: str
    model: str


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(Fact):
    """A try is over. `outcome` is `ok`, `left` (nobody read on), `cancelled` or the code of its error."""

    number: int
    upstream: str
    model: str
    provider: str | None
    outcome: str
    status: int | None
    duration_s: float
    generation_id: str | None


@dataclass(frozen=True, kw_only=True)
class RetryScheduled(Fact):
    """The same target will be asked again after `delay_s`."""

    model: str
    error: str
    delay_s: float


@dataclass(frozen=True, kw_only=True)
class RetryDeclined(Fact):
    """The same target is not asked again, and why."""

    model: str
    error: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TokensLowered(Fact):
    """The upstream could afford fewer tokens: asked once more with so many."""

    model: str
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class GateArmed(Fact):
    """Somebody has to wait: `subject` (a target, a provider of a model, the free models, a key)."""

    scope: str
    subject: str
    for_s: float


@dataclass(frozen=True, kw_only=True)
class GateAwaited(Fact):
    """A call waited for a gate before it asked."""

    model: str
    delay_s: float


@dataclass(frozen=True, kw_only=True)
class TargetSkipped(Fact):
    """A target of the chain was not asked, and why."""

    model: str
    upstream: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FallbackTaken(Fact):
    """The chain went on to its next target."""

    failed: str
    error: str
    model: str


@dataclass(frozen=True, kw_only=True)
class BreakerOpened(Fact):
    """A breaker opened: `subject` is left alone for `for_s`."""

    subject: str
    for_s: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class BreakerHalfOpened(Fact):
    """A breaker lets one probe through."""

    subject: str


@dataclass(frozen=True, kw_only=True)
class BreakerClosed(Fact):
    """A breaker found its subject well again."""

    subject: str


@dataclass(frozen=True, kw_only=True)
class ProviderIgnored(Fact):
    """A provider was added to `provider.ignore` of a request, by the breaker or a gate."""

    model: str
    provider: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class IgnoreDropped(Fact):
    """Our own `provider.ignore` left no provider: the request was sent again without it."""

    model: str
    providers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EventsSkipped(Fact):
    """Events of a stream that were no JSON were skipped."""

    model: str
    count: int


@dataclass(frozen=True, kw_only=True)
class SpellingTranslated(Fact):
    """A request used a spelling that the upstream has since changed."""

    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class CatalogRefreshed(Fact):
    """The catalog of models was replaced."""

    models: int
    source: str


@dataclass(frozen=True, kw_only=True)
class CatalogKept(Fact):
    """A refresh failed or brought something unfit; the old catalog stays."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class PolicyReloaded(Fact):
    """The router took a changed policy."""

    file: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try as it stands in the record. Times are seconds since the call began; `cost_nano` in nano-USD."""

    number: int
    upstream: str
    model: str
    provider: str | None
    outcome: str
    status: int | None
    message: str
    started_s: float
    first_token_s: float | None
    ended_s: float | None
    generation_id: str | None
    finish_reason: str | None
    usage: dict[str, Any] | None
    cost_nano: int | None

    @property
    def duration_s(self) -> float | None:
        """How long the try took; None while it is under way."""
        return None if self.ended_s is None else self.ended_s - self.started_s


@dataclass(frozen=True, slots=True)
class Record:
    """Why a call went as it went: every try, every skipped target, every wait, in order."""

    request_id: str
    policy: str
    endpoint: str
    tags: dict[str, str]
    outcome: str
    duration_s: float
    attempts: tuple[AttemptRecord, ...]
    facts: tuple[Fact, ...]
    content: dict[str, Any] | None = None
    """What was asked and said; None unless the policy says `record: {content: true}`."""

    @property
    def skipped(self) -> tuple[TargetSkipped, ...]:
        """The targets that were not asked, each with its reason."""
        return tuple(fact for fact in self.facts if isinstance(fact, TargetSkipped))

    @property
    def waited_s(self) -> float:
        """Seconds that were waited before retries and at gates."""
        return sum(fact.delay_s for fact in self.facts if isinstance(fact, RetryScheduled | GateAwaited))
