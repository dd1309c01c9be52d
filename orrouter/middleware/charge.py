"""The charge of one try: what is held for it in purses and accounts, and how that is resolved, exactly once.

Law: it is told what to hold and how the try ended. What a try may cost and how it is sent is the gate's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil
from typing import Any, Literal

from orrouter.catalog.usage import Counts
from orrouter.core.call import Attempt, Call
from orrouter.core.cost import NONSENSE_USD, misread, said_cost
from orrouter.core.errors import CapReached, LedgerUnavailable, UpstreamError
from orrouter.core.events import End, Event
from orrouter.core.facts import (
    AttemptStarted,
    BudgetThresholdPassed,
    HoldExceeded,
    HoldSettled,
    HoldSuspended,
    HoldTaken,
    LedgerBypassed,
)
from orrouter.core.limit import Cap
from orrouter.core.money import NANO
from orrouter.core.outcome import outcome_of
from orrouter.ledger.base import Crossed, Hold
from orrouter.middleware.base import World

Known = Literal["billed", "computed", "free"]


def verdict(attempt: Attempt, end: End) -> tuple[Known | None, int | None]:
    """What a try cost as far as it can be told now, in nano-USD, and how that is known; None: it cannot be told.

    Only a whole answer's usage is a cost: one that broke off may have been billed for more than it had said. Nothing
    was billed only where nothing was sent, or the upstream refused in a way that bills nothing. A whole answer without
    a cost is `computed`, by whoever knows the prices.
    """
    whole = end.error is None or end.finish_reason is not None
    cost = said_cost(end.usage) if whole else None
    if cost is not None:
        return "billed", cost
    if attempt.phase == "not_sent":
        return "free", 0
    if isinstance(end.error, UpstreamError) and end.error.billed == "no":
        return "free", 0
    return ("computed" if end.error is None and end.usage else None), None


def credible(usage: Mapping[str, Any], *, wrote: bool) -> bool:
    """Whether a usage counts what every answer has: a prompt, and where a model `wrote`, what it wrote.

    One that leaves half of it out would be billed at half of what it cost.
    """
    counts = None if misread(usage) else Counts.read(usage)
    return counts is not None and counts.prompt > 0 and (counts.completion > 0 or not wrote)


def computed(usage: Mapping[str, Any], attempt: Attempt, world: World, headroom: float) -> int | None:
    """What a usage costs by the list prices of the model that answered, in nano-USD; None when they are not known.

    OpenRouter may have asked an endpoint that is dearer than listed, by as much as was let through: that counts.
    """
    upstream = attempt.target.upstream
    model = world.catalog.get(attempt.model, upstream) or world.catalog.get(attempt.target.model, upstream)
    cost = None if model is None else model.price.cost(usage, datetime.fromtimestamp(world.clock.wall(), UTC))
    if cost is not None and attempt.target.dialect == "openrouter":
        cost = ceil(cost * Fraction(str(headroom)))
    return None if cost is None or cost >= NONSENSE_USD * NANO else cost


class Meter:
    """Counts what a stream says, and cuts one that says more than it was paid for. Raises CapReached."""

    __slots__ = ("_held", "_left", "_tokens")

    def __init__(self, tokens: int, slack: int, held: int) -> None:
        self._tokens, self._left, self._held = tokens, tokens + slack, held

    def __call__(self, event: Event) -> None:
        """One more event; each that says something is a token at least."""
        if event.semantic:
            self._left -= 1
            if self._left < 0:
                raise CapReached(
                    f"the stream went on after the {self._tokens} tokens that were asked and paid for: it was cut",
                    held=self._held,
                )


class Charge:
    """One try's hold, taken out of the purses when it is made. It resolves itself when it is told the end."""

    __slots__ = ("_attempt", "_call", "_caps", "_done", "_headroom", "_in_ledger", "_world", "hold")

    def __init__(self, world: World, call: Call, hold: Hold, caps: Sequence[Cap], headroom: float) -> None:
        assert call.attempt is not None, "a charge is that of a try"
        self._world, self._call, self._attempt, self.hold = world, call, call.attempt, hold
        self._caps, self._headroom = caps, headroom
        self._in_ledger = self._done = False
        for cap in caps:
            cap.purse.take(hold.id, hold.amount)  # It fits: nothing was awaited since `fit` looked.

    def admitted(self, crossed: Sequence[Crossed]) -> None:
        """The accounts hold it. From here on whatever is raised is given back by `end`."""
        self._in_ledger = True
        if self._world.ledger.outlives:  # A process that dies now leaves the id behind; else the end is soon enough.
            self._attempt.on_named = self._named
        for one in crossed:
            self._call.note(
                BudgetThresholdPassed(
                    account=one.account,
                    period=one.period,
                    percent=round(one.part * 100),
                    charged_nano=one.charged,
                    limit_nano=one.limit,
                )
            )

    def tell(self, estimate: str) -> None:
        """It is held, and the try begins: for whoever listens."""
        hold, trail = self.hold, self._call.trail
        names = tuple([account.name for account in hold.accounts])
        trail.tell(HoldTaken(model=hold.model, hold=hold.id, held_nano=hold.amount, accounts=names, estimate=estimate))
        trail.tell(AttemptStarted(number=self._attempt.number, upstream=hold.upstream, model=hold.model))

    def goes_on_without(self, error: BaseException) -> bool:
        """Whether it goes on though no account holds it, as where all fail open; else nothing is held at all."""
        hold = self.hold
        closed = any(account.on_store_error == "fail_closed" for account in hold.accounts)
        if closed or not isinstance(error, LedgerUnavailable):
            self._give_back()
            return False
        names = tuple(account.name for account in hold.accounts)
        self._call.note(
            LedgerBypassed(model=hold.model, hold=hold.id, held_nano=hold.amount, accounts=names, error=error.message)
        )
        return True

    def _named(self, generation_id: str) -> None:
        self._world.ledger.identify(self.hold.id, generation_id)

    def _give_back(self) -> None:
        """Nothing is held, and nothing is left to be told."""
        self._done = True
        for cap in self._caps:
            cap.purse.settle(self.hold.id, 0)

    def end(self, end: End) -> None:
        """The try is over: settle it, or keep its worst case charged until somebody knows. Once."""
        if self._done:
            return
        self._done = True
        self._attempt.on_named = None  # Nobody asks any more; and the try must not hold what holds it.
        known, cost = verdict(self._attempt, end)
        if known == "computed" and end.usage and credible(end.usage, wrote=self._call.completes):
            cost = computed(end.usage, self._attempt, self._world, self._headroom)
        if known is None or cost is None:
            self._suspend(end)
        else:
            self._settle(known, cost)

    def _settle(self, known: Known, cost: int) -> None:
        hold, attempt = self.hold, self._attempt
        attempt.settled, attempt.provenance = cost, known
        for cap in self._caps:
            cap.purse.settle(hold.id, cost)
        if self._in_ledger and known != "free":
            # A computed cost may be above the true one: with a provider's name it would pass for what the key has paid.
            provider = (attempt.provider or "") if known == "billed" else ""
            model = attempt.model or hold.model
            self._world.ledger.settle(hold.id, cost, provenance=known, provider=provider, model=model)
        elif self._in_ledger:
            self._world.ledger.release(hold.id)
        elif hold.accounts and cost:
            self._world.ledger.post(hold, cost)
        if cost > hold.amount or self._call.trail.listener is not None:
            self._tell_settled(known, cost)

    def _tell_settled(self, known: Known, cost: int) -> None:
        hold, attempt, trail = self.hold, self._attempt, self._call.trail
        if cost > hold.amount:
            trail.note(
                HoldExceeded(
                    model=attempt.model, provider=attempt.provider, hold=hold.id, held_nano=hold.amount, cost_nano=cost
                )
            )
        trail.tell(
            HoldSettled(model=attempt.model, hold=hold.id, held_nano=hold.amount, cost_nano=cost, provenance=known)
        )

    def _suspend(self, end: End) -> None:
        hold, attempt = self.hold, self._attempt
        attempt.provenance = "unknown"
        reason = outcome_of(end.error) if end.error is not None else "no_usage"
        if self._in_ledger:
            if attempt.generation_id:
                self._named(attempt.generation_id)
            self._world.ledger.suspend(hold.id, reason)
            self._world.on_suspense()
        elif hold.accounts:
            self._world.ledger.post(hold, hold.amount)
        self._call.note(
            HoldSuspended(
                model=attempt.model,
                hold=hold.id,
                held_nano=hold.amount,
                reason=reason,
                generation_id=attempt.generation_id,
            )
        )
