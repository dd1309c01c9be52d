"""What every ledger does, whatever it is kept in: one suite over all stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orrouter.core.errors import BudgetExceeded
from orrouter.core.limit import Account, Period
from orrouter.ledger.base import Crossed, Hold, Ledger, Line
from orrouter.ledger.windows import FOREVER
from tests.contract.ledgers import DAY, HOUR, LEDGERS, NOON, Wall

ORG = Account("org", (("day", 100),))
TEAM = Account("team:search", (("day", 40), ("month", 1000)))
KEY = Account("key:a", (("lifetime", 500),), zone="Europe/Berlin")
MIDNIGHT = NOON + DAY / 2


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=LEDGERS)
async def ledger(request: pytest.FixtureRequest, tmp_path: Path, wall: Wall) -> AsyncIterator[Ledger]:
    ledger = LEDGERS[request.param](tmp_path, wall)
    await ledger.open()
    yield ledger
    await ledger.aclose()


def hold(name: str, amount: int = 10, *accounts: Account) -> Hold:
    return Hold(name, amount, accounts or (ORG,), "openrouter", "key", "asked", "req_1", streamed=True)


async def sums(ledger: Ledger, account: Account = ORG) -> list[tuple[int, int, int]]:
    """Settled, held and in suspense in each window, once all that was said is written."""
    await ledger.flush()
    return [(one.settled, one.held, one.suspense) for one in await ledger.balances(account)]


async def refused(ledger: Ledger, asked: Hold) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.reserve(asked)
    return caught.value


# --- admission --------------------------------------------------------------------------------------------


async def test_a_hold_is_charged_to_every_window_of_every_account(ledger):
    """Held until something is known."""
    assert () == await ledger.reserve(hold("a", 10, KEY, TEAM, ORG))
    assert [[(0, 10, 0)], [(0, 10, 0)] * 2, [(0, 10, 0)]] == [await sums(ledger, one) for one in (KEY, TEAM, ORG)]


async def test_the_whole_hold_fits_or_nothing_is_held(ledger):
    """Where one window of one account has no room, no account is charged, and the error says which and why."""
    await ledger.reserve(hold("a", 35, TEAM))
    error = await refused(ledger, hold("b", 6, KEY, ORG, TEAM))
    assert ("team:search", "day", 40, 5, 6, MIDNIGHT) == (
        error.account, error.period, error.limit, error.remaining, error.needed, error.resets_at,
    )  # fmt: skip
    assert [[(0, 0, 0)], [(0, 0, 0)]] == [await sums(ledger, one) for one in (KEY, ORG)]
    assert ["a"] == [entry.id for entry in await ledger.unsettled()]


async def test_a_limit_is_used_to_the_last_nano(ledger):
    """What fills it fits, and nothing but nothing more."""
    await ledger.reserve(hold("a", 99))
    await ledger.reserve(hold("b", 1))
    await refused(ledger, hold("c", 1))
    assert () == await ledger.reserve(hold("free", 0))


async def test_fifty_at_once_on_room_for_five(ledger):
    """Whatever comes at the same time, exactly as many are admitted as fit."""
    small = Account("small", (("day", 59),))
    outcomes = await asyncio.gather(
        *(ledger.reserve(hold(str(number), 10, small)) for number in range(50)), return_exceptions=True
    )
    assert (5, 45) == (outcomes.count(()), sum(isinstance(one, BudgetExceeded) for one in outcomes))
    assert [(0, 50, 0)] == await sums(ledger, small)


async def test_a_denied_id_stays_denied(ledger):
    """Also when there is room by then."""
    await refused(ledger, hold("a", 101))
    await ledger.set_limit("org", "day", 1000)
    await refused(ledger, hold("a", 101))
    assert [(0, 0, 0)] == await sums(ledger)


async def test_one_account_named_twice_is_charged_once(ledger):
    """Two budgets may name the same account; the smaller limit stands."""
    narrow = Account("org", (("day", 50),))
    await ledger.reserve(hold("a", 30, ORG, narrow))
    assert [(0, 30, 0)] == await sums(ledger)
    assert 50 == (await refused(ledger, hold("b", 30, narrow, ORG))).limit


async def test_an_account_without_limits_is_only_written_down(ledger):
    """It refuses nobody, and stands in the statement."""
    free = Account("free", ())
    await ledger.reserve(hold("a", 10**15, free))
    ledger.settle("a", 7)
    assert () == await ledger.balances(free)
    assert [(("free",), 7)] == [(line.accounts, line.cost) for line in await ledger.statement()]


async def test_a_soft_threshold_is_told_once_in_a_window(ledger, wall):
    """In order, with what is charged; again when the next window has come as far."""
    soft = Account("org", (("day", 100),), soft=(0.5, 0.8, 1.0))
    assert () == await ledger.reserve(hold("a", 49, soft))
    assert (Crossed("org", "day", 0.5, 50, 100),) == await ledger.reserve(hold("b", 1, soft))
    ledger.release("a")
    assert () == await ledger.reserve(hold("c", 20, soft))
    assert [0.8, 1.0] == [one.part for one in await ledger.reserve(hold("d", 79, soft))]
    wall.at += DAY
    assert [0.5] == [one.part for one in await ledger.reserve(hold("e", 50, soft))]


# --- the life of a hold -----------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Ledger], None]] = {
    "identify": lambda ledger: ledger.identify("a", "gen-1"),
    "settle": lambda ledger: ledger.settle("a", 7, provider="azure", model="billed"),
    "suspend": lambda ledger: ledger.suspend("a", "cancelled"),
    "release": lambda ledger: ledger.release("a"),
    "adjust": lambda ledger: ledger.adjust("a", 9, provenance="reconciled"),
    "post": lambda ledger: ledger.post(hold("a"), 8),
}
ROADS = {"new": (), "held": ("reserve",), "settled": ("reserve", "settle"), "released": ("reserve", "release"),
         "suspense": ("reserve", "suspend")}  # fmt: skip
SUMS = {"new": (0, 0, 0), "held": (0, 10, 0), "settled": (7, 0, 0), "released": (0, 0, 0), "suspense": (0, 0, 10)}
CHANGES = {
    ("new", "post"): (8, 0, 0),
    ("held", "settle"): (7, 0, 0), ("held", "suspend"): (0, 0, 10), ("held", "release"): (0, 0, 0),
    ("held", "post"): (8, 0, 0),
    ("settled", "adjust"): (9, 0, 0),
    ("suspense", "settle"): (7, 0, 0), ("suspense", "post"): (8, 0, 0),
}  # fmt: skip
"""Every step that changes a sum, by the state before it; any other changes none."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", ROADS)
async def test_every_step_from_every_state_once_and_again(ledger, state, step):
    """A step does what the state allows, and the second time nothing: the sums of two accounts are the same."""
    for road in ROADS[state]:
        if road == "reserve":
            await ledger.reserve(hold("a", 10, ORG, KEY))
        else:
            STEPS[road](ledger)
    accounts = (KEY,) if (state, step) != ("new", "post") else ()
    expected = [CHANGES.get((state, step), SUMS[state])]
    for _ in range(3):
        STEPS[step](ledger)
        assert [expected] * (1 + len(accounts)) == [await sums(ledger, one) for one in (ORG, *accounts)]
    open_ = expected[0][1:] != (0, 0)
    assert [("a", "held" if expected[0][1] else "suspense")] * open_ == [
        (entry.id, entry.state) for entry in await ledger.unsettled()
    ]


