"""Who pays for a call: a purse that lives with it, or accounts of the ledger.

Law: values and one small sum. Pricing, clamping and holding are the money gate's; the accounts' sums are the ledger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

Period = Literal["hour", "day", "week", "month", "lifetime"]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)
EACH: Final[dict[Period, str]] = {
    "hour": "an hour", "day": "a day", "week": "a week", "month": "a month", "lifetime": "in all",
}  # fmt: skip
"""A period behind a sum: `$50.00 a day`."""
WhenShort = Literal["clamp", "cheaper", "refuse"]
OnStoreError = Literal["fail_closed", "fail_open"]
MOST: Final = 2**62
"""Nano-USD that a limit may be: a row of 64 bits holds it, with room to add."""


def owed(amount: int) -> int:
    """The amount, which takes nothing away from what others owe. Raises ValueError for less than nothing."""
    if amount < 0:
        raise ValueError(f"an amount of money is 0 or more nano-USD, not {amount}")
    return amount


class Purse:
    """Money set aside for one logical call, in nano-USD: what its tries cost or may still cost never exceeds it.

    What is taken stays taken until its cost is known: a try that may have been billed is charged at its worst case.
    Raises ValueError for sums below zero.
    """

    __slots__ = ("_taken", "amount", "charged")

    def __init__(self, amount: int) -> None:
        self.amount = amount if amount >= 0 else owed(amount)
        self.charged = 0
        """What has been spent, with the worst case of every try whose cost is not known."""
        self._taken: dict[str, int] = {}

    @property
    def room(self) -> int:
        """What may still be taken; below zero where a try cost more than was held for it."""
        return self.amount - self.charged

    def take(self, hold: str, amount: int) -> bool:
        """Set `amount` aside under the hold's id; False, and nothing is taken, where it does not fit."""
        if hold in self._taken:
            return True
        if amount > self.amount - self.charged:
            return False
        if amount < 0:
            owed(amount)
        self._taken[hold] = amount
        self.charged += amount
        return True

    def settle(self, hold: str, cost: int) -> None:
        """The hold cost so much; 0 gives it back. A second word about the same hold changes nothing."""
        if cost < 0:
            owed(cost)
        taken = self._taken.pop(hold, None)
        if taken is not None:
            self.charged += cost - taken


class Cap(NamedTuple):
    """One call pays from `purse`. `named` says who set it, for the error: a layer's kind, or `max_cost`."""

    purse: Purse
    when_short: WhenShort = "clamp"
    min_tokens: int = 64
    named: str = "cost_cap"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the ledger pays, within each of its windows. Amounts in nano-USD.

    `zone` is the IANA time zone in which its windows begin; `soft` the parts of a limit (0.8 is 80 %) that are told
    once when they are passed.
    """

    name: str
    limits: tuple[tuple[Period, int], ...]
    zone: str = "UTC"
    soft: tuple[float, ...] = ()
    on_store_error: OnStoreError = "fail_closed"


Limit = Cap | Account
