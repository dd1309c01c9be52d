"""Which word in a policy is which kind of layer: ours by a table, others' by the entry points `orrouter.middleware`.

Law: finding classes by name. Nothing is imported before a policy names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from orrouter.core.errors import PolicyError
from orrouter.middleware.base import Options

GROUP: Final = "orrouter.middleware"
"""The entry-point group by which an installed package adds a kind: `name = "package.module:Options"`."""

OURS: Final[Mapping[str, str]] = {
    "record": "record:RecordOptions",
    "deadline": "deadline:DeadlineOptions",
    "cost_cap": "cost_cap:CostCapOptions",
    "budget": "budget:BudgetOptions",
    "fallback": "fallback:FallbackOptions",
    "provider": "provider:ProviderOptions",
    "retry": "retry:RetryOptions",
    "breaker": "breaker:BreakerOptions",
    "reserve": "reserve:ReserveOptions",
}
"""Each kind with its module and class."""

ALWAYS: Final = "attempt"
"""A layer that every stack has and no policy writes."""

LATER: Final = frozenset({"limit", "hedge"})
"""Words that are planned and mean nothing yet. What is not kept must not be written."""

MAY_REPEAT: Final = frozenset({"deadline", "budget"})
"""Those of our kinds that may stand twice in a stack: clocks of the whole call and of each try; several who pay."""


@cache
def installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    """The kinds that installed packages add, by name; more than one entry point is a quarrel."""
    points = entry_points(group=GROUP)
    return {name: tuple(points.select(name=name)) for name in sorted(points.names)}


def known() -> tuple[str, ...]:
    """Every word that may stand in a policy, sorted."""
    return tuple(sorted({*OURS, *installed()}))


def kind(name: str) -> type[Options] | None:
    """The options class of a kind; None when nobody knows it.

    Raises PolicyError for a package that is broken, and where two packages add the same kind.
    """
    place = OURS.get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        found: type[Options] = getattr(import_module(f"orrouter.middleware.{module}"), attribute)
        return found
    points = installed().get(name, ())
    if len(points) > 1:
        origins = " and ".join(sorted(_origin(point) for point in points))
        raise PolicyError(f"the kind {name!r} is added by {origins}", hint="keep one of these packages")
    return _load(points[0]) if points else None


def _origin(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else point.value


def _load(point: EntryPoint) -> type[Options]:
    """The class that an entry point names, held to be what it must be."""
    origin = _origin(point)
    try:
        options = point.load()
    except Exception as error:
        raise PolicyError(
            f"the kind {point.name!r} of {origin} cannot be loaded: {type(error).__name__}: {error}",
            hint="mend or remove the package",
        ) from error
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise PolicyError(
            f"the kind {point.name!r} of {origin} is no Options class",
            hint=f"its entry point in {GROUP} must name a subclass of orrouter.middleware.base.Options",
        )
    if options.kind != point.name:
        raise PolicyError(
            f"{origin} offers {options.kind!r} under the name {point.name!r}",
            hint=f"its class must say kind = {point.name!r}",
        )
    return options
