"""What an upstream says a try cost.

Law: reading of `usage` objects only. What a usage costs by a price list is the catalog's arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orrouter.core.money import nano

NONSENSE_USD: Final = 10**6
"""A cost of so much for one answer is a mistake of the upstream: then it has not said."""
NOT_OWN: Final = (None, False)
"""What `is_byok` says of a try under OpenRouter's key; whatever else it says, a key of your own may be billed too."""


def said_cost(usage: Mapping[str, Any] | None) -> int | None:
    """What the upstream says a try cost, in nano-USD; None: it has not said.

    With a provider key of your own (BYOK) `cost` is only OpenRouter's fee, and the provider bills
    `upstream_inference_cost` to you on top of it. Without one the same field repeats what `cost` holds.
    """
    if not usage:
        return None
    said = usage.get("cost")
    cost = nano(said) if type(said) is float and 0 <= said < NONSENSE_USD else _sum_of(said)
    if cost is None or usage.get("is_byok") in NOT_OWN:
        return cost
    details = usage.get("cost_details")
    own = _sum_of(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
    return None if own is None else cost + own


def misread(usage: Mapping[str, Any]) -> bool:
    """Whether something stands in the place of the cost that cannot be one: then its counts are not believed either."""
    cost = usage.get("cost")
    return cost is not None and _sum_of(cost) is None


def _sum_of(cost: object) -> int | None:
    if (type(cost) is float or type(cost) is int) and 0 <= cost < NONSENSE_USD:
        return nano(cost)
    return None
