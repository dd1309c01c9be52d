"""What a router tells about money: what accounts have left, what was paid, and limits changed while running.

Law: questions to the ledger and changes of limits. What a call may spend is decided by the layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from orrouter.asking import Asked
from orrouter.core import tags as tagging
from orrouter.core.clock import Clock
from orrouter.core.errors import ModelNotAllowed, PolicyError
from orrouter.core.facts import Fact, LedgerTroubled
from orrouter.core.limit import MOST, PERIODS, Account, Period
from orrouter.core.money import parse_money, show, usd
from orrouter.ledger.base import Balance, Ledger, Line
from orrouter.ledger.lane import Fetch
from orrouter.ledger.open import open_ledger
from orrouter.ledger.reconcile import Reconciler, askable
from orrouter.ledger.windows import FOREVER
from orrouter.middleware.base import World
from orrouter.middleware.budget import BudgetOptions, pattern_of
from orrouter.policy.explain import Candidate, explain
from orrouter.policy.hints import nearest
from orrouter.policy.ledger import base_of
from orrouter.policy.schema import Policy

_PERIODS: Final[Mapping[str, Period]] = {period: period for period in PERIODS}


class Accounts:
    """The money of a Router; each raises LedgerUnavailable when the ledger cannot be asked."""

    world: World
    _reconciler: Reconciler

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        raise NotImplementedError

    def estimate(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        policy: str | None = None,
        tags: Mapping[str, str] | None = None,
        **body: Any,
    ) -> tuple[Candidate, ...]:
        """The most that a call may cost at each target it could be sent to, first choice first; nothing is sent.

        Takes what `chat` takes. `cost` is in USD, None where nobody can say, which under a limit is refused: `unpriced`
        says why. `skipped` says why a target would not be asked. Raises PolicyError, ModelNotAllowed.
        """
        request = {name: value for name, value in body.items() if name not in Asked._fields}
        request["messages"] = messages
        (stack,) = explain(self.policy, self.world.catalog, policy, request, tagging.current(tags)).stacks
        if stack.refused and not stack.targets:
            raise ModelNotAllowed(stack.refused)
        return stack.targets

    async def balances(self, account: str) -> tuple[Balance, ...]:
        """Every window of an account that has a limit: limit, settled, held and suspense in nano-USD, when it resets.

        Raises PolicyError for an account that no `budget` of the policy names.
        """
        return await self.world.ledger.balances(account_of(self.policy, account))

    async def remaining(self, account: str) -> dict[Period, Decimal]:
        """USD that an account may still spend in each of its windows; below zero where its limit was lowered."""
        return {one.period: usd(one.remaining) for one in await self.balances(account)}

    async def set_limit(self, account: str, **limits: str | None) -> None:
        """Change limits of an account from now on, for every process of its ledger: `set_limit("org", day="$100")`.

        None: as the policy says. A limit below what is charged already stops admissions. Raises PolicyError.
        """
        account_of(self.policy, account)
        changed: dict[Period, int | None] = {}
        for name, amount in limits.items():
            period = _PERIODS.get(name)
            if period is None:
                raise PolicyError(f"there is no window {name!r}", hint=nearest(name, PERIODS))
            changed[period] = None if amount is None else _money(amount)
        for period, limit in changed.items():
            await self.world.ledger.set_limit(account, period, limit)

    @property
    def reconciler(self) -> Reconciler:
        """Who finds out what tries cost whose answer never told."""
        return self._reconciler

    async def reconcile(self) -> int:
        """Ask now what the tries cost whose answer never told; how many are settled. It is done anyway, later."""
        return await self._reconciler.once()

    async def spend(self, since: float = 0.0, until: float = FOREVER) -> tuple[Line, ...]:
        """What was paid in hours that begin in `[since, until)`, unix seconds; each try stands in one line."""
        return tuple(await self.world.ledger.statement(since, until))


def ledger_of(policy: Policy, clock: Clock, tell: Callable[[Fact], None] | None) -> Ledger:
    """The ledger that a policy names. Nothing is opened before it is first asked."""
    options = policy.ledger
    return open_ledger(
        options.url,
        wall=clock.wall,
        base=base_of(policy.document.file),
        durable=options.durable,
        retention_s=options.retention_s,
        tell=None if tell is None else lambda message: tell(LedgerTroubled(message=message)),
    )


def reconciler_of(
    policy: Callable[[], Policy], world: World, fetch: Fetch, tell: Callable[[Fact], None] | None
) -> Reconciler:
    """Who finds out, for a router, what tries cost whose answer never told. It watches keys only where budgets are."""

    def keys() -> dict[str, str]:
        return askable(world.upstreams) if budgets_of(policy()) else {}

    reconciler = Reconciler(world.ledger, fetch, world.clock, world.random, tell, keys=keys)
    world.on_suspense = reconciler.wake
    return reconciler


def _money(amount: str) -> int:
    try:
        limit = parse_money(amount)
    except (ValueError, AttributeError, TypeError):
        raise PolicyError(f"{amount!r} is no limit", hint="write a sum such as $50") from None
    if limit > MOST:
        raise PolicyError(f"{amount} is more than a ledger can hold", hint=f"write at most {show(MOST)}")
    return limit


def account_of(policy: Policy, name: str) -> Account:
    """The account of that name as the policy's budgets limit it. Raises PolicyError for one that none names."""
    if not tagging.is_text(name):
        raise PolicyError(f"{name!r} is no name of an account", hint="write a text, as in team:search")
    found: dict[Period, int] = {}
    zone = ""
    known = []
    for options in budgets_of(policy):
        known.append(options.account)
        if re.fullmatch(pattern_of(options.account), name):
            zone = zone or options.time_zone
            for period, amount in options.limits.items():
                found[period] = min(amount, found.get(period, amount))
    if not found:
        raise PolicyError(f"no budget of the policy has an account {name!r}", hint=nearest(name, known))
    return Account(name, tuple(found.items()), zone)


def budgets_of(policy: Policy) -> tuple[BudgetOptions, ...]:
    """Every budget of every stack."""
    stacks = policy.stacks.values()
    return tuple(one.options for stack in stacks for one in stack if isinstance(one.options, BudgetOptions))