async def test_the_same_reserve_again_changes_nothing_whatever_became_of_it(ledger):
    """Held, in suspense or settled: an id is charged once."""
    expected = [(0, 10, 0)]
    await ledger.reserve(hold("a"))
    for step, after in (("identify", (0, 10, 0)), ("suspend", (0, 0, 10)), ("settle", (7, 0, 0))):
        assert () == await ledger.reserve(hold("a"))
        assert expected == await sums(ledger)
        STEPS[step](ledger)
        expected = [after]
    assert () == await ledger.reserve(hold("a"))
    assert expected == await sums(ledger)


async def test_a_cost_above_the_hold_is_charged_whole_and_stops_admissions(ledger):
    """The truth first; then even nothing does not fit, until the limit is raised."""
    await ledger.reserve(hold("a", 100))
    ledger.settle("a", 130)
    assert [(130, 0, 0)] == await sums(ledger)
    assert -30 == (await refused(ledger, hold("b", 0))).remaining
    await ledger.set_limit("org", "day", 131)
    assert () == await ledger.reserve(hold("c", 1))


async def test_a_cost_that_was_never_held_goes_over_any_limit(ledger):
    """It was spent while the store was down: it is charged, stands in the statement, and stops admissions."""
    ledger.post(hold("a", 10, ORG, KEY), 1000)
    assert [[(1000, 0, 0)]] * 2 == [await sums(ledger, one) for one in (ORG, KEY)]
    assert [(("org", "key:a"), 1, 1000)] == [
        (line.accounts, line.tries, line.cost) for line in await ledger.statement()
    ]
    await refused(ledger, hold("b", 1))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ledger: ledger.settle("a", -1),
        lambda ledger: ledger.adjust("b", -1, provenance="reconciled"),
        lambda ledger: ledger.post(hold("c"), -1),
    ],
)
async def test_less_than_nothing_is_refused_at_once(ledger, wrong):
    """A negative cost would make room: an error for whoever said so, and nothing has happened."""
    await ledger.reserve(hold("a"))
    await ledger.reserve(hold("b"))
    ledger.settle("b", 5)
    with pytest.raises(ValueError, match="0 or more"):
        wrong(ledger)
    assert [(5, 10, 0)] == await sums(ledger)


