"""reserve: the money gate. No byte leaves before its worst case is held, and no hold is forgotten.

Innermost, always there; without limits it does nothing. Law: it alone prices, clamps, holds and settles, each try on
its own. What a request may cost is `catalog.ceiling`, what the purses can pay `affordable`, the sums are the ledger's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from orrouter.catalog.ceiling import Bounds, Ceiling, Unbounded, ceiling
from orrouter.catalog.fields import LENGTH
from orrouter.catalog.model import Model
from orrouter.core import money
from orrouter.core.call import Attempt, Call
from orrouter.core.errors import Unpriced
from orrouter.core.events import End
from orrouter.core.facts import TokensClamped
from orrouter.core.limit import Account, Cap, Limit
from orrouter.core.pipeline import Handler
from orrouter.core.reply import Reply
from orrouter.ledger.base import Hold, new_hold_id
from orrouter.middleware.affordable import fit
from orrouter.middleware.base import Middleware, Money, Options, World
from orrouter.middleware.charge import Charge, Meter
from orrouter.middleware.own import own
from orrouter.wire.words import is_object

NONE: Final[Mapping[str, Any]] = {}
SLACK: Final = 16
"""Events of a stream beyond `max_tokens` that are no tokens: the beginning of a tool call, a last word of usage."""


class ReserveOptions(Options):
    """Options of `reserve`. Without a limit above it, it does nothing."""

    kind: ClassVar[str] = "reserve"
    max_tokens: Annotated[int, Field(gt=0)] = 4096
    """Sent where the caller names none: an answer without an end has no worst case."""
    image_tokens: Annotated[int | None, Field(gt=0)] = None
    """Tokens of one picture: a bound that is no proof, and is labelled an estimate. Without it a picture counts as a
    whole context."""
    unknown_price: Literal["refuse"] | Money = "refuse"
    """A model whose price nobody knows: refuse it, or hold this sum for each request."""
    headroom: Annotated[float, Field(ge=1, le=100)] = 1.25
    """By how much an endpoint may be dearer than listed; held and sent as `provider.max_price`."""
    admit: tuple[str, ...] = ()
    """Fields of a request that are let through though nobody here knows whether they cost something."""
    fees: dict[str, Annotated[Money, Field(ge=0)]] = Field(default_factory=dict)
    """What to hold for a request that uses a plugin or a server tool, by its name: `web: $0.05`."""

    def build(self, world: World) -> Middleware:
        """The layer at work."""
        return Reserve(self, world)

    def says(self) -> str:
        """What it does with these options, in words."""
        unknown = (
            "refuses a model without a price"
            if isinstance(self.unknown_price, str)
            else f"holds {money.show(self.unknown_price)} for a model without a price"
        )
        return (
            "under a limit, holds the worst case of each try before it is sent: "
            f"{self.max_tokens} tokens where none are named, at {self.headroom:g} times the price; {unknown}"
        )

    @cached_property
    def bounds(self) -> Bounds:
        """The same for the ceiling."""
        return Bounds(
            max_tokens=self.max_tokens,
            image_tokens=self.image_tokens,
            headroom=Decimal(str(self.headroom)),
            admit=frozenset(self.admit),
            fees=self.fees,
        )


def bound(
    call: Call, body: Mapping[str, Any], find: Callable[[str, str], Model | None], options: ReserveOptions
) -> Ceiling:
    """The worst case of a call with this body at its target. Raises Unpriced, which names what admits it."""
    target, models = call.target, call.models
    also = {slug: find(slug, target.upstream) for slug in models if slug != target.model} if models else NONE
    model = find(target.model, target.upstream)
    try:
        return ceiling(
            body, call.endpoint, model, dialect=target.dialect, bounds=options.bounds, slug=target.model, also=also
        )
    except Unbounded as unbounded:
        if unbounded.option == "unknown_price" and not isinstance(options.unknown_price, str):
            return flat(options.unknown_price, body, options.max_tokens)
        said = str(unbounded)
        raise Unpriced(said if target.model and target.model in said else f"{target}: {said}") from None


class Reserve:
    """The layer."""

    def __init__(self, options: ReserveOptions, world: World) -> None:
        self.options, self._world, self._headroom = options, world, options.headroom

    def __call__(self, call: Call, forward: Handler) -> Awaitable[Reply]:
        """Forward `call`; under a limit only once its worst case is held.

        Raises CostCapExceeded, BudgetExceeded, Unpriced or LedgerUnavailable; then nothing was sent.
        """
        if not call.limits or call.method == "GET":
            return forward(call)
        return self._held(call, forward)

    async def _held(self, call: Call, forward: Handler) -> Reply:
        caps, accounts = _payers(call.limits)
        attempt, target, trail = call.attempt, call.target, call.trail
        assert attempt is not None, "reserve stands below attempt"
        body = own(call.body, trail.owned)
        worst = bound(call, body, self._world.catalog.get, self.options)
        tokens, cost, room = fit(worst, caps, last=call.last, model=target.model)
        hold = Hold(
            new_hold_id(), cost, accounts, target.upstream, target.key, target.model, trail.request_id, call.streamed
        )
        charge = Charge(self._world, call, hold, caps, self._headroom)
        try:
            if accounts:
                try:
                    crossed = await self._world.ledger.reserve(hold)
                except BaseException as error:
                    if not charge.goes_on_without(error):
                        raise
                else:
                    charge.admitted(crossed)
            attempt.held, attempt.estimate = cost, worst.estimate
            if trail.listener is not None:
                charge.tell(worst.estimate)
            if room is not None:
                _note_clamp(call, attempt, worst, tokens, room)
            reply = await forward(call.replaced("body", bounded(body, worst, tokens)))
        except BaseException as error:
            charge.end(End(None, None, error))
            raise
        events = reply.events
        if tokens and not events.ended:
            events.watch(Meter(tokens * worst.choices, SLACK, cost))
        events.on_end(charge.end)
        return reply


def _payers(limits: Sequence[Limit]) -> tuple[list[Cap], tuple[Account, ...]]:
    caps: list[Cap] = []
    accounts: list[Account] = []
    for limit in limits:
        if isinstance(limit, Cap):
            caps.append(limit)
        else:
            accounts.append(limit)
    return caps, tuple(accounts)


def _note_clamp(call: Call, attempt: Attempt, worst: Ceiling, tokens: int, room: int) -> None:
    attempt.tokens = tokens
    call.note(TokensClamped(model=call.target.model, asked=worst.tokens, max_tokens=tokens, room_nano=room))


def bounded(bounded: dict[str, Any], worst: Ceiling, tokens: int) -> dict[str, Any]:
    """The body made so that it cannot cost more than what is held: so many tokens, at these prices at most."""
    if worst.tokens:
        name, other = LENGTH
        if bounded.get(other) is None:
            bounded[name] = tokens
        else:
            bounded[other] = tokens
            if bounded.get(name) is not None:
                bounded[name] = tokens
    if worst.max_price is not None:
        asked = bounded.get("provider")
        if type(asked) is not dict:
            asked = asked if is_object(asked) else NONE
        bounded["provider"] = {**asked, "max_price": worst.max_price}
    return bounded


def flat(amount: int, body: Mapping[str, Any], max_tokens: int) -> Ceiling:
    """The ceiling that a policy sets for a model whose price nobody knows."""
    asked = next((body[name] for name in LENGTH if type(body.get(name)) is int), max_tokens)
    return Ceiling(
        input_tokens=0, tokens=asked, choices=1, fixed=amount, atto=0, max_price=None, estimate="unknown_price"
    )
