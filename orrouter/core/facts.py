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
    """A call is over. `outcome` is `ok` or the code of its error; `cost_nano` of its last try, None if unknown."""

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
class TokensClamped(Fact):
    """A limit left room for fewer tokens than were asked for: so many were sent as `max_tokens`."""

    model: str
    asked: int
    max_tokens: int
    room_nano: int


@dataclass(frozen=True, kw_only=True)
class HoldTaken(Fact):
    """The worst case of a try was held in every account and cap; `estimate` says why it is no proof, if so."""

    model: str
    hold: str
    held_nano: int
    accounts: tuple[str, ...]
    estimate: str = ""


@dataclass(frozen=True, kw_only=True)
class HoldSettled(Fact):
    """The cost of a try is known: `provenance` is `billed`, `computed` or `free` (nothing was sent or billed)."""

    model: str
    hold: str
    held_nano: int
    cost_nano: int
    provenance: str


@dataclass(frozen=True, kw_only=True)
class HoldSuspended(Fact):
    """Nobody knows what a try cost: its worst case stays charged until it is reconciled."""

    model: str
    hold: str
    held_nano: int
    reason: str
    generation_id: str | None


@dataclass(frozen=True, kw_only=True)
class HoldExceeded(Fact):
    """A try cost more than was held for it: a price or a bound was broken upstream."""

    model: str
    provider: str | None
    hold: str
    held_nano: int
    cost_nano: int


@dataclass(frozen=True, kw_only=True)
class BudgetThresholdPassed(Fact):
    """An account passed a soft threshold of a window, told once: so many percent of its limit."""

    account: str
    period: str
    percent: int
    charged_nano: int
    limit_nano: int


@dataclass(frozen=True, kw_only=True)
class LedgerBypassed(Fact):
    """The ledger could not be asked and the policy says fail_open: the call went on without a hold."""

    model: str
    hold: str
    held_nano: int
    accounts: tuple[str, ...]
    error: str


@dataclass(frozen=True, kw_only=True)
class LedgerTroubled(Fact):
    """Something is wrong with the ledger that refuses no call: its clock was set back, a word cannot be written."""

    message: str


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
class HoldReconciled(Fact):
    """A try whose cost was unknown is settled. `provenance`: `reconciled`, `bounded` or `written_off`."""

    hold: str
    upstream: str
    model: str
    held_nano: int
    cost_nano: int
    provenance: str


@dataclass(frozen=True, kw_only=True)
class ReconcileFailed(Fact):
    """An upstream, or the ledger (then `upstream` is empty), could not be asked about unknown costs."""

    upstream: str
    error: str
    retry_in_s: float


@dataclass(frozen=True, kw_only=True)
class PolicyReloaded(Fact):
    """The router took a changed policy."""

    file: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try as it stands in the record. Times are seconds since the call began, amounts nano-USD.

    `provenance` says how the cost is known: `billed` by the upstream, `computed` from the usage, `free` (nothing was
    sent or billed), `unknown` (the worst case stays held); empty where no limit asked and the upstream did not say.
    `held_nano` is that worst case, None under no limit; `estimate` says why it is no proof, if so.
    """

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
    provenance: str = ""
    held_nano: int | None = None
    estimate: str = ""

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
    def cost_nano(self) -> int | None:
        """What the whole call cost, tries that failed included; None where a try's cost is unknown.

        Under no limit only what upstreams said is counted: a try that broke off may have cost more.
        """
        costs = [attempt.cost_nano if attempt.provenance else 0 for attempt in self.attempts]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def waited_s(self) -> float:
        """Seconds that were waited before retries and at gates."""
        return sum(fact.delay_s for fact in self.facts if isinstance(fact, RetryScheduled | GateAwaited))
