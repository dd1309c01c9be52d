"""Whether a router can do its work now: asked at start-up, and what it has learnt of its upstreams since.

Law: questions to upstreams and the ledger, and values that tell the answers. Nothing is raised, nothing is mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orrouter.core.call import Target
from orrouter.core.errors import Rejected, RouterError
from orrouter.ledger.base import Ledger
from orrouter.ledger.open import MEMORY
from orrouter.middleware.base import World
from orrouter.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Every answer; true when nothing stands in the way."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok


class Condition:
    """What a Router knows of its own state."""

    world: World

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        raise NotImplementedError

    async def fetch(self, path: str, upstream: str | None = None, **query: str) -> dict[str, Any]:
        """The JSON object at a path below an upstream's base URL."""
        raise NotImplementedError

    def health(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """What is known of the far end: gates, breakers, retry budgets, each by its subject."""
        return self.world.health.show(self.world.clock.now())

    def reset_health(self, subject: str = "") -> int:
        """Forget what is known of every subject whose name contains `subject`; how many that were."""
        return self.world.health.reset(subject)

    async def ready(self) -> Readiness:
        """Ask every upstream that has a key whether it answers and takes the key, and the ledger where one is named.

        Raises nothing: it tells.
        """
        named = self.policy.ledger.url != MEMORY
        return await check_all(self.world.upstreams, self.fetch, self.world.ledger if named else None)


async def check_all(
    upstreams: Mapping[str, Target], fetch: Callable[..., Awaitable[dict[str, Any]]], ledger: Ledger | None
) -> Readiness:
    """Ask every upstream that has a key, and the ledger where one is named."""
    found = await check_upstreams(upstreams, fetch)
    return found if ledger is None else Readiness((*found.checks, await check_ledger(ledger)))


async def check_ledger(ledger: Ledger) -> Check:
    """Whether the ledger can be asked."""
    try:
        await ledger.open()
    except RouterError as error:
        return Check("ledger", False, error.message)
    return Check("ledger", True, "can be asked")


async def check_upstreams(
    upstreams: Mapping[str, Target], fetch: Callable[..., Awaitable[dict[str, Any]]]
) -> Readiness:
    """Ask each upstream for its key (OpenRouter) or its models; one without a key is left out, unless all are."""
    keyed = {name: target for name, target in upstreams.items() if target.key}
    if not keyed:
        return Readiness(tuple(Check(name, False, "no key is set") for name in upstreams))
    return Readiness(tuple(await asyncio.gather(*(_check(name, target, fetch) for name, target in keyed.items()))))


async def _check(name: str, target: Target, fetch: Callable[..., Awaitable[dict[str, Any]]]) -> Check:
    paths = ("key", "auth/key") if target.dialect == "openrouter" else ("models",)
    detail = ""
    for path in paths:
        try:
            raw = await fetch(path, upstream=name)
        except RouterError as error:
            if not isinstance(error, Rejected) or error.status != 404:
                return Check(name, False, str(error))
            detail = str(error)
            continue
        return _judged(name, raw)
    return Check(name, False, detail)


def _judged(name: str, raw: Mapping[str, Any]) -> Check:
    """What the upstream says of the key, for people."""
    data = raw.get("data")
    if not isinstance(data, Mapping):
        return Check(name, True, "answers")
    left = data.get("limit_remaining")
    if isinstance(left, bool) or not isinstance(left, int | float):
        return Check(name, True, "the key is accepted")
    if left <= 0:
        return Check(name, False, "the key is accepted, but its limit is used up: raise it, or wait until it resets")
    return Check(name, True, f"the key is accepted, ${left} left of its limit")
