"""What a policy lets a worst case rest on, and the refusal of a request that has none.

Law: values only. What a request may cost at most is worked out in `ceiling.py` and the modules it reads from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

UNKNOWN_PRICE = "unknown_price"
"""The option that holds a sum for a request whose price nobody knows."""

_REMEDIES = {
    UNKNOWN_PRICE: "`reserve: {{unknown_price: $0.10}}` in the policy would hold that sum for it",
    "admit": "`reserve: {{{option}}}` in the policy lets it through, its worst case then an estimate",
    "fees": "`reserve: {{{option}}}` in the policy holds that sum for it, as an estimate",
    "image_tokens": "`reserve: {{{option}}}` in the policy bounds one picture, as an estimate",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Options of a policy for the worst case of a request.

    `max_tokens` is sent where the caller names none. `image_tokens` bounds one picture; None: a picture counts as a
    whole context. `headroom` is by how much an endpoint may be dearer than listed. `admit` names fields, parts of
    content and the like that are let through unknown; `fees` nano-USD for each request that uses a plugin or a tool.
    """

    max_tokens: int = 4096
    image_tokens: int | None = None
    headroom: Decimal = Decimal("1.25")
    admit: frozenset[str] = frozenset()
    fees: Mapping[str, int] = field(default_factory=dict, hash=False)


class Unbounded(ValueError):
    """Something in this request may cost any sum.

    `field` is what, `reason` why, in words; `option` what a policy can write to let it pass, empty where only the
    caller can change it.
    """

    def __init__(self, field: str, reason: str, option: str = "") -> None:
        remedy = _REMEDIES.get(option.partition(":")[0], "").format(option=option)
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.field, self.reason, self.option = field, reason, option

    @classmethod
    def unknown(cls, field: str, reason: str) -> Unbounded:
        """Something that `admit` lets through by the name `field`."""
        return cls(field, reason, f"admit: [{quoted(field)}]")


def quoted(name: str) -> str:
    """A name as YAML takes it in brackets."""
    return name if name.replace("_", "a").isalnum() else f'"{name}"'
