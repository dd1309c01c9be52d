"""The SQLite ledger in one process: what is written, in which order, and who sees it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3

import pytest

from orrouter.core.errors import BudgetExceeded, LedgerUnavailable
from orrouter.core.limit import Account
from orrouter.ledger.base import Balance, Crossed, Hold, Ledger, Line, new_hold_id
from orrouter.ledger.sqlite import MOST, SqliteLedger

NOON = 1_800_014_400.0
DAY = 86400
TEAM = Account("team:search", (("day", 1000), ("lifetime", 5000)))
ORG = Account("org", (("day", 1500),), soft=(0.5,))


class Wall:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
async def make(tmp_path, wall):
    """Makes ledgers on one file, and closes them in the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(**options) -> SqliteLedger:
            ledger = SqliteLedger(tmp_path / "spend.db", wall, **options)
            stack.push_async_callback(ledger.aclose)
            return ledger

        yield make


def hold(amount=100, accounts=(TEAM,), **rest) -> Hold:
    return Hold(new_hold_id(), amount, accounts, upstream="openrouter", key="main", model="a/b", **rest)


async def sums(ledger: Ledger, account: Account = TEAM) -> tuple[int, int, int]:
    """Settled, held and suspense of the window of the account's first limit."""
    period = account.limits[0][0]
    [balance] = [one for one in await ledger.balances(account) if one.period == period]
    return balance.settled, balance.held, balance.suspense


async def test_what_is_held_is_seen_by_another_ledger(make):
    """A second ledger on the file sees a hold as soon as `reserve` has returned."""
    first, second = make(), make()
    await first.reserve(hold(100))
    assert (0, 100, 0) == await sums(second)


async def test_two_ledgers_share_one_limit(make):
    """What one holds is gone for the other, to the last unit."""
    first, second = make(), make()
    await first.reserve(hold(600))
    await second.reserve(hold(400))
    with pytest.raises(BudgetExceeded) as caught:
        await first.reserve(hold(1))
    assert ("team:search", "day", 1000, 0, 1) == (
        caught.value.account, caught.value.period, caught.value.limit, caught.value.remaining, caught.value.needed,
    )  # fmt: skip


async def test_all_accounts_or_none(make):
    """A hold that does not fit in one account is in none."""
    ledger = make()
    await ledger.reserve(hold(900, (TEAM,)))
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(hold(200, (ORG, TEAM)))
    assert (0, 0, 0) == await sums(ledger, ORG)


async def test_everything_is_there_again_after_a_restart(make):
    """Settled, suspense, limits and the statement outlive the ledger."""
    first = make()
    paid, lost = hold(100, (TEAM, ORG)), hold(50)
    for one in (paid, lost):
        await first.reserve(one)
    first.settle(paid.id, 70, provider="P", model="a/b:exact")
    first.suspend(lost.id, "left")
    await first.set_limit("team:search", "day", 2000)
    await first.aclose()
    second = make()
    assert (
        Balance("team:search", "day", 2000, 70, 0, 50, 1_799_971_200, 1_800_057_600),
        Balance("team:search", "lifetime", 5000, 70, 0, 50, 0, float("inf")),
    ) == await second.balances(TEAM)
    hour = int(NOON)
    assert [
        Line(hour, ("team:search",), "openrouter", "a/b", "", 1, 0, 50, "main"),
        Line(hour, ("team:search", "org"), "openrouter", "a/b:exact", "P", 1, 70, 0, "main"),
    ] == await second.statement()


async def test_the_cost_of_a_hold_may_be_told_by_another_ledger(make):
    """A hold in suspense is settled by whoever learns its cost; its own ledger then knows it too."""
    first, second = make(), make()
    one = hold(100)
    await first.reserve(one)
    first.identify(one.id, "gen-1")
    first.suspend(one.id, "left")
    await first.flush()
    [entry] = await second.unsettled()
    assert (one.id, "suspense", "gen-1", "left") == (entry.id, entry.state, entry.generation_id, entry.reason)
    second.settle(one.id, 30, provenance="reconciled")
    await second.flush()
    assert [] == await first.unsettled()
    first.settle(one.id, 99)
    assert (30, 0, 0) == await sums(first)


async def test_a_second_word_changes_nothing(make):
    """Every operation may be said twice, also after the hold was dropped from memory."""
    ledger = make()
    one = hold(100)
    for _ in range(2):
        await ledger.reserve(one)
        assert (0, 100, 0) == await sums(ledger)
    for _ in range(2):
        ledger.settle(one.id, 60)
        ledger.release(one.id)
        ledger.suspend(one.id, "left")
        await ledger.reserve(one)
        assert (60, 0, 0) == await sums(ledger)
    posted = hold(0)
    for _ in range(2):
        ledger.post(posted, 5)
        assert (65, 0, 0) == await sums(ledger)
    for _ in range(2):
        ledger.adjust(one.id, 50, provenance="reconciled")
        assert (55, 0, 0) == await sums(ledger)


