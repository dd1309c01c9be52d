"""Whether a router can do its work now: asked at start-up, before the first caller waits.

Law: questions to upstreams, and values that tell the answers. Nothing is raised and nothing is mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orrouter.core.call import Target
from orrouter.core.errors import Rejected, RouterError


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
