"""What `GET /generation` tells of a cost that nobody knew, and when to ask for it.

Law: pure. A figure that is missing or odd is no figure, and one that may still grow is not believed yet.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from orrouter.core.cost import NONSENSE_USD, NOT_OWN
from orrouter.core.money import NANO, nano

AGES_S: Final = (1, 2, 4, 8, 16, 32, 120, 600, 3600)
"""How long after the try ended it is asked for; from then on every hour. Most are known after some ten seconds."""
HOURLY_S: Final = AGES_S[-1]
GROWS_S: Final = 600.0
"""So long a figure may grow when the provider works on after a cancel."""
MOST: Final = 10**18
"""So many nano-USD no key has ever spent: such a figure is a mistake."""

STOPS_BILLING: Final = frozenset({
    "openai", "azure", "anthropic", "fireworks", "mancer", "recursal", "anyscale", "lepton", "octoai", "novita",
    "deepinfra", "together", "cohere", "hyperbolic", "infermatic", "avian", "xai", "cloudflare", "sfcompute",
    "nineteen", "liquid", "friendli", "chutes", "deepseek",
})  # fmt: skip
"""Providers that stop, and stop billing, when a stream is cancelled; every other is taken to work to the end.

Source: https://openrouter.ai/docs/api-reference/streaming, "Stream cancellation".
"""


class Told(NamedTuple):
    """What a try cost in nano-USD, who served it, and which model was billed."""

    cost: int
    provider: str
    model: str


def told(answer: Mapping[str, Any], generation_id: str, *, age_s: float) -> Told | None:
    """What an answer of `GET /generation` says; None while it says nothing that can be believed.

    `age_s` is seconds since the try ended here.
    """
    data = answer.get("data")
    if not isinstance(data, Mapping) or data.get("id", generation_id) != generation_id:
        return None
    cost = _cost(data)
    if cost is None or (may_grow(data) and age_s < GROWS_S):
        return None
    return Told(cost, _text(data.get("provider_name")), _text(data.get("model")))


def may_grow(data: Mapping[str, Any]) -> bool:
    """Whether the provider may still be at work, and billing."""
    if data.get("cancelled") is True:
        return data.get("streamed") is not True or not stops_billing(_text(data.get("provider_name")))
    return data.get("finish_reason") is None


def stops_billing(provider: str) -> bool:
    """Whether a provider, by its name or its slug, surely bills nothing beyond a cancelled stream."""
    return re.sub(r"[^a-z0-9]", "", provider.lower().partition("/")[0]) in STOPS_BILLING


def latest_ask(age_s: float) -> float:
    """The last age up to now at which it should have been asked for; 0: none yet."""
    if age_s >= HOURLY_S:
        return age_s // HOURLY_S * HOURLY_S
    at = bisect_right(AGES_S, age_s)
    return AGES_S[at - 1] if at else 0


def next_ask(age_s: float) -> float:
    """The first age beyond `age_s` at which it is asked for."""
    if age_s >= HOURLY_S:
        return (age_s // HOURLY_S + 1) * HOURLY_S
    return AGES_S[bisect_right(AGES_S, age_s)]


def figure(value: object) -> int | None:
    """A sum in USD as it stands in JSON, in nano-USD; None where it is no sum of money that can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        amount = nano(value)
    except ValueError:
        return None
    return amount if 0 <= amount < MOST else None


def _cost(data: Mapping[str, Any]) -> int | None:
    """What was spent: OpenRouter's charge, and with a key of one's own also what the provider bills.

    Without such a key `upstream_inference_cost` is about the charge once more, and is not counted.
    """
    cost = figure(data.get("total_cost"))
    if cost is not None and data.get("is_byok") not in NOT_OWN:
        beyond = figure(data.get("upstream_inference_cost"))
        cost = None if beyond is None else cost + beyond
    return None if cost is None or cost >= NONSENSE_USD * NANO else cost


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