async def test_a_correction_is_written_down(make, tmp_path):
    """An adjusted cost changes the sums and the statement, and stays in the file with both costs."""
    ledger = make()
    one = hold(100)
    await ledger.reserve(one)
    ledger.settle(one.id, 60)
    await ledger.flush()
    ledger.adjust(one.id, 45, provenance="reconciled")
    assert (45, 0, 0) == await sums(ledger)
    assert [45] == [line.cost for line in await ledger.statement()]
    with contextlib.closing(sqlite3.connect(tmp_path / "spend.db")) as db:
        assert [(one.id, 60, 45, "reconciled", NOON)] == db.execute("SELECT * FROM correction").fetchall()


async def test_a_new_kind_of_window_knows_what_was_paid_and_what_is_open(make):
    """A limit that is added later counts what its window has seen already: paid, held, in suspense."""
    first, second = make(), make()
    paid, open_, lost = hold(100), hold(30), hold(7)
    for one in (paid, open_, lost):
        await first.reserve(one)
    first.settle(paid.id, 80)
    first.suspend(lost.id, "left")
    await first.flush()
    month = Account("team:search", (("month", 10_000),))
    assert (80, 30, 7) == await sums(second, month)
    first.settle(open_.id, 20)
    await first.flush()
    second.settle(lost.id, 5)
    assert (105, 0, 0) == await sums(second, month)
    assert (105, 0, 0) == await sums(first, month)


async def test_the_next_window_is_empty_and_the_old_one_keeps_its_holds(make, wall):
    """After midnight there is room again; a hold of yesterday is settled in yesterday."""
    ledger = make()
    late = hold(1000)
    await ledger.reserve(late)
    wall.now += DAY
    assert (0, 0, 0) == await sums(ledger)
    ledger.settle(late.id, 900)
    assert (0, 0, 0) == await sums(ledger)
    await ledger.reserve(hold(1000))


async def test_a_clock_that_is_set_back_opens_no_used_window(make, wall):
    """Neither while running nor after a restart; it is told once, and how far it is behind."""
    told = []
    first = make(tell=told.append)
    await first.reserve(hold(1000))
    wall.now += DAY
    await first.reserve(hold(1000))
    wall.now -= DAY
    with pytest.raises(BudgetExceeded):
        await first.reserve(hold(1))
    with pytest.raises(BudgetExceeded):
        await first.reserve(hold(1))
    assert float(DAY) == first.behind
    assert 1 == len(told)
    assert "was set back by 1d" in told[0]
    await first.aclose()
    second = make(tell=told.append)
    with pytest.raises(BudgetExceeded):
        await second.reserve(hold(1))
    assert 2 == len(told)


async def test_soft_thresholds_are_told_once_by_whoever_passes_them(make):
    """Half of the limit is told by the ledger that passes it, and by no other."""
    first, second = make(), make()
    assert () == await first.reserve(hold(700, (ORG,)))
    assert (Crossed("org", "day", 0.5, 800, 1500),) == await second.reserve(hold(100, (ORG,)))
    assert () == await first.reserve(hold(100, (ORG,)))


async def test_the_reserves_of_one_turn_are_one_transaction(make, tmp_path):
    """Fifty reserves at once: five fit, and the file was written once."""
    ledger = make()
    await ledger.open()
    with contextlib.closing(sqlite3.connect(tmp_path / "spend.db")) as db:
        before = db.execute("PRAGMA data_version").fetchone()
        outcomes = await asyncio.gather(*(ledger.reserve(hold(200)) for _ in range(50)), return_exceptions=True)
        assert 5 == outcomes.count(())
        assert 45 == sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes)
        assert before != db.execute("PRAGMA data_version").fetchone()
    assert (0, 1000, 0) == await sums(ledger)