async def test_a_negative_hold_or_limit_is_refused(ledger):
    """Nothing is held, nothing is changed."""
    with pytest.raises(ValueError, match="0 or more"):
        await ledger.reserve(hold("a", -1))
    with pytest.raises(ValueError, match="0 or more"):
        await ledger.set_limit("org", "day", -1)
    assert [(0, 0, 0)] == await sums(ledger)
    assert 100 == (await ledger.balances(ORG))[0].limit


# --- limits that are changed ------------------------------------------------------------------------------


async def test_a_limit_is_raised_lowered_and_given_back_while_running(ledger):
    """Each at once, for whoever comes next; what is held stays held."""
    await ledger.reserve(hold("a", 60))
    for limit, room in ((20, -40), (70, 10), (60, 0), (None, 40)):
        await ledger.set_limit("org", "day", limit)
        assert room == (await ledger.balances(ORG))[0].remaining
    ledger.settle("a", 60)
    assert 40 == (await refused(ledger, hold("b", 41))).remaining


async def test_a_new_window_counts_what_is_spent_held_and_in_suspense_since_its_start(ledger, wall):
    """And settles what was open as if it had been kept all along."""
    for name in "abcd":
        await ledger.reserve(hold(name))
        wall.at += HOUR
    ledger.settle("a", 7)
    ledger.release("b")
    ledger.suspend("c", "left")
    await ledger.set_limit("org", "month", 1000)
    assert (7, 10, 10) == (await sums(ledger))[1]
    ledger.settle("c", 3)
    ledger.settle("d", 4)
    ledger.adjust("a", 8, provenance="reconciled")
    assert [(15, 0, 0)] * 2 == await sums(ledger)


async def test_a_limit_taken_away_and_set_again_has_missed_nothing(ledger):
    """What happens in between is counted."""
    await ledger.set_limit("org", "month", 1000)
    await ledger.reserve(hold("a"))
    await ledger.set_limit("org", "month", None)
    await ledger.reserve(hold("b"))
    ledger.settle("b", 7)
    await ledger.set_limit("org", "month", 1000)
    assert [(7, 10, 0)] * 2 == await sums(ledger)


async def test_policies_that_name_other_windows_of_one_account_charge_them_all(ledger):
    """While a new policy is rolled out, the old one knows only days: the new month misses nothing."""
    both = Account("org", (("day", 100), ("month", 150)))
    for number, account in enumerate((both, ORG, both, ORG)):
        await ledger.reserve(hold(str(number), 10, account))
    ledger.settle("1", 4)
    assert [(4, 30, 0)] * 2 == await sums(ledger, both)


@pytest.mark.parametrize("period", ["hour", "day", "week", "month", "lifetime"])
async def test_every_kind_of_window_can_be_limited(ledger, period: Period):
    """Each holds its own limit."""
    await ledger.set_limit("new", period, 25)
    account = Account("new", ())
    await ledger.reserve(hold("a", 20, account))
    error = await refused(ledger, hold("b", 6, account))
    assert (period, 5) == (error.period, error.remaining)


# --- time -------------------------------------------------------------------------------------------------


async def test_a_new_window_has_its_own_room_and_old_holds_stay_in_the_old_one(ledger, wall):
    """At midnight the day is empty; what is settled late was spent yesterday."""
    await ledger.reserve(hold("a", 100))
    wall.at = MIDNIGHT - 0.001
    await refused(ledger, hold("b", 1))
    wall.at = MIDNIGHT
    await ledger.reserve(hold("c", 90))
    ledger.settle("a", 70)
    assert [(0, 90, 0)] == await sums(ledger)
    assert {NOON: 70} == {line.at: line.cost for line in await ledger.statement() if line.cost}


async def test_a_day_begins_in_the_accounts_own_zone(ledger, wall):
    """Midnight in Berlin is an hour before midnight in Greenwich."""
    berlin = Account("berlin", (("day", 10),), zone="Europe/Berlin")
    await ledger.reserve(hold("a", 10, berlin))
    wall.at = MIDNIGHT - HOUR
    assert () == await ledger.reserve(hold("b", 10, berlin))
    (balance,) = await ledger.balances(berlin)
    assert (MIDNIGHT - HOUR, MIDNIGHT - HOUR + DAY) == (balance.starts_at, balance.resets_at)


