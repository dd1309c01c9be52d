"""How the ledger speaks: balances, and the error that a refused caller gets.

Law: pure.
"""

from __future__ import annotations

from datetime import datetime

from orrouter.core import money
from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Balance, Denied, Hold
from orrouter.ledger.rules import Book
from orrouter.ledger.windows import FOREVER, zone_of

A: dict[Period, str] = {
    "hour": "an hour", "day": "a day", "week": "a week", "month": "a month", "lifetime": "in all",
}  # fmt: skip
"""A period behind a sum: `$50.00 a day`."""


def balances_of(book: Book, account: Account) -> tuple[Balance, ...]:
    """Every window of an account that has a limit, as it stands at the book's time."""
    balances = []
    for bucket, limit in book.standing(account).windows:
        start, end = book.calendar.window(bucket.key.period, account.zone)
        balances.append(
            Balance(account.name, bucket.key.period, limit, bucket.settled, bucket.held, bucket.suspense, start, end)
        )
    return tuple(balances)


def refusal(denied: Denied, hold: Hold) -> BudgetExceeded:
    """The error for a hold that does not fit: whose budget, how much is left, and when there will be more."""
    left = money.show(max(denied.remaining, 0))
    limit = f"{money.show(denied.limit)} {A[denied.period]}"
    until = "" if denied.resets_at == FOREVER else f" until {when(denied.resets_at, denied.zone)}"
    error = BudgetExceeded(
        f"{denied.account} has {left} left of {limit}{until}, and this request may cost {money.show(hold.amount)}"
    )
    error.account, error.period = denied.account, denied.period
    error.limit, error.remaining, error.needed = denied.limit, denied.remaining, hold.amount
    error.resets_at = None if denied.resets_at == FOREVER else denied.resets_at
    return error


def when(at: float, zone: str) -> str:
    """An instant for people: `2026-11-22 00:00 Europe/Berlin`."""
    return f"{datetime.fromtimestamp(at, zone_of(zone)):%Y-%m-%d %H:%M} {zone}"