async def test_a_reserve_that_is_cancelled_before_its_turn_never_was(make):
    """The caller leaves while it waits: nothing is held."""
    ledger = make()
    await ledger.open()
    task = asyncio.create_task(ledger.reserve(hold(100)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == await ledger.unsettled()


async def test_a_reserve_that_is_cancelled_at_any_turn_leaves_nothing(make):
    """However many turns of the loop pass before the cancel, what is held is what was returned."""
    ledger = make()
    await ledger.open()
    for turns in range(6):
        task = asyncio.create_task(ledger.reserve(one := hold(100)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        held = [one.id] if outcome == () else []
        assert held == [entry.id for entry in await ledger.unsettled()]
        ledger.release(one.id)


async def test_cancelling_one_of_two_who_ask_for_the_same_hold_keeps_it(make):
    """Only the one who made the hold gives it back."""
    ledger = make()
    one = hold(100)
    await ledger.reserve(one)
    task = asyncio.create_task(ledger.reserve(one))
    for _ in range(2):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (0, 100, 0) == await sums(ledger)


@pytest.mark.parametrize("cost", [-1, MOST + 1])
async def test_a_cost_that_cannot_be_is_refused_at_once(make, cost):
    """Who tells an impossible cost hears of it, and nothing is spoiled."""
    ledger = make()
    one = hold(100)
    await ledger.reserve(one)
    for tell in (
        lambda: ledger.settle(one.id, cost),
        lambda: ledger.adjust(one.id, cost, provenance="reconciled"),
        lambda: ledger.post(hold(), cost),
    ):
        with pytest.raises(ValueError, match="a cost is 0 or more"):
            tell()
    assert (0, 100, 0) == await sums(ledger)


async def test_an_unknown_time_zone_concerns_its_own_hold_alone(make):
    """One bad request of a turn does not spoil the others."""
    ledger = make()
    bad = Account("team:x", (("day", 1000),), zone="Mars/Olympus")
    outcomes = await asyncio.gather(
        ledger.reserve(hold(1)), ledger.reserve(hold(1, (bad,))), ledger.reserve(hold(1)), return_exceptions=True
    )
    assert [(), ValueError, ()] == [type(one) if isinstance(one, Exception) else one for one in outcomes]
    assert (0, 2, 0) == await sums(ledger)


async def test_closing_twice_and_asking_again(make):
    """A closed ledger may be closed again, and opens again when it is asked."""
    ledger = make()
    await ledger.aclose()
    one = hold(100)
    await ledger.reserve(one)
    ledger.settle(one.id, 10)
    await ledger.aclose()
    await ledger.aclose()
    assert (10, 0, 0) == await sums(ledger)


async def test_closing_writes_what_was_said_and_keeps_what_is_held_in_suspense(make):
    """The last words are written; a hold whose end nobody told stays charged."""
    first = make()
    paid, open_ = hold(100), hold(50)
    await first.reserve(paid)
    await first.reserve(open_)
    first.settle(paid.id, 10)
    await first.aclose()
    second = make()
    assert (10, 0, 50) == await sums(second)
    assert ["closed"] == [entry.reason for entry in await second.unsettled()]


def test_one_ledger_serves_one_loop_after_another(tmp_path, wall):
    """Used in a second event loop, it goes on where it was."""
    ledger = SqliteLedger(tmp_path / "spend.db", wall)
    one = hold(100)
    asyncio.run(ledger.reserve(one))
    ledger.settle(one.id, 40)

    async def rest():
        found = await sums(ledger)
        await ledger.aclose()
        return found

    assert (40, 0, 0) == asyncio.run(rest())


async def test_a_closed_ledger_leaves_no_file_but_its_own(make, tmp_path):
    """The log is moved into the file, the owner's file is gone."""
    ledger = make()
    await ledger.reserve(hold(1))
    await ledger.aclose()
    assert ["spend.db", "spend.db-lock", "spend.db-owners"] == sorted(path.name for path in tmp_path.iterdir())
    assert [] == list((tmp_path / "spend.db-owners").iterdir())


def left_open(ledger, folder) -> tuple[bool, str, list[str], list[str]]:
    """What a ledger keeps of its file: whether it is in use, its owner, the owners' files, SQLite's log."""
    owners = [file.name for file in (folder / "spend.db-owners").iterdir()]
    return ledger._store.session.in_use, ledger.owner, owners, [file.name for file in folder.glob("*-wal")]


@pytest.mark.parametrize("more", [0, 1, 3000])
async def test_a_late_word_is_written_and_the_file_is_let_go_of_again(make, tmp_path, more):
    """A closed ledger keeps neither descriptors nor its owner's lock, however late its words come."""
    ledger = make()
    late, later = hold(100), hold(50)
    await ledger.reserve(late)
    await ledger.reserve(later)
    await ledger.aclose()
    ledger.settle(late.id, 10)
    for _ in range(more):
        ledger.settle(late.id, 99)
    ledger.suspend(later.id, "left")
    async with asyncio.timeout(20):
        while ledger.pending:
            await asyncio.sleep(0)
    assert (False, "", [], []) == left_open(ledger, tmp_path)
    await ledger.flush()
    assert (10, 0, 50) == await sums(ledger)
    assert (False, "", [], []) == left_open(ledger, tmp_path)


async def test_a_late_word_to_a_ledger_that_was_closed_unopened(make, tmp_path):
    """It is written by a ledger that never was in use before."""
    ledger = make()
    await ledger.aclose()
    ledger.post(hold(0), 5)
    assert (5, 0, 0) == await sums(ledger)
    assert (False, "", [], []) == left_open(ledger, tmp_path)


async def test_a_closed_ledger_that_is_opened_again_stays_open(make):
    """Until it is closed again: what it holds is held."""
    ledger = make()
    await ledger.reserve(hold(1))
    await ledger.aclose()
    await ledger.open()
    owner = ledger.owner
    await ledger.reserve(hold(100))
    assert (0, 100, 1) == await sums(ledger)
    assert "" != owner == ledger.owner


async def test_a_question_that_fails_leaves_nothing_open(make, tmp_path):
    """Somebody else hangs with the lock: a closed ledger waits for its patience, and lets go."""
    ledger = make(patience_s=0.02)
    await ledger.reserve(hold(1))
    await ledger.aclose()
    with (tmp_path / "spend.db-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable):
            await sums(ledger)
    assert (False, "", [], []) == left_open(ledger, tmp_path)


# --- a clock that was in the future ---------------------------------------------------------------------


async def test_a_clock_that_was_in_the_future_can_be_reset(make, wall):
    """The windows of now are in force again, with what they held, in every process and after a restart."""
    first, second = make(), make()
    lost, paid = hold(30), hold(20)
    await first.reserve(hold(100))
    await second.reserve(hold(200))
    wall.now += 400 * DAY
    await first.reserve(hold(950))
    await first.reserve(paid)
    first.settle(paid.id, 20)
    await first.reserve(lost)
    await second.open()
    wall.now -= 400 * DAY
    with pytest.raises(BudgetExceeded):
        await second.reserve(hold(1))
    second.suspend(lost.id, "left")
    await second.flush()
    assert (NOON + 400 * DAY, NOON) == await second.reset_clock()
    for ledger in (first, second, make()):
        await ledger.reserve(hold(1))
        assert 0.0 == ledger.behind
    assert (0, 303, 0) == await sums(first)
    assert (0, 303, 0) == await sums(first, Account("team:search", (("month", 5000),)))
    assert [NOON] == [entry.ended for entry in await first.unsettled() if entry.id == lost.id]
    assert (NOON, NOON) == await first.reset_clock()


async def test_a_lifetime_also_counts_what_a_wrong_clock_put_in_the_future(make, wall):
    """A limit for ever that is added after the reset knows everything."""
    ledger = make()
    wall.now += 400 * DAY
    await ledger.reserve(hold(7, (ORG,)))
    ledger.post(hold(0, (ORG,)), 3)
    wall.now -= 400 * DAY
    await ledger.reset_clock()
    assert (0, 0, 0) == await sums(ledger, ORG)
    assert (3, 7, 0) == await sums(ledger, Account("org", (("lifetime", 5000),)))


async def test_the_warning_says_how_to_go_back_to_the_clock(make, wall):
    """Which command does it."""
    told = []
    ledger = make(tell=told.append)
    await ledger.open()
    wall.now -= DAY
    await ledger.reserve(hold(1))
    assert told[0].endswith("if that time was wrong, `orrouter ledger recover --clock` goes back to the clock")


async def test_reserve_says_why_the_store_failed(make, tmp_path):
    """A folder in place of the file: the error names it."""
    (tmp_path / "spend.db").mkdir()
    with pytest.raises(LedgerUnavailable, match=r"spend\.db: is no file; name a file that the ledger may make"):
        await make().reserve(hold(1))


# --- ids that were used before --------------------------------------------------------------------------


@pytest.mark.parametrize("settled", [True, False])
async def test_an_id_that_is_asked_twice_is_charged_once(make, settled):
    """Also when nothing of the first time is in hand any more, beside others that are new, and where it would not fit."""
    ledger, other = make(), make()
    first = hold(600)
    await ledger.reserve(first)
    if settled:
        ledger.settle(first.id, 500)
    await other.reserve(hold(1))  # From here on the first ledger has to look everything up anew.
    if settled:
        await ledger.flush()
        await other.reserve(hold(1))
    spent = await sums(ledger)
    new = hold(10)
    assert [(), ()] == await asyncio.gather(ledger.reserve(first), ledger.reserve(new))
    assert (spent[0], spent[1] + 10, spent[2]) == await sums(ledger)


async def test_a_name_told_with_the_cost_is_written(make, tmp_path):
    """An answer that comes whole is named and paid for in one turn."""
    ledger = make()
    one = hold(100)
    await ledger.reserve(one)
    ledger.identify(one.id, "gen-1")
    ledger.settle(one.id, 7, provider="azure", model="a/b")
    assert 1 == ledger.pending
    await ledger.flush()
    with contextlib.closing(sqlite3.connect(tmp_path / "spend.db")) as file:
        assert [("settled", 7, "gen-1")] == file.execute("SELECT state, cost, generation_id FROM hold").fetchall()
