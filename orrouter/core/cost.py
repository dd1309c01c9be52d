"""What an upstream says a try cost.

Law: reading of `usage` objects only. What a usage costs by a price list is the catalog's arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orrouter.core.money import nano

NONSENSE_USD: Final = 10**9
"""A cost of so much for one answer is a mistake of the upstream: then it has not said."""


def said_cost(usage: Mapping[str, Any] | None) -> int | None:
    """What the upstream says a try cost, in nano-USD; None: it has not said.

    With a provider key of your own (BYOK) `cost` is only OpenRouter's fee, and the provider bills
    `upstream_inference_cost` to you on top of it. Without one the same field repeats what `cost` holds.
    """
    cost = _sum_of(usage.get("cost")) if usage else None
    if cost is None or usage is None or usage.get("is_byok") is not True:
        return cost
    details = usage.get("cost_details")
    own = _sum_of(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
    return None if own is None else cost + own


def _sum_of(cost: object) -> int | None:
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < NONSENSE_USD:
        return None
    return nano(cost)