async def test_a_clock_set_back_opens_no_window_anew(ledger, wall):
    """Time never runs backward."""
    wall.at = MIDNIGHT
    await ledger.reserve(hold("a", 100))
    wall.at = MIDNIGHT - 10
    await refused(ledger, hold("b", 1))


async def test_a_lifetime_has_no_reset(ledger):
    """Its balance reaches from the beginning of time to its end."""
    (balance,) = await ledger.balances(KEY)
    assert (0, FOREVER, 500) == (balance.starts_at, balance.resets_at, balance.remaining)
    assert None is (await refused(ledger, hold("a", 501, KEY))).resets_at


# --- what can be asked ------------------------------------------------------------------------------------


async def test_every_try_stands_once_in_the_statement_with_all_its_accounts(ledger, wall):
    """A try charged to three accounts is one try; what is released is none; what is open says so."""
    for name in ("settled", "again", "held", "suspense", "released"):
        await ledger.reserve(hold(name, 10, KEY, ORG))
    for name, cost in (("settled", 7), ("again", 5)):
        ledger.settle(name, cost, provider="azure", model="billed")
    ledger.adjust("again", 6, provenance="reconciled")
    ledger.suspend("suspense", "left")
    ledger.release("released")
    wall.at += HOUR
    await ledger.reserve(hold("later"))
    payers = ("key:a", "org")
    lines = [
        Line(int(NOON), payers, "openrouter", "asked", "", tries=2, cost=0, open=20, key="key"),
        Line(int(NOON), payers, "openrouter", "billed", "azure", tries=2, cost=13, key="key"),
        Line(int(NOON + HOUR), ("org",), "openrouter", "asked", "", tries=1, cost=0, open=10, key="key"),
    ]
    assert lines == await ledger.statement()
    assert lines[:2] == await ledger.statement(until=NOON + HOUR)
    assert lines[2:] == await ledger.statement(since=NOON + HOUR)
    assert lines[2:] == await ledger.statement(NOON + 1, FOREVER)


async def test_what_is_open_is_told_oldest_first_with_what_is_known_of_it(ledger, wall):
    """Whoever reconciles finds the id of the work, who pays, and why nobody knows."""
    for name in ("first", "second", "third"):
        await ledger.reserve(hold(name, 10, KEY, ORG))
        wall.at += 5
    ledger.identify("first", "gen-1")
    ledger.suspend("first", "cancelled")
    ledger.settle("second", 1)
    first, third = await ledger.unsettled()
    assert ("first", 10, ("key:a", "org"), "suspense", "cancelled", "gen-1", NOON, NOON + 15) == (
        first.id, first.amount, first.accounts, first.state, first.reason, first.generation_id, first.admitted,
        first.ended,
    )  # fmt: skip
    assert ("third", "held", "", "", None, None) == (
        third.id, third.state, third.reason, third.generation_id, third.cost, third.ended,
    )  # fmt: skip
    assert ("openrouter", "key", "asked", "req_1", True) == (
        third.hold.upstream, third.hold.key, third.hold.model, third.hold.request_id, third.hold.streamed,
    )  # fmt: skip


async def test_the_work_is_named_before_or_while_nobody_knows_its_cost(ledger):
    """By this id the cost can be asked for."""
    await ledger.reserve(hold("a"))
    ledger.suspend("a", "left")
    ledger.identify("a", "gen-1")
    assert ["gen-1"] == [entry.generation_id for entry in await ledger.unsettled()]


async def test_the_living_lose_nothing_when_the_dead_are_looked_for(ledger):
    """The holds of this ledger stay held."""
    await ledger.reserve(hold("a"))
    assert 0 == await ledger.recover()
    assert [(0, 10, 0)] == await sums(ledger)


async def test_an_account_that_nobody_has_charged_has_its_whole_limit(ledger):
    """Asking for it charges nothing."""
    assert [(40, 0, 0, 0), (1000, 0, 0, 0)] == [
        (one.remaining, one.settled, one.held, one.suspense) for one in await ledger.balances(TEAM)
    ]
    assert ([], []) == (await ledger.statement(), await ledger.unsettled())


async def test_opening_and_closing_may_be_repeated(ledger):
    """Neither loses anything that was said."""
    await ledger.open()
    await ledger.reserve(hold("a"))
    ledger.settle("a", 7)
    await ledger.flush()
    await ledger.open()
    assert [(7, 0, 0)] == await sums(ledger)
    await ledger.aclose()
    await ledger.aclose()
