"""The statement: what was paid hour by hour, and what a window that is new to the ledger has seen."""

from __future__ import annotations

from orrouter.ledger.base import BucketKey, Entry, Hold, Line
from orrouter.ledger.statement import Statement, begun, hour_of

HOUR = 3600
NOON = 1_795_262_400  # 2026-11-21 12:00 UTC


def entry(at: float = NOON, *accounts: str, state="settled", amount=10, model="model", provider="") -> Entry:
    hold = Hold("id", amount, (), "openrouter", "key", "asked")
    return Entry(hold, accounts or ("org",), (), at, state=state, model=model, provider=provider)


# --- lines ------------------------------------------------------------------------------------------------


def test_tries_of_one_hour_for_the_same_thing_are_one_line():
    """A million calls are a line, with all the accounts that each was charged to."""
    statement = Statement()
    for second in range(100):
        statement.add(entry(NOON + second, "key:a", "org"), 3)
    assert [Line(NOON, ("key:a", "org"), "openrouter", "model", "", tries=100, cost=300, key="key")] == statement.lines(
        (), 0, float("inf")
    )


def test_what_differs_is_a_line_of_its_own_in_order():
    """By hour, accounts, upstream, model and provider."""
    statement = Statement()
    for one in (entry(NOON + HOUR), entry(NOON, "team"), entry(model="z"), entry(provider="azure"), entry()):
        statement.add(one, 1)
    assert [
        (NOON, ("org",), "model", ""),
        (NOON, ("org",), "model", "azure"),
        (NOON, ("org",), "z", ""),
        (NOON, ("team",), "model", ""),
        (NOON + HOUR, ("org",), "model", ""),
    ] == [(line.at, line.accounts, line.model, line.provider) for line in statement.lines((), 0, float("inf"))]


def test_an_open_hold_stands_with_its_worst_case():
    """It counts as a try, and its amount as open until it is known."""
    statement = Statement()
    statement.add(entry(), 3)
    open_ = [entry(state="held"), entry(state="suspense", model="other")]
    assert [("model", 2, 3, 10), ("other", 1, 0, 10)] == [
        (line.model, line.tries, line.cost, line.open) for line in statement.lines(open_, 0, float("inf"))
    ]


def test_the_hours_asked_for_are_half_open():
    """From the first on, until before the last."""
    statement = Statement()
    for hour in range(5):
        statement.add(entry(NOON + hour * HOUR), 1)
    open_ = [entry(NOON + 3 * HOUR, state="held")]
    assert [NOON + HOUR, NOON + 2 * HOUR] == [line.at for line in statement.lines(open_, NOON + HOUR, NOON + 3 * HOUR)]


def test_a_correction_changes_the_cost_and_is_no_try():
    """The difference may be less than nothing."""
    statement = Statement()
    statement.add(entry(), 30)
    statement.add(entry(), -10, tries=0)
    (line,) = statement.lines((), 0, float("inf"))
    assert (1, 20) == (line.tries, line.cost)


# --- how much is kept -------------------------------------------------------------------------------------


def test_lines_are_dropped_when_they_were_kept_long_enough():
    """An hour that begins drops those that lie too far back."""
    statement = Statement(kept_s=3 * HOUR)
    for hour in range(10):
        statement.add(entry(NOON + hour * HOUR), 1)
    assert [6, 7, 8, 9] == [(line.at - NOON) // HOUR for line in statement.lines((), 0, float("inf"))]
    assert 4 == statement.settled(BucketKey("org", "lifetime", 0))


def test_a_full_statement_drops_its_oldest_hours():
    """A crowd of users, each an account of his own, fills no memory."""
    statement = Statement(most=100)
    for hour in range(10):
        for user in range(40):
            statement.add(entry(NOON + hour * HOUR, f"user:{user}", "org"), 1)
    assert 80 == len(statement) == len(statement.lines((), 0, float("inf")))
    assert {8, 9} == {(line.at - NOON) // HOUR for line in statement.lines((), 0, float("inf"))}


def test_a_late_line_is_kept_in_a_full_statement():
    """What is said now is written down, however old it is; the oldest of the others goes."""
    statement = Statement(most=3)
    for hour in (5, 6, 7, 0):
        statement.add(entry(NOON + hour * HOUR), 1)
    assert [0, 6, 7] == [(line.at - NOON) // HOUR for line in statement.lines((), 0, float("inf"))]


# --- what a new window has seen ---------------------------------------------------------------------------


def test_a_new_window_has_paid_what_its_account_paid_since_its_start():
    """Only that account, from the hour within which the window begins."""
    statement = Statement()
    statement.add(entry(NOON - HOUR), 1)
    statement.add(entry(NOON, "org", "team"), 10)
    statement.add(entry(NOON + HOUR), 100)
    statement.add(entry(NOON + HOUR, "team"), 1000)
    assert 110 == statement.settled(BucketKey("org", "day", NOON))
    assert 110 == statement.settled(BucketKey("org", "day", NOON + 1800))
    assert 0 == statement.settled(BucketKey("nobody", "day", NOON))


def test_a_new_window_holds_what_its_account_holds():
    """Open holds of the account, admitted since its start, are charged to it from now on."""
    open_ = [
        entry(NOON, state="held", amount=1),
        entry(NOON + 5, "team", "org", state="suspense", amount=10),
        entry(NOON - 1, state="held", amount=100),
        entry(NOON, "team", state="held", amount=1000),
    ]
    bucket = begun(BucketKey("org", "hour", NOON), 7, open_)
    assert (7, 1, 10) == (bucket.settled, bucket.held, bucket.suspense)
    assert [True, True, False, False] == [bucket in one.buckets for one in open_]


def test_an_hour_begins_at_its_full_hour():
    """By UTC, whatever the fraction of a second."""
    assert [NOON, NOON, NOON + HOUR] == [hour_of(at) for at in (NOON, NOON + 3599.9, NOON + 3600.0)]
