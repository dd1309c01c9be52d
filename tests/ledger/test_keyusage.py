"""What the growth of a key's usage proves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrouter.ledger.base import Bucket, BucketKey, Entry, Hold, Line
from orrouter.ledger.keyusage import Mark, Paid, Reading, bound, calendar_mark, paid_for, read_key, split
from orrouter.testkit.clock import EPOCH

HOUR = 3600
DAY = 24 * HOUR
MONDAY = EPOCH // DAY * DAY
"""The midnight before the virtual epoch, which is a Monday."""


def entry(name: str, amount: int, account: str = "a") -> Entry:
    window = Bucket(BucketKey(account, "day", int(MONDAY)))
    return Entry(Hold(name, amount, ()), (account,), (window,), EPOCH)


def line(at: int, cost: int, key: str = "k", upstream: str = "u") -> Line:
    return Line(at, ("team:a",), upstream, "a/b", "P", 1, cost, key=key)


def test_an_answer_is_read_with_what_keys_of_ones_own_spent():
    """Both are billed to whoever owns the account."""
    data = {"label": "sk-1", "usage": 1.5, "byok_usage": 0.25, "usage_daily": 0.5, "usage_weekly": None}
    assert Reading("sk-1", {"usage": 1_750_000_000, "usage_daily": 500_000_000}) == read_key({"data": data})


@pytest.mark.parametrize("body", [{}, {"data": 3}, {"data": {}}, {"data": {"usage": "1"}}, {"data": {"usage": -1}}])
def test_an_answer_without_usage_is_none(body):
    """Nothing is read into it."""
    assert read_key(body) is None


def test_the_bound_is_the_growth_less_what_was_settled():
    """What the ledger knows of is not charged to the unknown once more."""
    assert 300 == bound(Reading("", {"usage": 1500}), Mark("usage", 0, 1000, 50, 1), Paid(250, 3))


def test_a_usage_below_what_was_surely_spent_proves_nothing():
    """Then it lags; only what rounding can do is forgiven."""
    mark = Mark("usage", 0)
    assert bound(Reading("", {"usage": 10**6}), mark, Paid(2 * 10**6, 5)) is None
    assert 0 == bound(Reading("", {"usage": 10**6}), mark, Paid(10**6 + 1005, 5))
    assert bound(Reading("", {"usage": 10**6}), mark, Paid(10**6 + 1006, 5)) is None


@given(
    unknown=st.integers(0, 10**12), known=st.integers(0, 10**12), others=st.integers(0, 10**12),
    before=st.integers(0, 10**12),
)  # fmt: skip
def test_the_bound_is_never_below_the_truth(unknown, known, others, before):
    """Whoever else uses the key makes it larger only; when nobody does, it is exact."""
    reading = Reading("", {"usage": before + unknown + known + others})
    found = bound(reading, Mark("usage", 0, before, 7, 2), Paid(7 + known, 3))
    assert found >= unknown
    assert unknown + others == found


def test_only_the_key_and_its_hours_are_summed():
    """What another key or an earlier hour has spent is not subtracted: that would be too much."""
    lines = [line(0, 1), line(HOUR, 10), line(HOUR, 100, "other"), line(HOUR, 1000, "k", "v"), line(2 * HOUR, 10_000)]
    assert Paid(10_010, 2) == paid_for(lines, "u", "k", HOUR)


@pytest.mark.parametrize(
    ("oldest", "now", "mark"),
    [
        (MONDAY + HOUR, MONDAY + 5 * HOUR, Mark("usage_daily", int(MONDAY) + HOUR)),
        (MONDAY + DAY, MONDAY + DAY + 5 * HOUR, Mark("usage_weekly", int(MONDAY) + HOUR)),
        (MONDAY + HOUR, MONDAY + 23 * HOUR, Mark("usage_weekly", int(MONDAY) + HOUR)),
        (MONDAY - DAY, MONDAY + HOUR, Mark("usage_monthly", int(MONDAY) - 20 * DAY + HOUR)),
        (MONDAY - 25 * DAY, MONDAY, None),
    ],
    ids=["day", "week, the day's first hour", "week, the day's last hour", "month", "none"],
)
def test_the_shortest_period_in_which_all_began_is_counted(oldest, now, mark):
    """Without its first and last hour, in which the upstream's clock may show another period."""
    assert mark == calendar_mark(oldest, now)


@given(st.lists(st.integers(0, 10**9), max_size=8), st.data())
def test_the_shares_of_one_account_add_up_and_none_is_above_its_hold(holds, data):
    """The oldest first, each in full before the next gets any."""
    amount = data.draw(st.integers(0, sum(holds)))
    shares = list(split(amount, [entry(str(at), hold) for at, hold in enumerate(holds)]))
    assert amount == sum(share for _, share in shares)
    assert all(0 <= share <= one.amount for one, share in shares)
    short = next((at for at, (one, share) in enumerate(shares) if share < one.amount), len(shares))
    assert all(0 == share for _, share in shares[short + 1 :])


def test_each_account_is_charged_with_all_that_may_be_its_own():
    """Nobody knows whose try it was: less could be less than an account owes."""
    theirs = [entry("a1", 5, "a"), entry("b1", 5, "b"), entry("a2", 5, "a"), entry("b2", 1, "b")]
    assert [5, 5, 2, 1] == [share for _, share in split(7, theirs)]
    assert [0, 0, 0, 0] == [share for _, share in split(0, theirs)]


def test_a_cost_without_a_provider_is_not_subtracted():
    """It may be a bound or a worst case, which is more than the upstream charged."""
    lines = [line(HOUR, 10), replace(line(HOUR, 500), provider="")]
    assert Paid(10, 1) == paid_for(lines, "u", "k")
