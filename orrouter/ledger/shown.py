"""How the ledger speaks: balances, and the error that a refused caller gets.

Law: pure.
"""

from __future__ import annotations

from datetime import datetime

from orrouter.core import money
from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import EACH, Account
from orrouter.ledger.base import Balance, Denied, Hold
from orrouter.ledger.rules import Book
from orrouter.ledger.windows import FOREVER, zone_of


def balances_of(book: Book, account: Account) -> tuple[Balance, ...]:
    """Every window of an account that has a limit, as it stands at the book's time."""
    balances = []
    for bucket, limit in book.standing(account).windows:
        start, end = book.calendar.window(bucket.key.period, account.zone)
        balances.append(
            Balance(account.name, bucket.key.period, limit, bucket.settled, bucket.held, bucket.suspense, start, end)
        )
    return tuple(balances)


def refusal(denied: Denied, hold: Hold, now: float) -> BudgetExceeded:
    """The error for a hold that does not fit: whose budget, how much is left, and when there will be more."""
    left = money.show(max(denied.remaining, 0))
    limit = f"{money.show(denied.limit)} {EACH[denied.period]}"
    until = "" if denied.resets_at == FOREVER else f" until {when(denied.resets_at, denied.zone)}"
    error = BudgetExceeded(
        f"{denied.account} has {left} left of {limit}{until}, and this request may cost {money.show(hold.amount)}: "
        "ask for fewer tokens or a cheaper model, or raise the limit"
    )
    error.account, error.period = denied.account, denied.period
    error.limit, error.remaining, error.needed = denied.limit, denied.remaining, hold.amount
    if denied.resets_at != FOREVER:
        error.resets_at, error.retry_after = denied.resets_at, max(denied.resets_at - now, 0.0)
    return error


def when(at: float, zone: str) -> str:
    """An instant for people: `2026-11-22 00:00 Europe/Berlin`."""
    return f"{datetime.fromtimestamp(at, zone_of(zone)):%Y-%m-%d %H:%M} {zone}"
