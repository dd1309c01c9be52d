"""How the ledger speaks: balances, and what a refused caller reads."""

from __future__ import annotations

import pickle

import pytest

from orrouter.core.limit import Account
from orrouter.ledger.base import Balance, Bucket, Denied, Hold
from orrouter.ledger.rules import Book
from orrouter.ledger.shown import balances_of, refusal, when
from orrouter.ledger.windows import FOREVER

MIDNIGHT = 1_795_302_000  # 2026-11-22 00:00 Europe/Berlin
DOLLAR = 1_000_000_000


def test_a_refusal_says_whose_budget_how_much_is_left_and_until_when():
    """The caller reads one sentence."""
    denied = Denied("team:search", "day", 50 * DOLLAR, 20_000_000, MIDNIGHT, "Europe/Berlin")
    assert (
        "team:search has $0.02 left of $50.00 a day until 2026-11-22 00:00 Europe/Berlin, "
        "and this request may cost $0.05: ask for fewer tokens or a cheaper model, or raise the limit"
    ) == refusal(denied, Hold("a", 50_000_000, ()), MIDNIGHT - 60).message


def test_a_refusal_bears_the_same_as_values_also_across_processes():
    """Account, period, limit, what remains, what was needed, and when it resets."""
    denied = Denied("org", "day", 100, 20, MIDNIGHT, "UTC")
    error = refusal(denied, Hold("a", 30, ()), MIDNIGHT - 60)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert ("org", "day", 100, 20, 30, MIDNIGHT, 60.0) == (
            one.account, one.period, one.limit, one.remaining, one.needed, one.resets_at, one.retry_after,
        )  # fmt: skip


def test_a_lifetime_does_not_reset():
    """Nothing is said of an end that never comes."""
    error = refusal(Denied("org", "lifetime", DOLLAR, 0, FOREVER, "UTC"), Hold("a", 1, ()), MIDNIGHT - 60)
    assert (None, None) == (error.resets_at, error.retry_after)
    assert "org has $0.00 left of $1.00 in all, and this request may cost $0.000000001" in error.message


def test_an_overdrawn_account_has_nothing_left():
    """For people it is nothing; the value says by how much."""
    error = refusal(Denied("org", "hour", 10, -5, MIDNIGHT, "UTC"), Hold("a", 1, ()), MIDNIGHT - 60)
    assert "org has $0.00 left" in error.message
    assert -5 == error.remaining


@pytest.mark.parametrize(
    ("zone", "text"), [("UTC", "2026-11-21 23:00 UTC"), ("Asia/Kolkata", "2026-11-22 04:30 Asia/Kolkata")]
)
def test_an_instant_is_told_in_the_accounts_own_zone(zone, text):
    """With the zone's name behind it."""
    assert text == when(MIDNIGHT, zone)


def test_balances_are_the_windows_with_a_limit_as_they_stand():
    """What is settled, held and in suspense, the limit in force, what remains, and the window's two ends."""
    book = Book(Bucket, lambda hold: None)
    book.calendar.at(MIDNIGHT + 5)
    account = Account("org", (("day", 100), ("lifetime", 1000)), "Europe/Berlin")
    for name, amount in (("a", 10), ("b", 20), ("c", 30)):
        book.admit(Hold(name, amount, (account,)), "me")
    book.settle("a", 4)
    book.suspend("b", "left")
    book.set_limit("org", "day", 60)
    assert (
        Balance("org", "day", 60, 4, 30, 20, MIDNIGHT, MIDNIGHT + 86_400),
        Balance("org", "lifetime", 1000, 4, 30, 20, 0, FOREVER),
    ) == balances_of(book, account)
    assert [6, 946] == [balance.remaining for balance in balances_of(book, account)]
